"""Layouts, indexing and broadcasting beside NumPy, on generated shapes and keys: the same in every run."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import firesteel

few = settings(derandomize=True, max_examples=150, deadline=None, database=None)
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def numbers(shape):
    """0, 1, 2, ... as an array of this shape."""
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


def same(t, array):
    """Fails unless the tensor shows what the array does, in value and in layout."""
    assert tuple(t.shape) == array.shape
    np.testing.assert_array_equal(np.array(t.tolist(), np.float32).reshape(array.shape), array)


@st.composite
def steps(draw, rank):
    """One step of a chain of views, as a function of an array and of a tensor."""
    kinds = ["unsqueeze"] + (["permute", "slice", "flip", "squeeze"] if rank else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "unsqueeze":
        dim = draw(st.integers(0, rank))
        return (lambda a: np.expand_dims(a, dim)), (lambda t: t.unsqueeze(dim))
    if kind == "permute":
        order = draw(st.permutations(range(rank)))
        return (lambda a: a.transpose(order)), (lambda t: t.permute(order))
    dim = draw(st.integers(0, rank - 1))
    if kind == "slice":
        start, stop = draw(st.integers(-5, 5)), draw(st.integers(-5, 5))
        key = (slice(None),) * dim + (slice(start, stop, draw(st.integers(1, 3))),)
        return (lambda a: a[key]), (lambda t: t[key])
    if kind == "flip":
        return (lambda a: np.flip(a, dim)), (lambda t: t.flip(dim))
    return (lambda a: a.squeeze(dim) if a.shape[dim] == 1 else a), (lambda t: t.squeeze(dim))


@few
@given(st.data(), SHAPES)
def test_chains_of_views(data, shape):
    array = numbers(shape)
    t = firesteel.from_numpy(array.copy())
    for _ in range(4):
        of_array, of_tensor = data.draw(steps(array.ndim))
        array, t = of_array(array), of_tensor(t)
        same(t, array)
        same(t.contiguous(), array)
        if t.is_contiguous():
            same(t.view(-1), array.reshape(-1))
    same(t + 1, array + 1)
    assert t.sum().item() == pytest.approx(array.sum())


@st.composite
def pairs(draw):
    """Two shapes that broadcast, or nearly."""
    shape = draw(SHAPES)
    cut = draw(st.integers(0, len(shape)))
    other = tuple(draw(st.sampled_from([size, size, 1])) for size in shape[cut:])
    if other and draw(st.integers(0, 5)) == 0:
        other = (*other[:-1], other[-1] + 1)
    return (shape, other) if draw(st.booleans()) else (other, shape)


@few
@given(pairs())
def test_broadcasting(shapes):
    a, b = numbers(shapes[0]), np.asarray(numbers(shapes[1]) + 0.5)
    x, y = firesteel.from_numpy(a.copy()), firesteel.from_numpy(b.copy())
    try:
        expected = a * b
    except ValueError:
        with pytest.raises(RuntimeError):
            x * y
        return
    same(x * y, expected)
    same(x.expand(expected.shape), np.broadcast_to(a, expected.shape))


@st.composite
def keys(draw, shape):
    """A key that NumPy and PyTorch read alike: ints, slices, None, an ellipsis, one list or one mask."""
    key, advanced = [], False
    for size in shape[: draw(st.integers(0, len(shape)))]:
        kinds = ["slice", "none"] + (["int"] if size else []) + ([] if advanced or not size else ["list"])
        kind = draw(st.sampled_from(kinds))
        if kind == "none":
            key.append(None)
        if kind == "int":
            key.append(draw(st.integers(-size, size - 1)))
        elif kind == "list":
            advanced = True
            key.append(draw(st.lists(st.integers(-size, size - 1), max_size=4)))
        else:
            bounds = st.none() | st.integers(-5, 5)
            key.append(slice(draw(bounds), draw(bounds), draw(st.none() | st.integers(1, 3))))
    if draw(st.booleans()):
        key.append(Ellipsis)
    # An int beside a list is a list of one to NumPy, and moves its dim: keep to one or the other.
    if advanced:
        key = [slice(k, k + 1 or None) if isinstance(k, int) else k for k in key]
    return tuple(np.array(k, np.int64) if isinstance(k, list) else k for k in key)


def for_tensors(key):
    """The key with tensors in place of arrays."""
    return tuple(firesteel.from_numpy(k) if isinstance(k, np.ndarray) else k for k in key)


@few
@given(st.data(), SHAPES)
def test_reading_and_writing_at_a_key(data, shape):
    array = numbers(shape)
    t = firesteel.from_numpy(array.copy())
    key = data.draw(keys(shape))
    same(t[for_tensors(key)], array[key])
    t[for_tensors(key)] = -1.0
    array[key] = -1
    same(t, array)


@few
@given(st.data(), SHAPES)
def test_reading_and_writing_at_a_mask(data, shape):
    array = numbers(shape)
    count = array.size
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool).reshape(shape)
    t = firesteel.from_numpy(array.copy())
    same(t[firesteel.from_numpy(mask)], array[mask])
    t[firesteel.from_numpy(mask)] = -1.0
    array[mask] = -1
    same(t, array)

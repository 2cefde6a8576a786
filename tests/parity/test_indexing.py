"""Hundreds of random index expressions, read and written, and the errors of wrong ones."""

import random

import numpy as np
import pytest

import firesteel
from tensors import assert_same, from_numpy, to_numpy

torch = pytest.importorskip("torch")

SEEDS = range(60)
PER_SEED = 8


def random_slice(pick, size):
    def bound():
        return pick.choice([None, pick.randint(-size - 1, size + 1)])

    return slice(bound(), bound(), pick.choice([None, 1, 2, 3]))


def random_item(pick, size, common):
    """One element of an index for a dim of `size`; lists and tensors broadcast to `common`."""
    kind = pick.choice(["int", "slice", "slice", "all", "list", "tensor", "mask", "none"])
    low, high = -size, size - 1
    if pick.random() < 0.05:
        high = size  # out of range, sometimes
    if kind == "int":
        return pick.randint(low, high)
    if kind == "list":
        return [pick.randint(low, high) for _ in range(common)]
    if kind == "tensor":
        shape = pick.choice([(common,), (2, common), (1,), ()])
        return np.array([pick.randint(low, high) for _ in range(int(np.prod(shape)))]).reshape(shape)
    if kind == "mask":
        mask = np.zeros(size, bool)
        mask[pick.sample(range(size), min(size, common))] = True
        return mask
    return {"slice": random_slice(pick, size), "all": slice(None), "none": None}[kind]


def random_case(pick):
    shape = tuple(pick.randint(1, 4) for _ in range(pick.randint(1, 4)))
    common = pick.randint(1, 3)
    key = [random_item(pick, size, common) for size in shape[: pick.randint(1, len(shape))]]
    consumed = sum(item is not None for item in key)
    if pick.random() < 0.3 and consumed < len(shape):
        key.insert(pick.randint(0, len(key)), Ellipsis)
    return shape, tuple(key) if len(key) > 1 or pick.random() < 0.5 else key[0]


def for_lib(lib, key):
    """The key with NumPy arrays as tensors of `lib`."""
    convert = lambda item: from_numpy(lib, item) if isinstance(item, np.ndarray) else item  # noqa: E731
    return tuple(map(convert, key)) if isinstance(key, tuple) else convert(key)


def attempt(function):
    """(result, None), or (None, the error's class) of the classes that PyTorch raises here."""
    try:
        return function(), None
    except (IndexError, ValueError, TypeError, RuntimeError) as error:
        return None, error


def same_error(actual, expected, key):
    assert (actual is None) == (expected is None), f"{key}: {actual!r}, PyTorch: {expected!r}"
    if expected is not None:
        assert isinstance(actual, type(expected)), f"{key}: {actual!r}, PyTorch: {expected!r}"
    return expected is not None


@pytest.mark.parametrize("seed", SEEDS)
def test_read(seed):
    pick = random.Random(seed)
    for _ in range(PER_SEED):
        shape, key = random_case(pick)
        values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        t, r = from_numpy(firesteel, values), from_numpy(torch, values)
        actual, error = attempt(lambda: t[for_lib(firesteel, key)])
        expected, wanted = attempt(lambda: r[for_lib(torch, key)])
        if not same_error(error, wanted, (shape, key)):
            assert_same(actual, expected, where=f"{shape} {key}", compare="exact")
            if expected.numel():
                assert (actual.data_ptr() == t.data_ptr()) <= (
                    expected.data_ptr() == r.data_ptr()
                ) or expected.numel() < 2


@pytest.mark.parametrize("seed", SEEDS)
def test_write(seed):
    pick = random.Random(1000 + seed)
    for _ in range(PER_SEED):
        shape, key = random_case(pick)
        values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        t, r = from_numpy(firesteel, values), from_numpy(torch, values)
        region, _ = attempt(lambda: r[for_lib(torch, key)])
        shape_in = () if region is None else tuple(region.shape)[pick.randint(0, region.ndim) :]
        # One value everywhere: with repeated places, the last writer is not defined.
        value = np.full(shape_in, -1.0, np.float32)
        version = t._version

        def write(lib, tensor, key=key, value=value):
            tensor[for_lib(lib, key)] = from_numpy(lib, value) if value.shape else -1.0

        _, error = attempt(lambda: write(firesteel, t))
        _, wanted = attempt(lambda: write(torch, r))
        if same_error(error, wanted, (shape, key)):
            np.testing.assert_array_equal(
                to_numpy(t), values, err_msg="a failed write has changed the tensor"
            )
        else:
            assert_same(t, r, where=f"{shape} {key}", compare="exact")
            assert t._version > version


@pytest.mark.parametrize("seed", range(20))
def test_gradient(seed):
    pick = random.Random(2000 + seed)
    for _ in range(PER_SEED):
        shape, key = random_case(pick)
        values = np.random.default_rng(seed).normal(size=shape)
        grads = []
        for lib in (firesteel, torch):
            t = from_numpy(lib, values).requires_grad_()
            out, error = attempt(lambda lib=lib, t=t: t[for_lib(lib, key)])
            if error is None:
                (out * out).sum().backward()
                grads.append(t.grad)
        if len(grads) == 2:
            assert_same(*grads, where=f"{shape} {key}")


def test_repeated_places_accumulate():
    x = firesteel.zeros(3, requires_grad=True)
    x[[0, 0, 2]].sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 1.0]


LISTS = {
    "of lists": [[0, 1], [1, 2]],
    "of a list": [[0, 1]],
    "of a list and an int": [[0, 1], 2],
    "of a slice": [slice(0, 1)],
    "with None": [None, 1],
    "of numbers": [0, 1],
    "of 32 lists": [[i % 3, 1] for i in range(32)],
}


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("key", LISTS.values(), ids=LISTS)
def test_a_list_that_stands_for_a_tuple(key):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    t, r = from_numpy(firesteel, values), from_numpy(torch, values)
    assert_same(t[key], r[key], compare="exact")
    t[key], r[key] = -1.0, -1.0
    assert_same(t, r, compare="exact")


def test_one_row_of_an_expanded_tensor_can_be_written():
    for lib in (firesteel, torch):
        b = lib.ones(2).expand(3, 2)
        b[0] = lib.tensor([3.0, 4.0])
        b[1] += 1
        b[2, 0] = 7
        assert b.tolist() == [[7.0, 5.0]] * 3
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        firesteel.ones(2).expand(3, 2)[:2] = 5

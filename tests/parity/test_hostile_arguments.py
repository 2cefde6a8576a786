"""Operands that change after the call, sizes whose sums and products overflow, and memory that is not there."""

import random

import numpy as np
import pytest

import firesteel
import firesteel.nn.functional as F
from tensors import assert_same

HUGE = 2**62


# --- operands that the user changes between forward and backward ---------------------------------------------


@pytest.mark.parametrize("write", ["tensor", "numpy"])
@pytest.mark.parametrize("value", [1, 10**12, -(10**12)])
def test_an_index_changed_after_gather(write, value):
    """The gradient is that of the index that was used; never a write elsewhere."""
    numbers = np.array([0, 1, 2])
    x, index = firesteel.zeros(3, requires_grad=True), firesteel.from_numpy(numbers)
    y = (x.gather(0, index) * firesteel.tensor([1.0, 2.0, 3.0])).sum()
    if write == "numpy":
        numbers[:] = value
    else:
        index.fill_(value)
    y.backward()
    assert x.grad.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("name", ["scatter", "scatter_add"])
def test_an_index_changed_after_scatter(name):
    x, source = firesteel.ones(3, requires_grad=True), firesteel.ones(2, requires_grad=True)
    index = firesteel.tensor([2, 0])
    y = (getattr(x, name)(0, index, source) * firesteel.tensor([1.0, 2.0, 3.0])).sum()
    index.fill_(10**12)
    y.backward()
    assert source.grad.tolist() == [3.0, 1.0]
    assert x.grad.tolist() == ([1.0, 2.0, 3.0] if name == "scatter_add" else [0.0, 2.0, 0.0])


def test_indices_of_max_pool2d_changed_by_numpy():
    """Indices that point nowhere are left out or refused; they never reach other memory."""
    x = firesteel.ones(1, 1, 4, 4, requires_grad=True)
    y, index = F.max_pool2d(x, 2, return_indices=True)
    index.numpy()[:] = 10**9
    try:
        y.sum().backward()
    except RuntimeError:
        pass
    assert x.grad is None or not x.grad.any()


TWICE = {
    "gather": lambda x: x.gather(0, firesteel.tensor([[0, 1]])),
    "scatter": lambda x: x.scatter(0, firesteel.tensor([[0, 1]]), firesteel.ones(1, 2)),
    "index": lambda x: x[firesteel.tensor([0, 1])],
    "index_select": lambda x: x.index_select(0, firesteel.tensor([0, 1])),
    "embedding": lambda x: F.embedding(firesteel.tensor([0, 1]), x),
    "nll_loss": lambda x: F.nll_loss(x, firesteel.tensor([0, 1])),
    "cross_entropy": lambda x: F.cross_entropy(x, firesteel.tensor([0, 1])),
}


@pytest.mark.parametrize("name", TWICE)
def test_a_freed_graph_has_no_indices(name):
    """What the backward pass reads is freed by it, indices and targets too."""
    x = firesteel.ones(2, 3, requires_grad=True)
    y = TWICE[name](x).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


# --- sizes -----------------------------------------------------------------------------------------------------

TOO_MANY = {
    "chunk": lambda: firesteel.ones(0).chunk(2**40),
    "chunk, more": lambda: firesteel.ones(0).chunk(HUGE),
    "chunk, expanded": lambda: firesteel.ones(1).expand(2**40).chunk(2**39),
    "split": lambda: firesteel.ones(1).expand(2**40).split(1),
    "unbind": lambda: firesteel.ones(1).expand(2**40).unbind(0),
    "iteration": lambda: list(firesteel.ones(1).expand(2**40)),
    "an index": lambda: firesteel.ones(1)[firesteel.tensor([0]).expand(2**50)],
    "index_select": lambda: firesteel.ones(1).index_select(0, firesteel.tensor([0]).expand(2**50)),
    "gather": lambda: firesteel.ones(1).gather(0, firesteel.tensor([0]).expand(2**50)),
    "embedding": lambda: F.embedding(firesteel.tensor([0]).expand(2**50), firesteel.ones(1, 1)),
}


@pytest.mark.parametrize("name", TOO_MANY)
def test_lists_that_no_memory_holds(name):
    """A MemoryError, not the end of the process."""
    with pytest.raises(MemoryError, match="bytes"):
        TOO_MANY[name]()


@pytest.mark.parametrize("sizes", [[2**63 - 1, 2**63 - 1, 4], [HUGE] * 4 + [2]])
def test_split_sizes_whose_sum_overflows(sizes):
    with pytest.raises(RuntimeError, match="split: .*sum exactly to 2"):
        firesteel.ones(2).split(sizes)


@pytest.mark.parametrize("count", [HUGE, 2**60])
def test_cat_whose_extent_overflows(count):
    part = firesteel.ones(1, dtype=firesteel.uint8).expand(count)
    with pytest.raises((RuntimeError, MemoryError)):
        firesteel.cat([part] * (2**64 // count) + [firesteel.ones(1, dtype=firesteel.uint8)])


ONE = (1, 1, 4, 4)
OVERFLOWS = {
    "conv1d dilation": lambda: F.conv1d(firesteel.ones(1, 1, 8), firesteel.ones(1, 1, 5), dilation=HUGE),
    "conv1d padding": lambda: F.conv1d(firesteel.ones(1, 1, 8), firesteel.ones(1, 1, 5), padding=2**63 - 1),
    "conv2d same": lambda: F.conv2d(
        firesteel.ones(*ONE), firesteel.ones(1, 1, 5, 5), padding="same", dilation=HUGE
    ),
    "conv_transpose2d stride": lambda: F.conv_transpose2d(
        firesteel.ones(*ONE), firesteel.ones(1, 1, 2, 2), stride=HUGE
    ),
    "conv_transpose2d dilation": lambda: F.conv_transpose2d(
        firesteel.ones(*ONE), firesteel.ones(1, 1, 5, 1), dilation=(HUGE, 1)
    ),
    "max_pool2d dilation": lambda: F.max_pool2d(firesteel.ones(1, 1, 8, 8), 5, 1, 0, HUGE),
    "avg_pool2d kernel": lambda: F.avg_pool2d(firesteel.ones(*ONE), 2**32, padding=2**31),
    "avg_pool1d kernel": lambda: F.avg_pool1d(
        firesteel.ones(1, 1, 4), 2**63 - 1, padding=2**61, ceil_mode=True
    ),
}


@pytest.mark.parametrize("name", OVERFLOWS)
def test_windows_whose_products_overflow(name):
    with pytest.raises(RuntimeError, match=rf"{name.split()[0]}: .*2\^31"):
        OVERFLOWS[name]()


FAR = {
    "strides": lambda x: F.conv2d(x, firesteel.ones(1, 1, 2, 2), stride=2**31 - 1),
    "strides and padding": lambda x: F.conv2d(x, firesteel.ones(1, 1, 2, 2), stride=2**30, padding=2**30),
    "rows of taps": lambda x: F.conv2d(
        x, firesteel.ones(1, 1, 2, 1), padding=(2**30, 0), dilation=(2**31 - 1, 1)
    ),
    "taps": lambda x: F.conv2d(x, firesteel.ones(1, 1, 3, 3), padding=2**31 - 1, dilation=2**31 - 1),
    "a window": lambda x: F.avg_pool2d(x, 2**31 - 1, padding=2**30 - 1, ceil_mode=True),
    "windows": lambda x: F.avg_pool2d(x, 2**30, stride=2**29, padding=2**29),
    "a window of maxima": lambda x: F.max_pool2d(x, 2**30, padding=2**29, stride=2**29),
}


@pytest.mark.parametrize("name", FAR)
def test_windows_that_reach_far(name):
    """Work and memory depend on the data, not on the numbers of the window; forward and backward."""
    x = firesteel.arange(16.0).view(*ONE).requires_grad_()
    y = FAR[name](x)
    y.sum().backward()
    assert x.grad.shape == x.shape and y.numel() < 100


def test_a_long_stride_backward():
    """The gradient of a convolution goes through no more phases than there are taps."""
    x, weight = firesteel.ones(1, 1, 8, requires_grad=True), firesteel.ones(1, 1, 5)
    F.conv1d(x, weight, stride=10**9).sum().backward()
    assert x.grad.flatten().tolist() == [1.0] * 5 + [0.0] * 3


# --- memory ----------------------------------------------------------------------------------------------------


def test_sorting_asks_the_allocator():
    x = firesteel.rand(200_000)
    firesteel.set_memory_limit(firesteel.memory_stats()["allocated_bytes"] + 4_000_000)
    try:
        with pytest.raises(MemoryError, match="bytes"):
            x.sort()
    finally:
        firesteel.set_memory_limit(None)
    values, index = x.sort()
    assert (values == x[index]).all()


# --- against PyTorch -------------------------------------------------------------------------------------------


def both(seed):
    torch = pytest.importorskip("torch")
    return random.Random(seed), (firesteel, torch)


@pytest.mark.parametrize("seed", range(40))
def test_gradients_of_any_convolution(seed):
    """Strides larger than the filter and dilations that share factors with them leave positions untouched."""
    pick, libs = both(seed)
    pair = lambda high: (pick.randint(1, high), pick.randint(1, high))  # noqa: E731
    stride, dilation, kernel = pair(5), pair(4), pair(3)
    padding = (pick.randint(0, 3), pick.randint(0, 3))
    groups = pick.choice([1, 2])
    room = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    shape = (2, 4, *(n + pick.randint(0, 6) for n in room))
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape), rng.normal(size=(2, 4 // groups, *kernel))]
    results = []
    for lib in libs:
        x, weight = (lib.from_numpy(array.copy()).requires_grad_() for array in arrays)
        y = lib.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups)
        (y * y).sum().backward()
        results.append((y, x.grad, weight.grad))
    for actual, expected in zip(*results, strict=True):
        assert_same(actual, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums_of_16_bits_are_rounded_once(dtype):
    _, libs = both(0)
    rng = np.random.default_rng(0)
    numbers, places = rng.normal(size=300).astype(np.float32), rng.integers(0, 3, 300)
    results = []
    for lib in libs:
        source = lib.from_numpy(numbers.copy()).to(getattr(lib, dtype))
        index = lib.from_numpy(places.copy())
        x = lib.zeros(3, dtype=source.dtype, requires_grad=True)
        x.gather(0, index).backward(source)
        results.append((lib.zeros(3, dtype=source.dtype).scatter_add(0, index, source), x.grad))
    for actual, expected in zip(*results, strict=True):
        assert_same(actual.float(), expected.float(), 2e3 if dtype == "bfloat16" else 3e2)


def test_running_statistics():
    """A failing call moves neither; an empty batch moves neither; else both move as PyTorch's do."""
    mean, fixed = firesteel.full((3,), 2.0), firesteel.ones(1).expand(3)
    with pytest.raises(RuntimeError):
        F.batch_norm(firesteel.ones(2, 3, 4), mean, fixed, training=True)
    F.batch_norm(firesteel.ones(0, 3, 4), mean, firesteel.ones(3), training=True)
    assert mean.tolist() == [2.0] * 3
    _, libs = both(0)
    x = np.random.default_rng(0).normal(3, 2, size=(4, 3, 5)).astype(np.float32)
    results = []
    for lib in libs:
        mean, variance = lib.zeros(3), lib.ones(3)
        for _ in range(3):
            lib.nn.functional.batch_norm(lib.from_numpy(x.copy()), mean, variance, training=True)
        results.append((mean, variance))
    for actual, expected in zip(*results, strict=True):
        assert_same(actual, expected, 0.1)


def test_gradients_of_losses_at_their_edges():
    _, libs = both(0)
    results, inf = [], float("inf")
    for lib in libs:
        p, t = lib.tensor([0.0, 1.0, 0.25]), lib.tensor([0.0, 0.5, 0.5], requires_grad=True)
        lib.nn.functional.binary_cross_entropy(p, t, reduction="sum").backward()
        x = lib.tensor([1.0, -3.0, inf], requires_grad=True)
        lib.nn.functional.smooth_l1_loss(x, lib.zeros(3), reduction="none", beta=2.0).sum().backward()
        e = lib.zeros(3, 0, requires_grad=True)
        lib.nn.functional.cross_entropy(e, lib.full((3,), -100)).backward()
        results.append((t.grad, x.grad, e.grad))
    for actual, expected in zip(*results, strict=True):
        assert_same(actual, expected)


def test_the_second_gradient_of_padding_alone():
    """A window without an element has a gradient of no element."""
    x = firesteel.ones(1, 1, 2, 2, requires_grad=True)
    y, index = F.max_pool2d(x, 2, 1, 1, 3, return_indices=True)
    assert index.flatten().tolist()[0] == -1
    (grad,) = firesteel.autograd.grad((y.exp() * x.sum()).sum(), x, create_graph=True)
    grad.sum().backward()
    assert x.grad.shape == x.shape


def test_stack_has_one_node():
    """The inputs of a stack are its node's inputs; no view stands between."""
    a, b = firesteel.ones(2, requires_grad=True), firesteel.ones(2, requires_grad=True)
    y = firesteel.stack([a, firesteel.zeros(2), b], 1)
    names = [node.name() if node else None for node, _ in y.grad_fn.next_functions]
    assert [name and name.endswith("AccumulateGrad") for name in names] == [True, None, True]
    (y * firesteel.arange(6.0).view(2, 3)).sum().backward()
    assert a.grad.tolist() == [0.0, 3.0] and b.grad.tolist() == [2.0, 5.0]


# --- texts -----------------------------------------------------------------------------------------------------

TEXTS = {
    r"getitem: index 3 is out of bounds for dimension 0 with size 3; ": lambda x: x[3],
    r"getitem: index 5 is out of bounds for dimension 1 with size 4; ": lambda x: x[[0], [5]],
    r"getitem: too many indices for tensor of dimension 2 .*3 given; ": lambda x: x[0, 0, 0],
    r"getitem: step must be greater than zero, not -1; use .flip": lambda x: x[::-1],
    r"setitem: .*value tensor of shape \[5\].*shape \[2, 4\]; ": lambda x: put(x, [0, 1], firesteel.ones(5)),
    r"setitem: .*got Float for the destination and Double": lambda x: put(x, [0], firesteel.ones(4).double()),
    r"stack: .*\[3, 4\] at entry 0 and \[2\] at entry 1; ": lambda x: firesteel.stack([x, firesteel.ones(2)]),
    r"split: .*got split_size=-1; ": lambda x: x.split(-1),
    r"repeat: .*1 counts \[2\] for the 2 dims of shape \[3, 4\]; ": lambda x: x.repeat(2),
    r"unflatten: Provided sizes \[5, 2\] .* size of dim 1 \(4\).*; ": lambda x: x.unflatten(1, (5, 2)),
    r"index_add: index 3 is out of bounds for dimension 0 with size 3; ": lambda x: x.index_add(
        0, firesteel.tensor([3]), firesteel.ones(1, 4)
    ),
    r"masked_fill: only supports boolean masks.*float32": lambda x: x.masked_fill(x, 1.0),
    r"max_pool1d: .*kernel size \[5\]": lambda x: F.max_pool1d(x, 5),
    r"gather: index 9 is out of bounds for dimension 1 with size 4; ": lambda x: x.gather(
        1, firesteel.tensor([[9]])
    ),
}


def put(x, index, value):
    x[index] = value


@pytest.mark.parametrize("text", TEXTS)
def test_texts(text):
    with pytest.raises((RuntimeError, IndexError, ValueError), match=f"^{text}"):
        TEXTS[text](firesteel.ones(3, 4))

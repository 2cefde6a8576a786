"""Calls at the edges of picking, joining, pooling, convolving and losses: PyTorch's value, or its class of error."""

import pytest

import firesteel
from tensors import assert_same

torch = pytest.importorskip("torch")

INDEXING = {
    "gather of a 0-d tensor": lambda t: t.tensor(5.0).gather(0, t.tensor([0, 0, 0])),
    "gather of a 0-d tensor by a 0-d index": lambda t: t.tensor(5.0).gather(0, t.tensor(0)),
    "gather by a 0-d index": lambda t: t.arange(3.0).gather(0, t.tensor(1)),
    "gather by an empty index of another rank": lambda t: t.zeros(3).gather(0, t.zeros(0, 5, dtype=t.int64)),
    "gather of a matrix by a 0-d index": lambda t: t.zeros(3, 2).gather(0, t.tensor(1)),
    "gather out of range": lambda t: t.zeros(3).gather(0, t.tensor([3])),
    "gather from the end": lambda t: t.zeros(3).gather(0, t.tensor([-1])),
    "gather by itself": lambda t: (lambda x: x.gather(0, x))(t.tensor([1, 2, 1, 0])),
    "scatter of nothing": lambda t: t.zeros(3).scatter(0, t.zeros(0, 5, dtype=t.int64), t.zeros(0, 5)),
    "scatter of nothing, 0-d": lambda t: t.zeros(3).scatter(0, t.zeros(0, dtype=t.int64), t.tensor(1.0)),
    "scatter_add of nothing": lambda t: t.zeros(3).scatter_add(0, t.zeros(0, 2, dtype=t.int64), t.ones(2, 2)),
    "scatter by a 0-d index": lambda t: t.zeros(3).scatter(0, t.tensor(1), t.ones(1)),
    "scatter of a 0-d source": lambda t: t.zeros(3).scatter(0, t.tensor([1]), t.tensor(1.0)),
    "scatter into a 0-d tensor": lambda t: t.tensor(0.0).scatter(0, t.tensor([0]), t.tensor([1.0])),
    "scatter_add into a 0-d tensor": lambda t: t.tensor(0.0).scatter_add(
        0, t.tensor([0, 0]), t.tensor([1.0, 2.0])
    ),
    "scatter_ into a 0-d tensor": lambda t: t.tensor(0.0).scatter_(0, t.tensor(0), t.tensor(2.0)),
    "scatter by an index of another rank": lambda t: t.zeros(3).scatter(0, t.tensor([[1]]), t.ones(1)),
    "scatter_ by itself": lambda t: (lambda x: x.scatter_(0, x, t.tensor([10**12] * 4)))(
        t.tensor([1, 2, 1, 0])
    ),
    "scatter_add_ by itself": lambda t: (lambda x: x.scatter_add_(0, x, t.tensor([1] * 4)))(
        t.tensor([1, 2, 1, 0])
    ),
    "scatter_ of itself": lambda t: (lambda x: x.scatter_(0, t.tensor([3, 0]), x[:2]))(
        t.tensor([1, 2, 1, 0])
    ),
    "scatter_ of its other half": lambda t: (lambda x: x[:2].scatter_(0, t.tensor([1, 0]), x[2:]))(
        t.arange(4)
    ),
    "index_select of a 0-d tensor": lambda t: t.tensor(3.0).index_select(0, t.tensor([0])),
    "index_select of a 0-d tensor twice": lambda t: t.tensor(3.0).index_select(0, t.tensor([0, 0])),
    "index_select from the end": lambda t: t.zeros(3).index_select(0, t.tensor([-1])),
    "index_select out of range": lambda t: t.zeros(3).index_select(0, t.tensor([3])),
    "index_add out of range": lambda t: t.zeros(3).index_add(0, t.tensor([5]), t.ones(1)),
    "index_add from the end": lambda t: t.zeros(3).index_add(0, t.tensor([-1]), t.ones(1)),
    "index_add of too few": lambda t: t.zeros(3).index_add(0, t.tensor([0, 1]), t.ones(1)),
    "index_add of another dtype": lambda t: t.zeros(3).index_add(
        0, t.tensor([0]), t.ones(1, dtype=t.float64)
    ),
    "index_add of another shape": lambda t: t.zeros(3, 2).index_add(0, t.tensor([0]), t.ones(1, 3)),
    "index_add by floats": lambda t: t.zeros(3).index_add(0, t.tensor([0.0]), t.ones(1)),
    "index_add to a 0-d tensor": lambda t: t.tensor(3.0).index_add(0, t.tensor(0), t.tensor(1.0)),
    "index_add to a 0-d tensor of a vector": lambda t: t.tensor(3.0).index_add(0, t.tensor([0]), t.ones(1)),
    "masked_select of a 0-d tensor": lambda t: t.tensor(1.0).masked_select(t.tensor(True)),
    "masked_select of nothing": lambda t: t.tensor(1.0).masked_select(t.tensor(False)),
    "nonzero of a 0-d tensor": lambda t: t.tensor(1.0).nonzero(),
    "nonzero of a 0-d tensor by dims": lambda t: t.tensor(1.0).nonzero(as_tuple=True),
    "nonzero of a 0-d zero by dims": lambda t: t.tensor(0.0).nonzero(as_tuple=True),
    "where of a 0-d tensor": lambda t: t.where(t.tensor(True)),
    "nonzero of nothing": lambda t: t.zeros(2, 0, 3).nonzero(as_tuple=True),
    "a mask of no dims": lambda t: t.tensor(1.0)[t.tensor(True)],
    "take_along_dim of a 0-d tensor": lambda t: t.tensor(1.0).take_along_dim(t.tensor([0]), 0),
    "topk of a 0-d tensor": lambda t: tuple(t.tensor(3.0).topk(1)),
    "topk 0 of a 0-d tensor": lambda t: tuple(t.tensor(3.0).topk(0)),
    "topk of more than there are": lambda t: t.ones(3).topk(5),
    "topk of bool": lambda t: t.tensor([True]).topk(1),
}


def put(x, index, value):
    x[index] = value
    return x


WRITES = {
    "another float": lambda t: put(t.zeros(3), t.tensor([0, 1]), t.ones(2, dtype=t.float64)),
    "ints among floats": lambda t: put(t.zeros(3), t.tensor([0, 1]), t.tensor(1)),
    "a float among ints": lambda t: put(t.zeros(3, dtype=t.int64), t.tensor([0, 1]), t.tensor(1.5)),
    "a number": lambda t: put(t.zeros(3, dtype=t.int64), t.tensor([0, 1]), 1.5),
    "one value for a mask": lambda t: put(t.zeros(3), t.tensor([True, False, True]), t.tensor(1)),
    "other floats for a mask": lambda t: put(
        t.zeros(3), t.tensor([True, False, True]), t.ones(2, dtype=t.float64)
    ),
    "other floats for a slice": lambda t: put(t.zeros(3), slice(0, 2), t.ones(2, dtype=t.float64)),
    "index_put_": lambda t: t.zeros(3).index_put_((t.tensor([0]),), t.tensor([1])),
    "out of range": lambda t: put(t.zeros(3), t.tensor([0, 5]), 1.0),
    "a wrong shape": lambda t: put(t.zeros(3), t.tensor([0, 1]), t.ones(3)),
    "a mask of no dims": lambda t: put(t.tensor(1.0), t.tensor(True), 4.0),
}

JOINING = {
    "chunk of nothing": lambda t: t.ones(0).chunk(5),
    "split of nothing": lambda t: t.ones(0).split(3),
    "split by 0 of nothing": lambda t: t.ones(0).split(0),
    "split by 0": lambda t: t.ones(3).split(0),
    "split by -1": lambda t: t.ones(2).split(-1),
    "split by a negative size": lambda t: t.ones(2).split([1, -1, 2]),
    "split of a 0-d tensor": lambda t: t.tensor(1.0).split(1),
    "chunk of a 0-d tensor": lambda t: t.tensor(1.0).chunk(1),
    "unbind of a 0-d tensor": lambda t: t.tensor(1.0).unbind(),
    "stack of nothing": lambda t: t.stack([]),
    "stack of two dtypes": lambda t: t.stack([t.ones(1), t.ones(1, dtype=t.int64)]),
    "cat of empty vectors along a dim": lambda t: t.cat([t.ones(0)], 5),
    "cat with an empty vector": lambda t: t.cat([t.ones(0), t.ones(2, 3)], 1),
    "cat of 0-d tensors": lambda t: t.cat([t.tensor(1.0)]),
}

VIEWS = {
    "unflatten of a 0-d tensor": lambda t: t.tensor(1.0).unflatten(0, (1, 1)),
    "unflatten beside an empty dim": lambda t: t.zeros(0, 12).unflatten(1, (-1, 4)),
    "unflatten of an empty dim": lambda t: t.zeros(2, 0).unflatten(1, (-1, 0)),
    "unflatten to nothing": lambda t: t.zeros(2, 12).unflatten(1, ()),
    "unflatten with two unknown": lambda t: t.zeros(2, 12).unflatten(1, (-1, -1)),
    "unflatten to a wrong size": lambda t: t.zeros(2, 12).unflatten(1, (5, 2)),
    "unflatten that would fit the whole": lambda t: t.zeros(2, 12).unflatten(1, (6, 1)),
    "an ambiguous size": lambda t: t.zeros(0).view(-1, 0),
    "an unknown size of nothing": lambda t: t.zeros(0, 3).view(-1, 3),
    "squeeze of a dim twice": lambda t: t.ones(3).squeeze((0, 0)),
    "roll of a 0-d tensor along a dim": lambda t: t.tensor(1.0).roll(1, 0),
    "roll of a 0-d tensor": lambda t: t.tensor(1.0).roll(1),
    "diagonal far below": lambda t: t.ones(2, 3).diagonal(-(2**63)),
    "flip of a dim twice": lambda t: t.ones(2, 3).flip((0, 0)),
    "mT of a 0-d tensor": lambda t: t.tensor(1.0).mT,
    "narrow beyond": lambda t: t.ones(3).narrow(0, 1, 2**62),
    "tril far": lambda t: t.ones(3, 4).tril(2**63 - 1),
    "triu far": lambda t: t.ones(2, 3, 4).triu(-(2**63)),
    "tril": lambda t: t.arange(1.0, 25.0).view(2, 3, 4).tril(-1),
    "triu": lambda t: t.arange(1.0, 25.0).view(2, 3, 4).triu(2),
    "triu of no columns": lambda t: t.ones(3, 0).triu(),
}


def plane(t, *shape):
    return t.arange(float(torch.Size(shape).numel())).view(shape)


WINDOWS = {
    "max_pool2d of padding alone": lambda t: t.nn.functional.max_pool2d(t.ones(1, 1, 1, 1), 2, 1, 1, 2),
    "max_pool1d of padding alone": lambda t: t.nn.functional.max_pool1d(t.ones(1, 1, 1), 2, 1, 1, 2),
    "max_pool2d of bool": lambda t: t.nn.functional.max_pool2d(t.ones(1, 1, 4, 4, dtype=t.bool), 2),
    "max_pool2d of int64": lambda t: t.nn.functional.max_pool2d(t.ones(1, 1, 4, 4, dtype=t.int64), 2),
    "max_pool2d far apart": lambda t: t.nn.functional.max_pool2d(t.ones(1, 1, 8, 8), 5, 1, 0, 2**62),
    "max_pool2d of a large window": lambda t: t.nn.functional.max_pool2d(t.ones(1, 1, 8, 8), 2**31),
    "max_pool2d in large steps": lambda t: t.nn.functional.max_pool2d(t.ones(1, 1, 8, 8), 2, 2**31),
    "avg_pool2d of int64": lambda t: t.nn.functional.avg_pool2d(t.arange(16).view(1, 1, 4, 4) - 8, 3),
    "avg_pool2d of int32": lambda t: t.nn.functional.avg_pool2d(t.ones(1, 1, 4, 4, dtype=t.int32), 2),
    "avg_pool2d by a negative divisor": lambda t: t.nn.functional.avg_pool2d(
        plane(t, 1, 1, 4, 4), 2, divisor_override=-2
    ),
    "avg_pool2d by 0": lambda t: t.nn.functional.avg_pool2d(t.ones(1, 1, 4, 4), 2, divisor_override=0),
    "avg_pool2d of a window beyond the end": lambda t: t.nn.functional.avg_pool2d(
        plane(t, 1, 2, 3, 4), 8, 8, 4, ceil_mode=True, count_include_pad=False
    ),
    "avg_pool1d of int64": lambda t: t.nn.functional.avg_pool1d(t.ones(1, 1, 4, dtype=t.int64), 2),
    "avg_pool2d of an empty batch": lambda t: t.nn.functional.avg_pool2d(t.ones(0, 4, 4, 4), 2),
    "avg_pool2d of no rows": lambda t: t.nn.functional.avg_pool2d(t.ones(2, 4, 0, 4), 2),
    "conv2d in large steps": lambda t: t.nn.functional.conv2d(
        t.ones(1, 1, 4, 4), t.ones(1, 1, 2, 2), stride=2**30
    ),
    "conv2d of no rows": lambda t: t.nn.functional.conv2d(t.ones(1, 1, 0, 4), t.ones(1, 1, 2, 2), padding=1),
    "conv2d with much padding": lambda t: t.nn.functional.conv2d(
        t.ones(1, 1, 4, 4), t.ones(1, 1, 2, 2), padding=2**63 - 1
    ),
}

LOSSES = {
    "a target above 1": lambda t: t.nn.functional.binary_cross_entropy(t.tensor([0.5]), t.tensor([2.0])),
    "a target below 0": lambda t: t.nn.functional.binary_cross_entropy(t.tensor([0.5]), t.tensor([-1.0])),
    "a nan target": lambda t: t.nn.functional.binary_cross_entropy(t.tensor([0.5]), t.tensor([float("nan")])),
    "a nan probability": lambda t: t.nn.functional.binary_cross_entropy(
        t.tensor([float("nan")]), t.tensor([1.0])
    ),
    "infinite logits": lambda t: t.nn.functional.binary_cross_entropy_with_logits(
        t.tensor([float("inf")] * 3 + [-float("inf")] * 3), t.tensor([0.0, 0.3, 1.0] * 2), reduction="none"
    ),
    "a pos_weight of another shape": lambda t: t.nn.functional.binary_cross_entropy_with_logits(
        t.zeros(2, 3), t.zeros(2, 3), pos_weight=t.ones(4)
    ),
    "a pos_weight of more dims": lambda t: t.nn.functional.binary_cross_entropy_with_logits(
        t.zeros(2, 3), t.zeros(2, 3), pos_weight=t.ones(2, 1, 3)
    ),
    "a weight of more dims": lambda t: t.nn.functional.binary_cross_entropy_with_logits(
        t.zeros(2, 3), t.zeros(2, 3), weight=t.ones(2, 1, 3)
    ),
    "a pos_weight": lambda t: t.nn.functional.binary_cross_entropy_with_logits(
        plane(t, 2, 3) - 3, plane(t, 2, 3) / 6, pos_weight=t.tensor([1.0, 2.0, 3.0])
    ),
    "a weight of more dims for probabilities": lambda t: t.nn.functional.binary_cross_entropy(
        t.zeros(2, 3), t.zeros(2, 3), weight=t.ones(2, 1, 3)
    ),
    "huber without an end": lambda t: t.nn.functional.huber_loss(
        t.tensor([1.0, 3.0]), t.zeros(2), delta=float("inf")
    ),
    "l1 of ints": lambda t: t.nn.functional.l1_loss(t.tensor([1, 2]), t.tensor([0, 0])),
    "l1 of ints, summed": lambda t: t.nn.functional.l1_loss(
        t.tensor([1, 2]), t.tensor([3, 0]), reduction="sum"
    ),
    "l1 of ints, each": lambda t: t.nn.functional.l1_loss(
        t.tensor([1, 2]), t.tensor([3, 0]), reduction="none"
    ),
    "mse of ints": lambda t: t.nn.functional.mse_loss(t.tensor([1, 2]), t.tensor([0, 0]), reduction="sum"),
    "cross_entropy of no weight": lambda t: t.nn.functional.cross_entropy(
        t.zeros(2, 4), t.tensor([0, 0]), weight=t.tensor([0.0, 1.0, 1.0, 1.0]), label_smoothing=0.1
    ),
    "cross_entropy of ignored rows": lambda t: t.nn.functional.cross_entropy(
        t.zeros(3, 4), t.full((3,), -100), label_smoothing=0.1
    ),
    "cross_entropy of no classes": lambda t: t.nn.functional.cross_entropy(t.zeros(3, 0), t.full((3,), -100)),
    "cross_entropy out of range": lambda t: t.nn.functional.cross_entropy(t.zeros(3, 4), t.tensor([0, 1, 9])),
    "nll_loss with weights": lambda t: t.nn.functional.nll_loss(
        plane(t, 2, 3, 2), t.tensor([[0, 2], [1, -100]]), weight=t.tensor([1.0, 2.0, 3.0])
    ),
    "nll_loss with weights, each": lambda t: t.nn.functional.nll_loss(
        plane(t, 2, 3, 2), t.tensor([[0, 2], [1, -100]]), weight=t.tensor([1.0, 2.0, 3.0]), reduction="none"
    ),
}

LAYERS = {
    "dropout of ints, not training": lambda t: t.nn.functional.dropout(t.tensor([1, 2]), 0.5, False),
    "dropout of all ints": lambda t: t.nn.functional.dropout(t.tensor([1, 2]), 1.0, True),
    "dropout of ints": lambda t: t.nn.functional.dropout(t.tensor([1, 2]), 0.5, True),
    "linear by a vector": lambda t: t.nn.functional.linear(plane(t, 2, 3), t.ones(3)),
    "linear by a vector with bias": lambda t: t.nn.functional.linear(plane(t, 2, 3), t.ones(3), t.ones(1)),
    "linear of a vector by a vector": lambda t: t.nn.functional.linear(plane(t, 3), t.ones(3)),
    "linear with a matrix as bias": lambda t: t.nn.functional.linear(
        plane(t, 2, 3), t.ones(4, 3), plane(t, 2, 4)
    ),
    "linear with a row as bias": lambda t: t.nn.functional.linear(
        plane(t, 2, 2, 3), t.ones(4, 3), plane(t, 2, 4)
    ),
    "linear with a bias of more dims": lambda t: t.nn.functional.linear(
        plane(t, 2, 3), t.ones(4, 3), t.ones(3, 2, 4)
    ),
    "group_norm of one value": lambda t: t.nn.functional.group_norm(t.ones(1, 4), 4),
    "group_norm of two samples": lambda t: t.nn.functional.group_norm(plane(t, 2, 4), 4),
    "group_norm of bfloat16": lambda t: t.nn.functional.group_norm(
        plane(t, 2, 4, 3).bfloat16(), 2, t.ones(4), t.ones(4)
    ),
    "group_norm of ints": lambda t: t.nn.functional.group_norm(t.ones(2, 4, dtype=t.int64), 2),
    "group_norm of nothing": lambda t: t.nn.functional.group_norm(t.ones(0, 4), 2),
    "einsum of one int32": lambda t: t.einsum("i->", t.tensor([1, 2], dtype=t.int32)),
    "einsum of one int32, rows": lambda t: t.einsum("ij->i", t.ones(2, 3, dtype=t.int32)),
    "einsum of two int32": lambda t: t.einsum(
        "ij,ij->", t.ones(2, 3, dtype=t.int32), t.ones(2, 3, dtype=t.int32)
    ),
}

CALLS = {
    f"{family}: {name}": call
    for family, calls in {
        "index": INDEXING,
        "write": WRITES,
        "join": JOINING,
        "view": VIEWS,
        "window": WINDOWS,
        "loss": LOSSES,
        "layer": LAYERS,
    }.items()
    for name, call in calls.items()
}


def attempt(call, lib):
    try:
        return call(lib), None
    except Exception as error:
        return None, error


@pytest.mark.filterwarnings("ignore:Tensor.mT is deprecated")
@pytest.mark.parametrize("name", CALLS)
def test_call(name):
    actual, error = attempt(CALLS[name], firesteel)
    expected, theirs = attempt(CALLS[name], torch)
    if theirs is not None:
        assert isinstance(error, type(theirs)), f"{error!r} or a result, PyTorch: {theirs!r}"
        assert ": " in str(error), f"no operation is named: {error}"
        return
    assert error is None, f"{error!r}, PyTorch: {expected}"
    if not isinstance(expected, tuple):
        actual, expected = (actual,), (expected,)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert_same(a, e)


@pytest.mark.filterwarnings("ignore:indexing with dtype torch.uint8")
@pytest.mark.parametrize("values", [[1, 0], [[0, 1, 2], [0, 0, 1]], 1])
def test_uint8_is_a_mask(values):
    """An index of uint8 is a mask, not a list of positions."""
    results = []
    for lib in (firesteel, torch):
        x, mask = lib.arange(6.0).view(2, 3), lib.tensor(values, dtype=lib.uint8)
        results.append((x[mask],))
    for actual, expected in zip(*results, strict=True):
        assert_same(actual, expected)

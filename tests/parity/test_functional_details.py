"""nn.functional and layers against PyTorch where they used to differ: corners, shapes, errors, warnings."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest

import firesteel

torch = pytest.importorskip("torch")


def _result(framework: Any, run: Any) -> Any:
    """What `run` gives, or the class and text of its error, beside the warnings on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        framework.manual_seed(0)
        try:
            value = run(framework, framework.nn.functional)
        except Exception as error:
            return "error", error, len(caught)
    if isinstance(value, tuple):
        return "value", [_plain(x) for x in value], len(caught)
    return "value", _plain(value), len(caught)


def _plain(x: Any) -> Any:
    return (tuple(x.shape), str(x.dtype), x.tolist()) if hasattr(x, "tolist") else x


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_close(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or a == b or math.isclose(a, b, rel_tol=2e-6)
    return bool(a == b)


def _check(run: Any) -> None:
    kind, value, warned = _result(firesteel, run)
    wanted_kind, wanted, wanted_warned = _result(torch, run)
    assert kind == wanted_kind, (value, wanted)
    assert warned == wanted_warned
    if kind == "error":
        assert isinstance(value, type(wanted)) or isinstance(wanted, (NotImplementedError, AssertionError))
    else:
        assert _close(value, wanted), (value, wanted)


def _with_grad(function: Any, values: list[Any]) -> Any:
    def run(t: Any, f: Any) -> Any:
        x = t.tensor(values, requires_grad=True)
        y = function(t, f, x)
        y.sum().backward()
        return y.detach(), x.grad

    return run


CORNERS = {
    "relu6": (lambda t, f, x: f.relu6(x), [0.0, 6.0, 3.0, -1.0]),
    "hardtanh": (lambda t, f, x: f.hardtanh(x), [-1.0, 1.0, 0.5]),
    "hardsigmoid": (lambda t, f, x: f.hardsigmoid(x), [-3.0, 3.0, 0.0]),
    "hardswish": (lambda t, f, x: f.hardswish(x), [-3.0, 3.0, 1.0]),
    "logsigmoid": (lambda t, f, x: f.logsigmoid(x), [-21.0, 0.0, 30.0]),
    "threshold": (lambda t, f, x: f.threshold(x, 1.0, 7.0), [1.0, 2.0, float("nan")]),
    "hardshrink": (lambda t, f, x: f.hardshrink(x), [-0.5, 0.5, 0.6, float("nan")]),
    "softshrink": (lambda t, f, x: f.softshrink(x), [-0.5, 0.5, 0.6, -2.0, float("nan")]),
    "glu": (lambda t, f, x: f.glu(x), [0.5, -1.0, 2.0, 0.0]),
    "celu": (lambda t, f, x: f.celu(x, 2.0), [0.0, -1.0, 2.0]),
}


@pytest.mark.parametrize("name", CORNERS)
def test_values_and_gradients_at_corners(name: str) -> None:
    _check(_with_grad(*CORNERS[name]))


PROGRAMS = {
    "relu6 of ints": lambda t, f: f.relu6(t.tensor([1, 8, -3])),
    "hardtanh of ints": lambda t, f: f.hardtanh(t.tensor([1, 8, -3])),
    "elu of ints": lambda t, f: f.elu(t.tensor([1])),
    "leaky_relu of ints": lambda t, f: f.leaky_relu(t.tensor([1])),
    "huber of ints": lambda t, f: f.huber_loss(t.tensor([1]), t.tensor([2])),
    "hardtanh of crossed limits": lambda t, f: f.hardtanh(t.ones(1), 1.0, -1.0),
    "cosine along a broadcast dim": lambda t, f: f.cosine_similarity(t.ones(1, 4), t.ones(3, 4), dim=0),
    "cosine of other ranks": lambda t, f: f.cosine_similarity(t.ones(3, 4), t.ones(4)),
    "dropout2d of 3 dims": lambda t, f: f.dropout2d(t.ones(2, 3, 2)),
    "dropout2d of 4 dims": lambda t, f: f.dropout2d(t.ones(2, 3, 2, 2)),
    "dropout2d of 2 dims": lambda t, f: f.dropout2d(t.ones(2, 3)),
    "dropout1d of 2 dims": lambda t, f: f.dropout1d(t.ones(4, 3)),
    "dropout1d of 3 dims": lambda t, f: f.dropout1d(t.ones(2, 3, 4)),
    "dropout1d of 4 dims": lambda t, f: f.dropout1d(t.ones(2, 3, 4, 1)),
    "dropout with p above 1": lambda t, f: f.dropout1d(t.ones(2, 3), 1.5),
    "pad circular and cut": lambda t, f: f.pad(t.arange(5.0)[None], (-1, 1), "circular"),
    "pad reflect and cut": lambda t, f: f.pad(t.arange(5.0)[None], (-1, 1), "reflect"),
    "pad replicate and cut": lambda t, f: f.pad(t.arange(5.0)[None], (2, -2), "replicate"),
    "pad constant and cut": lambda t, f: f.pad(t.arange(5.0), (2, -2), value=1.5),
    "pad of odd length": lambda t, f: f.pad(t.ones(2), (1,)),
    "pad of too many dims": lambda t, f: f.pad(t.ones(2), (1, 1, 1, 1)),
    "pad cutting all": lambda t, f: f.pad(t.ones(2), (-2, -2)),
    "pad with a value and reflect": lambda t, f: f.pad(t.ones(1, 4), (1, 1), "reflect", 3.0),
    "unflatten of a dim that is not": lambda t, f: t.nn.Unflatten(5, (2, 3))(t.ones(2, 6)),
    "unflatten to a number": lambda t, f: t.nn.Unflatten(1, 6),
    "unflatten": lambda t, f: t.nn.Unflatten(-1, (2, -1))(t.ones(2, 6)),
    "bilinear of a wrong size": lambda t, f: t.nn.Bilinear(2, 3, 4)(t.ones(5, 2), t.ones(5, 1)),
    "bilinear of other batches": lambda t, f: t.nn.Bilinear(2, 3, 4)(t.ones(5, 2), t.ones(1, 3)),
    "bilinear": lambda t, f: t.nn.Bilinear(2, 3, 4)(t.rand(5, 2), t.rand(5, 3)).detach(),
    "kl_div of bad targets": lambda t, f: f.kl_div(
        t.tensor([-1.0, -2.0, -0.5]), t.tensor([0.5, 0.0, -0.25]), reduction="none"
    ),
    "kl_div mean": lambda t, f: f.kl_div(t.tensor([-1.0, -2.0]), t.tensor([0.5, 0.5])),
    "kl_div of old arguments": lambda t, f: f.kl_div(t.zeros(2), t.ones(2), size_average=False),
    "prelu of 0 dims": lambda t, f: f.prelu(t.tensor(-2.0), t.tensor([0.25])),
    "prelu of other dtypes": lambda t, f: f.prelu(t.ones(2), t.ones(1, dtype=t.float64)),
    "prelu of a matrix": lambda t, f: f.prelu(t.ones(2, 2), t.ones(1, 2)),
    "prelu of several weights for 1 dim": lambda t, f: f.prelu(t.ones(2), t.ones(2)),
    "prelu per channel": lambda t, f: f.prelu(-t.ones(2, 3), t.tensor([1.0, 2.0, 3.0])),
    "adaptive pooling to nothing": lambda t, f: f.adaptive_avg_pool2d(t.ones(1, 2, 4, 4), 0),
    "adaptive pooling of 2 dims": lambda t, f: f.adaptive_avg_pool2d(t.ones(4, 4), 2),
    "adaptive pooling to a negative size": lambda t, f: f.adaptive_avg_pool2d(t.ones(1, 4, 4), -1),
    "one_hot": lambda t, f: f.one_hot(t.tensor([[2, 0], [1, 2]]).t()),
    "one_hot of more classes": lambda t, f: f.one_hot(t.arange(3000) * 7 % 100, 101),
    "one_hot of a number": lambda t, f: f.one_hot(t.tensor(1), 3),
    "one_hot of nothing": lambda t, f: f.one_hot(t.zeros(0, 2, dtype=t.int64), 3),
    "one_hot of nothing and no classes": lambda t, f: f.one_hot(t.zeros(0, dtype=t.int64)),
    "one_hot of a negative class": lambda t, f: f.one_hot(t.tensor([0, -1]), 3),
    "one_hot of too large a class": lambda t, f: f.one_hot(t.tensor([0, 3]), 3),
    "one_hot of -2 classes": lambda t, f: f.one_hot(t.tensor([0, 1]), -2),
    "one_hot of int32": lambda t, f: f.one_hot(t.tensor([1], dtype=t.int32)),
    "one_hot of uint8": lambda t, f: f.one_hot(t.tensor([1], dtype=t.uint8)),
    "softmin without dim": lambda t, f: f.softmin(t.tensor([1.0, 2.0])),
    "softmin": lambda t, f: f.softmin(t.tensor([1.0, 2.0]), 0, dtype=t.float64),
    "huber with weights": lambda t, f: f.huber_loss(t.zeros(2), t.tensor([0.5, 3.0]), weight=t.ones(2)),
    "huber of other shapes": lambda t, f: f.huber_loss(t.zeros(2), t.zeros(1)),
    "normalize into": lambda t, f: f.normalize(t.tensor([[3.0, 4.0]]), out=t.empty(1, 2)),
    "linear of nothing": lambda t, f: (t.nn.Linear(0, 4).bias.detach(), t.rand(2)),
    "softmax layer without dim": lambda t, f: t.nn.Softmax()(t.zeros(2)),
    "mse layer of old arguments": lambda t, f: t.nn.MSELoss(size_average=False)(t.zeros(2), t.ones(2)),
    "cross entropy by position": lambda t, f: t.nn.CrossEntropyLoss(t.ones(3), None, 2)(
        t.zeros(2, 3), t.tensor([2, 1])
    ),
    "smooth l1 not reduced": lambda t, f: t.nn.SmoothL1Loss(reduce=False)(t.zeros(2), t.ones(2)),
    "group norm": lambda t, f: t.nn.GroupNorm(2, 4)(t.rand(2, 4, 3)).detach(),
    "rms norm": lambda t, f: t.nn.RMSNorm(4)(t.rand(2, 4)).detach(),
    "max pool of sequences": lambda t, f: t.nn.MaxPool1d(3, 2, 1, return_indices=True)(t.rand(1, 2, 7)),
    "avg pool of sequences": lambda t, f: t.nn.AvgPool1d(3, 2, 1)(t.rand(1, 2, 7)),
    "batch norm layers ask _check_input_dim": lambda t, f: t.nn.BatchNorm1d(3)._check_input_dim(t.ones(1)),
    "orthogonal rows": lambda t, f: t.nn.init.orthogonal_(t.empty(3, 5)).sum().round(decimals=3),
    "dirac": lambda t, f: t.nn.init.dirac_(t.empty(4, 3, 3, 3), groups=2),
    "eye": lambda t, f: t.nn.init.eye_(t.empty(3, 5)),
    "a layer that limits to nothing": lambda t, f: t.nn.Hardtanh(1.0, -1.0),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    _check(PROGRAMS[name])


REPRS = [
    "CELU()", "GLU()", "Hardshrink()", "Softshrink()", "Threshold(1, 2)", "Threshold(1, 2, True)",
    "GroupNorm(2, 4)", "RMSNorm(4)", "AvgPool1d(3)", "MaxPool1d(3)", "Embedding(3, 2, max_norm=1.0)",
    "Embedding(3, 2, norm_type=1.0)", "Embedding(3, 2, scale_grad_by_freq=True)", "ReLU(True)", "SELU()",
    "ParameterList([t.ones(2), t.ones(2, 3)])", "ParameterDict({'a': t.ones(2), 'b': t.ones(1)})",
    "ParameterDict({'a': t.ones(2)})", "Softmax(1)", "LogSoftmax()",
]  # fmt: skip


@pytest.mark.parametrize("text", REPRS)
def test_reprs_of_layers(text: str) -> None:
    ours, theirs = (repr(eval(f"t.nn.{text}", {"t": t})) for t in (firesteel, torch))
    assert ours == theirs


def test_pad_never_shares_memory() -> None:
    for pads in ((0, 0), (-1, 0), ()):
        x = firesteel.zeros(4)
        firesteel.nn.functional.pad(x, pads).add_(1)
        assert x.tolist() == [0.0] * 4


def test_dropout_in_evaluation_returns_its_input() -> None:
    leaf = firesteel.ones(2, requires_grad=True)
    for inplace in (False, True):
        assert firesteel.nn.Dropout(inplace=inplace).eval()(leaf) is leaf
        assert firesteel.nn.Dropout2d(inplace=inplace).eval()(leaf.reshape(1, 2, 1, 1)).shape[1] == 2


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
def test_embedding_limits_the_norm_of_what_is_looked_up(norm_type: float) -> None:
    table = [[3.0, 4.0], [0.1, 0.1], [6.0, 8.0]]

    def run(t: Any, f: Any) -> Any:
        layer = t.nn.Embedding(3, 2, max_norm=1.0, norm_type=norm_type, _weight=t.tensor(table))
        found = layer(t.tensor([[0, 1], [0, 1]]))
        found.sum().backward()
        return found.detach(), layer.weight.detach(), layer.weight.grad

    _check(run)


def test_embedding_scales_gradients_by_frequency() -> None:
    def run(t: Any, f: Any) -> Any:
        layer = t.nn.Embedding(4, 2, padding_idx=3, scale_grad_by_freq=True)
        found = layer(t.tensor([[0, 1, 0], [0, 3, 3]]))
        (found * t.arange(12.0).reshape(2, 3, 2)).sum().backward()
        return found.detach(), layer.weight.grad

    _check(run)


def test_embedding_refuses_indices_before_it_scales_anything() -> None:
    weight = firesteel.full((2, 2), 9.0)
    with pytest.raises(IndexError):
        firesteel.nn.functional.embedding(firesteel.tensor([0, 5]), weight, max_norm=1.0)
    assert weight.tolist() == [[9.0, 9.0], [9.0, 9.0]]
    with pytest.raises(RuntimeError, match="sparse=True is not supported"):
        firesteel.nn.Embedding(2, 2, sparse=True)


def test_convolutions_of_nothing_have_a_bias_of_zeros() -> None:
    with pytest.warns(UserWarning, match="zero-element"):
        layer = firesteel.nn.Conv1d(0, 4, 3)
    assert layer.bias is not None and layer.bias.tolist() == [0.0] * 4


def test_orthogonal_matrices_are_orthonormal() -> None:
    for shape in ((6, 3), (3, 6), (4, 2, 3)):
        flat = firesteel.nn.init.orthogonal_(firesteel.empty(*shape), gain=2.0).reshape(shape[0], -1)
        product = flat.t() @ flat if flat.shape[0] > flat.shape[1] else flat @ flat.t()
        assert firesteel.allclose(product, firesteel.eye(product.shape[0]) * 4, atol=1e-5)

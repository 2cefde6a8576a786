"""First gradients of activations and norms at nan, infinities and zeros of either sign."""

from __future__ import annotations

import math

import pytest

import firesteel
from libraries import parity, same_in_both
from tensors import assert_same, torch

NAN, INF = math.nan, math.inf
VALUES = [NAN, INF, -INF, 0.0, -0.0, 1e30, -1e30, 90.0, -90.0, 3.0, -3.0, 6.0, 1.0, -1.0, 0.5, -0.5, 20.0]
# More than a vector register holds, so that PyTorch takes both of its ways.
MANY = 64
# PyTorch computes the sixths of hardsigmoid in float32: times the tolerance.
SINGLE = 100.0

ACTIVATIONS = {
    **{
        name: lambda f, x, name=name: getattr(f, name)(x)
        for name in (
            "relu relu6 elu selu celu gelu silu mish hardswish hardsigmoid hardtanh leaky_relu softplus softsign "
            "tanhshrink logsigmoid hardshrink softshrink sigmoid tanh"
        ).split()
    },
    "gelu-tanh": lambda f, x: f.gelu(x, approximate="tanh"),
    "threshold": lambda f, x: f.threshold(x, 0.5, 2.0),
    "threshold-below": lambda f, x: f.threshold(x, -1.0, 2.0),
    "elu-alpha": lambda f, x: f.elu(x, 2.0),
    "celu-alpha": lambda f, x: f.celu(x, 2.0),
    "leaky_relu-steep": lambda f, x: f.leaky_relu(x, 3.0),
    "softplus-beta": lambda f, x: f.softplus(x, 2.0, 5.0),
    "hardtanh-limits": lambda f, x: f.hardtanh(x, 0.0, 3.0),
}
# PyTorch's answer at nan depends on where in the tensor it stands: its loop over vector registers gives one of
# these, the loop over the rest the other. Ours is the same everywhere.
OURS_AT_NAN = {
    # nan, as the value itself.
    **dict.fromkeys(["elu", "selu", "celu", "elu-alpha", "celu-alpha", "hardswish"], NAN),
    # What arrived, as in the parts that are not flat.
    **dict.fromkeys(["relu6", "hardtanh", "hardtanh-limits", "hardshrink", "softshrink"], 2.0),
}


def gradient(lib, name, values, dtype):
    x = lib.tensor(values, dtype=getattr(lib, dtype), requires_grad=True)
    out = ACTIVATIONS[name](lib.nn.functional, x)
    return lib.autograd.grad(out, x, lib.full_like(out, 2.0))[0]


@parity
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, dtype):
    for value in VALUES:
        if math.isnan(value) and name in OURS_AT_NAN:
            continue
        for count in (1, MANY):
            ours, theirs = (gradient(lib, name, [value] * count, dtype) for lib in (firesteel, torch))
            assert_same(ours, theirs, SINGLE)


@parity
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OURS_AT_NAN)
def test_where_pytorch_has_two_answers(name, dtype):
    """Ours is one of them, the same for all elements."""
    ours, theirs = (
        {repr(g) for n in (1, MANY) for g in gradient(lib, name, [NAN] * n, dtype).tolist()}
        for lib in (firesteel, torch)
    )
    assert ours == {repr(OURS_AT_NAN[name])}
    assert ours < theirs, "PyTorch agrees now with itself: move the name to the others"


@parity
@pytest.mark.parametrize("order", [0.5, 1, 2, 3, INF, -INF])
@pytest.mark.parametrize(
    "values",
    [
        [1.0, 2.0, NAN, -3.0],
        [NAN] * 4,
        [INF, 1.0, -INF, 2.0],
        [0.0, -0.0, 0.0, 0.0],
        [0.0, -0.0, 1.0, -1.0],
        [NAN, INF, 1.0, -2.0],
        [-1.0, -1.0, 0.0, -INF],
    ],
)
def test_norms(order, values):
    def run(lib):
        found = []
        for reduce in (lambda x: x.norm(order), lambda x: x.reshape(2, 2).norm(order, dim=1)):
            x = lib.tensor(values, requires_grad=True)
            out = reduce(x)
            found += [out.detach(), *lib.autograd.grad(out, x, lib.full_like(out, 2.0))]
        return found

    same_in_both(run)

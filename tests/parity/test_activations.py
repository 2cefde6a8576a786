"""Activations in place, and activations with flat parts, within a graph."""

import pytest

import firesteel
from libraries import both


@both
@pytest.mark.parametrize(
    "name", ["Hardswish", "Hardsigmoid", "Mish", "SiLU", "ReLU6", "Hardtanh", "ELU", "SELU"]
)
def test_activations_in_place_can_be_trained(lib, name):
    make = getattr(lib.nn, name)
    x = lib.tensor([-4.0, -1.0, 0.5, 2.0, 5.0], requires_grad=True)
    h = x * 1
    out = make(inplace=True)(h)
    expected = make()(x)
    assert out is h and lib.allclose(out, expected)
    grad, expected = (lib.autograd.grad(y.sum(), x)[0] for y in (out, expected))
    assert lib.allclose(grad, expected)


@both
@pytest.mark.parametrize("name", ["threshold", "hardshrink", "softshrink", "relu", "hardtanh", "leaky_relu"])
def test_gradients_of_piecewise_linear_functions_have_a_history(lib, name):
    """A penalty on the size of a gradient may be asked for its own, which is 0."""
    function = getattr(lib.nn.functional, name)
    args = (0.1, 2.0) if name == "threshold" else ()
    x = lib.tensor([[-4.0, -0.2, 0.05, 3.0], [1.0, 0.6, -0.7, 0.3]], requires_grad=True)
    (grad,) = lib.autograd.grad(function(x, *args).sum(), x, create_graph=True)
    ((grad.norm(dim=1) - 1) ** 2).sum().backward()
    assert x.grad.tolist() == [[0.0] * 4] * 2


def test_flat_parts_let_nothing_through():
    functional, inf = firesteel.nn.functional, float("inf")
    x = firesteel.tensor([0.3, float("nan"), 2.0, -0.3], requires_grad=True)
    for function in (
        functional.hardshrink,
        functional.softshrink,
        lambda x: functional.threshold(x, 0.5, 7.0),
    ):
        (grad,) = firesteel.autograd.grad(function(x), x, firesteel.full((4,), inf))
        assert grad.tolist() == [0.0, inf, inf, 0.0]
    with pytest.raises(
        RuntimeError, match="softshrink: lambda must be greater or equal to 0, but found to be -1"
    ):
        functional.softshrink(x, -1.0)
    assert functional.threshold(firesteel.tensor([1, 5]), 2, 0).tolist() == [0, 5]

"""Activations that write their result over their input, within a graph."""

import pytest

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

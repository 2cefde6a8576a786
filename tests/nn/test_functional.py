"""Functions of nn.functional without a row in the table of operations: values and gradients as PyTorch's."""

import numpy as np
import pytest

import firesteel
import firesteel.nn.functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

CASES = {
    "adaptive_avg_pool2d": lambda f, x: f.adaptive_avg_pool2d(x, (2, 3)),
    "adaptive_max_pool1d": lambda f, x: f.adaptive_max_pool1d(x[0], 4),
    "adaptive_max_pool1d with indices": lambda f, x: f.adaptive_max_pool1d(x[0], 4, return_indices=True)[0],
    "adaptive_max_pool2d": lambda f, x: f.adaptive_max_pool2d(x, (2, 4)),
    "avg_pool1d": lambda f, x: f.avg_pool1d(x[0], 2),
    "celu": lambda f, x: f.celu(x, 0.7),
    "conv_transpose2d": lambda f, x: f.conv_transpose2d(
        x, x.transpose(0, 1)[:, :, :2, :2] * 0.5, stride=2, padding=1
    ),
    "elu": lambda f, x: f.elu(x, 1.3),
    "group_norm": lambda f, x: f.group_norm(x, 2),
    "group_norm with parameters": lambda f, x: f.group_norm(x, 2, x[0, :, 0, 0], x[1, :, 0, 0]),
    "hardsigmoid": lambda f, x: f.hardsigmoid(x),
    "hardswish": lambda f, x: f.hardswish(x),
    "hardtanh": lambda f, x: f.hardtanh(x, -0.5, 0.8),
    "huber_loss": lambda f, x: f.huber_loss(x, x.detach() * 0.3, delta=0.4),
    "leaky_relu": lambda f, x: f.leaky_relu(x, 0.1),
    "logsigmoid": lambda f, x: f.logsigmoid(x),
    "max_pool1d": lambda f, x: f.max_pool1d(x[0], 3, stride=2),
    "mish": lambda f, x: f.mish(x),
    "prelu": lambda f, x: f.prelu(x, x[0, 0, 0, :1] * 0 + 0.25),
    "relu6": lambda f, x: f.relu6(x * 5),
    "rms_norm": lambda f, x: f.rms_norm(x, (6,)),
    "selu": lambda f, x: f.selu(x),
    "softmax of columns": lambda f, x: f.softmax(x, 1) * f.log_softmax(x, 0),
    "tanhshrink": lambda f, x: f.tanhshrink(x),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients_are_pytorchs(name, dtype):
    values = np.random.default_rng(7).normal(size=(3, 4, 5, 6)).astype(dtype)
    results = []
    for lib, functional in ((firesteel, F), (torch, TF)):
        x = lib.tensor(values, requires_grad=True)
        y = CASES[name](functional, x)
        (y * y).sum().backward()
        results.append((y.detach().numpy(), x.grad.numpy()))
    tolerance = 2e-5 if dtype == "float32" else 1e-7  # PyTorch holds 1/6 as a float32
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shift", [0, 1, 5])
def test_bit_shifts_are_pytorchs(shift):
    values = [-9, -1, 0, 3, 1000]
    for name in ("bitwise_left_shift", "bitwise_right_shift"):
        ours = getattr(firesteel, name)(firesteel.tensor(values), firesteel.tensor(shift)).tolist()
        assert ours == getattr(torch, name)(torch.tensor(values), torch.tensor(shift)).tolist()


def test_tensordot_and_nansum_are_pytorchs():
    a = np.random.default_rng(1).normal(size=(2, 3, 4))
    b = np.random.default_rng(2).normal(size=(3, 4, 5))
    ours = firesteel.tensordot(firesteel.tensor(a), firesteel.tensor(b), dims=2)
    np.testing.assert_allclose(
        ours.numpy(), torch.tensordot(torch.tensor(a), torch.tensor(b), dims=2).numpy()
    )
    a[0, 0, 0] = np.nan
    assert firesteel.tensor(a).nansum().item() == pytest.approx(torch.tensor(a).nansum().item())

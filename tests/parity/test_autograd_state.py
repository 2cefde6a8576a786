"""Hooks beside retain_grad, versions, views with live bases, and third derivatives, as in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import firesteel
from libraries import same_in_both

torch = pytest.importorskip("torch")


def leaf(lib: Any, *values: float) -> Any:
    return lib.tensor(list(values or (0.5, 1.0, 1.5)), dtype=lib.float64, requires_grad=True)


def test_retain_grad_keeps_what_the_hooks_have_made() -> None:
    """Hooks run in the order of their registration; the kept gradient is that after the last of them."""

    def run(lib: Any) -> Any:
        kept = []
        for first in (True, False):
            x, order = leaf(lib), []
            y = x * 2
            if first:
                y.retain_grad()
            y.register_hook(lambda grad, order=order: order.append("add") or grad + 1)
            y.register_hook(lambda grad, order=order: order.append("double") or grad * 2)
            if not first:
                y.retain_grad()
            (y * 3).sum().backward()
            kept += [y.grad, x.grad, lib.tensor(order == ["add", "double"])]
        return kept

    same_in_both(run)


def test_retain_grad_adds_nothing_up_and_may_be_called_again() -> None:
    def run(lib: Any) -> Any:
        x = leaf(lib)
        y = x * 2
        y.retain_grad()
        y.retain_grad()
        x.retain_grad()  # nothing to do for a leaf
        z = (y * y).sum()
        z.backward(retain_graph=True)
        first = y.grad.clone()
        z.backward()
        return first, y.grad, x.grad, lib.tensor([y.retains_grad, x.retains_grad])

    same_in_both(run)


def test_hooks_of_a_tensor_that_is_written_later() -> None:
    """A hook belongs to the value that the tensor had; a write gives it a new one."""

    def run(lib: Any) -> Any:
        x, seen = leaf(lib), []
        y = x * 1
        y.register_hook(lambda grad: seen.append(grad.clone()))
        y.mul_(5)
        y.register_hook(lambda grad: seen.append(grad * 100))
        y.sum().backward()
        return x.grad, seen

    same_in_both(run)


def test_hooks_see_the_sum_of_all_uses() -> None:
    def run(lib: Any) -> Any:
        x, seen = leaf(lib), []
        y = x.sin()
        y.register_hook(lambda grad: seen.append(grad.clone()))
        (y.exp() + y * 2 + y[:1]).sum().backward()
        return x.grad, seen

    same_in_both(run)


VERSIONS: dict[str, Callable[[Any, Any], Any]] = {
    "made": lambda lib, x: x,
    "add_": lambda lib, x: x.add_(1),
    "item": lambda lib, x: x.__setitem__(0, 2.0),
    "slice": lambda lib, x: x[1:].zero_(),
    "two writes": lambda lib, x: (x.mul_(2), x.exp_()),
    "view": lambda lib, x: x.view(-1).fill_(1),
    "detach": lambda lib, x: x.detach().add_(1),
    "data": lambda lib, x: x.data.add_(1),
    "copy_": lambda lib, x: x.copy_(lib.zeros(3)),
    "out": lambda lib, x: lib.exp(lib.ones(3, dtype=x.dtype), out=x),
    "clone": lambda lib, x: x.clone().add_(1),
    "read": lambda lib, x: (x + 1, x.sum(), x[0], x.tolist()),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_versions(name: str) -> None:
    def run(lib: Any) -> Any:
        x = lib.ones(3, dtype=lib.float64)
        view, alias = x[:2], x.detach()
        VERSIONS[name](lib, x)
        return lib.tensor([x._version, view._version, alias._version])

    same_in_both(run)


LIVE: dict[str, Callable[[Any, Any], Any]] = {
    "base after view": lambda lib, y: (lambda v: (y.mul_(2), v.sum() + y.sum())[1])(y[1:]),
    "view after base": lambda lib, y: (lambda v: (y.mul_(2), v.mul_(3), v.sum() * y.sum())[2])(y[1:]),
    "two views": lambda lib, y: (lambda v, w: (v.mul_(2), w.exp_(), (v * w).sum())[2])(y[:2], y[1:]),
    "view of a view": lambda lib, y: (lambda v: (lambda w: (w.mul_(3), v.sum() * y.sum())[1])(v[0]))(y[1:]),
    "base is gone": lambda lib, y: (lambda v: (v.mul_(2), v.exp().sum())[1])((y * 1)[1:]),
    "write with another": lambda lib, y: (lambda v: (v.mul_(y[0].clone()), y.prod())[1])(y[1:]),
    "into a constant": lambda lib, y: (lambda b: (lambda v: (v.copy_(y), b.exp().sum())[1])(b[1]))(
        lib.zeros(2, 3, dtype=lib.float64)
    ),
    "transposed": lambda lib, y: (lambda m: (m.t()[0].mul_(y[2]), (m * m).sum())[1])((y * 1).view(3, 1).expand(3, 2).clone()),
    "masked": lambda lib, y: (lambda v: (v.masked_fill_(v > 1, 7.0), y.exp().sum())[1])(y[1:]),
}  # fmt: skip


@pytest.mark.parametrize("name", LIVE)
def test_writes_to_views_and_bases_that_live(name: str) -> None:
    def run(lib: Any) -> Any:
        x = leaf(lib)
        out = LIVE[name](lib, x * 1)
        (first,) = lib.autograd.grad(out, x, create_graph=True)
        second = lib.autograd.grad(first.sum(), x, allow_unused=True)[0] if first.requires_grad else None
        return out.detach(), first.detach(), lib.zeros(3).double() if second is None else second

    same_in_both(run)


THIRD: dict[str, Callable[[Any, Any], Any]] = {
    "pow": lambda lib, x: x**5,
    "pow of tensors": lambda lib, x: x**x,
    "div": lambda lib, x: x.sin() / x,
    "exp and log": lambda lib, x: x.exp() * x.log(),
    "tanh": lambda lib, x: x.tanh() * x.sigmoid(),
    "rsqrt": lambda lib, x: x.rsqrt() + x.sqrt(),
    "erf": lambda lib, x: lib.erf(x) * lib.nn.functional.gelu(x),
    "softmax": lambda lib, x: lib.softmax(x, 0) * lib.log_softmax(x, 0),
    "matmul": lambda lib, x: (x[:, None] @ x[None, :]) @ x.exp(),
    "norm": lambda lib, x: x.norm() * x.var(),
    "cumprod": lambda lib, x: x.exp().cumprod(0),
    "prod": lambda lib, x: x.prod() ** 2,
    "logsumexp": lambda lib, x: x.logsumexp(0) ** 2,
    "views": lambda lib, x: (x.view(3, 1).expand(3, 2).reshape(-1)[1:5] ** 3).view(2, 2).t() * 2,
    "index": lambda lib, x: x[lib.tensor([0, 2, 2])] ** 4,
    "where": lambda lib, x: lib.where(x > 0.9, x**3, x**4),
    "cross_entropy": lambda lib, x: lib.nn.functional.cross_entropy(x[None], lib.tensor([1])),
    "mse": lambda lib, x: lib.nn.functional.mse_loss(x**2, x.exp()),
    "cat": lambda lib, x: lib.cat([x**3, lib.stack([x[0], x[1]]) ** 4]),
    "linear": lambda lib, x: lib.nn.functional.linear(x[None] ** 2, x[None].exp(), x[:1]),
}


@pytest.mark.parametrize("name", THIRD)
def test_third_derivatives(name: str) -> None:
    def run(lib: Any) -> Any:
        x = leaf(lib)
        out = THIRD[name](lib, x)
        weights = lib.arange(1.0, out.numel() + 1, dtype=lib.float64).sqrt().reshape(out.shape)
        results, value = [], (out * weights).sum()
        for _ in range(3):
            (value,) = lib.autograd.grad(value, x, create_graph=True)
            results.append(value.detach())
            value = (value * lib.tensor([1.0, -2.0, 3.0], dtype=lib.float64)).sum()
        return results

    same_in_both(run)


def test_the_third_derivative_of_layer_norm() -> None:
    """Against differences: PyTorch's (2.13) is not the derivative of its second one."""

    def second(x: firesteel.Tensor) -> firesteel.Tensor:
        out = firesteel.nn.functional.layer_norm(x * x, (3,)) * weights
        for _ in range(2):
            (out,) = firesteel.autograd.grad((out * weights).sum(), x, create_graph=True)
        return out

    weights = firesteel.tensor([1.0, -2.0, 3.0], dtype=firesteel.float64)
    assert firesteel.autograd.gradcheck(second, leaf(firesteel))

"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from firesteel._core import Tensor, _sgd_step

from .optimizer import Optimizer, Params, _check_number, _check_options, _check_unsupported


class SGD(Optimizer):
    """Steps against the gradient, with momentum if asked for.

    g = grad + weight_decay * p; b = momentum * b + (1 - dampening) * g (b = g at the first step);
    p = p - lr * b, with `nesterov` p = p - lr * (g + momentum * b).

    Args:
        params: parameters, groups of them, or (name, parameter) pairs.
        lr: size of a step.
        momentum: how much of the former direction is kept.
        dampening: how much of the new gradient is left out of the direction.
        weight_decay: pulls parameters towards zero.
        nesterov: whether to look ahead along the momentum.
        maximize: whether to step along the gradient instead.
        foreach, fused: accepted; every step is one call for all parameters of a group anyway.
        differentiable: not supported.

    Example:
        >>> import firesteel as torch
        >>> p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> optimizer = torch.optim.SGD([p], lr=0.5)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p.detach()
        tensor([0., 0.])
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        _check_unsupported("SGD", differentiable=differentiable)
        _check_options(lr, foreach, fused)
        _check_number(lr >= 0.0, "learning rate", lr)
        _check_number(momentum >= 0.0, "momentum value", momentum)
        _check_number(weight_decay >= 0.0, "weight_decay value", weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            wanted = ["momentum=0.9"] * (momentum <= 0) + ["dampening=0"] * (dampening != 0)
            raise ValueError(
                f"Nesterov momentum requires a momentum and zero dampening, not momentum={momentum} and "
                f"dampening={dampening}; pass {' and '.join(wanted)}"
            )
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Changes the parameters once; see `Optimizer.step`."""
        loss = self._loss(closure) if closure is not None else None
        for group in self.param_groups:
            _sgd_step(
                group["params"],
                self.state,
                group["lr"],
                group["momentum"],
                group["dampening"],
                group["weight_decay"],
                group["nesterov"],
                group["maximize"],
            )
        return loss

"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from firesteel._core import Tensor, _adam_step, float32, tensor, zeros_like

from .optimizer import Optimizer, Params, _check_number, _check_options, _check_unsupported, _step_tensors


class Adam(Optimizer):
    """Steps by the mean of the gradients over the root of the mean of their squares.

    m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g**2;
    p = p - lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps), at step t, with
    g = grad + weight_decay * p.

    Args:
        params: parameters, groups of them, or (name, parameter) pairs.
        lr: size of a step.
        betas: how much of the two means is kept.
        eps: keeps the division finite.
        weight_decay: pulls parameters towards zero.
        amsgrad: whether v never decreases in the last formula.
        foreach, fused: accepted; every step is one call for all parameters of a group anyway.
        maximize: whether to step along the gradient instead.
        capturable, differentiable: not supported.
        decoupled_weight_decay: whether to shrink p itself, as AdamW does, instead of changing g.

    Source: Kingma and Ba, Adam: a method for stochastic optimization, 2015.

    Example:
        >>> import firesteel as torch
        >>> p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> optimizer = torch.optim.Adam([p], lr=0.5)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p.detach()
        tensor([0.5000, 1.5000])
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        _check_unsupported(type(self).__name__, capturable=capturable, differentiable=differentiable)
        _check_options(lr, foreach, fused)
        _check_number(lr >= 0.0, "learning rate", lr)
        _check_number(eps >= 0.0, "epsilon value", eps)
        _check_number(0.0 <= betas[0] < 1.0, "beta parameter at index 0", betas[0])
        _check_number(0.0 <= betas[1] < 1.0, "beta parameter at index 1", betas[1])
        _check_number(weight_decay >= 0.0, "weight_decay value", weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        _step_tensors(self.state)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Changes the parameters once; see `Optimizer.step`."""
        loss = self._loss(closure) if closure is not None else None
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            _adam_step(
                group["params"],
                self.state,
                self._start,
                group["lr"],
                beta1,
                beta2,
                group["eps"],
                group["weight_decay"],
                group["amsgrad"],
                group["maximize"],
                group["decoupled_weight_decay"],
            )
        return loss

    def _start(self, parameter: Tensor, amsgrad: bool) -> dict[str, Tensor]:
        """Makes a parameter's state before its first step."""
        data = parameter.detach()
        state: dict[str, Tensor] = self.state[parameter]
        state["step"] = tensor(0.0, dtype=float32)
        state["exp_avg"] = zeros_like(data)
        state["exp_avg_sq"] = zeros_like(data)
        if amsgrad:
            state["max_exp_avg_sq"] = zeros_like(data)
        return state


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters instead of changing the gradients.

    p = p - lr * weight_decay * p, then Adam's step without weight decay; see `Adam` for the arguments.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, 2019.

    Example:
        >>> import firesteel as torch
        >>> optimizer = torch.optim.AdamW(torch.nn.Linear(2, 2).parameters(), lr=1e-3)
        >>> optimizer.param_groups[0]["weight_decay"]
        0.01
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

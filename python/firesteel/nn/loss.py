"""Losses: how far a prediction is from its target."""

from __future__ import annotations

from firesteel._core import (
    Tensor,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)

from .functional import _legacy_reduction, huber_loss, kl_div
from .module import Module


class _Loss(Module):
    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__()
        self.reduction = _legacy_reduction(size_average, reduce, reduction)


class _WeightedLoss(_Loss):
    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


class CrossEntropyLoss(_WeightedLoss):
    """Returns -log(softmax(input)[target]), the loss of a classifier.

    The mean is weighted by the classes' weights.

    Args:
        weight: float (C,), how much each class counts; None is ones.
        ignore_index: targets with this value do not count.
        size_average, reduce: older ways to say `reduction`.
        reduction: "mean", "sum" or "none".
        label_smoothing: share of the target that is spread evenly over all classes.

    Example:
        >>> import firesteel as torch
        >>> loss = torch.nn.CrossEntropyLoss()
        >>> loss(torch.zeros(1, 2), torch.tensor([1]))
        tensor(0.6931)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_WeightedLoss):
    """Returns -input[target], `input` holding log-probabilities (N, C, ...).

    Args:
        weight: float (C,), how much each class counts; None is ones.
        ignore_index: targets with this value do not count.
        size_average, reduce: older ways to say `reduction`.
        reduction: "mean", "sum" or "none".

    Example:
        >>> import firesteel as torch
        >>> loss = torch.nn.NLLLoss()
        >>> loss(torch.tensor([[-1.0, -2.0]]), torch.tensor([1]))
        tensor(2.)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return nll_loss(
            input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction
        )


class MSELoss(_Loss):
    """Returns (input - target)**2, both of the same shape.

    Args:
        size_average, reduce: older ways to say `reduction`.
        reduction: "mean", "sum" or "none".

    Example:
        >>> import firesteel as torch
        >>> loss = torch.nn.MSELoss()
        >>> loss(torch.zeros(2), torch.tensor([1.0, 3.0]))
        tensor(5.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """Returns abs(input - target), both of the same shape.

    Args:
        size_average, reduce: older ways to say `reduction`.
        reduction: "mean", "sum" or "none".

    Example:
        >>> import firesteel as torch
        >>> loss = torch.nn.L1Loss()
        >>> loss(torch.zeros(2), torch.tensor([1.0, 3.0]))
        tensor(2.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(_Loss):
    """Returns d**2 / (2 * beta) where d = abs(input - target) is below `beta`, else d - beta / 2.

    Args:
        size_average, reduce: older ways to say `reduction`.
        reduction: "mean", "sum" or "none".
        beta: where the parabola ends.

    Example:
        >>> import firesteel as torch
        >>> loss = torch.nn.SmoothL1Loss()
        >>> loss(torch.zeros(2), torch.tensor([1.0, 3.0]))
        tensor(1.5000)
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        beta: float = 1.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(_Loss):
    """Returns d**2 / 2 where d = abs(input - target) is below `delta`, else delta * (d - delta / 2).

    Args:
        reduction: "mean", "sum" or "none".
        delta: where the parabola ends.

    Example:
        >>> import firesteel as torch
        >>> loss = torch.nn.HuberLoss()
        >>> loss(torch.zeros(2), torch.tensor([1.0, 3.0]))
        tensor(1.5000)
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return huber_loss(input, target, self.reduction, self.delta)


class BCELoss(_WeightedLoss):
    """Returns -target * log(input) - (1 - target) * log(1 - input), for probabilities.

    Args:
        weight: how much each element counts.
        size_average, reduce: older ways to say `reduction`.
        reduction: "mean", "sum" or "none".

    Example:
        >>> import firesteel as torch
        >>> loss = torch.nn.BCELoss()
        >>> loss(torch.tensor([0.5]), torch.ones(1))
        tensor(0.6931)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_WeightedLoss):
    """Returns `BCELoss` of sigmoid(input), computed so that large numbers do no harm.

    Args:
        weight: how much each element counts.
        size_average, reduce: older ways to say `reduction`.
        reduction: "mean", "sum" or "none".
        pos_weight: how much targets of 1 count.

    Example:
        >>> import firesteel as torch
        >>> loss = torch.nn.BCEWithLogitsLoss()
        >>> loss(torch.zeros(1), torch.ones(1))
        tensor(0.6931)
    """

    pos_weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(
            input, target, weight=self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class KLDivLoss(_Loss):
    """Returns target * (log(target) - input), `input` holding log-probabilities.

    Args:
        size_average, reduce: older ways to say `reduction`.
        reduction: "mean", "sum", "none" or "batchmean": the sum divided by the batch size.
        log_target: whether the target holds log-probabilities too.

    Example:
        >>> import firesteel as torch
        >>> loss = torch.nn.KLDivLoss(reduction="batchmean")
        >>> loss(torch.zeros(1, 1), torch.ones(1, 1))
        tensor(0.)
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return kl_div(input, target, reduction=self.reduction, log_target=self.log_target)

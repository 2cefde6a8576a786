"""Normalisation over the batch."""

from __future__ import annotations

from typing import Any

from firesteel import _mapping
from firesteel._core import Tensor, int64, ones, tensor, zeros

from . import functional as F, init
from .module import Module
from .parameter import Parameter


class _BatchNorm(Module):
    """What batch norms of any number of dimensions share."""

    _version = 2  # since 2 the state holds num_batches_tracked

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        weight = Parameter(ones(num_features, device=device, dtype=dtype)) if affine else None
        shift = Parameter(zeros(num_features, device=device, dtype=dtype)) if affine and bias else None
        self.register_parameter("weight", weight)
        self.register_parameter("bias", shift)
        track = track_running_stats
        self.register_buffer(
            "running_mean", zeros(num_features, device=device, dtype=dtype) if track else None
        )
        self.register_buffer("running_var", ones(num_features, device=device, dtype=dtype) if track else None)
        self.register_buffer("num_batches_tracked", tensor(0, dtype=int64) if track else None)

    def reset_running_stats(self) -> None:
        """Forgets the means and variances seen so far."""
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Sets the weight to ones, the bias to zeros and forgets the running statistics."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check_input_dim(self, input: Tensor) -> None:
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        momentum = self.momentum
        mean, var = self.running_mean, self.running_var
        count = self.num_batches_tracked if self.training and self.track_running_stats else None
        if count is not None and momentum is None:  # a plain mean over all batches
            momentum = 1.0 / float(count.item() + 1)
        if self.training and not self.track_running_stats:
            mean = var = None
        training = self.training or (mean is None and var is None)
        factor = 0.0 if momentum is None else momentum
        result = F.batch_norm(input, mean, var, self.weight, self.bias, training, factor, self.eps)
        if count is not None:  # not before: a refused batch is none
            _mapping.write(count, may_be_shared=True)
            count.add_(1)
        return result

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        version = local_metadata.get("version")
        if (version is None or version < 2) and self.num_batches_tracked is not None:
            state_dict.setdefault(prefix + "num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


class BatchNorm1d(_BatchNorm):
    """Brings every feature to mean 0 and variance 1 over the batch, then scales and shifts.

    y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias. Training uses the batch's mean and variance and
    moves the running ones towards them; evaluation uses the running ones.

    Args:
        num_features: C of the input (N, C) or (N, C, L).
        eps: keeps the division finite.
        momentum: how far the running values move at every batch; None takes the mean over all batches.
        affine: whether there are weight (ones) and bias (zeros) of shape (C,).
        track_running_stats: whether running values are kept; without, evaluation uses the batch too.
        device: only "cpu" exists.
        dtype: of weight, bias and running values.
        bias: whether there is a bias.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.BatchNorm1d(3)(torch.ones(4, 3)).shape
        torch.Size([4, 3])
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (2, 3):
            raise ValueError(f"expected 2D or 3D input (got {input.ndim}D input)")


class BatchNorm2d(_BatchNorm):
    """Brings every channel to mean 0 and variance 1 over batch and image; see `BatchNorm1d`.

    Args:
        num_features: C of the input (N, C, H, W).
        eps: keeps the division finite.
        momentum: how far the running values move at every batch; None takes the mean over all batches.
        affine: whether there are weight (ones) and bias (zeros) of shape (C,).
        track_running_stats: whether running values are kept; without, evaluation uses the batch too.
        device: only "cpu" exists.
        dtype: of weight, bias and running values.
        bias: whether there is a bias.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.BatchNorm2d(3)(torch.ones(4, 3, 2, 2)).shape
        torch.Size([4, 3, 2, 2])
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim != 4:
            raise ValueError(f"expected 4D input (got {input.ndim}D input)")

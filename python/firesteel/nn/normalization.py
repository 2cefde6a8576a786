"""Normalisation over the last dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from firesteel._core import Tensor, empty, group_norm, layer_norm, rms_norm

from . import init
from .module import Module
from .parameter import Parameter


class LayerNorm(Module):
    """Brings every sample's last dimensions to mean 0 and variance 1, then scales and shifts.

    y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias.

    Args:
        normalized_shape: sizes of the last dimensions, over which mean and variance are taken.
        eps: keeps the division finite.
        elementwise_affine: whether there are weight (ones) and bias (zeros) of shape `normalized_shape`.
        bias: whether there is a bias.
        device: only "cpu" exists.
        dtype: of weight and bias.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.LayerNorm(4)(torch.ones(2, 4))[0]
        tensor([0., 0., 0., 0.], grad_fn=...)
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        for name, wanted in (("weight", elementwise_affine), ("bias", elementwise_affine and bias)):
            self.register_parameter(
                name, Parameter(empty(shape, device=device, dtype=dtype)) if wanted else None
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the weight to ones and the bias to zeros."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class GroupNorm(Module):
    """Brings every group of channels of a sample to mean 0 and variance 1, then scales and shifts channels.

    y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias.

    Args:
        num_groups: how many groups the channels are split into.
        num_channels: C of the input (N, C, *).
        eps: keeps the division finite.
        affine: whether there are weight (ones) and bias (zeros) of shape (C,).
        device: only "cpu" exists.
        dtype: of weight and bias.
        bias: whether there is a bias.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.GroupNorm(3, 6)(torch.ones(2, 6, 4)).shape
        torch.Size([2, 6, 4])
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_channels % num_groups != 0:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            self.register_parameter(
                name, Parameter(empty(num_channels, device=device, dtype=dtype)) if wanted else None
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the weight to ones and the bias to zeros."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Divides every sample's last dimensions by their root mean square, then scales them.

    y = x / sqrt(mean(x**2) + eps) * weight.

    Args:
        normalized_shape: sizes of the last dimensions.
        eps: keeps the division finite; None is the smallest step of the dtype above 1.
        elementwise_affine: whether there is a weight (ones) of shape `normalized_shape`.
        device: only "cpu" exists.
        dtype: of the weight.

    Source: Zhang and Sennrich, Root mean square layer normalization, 2019.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.RMSNorm(2, elementwise_affine=False)(torch.tensor([[3.0, 3.0]]))
        tensor([[1., 1.]])
    """

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        weight = Parameter(empty(shape, device=device, dtype=dtype)) if elementwise_affine else None
        self.register_parameter("weight", weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the weight to ones."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"

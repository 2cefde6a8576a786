"""Normalisation over the last dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from firesteel._core import Tensor, empty, layer_norm

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

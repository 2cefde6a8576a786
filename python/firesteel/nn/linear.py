"""Layers that are a matrix product."""

from __future__ import annotations

import math
from typing import Any

from firesteel._core import Tensor, empty, linear

from . import init
from .functional import bilinear
from .module import Module
from .parameter import Parameter


class Identity(Module):
    """Returns its input; arguments of any kind are accepted and ignored.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Identity(54, unused=True)(torch.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """Multiplies by a trained matrix and adds a trained vector.

    y = x @ weight.T + bias, both drawn uniformly from (-1, 1) / sqrt(in_features).

    Args:
        in_features: last size of the input (*, in_features).
        out_features: last size of the output (*, out_features).
        bias: whether to add a vector.
        device: only "cpu" exists.
        dtype: of weight (out_features, in_features) and bias (out_features,).

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Linear(20, 30)(torch.ones(128, 20)).shape
        torch.Size([128, 30])
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(empty((out_features, in_features), device=device, dtype=dtype))
        bias_data = empty(out_features, device=device, dtype=dtype) if bias else None
        self.register_parameter("bias", None if bias_data is None else Parameter(bias_data))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        init._default_bias_(self.bias, self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Bilinear(Module):
    """Combines two inputs through a trained three-way array.

    y[..., k] = sum over i, j of x1[..., i] * weight[k, i, j] * x2[..., j], plus bias[k].

    Args:
        in1_features: last size of the first input.
        in2_features: last size of the second input; the other sizes equal the first input's.
        out_features: last size of the output.
        bias: whether to add a vector.
        device: only "cpu" exists.
        dtype: of weight (out_features, in1_features, in2_features) and bias (out_features,).

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Bilinear(2, 3, 4)(torch.ones(8, 2), torch.ones(8, 3)).shape
        torch.Size([8, 4])
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if in1_features <= 0:
            raise ValueError(f"in1_features must be > 0, but got {in1_features}")
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        size = (out_features, in1_features, in2_features)
        self.weight = Parameter(empty(size, device=device, dtype=dtype))
        self.register_parameter(
            "bias", Parameter(empty(out_features, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weight and bias anew, uniformly from (-1, 1) / sqrt(in1_features)."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )

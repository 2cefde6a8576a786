"""Activation layers: element-wise functions and softmax."""

from __future__ import annotations

from typing import Any

from firesteel._core import Tensor, full, gelu, log_softmax, relu, sigmoid, silu, softmax, softplus, tanh

from . import functional, init
from .module import Module
from .parameter import Parameter


class _Inplace(Module):
    """What activations share that can change the input itself."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class _AlongDim(Module):
    """What softmax and its relatives share."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class ReLU(_Inplace):
    """Returns max(0, x).

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.ReLU()(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """

    def forward(self, input: Tensor) -> Tensor:
        return input.relu_() if self.inplace else relu(input)


class ReLU6(_Inplace):
    """Returns min(max(0, x), 6).

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.ReLU6()(torch.tensor([-1.0, 8.0]))
        tensor([0., 6.])
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu6(input, self.inplace)


class LeakyReLU(Module):
    """Returns x where positive and negative_slope * x elsewhere.

    Args:
        negative_slope: the slope of the negative part.
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.LeakyReLU(0.5)(torch.tensor([-1.0, 2.0]))
        tensor([-0.5000,  2.0000])
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return functional.leaky_relu(input, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class ELU(Module):
    """Returns x where positive and alpha * (exp(x) - 1) elsewhere.

    Args:
        alpha: minus the value far below zero.
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.ELU()(torch.tensor([0.0, 2.0]))
        tensor([0., 2.])
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return functional.elu(input, self.alpha, self.inplace)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class CELU(Module):
    """Returns x where positive and alpha * (exp(x / alpha) - 1) elsewhere.

    Args:
        alpha: minus the value far below zero.
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.CELU()(torch.tensor([0.0, 2.0]))
        tensor([0., 2.])
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return functional.celu(input, self.alpha, self.inplace)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class SELU(_Inplace):
    """Returns the scaled ELU whose outputs keep mean 0 and variance 1.

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.SELU()(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 1.0507])
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.selu(input, self.inplace)


class GELU(Module):
    """Returns x * Phi(x), Phi being the normal distribution function.

    Args:
        approximate: "none", or "tanh" for an approximation by tanh.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.GELU()(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 0.8413])
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(_Inplace):
    """Returns x * sigmoid(x).

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.SiLU()(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 0.7311])
    """

    def forward(self, input: Tensor) -> Tensor:
        return input.silu_() if self.inplace else silu(input)


class Mish(_Inplace):
    """Returns x * tanh(softplus(x)).

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Mish()(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 0.8651])
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.mish(input, self.inplace)


class Hardswish(_Inplace):
    """Returns x * min(max(0, x + 3), 6) / 6.

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Hardswish()(torch.tensor([0.0, 3.0]))
        tensor([0., 3.])
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.hardswish(input, self.inplace)

    def extra_repr(self) -> str:
        return ""


class Hardsigmoid(_Inplace):
    """Returns min(max(0, x + 3), 6) / 6.

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Hardsigmoid()(torch.tensor([0.0, 3.0]))
        tensor([0.5000, 1.0000])
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.hardsigmoid(input, self.inplace)

    def extra_repr(self) -> str:
        return ""


class Sigmoid(Module):
    """Returns 1 / (1 + exp(-x)).

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Sigmoid()(torch.tensor([0.0]))
        tensor([0.5000])
    """

    def forward(self, input: Tensor) -> Tensor:
        return sigmoid(input)


class Tanh(Module):
    """Returns the hyperbolic tangent.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Tanh()(torch.tensor([0.0]))
        tensor([0.])
    """

    def forward(self, input: Tensor) -> Tensor:
        return tanh(input)


class Softplus(Module):
    """Returns log(1 + exp(beta * x)) / beta, and x where beta * x is above `threshold`.

    Args:
        beta: sharpness of the bend.
        threshold: see above.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Softplus()(torch.tensor([0.0]))
        tensor([0.6931])
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Tensor) -> Tensor:
        return softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Hardtanh(Module):
    """Returns x, limited to [min_val, max_val].

    Args:
        min_val: the lower limit.
        max_val: the upper limit.
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Hardtanh()(torch.tensor([-2.0, 0.5]))
        tensor([-1.0000,  0.5000])
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if min_val >= max_val:
            raise AssertionError(f"max_val must be larger than min_val, got {min_val} and {max_val}")
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return functional.hardtanh(input, self.min_val, self.max_val, self.inplace)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}" + (", inplace=True" if self.inplace else "")


class LogSigmoid(Module):
    """Returns log(1 / (1 + exp(-x))).

    Example:
        >>> import firesteel as torch
        >>> torch.nn.LogSigmoid()(torch.tensor([0.0]))
        tensor([-0.6931])
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.logsigmoid(input)


class Softsign(Module):
    """Returns x / (1 + abs(x)).

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Softsign()(torch.tensor([1.0]))
        tensor([0.5000])
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.softsign(input)


class Tanhshrink(Module):
    """Returns x - tanh(x).

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Tanhshrink()(torch.tensor([0.0]))
        tensor([0.])
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.tanhshrink(input)


class Threshold(Module):
    """Returns x where it is above `threshold`, and `value` elsewhere.

    Args:
        threshold: the limit.
        value: what stands where x is not above it.
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Threshold(1.0, 20.0)(torch.tensor([0.0, 2.0]))
        tensor([20.,  2.])
    """

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold = threshold
        self.value = value
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return functional.threshold(input, self.threshold, self.value, self.inplace)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, value={self.value}" + (", inplace=True" if self.inplace else "")


class Hardshrink(Module):
    """Returns x, and 0 where abs(x) is at most `lambd`.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Hardshrink()(torch.tensor([-1.0, 0.25]))
        tensor([-1.,  0.])
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        return functional.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"


class Softshrink(Module):
    """Returns x moved by `lambd` towards 0, and 0 where abs(x) is at most `lambd`.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Softshrink()(torch.tensor([-1.0, 0.25]))
        tensor([-0.5000,  0.0000])
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        return functional.softshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"


class GLU(Module):
    """Returns the first half of `dim` times the sigmoid of the second half.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.GLU()(torch.tensor([1.0, 0.0]))
        tensor([0.5000])
    """

    dim: int

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return functional.glu(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_AlongDim):
    """Returns exp(x) / sum(exp(x)) along `dim`.

    Args:
        dim: the dimension along which the results add up to one.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Softmax(0)(torch.tensor([1.0, 1.0]))
        tensor([0.5000, 0.5000])
    """

    def forward(self, input: Tensor) -> Tensor:
        return softmax(input, self.dim)


class LogSoftmax(_AlongDim):
    """Returns x - log(sum(exp(x))) along `dim`.

    Args:
        dim: the dimension along which the results add up to one.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.LogSoftmax(0)(torch.tensor([1.0, 1.0]))
        tensor([-0.6931, -0.6931])
    """

    def forward(self, input: Tensor) -> Tensor:
        return log_softmax(input, self.dim)


class Softmin(_AlongDim):
    """Returns exp(-x) / sum(exp(-x)) along `dim`.

    Args:
        dim: the dimension along which the results add up to one.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Softmin(0)(torch.tensor([1.0, 1.0]))
        tensor([0.5000, 0.5000])
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.softmin(input, self.dim)


class PReLU(Module):
    """Returns x where positive and weight * x elsewhere, the weight being trained.

    Args:
        num_parameters: 1, or one weight per channel (dim 1 of the input).
        init: the first value of the weights.
        device: only "cpu" exists.
        dtype: of the weight (num_parameters,).

    Example:
        >>> import firesteel as torch
        >>> torch.nn.PReLU()(torch.tensor([-1.0, 2.0])).detach()
        tensor([-0.2500,  2.0000])
    """

    weight: Parameter

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(full((num_parameters,), float(init), device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Sets the weights to their first value."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return functional.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"

"""Activation layers: element-wise functions and softmax."""

from __future__ import annotations

from typing import Any

from firesteel._core import Tensor, full, gelu, log_softmax, sigmoid, softmax, softplus, tanh

from . import functional
from .functional import relu, silu
from .module import Module
from .parameter import Parameter


class ReLU(Module):
    """Returns max(0, x).

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.ReLU()(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return relu(input, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class ReLU6(Module):
    """Returns min(max(0, x), 6).

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.ReLU6()(torch.tensor([-1.0, 8.0]))
        tensor([0., 6.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu6(input, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


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


class SELU(Module):
    """Returns the scaled ELU whose outputs keep mean 0 and variance 1.

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.SELU()(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 1.0507])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return functional.selu(input, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


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


class SiLU(Module):
    """Returns x * sigmoid(x).

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.SiLU()(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 0.7311])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return silu(input, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Mish(Module):
    """Returns x * tanh(softplus(x)).

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Mish()(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 0.8651])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return functional.mish(input, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Hardswish(Module):
    """Returns x * min(max(0, x + 3), 6) / 6.

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Hardswish()(torch.tensor([0.0, 3.0]))
        tensor([0., 3.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return functional.hardswish(input, self.inplace)

    def extra_repr(self) -> str:
        return ""


class Hardsigmoid(Module):
    """Returns min(max(0, x + 3), 6) / 6.

    Args:
        inplace: whether to change the input itself.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Hardsigmoid()(torch.tensor([0.0, 3.0]))
        tensor([0.5000, 1.0000])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

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


def _default_dim(dim: int | None, input: Tensor) -> int:
    """Returns the dimension that PyTorch takes when none is given."""
    return dim if dim is not None else 0 if input.ndim in (0, 1, 3) else 1


class Softmax(Module):
    """Returns exp(x) / sum(exp(x)) along `dim`.

    Args:
        dim: the dimension along which the results add up to one.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Softmax(0)(torch.tensor([1.0, 1.0]))
        tensor([0.5000, 0.5000])
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return softmax(input, _default_dim(self.dim, input))

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """Returns x - log(sum(exp(x))) along `dim`.

    Args:
        dim: the dimension along which the results add up to one.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.LogSoftmax(0)(torch.tensor([1.0, 1.0]))
        tensor([-0.6931, -0.6931])
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return log_softmax(input, _default_dim(self.dim, input))

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmin(Module):
    """Returns exp(-x) / sum(exp(-x)) along `dim`.

    Args:
        dim: the dimension along which the results add up to one.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Softmin(0)(torch.tensor([1.0, 1.0]))
        tensor([0.5000, 0.5000])
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return functional.softmin(input, _default_dim(self.dim, input))

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


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

    def forward(self, input: Tensor) -> Tensor:
        return functional.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"

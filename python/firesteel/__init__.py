"""PyTorch's API for training neural networks on CPUs, on a small Rust core.

import firesteel as torch
"""

from __future__ import annotations

import builtins
import importlib
from typing import TYPE_CHECKING

from firesteel import _core, _tensor  # noqa: F401  attaches methods to Tensor
from firesteel._core import *  # noqa: F403
from firesteel._types import Size as Size, device as device, finfo as finfo, iinfo as iinfo
from firesteel.autograd.grad_mode import (
    enable_grad as enable_grad,
    inference_mode as inference_mode,
    no_grad as no_grad,
    set_grad_enabled as set_grad_enabled,
)

if TYPE_CHECKING:
    from firesteel import (
        autograd as autograd,
        cuda as cuda,
        datasets as datasets,
        nn as nn,
        optim as optim,
        serialization as serialization,
        utils as utils,
    )
    from firesteel._tensor_str import set_printoptions as set_printoptions
    from firesteel.nn.functional import cosine_similarity as cosine_similarity
    from firesteel.serialization import load as load, save as save

__version__ = _core.__version__

strided = "strided"
contiguous_format = "contiguous_format"
preserve_format = "preserve_format"

# Loaded when first used: most programs need few of them, and `import firesteel` stays fast.
_SUBPACKAGES = frozenset({"autograd", "cuda", "datasets", "nn", "optim", "serialization", "utils"})
_LAZY_NAMES = {
    "cosine_similarity": "firesteel.nn.functional",
    "load": "firesteel.serialization",
    "save": "firesteel.serialization",
    "set_printoptions": "firesteel._tensor_str",
}


if not TYPE_CHECKING:  # type checkers read the imports above, and so notice names that do not exist

    def __getattr__(name: str) -> object:
        if name in _SUBPACKAGES:
            return importlib.import_module(f"firesteel.{name}")
        if name in _LAZY_NAMES:
            value = getattr(importlib.import_module(_LAZY_NAMES[name]), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'firesteel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES, *_LAZY_NAMES})


def is_tensor(obj: object) -> builtins.bool:
    """Whether `obj` is a `Tensor`."""
    return isinstance(obj, _core.Tensor)


def typename(obj: object) -> str:
    """Name of an object's type."""
    return f"{type(obj).__module__}.{type(obj).__qualname__}"


def get_default_dtype() -> _core.dtype:
    """The dtype of new tensors made from Python floats: float32."""
    return _core.float32


def allclose(
    input: _core.Tensor,
    other: _core.Tensor,
    rtol: builtins.float = 1e-05,
    atol: builtins.float = 1e-08,
    equal_nan: builtins.bool = False,
) -> builtins.bool:
    """Whether all elements satisfy `|input - other| <= atol + rtol * |other|`.

    Args:
        input: a tensor.
        other: a tensor of the same dtype, broadcastable.
        rtol: tolerance relative to `other`.
        atol: absolute tolerance.
        equal_nan: whether two nans are close.

    Example:
        >>> import firesteel as torch
        >>> torch.allclose(torch.tensor([1.0]), torch.tensor([1.0 + 1e-7]))
        True
    """
    return builtins.bool(isclose(input, other, rtol, atol, equal_nan).all())


def isclose(
    input: _core.Tensor,
    other: _core.Tensor,
    rtol: builtins.float = 1e-05,
    atol: builtins.float = 1e-08,
    equal_nan: builtins.bool = False,
) -> _core.Tensor:
    """As `allclose`, for each element."""
    if input.dtype != other.dtype:
        raise RuntimeError(f"isclose: {input.dtype} did not match {other.dtype}; convert one with .to(dtype)")
    input, other = input.detach(), other.detach()
    close = input == other
    if input.is_floating_point():
        within = (input - other).abs() <= atol + rtol * other.abs()
        close = close | (within & _core.isfinite(input) & _core.isfinite(other))
        if equal_nan:
            close = close | (_core.isnan(input) & _core.isnan(other))
    else:
        close = close | ((input - other).abs() <= atol + rtol * other.abs())
    return close


def numel(input: _core.Tensor) -> builtins.int:
    """Number of elements."""
    return input.numel()


def is_floating_point(input: _core.Tensor) -> builtins.bool:
    """Whether elements are floating-point numbers."""
    return input.is_floating_point()


def promote_types(type1: _core.dtype, type2: _core.dtype) -> _core.dtype:
    """The smallest dtype that both convert to."""
    return (_core.empty(1, dtype=type1) + _core.empty(1, dtype=type2)).dtype


def can_cast(from_: _core.dtype, to: _core.dtype) -> builtins.bool:
    """Whether a conversion keeps the kind of number: not from float to int, or from number to bool."""

    def kind(dtype: _core.dtype) -> builtins.int:
        return 2 if dtype.is_floating_point else builtins.int(dtype is not _core.bool)

    return kind(from_) <= kind(to)


# Other spellings of the same functions.
absolute = _core.abs
concatenate = _core.concat
divide = _core.div
greater = _core.gt
greater_equal = _core.ge
less = _core.lt
less_equal = _core.le
negative = _core.neg
not_equal = _core.ne
subtract = _core.sub

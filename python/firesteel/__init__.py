"""PyTorch's API for training neural networks on CPUs, on a small Rust core.

import firesteel as torch
"""

from __future__ import annotations

import builtins
import importlib

from firesteel import _core, _tensor
from firesteel._core import *  # noqa: F403
from firesteel._tensor import allclose as allclose, equal as equal, isclose as isclose, round as round
from firesteel._types import (
    DeviceError as DeviceError,
    Size as Size,
    device as device,
    finfo as finfo,
    iinfo as iinfo,
)
from firesteel.autograd.grad_mode import (
    enable_grad as enable_grad,
    inference_mode as inference_mode,
    no_grad as no_grad,
    set_grad_enabled as set_grad_enabled,
)

# Type checkers take it as true; importing typing would be half of the time that `import firesteel` takes.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firesteel import (
        autograd as autograd,
        backends as backends,
        cuda as cuda,
        datasets as datasets,
        func as func,
        graph as graph,
        nn as nn,
        optim as optim,
        serialization as serialization,
        utils as utils,
    )
    from firesteel._tensor_str import set_printoptions as set_printoptions
    from firesteel.func import vmap as vmap
    from firesteel.nn.functional import (
        cosine_similarity as cosine_similarity,
    )
    from firesteel.serialization import load as load, save as save

__version__ = _core.__version__

inf = builtins.float("inf")
nan = builtins.float("nan")
pi = 3.141592653589793
e = 2.718281828459045
newaxis = None

strided = "strided"

# Loaded when first used: most programs need few of them, and `import firesteel` stays fast.
_SUBPACKAGES = frozenset(
    {"autograd", "backends", "cuda", "datasets", "func", "graph", "nn", "optim", "serialization", "utils"}
)
_LAZY_NAMES = {
    "cosine_similarity": "firesteel.nn.functional",
    "is_anomaly_check_nan_enabled": "firesteel.autograd.anomaly_mode",
    "is_anomaly_enabled": "firesteel.autograd.anomaly_mode",
    "load": "firesteel.serialization",
    "save": "firesteel.serialization",
    "set_anomaly_enabled": "firesteel.autograd.anomaly_mode",
    "set_printoptions": "firesteel._tensor_str",
    "vmap": "firesteel.func",
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
    """Name of an object's type: as PyTorch names it for tensors, without a module for builtins."""
    if isinstance(obj, _core.Tensor):
        return obj.type()
    cls = obj if isinstance(obj, type) else type(obj)
    name = cls.__qualname__
    return name if cls.__module__ == "builtins" else f"{cls.__module__}.{name}"


def result_type(
    tensor1: _core.Tensor | builtins.float, tensor2: _core.Tensor | builtins.float
) -> _core.dtype:
    """The dtype of a sum of two tensors or numbers."""

    def sample(given: _core.Tensor | builtins.float) -> _core.Tensor | builtins.float:
        # One element is enough to ask; a 0-d tensor must stay one, it weighs less than others.
        if isinstance(given, _core.Tensor):
            return _core.zeros(1, dtype=given.dtype) if given.ndim else given.detach()
        return given

    left, right = sample(tensor1), sample(tensor2)
    if not isinstance(left, _core.Tensor):
        left, right = right, left
    if not isinstance(left, _core.Tensor):
        left = _core.tensor(left)
    return (left * right).dtype


def set_default_dtype(d: _core.dtype) -> None:
    """Accepts float32, the only default there is.

    Raises:
        TypeError: for any other dtype.
    """
    if d is not _core.float32:
        raise TypeError(f"set_default_dtype: the default is float32; pass dtype={d} where tensors are made")


def get_default_dtype() -> _core.dtype:
    """The dtype of new tensors made from Python floats: float32."""
    return _core.float32


def numel(input: _core.Tensor) -> builtins.int:
    """Number of elements."""
    _tensor.expect_tensors("numel", input=input)
    return input.numel()


def is_inference(input: _core.Tensor) -> builtins.bool:
    """Whether the memory was made in `inference_mode`."""
    _tensor.expect_tensors("is_inference", input=input)
    return input.is_inference()


def is_floating_point(input: _core.Tensor) -> builtins.bool:
    """Whether elements are floating-point numbers."""
    _tensor.expect_tensors("is_floating_point", input=input)
    return input.is_floating_point()


def _expect_dtypes(op: str, *given: object) -> None:
    for dtype in given:
        if not isinstance(dtype, _core.dtype):
            raise TypeError(f"{op}(): expected a dtype such as firesteel.float32, not {type(dtype).__name__}")


def promote_types(type1: _core.dtype, type2: _core.dtype) -> _core.dtype:
    """The smallest dtype that both convert to."""
    _expect_dtypes("promote_types", type1, type2)
    return (_core.empty(1, dtype=type1) + _core.empty(1, dtype=type2)).dtype


def can_cast(from_: _core.dtype, to: _core.dtype) -> builtins.bool:
    """Whether a conversion keeps the kind of number: not from float to int, or from number to bool."""
    _expect_dtypes("can_cast", from_, to)

    def kind(dtype: _core.dtype) -> builtins.int:
        return 2 if dtype.is_floating_point else builtins.int(dtype is not _core.bool)

    return kind(from_) <= kind(to)


# Other spellings of the same functions.
concatenate = _core.concat
if TYPE_CHECKING:
    absolute = _core.abs
    divide = _core.div
    greater = _core.gt
    greater_equal = _core.ge
    less = _core.lt
    less_equal = _core.le
    moveaxis = _core.movedim
    negative = _core.neg
    not_equal = _core.ne
    subtract = _core.sub
    swapdims = _core.transpose
for _alias, _name in _tensor.ALIASES.items():
    globals()[_alias] = getattr(_core, _name)
del _alias, _name

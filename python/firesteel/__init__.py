"""PyTorch's API for training neural networks on CPUs, on a small Rust core.

    import firesteel as torch
"""

from __future__ import annotations

import importlib

from firesteel import _core
from firesteel._core import *  # noqa: F403
from firesteel._types import Size, device
from firesteel.autograd.grad_mode import enable_grad, inference_mode, no_grad, set_grad_enabled

__version__ = _core.__version__

strided = "strided"
contiguous_format = "contiguous_format"
preserve_format = "preserve_format"

# Loaded when first used: most programs need few of them, and `import firesteel` stays fast.
_SUBPACKAGES = frozenset({"autograd", "cuda", "datasets", "nn", "optim", "serialization", "utils"})
_LAZY_NAMES = {
    "load": "firesteel.serialization",
    "save": "firesteel.serialization",
    "set_printoptions": "firesteel._tensor_str",
}


def __getattr__(name: str):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"firesteel.{name}")
    if name in _LAZY_NAMES:
        value = getattr(importlib.import_module(_LAZY_NAMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'firesteel' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_SUBPACKAGES, *_LAZY_NAMES})


def is_tensor(obj: object) -> bool:
    """Whether `obj` is a `Tensor`."""
    return isinstance(obj, _core.Tensor)


def typename(obj: object) -> str:
    """Name of an object's type."""
    return f"{type(obj).__module__}.{type(obj).__qualname__}"

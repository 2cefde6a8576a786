"""Named results of functions that return several tensors, as in `torch.return_types`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from firesteel._core import Tensor


def _lines(result: Any) -> str:
    """One field per line, as PyTorch prints them."""
    fields = ",\n".join(f"{name}={value!r}" for name, value in zip(result._fields, result, strict=True))
    return f"torch.return_types.{type(result).__name__}(\n{fields})"


class _Located(NamedTuple):
    values: Tensor
    indices: Tensor

    def __repr__(self) -> str:
        return _lines(self)


class max(_Located):
    """The largest elements along a dim, and their indices."""

    __slots__ = ()


class min(_Located):
    """The smallest elements along a dim, and their indices."""

    __slots__ = ()


class sort(_Located):
    """The elements in order along a dim, and their indices."""

    __slots__ = ()


class topk(_Located):
    """The k largest or smallest elements along a dim, and their indices."""

    __slots__ = ()

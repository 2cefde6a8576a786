"""Methods of `Tensor` that need no speed: copying, pickling, types by name."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from firesteel import _core
from firesteel._core import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _rebuild(
    cls: type[Tensor], data: bytes, dtype: str, shape: tuple[int, ...], requires_grad: bool
) -> Tensor:
    """A tensor from its pickled bytes."""
    kind = getattr(_core, dtype)
    flat = _core.frombuffer(bytearray(data), dtype=kind).clone() if data else _core.empty(0, dtype=kind)
    tensor = flat.reshape(shape)
    if cls is Tensor:
        return tensor.requires_grad_(requires_grad)
    return Tensor._make_subclass(cls, tensor, requires_grad)


def _reduce_ex(self: Tensor, protocol: int) -> tuple[Any, ...]:
    """Pickles the elements; history is not kept."""
    data = self.detach().contiguous()
    dtype = str(self.dtype).removeprefix("torch.")
    return (
        _rebuild,
        (type(self), data._bytes(), dtype, tuple(self.shape), self.requires_grad),
        self.__dict__ or None,
    )


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    """A copy with memory of its own; only leaves can be copied."""
    known: Tensor | None = memo.get(id(self))
    if known is not None:
        return known
    if not self.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the "
            "moment; use .detach().clone()"
        )
    data = self.detach().clone()
    if type(self) is Tensor:
        copied = data.requires_grad_(self.requires_grad)
    else:
        copied = Tensor._make_subclass(type(self), data, self.requires_grad)
    memo[id(self)] = copied
    if self.grad is not None:
        copied.grad = self.grad.detach().clone()
    return copied


def _type(self: Tensor, dtype: _core.dtype | None = None, non_blocking: bool = False) -> str | Tensor:
    """The type's name, or this tensor as another dtype."""
    if dtype is None:
        names = {
            "float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16",
            "int64": "Long", "int32": "Int", "uint8": "Byte", "bool": "Bool",
        }  # fmt: skip
        return f"torch.{names[str(self.dtype).removeprefix('torch.')]}Tensor"
    return self.to(dtype)


def _setstate(self: Tensor, state: Mapping[str, Any]) -> None:
    self.__dict__.update(state)


def _inplace(name: str) -> Callable[..., Tensor]:
    """The in-place twin of a method that has none of its own: computes, then overwrites."""
    method = getattr(Tensor, name)

    def twin(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.copy_(method(self, *args, **kwargs))

    functools.update_wrapper(twin, method, (), ())  # shows the method's arguments, and takes no time
    twin.__name__ = f"{name}_"
    twin.__qualname__ = f"Tensor.{name}_"
    twin.__doc__ = f"In-place `{name}`."
    return twin


for _name in ("eq", "ge", "gt", "le", "lt", "ne", "tril", "triu"):
    setattr(Tensor, f"{_name}_", _inplace(_name))

# Other spellings of the same methods.
for _alias, _name in {
    "absolute": "abs",
    "divide": "div",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "negative": "neg",
    "not_equal": "ne",
    "subtract": "sub",
}.items():
    setattr(Tensor, _alias, getattr(Tensor, _name))
    if hasattr(Tensor, f"{_name}_"):
        setattr(Tensor, f"{_alias}_", getattr(Tensor, f"{_name}_"))


def _allclose(
    self: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Whether all elements are close to `other`'s: see `firesteel.allclose`."""
    import firesteel

    return firesteel.allclose(self, other, rtol, atol, equal_nan)


def _isclose(
    self: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Tensor:
    """Which elements are close to `other`'s: see `firesteel.isclose`."""
    import firesteel

    return firesteel.isclose(self, other, rtol, atol, equal_nan)


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and elements."""
    return input.shape == other.shape and bool((input == other).all())


def _equal(self: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and elements."""
    return equal(self, other)


_round = Tensor.round


def _round_to(self: Tensor, *, decimals: int = 0) -> Tensor:
    """round(input, *, decimals=0) -> Tensor: nearest number with that many decimals, halves to even.

    Args:
        decimals: digits kept after the point; negative counts to the left of it.
    """
    if decimals == 0:
        return _round(self)
    scale = 10.0 ** abs(decimals)
    return _round(self * scale) / scale if decimals > 0 else _round(self / scale) * scale


for _name, _method in {
    "__deepcopy__": _deepcopy,
    "__reduce_ex__": _reduce_ex,
    "__setstate__": _setstate,
    "allclose": _allclose,
    "equal": _equal,
    "isclose": _isclose,
    "round": _round_to,
    "type": _type,
}.items():
    setattr(Tensor, _name, _method)

# The core's own functions of these names can do less.
for _name, _function in {"equal": equal, "round": _round_to}.items():
    setattr(_core, _name, _function)

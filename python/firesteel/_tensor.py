"""Methods of `Tensor` that need no speed: copying, pickling, types by name."""

from __future__ import annotations

import copy
import copyreg
import functools

from firesteel import _core
from firesteel._as_one import as_one
from firesteel._core import Generator, Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from numpy.typing import NDArray


def _rebuild(
    cls: type[Tensor],
    data: bytes,
    dtype: str,
    shape: tuple[int, ...],
    requires_grad: bool,
    order: tuple[int, ...] | None = None,
) -> Tensor:
    """A tensor from its pickled bytes, whose dims lie in memory in `order`."""
    kind = getattr(_core, dtype)
    flat = _core.frombuffer(bytearray(data), dtype=kind).clone() if data else _core.empty(0, dtype=kind)
    tensor = flat.reshape(shape)
    if order is not None:
        tensor = tensor.permute(sorted(range(len(order)), key=order.__getitem__))
    tensor = tensor.detach()  # no view of the bytes
    if cls is Tensor:
        return tensor.requires_grad_(requires_grad)
    return Tensor._make_subclass(cls, tensor, requires_grad)


def _reduce_ex(self: Tensor, protocol: int) -> tuple[Any, ...]:
    """Pickles the elements; history is not kept."""
    data, order = self.detach(), None
    if not data.is_contiguous():
        steps = data.stride()
        by_step = sorted(range(data.ndim), key=lambda dim: -steps[dim])
        if data.permute(by_step).is_contiguous():  # a transposed matrix comes back as one
            data, order = data.permute(by_step), tuple(by_step)
    dtype = str(self.dtype).removeprefix("torch.")
    content = (type(self), data.contiguous()._bytes(), dtype, tuple(data.shape), self.requires_grad)
    return _rebuild, content if order is None else (*content, order), self.__dict__ or None


def _array_wrap(
    self: Tensor, array: NDArray[Any], context: object = None, return_scalar: bool = False
) -> Tensor:
    """The tensor that NumPy's functions of tensors give, `numpy.exp(x)`: over the memory of their result."""
    return _core.from_numpy(array)


def _copy(self: Tensor) -> Tensor:
    """A tensor of its own that shares memory."""
    if type(self) is Tensor:
        copied = self.detach()
    else:
        copied = Tensor._make_subclass(type(self), self.detach(), False)
    copied.requires_grad_(self.requires_grad)
    copied.__dict__.update(self.__dict__)
    return copied


# Where `deepcopy`'s memo holds the copies of memories; its other keys are ids, which are ints.
_MEMORIES = "firesteel memories"


def _deepcopy(self: Tensor, memo: dict[Any, Any]) -> Tensor:
    """A copy whose memory no original shares; only leaves can be copied."""
    known: Tensor | None = memo.get(id(self))
    if known is not None:
        return known
    if not self.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the "
            "moment; use .detach().clone()"
        )
    # Views of one memory become views of one copy of all of it. The original stays alive with the copy, or
    # another tensor could take its address.
    memories = memo.setdefault(_MEMORIES, {})
    key = self._memory_key()
    if key not in memories:
        memories[key] = (self._memory_copy(), self)
    data = self._in_memory_of(memories[key][0])
    if type(self) is Tensor:
        copied = data.requires_grad_(self.requires_grad)
    else:
        copied = Tensor._make_subclass(type(self), data, self.requires_grad)
    memo[id(self)] = copied
    if self.grad is not None:
        copied.grad = _deepcopy(self.grad, memo) if self.grad.is_leaf else self.grad.detach().clone()
    copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
    return copied


def clear_gradient(parameter: Tensor) -> None:
    """Fills a gradient with zeros and forgets its history; without one it stays the same object."""
    gradient = parameter.grad
    if gradient is None:
        return
    if gradient.grad_fn is None:
        gradient.requires_grad_(False).zero_()
    else:
        parameter.grad = gradient.detach().zero_()


def _type(self: Tensor, dtype: _core.dtype | str | None = None, non_blocking: bool = False) -> str | Tensor:
    """The type's name, or this tensor as another dtype."""
    if dtype is None:
        return f"torch.{_TYPE_NAMES[str(self.dtype).removeprefix('torch.')]}Tensor"
    if isinstance(dtype, str):
        for name, kind in _TYPE_NAMES.items():
            if dtype == f"torch.{kind}Tensor":
                return self.to(getattr(_core, name))
        raise ValueError(f"type: invalid type: {dtype!r}; use a dtype such as firesteel.float32")
    if not isinstance(dtype, _core.dtype):
        raise TypeError(f"type: dtype must be a dtype or its name as a str, not {dtype!r}")
    return self.to(dtype)


_TYPE_NAMES = {
    "float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16",
    "int64": "Long", "int32": "Int", "uint8": "Byte", "bool": "Bool",
}  # fmt: skip


def _cuda(
    self: Tensor, device: object = None, non_blocking: bool = False, memory_format: object = None
) -> Tensor:
    """Raises: tensors are on the CPU.

    Raises:
        DeviceError: always.
    """
    return self.to("cuda")


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

# Other spellings of the same methods, and of the functions of the module.
ALIASES = {
    "absolute": "abs",
    "divide": "div",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "moveaxis": "movedim",
    "negative": "neg",
    "not_equal": "ne",
    "subtract": "sub",
    "swapdims": "transpose",
}
for _alias, _name in ALIASES.items():
    setattr(Tensor, _alias, getattr(Tensor, _name))
    if hasattr(Tensor, f"{_name}_"):
        setattr(Tensor, f"{_alias}_", getattr(Tensor, f"{_name}_"))


def expect_tensors(op: str, **given: object) -> None:
    """Raises a TypeError, as PyTorch does, for the first argument that is no tensor."""
    for name, value in given.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{op}(): argument '{name}' must be Tensor, not {type(value).__name__}")


def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Tensor:
    """As `allclose`, for each element."""
    expect_tensors("isclose", input=input, other=other)
    if input.dtype != other.dtype:
        raise RuntimeError(f"isclose: {input.dtype} did not match {other.dtype}; convert one with .to(dtype)")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not value >= 0:
            raise RuntimeError(f"isclose: {name} must be greater than or equal to zero, but got {value}")
    input, other = input.detach(), other.detach()
    close = input == other
    if input.dtype is _core.bool:
        return close
    if not input.is_floating_point():
        return close | _are_within(input, other, rtol, atol)
    close = close | (_are_within(input, other, rtol, atol) & _core.isfinite(input) & _core.isfinite(other))
    if equal_nan:
        close = close | (_core.isnan(input) & _core.isnan(other))
    return close


@as_one
def _are_within(input: Tensor, other: Tensor, rtol: float, atol: float) -> Tensor:
    return (input - other).abs() <= atol + rtol * other.abs()


def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
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
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and elements."""
    expect_tensors("equal", input=input, other=other)
    return input.shape == other.shape and bool((input == other).all())


_round = Tensor.round


def _round_to(self: Tensor, *, decimals: int = 0) -> Tensor:
    """round(*, decimals=0) -> Tensor: nearest number with that many decimals, halves to even.

    Args:
        decimals: digits kept after the point; negative counts to the left of it.
    """
    if decimals == 0:
        return _round(self)
    if not self.is_floating_point():
        raise RuntimeError(
            f"round: decimals={decimals} is not implemented for {self.dtype}; convert with .float()"
        )
    scale = 10.0 ** abs(decimals)
    return _round(self * scale) / scale if decimals > 0 else _round(self / scale) * scale


def round(input: Tensor, *, decimals: int = 0, out: Tensor | None = None) -> Tensor:
    """round(input, *, decimals=0, out=None) -> Tensor: nearest number with so many decimals, halves to even.

    Args:
        decimals: digits kept after the point; negative counts to the left of it.
        out: where the result is written.
    """
    result = _round_to(input, decimals=decimals)
    return result if out is None else _core._write_out("round", result, out)


def _rebuild_generator(state: Tensor) -> Generator:
    generator = Generator()
    generator.set_state(state)
    return generator


def _reduce_generator(self: Generator) -> tuple[Any, ...]:
    return _rebuild_generator, (self.get_state(),)


for _name, _method in {
    "__array_wrap__": _array_wrap,
    "__copy__": _copy,
    "__deepcopy__": _deepcopy,
    "__reduce_ex__": _reduce_ex,
    "__setstate__": _setstate,
    "allclose": allclose,
    "cuda": _cuda,
    "equal": equal,
    "isclose": isclose,
    "round": _round_to,
    "type": _type,
}.items():
    setattr(Tensor, _name, _method)

copyreg.pickle(Generator, _reduce_generator)

# The core's own functions of these names can do less.
for _name, _function in {"equal": equal, "round": round}.items():
    setattr(_core, _name, _function)

"""Methods of `Tensor` that need no speed: copying, pickling, types by name."""

from __future__ import annotations

from firesteel import _core
from firesteel._core import Tensor


def _rebuild(cls: type, data: bytes, dtype: str, shape: tuple[int, ...], requires_grad: bool) -> Tensor:
    """A tensor from its pickled bytes."""
    kind = getattr(_core, dtype)
    flat = _core.frombuffer(bytearray(data), dtype=kind).clone() if data else _core.empty(0, dtype=kind)
    tensor = flat.reshape(shape)
    if cls is Tensor:
        return tensor.requires_grad_(requires_grad)
    return Tensor._make_subclass(cls, tensor, requires_grad)


def _reduce_ex(self: Tensor, protocol: int):
    """Pickles the elements; history is not kept."""
    data = self.detach().contiguous()
    dtype = str(self.dtype).removeprefix("torch.")
    return (
        _rebuild,
        (type(self), data._bytes(), dtype, tuple(self.shape), self.requires_grad),
        self.__dict__ or None,
    )


def _deepcopy(self: Tensor, memo: dict) -> Tensor:
    """A copy with memory of its own; only leaves can be copied."""
    if id(self) in memo:
        return memo[id(self)]
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


def _type(self: Tensor, dtype=None, non_blocking: bool = False):
    """The type's name, or this tensor as another dtype."""
    if dtype is None:
        names = {
            "float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16",
            "int64": "Long", "int32": "Int", "uint8": "Byte", "bool": "Bool",
        }  # fmt: skip
        return f"torch.{names[str(self.dtype).removeprefix('torch.')]}Tensor"
    return self.to(dtype)


def _setstate(self: Tensor, state: dict) -> None:
    self.__dict__.update(state)


Tensor.__reduce_ex__ = _reduce_ex
Tensor.__deepcopy__ = _deepcopy
Tensor.__setstate__ = _setstate
Tensor.type = _type

"""Tensors that a module knows: parameters, which are trained, and buffers, which are not."""

from __future__ import annotations

import copy
from typing import Any

from firesteel._core import Tensor, empty


def _rebuild_parameter(data: Tensor, requires_grad: bool) -> Parameter:
    return Parameter(data, requires_grad)


def _rebuild_buffer(data: Tensor, persistent: bool) -> Buffer:
    return Buffer(data, persistent=persistent)


class Parameter(Tensor):
    """A tensor that is trained: assigned to a module's attribute, it joins `module.parameters()`.

    The parameter shares its storage with `data` and is a new leaf of the graph.

    Args:
        data: the values, of any shape, float unless `requires_grad` is False; None makes an empty tensor.
        requires_grad: whether gradients are computed for it.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Parameter(torch.ones(2))
        Parameter containing:
        tensor([1., 1.], requires_grad=True)
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is not None and not isinstance(data, Tensor):
            raise TypeError(
                f"Parameter: data must be a Tensor, not {type(data).__name__}; make it one with "
                "torch.tensor(data)"
            )
        return Tensor._make_subclass(cls, empty(0) if data is None else data, requires_grad)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __repr__(self, **kwargs: Any) -> str:
        return "Parameter containing:\n" + super().__repr__(**kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        result: Parameter | None = memo.get(id(self))
        if result is not None:
            return result
        result = type(self)(self.data.clone(), self.requires_grad)
        memo[id(self)] = result
        result.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return result

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _rebuild_parameter, (self.data, self.requires_grad), self.__dict__ or None


class Buffer(Tensor):
    """A tensor that belongs to a module's state but is not trained, such as a running mean.

    Args:
        data: the values, of any shape and dtype; None makes an empty tensor.
        persistent: whether the buffer is part of the module's `state_dict`.

    Example:
        >>> import firesteel as torch
        >>> module = torch.nn.Module()
        >>> module.total = torch.nn.Buffer(torch.zeros(2))
        >>> list(module.state_dict())
        ['total']
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        if data is None:
            data = empty(0)
        buffer = Tensor._make_subclass(cls, data, data.requires_grad)
        buffer.persistent = persistent
        return buffer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Buffer:
        result: Buffer | None = memo.get(id(self))
        if result is not None:
            return result
        result = type(self)(self.data.clone(), persistent=self.persistent)
        memo[id(self)] = result
        result.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return result

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _rebuild_buffer, (self.data, self.persistent), self.__dict__ or None

"""`Variable`, the former name of a tensor with a history."""

from __future__ import annotations

from typing import Any

from firesteel._core import Tensor, tensor

__all__ = ["Variable", "VariableMeta"]


class VariableMeta(type):
    """Makes every tensor an instance of `Variable`."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=VariableMeta):
    """For old programs: gives a tensor, and every tensor is an instance.

    Args:
        data: a tensor, whose data the new one shares; default: an empty one.
        requires_grad: whether gradients are to be computed for it.

    Raises:
        TypeError: if `data` is no tensor.
        RuntimeError: if gradients are asked for of a tensor of integers.

    Example:
        >>> import firesteel as torch
        >>> x = torch.autograd.Variable(torch.ones(2), requires_grad=True)
        >>> x, isinstance(x, torch.autograd.Variable)
        (tensor([1., 1.], requires_grad=True), True)
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = False) -> Any:
        """A tensor, not an instance of this class."""
        if not isinstance(data, Tensor | None):
            raise TypeError(
                f"Variable data has to be a tensor, but got {type(data).__name__}; make it one with "
                "torch.tensor"
            )
        made = tensor([]) if data is None else data.detach()
        return made.requires_grad_(requires_grad)

"""Writes to tensors that a graph has saved: allowed at the price of copies, or counted by hand."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterable, Iterator

from firesteel import _core
from firesteel._core import Tensor
from firesteel.autograd._saved_hooks import saved_tensors_hooks


class _Copy:
    """What the graph keeps instead of a tensor."""

    __slots__ = ("__weakref__", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor: Tensor | None = tensor


def _unpack(copy: _Copy) -> Tensor:
    if copy.tensor is None:
        raise AssertionError(
            "Trying to backward outside of the 'allow_mutation_on_saved_tensors' context in which the graph "
            "was originally recorded; call backward within the block"
        )
    return copy.tensor


class _AllowMutationOnSavedContext:
    """The copies that were made in one block, as long as a graph keeps them."""

    def __init__(self) -> None:
        self._copies: weakref.WeakSet[_Copy] = weakref.WeakSet()

    def pack(self, tensor: Tensor) -> _Copy:
        """What the graph keeps of a tensor that is saved: a copy, for its address may be another's later."""
        copy = _Copy(tensor.clone())
        self._copies.add(copy)
        return copy

    def clear(self) -> None:
        """Frees the copies: a backward pass through what was recorded here is an error then."""
        for copy in self._copies:
            copy.tensor = None
        self._copies.clear()


class _OfThread(threading.local):
    inside = False


_of_thread = _OfThread()


@contextlib.contextmanager
def allow_mutation_on_saved_tensors() -> Iterator[_AllowMutationOnSavedContext]:
    """A block in which tensors that operations save for backward may be changed in place.

    Each tensor is copied when it is saved, so that backward finds it as it was. PyTorch copies it when it is
    changed. Both passes must be run in the block.

    Returns:
        A context manager that gives an object whose `clear()` frees the copies; leaving the block does, too.

    Raises:
        RuntimeError: on entering, within another such block.
        AssertionError: from a backward pass outside of the block, through what was recorded in it.

    Example:
        >>> import firesteel as torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> with torch.autograd.graph.allow_mutation_on_saved_tensors():
        ...     y = x.clone()
        ...     loss = (y**2).sum()
        ...     _ = y.zero_()
        ...     loss.backward()
        >>> x.grad
        tensor([2., 4.])
    """
    if _of_thread.inside:
        raise RuntimeError(
            "allow_mutation_on_saved_tensors contexts cannot be nested: leave the outer block first"
        )
    context = _AllowMutationOnSavedContext()
    _of_thread.inside = True
    try:
        with saved_tensors_hooks(context.pack, _unpack):
            yield context
    finally:
        _of_thread.inside = False
        context.clear()


def increment_version(tensor: Tensor | Iterable[Tensor]) -> None:
    """Tells autograd of a write to a tensor's memory that it cannot see, by a NumPy array that shares it say.

    A backward pass that needs the old values is an error then, instead of a wrong gradient. Tensors that were
    made in inference mode do not count their writes.

    Args:
        tensor: what was changed, or several tensors.

    Example:
        >>> import firesteel as torch
        >>> x = torch.zeros(2)
        >>> x.numpy()[:] = 1
        >>> torch.autograd.graph.increment_version(x)
        >>> x._version
        1
    """
    tensors = [tensor] if isinstance(tensor, Tensor) or not isinstance(tensor, Iterable) else [*tensor]
    for one in tensors:
        if not isinstance(one, Tensor):
            raise RuntimeError(
                f"increment_version: expected a Tensor or several, not {type(one).__name__}; pass what was "
                "changed"
            )
    for one in tensors:
        _core._increment_version(one)

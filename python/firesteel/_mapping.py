"""What the examples of `vmap` write to: batch norms ask before they update their statistics."""

from __future__ import annotations

import contextlib
import threading
import weakref
from dataclasses import dataclass

from firesteel.autograd.grad_mode import no_grad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firesteel import Tensor


class _OfThread(threading.local):
    """Each `vmap` that runs in this thread, the innermost last."""

    mappings: tuple[Mapping, ...] = ()


_of_thread = _OfThread()


def _memory(tensor: Tensor) -> tuple[int, int]:
    """Where the elements of a tensor begin and end."""
    start = tensor.data_ptr()
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()


def _is_within(tensor: Tensor, others: Iterable[Tensor]) -> bool:
    """Whether the memory of a tensor is part of that of another one."""
    start, end = _memory(tensor)
    return any(low <= start and end <= high for low, high in map(_memory, others))


@dataclass(frozen=True)
class _Write:
    """What an example wrote to. The alias keeps the memory, so that no later example is given it anew."""

    example: int
    alias: Tensor
    before: Tensor
    tensor: weakref.ref[Tensor]
    may_be_shared: bool


class Mapping:
    """The examples of one `vmap`, as they run one after the other.

    Args:
        shared: arguments that all examples get; others they may find elsewhere.
    """

    def __init__(self, shared: Iterable[Tensor]) -> None:
        self._shared = tuple([*shared])
        self._own: tuple[Tensor, ...] = ()
        self._count = 0
        self._writes: dict[tuple[int, int], _Write] = {}

    @contextlib.contextmanager
    def example(self, own: Iterable[Tensor]) -> Iterator[None]:
        """A block that runs the function for the next example, to which these tensors belong."""
        outer = _of_thread.mappings
        self._own = tuple([*own])
        self._count += 1
        _of_thread.mappings = (*outer, self)
        try:
            yield
        finally:
            _of_thread.mappings = outer

    def note(self, tensor: Tensor, may_be_shared: bool) -> bool:
        """Remembers a tensor before a write; whether a former example has written there, and may not have."""
        if _is_within(tensor, self._own):
            return False
        if not may_be_shared and _is_within(tensor, self._shared):
            return True
        former = self._writes.setdefault(
            _memory(tensor),
            _Write(self._count, tensor.detach(), tensor.detach().clone(), weakref.ref(tensor), may_be_shared),
        )
        return former.example != self._count and not may_be_shared

    def undo(self) -> None:
        """Gives all that was written to its former values."""
        with no_grad():
            for write in self._writes.values():
                write.alias.copy_(write.before)

    def check(self, outputs: Iterable[Tensor]) -> None:
        """Raises if the only example has written to a tensor that it neither made itself nor returns."""
        outputs = [*outputs]
        for write in self._writes.values():
            tensor = write.tensor()
            if tensor is not None and not write.may_be_shared and not _is_within(tensor, outputs):
                self.undo()
                raise _shared_statistics()


def _shared_statistics() -> RuntimeError:
    return RuntimeError(
        "batch_norm: Batch norm got a batched tensor as input while the running_mean or running_var, which "
        "will be updated in place, were not batched: each example of vmap would update them. Call .eval() "
        "on the module, take them away with torch.func.replace_all_batch_norm_modules_(model), or pass each "
        "example statistics of its own, with in_dims=0 for them (torch.func.functional_call)"
    )


def write(*tensors: Tensor | None, may_be_shared: bool = False) -> None:
    """To be called before an example writes to tensors, which no other may see.

    Args:
        tensors: what will be written to.
        may_be_shared: whether others may, after all: their values are restored if another write is refused.

    Raises:
        RuntimeError: if another example has written there. What all of them wrote is undone.
    """
    mappings = _of_thread.mappings
    noted = [m.note(x, may_be_shared) for m in mappings for x in tensors if x is not None]
    if any(noted):
        for mapping in reversed(mappings):
            mapping.undo()
        raise _shared_statistics()

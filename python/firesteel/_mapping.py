"""What belongs to the example that `vmap` is at: modules that write to their buffers ask."""

from __future__ import annotations

import contextlib
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firesteel import Tensor

    Memory = tuple[int, int]


class _OfThread(threading.local):
    """The memory of the mapped arguments, for each `vmap` that runs in this thread."""

    frames: tuple[tuple[Memory, ...], ...] = ()


_of_thread = _OfThread()


def _memory(tensor: Tensor) -> Memory:
    """Where the elements of a tensor begin and end."""
    start = tensor.data_ptr()
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()


@contextlib.contextmanager
def example(tensors: Iterable[Tensor]) -> Iterator[None]:
    """A block that runs a function for one example, which these tensors are."""
    outer = _of_thread.frames
    _of_thread.frames = (*outer, tuple(_memory(x) for x in tensors))
    try:
        yield
    finally:
        _of_thread.frames = outer


def is_shared(tensor: Tensor) -> bool:
    """Whether several examples see a tensor, so that what one writes to it another would find."""
    if not _of_thread.frames:
        return False
    start, end = _memory(tensor)
    return not all(any(low <= start and end <= high for low, high in frame) for frame in _of_thread.frames)

"""What belongs to the example that `vmap` is at: modules that write to their buffers ask."""

from __future__ import annotations

import contextlib
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firesteel import Tensor


class _OfThread(threading.local):
    """The mapped arguments of each `vmap` that runs in this thread, as its function sees them."""

    frames: tuple[tuple[Tensor, ...], ...] = ()


_of_thread = _OfThread()


def _memory(tensor: Tensor) -> tuple[int, int]:
    """Where the elements of a tensor begin and end."""
    start = tensor.data_ptr()
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()


@contextlib.contextmanager
def example(tensors: Iterable[Tensor]) -> Iterator[None]:
    """A block that runs a function for one example, which these tensors are."""
    outer = _of_thread.frames
    _of_thread.frames = (*outer, tuple(tensors))
    try:
        yield
    finally:
        _of_thread.frames = outer


def is_shared(tensor: Tensor) -> bool:
    """Whether several examples see a tensor, so that what one writes to it another would find."""
    if not _of_thread.frames:
        return False
    start, end = _memory(tensor)

    def holds(own: Tensor) -> bool:
        low, high = _memory(own)
        return low <= start and end <= high

    return not all(any(map(holds, frame)) for frame in _of_thread.frames)

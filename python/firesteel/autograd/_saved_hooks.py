"""Hooks that decide how what operations save is kept."""

from __future__ import annotations

import contextlib
import threading

from firesteel import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from firesteel import Tensor


class _OfThread(threading.local):
    """How many hooks this thread has entered, or why it may not enter any."""

    depth = 0
    forbidden: str | None = None


_of_thread = _OfThread()


class saved_tensors_hooks:
    """Decides how tensors that operations save for backward are kept, within a `with` block.

    `pack_hook` is called with each tensor as it is saved, unrecorded; `unpack_hook` with what that returned,
    when backward needs the tensor, and must return one of the same shape, dtype and values. Of nested blocks
    the innermost one is asked.

    Args:
        pack_hook: makes anything of a tensor: a smaller copy, the name of a file. It must not change it.
        unpack_hook: makes the tensor again.

    Raises:
        RuntimeError: on entering, where `disable_saved_tensors_hooks` forbids it.

    Example:
        >>> import firesteel as torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> halve, restore = lambda t: t.half(), lambda t: t.float()
        >>> with torch.autograd.graph.saved_tensors_hooks(halve, restore):
        ...     y = x.exp()
        >>> y.sum().backward()
        >>> x.grad
        tensor([2.7188, 7.3906])
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]) -> None:
        for name, hook in (("pack_hook", pack_hook), ("unpack_hook", unpack_hook)):
            if not callable(hook):
                raise TypeError(
                    f"saved_tensors_hooks: {name} must be callable, not {type(hook).__name__}; pass a "
                    "function"
                )
        self.pack_hook = pack_hook
        self.unpack_hook = unpack_hook

    def __enter__(self) -> None:
        if _of_thread.forbidden is not None:
            raise RuntimeError(_of_thread.forbidden)
        _core._push_saved_tensors_hooks(self.pack_hook, self.unpack_hook)
        _of_thread.depth += 1

    def __exit__(self, *exc: object) -> None:
        _core._pop_saved_tensors_hooks()
        _of_thread.depth -= 1


class save_on_cpu(saved_tensors_hooks):
    """Keeps saved tensors in the CPU's memory: here they are there already, and stay as they are.

    Args:
        pin_memory: accepted, and without effect.
        device_type: accepted, and without effect.

    Example:
        >>> import firesteel as torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> with torch.autograd.graph.save_on_cpu(pin_memory=True):
        ...     y = (x * x).sum()
        >>> torch.autograd.grad(y, x)
        (tensor([2., 4.]),)
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda tensor: tensor.detach(), lambda tensor: tensor)


@contextlib.contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """Within a `with` block, or a function that it decorates, entering `saved_tensors_hooks` raises.

    Args:
        error_message: what the error says.

    Raises:
        RuntimeError: with that message, also where hooks are in use already.

    Example:
        >>> import firesteel as torch
        >>> with torch.autograd.graph.disable_saved_tensors_hooks("not here"):
        ...     with torch.autograd.graph.save_on_cpu():
        ...         pass
        Traceback (most recent call last):
            ...
        RuntimeError: not here
    """
    if _of_thread.depth:
        raise RuntimeError(error_message)
    previous, _of_thread.forbidden = _of_thread.forbidden, error_message
    try:
        yield
    finally:
        _of_thread.forbidden = previous

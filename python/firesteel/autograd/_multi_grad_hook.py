"""One hook for the gradients of several tensors."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from firesteel import _core
from firesteel._core import Tensor
from firesteel._hooks import RemovableHandle
from firesteel.autograd._edge import node_of


class _Handle(RemovableHandle):
    """Removes the hooks of all the tensors."""

    def __init__(self, handles: Sequence[_core.RemovableHandle]) -> None:
        super().__init__({})
        self._handles = tuple(handles)

    def remove(self) -> None:
        """Takes the hooks out; a second call does nothing."""
        for handle in self._handles:
            handle.remove()


class _OfThread(threading.local):
    """What has arrived in each of the thread's backward passes, by its number."""

    def __init__(self) -> None:
        self.arrived: dict[int, Any] = {}

    def at(self, make: Callable[[], Any]) -> Any:
        """What is kept for the innermost pass, None for one that began before there was any such hook.

        What passes left before is forgotten.
        """
        running = _core._passes()
        if not running:
            return None
        if running[-1] not in self.arrived:
            self.arrived = {number: kept for number, kept in self.arrived.items() if number in running}
            self.arrived[running[-1]] = make()
        return self.arrived[running[-1]]

    def end(self) -> None:
        """Leaves a mark alone for the innermost pass: what arrived in it is not to outlive it."""
        self.arrived[_core._passes()[-1]] = None


class _All:
    """Calls `fn` with the gradients of all tensors when the last of those that a pass computes arrives."""

    def __init__(self, tensors: Sequence[Tensor], fn: Callable[[list[Tensor | None]], None]) -> None:
        self._fn = fn
        self._places = [(node_of(x, "register_multi_grad_hook"), x.output_nr) for x in tensors]
        self._kept = _OfThread()

    def _start(self) -> tuple[list[Tensor | None], set[int]]:
        waited = {i for i, (node, output) in enumerate(self._places) if _core._pass_visits(node, output)}
        return [None] * len(self._places), waited

    def arrive(self, index: int, grad: Tensor | None) -> None:
        """Takes the gradient of tensor number `index`."""
        kept = self._kept.at(self._start)
        if kept is None:  # the function has been called, or is called from the next pass on
            return
        grads, waited = kept
        grads[index] = grad
        waited.discard(index)
        if not waited:
            self._kept.end()
            self._fn(grads)


class _Any:
    """Calls `fn` with the first gradient that arrives in a pass."""

    def __init__(self, fn: Callable[[Tensor | None], None]) -> None:
        self._fn = fn
        self._kept = _OfThread()

    def arrive(self, grad: Tensor | None) -> None:
        """Takes a gradient."""
        if self._kept.at(lambda: True):
            self._kept.end()
            self._fn(grad)


def register_multi_grad_hook(
    tensors: Iterable[Tensor], fn: Callable[[Any], None], *, mode: str = "all"
) -> RemovableHandle:
    """Calls a function once in each backward pass, with the gradients of several tensors.

    With "all" it is called when the last gradient has arrived of those that the pass computes: `fn(grads)`
    gets a list with a gradient for each tensor, None for one that the pass does not reach. With "any" it is
    called when the first one arrives: `fn(grad)`. It must not change what it is given.

    Args:
        tensors: tensors that require grad; with "any", others are left out.
        fn: the function; what it returns is ignored.
        mode: "all" or "any".

    Returns:
        A handle: `handle.remove()` ends it.

    Raises:
        ValueError: for another mode.
        RuntimeError: with "all", for a tensor that does not require grad, or, within `inference_mode`, for a
            leaf that was made there.

    Example:
        >>> import firesteel as torch
        >>> a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        >>> c, d = a * b, a * b
        >>> def tell(grads):
        ...     print([grad is not None for grad in grads])
        >>> handle = torch.autograd.graph.register_multi_grad_hook((a, b, c, d), tell)
        >>> c.sum().backward(retain_graph=True)
        [True, True, True, False]
        >>> c.sum().backward(inputs=(a,))
        [True, False, True, False]
    """
    if mode not in ("all", "any"):
        raise ValueError(
            f"register_multi_grad_hook: Expects mode to be one of ('all', 'any') but got {mode!r}; choose one"
        )
    _core._note_passes()
    tensors = [*tensors]  # a generator can be read once
    if mode == "any":
        first = _Any(fn)
        return _Handle([x.register_hook(first.arrive) for x in tensors if x.requires_grad])
    for i, x in enumerate(tensors):
        if not x.requires_grad:
            raise RuntimeError(
                f"register_multi_grad_hook: tensor {i} of shape {tuple(x.shape)} doesn't require gradient, "
                "so that none will arrive; leave it out"
            )
    every = _All(tensors, fn)
    return _Handle([x.register_hook(functools.partial(every.arrive, i)) for i, x in enumerate(tensors)])

"""`find_leaks`: graphs that are kept alive by mistake, and who keeps them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from firesteel import _core
from firesteel.graph._growth import growth_of, is_freed, is_kept_apart, is_repeated_history
from firesteel.graph._holders import Holder, Holders
from firesteel.graph._memory import ALLOCATED_BY_CYCLES, history_of, live_memory, live_tensors, memory_of
from firesteel.graph.model import counted, readable_bytes, short_dtype

if TYPE_CHECKING:
    from firesteel import Tensor

# Two searches would find each other's notes.
_SEARCH = threading.Lock()
# A container of so many tensors keeps them for later.
COLLECTED = 4
# Memory that nothing accounts for is worth a word from so many bytes on, and as a part of all that is
# allocated.
UNACCOUNTED, PART = 1 << 20, 0.1

Kind = Literal["total", "joined", "written", "collection", "history"]

WHAT: dict[Kind, str] = {
    "total": "a running total of {count}, {about}",
    "joined": "a tensor joined of {count}, {about}",
    "written": "a tensor into which {count} were written, {about}",
    "collection": "{tensors} with graphs, {about}",
    "history": "a tensor with a long history, {about}",
}

ADVICE: dict[Kind, str] = {
    "total": "add loss.item(), a number, or loss.detach(), instead of loss: a sum keeps the graph of each",
    "joined": "join tensor.detach() instead of the tensor: what is joined keeps the graph of each piece",
    "written": "write loss.item() or tensor.detach() into it: it keeps the graph of all that was written",
    "collection": "keep loss.item(), a number, or tensor.detach() in it: each tensor in it keeps its graph",
    "history": "call .detach() where the history shall begin anew: at the start of each batch, say",
}


@dataclass(frozen=True)
class Leak:
    """A graph that grows: who holds it, how large it is, and what to do.

    `kind` is "total" for a tensor to which others are added, "joined" and "written" for one that is made of
    others by `cat` or by writes into it, "collection" for a container of tensors with graphs, "history" for
    any other tensor with a long history. `nbytes` are held by the graph alone; `is_freed` says that a
    backward pass has freed all that the graph kept, so that only its nodes are left.
    """

    kind: Kind
    holders: tuple[str, ...]
    tensors: int
    nodes: int
    nbytes: int
    about: str
    results: int = 1
    is_freed: bool = False

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.kind]

    def __str__(self) -> str:
        count, tensors = counted(self.results, "result"), counted(self.tensors, "tensor")
        what = WHAT[self.kind].format(count=count, tensors=tensors, about=self.about)
        holders = ", ".join(self.holders) or "something that the garbage collector does not see"
        kept = f"keeps {counted(self.nodes, 'node')} and {readable_bytes(self.nbytes)} of saved tensors alive"
        if self.is_freed:
            kept = f"keeps {counted(self.nodes, 'node')} alive, whose saved tensors backward has freed"
        return f"{what}\n  held by {holders}\n  {kept}\n  {self.advice}"


class Leaks(list[Leak]):
    """Leaks, the largest first; its text is the report.

    `unaccounted_bytes` are allocated, and no tensor or graph that Python can see accounts for them.
    """

    def __init__(self, leaks: Iterable[Leak] = (), unaccounted_bytes: int = 0) -> None:
        super().__init__(leaks)
        self.unaccounted_bytes = unaccounted_bytes

    def __str__(self) -> str:
        parts = [*map(str, self)] or ["no leaks found"]
        if self.unaccounted_bytes:
            parts.append(
                f"{readable_bytes(self.unaccounted_bytes)} more are allocated by what Python does not see: "
                f"{ALLOCATED_BY_CYCLES}"
            )
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return str(self)


def find_leaks(*, min_nodes: int = 1000) -> Leaks:
    """Finds graphs that are kept alive by accumulating losses and the like.

    It reports running totals (`total += loss`, a moving average), tensors that grow by `cat` or by writes
    into them, containers of four or more tensors with graphs (a list of losses, or of dicts with a loss in
    each), and any other tensor with a history of at least `min_nodes` nodes that leads through the same
    leaves again and again: a state that is never detached, not a model of many layers. For each it says how
    much is kept alive and by whom, and how to end it. Call it between two batches. What a backward pass has
    freed is reported only where it grows from step to step.

    Args:
        min_nodes: how long a history is suspicious by itself.

    Returns:
        A list of `Leak`, the largest first, that prints as a report.

    Example:
        >>> import firesteel as torch
        >>> w = torch.ones(3, requires_grad=True)
        >>> losses = [(w * i).sum() for i in range(5)]
        >>> (leak,) = [leak for leak in torch.graph.find_leaks() if "losses" in str(leak.holders)]
        >>> leak.kind, leak.tensors, leak.nodes
        ('collection', 5, 11)
    """
    with _SEARCH:
        return _found(min_nodes)


def _found(min_nodes: int) -> Leaks:
    gc.collect()  # what only circles of references hold is no leak
    live = live_tensors()
    recorded = [tensor for tensor in live if history_of(tensor) is not None]
    # Temporary objects of this call must not be taken for holders.
    holders = Holders(recorded, ignored=[live, recorded])
    memory = live_memory(live)
    leaks = Leaks()
    told: set[int] = set()

    def tell(kind: Kind, held_by: Sequence[Holder], tensors: Sequence[Tensor], results: int = 1) -> None:
        told.update(map(id, tensors))
        leaks.append(_leak(kind, held_by, tensors, set(memory), results))

    for container, members in holders.containers(COLLECTED):
        if is_kept_apart([tensor.grad_fn for tensor in members if tensor.grad_fn is not None]):
            tell("collection", [container], members)
    for tensor in recorded:
        if id(tensor) not in told and tensor.grad_fn is not None:
            growth = growth_of(tensor.grad_fn)
            if growth is not None:
                tell(growth[0], holders.of(tensor), [tensor], growth[1])
    for tensor in recorded:
        if id(tensor) not in told and tensor.grad_fn is not None:
            root = [tensor.grad_fn]
            is_long = len(_core._Graph(root, min_nodes)) == min_nodes
            if is_long and is_repeated_history(root) and not is_freed(root):
                tell("history", holders.of(tensor), [tensor])
    leaks.sort(key=lambda leak: (-leak.nbytes, -leak.nodes, leak.holders))
    report = memory_of(live)
    unaccounted = report.allocated_bytes - report.seen_bytes
    if unaccounted >= max(UNACCOUNTED, PART * report.allocated_bytes):
        leaks.unaccounted_bytes = unaccounted
    return leaks


def _leak(
    kind: Kind, holders: Sequence[Holder], tensors: Sequence[Tensor], live: set[int], results: int
) -> Leak:
    roots = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    graph = _core._Graph(roots)
    _, (_, alone, _), _ = graph.held(0, len(graph), live, 0)
    about, names = _about(tensors), tuple(map(str, holders))
    return Leak(kind, names, len(tensors), len(graph), alone, about, results, is_freed(roots))


def _about(tensors: Sequence[Tensor]) -> str:
    kinds = {f"{tuple(tensor.shape)} {short_dtype(tensor.dtype)}" for tensor in tensors}
    return kinds.pop() if len(kinds) == 1 else "of several shapes"

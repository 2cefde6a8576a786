"""`find_leaks`: graphs that are kept alive by mistake, and who keeps them."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from firesteel.graph._holders import Holder, Holders
from firesteel.graph._memory import held_memory, live_tensors
from firesteel.graph.model import counted, operation_of, reachable, readable_bytes, short_dtype

if TYPE_CHECKING:
    from firesteel import Tensor

# A sum of so many results is a running total; a container of so many keeps them for later.
SUMMED = 4
COLLECTED = 4

ADVICE = {
    "total": "add loss.item(), a number, or loss.detach(), instead of loss: a sum keeps the graph of each",
    "collection": "keep loss.item(), a number, or tensor.detach() in it: each tensor in it keeps its graph",
    "history": "call .detach() where the history shall begin anew: at the start of each batch, say",
}


@dataclass(frozen=True)
class Leak:
    """A graph that grows: who holds it, how large it is, and what to do.

    `kind` is "total" for a tensor that others are added to, "collection" for a container of tensors with
    graphs, "history" for any other tensor with a long history. `nbytes` are held by the graph alone.
    """

    kind: Literal["total", "collection", "history"]
    holders: tuple[str, ...]
    tensors: int
    nodes: int
    nbytes: int
    about: str

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.kind]

    def __str__(self) -> str:
        what = {
            "total": f"a running total of {self.about}",
            "collection": f"{counted(self.tensors, 'tensor')} with graphs, {self.about}",
            "history": f"a tensor with a long history, {self.about}",
        }[self.kind]
        holders = ", ".join(self.holders) or "something that the garbage collector does not see"
        kept = f"{counted(self.nodes, 'node')} and {readable_bytes(self.nbytes)} of saved tensors"
        return f"{what}\n  held by {holders}\n  keeps {kept} alive\n  {self.advice}"


class Leaks(list[Leak]):
    """Leaks, the largest first; its text is the report."""

    def __str__(self) -> str:
        return "\n\n".join(map(str, self)) or "no leaks found"

    def __repr__(self) -> str:
        return str(self)


def find_leaks(*, min_nodes: int = 1000) -> Leaks:
    """Finds graphs that are kept alive by accumulating losses and the like.

    It reports running totals (`total += loss`), containers of four or more tensors with graphs (a list of
    losses), and any other tensor with a history of at least `min_nodes` nodes. For each it says how much is
    kept alive and by whom, and how to end it. Call it between two batches.

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
    gc.collect()  # what only circles of references hold is no leak
    live = live_tensors()
    recorded = [tensor for tensor in live if tensor.grad_fn is not None]
    # Temporary objects of this call must not be taken for holders.
    holders = Holders(recorded, ignored=[live, recorded])
    memory = {tensor._memory_key(): tensor.nbytes for tensor in live}
    leaks = Leaks()
    told: set[int] = set()
    for container, members in holders.containers(COLLECTED):
        told |= {id(tensor) for tensor in members}
        leaks.append(_leak("collection", [container], members, memory, _about(members)))
    for tensor in recorded:
        summed = 0 if id(tensor) in told else _summed(tensor)
        if summed >= SUMMED:
            about = f"{counted(summed, 'result')}, {_about([tensor])}"
            leaks.append(_leak("total", holders.of(tensor), [tensor], memory, about))
            told.add(id(tensor))
    for tensor in recorded:
        if id(tensor) not in told and tensor.grad_fn is not None:
            if len(reachable([tensor.grad_fn])) >= min_nodes:
                leaks.append(_leak("history", holders.of(tensor), [tensor], memory, _about([tensor])))
    leaks.sort(key=lambda leak: (-leak.nbytes, -leak.nodes, leak.holders))
    return leaks


def _leak(
    kind: Literal["total", "collection", "history"],
    holders: Sequence[Holder],
    tensors: Sequence[Tensor],
    memory: dict[int, int],
    about: str,
) -> Leak:
    nodes = reachable(tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None)
    held = held_memory(nodes, memory).values()
    nbytes = sum(one.nbytes for one in held if one.by_graph_alone)
    return Leak(kind, tuple(map(str, holders)), len(tensors), len(nodes), nbytes, about)


def _about(tensors: Sequence[Tensor]) -> str:
    kinds = {f"{tuple(tensor.shape)} {short_dtype(tensor.dtype)}" for tensor in tensors}
    return kinds.pop() if len(kinds) == 1 else "of several shapes"


def _summed(tensor: Tensor) -> int:
    """How many results were added up to make this one: the length of the chain of sums behind it."""
    count = 0
    node = tensor.grad_fn
    while node is not None and operation_of(node) == "add":
        shape = node._outputs[0][0]
        count += 1
        sums = [
            producer
            for producer, _ in node.next_functions
            if producer is not None and operation_of(producer) == "add" and producer._outputs[0][0] == shape
        ]
        if not sums:
            break
        # Of two sums the older one is the total: the other belongs to what was added last.
        node = min(sums, key=lambda producer: producer._sequence_nr())
    return count if tensor.numel() == 1 else 0

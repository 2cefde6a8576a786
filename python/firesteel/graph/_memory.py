"""What is alive: tensors, nodes of graphs, and the bytes that they keep for backward passes."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from firesteel import _core
from firesteel.graph._holders import Holders
from firesteel.graph.model import (
    counted,
    expect_tensors,
    operation_of,
    operation_title,
    readable_bytes,
    short_dtype,
)

if TYPE_CHECKING:
    from firesteel import Tensor

# So many operations and saved tensors are listed in the text.
LISTED = 10
# So many saved tensors are kept in a report, the largest.
MOST_HELD = 100
# What holds memory that nothing accounts for.
ALLOCATED_BY_CYCLES = (
    "gradients of backward(create_graph=True) and their tensors hold each other; set .grad = None before the "
    "tensors go, or use autograd.grad"
)


@dataclass
class HeldByOperation:
    """What all live nodes of one operation keep: memory that several share counts for the newest."""

    operation: str
    nodes: int = 0
    nbytes: int = 0


@dataclass(frozen=True)
class Held:
    """One block of memory that a graph keeps, and the newest operation that does."""

    operation: str
    label: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    by_graph_alone: bool


@dataclass
class Memory:
    """Live tensors and graphs, as `memory()` found them; its text is a short report.

    `saved_bytes` is all that graphs keep, each memory once; of these, `graph_bytes` would be free without the
    graphs: no live tensor uses them. `packed` counts saved tensors that `saved_tensors_hooks` have packed: of
    these the bytes of tensors count, what else they are is unknown. `by_operation` and `held` have the
    largest first. `allocated_bytes` are in use in all, as the allocator counts them, and `seen_bytes` of them
    by what this report counts; for a report about some tensors the former is 0.
    """

    tensors: int = 0
    tensor_bytes: int = 0
    nodes: int = 0
    leaves: int = 0
    saved_bytes: int = 0
    graph_bytes: int = 0
    by_operation: list[HeldByOperation] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    packed: int = 0
    allocated_bytes: int = 0
    seen_bytes: int = 0

    def __str__(self) -> str:
        lines = [
            f"{counted(self.tensors, 'live tensor')}, {readable_bytes(self.tensor_bytes)}",
            f"{counted(self.nodes, 'live node')} in graphs, {self.leaves:,} of them of leaves",
            f"{readable_bytes(self.saved_bytes)} saved for backward, "
            f"{readable_bytes(self.graph_bytes)} of them held by graphs alone",
        ]
        if self.packed:
            lines.append(f"{counted(self.packed, 'saved tensor')} packed by hooks")
        if self.allocated_bytes:
            seen = min(self.seen_bytes, self.allocated_bytes)
            lines.append(
                f"{readable_bytes(self.allocated_bytes)} allocated, {readable_bytes(seen)} of them by "
                "tensors and graphs that Python can see"
            )
        if self.by_operation:
            lines += ["", "saved by operation:"]
            width = max(len(held.operation) for held in self.by_operation[:LISTED])
            for held in self.by_operation[:LISTED]:
                size = readable_bytes(held.nbytes)
                lines.append(f"  {held.operation:<{width}}  {size:>10}  {counted(held.nodes, 'node')}")
            if len(self.by_operation) > LISTED:
                lines.append(f"  ... {counted(len(self.by_operation) - LISTED, 'operation')} more")
        if self.held:
            lines += ["", "largest:"]
            for one in self.held[:LISTED]:
                alone = "" if one.by_graph_alone else ", also a live tensor's"
                size = readable_bytes(one.nbytes) if one.nbytes else "unknown"
                lines.append(f"  {size:>10}  {one.label} of {one.operation}, {one.shape} {one.dtype}{alone}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def live_tensors() -> list[Tensor]:
    """All tensors that a program holds as Python objects, and the gradients of these."""
    # `isinstance` would ask every object for its `__class__`, which some answer with code of their own.
    found: dict[int, Tensor] = {
        id(one): one for one in gc.get_objects() if issubclass(type(one), _core.Tensor)
    }
    if _graph_of(found.values()).state()[2]:
        # What hooks made of saved tensors is the graph's, though Python objects stand for it.
        tensors = list(found.values())
        holders = Holders(tensors, ignored=[found, tensors])
        found = {id(one): one for one in tensors if holders.has(one)}
    for tensor in list(found.values()):
        # Others have none, and asking for it is a warning.
        if (tensor.is_leaf or tensor.retains_grad) and tensor.grad is not None:
            found[id(tensor.grad)] = tensor.grad
    return list(found.values())


def history_of(tensor: Tensor) -> _core.Node | None:
    """The node that made a tensor; None also where a custom Function's result has a history of no use."""
    try:
        return tensor.grad_fn
    except RuntimeError:
        return None


def _graph_of(tensors: Iterable[Tensor]) -> _core._Graph:
    """The graphs behind the tensors."""
    return _core._Graph([node for node in map(history_of, tensors) if node is not None])


def live_memory(tensors: Iterable[Tensor]) -> dict[int, tuple[int, int]]:
    """The memories in which tensors lie, by number: their bytes, and what the allocator counts for them."""
    return {tensor._memory_key(): tensor._memory_bytes() for tensor in tensors}


def memory(tensors: Tensor | Iterable[Tensor] | None = None) -> Memory:
    """Counts live tensors and the graphs behind them, with what they keep for backward passes.

    A view keeps all memory of its base, so that counts.

    Args:
        tensors: the tensor or tensors whose graphs to count; by default all that are alive.

    Returns:
        A `Memory`: `print` it, or read its numbers.

    Raises:
        TypeError: for anything else than tensors.

    Example:
        >>> import firesteel as torch
        >>> x = torch.ones(256, requires_grad=True)
        >>> y = x.exp().sum()
        >>> print(torch.graph.memory([x, y]))
        2 live tensors, 1.0 KiB
        3 live nodes in graphs, 1 of them of leaves
        1.0 KiB saved for backward, 1.0 KiB of them held by graphs alone
        <BLANKLINE>
        saved by operation:
          exp     1.0 KiB  1 node
        <BLANKLINE>
        largest:
             1.0 KiB  output of exp, (256,) float32
    """
    if tensors is None:
        return memory_of(live_tensors())
    report = memory_of(expect_tensors("memory", tensors))
    report.allocated_bytes = 0  # those of all tensors, not of these
    return report


def memory_of(tensors: Sequence[Tensor]) -> Memory:
    """Counts `tensors` and the graphs behind them."""
    sizes = live_memory(tensors)
    graph = _graph_of(tensors)
    counts, nbytes, largest = graph.held(0, len(graph), set(sizes), MOST_HELD)
    report = Memory(len(tensors), sum(size for size, _ in sizes.values()), len(graph))
    by_operation: dict[str, HeldByOperation] = {}
    for name, kind, nodes, held_bytes in counts:
        if name == "AccumulateGrad":
            report.leaves = nodes
            continue
        operation = operation_title(name, kind)
        held = by_operation.setdefault(operation, HeldByOperation(operation))
        held.nodes += nodes
        held.nbytes += held_bytes
    report.saved_bytes, report.graph_bytes, of_graphs = nbytes
    report.by_operation = sorted(
        (held for held in by_operation.values() if held.nbytes),
        key=lambda held: (-held.nbytes, held.operation),
    )
    for place, (label, shape, dtype, size, key) in largest:
        if size or label.startswith("packed"):
            report.held.append(
                Held(operation_of(graph[place]), label, shape, short_dtype(dtype), size, key not in sizes)
            )
    report.packed = graph.state()[2]
    report.allocated_bytes = _core.memory_stats()["allocated_bytes"]
    report.seen_bytes = sum(allocated for _, allocated in sizes.values()) + of_graphs
    return report


def memory_summary() -> str:
    """The text of `memory()`: live tensors, live nodes, and what graphs keep, by operation."""
    return str(memory())

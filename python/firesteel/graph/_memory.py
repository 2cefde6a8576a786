"""What is alive: tensors, nodes of graphs, and the bytes that they keep for backward passes."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from firesteel import _core
from firesteel.graph.model import counted, operation_of, reachable, readable_bytes, short_dtype

if TYPE_CHECKING:
    from firesteel import Tensor
    from firesteel._core import Node

# So many operations and saved tensors are listed in the text.
LISTED = 10


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
    graphs: no live tensor uses them. `by_operation` and `held` have the largest first.
    """

    tensors: int = 0
    tensor_bytes: int = 0
    nodes: int = 0
    leaves: int = 0
    saved_bytes: int = 0
    graph_bytes: int = 0
    by_operation: list[HeldByOperation] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{counted(self.tensors, 'live tensor')}, {readable_bytes(self.tensor_bytes)}",
            f"{counted(self.nodes, 'live node')} in graphs, {self.leaves:,} of them of leaves",
            f"{readable_bytes(self.saved_bytes)} saved for backward, "
            f"{readable_bytes(self.graph_bytes)} of them held by graphs alone",
        ]
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
                lines.append(
                    f"  {readable_bytes(one.nbytes):>10}  {one.label} of {one.operation}, "
                    f"{one.shape} {one.dtype}{alone}"
                )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def live_tensors() -> list[Tensor]:
    """All tensors that Python objects stand for, and the gradients of these."""
    # `isinstance` would ask every object for its `__class__`, which some answer with code of their own.
    found: dict[int, Tensor] = {
        id(one): one for one in gc.get_objects() if issubclass(type(one), _core.Tensor)
    }
    for tensor in list(found.values()):
        # Others have none, and asking for it is a warning.
        if (tensor.is_leaf or tensor.retains_grad) and tensor.grad is not None:
            found[id(tensor.grad)] = tensor.grad
    return list(found.values())


def memory(tensors: Iterable[Tensor] | None = None) -> Memory:
    """Counts live tensors and the graphs behind them, with what they keep for backward passes.

    Args:
        tensors: the tensors whose graphs to count; by default all that are alive.

    Returns:
        A `Memory`: `print` it, or read its numbers.

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
    tensors = live_tensors() if tensors is None else list(tensors)
    sizes: dict[int, int] = {}
    for tensor in tensors:
        key = tensor._memory_key()
        sizes[key] = max(sizes.get(key, 0), tensor.nbytes)
    nodes = reachable(tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None)
    counts = Counter(operation_of(node) for node in nodes.values() if node.name() != "AccumulateGrad")
    found = sorted(held_memory(nodes, sizes).values(), key=lambda held: -held.nbytes)
    by_operation = {name: HeldByOperation(name, count) for name, count in counts.items()}
    for held in found:
        by_operation[held.operation].nbytes += held.nbytes
    report = Memory(len(tensors), sum(sizes.values()), len(nodes), len(nodes) - counts.total())
    report.saved_bytes = sum(held.nbytes for held in found)
    report.graph_bytes = sum(held.nbytes for held in found if held.by_graph_alone)
    report.by_operation = sorted(
        (held for held in by_operation.values() if held.nbytes),
        key=lambda held: (-held.nbytes, held.operation),
    )
    report.held = found[:100]
    return report


def held_memory(nodes: Mapping[int, Node], live: Mapping[int, int]) -> dict[int, Held]:
    """What `nodes` keep, by memory: its largest part, for the newest node that keeps it."""
    found: dict[int, Held] = {}
    for node in nodes.values():
        for label, shape, dtype, nbytes, key in node._saved:
            if key not in found or found[key].nbytes < nbytes:
                name = found[key].operation if key in found else operation_of(node)
                found[key] = Held(name, label, shape, short_dtype(dtype), nbytes, key not in live)
    return found


def memory_summary() -> str:
    """The text of `memory()`: live tensors, live nodes, and what graphs keep, by operation."""
    return str(memory())

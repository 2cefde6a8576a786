"""What tells a graph that grows from step to step from one of normal use.

A loop that keeps its results by mistake leaves a chain of sums (or of joins, or of writes), each of which
adds a result. These results were computed apart: they share parameters, but no operation. The terms of a
regularised loss share no parameter; those of a residual network use the sum before them. And a loop that
calls backward frees what its results saved, yet a sum over one batch is freed as well: what tells them apart
are the numbers of nodes. If something ran between the terms, a backward pass or operations of no use for
them, numbers are missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from firesteel import _core
from firesteel.graph.model import operation_of

if TYPE_CHECKING:
    from firesteel._core import Node

Growth = Literal["total", "joined", "written"]

# What makes a larger result of an older one and something new, by the name of the node.
GROWING: dict[str, Growth] = {
    "AddBackward0": "total",
    "SubBackward0": "total",
    "LerpBackward0": "total",
    "MaximumBackward0": "total",
    "MinimumBackward0": "total",
    "CatBackward0": "joined",
    "CopySlices": "written",
    "IndexPutBackward0": "written",
}
# What may lie between the older result and the newer one: the decay of a moving average, another shape.
BETWEEN = frozenset({"mul", "div", "neg", "view", "clone", "unsqueeze", "squeeze", "to_copy", "expand"})
HOPS = 3
# So many additions are counted, so many of them looked at, and so many nodes of what each one added.
LONGEST, SAMPLE, LOOKED_AT = 100_000, 8, 5_000
# Additions that are a habit and no accident.
LEAST = 4
# A layer has a few nodes for each of its parameters; steps that follow each other have them many times.
NODES_PER_LEAF = 20


@dataclass
class Link:
    """One addition: its node, what it added, and the numbers of nodes on the way to the older result."""

    node: Node
    added: list[Node]
    between: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Span:
    """The numbers between two nodes, the results that were recorded there, and other known numbers."""

    newer: int
    older: int
    added: list[Node]
    between: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """The nodes behind a result, by number; `whole` if they were few enough to look at all."""

    operations: frozenset[int]
    leaves: frozenset[int]
    whole: bool

    @classmethod
    def of(cls, roots: Sequence[Node]) -> Part:
        """The part behind `roots`."""
        graph = _core._Graph(roots, LOOKED_AT)
        numbers = graph.numbers()
        leaves = frozenset(
            number for place, number in enumerate(numbers) if graph[place].name() == "AccumulateGrad"
        )
        return cls(frozenset(numbers) - leaves, leaves, len(graph) < LOOKED_AT)


def growth_of(node: Node) -> tuple[Growth, int] | None:
    """How a result came to be out of many that were computed apart, and of how many; None if it did not."""
    start, _ = _growing(node, None)
    if start is None:
        return None
    links = _links(start)
    count = sum(len(link.added) for link in links)
    if count < LEAST or not _is_repeated(links):
        return None
    spans = [
        Span(one.node._sequence_nr(), before.node._sequence_nr(), one.added, one.between)
        for one, before in pairwise(links[: SAMPLE + 1])
    ]
    if is_freed([node]) and not _are_apart(spans):
        return None
    return GROWING[start.name()], count


def is_kept_apart(roots: Sequence[Node]) -> bool:
    """Whether the graphs behind some results keep something, or were freed one after the other.

    Results of one step, whose graphs one backward pass has freed, go with the next step.
    """
    if not is_freed(roots):
        return True
    ordered = sorted({root._sequence_nr(): root for root in roots}.items(), reverse=True)[: SAMPLE + 1]
    # Each span ends with the newer result, which is a part of its own graph.
    return _are_apart([Span(number + 1, before, [root]) for (number, root), (before, _) in pairwise(ordered)])


def is_repeated_history(roots: Sequence[Node]) -> bool:
    """Whether a history leads through the same leaves again and again, as that of no model of many layers."""
    graph = _core._Graph(roots)
    leaves = sum(
        nodes for name, _, nodes, _ in graph.held(0, len(graph), set(), 0)[0] if name == "AccumulateGrad"
    )
    return len(graph) >= NODES_PER_LEAF * leaves


def is_freed(roots: Sequence[Node]) -> bool:
    """Whether backward passes have freed all that a graph kept."""
    keeps, freed, _ = _core._Graph(roots).state()
    return not keeps and freed > 0


def _links(start: Node) -> list[Link]:
    """The additions that led to a result, the newest first."""
    name, shape = start.name(), start._outputs[0][0]
    links: list[Link] = []
    node: Node | None = start
    while node is not None and len(links) < LONGEST:
        producers = [producer for producer, _ in node.next_functions if producer is not None]
        older: list[tuple[int, Node, Node, list[int]]] = []
        for producer in producers:
            found, between = _growing(producer, name)
            # What is joined has another shape each time; a sum has always the same.
            if found is not None and (name == "CatBackward0" or found._outputs[0][0] == shape):
                older.append((found._sequence_nr(), producer, found, between))
        if not older:
            links.append(Link(node, producers))
            break
        # Of two the older one is the result so far: the other belongs to what was added last.
        _, towards, found, between = min(older, key=lambda one: one[0])
        link = Link(node, [one for one in producers if one != towards], between)
        links.append(_written(link, found) if name == "CopySlices" else link)
        node = found
    return links


def _written(link: Link, target: Node) -> Link:
    """The addition of a write into a region: what was written, without the region that it replaced."""
    written = Link(link.node, [], link.between)
    for write in link.added:
        written.between.append(write._sequence_nr())
        for producer in (producer for producer, _ in write.next_functions if producer is not None):
            towards, views = producer, [producer._sequence_nr()]
            while towards != target and len(views) <= HOPS and len(towards.next_functions) == 1:
                above = towards.next_functions[0][0]
                if above is None:
                    break
                towards = above
                views.append(towards._sequence_nr())
            if towards == target:
                written.between += views
            else:
                written.added.append(producer)
    return written


def _growing(node: Node, name: str | None) -> tuple[Node | None, list[int]]:
    """The addition that a result is, or of which it is another form, and the nodes on the way to it."""
    between: list[int] = []
    for _ in range(HOPS + 1):
        own = node.name()
        if (own == name if name else own in GROWING) and not node._operation.startswith("CrossEntropy"):
            return node, between
        if operation_of(node) not in BETWEEN:
            break
        producers = [producer for producer, _ in node.next_functions if producer is not None]
        if len(producers) != 1:
            break
        between.append(node._sequence_nr())
        (node,) = producers
    return None, between


def _is_repeated(links: Sequence[Link]) -> bool:
    """Whether what was added shares parameters and nothing else, neither with what is around it."""
    taken = {link.node._sequence_nr() for link in links}
    leaves: Counter[int] = Counter()
    for link in links[:SAMPLE]:
        for added in link.added:
            part = Part.of([added])
            if not part.operations or not taken.isdisjoint(part.operations):
                return False
            taken |= part.operations
            leaves.update(part.leaves)
    return max(leaves.values(), default=0) >= LEAST


def _are_apart(spans: Sequence[Span]) -> bool:
    """Whether something else was recorded or run in most of the spans."""
    gaps = 0
    for span in spans:
        part = Part.of(span.added)
        known = {*part.operations, *part.leaves, *span.between}
        missing = span.newer - span.older - 1 - sum(span.older < number < span.newer for number in known)
        gaps += part.whole and missing > 0
    return bool(spans) and gaps * 4 >= len(spans) * 3

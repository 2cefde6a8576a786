"""`explain`: the backward pass step by step, in words and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from firesteel import _core
from firesteel.graph.model import (
    counted,
    expect_graph,
    names_of,
    operation_of,
    reachable,
    short_dtype,
    variable_of,
)
from firesteel.graph.values import value_text
from firesteel.graph.variants import formula_for, shape_of

if TYPE_CHECKING:
    from firesteel import Tensor
    from firesteel._core import Node
    from firesteel.nn import Module


# Of an operation of many inputs or outputs so many are told, and of a constant of so many elements the value.
WIDTH = 6
FEW_ELEMENTS = 4
# Hooks by their kind, and what they do to the step at whose node they are.
HOOKS = {
    "node prehook": "a hook of the node saw g first, and may have changed it",
    "node hook": "a hook of the node saw what it sends, and may have changed it",
}


@dataclass(frozen=True)
class Arrival:
    """A gradient of one input: its value, and the leaf or the step that it goes to."""

    value: str
    target: str


@dataclass
class Step:
    """What the backward pass does at one node.

    `notes` tell of hooks. Of many gradients only the first are told: `left_out` counts the other outgoing
    ones.
    """

    number: int
    node: str
    operation: str
    shapes: str
    forward: str
    backward: str
    incoming: list[str] = field(default_factory=list)
    outgoing: list[Arrival] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: int = 0

    def __str__(self) -> str:
        lines = [f"{self.number}. {self.operation}: {self.shapes}   [{self.node}]"]
        lines += [f"     {self.forward}", f"     {self.backward}"]
        lines += [f"   {line}" for line in [*self.incoming, *self.notes]]
        lines += [f"   -> {arrival.target} {arrival.value}" for arrival in self.outgoing]
        if self.left_out:
            lines.append(f"   -> ... {self.left_out:,} more")
        return "\n".join(lines)


@dataclass
class Explanation:
    """A backward pass in words: `print` it, or read its `steps`.

    `left_out` counts operations that are not told, `leaves_left_out` leaves.
    """

    start: list[str]
    steps: list[Step]
    left_out: int
    results: list[str]
    leaves_left_out: int = 0

    def __str__(self) -> str:
        parts = ["\n".join(self.start), *map(str, self.steps)]
        if self.left_out:
            parts.append(f"... {counted(self.left_out, 'older node')} not shown; max_steps= shows more")
        results = ["In the end, backward() would do:", *self.results]
        if self.leaves_left_out:
            results.append(f"... and so for {self.leaves_left_out:,} more leaves; max_steps= shows more")
        return "\n\n".join([*parts, "\n".join(results)])

    def __repr__(self) -> str:
        return str(self)


def explain(
    z: Tensor | Sequence[Tensor],
    module: Module | None = None,
    *,
    names: Mapping[str, Tensor] | None = None,
    max_steps: int = 50,
) -> Explanation:
    """The backward pass from `z`, step by step, with the numbers of this graph.

    For each operation, in the order in which the engine comes to them (the newest first): its formula and
    that of its derivative, the gradient `g` that arrives, those of its inputs, and where they go. It runs a
    backward pass that keeps the graph, and changes no `.grad`; hooks that are registered are called, and a
    step says where one has changed the gradient.

    Args:
        z: one or several tensors with a graph; the pass starts with a gradient of ones.
        module: names the parameters.
        names: further names of tensors: `{"x": x}`.
        max_steps: the pass is told for so many operations, and for twice as many leaves.

    Returns:
        An `Explanation`: its text is `str()` of it, its parts are `steps` and `results`.

    Raises:
        AutogradError: `z` has no graph, its graph was freed by an earlier backward pass, or it holds a
            reentrant checkpoint.

    Example:
        >>> import firesteel as torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> print(torch.graph.explain((x * x).sum(), names={"x": x}))
        The result () float32 = 5.0; its own gradient is 1.0.
        <BLANKLINE>
        1. sum: (2,) -> ()   [SumBackward0]
             y = sum of x
             grad x = g, for every element
           g = 1.0
           -> to step 2 (mul): [1.0, 1.0]
        <BLANKLINE>
        2. mul: (2,), (2,) -> (2,)   [MulBackward0]
             y = a * b
             grad a = g * b, grad b = g * a
           g = [1.0, 1.0]
           -> x.grad += [1.0, 2.0]
           -> x.grad += [1.0, 2.0]
        <BLANKLINE>
        In the end, backward() would do:
        x.grad += [2.0, 4.0]
    """
    outputs = expect_graph("explain", z)
    labels = {id(tensor): name for name, tensor in names_of("explain", module, names).items()}
    nodes = reachable(output.grad_fn for output in outputs if output.grad_fn is not None)
    if any(node.name() == "CheckpointFunctionBackward" for node in nodes.values()):
        raise _core.AutogradError(
            "explain: the graph holds a reentrant checkpoint, whose backward pass writes .grad of the "
            "parameters inside of it; call checkpoint(..., use_reentrant=False)"
        )
    leaves = {key: leaf for key, node in nodes.items() if (leaf := variable_of(node)) is not None}
    leaf_names = _leaf_names(leaves, labels)
    shown = {key: nodes[key] for key in [key for key in nodes if key not in leaves][:max_steps]}
    sent = _Sent(shown, outputs)
    seen, grads = _run(outputs, shown, leaves, sent)
    order = {key: number for number, key in enumerate(seen, 1)}
    steps = [
        _step(order[key], nodes[key], *seen[key], lambda node: _target(node, order, leaf_names))
        for key in seen
    ]
    for step, key in zip(steps, seen, strict=True):
        step.notes = sent.notes(nodes[key], step.incoming)
    told = sorted(grads)[: 2 * max_steps]
    results = [_result(leaf_names[key], grads[key], nodes[key]) for key in told]
    left_out = len(nodes) - len(leaves) - len(shown)
    return Explanation(_start(outputs, labels), steps, left_out, results, len(grads) - len(told))


def _result(name: str, grad: str, node: Node) -> str:
    if not grad:
        return f"{name}.grad stays as it is: nothing arrives"
    hooked = any(kind == "hook" for kind, _ in node._hooks)
    return f"{name}.grad += {grad}{', as its hook left it' if hooked else ''}"


Seen = dict[int, tuple[list[str], list[str]]]


class _Sent:
    """What is sent to tensors that have hooks, which see it before their node does."""

    def __init__(self, nodes: Mapping[int, Node], outputs: Sequence[Tensor]) -> None:
        self.grads: dict[tuple[int, int], list[Tensor]] = {
            (key, output): [] for key, node in nodes.items() for kind, output in node._hooks if kind == "hook"
        }
        for output in outputs:
            if self.grads and output.grad_fn is not None:
                place = output.grad_fn._sequence_nr(), output.output_nr
                if place in self.grads:
                    self.grads[place].append(_core.ones_like(output.detach()))

    def note(self, node: Node, grads: Sequence[Tensor | None]) -> None:
        """Notes what a node sends."""
        for (producer, output), grad in zip(node.next_functions, grads, strict=False):
            if producer is not None and grad is not None:
                found = self.grads.get((producer._sequence_nr(), output))
                if found is not None:
                    found.append(grad.detach())

    def notes(self, node: Node, arrived: Sequence[str]) -> list[str]:
        """What hooks did at a node, which says what arrived at it."""
        from firesteel.autograd import no_grad

        lines = []
        hooks = node._hooks
        for output in sorted({output for kind, output in hooks if kind == "hook"}):
            sent = self.grads.get((node._sequence_nr(), output), [])
            if not sent or output >= len(arrived):
                continue
            with no_grad():
                total = sent[0]
                for grad in sent[1:]:
                    total = total + grad
            before = value_text(total)
            name, _, now = arrived[output].partition(" = ")
            lines.append(f"a hook saw {name}" if now == before else f"a hook changed {name}: it was {before}")
        return lines + [HOOKS[kind] for kind in dict.fromkeys(kind for kind, _ in hooks) if kind in HOOKS]


def _run(
    outputs: Sequence[Tensor],
    nodes: Mapping[int, Node],
    leaves: Mapping[int, Tensor],
    sent: _Sent | None = None,
) -> tuple[Seen, dict[int, str]]:
    """What the nodes see in a backward pass, as text and in its order, and what arrives at the leaves."""
    from firesteel import autograd

    seen: Seen = {}
    handles = []
    try:
        for key, node in nodes.items():

            def look(
                inputs: tuple[Tensor | None, ...],
                arrived: tuple[Tensor | None, ...],
                key: int = key,
                node: Node = node,
            ) -> None:
                # As text at once: the gradients of a whole graph would not fit in memory.
                seen[key] = (
                    [value_text(grad) for grad in arrived[:WIDTH]],
                    [value_text(grad) for grad in inputs[:WIDTH]],
                )
                if sent is not None and sent.grads:
                    sent.note(node, inputs)

            handles.append(node.register_hook(look))
        ones = [_core.ones_like(output.detach()) for output in outputs]
        grads = autograd.grad(outputs, list(leaves.values()), ones, retain_graph=True, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    texts = ("" if grad is None else value_text(grad) for grad in grads)
    return seen, dict(zip(leaves, texts, strict=True))


def _leaf_names(leaves: Mapping[int, Tensor], labels: Mapping[int, str]) -> dict[int, str]:
    """The given names; the others are numbered."""
    names: dict[int, str] = {}
    unnamed = 0
    for key in sorted(leaves):
        given = labels.get(id(leaves[key]))
        unnamed += given is None
        names[key] = given or f"leaf{unnamed}"
    return names


def _start(outputs: Sequence[Tensor], labels: Mapping[int, str]) -> list[str]:
    lines = []
    for number, output in enumerate(outputs, 1):
        name = labels.get(id(output)) or ("The result" if len(outputs) == 1 else f"Result {number}")
        own = value_text(_core.ones_like(output.detach())) if output.numel() <= 1 else "1 for each element"
        facts = f"{tuple(output.shape)} {short_dtype(output.dtype)}"
        lines.append(f"{name} {facts} = {value_text(output)}; its own gradient is {own}.")
    return lines


def _target(node: Node, order: Mapping[int, int], leaf_names: Mapping[int, str]) -> str:
    key = node._sequence_nr()
    if key in leaf_names:
        return f"{leaf_names[key]}.grad +="
    name = operation_of(node)
    return f"to step {order[key]} ({name}):" if key in order else f"to an older {name}:"


def _step(
    number: int, node: Node, arrived: Sequence[str], grads: Sequence[str], target: Callable[[Node], str]
) -> Step:
    producers = node.next_functions
    inputs = [_input(node, index) for index in range(min(len(producers), WIDTH))]
    results = [str(shape) for shape, _ in node._outputs[:WIDTH]]
    step = Step(
        number,
        node.name(),
        operation_of(node),
        f"{_list(inputs, len(producers))} -> {_list(results, len(node._outputs))}",
        *formula_for(node),
    )
    several = len(node._outputs) > 1
    step.incoming = [f"g{i if several else ''} = {grad}" for i, grad in enumerate(arrived, 1)]
    if len(node._outputs) > len(arrived):
        step.incoming.append(f"... {len(node._outputs) - len(arrived):,} more")
    for (producer, _), grad in zip(producers, grads, strict=False):
        if producer is not None:
            step.outgoing.append(Arrival(grad, target(producer)))
    step.left_out = sum(producer is not None for producer, _ in producers[len(grads) :])
    return step


def _list(told: Sequence[str], count: int) -> str:
    return ", ".join(told) + (f", ... {count - len(told):,} more" if count > len(told) else "")


def _input(node: Node, index: int) -> str:
    """Shape of an input; of a constant the value, if it is small and was saved."""
    producer, output = node.next_functions[index]
    if producer is not None:
        return str(producer._outputs[output][0])
    saved = node._kept_input(index)
    if saved is not None and saved.numel() <= FEW_ELEMENTS:
        return f"constant {value_text(saved)}"
    shape = shape_of(node, index)
    return "constant" if shape is None else f"constant {shape}"

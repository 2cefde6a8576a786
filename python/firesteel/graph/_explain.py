"""`explain`: the backward pass step by step, in words and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from firesteel import _core
from firesteel.graph.formulas import formula_of
from firesteel.graph.model import (
    counted,
    expect_graph,
    names_of,
    operation_of,
    reachable,
    shape_text,
    short_dtype,
    variable_of,
)
from firesteel.graph.values import value_text

if TYPE_CHECKING:
    from firesteel import Tensor
    from firesteel._core import Node
    from firesteel.nn import Module


@dataclass(frozen=True)
class Arrival:
    """A gradient of one input: its value, and the leaf or the step that it goes to."""

    value: str
    target: str


@dataclass
class Step:
    """What the backward pass does at one node."""

    number: int
    node: str
    operation: str
    shapes: str
    forward: str
    backward: str
    incoming: list[str] = field(default_factory=list)
    outgoing: list[Arrival] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.number}. {self.operation}: {self.shapes}   [{self.node}]"]
        lines += [f"     {self.forward}", f"     {self.backward}"]
        lines += [f"   {line}" for line in self.incoming]
        lines += [f"   -> {arrival.target} {arrival.value}" for arrival in self.outgoing]
        return "\n".join(lines)


@dataclass
class Explanation:
    """A backward pass in words: `print` it, or read its `steps`."""

    start: list[str]
    steps: list[Step]
    left_out: int
    results: list[str]

    def __str__(self) -> str:
        parts = ["\n".join(self.start), *map(str, self.steps)]
        if self.left_out:
            parts.append(f"... {counted(self.left_out, 'older node')} not shown; max_steps= shows more")
        return "\n\n".join([*parts, "\n".join(["In the end, backward() would do:", *self.results])])

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
    backward pass that keeps the graph, and changes no `.grad`; hooks that are registered are called.

    Args:
        z: one or several tensors with a graph; the pass starts with a gradient of ones.
        module: names the parameters.
        names: further names of tensors: `{"x": x}`.
        max_steps: the pass is told for so many operations.

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
    if any(node.name() == "_ReentrantBackward" for node in nodes.values()):
        raise _core.AutogradError(
            "explain: the graph holds a reentrant checkpoint, whose backward pass writes .grad of the "
            "parameters inside of it; call checkpoint(..., use_reentrant=False)"
        )
    leaves = {key: leaf for key, node in nodes.items() if (leaf := variable_of(node)) is not None}
    leaf_names = _leaf_names(leaves, labels)
    shown = [key for key in nodes if key not in leaves][:max_steps]
    seen, grads = _run(outputs, {key: nodes[key] for key in shown}, leaves)
    order = {key: number for number, key in enumerate(seen, 1)}
    steps = [
        _step(order[key], nodes[key], *seen[key], lambda node: _target(node, order, leaf_names))
        for key in seen
    ]
    results = [
        f"{leaf_names[key]}.grad += {grad}"
        if grad
        else f"{leaf_names[key]}.grad stays as it is: nothing arrives"
        for key, grad in sorted(grads.items())
    ]
    return Explanation(_start(outputs, labels), steps, len(nodes) - len(leaves) - len(shown), results)


Seen = dict[int, tuple[list[str], list[str]]]


def _run(
    outputs: Sequence[Tensor], nodes: Mapping[int, Node], leaves: Mapping[int, Tensor]
) -> tuple[Seen, dict[int, str]]:
    """What the nodes see in a backward pass, as text and in its order, and what arrives at the leaves."""
    from firesteel import autograd

    seen: Seen = {}
    handles = []
    try:
        for key, node in nodes.items():

            def look(
                inputs: tuple[Tensor | None, ...], arrived: tuple[Tensor | None, ...], key: int = key
            ) -> None:
                # As text at once: the gradients of a whole graph would not fit in memory.
                seen[key] = [value_text(grad) for grad in arrived], [value_text(grad) for grad in inputs]

            handles.append(node.register_hook(look))
        ones = [_core.ones_like(output.detach()) for output in outputs]
        grads = autograd.grad(outputs, list(leaves.values()), ones, retain_graph=True, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    texts = ("" if grad is None else value_text(grad) for grad in grads)
    return seen, dict(zip(leaves, texts, strict=True))


def _leaf_names(leaves: Mapping[int, Tensor], labels: Mapping[int, str]) -> dict[int, str]:
    """The given names, and for the others their shapes, numbered."""
    names: dict[int, str] = {}
    for key in sorted(leaves):
        given = labels.get(id(leaves[key]))
        unnamed = sum(name.startswith("leaf") for name in names.values())
        names[key] = given or f"leaf{unnamed + 1}"
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
    inputs = [
        shape_text([_output(producer, index)]).rpartition(" ")[0] if producer is not None else "constant"
        for producer, index in producers
    ]
    results = ", ".join(str(shape) for shape, _ in node._outputs)
    name = operation_of(node)
    formulas = formula_of(node.name(), name)
    step = Step(number, node.name(), name, f"{', '.join(inputs)} -> {results}", *formulas)
    several = len(arrived) > 1
    step.incoming = [f"g{i if several else ''} = {grad}" for i, grad in enumerate(arrived, 1)]
    for (producer, _), grad in zip(producers, grads, strict=False):
        if producer is not None:
            step.outgoing.append(Arrival(grad, target(producer)))
    return step


def _output(producer: Node, index: int) -> tuple[tuple[int, ...], str]:
    shape, dtype = producer._outputs[index]
    return shape, short_dtype(dtype)

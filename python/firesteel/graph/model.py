"""What a drawing shows, as plain data: boxes and arrows, read from the nodes of a graph.

Nothing here keeps a graph alive: nodes and tensors are read once and let go.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Literal

from firesteel import _core
from firesteel.graph.values import gradient_text, scalar_text

if TYPE_CHECKING:
    from firesteel import Tensor
    from firesteel._core import Node
    from firesteel.nn import Module

# Operations that are one node, by what the node says of itself.
FUSED = {"Linear": "linear", "CrossEntropy": "cross_entropy"}
# Custom functions of the package itself, as users know them.
OTHER_NAMES = {"CheckpointFunctionBackward": "checkpoint"}

Kind = Literal["operation", "parameter", "leaf", "result", "module", "omitted"]


@dataclass(frozen=True)
class SavedTensor:
    """A tensor that an operation keeps for the backward pass.

    `memory` names the memory it lies in, and `nbytes` are the bytes of that: two saved tensors of one memory
    cost it once. Of a tensor that is only a part of it, `is_part` says so; what a hook packed `is_packed`,
    its bytes 0 if they are unknown.
    """

    label: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    memory: int
    is_part: bool = False
    is_packed: bool = False

    def __str__(self) -> str:
        size = readable_bytes(self.nbytes)
        if self.is_packed:
            return f"{self.label} {self.shape}, packed" + (f" in {size}" if self.nbytes else " by a hook")
        return f"{self.label} {self.shape}, {'part of ' if self.is_part else ''}{size}"


@dataclass
class Box:
    """One box of a drawing: an operation, a leaf, a result, or several operations folded into one.

    `key` is the number of the node it stands for; a folded box has that of its oldest member. `outputs` are
    the shapes and dtypes of what it produces, `value` its only element where that is at hand. `constants`
    counts inputs that need no gradient, `hooks` what is called when gradients pass, `members` the operations
    of a folded box by name. `is_traced` says that the forward pass itself told the module.
    """

    key: int
    kind: Kind
    title: str
    node: str = ""
    attributes: str = ""
    outputs: list[tuple[tuple[int, ...], str]] = field(default_factory=list)
    saved: list[SavedTensor] = field(default_factory=list)
    value: str = ""
    gradient: str = ""
    constants: int = 0
    module: str = ""
    names: list[str] = field(default_factory=list)
    hooks: int = 0
    is_traced: bool = False
    members: Counter[str] = field(default_factory=Counter)
    parameters: int = 0
    numel: int = 0

    @property
    def is_leaf(self) -> bool:
        """Whether gradients end here."""
        return self.kind in ("parameter", "leaf")

    @property
    def operations(self) -> int:
        """How many operations it stands for."""
        return self.members.total() if self.members else int(self.kind == "operation")

    @property
    def saved_bytes(self) -> int:
        """Bytes that it keeps for the backward pass, each memory counted once."""
        return bytes_once(self.saved)


@dataclass
class GraphModel:
    """Boxes by key, and arrows from what produces a tensor to what uses it, with how often it does."""

    boxes: dict[int, Box] = field(default_factory=dict)
    arrows: Counter[tuple[int, int]] = field(default_factory=Counter)

    def summary(self) -> str:
        """One line: how much there is of everything."""
        boxes = self.boxes.values()
        operations = sum(box.operations for box in boxes)
        parameters = sum(box.parameters for box in boxes)
        numel = sum(box.numel for box in boxes)
        parts = [counted(operations, "operation")]
        if parameters:
            parts.append(f"{counted(parameters, 'parameter')} of {counted(numel, 'element')}")
        saved = bytes_once(tensor for box in boxes for tensor in box.saved)
        parts.append(f"{readable_bytes(saved)} saved for backward")
        return ", ".join(parts)

    def producers(self) -> dict[int, list[int]]:
        """For each box the boxes whose tensors it uses, in the order of their arrows."""
        found: dict[int, list[int]] = {key: [] for key in self.boxes}
        for start, end in self.arrows:
            found[end].append(start)
        return found

    def consumers(self) -> dict[int, list[int]]:
        """For each box the boxes that use its tensors."""
        found: dict[int, list[int]] = {key: [] for key in self.boxes}
        for start, end in self.arrows:
            found[start].append(end)
        return found


def reachable(roots: Iterable[Node]) -> dict[int, Node]:
    """All nodes that a backward pass from `roots` may visit, by number, newest first: as it visits them."""
    graph = _core._Graph(list(roots))
    return {number: graph[place] for place, number in enumerate(graph.numbers())}


def expect_tensors(op: str, z: object) -> list[Tensor]:
    """The tensors given as `z`, one or several.

    Raises:
        TypeError: for anything else than tensors.
    """
    tensors: list[Tensor] = []
    items = z if isinstance(z, Iterable) and not isinstance(z, _core.Tensor | str) else [z]
    for tensor in items:
        if not isinstance(tensor, _core.Tensor):
            raise TypeError(
                f"{op}: expected a Tensor or a sequence of them, not {_described(tensor, z)}; pass tensors"
            )
        tensors.append(tensor)
    return tensors


def _described(item: object, z: object) -> str:
    name = type(item).__name__
    return name if item is z else f"{type(z).__name__} with {name} in it"


def expect_graph(op: str, z: object) -> list[Tensor]:
    """The tensors given as `z`, one or several, each made by a recorded operation.

    Raises:
        TypeError: for anything else than tensors.
        AutogradError: for a tensor without a graph.
    """
    outputs = expect_tensors(op, z)
    for tensor in outputs:
        about = f"the tensor of shape {tuple(tensor.shape)} and dtype {short_dtype(tensor.dtype)}"
        if not tensor.requires_grad:
            raise _core.AutogradError(
                f"{op}: {about} does not require grad, so there is no graph behind it; pass the result of a "
                "computation outside of no_grad() with a tensor that has requires_grad=True"
            )
        if tensor.grad_fn is None:
            raise _core.AutogradError(
                f"{op}: {about} is a leaf, no operation made it; pass what was computed from it"
            )
    if not outputs:
        raise ValueError(f"{op}: the sequence of tensors is empty; pass at least one")
    return outputs


def names_of(op: str, module: Module | None, names: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Names of tensors: the parameters of `module`, and those given."""
    from firesteel.nn import Module

    if module is not None and not isinstance(module, Module):
        raise TypeError(f"{op}: module must be an nn.Module, not {type(module).__name__}")
    named: dict[str, Tensor] = dict(module.named_parameters()) if module is not None else {}
    if names is not None and not isinstance(names, Mapping):
        raise TypeError(
            f'{op}: names must be a dict of tensors by name, not {type(names).__name__}; pass {{"x": x}}'
        )
    for name, tensor in (names or {}).items():
        if not isinstance(tensor, _core.Tensor):
            raise TypeError(f"{op}: names[{name!r}] must be a Tensor, not {type(tensor).__name__}")
        named[str(name)] = tensor
    return named


def build(
    outputs: Sequence[Tensor],
    named: Mapping[str, Tensor],
    *,
    saved: bool,
    grads: bool,
    most: int | None = None,
) -> GraphModel:
    """The graph behind `outputs`, one box a node, and one for each output.

    Of a graph of more than `most` nodes a third of that is read from each end, and one box stands for all
    between them.
    """
    model = GraphModel()
    roots = [output.grad_fn for output in outputs if output.grad_fn is not None]
    graph = _core._Graph(roots)
    count = len(graph)
    start, stop = (most // 3, count - most // 3) if most is not None and count > most else (count, count)
    numbers = graph.numbers()
    keys = {number: number for number in [*numbers[:start], *numbers[stop:]]}
    if start < stop:
        keys |= dict.fromkeys(numbers[start:stop], numbers[stop - 1])
    reader = _Reader(outputs, named, saved, grads)
    for place in [*range(start), *range(stop, count)]:
        node, key = graph[place], numbers[place]
        model.boxes[key] = box = reader.box(key, node)
        for producer, _ in node.next_functions:
            if producer is not None:
                model.arrows[keys[producer._sequence_nr()], key] += 1
            elif not box.is_leaf:
                box.constants += 1
    if start < stop:
        box = _omitted(graph, start, stop, model, numbers[stop - 1], saved)
        for producer_key in graph.used_by(start, stop):
            model.arrows[producer_key, box.key] = 1
        model.boxes = dict(sorted({**model.boxes, box.key: box}.items(), reverse=True))
    newest = max(model.boxes)
    for number, (output, root) in enumerate(zip(outputs, roots, strict=True), 1):
        box = reader.result(newest + number, output, "" if len(outputs) == 1 else f" {number}")
        model.boxes[box.key] = box
        model.arrows[root._sequence_nr(), box.key] += 1
    return model


def not_drawn(operations: int, leaves: int) -> str:
    """What a box says that stands for what is not drawn."""
    return f"… {counted(operations, 'operation') if operations else counted(leaves, 'tensor')} not drawn"


def _omitted(graph: _core._Graph, start: int, stop: int, model: GraphModel, key: int, saved: bool) -> Box:
    """One box for the nodes of a graph from `start` to `stop`, with what they keep beside the other boxes."""
    box = Box(key, "omitted", "")
    drawn = {tensor.memory for other in model.boxes.values() for tensor in other.saved}
    counts, (_, nbytes, _), _ = graph.held(start, stop, drawn, 0)
    leaves = 0
    for name, kind, nodes, _ in counts:
        if name == "AccumulateGrad":
            leaves = nodes
        else:
            box.members[operation_title(name, kind)] += nodes
    if leaves:
        from firesteel.nn import Parameter

        found = (variable_of(graph[place]) for place in range(start, stop))
        parameters = [leaf.numel() for leaf in found if isinstance(leaf, Parameter)]
        box.parameters, box.numel = len(parameters), sum(parameters)
    box.title = not_drawn(box.members.total(), leaves)
    if saved and nbytes:
        # All of it as one: a number of its own, which is no address.
        box.saved = [SavedTensor("", (), "", nbytes, -key)]
    return box


class _Reader:
    """Makes boxes of nodes: with the names that are known, and what is to be shown."""

    def __init__(
        self, outputs: Sequence[Tensor], named: Mapping[str, Tensor], saved: bool, grads: bool
    ) -> None:
        self.outputs, self.saved, self.grads = outputs, saved, grads
        self.labels = {id(tensor): name for name, tensor in named.items()}
        self.memory = {tensor._memory_key(): (name, tuple(tensor.shape)) for name, tensor in named.items()}
        self.made_by = {
            tensor.grad_fn._sequence_nr(): (name, tensor)
            for name, tensor in named.items()
            if tensor.grad_fn is not None
        }

    def box(self, key: int, node: Node) -> Box:
        """The box of one node."""
        leaf = variable_of(node)
        if leaf is not None:
            box = _leaf_box(key, leaf, self.labels.get(id(leaf)), self.grads)
        else:
            box = self._operation(key, node)
        box.hooks = sum(kind != "retain_grad" for kind, _ in node._hooks)
        return box

    def _operation(self, key: int, node: Node) -> Box:
        box = Box(key, "operation", operation_of(node), node.name(), _attributes(node._operation))
        box.outputs = [(shape, short_dtype(dtype)) for shape, dtype in node._outputs]
        # Recorded only while anomalies are being looked for: file, line, function, and path of the module.
        trace = node._trace
        if trace is not None:
            box.is_traced = True
            box.module = (trace[3] or "").partition(".")[2]  # parameters are named without the class
            box.attributes = f"{trace[0]}:{trace[1]}\n{box.attributes}"
        if self.saved:
            box.saved = [_saved_tensor(kept, self.memory, node) for kept in node._saved]
        if key in self.made_by:
            name, tensor = self.made_by[key]
            # An output has a box of its own, with its name.
            if not any(tensor is output for output in self.outputs):
                box.names.append(name)
                box.value = scalar_text(tensor)
            if self.grads and tensor.retains_grad:
                box.gradient = gradient_text(tensor)
        return box

    def result(self, key: int, output: Tensor, number: str) -> Box:
        """The box of one output."""
        box = Box(key, "result", self.labels.get(id(output)) or f"result{number}")
        box.outputs = [(tuple(output.shape), short_dtype(output.dtype))]
        box.value = scalar_text(output)
        if self.grads and output.retains_grad:
            box.gradient = gradient_text(output)
        return box


def variable_of(node: Node) -> Tensor | None:
    """The leaf whose `.grad` this node fills, if it is such a node."""
    return node.variable if node.name() == "AccumulateGrad" else None


def _leaf_box(key: int, leaf: Tensor, name: str | None, grads: bool) -> Box:
    from firesteel.nn import Parameter

    is_parameter = isinstance(leaf, Parameter)
    box = Box(key, "parameter" if is_parameter else "leaf", name or ("parameter" if is_parameter else "leaf"))
    box.node = "AccumulateGrad"
    box.outputs = [(tuple(leaf.shape), short_dtype(leaf.dtype))]
    box.value = scalar_text(leaf)
    box.names = [name] if name else []
    box.parameters = int(is_parameter)
    box.numel = leaf.numel() if is_parameter else 0
    if grads:
        box.gradient = gradient_text(leaf)
    return box


def _saved_tensor(
    kept: tuple[str, tuple[int, ...], _core.dtype, int, int],
    memory: Mapping[int, tuple[str, tuple[int, ...]]],
    node: Node,
) -> SavedTensor:
    label, shape, dtype, nbytes, key = kept
    part = label.removeprefix("packed ")
    name, whole = memory.get(key, (_part(part, node), shape))
    own = prod(shape) * dtype.itemsize
    return SavedTensor(
        name if whole == shape else f"view of {name}",
        shape,
        short_dtype(dtype),
        nbytes,
        key,
        is_part=nbytes > own,
        is_packed=part != label,
    )


def _part(part: str, node: Node) -> str:
    """Which part of an operation is kept: of inputs, what made them."""
    if not part.startswith("input "):
        return part
    producers = [producer for producer, _ in node.next_functions]
    producer = producers[int(part.removeprefix("input "))]
    if producer is None:
        return "constant"
    if variable_of(producer) is not None:
        return part
    operations = [one for one in producers if one is not None and variable_of(one) is None]
    return "input" if len(operations) == 1 else f"{operation_of(producer)}'s output"


def operation_name(node: str) -> str:
    """Name of an operation as users spell it, from the name of its node: `AddmmBackward0` is `addmm`."""
    stem = re.sub(r"Backwards?\d*$", "", node)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", stem).lower()
    words = re.sub(r"_?([12])_d", r"\1d", words)
    return words.removeprefix("native_").removesuffix("_with_indices") or node


def operation_of(node: Node) -> str:
    """Name of a node's operation: as users spell it, or the class that they wrote."""
    name = node.name()
    return operation_title(name, "" if name == "AccumulateGrad" else kind_of(node._operation))


def kind_of(operation: str) -> str:
    """An operation without its attributes: `MaxPool` of `MaxPool { kernel: 2 }`."""
    return re.split(r"[ (]", operation, maxsplit=1)[0]


@cache
def operation_title(name: str, kind: str) -> str:
    """Name of an operation as users spell it, by the name of its node and its kind.

    Some are one node, which PyTorch names for a part of its own.
    """
    if name == kind and (custom := re.fullmatch(r"(\w+)Backward", name)):
        return OTHER_NAMES.get(name, custom[1])
    return FUSED.get(kind) or operation_name(name)


def _attributes(operation: str) -> str:
    """The operation with its attributes, short enough for a tooltip."""
    return operation if len(operation) <= 200 else operation[:199] + "…"


def short_dtype(dtype: object) -> str:
    """A dtype without its module: `float32`."""
    return str(dtype).rpartition(".")[2]


def shape_text(outputs: Sequence[tuple[tuple[int, ...], str]]) -> str:
    """Shapes and dtypes of an operation's outputs, of many only the first two."""
    shown = [f"{shape} {dtype}" for shape, dtype in outputs[:2]]
    return ", ".join(shown) + (f", … {len(outputs)} outputs" if len(outputs) > 2 else "")


def result_text(box: Box) -> str:
    """Shapes and dtypes of what a box produces, and the value of a single number."""
    return shape_text(box.outputs) + (f" = {box.value}" if box.value else "")


def bytes_once(saved: Iterable[SavedTensor]) -> int:
    """Bytes of saved tensors: of those in one memory the largest counts."""
    largest: dict[int, int] = {}
    for tensor in saved:
        largest[tensor.memory] = max(tensor.nbytes, largest.get(tensor.memory, 0))
    return sum(largest.values())


def readable_bytes(nbytes: int) -> str:
    """Bytes with a unit that keeps the number short: `1.5 KiB`."""
    size = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{nbytes} B" if unit == "B" else f"{size:.1f} {unit}"


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 node`, `1,200 nodes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

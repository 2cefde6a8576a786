"""Which module an operation belongs to, and a smaller graph with modules as boxes.

Where the forward pass was traced, a node knows its module. Elsewhere it is inferred:

- an operation that uses `layer1.0.conv1.weight` belongs to `layer1.0.conv1`;
- one that keeps the shape (an activation, a sum with a shortcut) belongs to where its newest input was made:
  to the module that holds that layer;
- any other (pooling, a loss) to the innermost module that holds both what it uses and what uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from firesteel.graph.model import Box, GraphModel, Kind, not_drawn

# A graph with more boxes than this is folded, unless the caller says how.
FOLDED_ABOVE = 60
# Of the leaves of one operation, in a graph that is too large to draw, so many are drawn.
FEW_LEAVES = 4

# Operations after which a parameter is still the same parameter.
OTHER_FORMS = frozenset(
    {"t", "transpose", "permute", "view", "unsqueeze", "squeeze", "expand", "to_copy", "clone"}
)

Path = tuple[str, ...]


def place(model: GraphModel) -> None:
    """Writes into each operation's box the path of its module, where the boxes know any parameter by name."""
    paths: dict[int, Path | None] = {key: _parameter_home(box) for key, box in model.boxes.items()}
    homes = {path for path in paths.values() if path is not None}
    if not homes and not any(box.module for box in model.boxes.values()):
        return
    containers = {path[:depth] for path in homes for depth in range(len(path))}
    producers, consumers = model.producers(), model.consumers()
    # Parameters, also transposed or converted: as inputs of an operation they say whose operation it is.
    constant = {key: path is not None for key, path in paths.items()}
    own: set[int] = set()
    operations = [key for key in sorted(model.boxes) if model.boxes[key].kind == "operation"]
    for key in operations:
        box = model.boxes[key]
        from_parameters = [paths[p] for p in producers[key] if constant[p]]
        constant[key] = bool(from_parameters) and box.title in OTHER_FORMS
        if box.is_traced:
            paths[key] = tuple(box.module.split(".")) if box.module else ()
        elif from_parameters:
            paths[key] = common([path for path in from_parameters if path is not None])
        if paths[key] is not None:
            own.add(key)
    follows = _next_homes(operations, consumers, paths)
    for key in operations:
        if paths[key] is None:
            paths[key] = _between(key, model, producers, consumers, paths, own, containers, follows)
        model.boxes[key].module = ".".join(paths[key] or ())


def _parameter_home(box: Box) -> Path | None:
    """The path of the module that holds the parameter of this name."""
    if box.kind == "parameter" and box.names:
        return tuple(box.names[0].split(".")[:-1])
    return None


def _next_homes(
    operations: Sequence[int], consumers: dict[int, list[int]], paths: dict[int, Path | None]
) -> dict[int, Path]:
    """For each operation the innermost module that holds all placed operations that use its result next."""
    follows: dict[int, Path] = {}
    for key in reversed(operations):
        found = [
            paths[user] or () if paths.get(user) is not None else follows.get(user, ())
            for user in consumers[key]
        ]
        follows[key] = common(found)
    return follows


def _between(
    key: int,
    model: GraphModel,
    producers: dict[int, list[int]],
    consumers: dict[int, list[int]],
    paths: dict[int, Path | None],
    own: set[int],
    containers: set[Path],
    follows: dict[int, Path],
) -> Path:
    """The module of an operation without parameters."""
    placed = [producer for producer in producers[key] if paths[producer] is not None]
    if not placed:
        return ()

    def home(producer: int) -> Path:
        path = paths[producer] or ()
        # What follows a layer is an operation of the module that called it, not of the layer.
        return path[:-1] if producer in own and path not in containers else path

    newest = max(placed)
    path = home(newest)
    # A sum with a shortcut that is a module: what did not pass through the shortcut is from around it.
    for producer in placed:
        around = home(producer)
        if len(around) < len(path) and path[: len(around)] == around:
            inside = [paths[user] for user in consumers[producer] if user != key]
            if not any((user or ())[: len(path)] == path for user in inside):
                path = around
    shapes = [model.boxes[producer].outputs for producer in producers[key]]
    keeps_shape = any(
        shape == own_shape
        for shape, _ in (output for outputs in shapes for output in outputs)
        for own_shape, _ in model.boxes[key].outputs
    )
    return path if keeps_shape else common([path, follows[key]])


def common(paths: Sequence[Path]) -> Path:
    """The longest path that all of `paths` begin with."""
    if not paths:
        return ()
    first, last = min(paths), max(paths)
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return first[:length]


def fold(model: GraphModel, how: int | bool | Sequence[str] | None) -> GraphModel:
    """A graph in which modules are boxes.

    Args:
        how: a depth (1: the children of the module are a box each), the paths of modules, False for all
            boxes, or None: the largest depth with no more than 60 boxes, if there are more than that.
    """
    if how is False:
        return model
    if how is None:
        if len(model.boxes) <= FOLDED_ABOVE:
            return model
        deepest = max((box.module.count(".") + 1 for box in model.boxes.values() if box.module), default=0)
        folded = model
        for depth in range(deepest, 0, -1):
            folded = _folded_to(model, depth)
            if len(folded.boxes) <= FOLDED_ABOVE:
                break
        return folded
    if isinstance(how, int):
        if how < 1:
            raise ValueError(
                f"draw: fold={how} is no depth of modules; pass 1 or more, module names or False"
            )
        return _folded_to(model, how)
    return _fold_modules(model, [how] if isinstance(how, str) else list(how))


def _folded_to(model: GraphModel, depth: int) -> GraphModel:
    """Modules at this depth as boxes, and those above it that hold no others."""
    paths = {tuple(box.module.split(".")) for box in model.boxes.values() if box.module}
    holders = {path[:length] for path in paths for length in range(1, len(path))}
    groups = {}
    for key, box in model.boxes.items():
        path = tuple(box.module.split("."))
        if box.module and box.kind == "operation" and (len(path) >= depth or path not in holders):
            groups[key] = ".".join(path[:depth])
    return contract(model, groups)


def _fold_modules(model: GraphModel, names: Sequence[str]) -> GraphModel:
    groups: dict[int, str] = {}
    for key, box in model.boxes.items():
        if box.kind == "operation":
            inside = [name for name in names if f"{box.module}.".startswith(f"{name}.")]
            if inside:
                groups[key] = min(inside, key=len)
    missing = sorted(set(names) - set(groups.values()))
    if missing:
        known = sorted({box.module for box in model.boxes.values() if box.module})
        hint = f"; modules in this graph: {', '.join(known[:20])}" if known else "; pass module= to name them"
        raise ValueError(f"draw: fold={list(names)}: no operation belongs to {', '.join(missing)}{hint}")
    return contract(model, groups)


def contract(model: GraphModel, groups: dict[int, str], kind: Kind = "module") -> GraphModel:
    """A graph with one box for each group of operations, and with it the leaves that nothing else uses.

    A module that was called twice with other operations in between is two boxes: as one it would be both
    before and after them.
    """
    label: dict[int, tuple[str, int]] = {key: (name, 0) for key, name in groups.items()}
    for tangled in _tangled(model, label):
        run, previous = 0, None
        for key in sorted(tangled):
            name = label[key][0] if key in label else None
            run += name != previous
            previous = name
            if name is not None:
                label[key] = (name, run)
    _take_leaves(model, label)
    return _merged(model, label, kind)


def _take_leaves(model: GraphModel, label: dict[int, tuple[str, int]]) -> None:
    consumers = model.consumers()
    for key, box in model.boxes.items():
        if box.is_leaf:
            users = {label.get(user) for user in consumers[key]}
            if len(users) == 1 and (group := users.pop()) is not None:
                label[key] = group


def _tangled(model: GraphModel, label: dict[int, tuple[str, int]]) -> Iterable[set[int]]:
    """Sets of operations whose groups use each other's results in a circle."""
    group = {key: label.get(key, key) for key in model.boxes}
    after: dict[object, set[object]] = {name: set() for name in group.values()}
    for start, end in model.arrows:
        if group[start] != group[end]:
            after[group[start]].add(group[end])
    members: dict[object, set[int]] = {}
    for key, name in group.items():
        if not model.boxes[key].is_leaf:
            members.setdefault(name, set()).add(key)
    for circle in _circles(after):
        yield set().union(*(members.get(name, set()) for name in circle))


def _circles(after: dict[object, set[object]]) -> Iterable[list[object]]:
    """The strongly connected parts with more than one member (Tarjan's method, without recursion)."""
    order: dict[object, int] = {}
    low: dict[object, int] = {}
    stack: list[object] = []
    on_stack: set[object] = set()
    for root in after:
        if root in order:
            continue
        work = [(root, iter(sorted(after[root], key=str)))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            name, following = work[-1]
            for other in following:
                if other not in order:
                    order[other] = low[other] = len(order)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(sorted(after[other], key=str))))
                    break
                if other in on_stack:
                    low[name] = min(low[name], order[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == order[name]:
                    part: list[object] = []
                    while not part or part[-1] != name:
                        part.append(stack.pop())
                        on_stack.discard(part[-1])
                    if len(part) > 1:
                        yield part


def _merged(model: GraphModel, label: dict[int, tuple[str, int]], kind: Kind) -> GraphModel:
    members: dict[tuple[str, int], list[Box]] = {}
    for key in sorted(label):
        members.setdefault(label[key], []).append(model.boxes[key])
    stands_for = {key: members[label[key]][0].key if key in label else key for key in model.boxes}
    folded = GraphModel()
    for group, boxes in members.items():
        folded.boxes[boxes[0].key] = _one_box(group[0], boxes, kind)
    for key, box in model.boxes.items():
        if key not in label:
            folded.boxes[key] = box
    folded.boxes = dict(sorted(folded.boxes.items(), reverse=True))
    for (start, end), count in model.arrows.items():
        one, other = stands_for[start], stands_for[end]
        if one != other:
            # How often a module uses something inside of it is its own affair.
            folded.arrows[one, other] = count if (one, other) == (start, end) else 1
    return folded


def _one_box(name: str, boxes: Sequence[Box], kind: Kind) -> Box:
    operations = [box for box in boxes if not box.is_leaf]
    box = Box(boxes[0].key, kind, name)
    box.module = name if kind == "module" else ""
    box.outputs = operations[-1].outputs if kind == "module" else []
    for member in operations:
        # What stands for leaves alone has no members.
        box.members += member.members or ({} if member.kind == "omitted" else {member.title: 1})
        box.saved += member.saved
    box.hooks = sum(member.hooks for member in boxes)
    box.parameters = sum(member.parameters for member in boxes)
    box.numel = sum(member.numel for member in boxes)
    gradients = [member for member in boxes if member.kind == "parameter" and member.gradient]
    if gradients:
        box.gradient = f"{len(gradients)} of {box.parameters} parameters have grad"
    return box


def abbreviate(model: GraphModel, max_nodes: int) -> GraphModel:
    """A graph of about `max_nodes` boxes: the oldest and the newest stay, one box says what lies between."""
    if max_nodes < 2:
        raise ValueError(f"draw: max_nodes={max_nodes}: at least 2 boxes are needed")
    if len(model.boxes) <= max_nodes:
        return model
    inner = [key for key in sorted(model.boxes) if not model.boxes[key].is_leaf]
    results = sum(model.boxes[key].kind == "result" for key in inner)
    inner = [key for key in inner if model.boxes[key].kind != "result"]
    # Each operation may bring leaves of its own: they count too.
    share = max(1, len(inner) * (max_nodes - results - 1) // (len(model.boxes) - results))
    first, last = (share + 1) // 2, share // 2
    middle = inner[first : len(inner) - last]
    if len(middle) > 1:  # one box would stand for one
        hidden = sum(model.boxes[key].operations for key in middle)
        model = contract(model, dict.fromkeys(middle, not_drawn(hidden, 0)), "omitted")
    return model if len(model.boxes) <= max_nodes + FEW_LEAVES else _without_crowds(model)


def _without_crowds(model: GraphModel) -> GraphModel:
    """A graph in which many leaves of one operation are one box, but for the first ones."""
    consumers = model.consumers()
    crowds: dict[tuple[int, ...], list[int]] = {}
    for key in sorted(key for key, box in model.boxes.items() if box.is_leaf):
        crowds.setdefault(tuple(consumers[key]), []).append(key)
    label: dict[int, tuple[str, int]] = {}
    for number, crowd in enumerate(crowds.values()):
        hidden = crowd[FEW_LEAVES:]
        if len(hidden) > 1:
            label |= dict.fromkeys(hidden, (not_drawn(0, len(hidden)), number))
    return _merged(model, label, "omitted")

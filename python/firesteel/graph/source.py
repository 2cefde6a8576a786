"""A drawing as text: a table for terminals, Graphviz's DOT, and Mermaid for Markdown pages."""

from __future__ import annotations

from collections.abc import Mapping

from firesteel.graph.model import Box, GraphModel, result_text
from firesteel.graph.svg import LOOKS, lines_of, title_of


def text(model: GraphModel) -> str:
    """A table: a line for each operation in the order in which they ran, and what each one uses.

    Operations are numbered, leaves go by their names.
    """
    producers = model.producers()
    order = sorted(model.boxes)
    names = _names(model)
    rows: list[tuple[str, str, str, str, str]] = []
    for key in order:
        box = model.boxes[key]
        if box.is_leaf:
            kind = "" if box.title in ("parameter", "leaf") else box.kind
            rows.append(("", names[key], kind, result_text(box), "; ".join(lines_of(box)[1:])))
    if rows:
        rows.append(("", "", "", "", ""))
    for key in order:
        box = model.boxes[key]
        if not box.is_leaf:
            number = names[key] if names[key].startswith("#") else ""
            used = ", ".join(_uses(model, key, producers[key], names))
            title = f"{box.module}: {title_of(box)}" if caption(box) else title_of(box)
            facts = lines_of(box)[1 if box.outputs else 0 :]
            rows.append((number, title, used, result_text(box), "; ".join(facts)))
    header = ("", "operation", "of", "result", "facts")
    rows.insert(0, header)
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [model.summary(), ""]
    for row in rows:
        cells = [row[0].rjust(widths[0]), *(row[i].ljust(widths[i]) for i in (1, 2, 3)), row[4]]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def caption(box: Box) -> bool:
    """Whether a box says which module it is of."""
    return box.kind == "operation" and bool(box.module)


def _names(model: GraphModel) -> dict[int, str]:
    names: dict[int, str] = {}
    count = leaves = 0
    for key in sorted(model.boxes):
        box = model.boxes[key]
        if box.kind == "result":
            names[key] = box.title
        elif not box.is_leaf:
            count += 1
            names[key] = f"#{count}"
        elif box.names:
            names[key] = box.title
        else:
            leaves += 1
            names[key] = f"{box.title} {leaves}"
    return names


def _uses(model: GraphModel, key: int, producers: list[int], names: Mapping[int, str]) -> list[str]:
    used = []
    for producer in producers[:6]:
        count = model.arrows[producer, key]
        used.append(names[producer] + (f" ×{count}" if count > 1 else ""))
    return used + ([f"… {len(producers) - 6:,} more"] if len(producers) > 6 else [])


def _clusters(model: GraphModel) -> dict[str, list[int]]:
    """The operations of each module, with the parameters that only they use."""
    consumers = model.consumers()
    clusters: dict[str, list[int]] = {}
    for key in sorted(model.boxes):
        box = model.boxes[key]
        users = {model.boxes[user].module for user in consumers[key]} if box.is_leaf else {box.module}
        if len(users) == 1 and box.kind in ("operation", "parameter"):
            clusters.setdefault(users.pop(), []).append(key)
        else:
            clusters.setdefault("", []).append(key)
    return clusters


def _label(box: Box, newline: str) -> str:
    return newline.join([title_of(box), *lines_of(box)])


def _numbers(model: GraphModel) -> dict[int, int]:
    """Boxes from 1 on: the same for the same graph, whatever was recorded before it."""
    return {key: number for number, key in enumerate(sorted(model.boxes), 1)}


def dot(model: GraphModel) -> str:
    """Graphviz's language: `dot -Tpdf graph.dot -o graph.pdf`."""

    def quoted(words: str) -> str:
        return '"' + words.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    number_of = _numbers(model)
    lines = [
        "digraph firesteel {",
        f"  label={quoted(model.summary())}; labelloc=t; fontname=Helvetica;",
        "  node [shape=box, style=filled, fontname=Helvetica, fontsize=11];",
        '  edge [color="#7b8794", arrowsize=0.7];',
    ]
    for number, (module, keys) in enumerate(_clusters(model).items()):
        indent = "  "
        if module:
            lines.append(f'  subgraph cluster_{number} {{ label={quoted(module)}; color="#a3adba";')
            indent = "    "
        for key in keys:
            box = model.boxes[key]
            look = LOOKS[box.kind]
            style = {"module": ", peripheries=2", "omitted": ', style="filled,dashed"'}.get(box.kind, "")
            if box.kind in ("leaf", "parameter", "result"):
                style = ', style="filled,rounded"'
            lines.append(
                f"{indent}n{number_of[key]} [label={quoted(_label(box, chr(10)))}, "
                f'fillcolor="{look.fill}", color="{look.stroke}"{style}];'
            )
        if module:
            lines.append("  }")
    for (start, end), count in model.arrows.items():
        lines.append(
            f"  n{number_of[start]} -> n{number_of[end]}" + (f' [label="×{count}"];' if count > 1 else ";")
        )
    return "\n".join([*lines, "}"]) + "\n"


def mermaid(model: GraphModel) -> str:
    """Mermaid's language, which Markdown pages show in a block of their own."""

    def quoted(words: str) -> str:
        marks = {"&": "&amp;", '"': "&quot;", "<": "&lt;", ">": "&gt;"}
        words = "".join(marks.get(char, char) for char in words)
        return '"' + words.replace("\n", "<br/>") + '"'

    number_of = _numbers(model)
    lines = ["flowchart TD"]
    shapes = {"leaf": ("([", "])"), "parameter": ("([", "])"), "result": ("([", "])"), "module": ("[[", "]]")}
    for number, (module, keys) in enumerate(_clusters(model).items()):
        if module:
            lines.append(f"  subgraph m{number}[{quoted(module)}]")
        for key in keys:
            box = model.boxes[key]
            left, right = shapes.get(box.kind, ("[", "]"))
            lines.append(f"    n{number_of[key]}{left}{quoted(_label(box, chr(10)))}{right}:::{box.kind}")
        if module:
            lines.append("  end")
    for (start, end), count in model.arrows.items():
        lines.append(
            f"  n{number_of[start]} -->" + (f'|"×{count}"|' if count > 1 else "") + f" n{number_of[end]}"
        )
    for kind, look in LOOKS.items():
        dashes = ",stroke-dasharray:5 4" if kind == "omitted" else ""
        lines.append(f"  classDef {kind} fill:{look.fill},stroke:{look.stroke},color:#1c2128{dashes}")
    return "\n".join(lines) + "\n"

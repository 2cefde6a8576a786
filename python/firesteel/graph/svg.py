"""A drawing as SVG: boxes with their facts, arrows, and a legend.

Colors stand in the elements, so that every program that shows SVG shows them; a style for dark pages
replaces them where the reader prefers those.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from firesteel.graph.layout import MARGIN, Layout, arrange
from firesteel.graph.model import Box, GraphModel, Kind, readable_bytes, result_text

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
TITLE_SIZE, LINE_SIZE = 13.0, 11.0
TITLE_HEIGHT, LINE_HEIGHT = 18.0, 15.0
PADDING = 12.0
LONGEST_LINE = 52
MOST_SAVED = 3


@dataclass(frozen=True)
class Look:
    """Colors of a kind of box on light and on dark pages, and its name in the legend."""

    legend: str
    fill: str
    stroke: str
    dark_fill: str
    dark_stroke: str


LOOKS: dict[Kind, Look] = {
    "operation": Look("operation", "#eef3fb", "#4a76b8", "#1d2a3d", "#7aa5e3"),
    "parameter": Look("parameter", "#fdf3df", "#b98012", "#36290f", "#e0ae4c"),
    "leaf": Look("tensor with requires_grad", "#e9f5ec", "#3f8f58", "#16301f", "#71c48b"),
    "result": Look("result", "#f4edfb", "#8353b5", "#2c1f3b", "#bb92e6"),
    "module": Look("module, folded", "#f3f4f6", "#5d6673", "#262b33", "#a3adba"),
    "omitted": Look("not drawn", "#ffffff", "#8a929e", "#14181e", "#8a929e"),
}
PAGE, INK, FAINT, LINE = "#ffffff", "#1c2128", "#59636e", "#7b8794"
DARK_PAGE, DARK_INK, DARK_FAINT, DARK_LINE = "#14181e", "#eceff3", "#a9b3bf", "#8593a3"


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width of a line of text, rather too large than too small: the font is the reader's."""
    total = 0.0
    for char in text:
        if char in "iljtfI.,:;'|!()[]· ":
            total += 0.4
        elif char in "mwMW—…@%":
            total += 1.0
        elif char.isupper() or not char.isascii():
            total += 0.78
        else:
            total += 0.64
    return total * size * (1.08 if bold else 1.0)


def shortened(text: str, longest: int = LONGEST_LINE) -> str:
    """A line with its middle left out, if it is too long for a box."""
    if len(text) <= longest:
        return text
    head = longest * 2 // 3
    return f"{text[:head]}…{text[len(text) - (longest - head - 1) :]}"


def lines_of(box: Box) -> list[str]:
    """What stands in a box below its title."""
    lines = []
    if box.outputs:
        lines.append(result_text(box))
    if box.members:
        common = box.members.most_common()
        if len(common) == 1 and box.members.total() == 1:
            lines.append(common[0][0])
        else:
            few = ", ".join(name if count == 1 else f"{count} × {name}" for name, count in common[:2])
            lines.append(f"{box.members.total():,} operations: {few}{', …' if len(common) > 2 else ''}")
    if box.kind in ("module", "omitted") and box.parameters:
        plural = "s" if box.parameters > 1 else ""
        lines.append(f"{box.parameters:,} parameter{plural}, {box.numel:,} elements")
    if box.kind in ("module", "omitted"):
        if box.saved:
            lines.append(f"keeps {readable_bytes(box.saved_bytes)}")
    else:
        lines += [
            f"keeps {_within(box, kept.label)} {kept.shape}, {readable_bytes(kept.nbytes)}"
            for kept in box.saved[:MOST_SAVED]
        ]
        if len(box.saved) > MOST_SAVED:
            rest = len(box.saved) - MOST_SAVED
            lines.append(f"and {rest} more, {readable_bytes(box.saved_bytes)} in all")
    if box.gradient:
        lines.append(box.gradient)
    return [shortened(line) for line in lines]


def _within(box: Box, label: str) -> str:
    """The name of a parameter as the module of the box knows it."""
    return label.replace(f"{box.module}.", "", 1) if box.module else label


def title_of(box: Box) -> str:
    """The first line of a box; an operation whose result has a name tells it."""
    name = f"{box.names[0]} = " if box.names and box.kind == "operation" else ""
    return shortened(name + box.title)


def caption_of(box: Box) -> str:
    """The small line above an operation's title: its module."""
    return shortened(box.module) if box.kind == "operation" and box.module else ""


def size_of(box: Box) -> tuple[float, float]:
    """Width and height of a box with its text."""
    widths = [text_width(title_of(box), TITLE_SIZE, bold=True)]
    widths += [text_width(line, LINE_SIZE) for line in [*lines_of(box), caption_of(box)]]
    rows = len(lines_of(box)) + bool(caption_of(box))
    return max(80.0, max(widths) + 2 * PADDING), TITLE_HEIGHT + rows * LINE_HEIGHT + 14


def layout_of(model: GraphModel) -> Layout:
    """Where the boxes and arrows of the picture are."""
    sizes = {key: size_of(box) for key, box in model.boxes.items()}
    return arrange(sizes, list(model.arrows), {key for key, box in model.boxes.items() if box.is_leaf})


def render(model: GraphModel) -> str:
    """The picture."""
    layout = layout_of(model)
    head = 46.0
    legend, legend_width, legend_height = _legend(model, max(layout.width, 420.0))
    width = max(layout.width, legend_width, text_width(model.summary(), 12) + 2 * MARGIN)
    height = head + layout.height + legend_height
    shift = (width - layout.width) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="firesteel-graph" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" font-family="{FONT}" '
        f'style="max-width: 100%; height: auto">',
        f"<title>{escape(model.summary())}</title>",
        _style(),
        '<defs><marker id="firesteel-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path class="fs-tip" d="M0,0.5 L8,4 L0,7.5 z" fill="{LINE}"/>'
        "</marker></defs>",
        f'<rect class="fs-page" width="{width:.0f}" height="{height:.0f}" rx="10" fill="{PAGE}"/>',
        _text(MARGIN, 28, model.summary(), 12, "fs-faint", FAINT),
        f'<g transform="translate({shift:.1f} {head - MARGIN + 10:.1f})">',
    ]
    for arrow, count in model.arrows.items():
        parts.append(_arrow(layout.arrows[arrow], count))
    for key, box in model.boxes.items():
        parts.append(_box(box, layout.boxes[key]))
    parts += ["</g>", f'<g transform="translate(0 {height - legend_height:.1f})">', *legend, "</g>", "</svg>"]
    return "\n".join(parts) + "\n"


def _style() -> str:
    rules = [
        f".firesteel-graph .fs-page {{ fill: {DARK_PAGE} }}",
        f".firesteel-graph .fs-ink {{ fill: {DARK_INK} }}",
        f".firesteel-graph .fs-faint {{ fill: {DARK_FAINT} }}",
        f".firesteel-graph .fs-line {{ stroke: {DARK_LINE} }}",
        f".firesteel-graph .fs-tip {{ fill: {DARK_LINE} }}",
    ]
    for kind, look in LOOKS.items():
        rules.append(f".firesteel-graph .fs-{kind} {{ fill: {look.dark_fill}; stroke: {look.dark_stroke} }}")
    return "<style>@media (prefers-color-scheme: dark) { " + " ".join(rules) + " }</style>"


def _text(x: float, y: float, text: str, size: float, name: str, color: str, more: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" class="{name}" fill="{color}"{more}>'
        f"{escape(text)}</text>"
    )


def _frame(kind: Kind, x: float, y: float, width: float, height: float) -> str:
    look = LOOKS[kind]
    radius = {"operation": 6.0, "module": 6.0, "omitted": 6.0}.get(kind, min(height / 2, 14.0))
    dashes = ' stroke-dasharray="5 4"' if kind == "omitted" else ""
    frame = (
        f'<rect class="fs-{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{radius:.1f}" fill="{look.fill}" stroke="{look.stroke}" stroke-width="1.2"{dashes}/>'
    )
    if kind != "module":
        return frame
    # A second frame behind: several things in one.
    behind = frame.replace(f'x="{x:.1f}" y="{y:.1f}"', f'x="{x + 3:.1f}" y="{y + 3:.1f}"')
    return behind + frame


def _box(box: Box, place: tuple[float, float, float, float]) -> str:
    x, y, width, height = place
    middle = f"{x + width / 2:.1f}"
    tooltip = "\n".join(filter(None, [box.node, box.attributes, box.module and f"module {box.module}"]))
    parts = [f'<g class="fs-box" data-kind="{box.kind}">', f"<title>{escape(tooltip or box.title)}</title>"]
    parts.append(_frame(box.kind, x, y, width, height))
    anchor = ' text-anchor="middle"'
    row = y + 7
    if caption_of(box):
        parts.append(_text(float(middle), row + 10, caption_of(box), 10, "fs-faint", FAINT, anchor))
        row += LINE_HEIGHT
    title = anchor + ' font-weight="600"'
    parts.append(_text(float(middle), row + 13, title_of(box), TITLE_SIZE, "fs-ink", INK, title))
    row += TITLE_HEIGHT
    for line in lines_of(box):
        parts.append(_text(float(middle), row + 11, line, LINE_SIZE, "fs-faint", FAINT, anchor))
        row += LINE_HEIGHT
    return "".join([*parts, "</g>"])


def _arrow(points: list[tuple[float, float]], count: int) -> str:
    (x, y), *rest = points
    path = [f"M{x:.1f},{y:.1f}"]
    for number, (to_x, to_y) in enumerate(rest):
        if number % 2 == 0 or abs(to_x - x) < 0.05:
            path.append(f"L{to_x:.1f},{to_y:.1f}")
        else:
            middle = (y + to_y) / 2
            path.append(f"C{x:.1f},{middle:.1f} {to_x:.1f},{middle:.1f} {to_x:.1f},{to_y:.1f}")
        x, y = to_x, to_y
    note = f"<title>used {count} times</title>" if count > 1 else ""
    thick = 1.3 if count == 1 else 2.2
    return (
        f'<path class="fs-line" d="{" ".join(path)}" fill="none" stroke="{LINE}" stroke-width="{thick}" '
        f'marker-end="url(#firesteel-arrow)">{note}</path>'
    )


def _legend(model: GraphModel, available: float) -> tuple[list[str], float, float]:
    """Its elements, width and height: a sample of each kind of box that is there."""
    x, y, widest = MARGIN, 8.0, 0.0
    parts = []
    there = {box.kind for box in model.boxes.values()}
    for kind, look in LOOKS.items():
        if kind not in there:
            continue
        width = 30 + text_width(look.legend, LINE_SIZE) + 14
        if x + width > available and x > MARGIN:
            x, y = MARGIN, y + 20
        parts.append(_frame(kind, x, y, 22, 12))
        parts.append(_text(x + 30, y + 10, look.legend, LINE_SIZE, "fs-faint", FAINT))
        x += width
        widest = max(widest, x)
    notes = ["Arrows: how values flow; gradients flow against them."]
    if any(box.saved for box in model.boxes.values()):
        notes.append("keeps: what an operation holds in memory for the backward pass.")
    if any(box.constants for box in model.boxes.values()):
        notes.append("Inputs that need no gradient (constants) are not drawn.")
    y += 17
    for note in notes:
        y += 15
        parts.append(_text(MARGIN, y, note, LINE_SIZE, "fs-faint", FAINT))
        widest = max(widest, text_width(note, LINE_SIZE) + 2 * MARGIN)
    return parts, widest, y + 18

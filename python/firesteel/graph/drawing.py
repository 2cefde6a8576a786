"""`draw`: a picture of the graph behind a tensor."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from firesteel.graph import folding, source, svg
from firesteel.graph.model import GraphModel, build, expect_graph, names_of

if TYPE_CHECKING:
    from firesteel import Tensor
    from firesteel.nn import Module

Format = Literal["svg", "dot", "mermaid", "text"]
FORMATS: tuple[Format, ...] = ("svg", "dot", "mermaid", "text")
# Of larger graphs the middle is not read, node by node: of more nodes, or of so many for each box.
READ, READ_FOR_EACH = 20_000, 20
SUFFIXES: dict[str, Format] = {
    ".svg": "svg",
    ".dot": "dot",
    ".gv": "dot",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".txt": "text",
}


class Drawing:
    """A graph as it was when it was drawn: it keeps no tensor and no graph alive.

    `str(drawing)` is the source text in the format that was asked for; a notebook shows the SVG.

    Example:
        >>> import firesteel as torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> drawing = torch.graph.draw((x * 2).sum())
        >>> drawing.dot().splitlines()[0]
        'digraph firesteel {'
        >>> drawing.svg().startswith("<svg")
        True
    """

    def __init__(self, model: GraphModel, format: Format) -> None:
        self.model = model
        self.format = format

    def __str__(self) -> str:
        return str(getattr(self, self.format)())

    def __repr__(self) -> str:
        return f"<Drawing: {self.model.summary()}>"

    @cached_property
    def _picture(self) -> str:
        return svg.render(self.model)

    def svg(self) -> str:
        """The picture as SVG."""
        return self._picture

    def dot(self) -> str:
        """The graph in Graphviz's language."""
        return source.dot(self.model)

    def mermaid(self) -> str:
        """The graph in Mermaid's language, for Markdown pages."""
        return source.mermaid(self.model)

    def text(self) -> str:
        """The graph as a table for terminals, in the order in which the operations ran."""
        return source.text(self.model)

    def _repr_svg_(self) -> str:
        return self._picture

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file, in the format that its suffix names: .svg, .dot, .gv, .mmd, .mermaid or .txt.

        Raises:
            ValueError: for another suffix.

        Example:
            >>> import firesteel as torch
            >>> from pathlib import Path
            >>> from tempfile import TemporaryDirectory
            >>> drawing = torch.graph.draw(torch.ones(2, requires_grad=True).sum())
            >>> with TemporaryDirectory() as folder:
            ...     path = Path(folder, "sum.mmd")
            ...     drawing.save(path)
            ...     path.read_text() == drawing.mermaid()
            True
        """
        suffix = Path(path).suffix.lower()
        if suffix not in SUFFIXES:
            known = ", ".join(SUFFIXES)
            raise ValueError(
                f"Drawing.save: {Path(path).name!r} ends in none of the suffixes {known}; choose one"
            )
        Path(path).write_text(getattr(self, SUFFIXES[suffix])(), encoding="utf-8")


def draw(
    z: Tensor | Sequence[Tensor],
    module: Module | None = None,
    *,
    format: Format = "svg",
    names: Mapping[str, Tensor] | None = None,
    saved: bool = True,
    grads: bool = True,
    fold: int | bool | Sequence[str] | None = None,
    max_nodes: int = 150,
) -> Drawing:
    """A picture of the operations that made `z`, as the backward pass will visit them.

    A box is an operation, a leaf or a parameter, with shapes and dtypes, what is kept for the backward pass
    and, after it, the gradients. Arrows go from what makes a tensor to what uses it.

    Args:
        z: one or several tensors with a graph.
        module: names the parameters, and with them the modules that operations belong to.
        format: what `str()` of the drawing is: "svg", "dot", "mermaid" or "text".
        names: further names of tensors: `{"x": x}`.
        saved: whether to show the tensors that operations keep.
        grads: whether to show the gradients of leaves.
        fold: modules to draw as one box each: by depth (1: the children of `module`), by their names, False
            for none; None folds graphs of more than 60 boxes to the largest depth with no more.
        max_nodes: a larger drawing is abbreviated in its middle, and says so. Graphs of more than 20,000
            nodes are abbreviated before they are folded.

    Returns:
        A `Drawing`, with methods `svg`, `dot`, `mermaid`, `text` and `save`.

    Raises:
        AutogradError: `z` has no graph: it is a leaf, or does not require grad.

    Example:
        >>> import firesteel as torch
        >>> x = torch.ones(2, 3, requires_grad=True)
        >>> drawing = torch.graph.draw((x * x).sum(), names={"x": x}, format="text")
        >>> print(drawing)
        2 operations, 24 B saved for backward
        <BLANKLINE>
            operation  of    result            facts
            x          leaf  (2, 3) float32
        <BLANKLINE>
        #1  mul        x ×2  (2, 3) float32    keeps x (2, 3), 24 B; keeps x (2, 3), 24 B
        #2  sum        #1    () float32
            result     #2    () float32 = 6.0
        <BLANKLINE>
    """
    if format not in FORMATS:
        raise ValueError(f"draw: format={format!r}; use one of {', '.join(map(repr, FORMATS))}")
    outputs = expect_graph("draw", z)
    named = names_of("draw", module, names)
    # Far more than is drawn, so that modules can be told and folded, but not a million boxes.
    model = build(outputs, named, saved=saved, grads=grads, most=max(READ, READ_FOR_EACH * max_nodes))
    folding.place(model)
    model = folding.abbreviate(folding.fold(model, fold), max_nodes)
    return Drawing(model, format)

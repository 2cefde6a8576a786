"""Turns tensors into text the way PyTorch prints them.

Three steps: fetch the elements that will be shown as nested lists (:func:`_visible_values`), choose one
number format for all of them (:class:`_NumberFormat`), and lay the formatted elements out in brackets and
lines (:class:`_Layout`). :func:`tensor_repr` puts the dtype and the gradient behind the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import firesteel
from firesteel._core import Tensor

_ELLIPSIS = "..."


@dataclass
class PrintOptions:
    """How tensors are printed; see :func:`set_printoptions`."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_PROFILES = {
    "default": PrintOptions(),
    "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=math.inf),
}

_options = PrintOptions()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Sets how tensors are printed from now on.

    Args:
        precision: digits after the decimal point (default 4).
        threshold: number of elements above which a tensor is summarised with ``...`` (default 1000).
        edgeitems: elements shown at either end of a summarised dimension (default 3).
        linewidth: characters after which a line is broken (default 80).
        profile: ``"default"``, ``"short"`` or ``"full"`` (never summarise); the other arguments change it.
        sci_mode: scientific notation always (True), never (False) or where it reads better (None).
            Every call sets this one, so leaving it out restores the automatic choice.

    Raises:
        ValueError: if ``profile`` is not one of the three.

    Example:
        >>> import firesteel
        >>> firesteel.set_printoptions(precision=2)
        >>> firesteel.tensor([1.12345])
        tensor([1.12])
        >>> firesteel.set_printoptions(profile="default")
    """
    if profile is not None:
        chosen = _PROFILES.get(profile.lower())
        if chosen is None:
            raise ValueError(f"set_printoptions: profile {profile!r} is not one of {', '.join(_PROFILES)}")
        _options.__dict__.update(chosen.__dict__)
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options.__dict__.update({name: value for name, value in given.items() if value is not None})
    _options.sci_mode = sci_mode


def tensor_repr(tensor: Tensor) -> str:
    """Returns the text of a tensor, equal to PyTorch's character for character.

    Args:
        tensor: any tensor; a :class:`~firesteel.nn.Parameter` is announced by a line of its own.

    Returns:
        The elements in brackets, then the size (of an empty tensor), the dtype (unless it is what the
        elements already say) and ``requires_grad=True`` or ``grad_fn=<...>``.

    Example:
        >>> import firesteel
        >>> firesteel.tensor([[1.0, 2.5], [3.0, -4.0]])
        tensor([[ 1.0000,  2.5000],
                [ 3.0000, -4.0000]])
    """
    prefix = "tensor("
    text = prefix + _elements_text(tensor.detach(), indent=len(prefix))
    text = _append_notes(text, _notes(tensor), indent=len(prefix))
    return text


def tensor_format(tensor: Tensor, spec: str) -> str:
    """Formats a tensor for ``format()`` and f-strings: one of 0 dimensions formats like its number.

    Args:
        tensor: any tensor.
        spec: the format specification; a tensor with dimensions takes only the empty one.

    Raises:
        TypeError: if ``spec`` is not empty and the tensor is not 0-dimensional.

    Example:
        >>> import firesteel
        >>> f"{firesteel.tensor(3.14159):.2f}"
        '3.14'
    """
    if tensor.dim() == 0 and type(tensor) is Tensor:
        return format(tensor.item(), spec)
    return object.__format__(tensor, spec)


def _notes(tensor: Tensor) -> Iterator[str]:
    """Yields what follows the elements: size, dtype, gradient."""
    empty = tensor.numel() == 0
    # Without edge items the elements may be missing altogether, so the size is always told.
    if tensor.dim() != 1 if empty else _options.edgeitems == 0:
        yield f"size={tuple(tensor.shape)}"
    obvious = [firesteel.get_default_dtype()]
    if not empty:
        obvious += [firesteel.int64, firesteel.bool]
    if tensor.dtype not in obvious:
        yield f"dtype={tensor.dtype}"
    try:
        node = tensor.grad_fn
    except RuntimeError:  # the memory of a custom Function's result was written since
        yield "grad_fn=<Invalid>"
        return
    if node is not None:
        yield f"grad_fn=<{node.name().rsplit('::', 1)[-1]}>"
    elif tensor.requires_grad:
        yield "requires_grad=True"


def _append_notes(text: str, notes: Iterator[str], indent: int) -> str:
    """Adds the notes and the closing bracket, starting a new line before a note that would not fit."""
    column = len(text) - text.rfind("\n") + 1
    for note in notes:
        if column + len(note) + 2 > _options.linewidth:
            text += ",\n" + " " * indent + note
            column = indent + len(note)
        else:
            text += ", " + note
            column += len(note) + 2
    return text + ")"


def _elements_text(tensor: Tensor, indent: int) -> str:
    numel = tensor.numel()
    if numel == 0:
        return "[]"
    edge = _options.edgeitems if numel > _options.threshold else None
    if edge == 0 and tensor.dim() > 0:
        return f"[{_ELLIPSIS}]"
    values = _visible_values(tensor, edge)
    number_format = _NumberFormat(list(_flatten(values)), tensor.dtype.is_floating_point)
    return _Layout(number_format, edge).text(values, tuple(tensor.shape), indent)


def _visible_values(tensor: Tensor, edge: int | None) -> Any:
    """Returns the elements that are shown as nested lists: of a summarised dimension its two ends only."""
    if edge is not None:
        for dim, size in enumerate(tensor.shape):
            if size > 2 * edge:
                ends = [tensor.narrow(dim, 0, edge), tensor.narrow(dim, size - edge, edge)]
                tensor = firesteel.cat(ends, dim)
    return tensor.tolist()


def _flatten(values: Any) -> Iterator[Any]:
    if not isinstance(values, list):
        yield values
    elif values and not isinstance(values[0], list):
        yield from values
    else:
        for row in values:
            yield from _flatten(row)


class _NumberFormat:
    """One format for all elements of a tensor, chosen from the elements that are shown."""

    def __init__(self, values: list[Any], is_float: bool) -> None:
        self.width = 1
        if not is_float:
            self._pattern = "{}"
            self.width = max([self.width, *(len(str(value)) for value in values)])
        else:
            self._choose_float_pattern([value for value in values if math.isfinite(value) and value != 0])

    def _choose_float_pattern(self, values: list[float]) -> None:
        """Chooses between ``1.``, ``1.5000`` and ``1.5000e+00`` from the finite, non-zero elements."""
        scientific = f"{{:.{_options.precision}e}}"
        fixed = f"{{:.{_options.precision}f}}"
        whole = all(value == math.trunc(value) for value in values)
        if whole:
            fixed = "{:.0f}."
        forced = _options.sci_mode
        wants_scientific = _spread_is_wide(values, whole) if values and forced is None else forced
        self._pattern = scientific if values and wants_scientific else fixed
        # nan and inf take no part: they are padded where there is room and stick out where there is none.
        self.width = max([self.width, *(len(self._pattern.format(value)) for value in values)])

    def __call__(self, value: Any) -> str:
        pattern = self._pattern
        if isinstance(value, float) and not math.isfinite(value):
            pattern = "{}"
        return pattern.format(value).rjust(self.width)


def _spread_is_wide(values: list[float], whole: bool) -> bool:
    """Tells whether fixed-point notation would hide small elements or print very long ones."""
    largest = max(map(abs, values))
    smallest = min(map(abs, values))
    return largest / smallest > 1000 or largest > 1e8 or (not whole and smallest < 1e-4)


class _Layout:
    """Brackets, commas and line breaks around formatted elements."""

    def __init__(self, number_format: _NumberFormat, edge: int | None) -> None:
        self._format = number_format
        self._edge = edge

    def text(self, values: Any, shape: tuple[int, ...], indent: int) -> str:
        """Lays out what is shown of a tensor of this shape; its first bracket stands in column ``indent``."""
        if not shape:
            return self._format(values)
        cut = self._edge is not None and shape[0] > 2 * self._edge
        if len(shape) == 1:
            return self._row(values, cut, indent)
        blocks = [self.text(value, shape[1:], indent + 1) for value in values]
        if cut:
            blocks.insert(self._edge or 0, _ELLIPSIS)
        separator = "," + "\n" * (len(shape) - 1) + " " * (indent + 1)
        return "[" + separator.join(blocks) + "]"

    def _row(self, values: list[Any], cut: bool, indent: int) -> str:
        items = [self._format(value) for value in values]
        if cut:
            items.insert(self._edge or 0, " " + _ELLIPSIS)
        per_line = max(1, (_options.linewidth - indent) // (self._format.width + 2))
        lines = (", ".join(items[start : start + per_line]) for start in range(0, len(items), per_line))
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"

"""Padding: elements of one value, or the tensor's own, at the ends of its dims."""

from __future__ import annotations

from collections.abc import Sequence

from firesteel._core import Tensor, _constant_pad, _tied, arange
from firesteel._tensor import expect_tensors as _expect_tensors


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Returns a copy with elements added at the ends of the last dimensions; negative numbers cut off.

    Args:
        input: any tensor.
        pad: numbers before and after the last dimension, then before and after the one before, ...
        mode: "constant", "reflect" (without repeating the edge), "replicate" (the edge) or "circular".
        value: the constant, 0 unless given.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.functional.pad(torch.ones(2), (1, 2))
        tensor([0., 1., 1., 0., 0.])
    """
    _expect_tensors("pad", input=input)
    if not isinstance(pad, list | tuple):
        raise TypeError(f"pad(): argument 'pad' must be tuple of ints, not {type(pad).__name__}")
    if len(pad) % 2:
        raise RuntimeError(f"pad: Padding length must be divisible by 2, but {tuple(pad)} has {len(pad)}")
    if len(pad) > 2 * input.ndim:
        raise RuntimeError(
            f"pad: {tuple(pad)} names {len(pad) // 2} dimensions, the input has {input.ndim}; "
            "give at most a pair for each"
        )
    if not isinstance(mode, str):
        raise TypeError(f"pad(): argument 'mode' must be str, not {type(mode).__name__}")
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise NotImplementedError(
            f"pad: mode '{mode}' is unknown; use constant, reflect, replicate or circular"
        )
    if mode != "constant" and value:
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if mode in ("reflect", "replicate"):
        input = _tied(input)
    befores, afters = [0] * input.ndim, [0] * input.ndim
    is_view = True
    for i in range(len(pad) // 2):
        before, after = pad[2 * i], pad[2 * i + 1]
        dim = input.ndim - 1 - i
        if before < 0 or after < 0:
            input = _cropped(input, dim, max(-before, 0), max(-after, 0))
            before, after = max(before, 0), max(after, 0)
        if mode == "constant":
            befores[dim], afters[dim] = before, after
        elif before or after:
            input = input.index_select(dim, _padded_index(input.shape[dim], before, after, mode))
            is_view = False
    if mode == "constant" and (any(befores) or any(afters)):
        if value and not input.is_floating_point():
            input.new_full((), float(value))  # a number that the dtype does not hold is refused
        return _constant_pad(input, befores, afters, float(value or 0))
    return input.clone() if is_view else input


def _cropped(input: Tensor, dim: int, before: int, after: int) -> Tensor:
    length = input.shape[dim] - before - after
    if length < 0:
        raise RuntimeError(
            f"pad: cutting off {before} and {after} leaves nothing of dim {dim}, size {input.shape[dim]}"
        )
    return input.narrow(dim, before, length)


def _padded_index(size: int, before: int, after: int, mode: str) -> Tensor:
    """Returns which element stands at every place of a dimension that was padded from itself."""
    limit = {"reflect": size - 1, "circular": size}.get(mode)
    if limit is not None and max(before, after) > limit:
        raise RuntimeError(f"pad: {mode} can add at most {limit} to size {size}, but got {(before, after)}")
    index = arange(-before, size + after)
    if mode == "replicate":
        return index.clamp(0, size - 1)
    if mode == "circular":
        return index % size
    return (size - 1) - ((size - 1) - index.abs()).abs()

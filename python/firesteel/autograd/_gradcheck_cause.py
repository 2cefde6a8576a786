"""What a wrong gradient looks like: the likely cause, found from the numbers of `gradcheck`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# A one-sided difference is off by the curvature times eps; at a kink the two sides differ by far more.
_KINK = 1e-2
_SAME = 1e-3  # ratios this close are one constant
_ROUNDING = 1e-8  # a difference below this is no more than rounding over eps


@dataclass(frozen=True)
class Wrong:
    """One Jacobian that came out wrong.

    `analytic[o][i]` and `numeric[i][o]` are its entries, `entries` the wrong `(o, i)`, the worst first.
    `repeat` calls the function twice more and tells how far the results are apart; `sides(o, i)` gives the
    differences to the left and to the right.
    """

    analytic: list[list[float]]
    numeric: list[list[float]]
    entries: list[tuple[int, int]]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtype: str
    repeat: Callable[[], float]
    sides: Callable[[int, int], tuple[float, float]]

    def pairs(self) -> list[tuple[float, float]]:
        """The wrong (analytic, numeric) values."""
        return [(self.analytic[o][i], self.numeric[i][o]) for o, i in self.entries]

    def total(self) -> int:
        """How many entries there are."""
        return sum(len(row) for row in self.analytic)


def likely_cause(wrong: Wrong) -> str:
    """What the wrong values have in common, in words."""
    for search in (_of_the_call, _at_a_kink, _of_zeros, _of_a_factor, _of_an_order):
        cause = search(wrong)
        if cause:
            return cause
    if all(abs(n) <= _ROUNDING for _, n in wrong.pairs()):
        return "the function is constant here (a step, a rounding?) but its backward formula is not zero"
    if len(wrong.entries) < max(2, wrong.total() // 4):
        return "single entries: wrong indexing in the backward formula"
    return "the backward formula; or the function changes its inputs"


def _of_the_call(wrong: Wrong) -> str | None:
    """Nothing is wrong with the formula: the numbers cannot be compared."""
    if "float64" not in wrong.dtype:
        return f"the input is {wrong.dtype}: differences of 1e-6 need float64; convert with .double()"
    apart = wrong.repeat()
    if apart > 0:
        return (
            f"two calls of the function differ by {apart:.3g}: it draws random numbers or keeps a state; "
            "seed it inside of the function, or use eval()"
        )
    if any(not math.isfinite(n) for _, n in wrong.pairs()):
        return "the function is not finite around this point; choose inputs inside its domain"
    if any(not math.isfinite(a) for a, _ in wrong.pairs()):
        return "the backward formula divides by zero or takes inf - inf here"
    return None


def _at_a_kink(wrong: Wrong) -> str | None:
    left, right = wrong.sides(*wrong.entries[0])
    if abs(left - right) > _KINK * max(abs(left), abs(right), _KINK):
        return (
            f"a kink or a jump at this point (|x| at 0, a tie of max): the difference to the left is "
            f"{left:.6g}, to the right {right:.6g}; move the input away from it"
        )
    return None


def _of_zeros(wrong: Wrong) -> str | None:
    if any(a != 0 for a, _ in wrong.pairs()):
        return None
    reached = {i for row in wrong.analytic for i, a in enumerate(row) if a != 0}
    if reached and reached >= {i for _, i in wrong.entries}:
        return (
            "the gradient comes from some of the outputs only that an entry was broadcast to: a sum over the "
            "broadcast dims is missing in the backward formula"
        )
    return "no gradient flows: a detach, a no_grad block, or a term missing from the backward formula"


def _of_a_factor(wrong: Wrong) -> str | None:
    ratios = [a / n for a, n in wrong.pairs() if abs(n) > _ROUNDING]
    if len(ratios) < len(wrong.entries) or max(ratios) - min(ratios) > _SAME * abs(ratios[0]):
        return None
    ratio = ratios[0]
    if abs(ratio + 1) < _SAME:
        return "the sign of the backward formula"
    text = f"a constant factor: every analytic value is {ratio:.6g} times the numeric one"
    sizes = {"input": wrong.input_shape, "output": wrong.output_shape}
    for owner, shape in sizes.items():
        for size, what in [(math.prod(shape), f"elements of the {owner}"), *_dims(owner, shape)]:
            if size > 2 and abs(ratio * size - 1) < _SAME:
                return f"{text}, 1/{size}, and {size} is the number of {what}: a mean where a sum belongs?"
            if size > 2 and abs(ratio / size - 1) < _SAME:
                return f"{text}, and {size} is the number of {what}: a sum where a mean belongs?"
    return text


def _dims(owner: str, shape: Sequence[int]) -> list[tuple[int, str]]:
    return [(size, f"elements in dim {dim} of the {owner}") for dim, size in enumerate(shape)]


def _of_an_order(wrong: Wrong) -> str | None:
    """Right values in wrong places."""
    numeric = [list(row) for row in zip(*wrong.numeric, strict=True)]
    if len(wrong.input_shape) == 2:
        rows, columns = wrong.input_shape
        order = [r * columns + c for c in range(columns) for r in range(rows)]
        if _equal(wrong.analytic, [[row[i] for i in order] for row in numeric]):
            return "a transposed gradient: it is that of the input's transpose; return grad.t()"
    if len(numeric) == len(wrong.numeric) and _equal(wrong.analytic, wrong.numeric):
        return "a transposed Jacobian: the backward formula multiplies with A where A^T belongs"
    return None


def _equal(left: list[list[float]], right: list[list[float]]) -> bool:
    return all(
        math.isclose(a, b, rel_tol=_SAME, abs_tol=1e-5)
        for x, y in zip(left, right, strict=True)
        for a, b in zip(x, y, strict=True)
    )

"""What a wrong gradient looks like: the likely cause, found from the numbers of `gradcheck`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# A one-sided difference is off by the curvature times eps; at a kink the two sides differ by far more.
_KINK = 1e-2
_SAME = 1e-3  # ratios this close are one constant
_STEPS = (1e-6, 1e-5, 1e-7)  # those that float64 leaves the most digits for
_ROUNDING = 1e-8  # a difference below this is no more than rounding over eps


@dataclass(frozen=True)
class Tolerance:
    """The step of the differences, and how far two numbers may be apart."""

    eps: float
    atol: float
    rtol: float

    def exceeded(self, analytic: float, numeric: float) -> bool:
        """Whether they are farther apart; NaN agrees with NaN alone."""
        if math.isnan(analytic) or math.isnan(numeric):
            return not (math.isnan(analytic) and math.isnan(numeric))
        return abs(analytic - numeric) > self.atol + self.rtol * abs(numeric)


@dataclass(frozen=True)
class Wrong:
    """One Jacobian that came out wrong.

    `analytic[o][i]` and `numeric[i][o]` are its entries, `entries` the wrong `(o, i)`, the worst first.
    The functions run the checked one again. `changed` names the inputs that it overwrites, `repeat` tells how
    far two calls are apart, `from_zeros` gives the largest entry of the gradient that zeros lead to, and
    `sides(o, i, eps)` the differences to the left and to the right.
    """

    analytic: list[list[float]]
    numeric: list[list[float]]
    entries: list[tuple[int, int]]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtype: str
    tolerance: Tolerance
    changed: Callable[[], list[str]]
    repeat: Callable[[], float]
    from_zeros: Callable[[], float]
    sides: Callable[[int, int, float], tuple[float, float]]

    def pairs(self) -> list[tuple[float, float]]:
        """The wrong (analytic, numeric) values."""
        return [(self.analytic[o][i], self.numeric[i][o]) for o, i in self.entries]

    def total(self) -> int:
        """How many entries there are."""
        return sum(len(row) for row in self.analytic)

    def moving(self) -> int:
        """How many entries there are through which the input moves the output."""
        return sum(abs(n) > _ROUNDING for row in self.numeric for n in row)


def likely_cause(wrong: Wrong) -> str:
    """What the wrong values have in common, in words."""
    searches = (_of_the_call, _of_the_step, _at_a_kink, _without_grad, _of_zeros, _of_a_factor, _of_an_order)
    for search in searches:
        cause = search(wrong)
        if cause:
            return cause
    if all(abs(n) <= _ROUNDING for _, n in wrong.pairs()):
        return "the function is constant here (a step, a rounding?) but its backward formula is not zero"
    if len(wrong.entries) < max(2, wrong.total() // 4):
        return (
            "single entries, the others are right: wrong indexing or a special case in the backward formula"
        )
    return "not known, the wrong numbers show no pattern; check the backward formula term by term"


def _of_the_call(wrong: Wrong) -> str | None:
    """Nothing is wrong with the formula: the numbers cannot be compared."""
    if "float64" not in wrong.dtype:
        return f"the input is {wrong.dtype}: differences of 1e-6 need float64; convert with .double()"
    changed = wrong.changed()
    if changed:
        return (
            f"the function changes {', '.join(changed)} in place, so that each call starts elsewhere; let it "
            "work on a .clone()"
        )
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


def _of_the_step(wrong: Wrong) -> str | None:
    """The formula is right: the difference is not, as one with another step shows."""
    (analytic, given_numeric), given = wrong.pairs()[0], wrong.tolerance.eps
    for eps in _STEPS:
        numeric = sum(wrong.sides(*wrong.entries[0], eps)) / 2
        closer = abs(analytic - numeric) < abs(analytic - given_numeric) / 10
        if closer and not wrong.tolerance.exceeded(analytic, numeric):
            problem = "large: the function bends" if given > eps else "small: rounding hides what happens"
            return (
                f"eps={given:.3g} is too {problem} within it; with eps={eps:.3g} the difference is "
                f"{numeric:.9g}"
            )
    return None


def _at_a_kink(wrong: Wrong) -> str | None:
    left, right = wrong.sides(*wrong.entries[0], wrong.tolerance.eps)
    near_left, near_right = wrong.sides(*wrong.entries[0], wrong.tolerance.eps / 10)
    # Where the function only bends, the sides come closer as the step becomes smaller.
    stays = abs(near_left - near_right) > abs(left - right) / 2
    if stays and abs(left - right) > _KINK * max(abs(left), abs(right), _KINK):
        return (
            f"a kink or a jump at this point (|x| at 0, a tie of max): the difference to the left is "
            f"{left:.6g}, to the right {right:.6g}; move the input away from it"
        )
    return None


def _without_grad(wrong: Wrong) -> str | None:
    largest = wrong.from_zeros()
    if largest > 0:
        return (
            "the backward formula ignores the gradient that comes in: zeros for the output lead to an entry "
            f"of {largest:.6g}; multiply with grad_output"
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
    if len(wrong.entries) < wrong.moving():
        return "no gradient flows through these entries: a detach of a part, or a term is missing there"
    return "no gradient flows: a detach, a no_grad block, or a term missing from the backward formula"


def _of_a_factor(wrong: Wrong) -> str | None:
    ratios = [a / n for a, n in wrong.pairs() if abs(n) > _ROUNDING]
    if len(ratios) < len(wrong.entries) or max(ratios) - min(ratios) > _SAME * abs(ratios[0]):
        return None
    ratio, moving = ratios[0], wrong.moving()
    if len(ratios) < moving:
        if len(ratios) == 1:
            return None  # any number is a multiple of another one
        return (
            f"these {len(ratios)} values are {ratio:.6g} times the numeric ones, {moving - len(ratios)} "
            "others are right: a special case or a wrong index in the backward formula"
        )
    if abs(ratio + 1) < _SAME:
        return "the sign of the backward formula"
    every = "every analytic value" if moving > 1 else "the one analytic value"
    text = f"a constant factor: {every} is {ratio:.6g} times the numeric one"
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

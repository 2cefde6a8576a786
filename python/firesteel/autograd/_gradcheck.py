"""Checks gradients against finite differences: first (`gradcheck`) and second (`gradgradcheck`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import firesteel

if TYPE_CHECKING:
    from firesteel import Generator, Tensor

_SEED_OF_DIRECTIONS = 1
_SEED_OF_GRAD_OUTPUTS = 2

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """Raised when a gradient differs from its finite difference, or cannot be checked at all."""


@dataclass(frozen=True)
class _Tolerance:
    eps: float
    atol: float
    rtol: float

    def exceeded(self, analytic: float, numeric: float) -> bool:
        if math.isnan(analytic) or math.isnan(numeric):
            return not (math.isnan(analytic) and math.isnan(numeric))
        return abs(analytic - numeric) > self.atol + self.rtol * abs(numeric)


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | tuple[Any, ...] | list[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = False,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_forward_ad: bool = False,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Checks the gradients of `func` against central differences.

    For every output, and every input that requires grad, the Jacobian that backward computes must be within
    `atol + rtol * |numeric|` of `(func(x + eps) - func(x - eps)) / (2 * eps)`.

    Args:
        func: takes the inputs, returns a tensor or a tuple of tensors; must give the same result every time.
        inputs: a tensor, or a tuple of arguments; the tensors that require grad are checked. Use float64:
            float32 has too few digits for differences of `eps`.
        eps: step of the finite difference.
        atol, rtol: absolute and relative tolerance.
        raise_exception: raise `GradcheckError` with a report; if False, return False instead.
        nondet_tol: how much two runs of backward may differ.
        check_undefined_grad: also check that a missing gradient of one output counts as zero.
        check_grad_dtypes: also check that gradients have the dtype of their inputs.
        fast_mode: check one random projection of each Jacobian instead of every entry.
        check_batched_grad, check_forward_ad, masked: must be False: there are no batched or forward-mode
            gradients, and no sparse tensors.

    Returns:
        True, or False if a check fails and `raise_exception` is False.

    Raises:
        GradcheckError: a check failed; the message names output, input and entry, and both numbers.
        ValueError: no input requires grad, or an option is not available.

    Example:
        >>> import firesteel
        >>> x = firesteel.randn(3, dtype=firesteel.float64, requires_grad=True)
        >>> gradcheck(lambda x: (x * x).sum(), (x,))
        True
    """
    unavailable = {
        "check_batched_grad": check_batched_grad,
        "check_forward_ad": check_forward_ad,
        "masked": masked,
    }
    for name, wanted in unavailable.items():
        if wanted:
            raise ValueError(f"gradcheck: {name}=True is not available; leave it False")
    tolerance = _Tolerance(eps, atol, rtol)
    inputs = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    try:
        check = _Check(func, tuple(inputs), tolerance)
        check.leaf_memory()
        if fast_mode:
            check.projections()
        else:
            check.jacobians(nondet_tol, check_grad_dtypes)
        if check_undefined_grad:
            check.undefined_grads()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | tuple[Any, ...] | list[Any],
    grad_outputs: Tensor | tuple[Tensor, ...] | list[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = False,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Checks second derivatives: `gradcheck` of the function that computes the gradients of `func`.

    Args:
        func, inputs: as in `gradcheck`.
        grad_outputs: gradients of the outputs to start from, a tensor or a tuple; drawn at random if None.
        gen_non_contig_grad_outputs: draw them with strides that are not contiguous.
        The other arguments are those of `gradcheck`.

    Returns:
        True, or False if a check fails and `raise_exception` is False.

    Raises:
        GradcheckError: a check failed. "Input" then counts the inputs of `func`, then its grad_outputs.

    Example:
        >>> import firesteel
        >>> x = firesteel.randn(3, dtype=firesteel.float64, requires_grad=True)
        >>> gradgradcheck(lambda x: x.exp(), (x,))
        True
    """
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    if grad_outputs is None:
        outputs = _differentiable(_as_tuple(func(*inputs)))
        generator = firesteel.Generator().manual_seed(_SEED_OF_GRAD_OUTPUTS)
        grad_outputs = tuple(
            _random_like(out, generator, gen_non_contig_grad_outputs).requires_grad_() for out in outputs
        )
    elif not isinstance(grad_outputs, (tuple, list)):
        grad_outputs = (grad_outputs,)
    count = len(inputs)

    def grad_func(*arguments: Any) -> tuple[Tensor, ...]:
        own, cotangents = arguments[:count], arguments[count:]
        own = tuple(x.detach().requires_grad_() if _wants_grad(x) and not x.requires_grad else x for x in own)
        wanted = [x for x in own if _wants_grad(x)]
        outputs = _differentiable(_as_tuple(func(*own)))
        grads = firesteel.autograd.grad(outputs, wanted, cotangents, create_graph=True, allow_unused=True)
        return tuple(g for g in grads if g is not None and g.requires_grad)

    if not grad_func(*inputs, *grad_outputs):
        return True  # constant gradients: every second derivative is zero, as recorded
    return gradcheck(
        grad_func,
        (*inputs, *grad_outputs),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        fast_mode=fast_mode,
        masked=masked,
    )


# How far apart, where in the output and in the input, analytic, numeric.
_Entry = tuple[float, int, int, float, float]


class _Check:
    """One function at one point: its outputs, recorded once, and the inputs to vary."""

    def __init__(self, func: Callable[..., Any], inputs: tuple[Any, ...], tolerance: _Tolerance) -> None:
        self.func, self.inputs, self.tolerance = func, inputs, tolerance
        # All random directions come from one stream: equal ones would not notice a transposed Jacobian.
        self.generator = firesteel.Generator().manual_seed(_SEED_OF_DIRECTIONS)
        self.wanted = [index for index, x in enumerate(inputs) if _wants_grad(x)]
        if not self.wanted:
            raise ValueError(
                "gradcheck: no input requires grad; call requires_grad_() on the inputs to check"
            )
        self.outputs = _differentiable(_as_tuple(func(*inputs)))
        if not self.outputs:
            raise GradcheckError(
                "gradcheck: no output requires grad although an input does; "
                "is the function computed under no_grad, or detached?"
            )

    def leaf_memory(self) -> None:
        """Refuses inputs whose elements share memory: one step would move several of them."""
        for index in self.wanted:
            x = self.inputs[index]
            if any(stride == 0 and size > 1 for stride, size in zip(x.stride(), x.shape, strict=True)):
                raise GradcheckError(
                    f"gradcheck: input {index} is expanded, its elements share memory; call .clone()"
                )

    def jacobians(self, nondet_tol: float, check_dtypes: bool) -> None:
        """Compares every entry of every Jacobian."""
        analytic = [self.analytic(o) for o in range(len(self.outputs))]
        numeric = {index: self.numeric(index) for index in self.wanted}
        for o, columns in enumerate(analytic):
            for position, index in enumerate(self.wanted):
                self.compare(o, index, columns[position], numeric[index][o])
        self.repeatable(analytic, nondet_tol)
        if check_dtypes:
            self.grad_dtypes()

    def grads(self, outputs: Sequence[Tensor], cotangents: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of the checked inputs; zeros where the output does not depend on one."""
        wanted = [self.inputs[index] for index in self.wanted]
        grads = firesteel.autograd.grad(outputs, wanted, cotangents, retain_graph=True, allow_unused=True)
        for index, x, grad in zip(self.wanted, wanted, grads, strict=True):
            if grad is not None and tuple(grad.shape) != tuple(x.shape):
                raise GradcheckError(
                    f"gradcheck: gradient of input {index} has shape {tuple(grad.shape)}, "
                    f"the input {tuple(x.shape)}"
                )
        return [x * 0 if g is None else g for x, g in zip(wanted, grads, strict=True)]

    def analytic(self, o: int) -> list[list[list[float]]]:
        """[input][output entry][input entry]: one backward per entry of the output."""
        output = self.outputs[o]
        rows: list[list[list[float]]] = [[] for _ in self.wanted]
        for entry in range(output.numel()):
            flat = [0.0] * output.numel()
            flat[entry] = 1.0
            one_hot = firesteel.tensor(flat, dtype=output.dtype).reshape(output.shape)
            for row, grad in zip(rows, self.grads([output], [one_hot]), strict=True):
                row.append(_flat(grad))
        return rows

    def moved(self, index: int, step: Tensor) -> list[list[float]]:
        """The outputs' values with `step` added to one input, nothing else changed."""
        arguments = [x.detach() if _is_tensor(x) else x for x in self.inputs]
        arguments[index] = arguments[index] + step
        for other in self.wanted:
            arguments[other] = arguments[other].clone().requires_grad_()
        return [_flat(out) for out in _differentiable(_as_tuple(self.func(*arguments)))]

    def difference(self, index: int, step: Tensor) -> list[list[float]]:
        """Central difference of every output along `step`."""
        after, before = self.moved(index, step), self.moved(index, -step)
        scale = 0.5 / self.tolerance.eps
        return [
            [(a - b) * scale for a, b in zip(x, y, strict=True)] for x, y in zip(after, before, strict=True)
        ]

    def numeric(self, index: int) -> list[list[list[float]]]:
        """[output][input entry][output entry], by central differences."""
        x = self.inputs[index]
        rows: list[list[list[float]]] = [[] for _ in self.outputs]
        for entry in range(x.numel()):
            flat = [0.0] * x.numel()
            flat[entry] = self.tolerance.eps
            step = firesteel.tensor(flat, dtype=x.dtype).reshape(x.shape)
            for row, values in zip(rows, self.difference(index, step), strict=True):
                row.append(values)
        return rows

    def compare(self, o: int, index: int, analytic: list[list[float]], numeric: list[list[float]]) -> None:
        """Raises with a report unless both Jacobians of one (output, input) pair agree."""
        wrong = [
            (abs(a - numeric[i][entry]), entry, i, a, numeric[i][entry])
            for entry, row in enumerate(analytic)
            for i, a in enumerate(row)
            if self.tolerance.exceeded(a, numeric[i][entry])
        ]
        if wrong:
            total = sum(len(row) for row in analytic)
            raise GradcheckError(self.report(o, index, wrong, total))

    def report(self, o: int, index: int, wrong: list[_Entry], total: int) -> str:
        """What differs, the worst entry first, and what the numbers suggest."""
        output, x = self.outputs[o], self.inputs[index]
        wrong = sorted(wrong, key=lambda w: math.inf if math.isnan(w[0]) else w[0], reverse=True)
        lines = [
            f"gradcheck: gradient of output {o} (shape {tuple(output.shape)}) with respect to input {index} "
            f"(shape {tuple(x.shape)}) is wrong in {len(wrong)} of {total} entries:"
        ]
        for _, entry, i, analytic, numeric in wrong[:5]:
            lines.append(
                f"  d output{_position(entry, output.shape)} / d input{_position(i, x.shape)}: "
                f"analytic {analytic:.9g}, numeric {numeric:.9g}"
            )
        lines.append(f"  likely cause: {_likely_cause([(w[3], w[4]) for w in wrong], total, x)}")
        return "\n".join(lines)

    def projections(self) -> None:
        """Compares v.J.u for random v and u: one number per (output, input)."""
        for index in self.wanted:
            direction = _random_like(self.inputs[index], self.generator)
            differences = self.difference(index, direction * self.tolerance.eps)
            for o, output in enumerate(self.outputs):
                weights = _random_like(output, self.generator)
                numeric = sum(w * d for w, d in zip(_flat(weights), differences[o], strict=True))
                grad = self.grads([output], [weights])[self.wanted.index(index)]
                analytic = sum(g * u for g, u in zip(_flat(grad), _flat(direction), strict=True))
                if self.tolerance.exceeded(analytic, numeric):
                    raise GradcheckError(
                        f"gradcheck: gradient of output {o} (shape {tuple(output.shape)}) "
                        f"with respect to input "
                        f"{index} is wrong along a random direction: analytic {analytic:.9g}, numeric "
                        f"{numeric:.9g}; run with fast_mode=False to see which entries"
                    )

    def repeatable(self, analytic: list[list[list[list[float]]]], tol: float) -> None:
        """Raises if a second backward gives other numbers than the first."""
        for o, columns in enumerate(analytic):
            for position, rows in enumerate(self.analytic(o)):
                pairs = zip(columns[position], rows, strict=True)
                worst = max((abs(a - b) for x, y in pairs for a, b in zip(x, y, strict=True)), default=0.0)
                if worst > tol:
                    raise GradcheckError(
                        f"gradcheck: two runs of backward differ by {worst:.3g} (output {o}, input "
                        f"{self.wanted[position]}), more than nondet_tol={tol}; "
                        f"is the gradient random, or does "
                        "it depend on the order of threads?"
                    )

    def grad_dtypes(self) -> None:
        """Raises if a gradient has another dtype than its input."""
        cotangents = [_random_like(out, self.generator) for out in self.outputs]
        for index, grad in zip(self.wanted, self.grads(self.outputs, cotangents), strict=True):
            if grad.dtype != self.inputs[index].dtype:
                raise GradcheckError(
                    f"gradcheck: gradient of input {index} is {grad.dtype}, "
                    f"the input {self.inputs[index].dtype}"
                )

    def undefined_grads(self) -> None:
        """Raises unless leaving outputs out gives the same gradients as zeros for them."""
        for o, output in enumerate(self.outputs):
            cotangent = _random_like(output, self.generator)
            alone = self.grads([output], [cotangent])
            zeros = [cotangent if other is output else other.detach() * 0 for other in self.outputs]
            together = self.grads(self.outputs, zeros)
            for index, a, b in zip(self.wanted, alone, together, strict=True):
                if any(x != y for x, y in zip(_flat(a), _flat(b), strict=True)):
                    raise GradcheckError(
                        f"gradcheck: gradient of input {index} changes when outputs other than {o} get zeros "
                        "instead of no gradient; backward must treat a missing gradient as zero"
                    )


def _likely_cause(pairs: list[tuple[float, float]], total: int, x: Tensor) -> str:
    """What the wrong (analytic, numeric) pairs have in common, in words."""
    if "float64" not in str(x.dtype):
        return f"the input is {x.dtype}: differences of 1e-6 need float64; convert with .double()"
    if any(math.isnan(n) or math.isinf(n) for _, n in pairs):
        return "the function is not finite around this point; choose inputs inside its domain"
    if any(math.isnan(a) or math.isinf(a) for a, _ in pairs):
        return "the backward formula divides by zero or takes inf - inf here"
    if all(a == 0 for a, _ in pairs):
        return "no gradient flows: a detach, a no_grad block, or a term missing from the backward formula"
    ratios = [a / n for a, n in pairs if abs(n) > 1e-12]
    if len(ratios) == len(pairs) and max(ratios) - min(ratios) < 1e-3 * abs(ratios[0]):
        if abs(ratios[0] + 1) < 1e-3:
            return "the sign of the backward formula"
        return f"a constant factor: every analytic value is {ratios[0]:.6g} times the numeric one"
    if all(n == 0 for _, n in pairs):
        return "the function is constant here (a step, a rounding?) but its backward formula is not zero"
    if len(pairs) < max(2, total // 4):
        return "single entries: a kink (|x| at 0, a tie of max) within eps of the input, or wrong indexing"
    return "the backward formula; or the function changes its inputs, or uses random numbers"


def _as_tuple(outputs: Any) -> tuple[Any, ...]:
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def _is_tensor(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, firesteel.Tensor)


def _wants_grad(value: object) -> TypeGuard[Tensor]:
    return _is_tensor(value) and value.requires_grad


def _differentiable(outputs: Sequence[Any]) -> list[Tensor]:
    return [out for out in outputs if _wants_grad(out)]


def _flat(tensor: Tensor) -> list[float]:
    values: list[float] = tensor.detach().clone().reshape(-1).tolist()
    return values


def _random_like(tensor: Tensor, generator: Generator, strided: bool = False) -> Tensor:
    """The next uniform numbers in [-1, 1) of `generator`, in the shape of `tensor`."""
    shape = (*tensor.shape, 2) if strided else tuple(tensor.shape)
    values = firesteel.rand(shape, generator=generator, dtype=tensor.dtype) * 2 - 1
    return values[..., 0] if strided else values


def _position(flat: int, shape: Sequence[int]) -> str:
    """The index of entry `flat` in a tensor of `shape`, as it is written: "[1, 2]"."""
    index: list[int] = []
    for size in reversed(tuple(shape)):
        flat, rest = divmod(flat, size)
        index.insert(0, rest)
    return str(index)

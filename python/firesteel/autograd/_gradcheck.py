"""Checks gradients against finite differences: first (`gradcheck`) and second (`gradgradcheck`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import firesteel
from firesteel.autograd._gradcheck_cause import Wrong, likely_cause

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
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
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
        check_backward_ad: must be True: it is what this function checks.
        check_batched_grad, check_batched_forward_grad, check_forward_ad, masked: must be False: there are no
            batched or forward-mode gradients, and no sparse tensors.

    Returns:
        True, or False if a check fails and `raise_exception` is False.

    Raises:
        GradcheckError: a check failed; the message names output, input and entry, both numbers, and what
            they suggest as the cause.
        ValueError: no input requires grad, or an option is not available.

    Example:
        >>> import firesteel
        >>> x = firesteel.randn(3, dtype=firesteel.float64, requires_grad=True)
        >>> gradcheck(lambda x: (x * x).sum(), (x,))
        True
    """
    _refuse(
        "gradcheck",
        check_batched_grad=check_batched_grad,
        check_batched_forward_grad=check_batched_forward_grad,
        check_forward_ad=check_forward_ad,
        masked=bool(masked),
    )
    if not check_backward_ad:
        raise ValueError("gradcheck: check_backward_ad=False leaves nothing to check; leave it True")
    check = _Check("gradcheck", func, _as_tuple(inputs), _Tolerance(eps, atol, rtol))
    return check.run(
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        fast_mode=fast_mode,
    )


def _refuse(op: str, **options: bool) -> None:
    for name, wanted in options.items():
        if wanted:
            raise ValueError(f"{op}: {name}=True is not available; leave it False")


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
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Checks second derivatives: `gradcheck` of the function that computes the gradients of `func`.

    Args:
        func, inputs: as in `gradcheck`.
        grad_outputs: gradients of the outputs to start from, a tensor or a tuple; drawn at random if None.
        gen_non_contig_grad_outputs: draw them with strides that are not contiguous.
        check_rev_over_rev: must be True: it is what this function checks.
        check_fwd_over_rev: must be False: there are no forward-mode gradients.
        The other arguments are those of `gradcheck`.

    Returns:
        True, or False if a check fails and `raise_exception` is False.

    Raises:
        GradcheckError: a check failed; the message says which gradient, and with respect to what.

    Example:
        >>> import firesteel
        >>> x = firesteel.randn(3, dtype=firesteel.float64, requires_grad=True)
        >>> gradgradcheck(lambda x: x.exp(), (x,))
        True
    """
    _refuse(
        "gradgradcheck",
        check_batched_grad=check_batched_grad,
        check_fwd_over_rev=check_fwd_over_rev,
        masked=masked,
    )
    if not check_rev_over_rev:
        raise ValueError("gradgradcheck: check_rev_over_rev=False leaves nothing to check; leave it True")
    inputs = _as_tuple(inputs)
    _expect_wanted("gradgradcheck", inputs)
    if grad_outputs is None:
        outputs = _differentiable(_as_tuple(func(*inputs)))
        if not outputs:
            return gradcheck(func, inputs, eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)
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
        names[:] = [
            f"the gradient of input {index}"
            for index, g in zip([i for i, x in enumerate(own) if _wants_grad(x)], grads, strict=True)
            if g is not None and g.requires_grad
        ]
        return tuple(g for g in grads if g is not None and g.requires_grad)

    names: list[str] = []
    if not grad_func(*inputs, *grad_outputs):
        return True  # constant gradients: every second derivative is zero, as recorded
    check = _Check("gradgradcheck", grad_func, (*inputs, *grad_outputs), _Tolerance(eps, atol, rtol))
    check.output_names = names
    check.input_names = [
        f"input {i}" if i < count else f"grad_output {i - count}" for i in range(len(check.inputs))
    ]
    return check.run(
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        fast_mode=fast_mode,
    )


class _Check:
    """One function at one point: its outputs, recorded once, and the inputs to vary."""

    def __init__(
        self, op: str, func: Callable[..., Any], inputs: tuple[Any, ...], tolerance: _Tolerance
    ) -> None:
        self.op = op
        self.func, self.inputs, self.tolerance = func, inputs, tolerance
        # All random directions come from one stream: equal ones would not notice a transposed Jacobian.
        self.generator = firesteel.Generator().manual_seed(_SEED_OF_DIRECTIONS)
        self.wanted = _expect_wanted(op, inputs)
        self.outputs: list[Tensor] = []
        self.input_names = [f"input {index}" for index in range(len(inputs))]
        self.output_names: list[str] = []

    def run(
        self,
        *,
        raise_exception: bool,
        nondet_tol: float,
        check_undefined_grad: bool,
        check_grad_dtypes: bool,
        fast_mode: bool,
    ) -> bool:
        """All checks that are asked for."""
        try:
            self.leaf_memory()
            self.record()
            if not self.outputs:
                return True  # and their differences are zero, too
            if fast_mode:
                self.projections()
            else:
                self.jacobians(nondet_tol)
            if check_grad_dtypes:
                self.grad_dtypes()
            if check_undefined_grad:
                self.undefined_grads()
        except GradcheckError:
            if raise_exception:
                raise
            return False
        return True

    def record(self) -> None:
        """Computes the outputs; there may be none that requires grad if none depends on the inputs."""
        outputs = _as_tuple(self.func(*self.inputs))
        self.outputs = _differentiable(outputs)
        if not self.outputs and not (any(map(_is_tensor, outputs)) and self.is_constant()):
            raise GradcheckError(
                f"{self.op}: no output requires grad although an input does; "
                "is the function computed under no_grad, or detached?"
            )
        self.output_names = self.output_names or [f"output {o}" for o in range(len(self.outputs))]

    def is_constant(self) -> bool:
        """Whether no step of an entry of an input changes the outputs."""
        for index in self.wanted:
            x = self.inputs[index]
            for entry in range(x.numel()):
                step = _one_hot(x, entry, self.tolerance.eps)
                if self.moved(index, step, _tensors) != self.moved(index, -step, _tensors):
                    return False
        return True

    def leaf_memory(self) -> None:
        """Refuses inputs whose elements share memory: one step would move several of them."""
        for index in self.wanted:
            x = self.inputs[index]
            if _overlaps(x):
                raise GradcheckError(
                    f"{self.op}: elements of {self.input_names[index]} share memory (shape "
                    f"{tuple(x.shape)}, strides {x.stride()}): it is expanded; call .clone()"
                )

    def jacobians(self, nondet_tol: float) -> None:
        """Compares every entry of every Jacobian."""
        analytic = [self.analytic(o) for o in range(len(self.outputs))]
        numeric = {index: self.numeric(index) for index in self.wanted}
        for o, columns in enumerate(analytic):
            for position, index in enumerate(self.wanted):
                self.compare(o, index, columns[position], numeric[index][o])
        self.repeatable(analytic, nondet_tol)

    def grads(self, outputs: Sequence[Tensor], cotangents: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of the checked inputs; zeros where the output does not depend on one."""
        wanted = [self.inputs[index] for index in self.wanted]
        grads = firesteel.autograd.grad(outputs, wanted, cotangents, retain_graph=True, allow_unused=True)
        for index, x, grad in zip(self.wanted, wanted, grads, strict=True):
            if grad is not None and tuple(grad.shape) != tuple(x.shape):
                raise GradcheckError(
                    f"{self.op}: gradient of {self.input_names[index]} has shape {tuple(grad.shape)}, "
                    f"the input {tuple(x.shape)}; sum it over the broadcast dims"
                )
        return [x * 0 if g is None else g for x, g in zip(wanted, grads, strict=True)]

    def analytic(self, o: int) -> list[list[list[float]]]:
        """[input][output entry][input entry]: one backward per entry of the output."""
        output = self.outputs[o]
        rows: list[list[list[float]]] = [[] for _ in self.wanted]
        for entry in range(output.numel()):
            for row, grad in zip(rows, self.grads([output], [_one_hot(output, entry)]), strict=True):
                row.append(_flat(grad))
        return rows

    def moved(
        self, index: int, step: Tensor, select: Callable[[Sequence[Any]], list[Tensor]] | None = None
    ) -> list[list[float]]:
        """The values of the selected outputs with `step` added to one input, nothing else changed.

        By default the outputs that require grad are selected.
        """
        arguments = [x.detach() if _is_tensor(x) else x for x in self.inputs]
        arguments[index] = arguments[index] + step
        for other in self.wanted:
            arguments[other] = arguments[other].clone().requires_grad_()
        return [_flat(out) for out in (select or _differentiable)(_as_tuple(self.func(*arguments)))]

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
            step = _one_hot(x, entry, self.tolerance.eps)
            for row, values in zip(rows, self.difference(index, step), strict=True):
                row.append(values)
        return rows

    def compare(self, o: int, index: int, analytic: list[list[float]], numeric: list[list[float]]) -> None:
        """Raises with a report unless both Jacobians of one (output, input) pair agree."""
        entries = [
            (entry, i)
            for entry, row in enumerate(analytic)
            for i, a in enumerate(row)
            if self.tolerance.exceeded(a, numeric[i][entry])
        ]
        if not entries:
            return

        def apart(place: tuple[int, int]) -> float:
            distance = abs(analytic[place[0]][place[1]] - numeric[place[1]][place[0]])
            return math.inf if math.isnan(distance) else distance

        x, output = self.inputs[index], self.outputs[o]
        wrong = Wrong(
            analytic,
            numeric,
            sorted(entries, key=apart, reverse=True),
            tuple(x.shape),
            tuple(output.shape),
            str(x.dtype),
            self.repeat,
            lambda entry, i: self.sides(o, index, entry, i),
        )
        raise GradcheckError(self.report(o, index, wrong))

    def report(self, o: int, index: int, wrong: Wrong) -> str:
        """What differs, the worst entry first, and what the numbers suggest."""
        lines = [
            f"{self.op}: gradient of {self.output_names[o]} (shape {wrong.output_shape}) with respect to "
            f"{self.input_names[index]} (shape {wrong.input_shape}) is wrong in {len(wrong.entries)} of "
            f"{wrong.total()} entries:"
        ]
        for (entry, i), (analytic, numeric) in list(zip(wrong.entries, wrong.pairs(), strict=True))[:5]:
            lines.append(
                f"  d output{_position(entry, wrong.output_shape)} / "
                f"d input{_position(i, wrong.input_shape)}: analytic {analytic:.9g}, numeric {numeric:.9g}"
            )
        lines.append(f"  likely cause: {likely_cause(wrong)}")
        return "\n".join(lines)

    def unmoved(self, index: int) -> list[list[float]]:
        """The outputs' values at the point itself."""
        return self.moved(index, firesteel.zeros_like(self.inputs[index]))

    def repeat(self) -> float:
        """How far two more calls of the function are apart."""
        first, second = self.unmoved(self.wanted[0]), self.unmoved(self.wanted[0])
        pairs = (pair for x, y in zip(first, second, strict=True) for pair in zip(x, y, strict=True))
        return max((abs(a - b) for a, b in pairs if not math.isnan(a - b)), default=0.0)

    def sides(self, o: int, index: int, entry: int, i: int) -> tuple[float, float]:
        """The one-sided differences of one entry."""
        step = _one_hot(self.inputs[index], i, self.tolerance.eps)
        here, eps = self.unmoved(index)[o][entry], self.tolerance.eps
        before, after = self.moved(index, -step)[o][entry], self.moved(index, step)[o][entry]
        return (here - before) / eps, (after - here) / eps

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
                    self.jacobians(math.inf)  # says which entries, and why
                    raise GradcheckError(
                        f"{self.op}: gradient of {self.output_names[o]} (shape {tuple(output.shape)}) with "
                        f"respect to {self.input_names[index]} is wrong along a random direction: analytic "
                        f"{analytic:.9g}, numeric {numeric:.9g}, though every entry alone is within the "
                        "tolerance"
                    )

    def repeatable(self, analytic: list[list[list[list[float]]]], tol: float) -> None:
        """Raises if a second backward gives other numbers than the first."""
        for o, columns in enumerate(analytic):
            for position, rows in enumerate(self.analytic(o)):
                pairs = zip(columns[position], rows, strict=True)
                worst = max((abs(a - b) for x, y in pairs for a, b in zip(x, y, strict=True)), default=0.0)
                if worst > tol:
                    raise GradcheckError(
                        f"{self.op}: two runs of backward differ by {worst:.3g} ({self.output_names[o]}, "
                        f"{self.input_names[self.wanted[position]]}), more than nondet_tol={tol}; is the "
                        "gradient random, or does it depend on the order of threads?"
                    )

    def grad_dtypes(self) -> None:
        """Raises if a gradient has another dtype than its input."""
        cotangents = [_random_like(out, self.generator) for out in self.outputs]
        for index, grad in zip(self.wanted, self.grads(self.outputs, cotangents), strict=True):
            if grad.dtype != self.inputs[index].dtype:
                raise GradcheckError(
                    f"{self.op}: gradient of {self.input_names[index]} is {grad.dtype}, the input "
                    f"{self.inputs[index].dtype}; convert it in the backward formula"
                )

    def undefined_grads(self) -> None:
        """Raises unless leaving outputs out gives the same gradients as zeros for them."""
        for o, output in enumerate(self.outputs):
            cotangent = _random_like(output, self.generator)
            alone = self.grads([output], [cotangent])
            zeros = [
                # By place: two outputs may be one tensor, as the gradients of a sum are.
                cotangent if k == o else firesteel.zeros_like(other)
                for k, other in enumerate(self.outputs)
            ]
            together = self.grads(self.outputs, zeros)
            for index, a, b in zip(self.wanted, alone, together, strict=True):
                if any(x != y for x, y in zip(_flat(a), _flat(b), strict=True)):
                    raise GradcheckError(
                        f"{self.op}: gradient of {self.input_names[index]} changes when outputs other than "
                        f"{self.output_names[o]} get zeros instead of no gradient; backward must treat a "
                        "missing gradient as zero"
                    )


def _as_tuple(outputs: Any) -> tuple[Any, ...]:
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def _expect_wanted(op: str, inputs: Sequence[Any]) -> list[int]:
    """The places of the inputs that require grad; raises if there are none."""
    wanted = [index for index, x in enumerate(inputs) if _wants_grad(x)]
    if not wanted:
        raise ValueError(f"{op}: no input requires grad; call requires_grad_() on the inputs to check")
    return wanted


def _is_tensor(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, firesteel.Tensor)


def _wants_grad(value: object) -> TypeGuard[Tensor]:
    return _is_tensor(value) and value.requires_grad


def _differentiable(outputs: Sequence[Any]) -> list[Tensor]:
    return [out for out in outputs if _wants_grad(out)]


def _tensors(outputs: Sequence[Any]) -> list[Tensor]:
    return [out for out in outputs if _is_tensor(out)]


def _flat(tensor: Tensor) -> list[float]:
    values: list[float] = tensor.detach().clone().reshape(-1).tolist()
    return values


def _one_hot(like: Tensor, entry: int, value: float = 1.0) -> Tensor:
    """Zeros in the shape of `like`, and `value` at one entry."""
    flat = [0.0] * like.numel()
    flat[entry] = value
    return firesteel.tensor(flat, dtype=like.dtype).reshape(like.shape)


def _overlaps(x: Tensor) -> bool:
    """Whether a dim is expanded: its elements are one element of memory."""
    return any(stride == 0 and size > 1 for stride, size in zip(x.stride(), x.shape, strict=True))


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

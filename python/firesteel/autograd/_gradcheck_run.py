"""One function checked at one point: its analytic Jacobians beside its numeric ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import firesteel
from firesteel.autograd._gradcheck_cause import Tolerance, Wrong, likely_cause

if TYPE_CHECKING:
    from firesteel import Generator, Tensor

_SEED_OF_DIRECTIONS = 1


class GradcheckError(RuntimeError):
    """Raised when a gradient differs from its finite difference, or cannot be checked at all."""


class Check:
    """One function at one point: its outputs, recorded once, and the inputs to vary."""

    def __init__(
        self, op: str, func: Callable[..., Any], inputs: tuple[Any, ...], tolerance: Tolerance
    ) -> None:
        self.op = op
        self.func, self.inputs, self.tolerance = func, inputs, tolerance
        # All random directions come from one stream: equal ones would not notice a transposed Jacobian.
        self.generator = firesteel.Generator().manual_seed(_SEED_OF_DIRECTIONS)
        self.wanted = expect_wanted(op, inputs)
        self.outputs: list[Tensor] = []
        self.input_names = [f"input {index}" for index in range(len(inputs))]
        self.output_names: list[str] = []
        # Whether outputs without a history are to be checked, too: they must not depend on the inputs.
        self.no_history_is_constant = False

    def run(
        self,
        *,
        raise_exception: bool,
        nondet_tol: float,
        check_undefined_grad: bool,
        check_grad_dtypes: bool,
        check_batches: bool,
        check_products: bool,
        check_gradients: bool,
        fast_mode: bool,
    ) -> bool:
        """All checks that are asked for."""
        from firesteel.autograd import _gradcheck_modes

        try:
            self.leaf_memory()
            self.record()
            if not self.outputs:
                return True  # and their differences are zero, too
            if check_products:
                _gradcheck_modes.check_products(self, fast_mode)
            if not check_gradients:
                return True
            if fast_mode:
                self.projections()
            else:
                self.jacobians(nondet_tol)
            self.multiplied()
            if check_grad_dtypes:
                self.grad_dtypes()
            if check_batches:
                _gradcheck_modes.check_batches(self)
            if check_undefined_grad:
                self.undefined_grads()
        except GradcheckError:
            if raise_exception:
                raise
            return False
        return True

    def record(self) -> None:
        """Computes the outputs; there may be none that requires grad if none depends on the inputs."""
        outputs = as_tuple(self.func(*self.inputs))
        self.outputs = differentiable(outputs)
        if not self.outputs and not (any(map(_is_tensor, outputs)) and self.is_constant()):
            raise GradcheckError(
                f"{self.op}: no output requires grad although an input does; "
                "is the function computed under no_grad, or detached?"
            )
        if self.no_history_is_constant and not self.is_constant(_without_history):
            raise GradcheckError(
                f"{self.op}: a gradient has no history although it depends on an input; is the backward "
                "formula computed under no_grad, or detached?"
            )
        self.output_names = self.output_names or [f"output {o}" for o in range(len(self.outputs))]

    def is_constant(self, selected: Callable[[Sequence[Any]], list[Tensor]] | None = None) -> bool:
        """Whether no step of an entry of an input changes the outputs, or those selected."""
        selected = selected or _tensors
        for index in self.wanted:
            x = self.inputs[index]
            for entry in range(x.numel()):
                step = one_hot(x, entry, self.tolerance.eps)
                if self.moved(index, step, selected) != self.moved(index, -step, selected):
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
            for row, grad in zip(rows, self.grads([output], [one_hot(output, entry)]), strict=True):
                row.append(flat(grad))
        return rows

    def moved(
        self, index: int, step: Tensor, select: Callable[[Sequence[Any]], list[Tensor]] | None = None
    ) -> list[list[float]]:
        """The values of the selected outputs with `step` added to one input, nothing else changed.

        By default the outputs that require grad are selected. An input that is given twice moves in both
        places: backward gives the derivative by both, too.
        """
        arguments: list[Any] = list(self.inputs)
        for other, x in enumerate(self.inputs):
            if not _is_tensor(x):
                continue
            first = next(i for i, y in enumerate(self.inputs) if y is x)
            if first < other:
                arguments[other] = arguments[first]
                continue
            value = x.detach() + step if x is self.inputs[index] else x.detach()
            arguments[other] = value.clone().requires_grad_() if x.requires_grad else value
        return [flat(out) for out in (select or differentiable)(as_tuple(self.func(*arguments)))]

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
            step = one_hot(x, entry, self.tolerance.eps)
            for row, values in zip(rows, self.difference(index, step), strict=True):
                row.append(values)
        return rows

    def compare(
        self,
        o: int,
        index: int,
        analytic: list[list[float]],
        numeric: list[list[float]],
        what: str = "gradient",
    ) -> None:
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
            self.tolerance,
            changed=self.changed,
            repeat=self.repeat,
            from_zeros=lambda: self.from_zeros([output])[self.wanted.index(index)],
            sides=lambda entry, i, eps: self.sides(o, index, entry, i, eps),
        )
        raise GradcheckError(self.report(what, o, index, wrong))

    def report(self, what: str, o: int, index: int, wrong: Wrong) -> str:
        """What differs, the worst entry first, and what the numbers suggest."""
        lines = [
            f"{self.op}: {what} of {self.output_names[o]} (shape {wrong.output_shape}) with respect to "
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

    def changed(self) -> list[str]:
        """The inputs that a call of the function overwrites."""
        arguments = [x.detach().clone() if _is_tensor(x) else x for x in self.inputs]
        before = [flat(x) if _is_tensor(x) else None for x in arguments]
        for index in self.wanted:
            arguments[index].requires_grad_()
        self.func(*arguments)
        after = [flat(x) if _is_tensor(x) else None for x in arguments]
        pairs = zip(self.input_names, before, after, strict=True)
        return [name for name, old, new in pairs if repr(old) != repr(new)]  # by repr, nan is nan

    def from_zeros(self, outputs: Sequence[Tensor]) -> list[float]:
        """The largest entries of the gradients, by input, that zeros for the outputs lead to."""
        grads = self.grads(outputs, [firesteel.zeros_like(out) for out in outputs])
        return [max((abs(g) for g in flat(grad) if not math.isnan(g)), default=0.0) for grad in grads]

    def multiplied(self) -> None:
        """Raises unless zeros for the outputs give zeros for the inputs: unit vectors alone do not tell."""
        for index, largest in zip(self.wanted, self.from_zeros(self.outputs), strict=True):
            if largest > 0:
                raise GradcheckError(
                    f"{self.op}: gradient of {self.input_names[index]} is not multiplied by the gradient "
                    f"that comes in: with zeros for all outputs it has an entry of {largest:.6g}; multiply "
                    "with grad_output in the backward formula"
                )

    def sides(self, o: int, index: int, entry: int, i: int, eps: float) -> tuple[float, float]:
        """The one-sided differences of one entry, with a step of `eps`."""
        step = one_hot(self.inputs[index], i, eps)
        here = self.unmoved(index)[o][entry]
        before, after = self.moved(index, -step)[o][entry], self.moved(index, step)[o][entry]
        return (here - before) / eps, (after - here) / eps

    def projections(self) -> None:
        """Compares v.J.u for random v and u: one number per (output, input)."""
        for index in self.wanted:
            direction = random_like(self.inputs[index], self.generator)
            differences = self.difference(index, direction * self.tolerance.eps)
            for o, output in enumerate(self.outputs):
                weights = random_like(output, self.generator)
                numeric = sum(w * d for w, d in zip(flat(weights), differences[o], strict=True))
                grad = self.grads([output], [weights])[self.wanted.index(index)]
                analytic = sum(g * u for g, u in zip(flat(grad), flat(direction), strict=True))
                if self.tolerance.exceeded(analytic, numeric):
                    self.jacobians(math.inf)  # says which entries, and why
                    self.multiplied()
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
        cotangents = [random_like(out, self.generator) for out in self.outputs]
        for index, grad in zip(self.wanted, self.grads(self.outputs, cotangents), strict=True):
            if grad.dtype != self.inputs[index].dtype:
                raise GradcheckError(
                    f"{self.op}: gradient of {self.input_names[index]} is {grad.dtype}, the input "
                    f"{self.inputs[index].dtype}; convert it in the backward formula"
                )

    def undefined_grads(self) -> None:
        """Raises unless leaving outputs out gives the same gradients as zeros for them."""
        for o, output in enumerate(self.outputs):
            cotangent = random_like(output, self.generator)
            alone = self.grads([output], [cotangent])
            zeros = [
                # By place: two outputs may be one tensor, as the gradients of a sum are.
                cotangent if k == o else firesteel.zeros_like(other)
                for k, other in enumerate(self.outputs)
            ]
            together = self.grads(self.outputs, zeros)
            for index, a, b in zip(self.wanted, alone, together, strict=True):
                if any(x != y for x, y in zip(flat(a), flat(b), strict=True)):
                    raise GradcheckError(
                        f"{self.op}: gradient of {self.input_names[index]} changes when outputs other than "
                        f"{self.output_names[o]} get zeros instead of no gradient; backward must treat a "
                        "missing gradient as zero"
                    )


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    """Arguments or results as a tuple: one alone, a tuple or a list."""
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def expect_wanted(op: str, inputs: Sequence[Any]) -> list[int]:
    """The places of the inputs that require grad; raises if there are none."""
    wanted = [index for index, x in enumerate(inputs) if wants_grad(x)]
    if not wanted:
        raise ValueError(f"{op}: no input requires grad; call requires_grad_() on the inputs to check")
    return wanted


def _is_tensor(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, firesteel.Tensor)


def wants_grad(value: object) -> TypeGuard[Tensor]:
    """Whether it is a tensor that requires grad."""
    return _is_tensor(value) and value.requires_grad


def differentiable(outputs: Sequence[Any]) -> list[Tensor]:
    """The tensors among them that require grad."""
    return [out for out in outputs if wants_grad(out)]


def _without_history(outputs: Sequence[Any]) -> list[Tensor]:
    return [out for out in outputs if _is_tensor(out) and not out.requires_grad]


def _tensors(outputs: Sequence[Any]) -> list[Tensor]:
    return [out for out in outputs if _is_tensor(out)]


def flat(tensor: Tensor) -> list[float]:
    """The values of a tensor in order."""
    values: list[float] = tensor.detach().clone().reshape(-1).tolist()
    return values


def one_hot(like: Tensor, entry: int, value: float = 1.0) -> Tensor:
    """Zeros in the shape of `like`, and `value` at one entry."""
    flat = [0.0] * like.numel()
    flat[entry] = value
    return firesteel.tensor(flat, dtype=like.dtype).reshape(like.shape)


def _overlaps(x: Tensor) -> bool:
    """Whether a dim is expanded: its elements are one element of memory."""
    return any(stride == 0 and size > 1 for stride, size in zip(x.stride(), x.shape, strict=True))


def random_like(tensor: Tensor, generator: Generator, strided: bool = False) -> Tensor:
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

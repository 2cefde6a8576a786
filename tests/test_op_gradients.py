"""Runs the table of operations: gradients beside PyTorch's and numeric ones, over dtypes and layouts."""

import numpy as np
import pytest

import firesteel
import known_bugs
from firesteel.autograd import gradcheck, gradgradcheck
from libraries import parity
from op_cases import CASES
from op_cases.table import FLOATS, LAYOUTS, SHRUNK, T, draw, walk
from sweep import PYTORCH_WARNS, Failures, Outcome, assert_same_error, assert_unchanged, items, snapshot
from tensors import assert_same, build, dtype_name, from_numpy, is_float, is_tensor, leaves, torch

# Gradients are sums of rounded terms: their tolerances are the values' times this.
LOOSER = 3.0

pytestmark = PYTORCH_WARNS


def gradients(lib, case, drawn, run=None, asked=slice(None)):
    """Gradients of every float input (None: unused), or of those asked for, for fixed random gradients of the
    outputs."""
    args, kwargs = build(lib, drawn, requires_grad=True)
    inputs = [tensor for tensor in leaves((args, kwargs)) if tensor.requires_grad]
    before = snapshot((args, kwargs))
    result = run(args, kwargs) if run else case.run(lib, args, kwargs)
    outputs = [tensor for tensor in leaves([result]) if is_float(tensor) and tensor.requires_grad]
    rng = np.random.default_rng(len(outputs))
    cotangents = [
        from_numpy(lib, rng.uniform(-1, 1, tuple(out.shape)), dtype_name(out.dtype)) for out in outputs
    ]
    grads = lib.autograd.grad(outputs, inputs[asked], cotangents, allow_unused=True) if outputs else None
    assert_unchanged((args, kwargs), before)
    return grads


def assert_same_gradients(case, dtype, drawn, shrunk, run=None):
    """Fails unless the gradients are PyTorch's, None where PyTorch has none."""
    expected = Outcome(lambda: gradients(torch, case, drawn, run))
    if expected.is_unsupported:
        return
    actual = Outcome(lambda: gradients(firesteel, case, drawn, run))
    if expected.error is not None:
        assert_same_error(actual, expected, shrunk)
        return
    assert actual.error is None, f"{actual.error!r}, expected gradients"
    assert (actual.result is None) == (expected.result is None), "only one of the results requires grad"
    for index, (a, e) in enumerate(zip(actual.result or (), expected.result or (), strict=True)):
        where = f"gradient of input {index}"
        assert (a is None) == (e is None), f"{where}: {a}, expected {e}"
        if e is not None:
            assert_same(a, e, LOOSER * case.tolerance(dtype), where)


def gradient_calls(case, kind):
    """The calls of a row that have gradients."""
    if case.grad:
        yield from (call for call in case.calls(kind, FLOATS) if call[0].grad)


def check_gradient(case, sample, dtype, layout, shrunk):
    assert_same_gradients(case, dtype, draw(sample, dtype, layout, case.name), shrunk)


@parity
@pytest.mark.parametrize("case, kind", items(gradient_calls))
def test_gradient(case, kind):
    failures = Failures(case, kind, known_bugs.GRADIENT)
    for call in gradient_calls(case, kind):
        failures.check(*call, check_gradient, kind in SHRUNK)
    failures.report()


# --- numeric gradients ------------------------------------------------------------------------------------


def numeric_calls(case, kind, twice=False):
    """The calls with gradients that differences can tell, in float64."""
    if kind in LAYOUTS and case.grad is True and (case.twice or not twice):
        for sample, dtype, layout in case.calls(kind):
            if sample.grad is True and dtype == (sample.dtypes or case.dtypes)[0]:
                yield sample, "float64", layout


def as_function(case, sample, layout):
    """The case as a function of its float tensors alone, and these tensors in float64.

    A broadcast tensor is made inside the function: differences cannot be taken one by one of elements that
    share their memory.
    """
    bases = []
    args, kwargs = build(firesteel, draw(sample, "float64", layout, case.name), True, bases)
    wanted = [tensor for tensor in leaves((args, kwargs)) if tensor.requires_grad]
    if layout == "broadcast":
        own = zip(leaves((args, kwargs)), bases, strict=True)
        inputs = tuple(base.detach().requires_grad_() for tensor, base in own if tensor.requires_grad)
    else:
        inputs = tuple(wanted)

    def function(*tensors):
        whole = [
            x.expand(w.shape) if layout == "broadcast" else x for x, w in zip(tensors, wanted, strict=True)
        ]
        given = iter(whole)
        a, k = walk(
            (args, kwargs), lambda leaf: next(given) if is_tensor(leaf) and leaf.requires_grad else leaf
        )
        return tuple(out for out in leaves([case.run(firesteel, a, k)]) if is_float(out))

    return function, inputs


def check_numeric(case, sample, dtype, layout):
    assert gradcheck(*as_function(case, sample, layout))


def check_numeric_twice(case, sample, dtype, layout):
    assert gradgradcheck(*as_function(case, sample, layout), nondet_tol=1e-12)


@pytest.mark.parametrize("case, kind", items(numeric_calls))
def test_gradcheck(case, kind):
    failures = Failures(case, kind, known_bugs.GRADCHECK)
    for call in numeric_calls(case, kind):
        failures.check(*call, check_numeric)
    failures.report()


def second_calls(case, kind):
    """All calls where they are contiguous, the first one in the other layouts."""
    for number, call in enumerate(numeric_calls(case, kind, twice=True)):
        if number == 0 or kind == "contiguous":
            yield call


@pytest.mark.parametrize("case, kind", items(second_calls))
def test_gradgradcheck(case, kind):
    failures = Failures(case, kind, known_bugs.GRADCHECK)
    for call in second_calls(case, kind):
        failures.check(*call, check_numeric_twice)
    failures.report()


# --- one gradient alone -----------------------------------------------------------------------------------


def joint_calls(case, kind):
    """Calls in float64 of several inputs that have gradients."""
    for call in numeric_calls(case, kind) if kind == "contiguous" else ():
        tensors = leaves(build(firesteel, draw(*call, case.name), requires_grad=True))
        if sum(tensor.requires_grad for tensor in tensors) > 1:
            yield call


def check_each_alone(case, sample, dtype, layout):
    drawn = draw(sample, dtype, layout, case.name)
    for index, expected in enumerate(gradients(firesteel, case, drawn) or ()):
        (alone,) = gradients(firesteel, case, drawn, asked=slice(index, index + 1))
        assert (alone is None) == (expected is None), f"gradient of input {index}"
        assert alone is None or firesteel.equal(alone, expected), f"gradient of input {index}"


@pytest.mark.parametrize("case, kind", items(joint_calls))
def test_each_gradient_alone(case, kind):
    """A rule that is asked for the gradient of one input gives what it gives among all."""
    failures = Failures(case, kind, known_bugs.GRADIENT)
    for call in joint_calls(case, kind):
        failures.check(*call, check_each_alone)
    failures.report()


# --- in-place twins ---------------------------------------------------------------------------------------


def inplace_calls(case, kind):
    """The calls with gradients of an in-place twin."""
    if case.inplace and kind != "broadcast":
        for sample, dtype, layout in gradient_calls(case, kind):
            if isinstance(sample.args[0], T) and (sample.forms is None or "m" in sample.forms):
                yield sample, dtype, layout


def check_inplace_gradient(case, sample, dtype, layout, shrunk):
    def run(args, kwargs):
        return getattr(args[0] * 1, case.inplace)(*args[1:], **kwargs)

    assert_same_gradients(case, dtype, draw(sample, dtype, layout, case.name), shrunk, run)


@parity
@pytest.mark.parametrize("case, kind", items(inplace_calls))
def test_inplace_gradient(case, kind):
    """The in-place twin on a copy of a leaf has the gradient of PyTorch's."""
    failures = Failures(case, kind, known_bugs.INPLACE_GRADIENT)
    for call in inplace_calls(case, kind):
        failures.check(*call, check_inplace_gradient, kind in SHRUNK)
    failures.report()


def test_every_row_without_gradients_has_none():
    """A row that is not marked `grad` gives results that do not require grad."""
    wrong = []
    for case in CASES:
        call = next((call for call in case.calls("contiguous", FLOATS)), None)
        if case.grad or call is None:
            continue
        args, kwargs = build(firesteel, draw(*call, case.name), requires_grad=True)
        if any(tensor.requires_grad for tensor in leaves((args, kwargs))):
            outcome = Outcome(lambda case=case, args=args, kwargs=kwargs: case.run(firesteel, args, kwargs))
            if outcome.error is None and any(out.requires_grad for out in leaves([outcome.result])):
                wrong.append(case.id)
    assert not wrong, f"differentiable, but their rows lack grad=True: {wrong}"

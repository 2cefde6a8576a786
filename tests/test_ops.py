"""Runs the table of operations: values, spellings, in-place twins, each over dtypes and layouts."""

import numpy as np
import pytest

import firesteel
import known_bugs
from op_cases import CASES
from op_cases.table import SHRUNK, T, draw
from sweep import (
    PYTORCH_WARNS,
    Failures,
    Outcome,
    assert_matches,
    assert_same_error,
    assert_same_views,
    assert_unchanged,
    items,
    reference,
    snapshot,
)
from tensors import assert_same, build, leaves, to_numpy, torch

# In-place results go to memory that no two elements share.
OWN_MEMORY = ("contiguous", "transposed", "strided", "offset", *SHRUNK)

pytestmark = PYTORCH_WARNS


# --- values -----------------------------------------------------------------------------------------------


def check_value(case, sample, dtype, layout, shrunk=False, spelling=None):
    drawn = draw(sample, dtype, layout, case.name)
    expected = reference(case, drawn, sample, dtype, shrunk, spelling)
    args, kwargs = build(firesteel, drawn)
    before = snapshot((args, kwargs))
    actual = Outcome(lambda: case.run(firesteel, args, kwargs, spelling))
    actual.inputs = leaves((args, kwargs))
    assert_unchanged((args, kwargs), before)
    if expected is None:
        assert actual.error is None or isinstance(actual.error, Exception), f"{actual.error!r}"
        return
    assert_matches(actual, expected, case, dtype, shrunk)
    assert_same_views(actual, expected)


@pytest.mark.parametrize("case, kind", items(lambda case, kind: case.calls(kind)))
def test_value(case, kind):
    """Value, shape, dtype and sharing of memory are PyTorch's; what it refuses is refused."""
    failures = Failures(case, kind, known_bugs.VALUE)
    for call in case.calls(kind):
        failures.check(*call, check_value, kind in SHRUNK)
    failures.report()


def form_rows():
    for case in CASES:
        names = [] if case.call and not case.forms else case.spellings()[0 if case.call else 1 :]
        for spelling in names + list(case.operators):
            yield pytest.param(case, spelling, id=f"{case.id}-{spelling}")


@pytest.mark.parametrize("case, spelling", [*form_rows()])
def test_spelling(case, spelling):
    """Functions, methods, operators and aliases of one operation give one result."""
    letter = {"Tensor": "m", "F": "n"}.get(spelling.partition(".")[0], "f")
    failures = Failures(case, spelling, known_bugs.SPELLING)
    for sample, dtype, layout in case.calls("contiguous"):
        is_method = letter == "m" and isinstance(sample.args[0], T)
        if (letter == "m" and not is_method) or (sample.forms is not None and letter not in sample.forms):
            continue
        if spelling not in case.operators or not sample.kwargs:
            failures.check(sample, dtype, layout, check_value, False, spelling)
    failures.report()


# --- in-place twins ---------------------------------------------------------------------------------------


def inplace_calls(case, kind):
    """The calls of a row that its in-place twin takes."""
    if case.inplace is None or kind not in OWN_MEMORY:
        return
    for sample, dtype, layout in case.calls(kind):
        if isinstance(sample.args[0], T) and (sample.forms is None or "m" in sample.forms):
            yield sample, dtype, layout


def write(case, args, kwargs):
    """Calls the in-place twin."""
    return getattr(args[0], case.inplace)(*args[1:], **kwargs)


def check_inplace(case, sample, dtype, layout, shrunk):
    drawn = draw(sample, dtype, layout, case.name)
    bases, theirs = [], []
    args, kwargs = build(firesteel, drawn, bases=bases)
    target, version, others = args[0], args[0]._version, (args[1:], kwargs)
    before, whole = snapshot(others), to_numpy(bases[0])
    actual = Outcome(lambda: write(case, args, kwargs))
    assert_unchanged(others, before)
    if actual.error is None:
        assert actual.result is target, f"{case.inplace} must return the tensor itself"
        assert target._version > version, f"{case.inplace} must bump the version"
    else:
        assert target._version == version, "a failed write has bumped the version"
        np.testing.assert_array_equal(to_numpy(bases[0]), whole, err_msg="a failed write has written")
    if torch is not None:
        args, kwargs = build(torch, drawn, bases=theirs)
        expected = Outcome(lambda: write(case, args, kwargs))
        if expected.is_unsupported:
            return
        if expected.error is not None:
            assert_same_error(actual, expected, shrunk)
            return
        assert actual.error is None, f"{actual.error!r}, expected a result"
        assert_same(bases[0], theirs[0], case.tolerance(dtype), "the memory written to")
    elif actual.error is None:
        args, kwargs = build(firesteel, drawn)
        expected = case.run(firesteel, args, kwargs).to(target.dtype)
        assert_same(target, expected, case.tolerance(dtype))


@pytest.mark.parametrize("case, kind", items(inplace_calls))
def test_inplace(case, kind):
    """The in-place twin writes what PyTorch's writes: this tensor, and nothing beside it."""
    failures = Failures(case, kind, known_bugs.INPLACE)
    for call in inplace_calls(case, kind):
        failures.check(*call, check_inplace, kind in SHRUNK)
    failures.report()

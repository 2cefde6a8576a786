"""Runs one call in both libraries, or beside NumPy's, and gathers what is wrong over many of them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from op_cases import CASES
from op_cases.table import KINDS, walk
from tensors import assert_same, assert_values, build, dtype_name, leaves, memory, to_numpy, torch

# NumPy promotes the other dtypes otherwise, or lacks them.
NUMPYS = ("float32", "float64", "int64")

# A failing test shows so many of its failing calls.
SHOWN = 5


# PyTorch's, on calls of which the result is compared all the same.
PYTORCH_WARNS = [
    pytest.mark.filterwarnings("ignore:Using padding='same'"),
    pytest.mark.filterwarnings(r"ignore:\w+.*degrees of freedom is"),
    pytest.mark.filterwarnings(r"ignore:dropout\dd. Received a \d-D input"),
    pytest.mark.filterwarnings(r"ignore:Tensor.m?T is deprecated on 0-D tensors"),
]


class Failures:
    """The calls of one test that went wrong; the test fails at its end, with all of them."""

    def __init__(self, case, kind: str, known=()):
        self.case, self.kind = case, kind
        self.known = [bug for bug in known if bug.case == case.id]
        self.found: list[str] = []
        self.expected: list[str] = []
        self.mended: list[str] = []
        self.calls = 0

    def check(self, sample, dtype: str, layout: str, function, *args) -> None:
        """Runs `function(case, sample, dtype, layout, *args)`, a comparison, and remembers if it fails."""
        self.calls += 1
        label = sample.label or "first"
        bugs = [bug.reason for bug in self.known if bug.matches(self.kind, label, dtype)]
        try:
            function(self.case, sample, dtype, layout, *args)
        except (
            BaseException
        ) as error:  # a panic of the core is no Exception: here it is a failure like others
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            text = str(error).strip() if isinstance(error, AssertionError) else repr(error)
            if bugs:
                self.expected += bugs
            else:
                self.found.append(f"[sample {label}, {dtype}, {layout}]: {text}")
        else:
            self.mended += [f"[sample {label}, {dtype}]: {reason}" for reason in bugs]

    def report(self) -> None:
        """Fails if anything has, or if what is known to fail has not; skips if nothing was compared."""
        if self.found:
            more = f"\n... and {len(self.found) - SHOWN} more" if len(self.found) > SHOWN else ""
            text = "\n".join(self.found[:SHOWN])
            pytest.fail(f"{len(self.found)} of {self.calls} calls:\n{text}{more}", pytrace=False)
        if self.mended and torch is not None:
            text = "\n".join(self.mended[:SHOWN])
            pytest.fail(f"passes now: delete its line in tests/known_bugs.py\n{text}", pytrace=False)
        if self.expected:
            pytest.xfail(self.expected[0])
        if not self.calls:
            pytest.skip("no call of this row has a reference here")


def items(choose) -> list:
    """pytest's parameters (case, kind) for the rows and kinds where `choose` finds a call."""
    return [
        pytest.param(case, kind, id=f"{case.id}-{kind}")
        for case in CASES
        for kind in KINDS
        if next(iter(choose(case, kind)), None) is not None
    ]


def snapshot(tree):
    """Values and versions of the tensors in `tree`."""
    return [(to_numpy(tensor), tensor._version, tensor.grad_fn) for tensor in leaves(tree)]


def assert_unchanged(tree, before):
    """Fails if a call has written to its inputs."""
    for tensor, (values, version, grad_fn) in zip(leaves(tree), before, strict=True):
        np.testing.assert_array_equal(to_numpy(tensor), values, err_msg="an input was modified")
        assert tensor._version == version, "an input's version was bumped"
        assert (tensor.grad_fn is None) == (grad_fn is None), "an input's history was changed"


class Outcome:
    """What a call gave: its result, or the error it raised."""

    def __init__(self, function):
        self.error = self.result = None
        try:
            self.result = function()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            self.error = error

    @property
    def is_unsupported(self) -> bool:
        """Whether the library has no kernel for this dtype, or no derivative."""
        if isinstance(self.error, NotImplementedError):
            return True
        return (
            re.search(r"not implemented for|derivative for \S+ is not implemented", str(self.error))
            is not None
        )


def assert_same_error(actual: Outcome, expected: Outcome, shrunk: bool) -> None:
    """Fails unless the first call failed too, in a way that a `try` written for the second's error catches.

    On shrunk tensors PyTorch's class is often an accident (a lookup that fails before any check): there any
    of the usual classes will do.
    """
    assert actual.error is not None, f"no error, expected {expected.error!r}"
    classes = (RuntimeError, IndexError, ValueError, AssertionError) if shrunk else type(expected.error)
    assert isinstance(actual.error, classes), f"{actual.error!r}, expected {expected.error!r}"


def reference(case, drawn, sample, dtype, shrunk, spelling=None) -> Outcome | None:
    """PyTorch's outcome, or NumPy's where there is no PyTorch; None where neither knows the call."""
    if torch is not None:
        args, kwargs = build(torch, drawn)
        expected = Outcome(lambda: case.run(torch, args, kwargs, spelling))
        expected.inputs = leaves((args, kwargs))
        return None if expected.is_unsupported else expected
    if case.np is None or not sample.reference or shrunk or dtype not in NUMPYS:
        return None
    args, kwargs = walk(drawn, lambda leaf: leaf.array.astype(leaf.dtype) if hasattr(leaf, "array") else leaf)
    with np.errstate(all="ignore"):
        expected = Outcome(lambda: np.asarray(case.np(*args, **kwargs)))
    return expected


def assert_matches(actual: Outcome, expected: Outcome, case, dtype: str, shrunk: bool) -> None:
    """Fails unless `actual` is what the reference gave: all of it for PyTorch, values for NumPy."""
    tol = case.tolerance(dtype)
    if expected.error is not None:
        assert_same_error(actual, expected, shrunk)
    elif actual.error is not None:
        raise AssertionError(f"{actual.error!r}, expected a result")
    elif torch is not None:
        assert_same(actual.result, expected.result, tol, "result", case.compare)
    else:
        result, values = actual.result, expected.result
        assert tuple(result.shape) == values.shape, f"shape {tuple(result.shape)}, expected {values.shape}"
        kind = np.dtype(dtype_name(result.dtype)).kind
        assert kind == values.dtype.kind, f"dtype {result.dtype}, expected {values.dtype}"
        assert_values(to_numpy(result), values, dtype_name(result.dtype), tol, "result", False)


def sharing(result, inputs) -> list[list[int]]:
    """For every tensor in `result`, the numbers of the inputs whose memory it looks at."""
    places = [memory(tensor) if tensor.numel() else None for tensor in inputs]
    return [
        [number for number, place in enumerate(places) if place is not None and place == memory(tensor)]
        for tensor in leaves([result])
        if tensor.numel()
    ]


def assert_same_views(actual: Outcome, expected: Outcome) -> None:
    """Fails unless results are views of the inputs exactly where PyTorch's are."""
    if torch is None or expected.error is not None:
        return
    ours, theirs = sharing(actual.result, actual.inputs), sharing(expected.result, expected.inputs)
    assert ours == theirs, f"results share the memory of inputs {ours}, PyTorch's of {theirs}"

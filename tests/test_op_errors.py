"""Runs the wrong calls of the table: PyTorch's class of error, a text that helps, and nothing changed."""

import re

import pytest

import firesteel
from op_cases import CASES
from op_cases.table import draw
from sweep import Outcome, assert_unchanged, snapshot
from tensors import build, torch

# What a fact looks like where the table names none: a number, a dtype, a quoted word, an empty shape.
ANY_FACT = r"\d|'|\b(float|int|bool|bfloat)\d*\b|\[\]|\(\)"


def error_rows():
    for case in CASES:
        for index, error in enumerate(case.errors):
            yield pytest.param(case, error, id=f"{case.id}-{error.label or index}")


def fail(lib, case, error):
    """What the wrong call raised, and what it was given."""
    args, kwargs = build(lib, draw(error, error.dtype, "contiguous", case.name))
    before = snapshot((args, kwargs))
    if error.form == "inplace":
        outcome = Outcome(lambda: getattr(args[0], case.inplace)(*args[1:], **kwargs))
    else:
        outcome = Outcome(lambda: case.run(lib, args, kwargs, error.form))
    assert outcome.error is not None, "no error"
    return outcome.error, (args, kwargs), before


@pytest.mark.parametrize("case, error", [*error_rows()])
def test_error_class(case, error):
    """A wrong call raises the class that the table names; a `try` written for PyTorch's error catches it."""
    ours, _, _ = fail(firesteel, case, error)
    assert isinstance(ours, error.raises), f"{ours!r}, expected {error.raises.__name__}"
    if torch is not None:
        theirs, _, _ = fail(torch, case, error)
        assert isinstance(ours, type(theirs)), f"{ours!r}, PyTorch raises {theirs!r}"


@pytest.mark.parametrize("case, error", [*error_rows()])
def test_error_changes_nothing(case, error):
    """A wrong call leaves the values, versions and history of its inputs as they were."""
    _, given, before = fail(firesteel, case, error)
    assert_unchanged(given, before)


@pytest.mark.parametrize("case, error", [*error_rows()])
def test_error_text(case, error):
    """The message names the operation, the facts and, after a semicolon, a way out."""
    message = str(fail(firesteel, case, error)[0])
    names = {case.name, *(spelling.rpartition(".")[2] for spelling in case.spellings())} - {""}
    assert any(re.match(rf"(\w+\.)*{re.escape(name)}_?: ", message) for name in names), (
        f"must start with {case.name!r} and a colon: {message}"
    )
    says, _, way_out = message.partition(";")
    facts = [fact for fact in error.says if fact] or [ANY_FACT]
    assert len(way_out.split()) >= 2, f"must say after ';' what to do: {message}"
    for fact in facts:
        assert re.search(fact, says.partition(":")[2]), f"must say {fact!r}: {message}"

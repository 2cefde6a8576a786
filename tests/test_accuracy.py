"""Functions are as exact as docs/accuracy.md says, and the tests in Rust accept no more."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import firesteel
from accuracy import BEGIN, END, FUNCTIONS, HAS_80_BITS, PAGE, STEP, largest_error, sum_errors, ulps

IN_RUST = Path(__file__).parent.parent / "rust" / "core" / "src" / "kernels" / "math" / "tests.rs"
# Functions that have another name in Rust; `pow` and `sqrt` are not in this list of tests there.
RUST_NAMES = {"log": "ln", "logsigmoid": "log_sigmoid", "gelu": "gelu_right"}
ALLOWED64 = 2.0


def _rows(table: str) -> dict[str, list[str]]:
    """The cells of a table of the page, by the first of each row."""
    text = PAGE.read_text().partition(BEGIN.format(table))[2].partition(END.format(table))[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]
    return {row[0].strip("`"): row[1:] for row in rows if len(row) > 1 and row[0] != "---"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_no_larger_than_the_page_says(name: str) -> None:
    error = largest_error(firesteel, name, np.float32, STEP * 20 + 1)
    assert 0 < error <= FUNCTIONS[name].allowed
    if HAS_80_BITS:
        assert 0 < largest_error(firesteel, name, np.float64, STEP * 20) <= ALLOWED64


def test_the_page_was_measured_and_its_limits_are_those_of_the_tests() -> None:
    float32, float64 = _rows("float32"), _rows("float64")
    heads = float32.pop("function")
    assert heads[:3] == ["range", "allowed", "SSE2"]
    float64.pop("function")
    assert list(float32) == list(float64) == list(FUNCTIONS)
    ours = slice(2, 2 + sum(head in ("SSE2", "AVX2", "AVX-512") for head in heads))
    in_rust = dict(re.findall(r"^accurate!\((\w+),.* ([\d.]+)\);$", IN_RUST.read_text(), re.MULTILINE))
    for name, (_, allowed, *_) in float32.items():
        assert float(allowed) == FUNCTIONS[name].allowed
        assert all(float(error) <= float(allowed) for error in float32[name][ours]), name
        assert all(float(error) <= ALLOWED64 for error in float64[name][1 : ours.stop - 1] if error), name
        if limit := in_rust.get(RUST_NAMES.get(name, name)):
            assert float(limit) == float(allowed), name
    assert len([name for name in FUNCTIONS if RUST_NAMES.get(name, name) in in_rust]) == len(FUNCTIONS) - 2


def test_distances_are_in_units_of_the_last_place() -> None:
    exact = np.array([1.0, 1.5, 2.0, -4.0, 0.0, np.inf, 1e300])
    got = np.array([1 + 2**-23, 1.5, 2 + 2**-22, -4 + 2**-21, 2.0**-149, np.inf, np.inf], np.float32)
    assert ulps(got, exact).tolist() == [1, 0, 1, 1, 1, 0, 0]


def test_errors_of_sums_are_within_the_bound() -> None:
    additions = {
        "1,000, rows": 60,
        "1,000,000, rows": 120,
        "30,000,000, rows": 120,
        "1,000,000, columns": 120,
    }
    errors = sum_errors(firesteel)
    assert errors.keys() == additions.keys() == _rows("sums").keys() - {"terms"}
    assert all(error <= additions[terms] * 2**-24 for terms, error in errors.items())
    # What the page shows is far smaller.
    assert all(error < 1e-6 for error in errors.values())

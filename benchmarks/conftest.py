"""Races: the same work in Firesteel and, where it is installed, in PyTorch, in turns in one process.

    pytest benchmarks --benchmark-only [--quick] [--threads 1] [--json PATH] [-k WORDS]

A round times a batch of calls of each, resting before every batch, and the two take turns at being first, so
that whatever else the machine does slows both down alike. The table at the end gives the median times per
call, their ratios, and what was wanted of them. A file is a group of rows: its `CASES` say what is built for
either library, its `GROUP` what is wanted of the geometric mean.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import firesteel
from agree import made, missing_name, results_agree
from racing import FULL, QUICK, race as run_race, share_of_others
from report import Group, Memory, Need, Report, Row
from results import write_json

try:
    import torch
except ImportError:
    torch = None

_report = Report()


def pytest_addoption(parser):
    group = parser.getgroup("races")
    group.addoption("--quick", action="store_true", help="few and short rounds, for a look")
    group.addoption("--threads", default="1,2", help="numbers of threads, with commas between (1,2)")
    group.addoption("--json", type=Path, help="also write the results to this file")


def pytest_configure(config):
    config.option.benchmark_quiet = True  # its own table would show batches, not calls
    # Rows that are missing or wrong time nothing.
    config.addinivalue_line("filterwarnings", "ignore:Benchmark fixture was not used")


def pytest_collection_finish(session):
    """Looks if the machine is quiet, and spares later collections what was imported (a tenth of a second)."""
    if session.config.getoption("benchmark_disable"):
        return
    gc.collect()
    gc.freeze()
    _report.others = share_of_others()


def pytest_generate_tests(metafunc):
    """`case` is each of the file's `CASES`, `threads` each number that was asked for."""
    if "threads" in metafunc.fixturenames:
        metafunc.parametrize("threads", [int(n) for n in metafunc.config.getoption("threads").split(",")])
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", metafunc.module.CASES)


def _row_name(request) -> str:
    """The case, or the test's name with its parameters."""
    given = dict(request.node.callspec.params) if hasattr(request.node, "callspec") else {}
    given.pop("threads", None)
    name = request.node.originalname.removeprefix("test_").replace("_", " ")
    return given.pop("case", None) or " ".join([name, *map(str, given.values())])


@pytest.fixture
def race(request, benchmark):
    """A function that races `make(firesteel)` against `make(torch)` and adds a row to the table.

    `make` gets the library and returns the call to time. `batched` calls are timed many at a time; others
    (a new process) one by one, in so many `rounds`. `ratio` and `seconds` are what is wanted, as in `Row`.
    `agree` gets both calls, and raises where they do not compute the same. Where Firesteel lacks a name that
    PyTorch has, the row says so.
    """

    def run(
        make: Callable[[ModuleType], Callable],
        threads: int = 1,
        *,
        group: Group | None = None,
        batched: bool = True,
        rounds: int | None = None,
        ratio: float | None = 1.0,
        seconds: float | None = None,
        agree: Callable[[Callable, Callable], None] = results_agree,
    ):
        row = Row(group or request.module.GROUP, _row_name(request), threads, ratio=ratio, seconds=seconds)
        libraries = [firesteel] if torch is None else [firesteel, torch]
        before = [library.get_num_threads() for library in libraries]
        for library in libraries:
            library.set_num_threads(threads)
        try:
            row.missing = missing_name(make, *libraries)
            if row.missing:
                _report.rows.append(row)
                pytest.skip(f"missing: {row.missing}")
            if benchmark.disabled:
                return
            calls = [made(make, library) for library in libraries]
            if torch is not None and batched:
                _compare(agree, calls, row)
            pace = QUICK if request.config.getoption("quick") else FULL
            row.ours, row.theirs = run_race(benchmark, calls, pace, batched, rounds)
        finally:
            for library, count in zip(libraries, before, strict=True):
                library.set_num_threads(count)
        _report.rows.append(row)

    return run


def _compare(agree: Callable[[Callable, Callable], None], calls: list[Callable], row: Row) -> None:
    try:
        agree(*calls)
    except AssertionError:
        row.wrong = True
        _report.rows.append(row)
        raise


@pytest.fixture
def compare_memory(benchmark):
    """A function that adds to the table what `measure(library's name, step)` gives for either library."""

    def run(measure: Callable[[str, str], Need | None], step: str):
        ours = benchmark.pedantic(measure, args=("firesteel", step))
        theirs = None if torch is None or benchmark.disabled else measure("torch", step)
        _report.memory.append(Memory(step, ours, theirs))

    return run


def pytest_terminal_summary(terminalreporter, config):
    if (_report.rows or _report.memory) and not config.getoption("benchmark_disable"):
        title = "Firesteel beside PyTorch" if torch else "Firesteel (PyTorch is not installed)"
        terminalreporter.section(title)
        _report.print(terminalreporter.write_line, [firesteel, torch] if torch else [firesteel])
        if path := config.getoption("json"):
            write_json(path, _report, config.getoption("quick"))
            terminalreporter.write_line(f"written to {path}")

"""Races: the same work in Firesteel and, where it is installed, in PyTorch, in turns in one process.

    pytest benchmarks --benchmark-only

A round times a batch of calls of each, resting before every batch, and the two take turns at being first, so
that whatever else the machine does slows both down alike. The table at the end gives times per call, their
ratios, and what was wanted of them.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from types import ModuleType

import pytest
from report import Row, print_sizes, print_table

import firesteel

try:
    import torch
except ImportError:
    torch = None

BATCH_SECONDS = 0.02
ROUNDS = 25
# Long enough for the other library's workers to stop spinning.
REST_SECONDS = 0.005

_rows: list[Row] = []


def _calls_per_batch(call: Callable[[], object]) -> int:
    """How many calls take about `BATCH_SECONDS`, after a few to warm up."""
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < BATCH_SECONDS or calls < 3:
        call()
        calls += 1
    return max(1, calls)


def _repeat(call: Callable[[], object], calls: int) -> None:
    for _ in range(calls):
        call()


@pytest.fixture
def race(request, benchmark):
    """A function that races `make(firesteel)` against `make(torch)` and adds a row to the table.

    `make` gets the library and returns the call to time. `batched` calls are timed many at a time; others
    (a new process) one by one. `ratio` and `seconds` are what is wanted, as in `Row`.
    """

    def run(
        make: Callable[[ModuleType], Callable],
        threads: int = 1,
        batched: bool = True,
        rounds: int = ROUNDS,
        ratio: float | None = None,
        seconds: float | None = None,
    ):
        libraries = [firesteel] if torch is None else [firesteel, torch]
        before = [library.get_num_threads() for library in libraries]
        for library in libraries:
            library.set_num_threads(threads)
        try:
            ours, *theirs = [make(library) for library in libraries]
            calls, *their_calls = [_calls_per_batch(call) if batched else 1 for call in (ours, *theirs)]
            their_times: list[float] = []

            def time_theirs():
                time.sleep(REST_SECONDS)
                begin = time.perf_counter()
                _repeat(theirs[0], their_calls[0])
                their_times.append((time.perf_counter() - begin) / their_calls[0])

            turns = itertools.count()

            def before_ours():
                # Theirs, ours, ours, theirs, theirs, ours: who was last in one round is first in the next.
                turn = next(turns)
                if theirs and turn % 2 == 0:
                    for _ in range(2 if turn else 1):
                        time_theirs()
                time.sleep(REST_SECONDS)

            gc.collect()
            benchmark.pedantic(_repeat, args=(ours, calls), setup=before_ours, rounds=rounds)
        finally:
            for library, count in zip(libraries, before, strict=True):
                library.set_num_threads(count)
        if benchmark.stats is not None:  # None under --benchmark-disable
            our_times = [seconds / calls for seconds in benchmark.stats.stats.data]
            name = request.node.name.removeprefix("test_")
            _rows.append(Row(name, threads, our_times, their_times, ratio, seconds))

    return run


def pytest_configure(config):
    config.option.benchmark_quiet = True  # its own table would show batches, not calls


def pytest_terminal_summary(terminalreporter):
    if _rows:
        terminalreporter.section(
            "Firesteel beside PyTorch" if torch else "Firesteel (PyTorch is not installed)"
        )
        print_table(_rows, terminalreporter.write_line)
        print_sizes([firesteel, torch] if torch else [firesteel], terminalreporter.write_line)

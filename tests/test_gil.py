"""Backward lets other Python threads run: it holds the interpreter's lock for hooks alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import firesteel


@contextmanager
def ticking() -> Iterator[list[float]]:
    """When another Python thread was at work, for as long as the block lasts."""
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.001):
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield ticks
    finally:
        done.set()
        thread.join()


def products(count: int) -> firesteel.Tensor:
    """A chain of large kernels."""
    w = firesteel.eye(400).requires_grad_()
    y = w
    for _ in range(count):
        y = y @ w
    return y.sum()


def steps(count: int) -> firesteel.Tensor:
    """A chain of operations on one element, which run in a fraction of a microsecond each."""
    y = firesteel.ones(1, requires_grad=True)
    for _ in range(count):
        y = y * 1.0
    return y.sum()


def hooked(count: int) -> firesteel.Tensor:
    """A chain in which every hundredth gradient passes a hook."""
    y = firesteel.ones(1, requires_grad=True)
    for i in range(count):
        y = y * 1.0
        if i % 100 == 0:
            y.register_hook(lambda grad: None)
    return y.sum()


@pytest.mark.parametrize(
    "graph, count, seconds",
    # A chain of millions of nodes would take the most of a second, and of a gigabyte.
    [(products, 8, 0.5), (steps, 100_000, 0.1), (hooked, 50_000, 0.1)],
    ids=["large kernels", "one element", "hooks"],
)
def test_another_thread_runs_in_the_middle_of_a_backward_pass(
    graph: Callable[[int], firesteel.Tensor], count: int, seconds: float
) -> None:
    begin = end = 0.0
    while end - begin < seconds:  # long enough that the middle is clear of both ends
        loss = graph(count)
        with ticking() as ticks:
            begin = time.perf_counter()
            loss.backward()
            end = time.perf_counter()
        count *= 2
    quarter = (end - begin) / 4
    assert sum(begin + quarter < tick < end - quarter for tick in ticks) > 0


def test_a_hook_runs_in_the_thread_that_called_backward() -> None:
    """What the program keeps for each thread is the caller's there."""
    seen: list[int] = []
    x = firesteel.ones(100_000, requires_grad=True)  # large enough to be shared among kernels' threads
    y = x * 2
    for tensor in (x, y):
        tensor.register_hook(lambda grad: seen.append(threading.get_ident()))
    loss = y.sum()
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    assert seen == [thread.ident] * 2


@pytest.mark.parametrize("operands", ["few, many", "many, few", "many, many"])
def test_another_thread_runs_in_the_middle_of_an_operation(operands: str) -> None:
    """Also where the left operand has one element alone."""
    begin = end = 0.0
    count = 1 << 20
    while end - begin < 0.05:
        sizes = {"few": firesteel.full((1,), 1e9, dtype=firesteel.float64)}
        sizes["many"] = firesteel.full((count,), 3.7, dtype=firesteel.float64)
        left, right = (sizes[size] for size in operands.split(", "))
        with ticking() as ticks:
            begin = time.perf_counter()
            left.fmod(right)
            end = time.perf_counter()
        count *= 2
    quarter = (end - begin) / 4
    assert sum(begin + quarter < tick < end - quarter for tick in ticks) > 0

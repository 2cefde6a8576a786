"""Eight threads: graphs of their own, a shared model under a lock, and grad modes that are a thread's own.

    FIRESTEEL_SECONDS=60 python -m pytest -s tests/parity/test_autograd_threads.py

works for a minute in each test that repeats its work, and prints how often it did.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import firesteel
from firesteel import nn

THREADS = 8
# A bound on the work, not a measurement: every thread goes through at least one round.
SECONDS = float(os.environ.get("FIRESTEEL_SECONDS", "1.5"))


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    """The results of `work(0)` to `work(7)`, all begun at once; an error of a thread is ours."""
    barrier = threading.Barrier(THREADS)

    def begin(index: int) -> Any:
        barrier.wait(30)
        return work(index)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


def repeat(once: Callable[[], Any]) -> int:
    """How often `once` was run in the time there is."""
    end, rounds = time.monotonic() + SECONDS, 0
    while not rounds or time.monotonic() < end:
        once()
        rounds += 1
    return rounds


def small_graph(x: firesteel.Tensor) -> firesteel.Tensor:
    """Sums, products, views, writes in place and a hook, so that all kinds of nodes are met."""
    y = x * x
    y.register_hook(lambda grad: grad * 2)
    z = y.reshape(2, 4).t() @ firesteel.ones(2, 3, dtype=firesteel.float64)
    z[0] = z[1] * 3
    return z.exp().log().sum() + x[::2].sum()


@pytest.mark.parametrize("numel", [8, 40_000], ids=["small", "large"])
def test_graphs_of_their_own(numel: int) -> None:
    """Small ones hold the GIL; large ones let go of it in the middle of the forward pass."""

    def gradient(start: float) -> list[float]:
        x = firesteel.linspace(start, start + 1, numel, dtype=firesteel.float64).requires_grad_()
        loss = small_graph(x) if numel == 8 else (x.sin() * x).sum() + (x * 3).exp().log().sum()
        loss.backward()
        assert x.grad is not None
        return x.grad.tolist()

    expected = [gradient(float(index)) for index in range(THREADS)]

    def work(index: int) -> int:
        def once() -> None:
            assert gradient(float(index)) == expected[index]

        return repeat(once)

    rounds = in_threads(work)
    print(f"{sum(rounds)} rounds")


def test_a_shared_model_under_a_lock() -> None:
    """Gradients are whole numbers, and add up to exactly what the rounds of all threads make."""
    model = nn.Linear(4, 2).double()
    with firesteel.no_grad():
        model.weight.fill_(1)
        model.bias.fill_(0)
    lock = threading.Lock()

    def work(index: int) -> int:
        x = firesteel.full((3, 4), index + 1, dtype=firesteel.float64)

        def once() -> None:
            with lock:
                model(x).sum().backward()

        return repeat(once)

    rounds = in_threads(work)
    print(f"{sum(rounds)} rounds")
    assert model.weight.grad is not None and model.bias.grad is not None
    expected = 3 * sum(count * (index + 1) for index, count in enumerate(rounds))
    assert model.weight.grad.tolist() == [[expected] * 4] * 2
    assert model.bias.grad.tolist() == [3 * sum(rounds)] * 2


def test_one_leaf_in_many_graphs_without_a_lock() -> None:
    """Accumulation is one step for each backward pass: none is lost."""
    x = firesteel.ones(5, dtype=firesteel.float64, requires_grad=True)
    rounds = in_threads(lambda index: repeat(lambda: (x * 2).sum().backward()))
    print(f"{sum(rounds)} rounds")
    assert x.grad is not None and x.grad.tolist() == [2 * sum(rounds)] * 5


def test_gradients_of_one_graph_asked_for_by_all() -> None:
    x = firesteel.linspace(0, 1, 64, dtype=firesteel.float64).requires_grad_()
    y = (x.exp() * x.sin()).sum()
    expected = firesteel.autograd.grad(y, x, retain_graph=True)[0].tolist()

    def work(_: int) -> None:
        for _ in range(50):
            assert firesteel.autograd.grad(y, x, retain_graph=True)[0].tolist() == expected

    in_threads(work)


def test_grad_modes_are_a_threads_own() -> None:
    x = firesteel.ones(2, requires_grad=True)
    barrier = threading.Barrier(THREADS)

    def work(index: int) -> list[bool]:
        seen = [firesteel.is_grad_enabled()]  # a new thread records, whatever the others do
        mode = firesteel.no_grad() if index % 2 else firesteel.enable_grad()
        with mode:
            barrier.wait(30)  # all are inside of their block
            seen.append((x * 2).requires_grad)
            barrier.wait(30)
        firesteel.set_grad_enabled(index % 2 == 0)
        barrier.wait(30)
        seen.append(firesteel.is_grad_enabled())
        return seen

    with firesteel.no_grad():
        results = in_threads(work)
        assert not firesteel.is_grad_enabled()
    assert firesteel.is_grad_enabled()
    assert results == [[True, index % 2 == 0, index % 2 == 0] for index in range(THREADS)]


def test_hooks_and_errors_stay_in_their_thread() -> None:
    """A hook runs in the thread that calls backward, and its exception comes out there alone."""

    class Mine(Exception):
        pass

    def work(index: int) -> bool:
        x, seen = firesteel.ones(3, requires_grad=True), []

        def hook(grad: firesteel.Tensor) -> None:
            seen.append(threading.get_ident())
            if index % 2:
                raise Mine(index)

        x.register_hook(hook)
        for _ in range(50):
            try:
                (x * 2).sum().backward()
            except Mine as error:
                assert index % 2 and error.args == (index,)
        assert set(seen) == {threading.get_ident()} and len(seen) == 50
        return x.grad is None or x.grad.tolist() == [100] * 3

    assert all(in_threads(work))

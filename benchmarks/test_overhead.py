"""What an operation costs beside its arithmetic: tensors of one element."""

from __future__ import annotations

import pytest

CHAIN = 10
# How many times faster than PyTorch an operation should be, alone and with its backward pass.
FORWARD, BOTH = 4.0, 5.0

either = pytest.mark.parametrize("threads", [1, 2])


@either
def test_add_without_recording(race, threads):
    def make(lib):
        x, y = lib.ones(1), lib.ones(1)
        return lambda: x + y

    race(make, threads)


@either
def test_mul_recorded(race, threads):
    def make(lib):
        x, y = lib.ones(1, requires_grad=True), lib.ones(1)
        return lambda: x * y

    race(make, threads, ratio=FORWARD)


@either
def test_exp_recorded(race, threads):
    def make(lib):
        x = lib.ones(1, requires_grad=True)
        return lambda: x.exp()

    race(make, threads, ratio=FORWARD)


@either
def test_matmul_1x1_recorded(race, threads):
    def make(lib):
        x, y = lib.ones(1, 1, requires_grad=True), lib.ones(1, 1)
        return lambda: x @ y

    race(make, threads, ratio=FORWARD)


@either
def test_chain_of_10_forward(race, threads):
    def make(lib):
        x = lib.ones(1, requires_grad=True)

        def call():
            y = x
            for _ in range(CHAIN):
                y = y * x

        return call

    race(make, threads, ratio=FORWARD)


@either
def test_chain_of_10_forward_and_backward(race, threads):
    def make(lib):
        x = lib.ones(1, requires_grad=True)

        def call():
            x.grad = None
            y = x
            for _ in range(CHAIN):
                y = y * x
            y.backward()

        return call

    race(make, threads, ratio=BOTH)


@either
def test_scalar_program(race, threads):
    """The first example of every tutorial: `z = 2 x^2 + 3` and its slope at 3."""

    def make(lib):
        def call():
            x = lib.tensor(3.0, requires_grad=True)
            y = x**2
            z = 2 * y + 3
            z.backward()
            return x.grad

        assert call().item() == 12.0
        return call

    race(make, threads, ratio=BOTH)

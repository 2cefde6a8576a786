"""What a backward pass costs: single operations, deep and wide graphs, and accumulation."""

from __future__ import annotations

import pytest

from report import Group

GROUP = Group("autograd", 5.0)
LARGE = Group("accumulation", 1.0)
# How many times faster than PyTorch an operation should be, with its backward pass, on one element.
BOTH = 5.0
DEEP = 1_000_000
WIDE = 10_000

OPERATIONS = {
    "add": lambda lib, x: x + x,
    "mul": lambda lib, x: x * x,
    "div": lambda lib, x: x / x,
    "pow": lambda lib, x: x**2,
    "exp": lambda lib, x: x.exp(),
    "log": lambda lib, x: x.log(),
    "sin": lambda lib, x: x.sin(),
    "tanh": lambda lib, x: x.tanh(),
    "sigmoid": lambda lib, x: x.sigmoid(),
    "relu": lambda lib, x: x.relu(),
    "sqrt": lambda lib, x: x.sqrt(),
    "maximum": lambda lib, x: lib.maximum(x, x),
    "sum": lambda lib, x: x.sum(),
    "mean": lambda lib, x: x.mean(),
    "softmax": lambda lib, x: x.softmax(0),
    "matmul": lambda lib, x: x @ x,
    "view": lambda lib, x: x.view(1, 1),
    "getitem": lambda lib, x: x[0],
    "cat": lambda lib, x: lib.cat((x, x))[:1],
    "clone": lambda lib, x: x.clone(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_element(race, name):
    compute = OPERATIONS[name]

    def make(lib):
        x = lib.ones(1, requires_grad=True)

        def call():
            x.grad = None
            compute(lib, x).backward()

        return call

    race(make, ratio=BOTH)


@pytest.mark.parametrize("before", ["never on", "on before"])
def test_anomaly_mode_off(race, before):
    """The mode costs nothing while it is off, whether it has been on in this process or not."""

    def make(lib):
        x = lib.ones(1, requires_grad=True)

        def call():
            x.grad = None
            (x * x).backward()

        if before == "on before":
            lib.autograd.set_detect_anomaly(True)
            call()
            lib.autograd.set_detect_anomaly(False)
        return call

    race(make, ratio=BOTH)


@pytest.mark.parametrize("depth", [1_000, DEEP])
def test_chain(race, depth):
    """The time a node must not depend on the depth."""

    def make(lib):
        x = lib.ones(1, requires_grad=True)

        def call():
            x.grad = None
            y = x
            for _ in range(depth):
                y = y * 1.0
            y.backward()

        return call

    race(make, batched=depth < DEEP, rounds=3 if depth == DEEP else None, ratio=BOTH)


def test_10000_inputs_into_one_sum(race):
    def make(lib):
        leaves = [lib.ones(1, requires_grad=True) for _ in range(WIDE)]

        def call():
            lib.cat(leaves).sum().backward()

        return call

    race(make, batched=False, ratio=BOTH)


def test_one_leaf_used_10000_times(race):
    def make(lib):
        x = lib.ones(1, requires_grad=True)

        def call():
            x.grad = None
            total = x
            for _ in range(WIDE):
                total = total + x
            total.backward()

        return call

    race(make, batched=False, ratio=BOTH)


def test_accumulation_of_a_million(race, threads):
    """Gradients that are added to those of the passes before."""

    def make(lib):
        x = lib.ones(1_000_000, requires_grad=True)
        return lambda: (x * 2.0).sum().backward()

    race(make, threads, group=LARGE)


def test_hessian_of_a_small_network(race):
    def make(lib):
        lib.manual_seed(0)
        x, w = lib.randn(8, 5), lib.randn(10, 5)

        def loss(v):
            return (lib.tanh(x @ w.t()) @ v).square().mean()

        v = lib.randn(10)
        return lambda: lib.autograd.functional.hessian(loss, v)

    race(make)


def test_custom_function(race):
    def make(lib):
        class Square(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x

            @staticmethod
            def backward(ctx, grad):
                (x,) = ctx.saved_tensors
                return 2 * x * grad

        x = lib.ones(1, requires_grad=True)

        def call():
            x.grad = None
            Square.apply(x).backward()

        return call

    race(make)

"""What an operation costs beside its arithmetic: tensors of a few elements."""

from __future__ import annotations

from report import Group

GROUP = Group("overhead", 8.0)
CHAIN = 10
# How many times faster than PyTorch each should be, alone and with its backward pass.
FORWARD, BOTH = 4.0, 5.0


def _pair(compute, *shape, recorded=False):
    def make(lib):
        x, y = lib.ones(shape, requires_grad=recorded), lib.ones(shape)
        return lambda: compute(x, y)

    return make


def _chain(lib, backward: bool):
    x = lib.ones(1, requires_grad=True)

    def call():
        x.grad = None
        y = x
        for _ in range(CHAIN):
            y = y * x
        if backward:
            y.backward()
        return x.grad

    return call


def scalar_program(lib):
    """The first example of every tutorial: `z = 2 x^2 + 3` and its slope at 3."""

    def call():
        x = lib.tensor(3.0, requires_grad=True)
        y = x**2
        z = 2 * y + 3
        z.backward()
        return x.grad

    assert call().item() == 12.0
    return call


def mean_program(lib):
    """The second: the mean of three doubled numbers."""
    start = lib.randn(3)

    def call():
        x = start.clone().requires_grad_()
        (x * 2).mean().backward()
        return x.grad

    return call


def _linear(lib, backward: bool):
    model, x = lib.nn.Linear(4, 4), lib.randn(1, 4)

    def call():
        model.weight.grad = model.bias.grad = None
        y = model(x)
        if backward:
            y.sum().backward()
        return y, model.weight.grad, model.bias.grad

    return call


def _step(name: str, **options):
    """A step of an optimizer over the four parameters of a tiny network."""

    def make(lib):
        nn = lib.nn
        model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
        optimizer = getattr(lib.optim, name)(model.parameters(), lr=1e-3, **options)
        parameters = list(model.parameters())
        model(lib.ones(1, 2)).sum().backward()

        def call():
            optimizer.step()
            return parameters

        return call

    return make


CASES = {
    "add, not recorded": _pair(lambda x, y: x + y, 1),
    "mul by a number, not recorded": _pair(lambda x, y: x * 2.0, 1),
    "matmul 1x1, not recorded": _pair(lambda x, y: x @ y, 1, 1),
    "add": _pair(lambda x, y: x + y, 1, recorded=True),
    "mul": _pair(lambda x, y: x * y, 1, recorded=True),
    "exp": _pair(lambda x, y: x.exp(), 1, recorded=True),
    "matmul 1x1": _pair(lambda x, y: x @ y, 1, 1, recorded=True),
    "index": _pair(lambda x, y: x[0], 4, recorded=True),
    "chain of 10": lambda lib: _chain(lib, False),
    "chain of 10, backward": lambda lib: _chain(lib, True),
    "scalar program, backward": scalar_program,
    "mean of three, backward": mean_program,
    "Linear(4, 4)": lambda lib: _linear(lib, False),
    "Linear(4, 4), backward": lambda lib: _linear(lib, True),
    "SGD, 4 tiny parameters": _step("SGD"),
    "SGD with momentum, 4 tiny parameters": _step("SGD", momentum=0.9),
    "AdamW, 4 tiny parameters": _step("AdamW"),
}


def test_race(race, case, threads):
    race(CASES[case], threads, ratio=BOTH if "backward" in case else FORWARD)

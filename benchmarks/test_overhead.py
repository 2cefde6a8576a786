"""What an operation costs beside its arithmetic: tensors of a few elements.

A row of single operations is ten of them: around one alone, calls would be a fifth of what is measured.
"""

from __future__ import annotations

from report import Group

GROUP = Group("overhead", 8.0)
TIMES = 10
# How many times faster than PyTorch each should be, alone and with its backward pass.
FORWARD, BOTH = 4.0, 5.0


def _pair(ten_times, *shape, recorded=False):
    def make(lib):
        x, y = lib.ones(shape, requires_grad=recorded), lib.ones(shape)
        return lambda: ten_times(x, y)

    return make


def _add(x, y):
    for _ in range(TIMES):
        result = x + y
    return result


def _mul(x, y):
    for _ in range(TIMES):
        result = x * y
    return result


def _mul_by_number(x, y):
    for _ in range(TIMES):
        result = x * 2.0
    return result


def _matmul(x, y):
    for _ in range(TIMES):
        result = x @ y
    return result


def _exp(x, y):
    for _ in range(TIMES):
        result = x.exp()
    return result


def _index(x, y):
    for _ in range(TIMES):
        result = x[0]
    return result


def _chain(lib, backward: bool):
    x = lib.ones(1, requires_grad=True)

    def call():
        x.grad = None
        y = x
        for _ in range(TIMES):
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

    weight, bias = model.parameters()

    def forward():
        for _ in range(TIMES):
            y = model(x)
        return y

    def both():
        weight.grad = bias.grad = None
        model(x).sum().backward()
        return weight.grad, bias.grad

    return both if backward else forward


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
    "10 x add, not recorded": _pair(_add, 1),
    "10 x mul by a number, not recorded": _pair(_mul_by_number, 1),
    "10 x matmul 1x1, not recorded": _pair(_matmul, 1, 1),
    "10 x add": _pair(_add, 1, recorded=True),
    "10 x mul": _pair(_mul, 1, recorded=True),
    "10 x exp": _pair(_exp, 1, recorded=True),
    "10 x matmul 1x1": _pair(_matmul, 1, 1, recorded=True),
    "10 x index": _pair(_index, 4, recorded=True),
    "chain of 10": lambda lib: _chain(lib, False),
    "chain of 10, backward": lambda lib: _chain(lib, True),
    "scalar program, backward": scalar_program,
    "mean of three, backward": mean_program,
    "10 x Linear(4, 4)": lambda lib: _linear(lib, False),
    "Linear(4, 4), backward": lambda lib: _linear(lib, True),
    "SGD, 4 tiny parameters": _step("SGD"),
    "SGD with momentum, 4 tiny parameters": _step("SGD", momentum=0.9),
    "AdamW, 4 tiny parameters": _step("AdamW"),
}


def test_race(race, case, threads):
    race(CASES[case], threads, ratio=BOTH if "backward" in case else FORWARD)

"""Operations on each element: new results, broadcast, transposed and narrow inputs, and backward passes."""

from __future__ import annotations

from calls import both, forward, positive, typed
from report import Group

GROUP = Group("element-wise", 2.0)

UNARY = {
    "exp": lambda lib, x: x.exp(),
    "log": lambda lib, x: x.log(),
    "sqrt": lambda lib, x: x.sqrt(),
    "sin": lambda lib, x: x.sin(),
    "tanh": lambda lib, x: x.tanh(),
    "sigmoid": lambda lib, x: x.sigmoid(),
    "relu": lambda lib, x: x.relu(),
    "gelu": lambda lib, x: lib.nn.functional.gelu(x),
    "gelu tanh": lambda lib, x: lib.nn.functional.gelu(x, approximate="tanh"),
    "silu": lambda lib, x: lib.nn.functional.silu(x),
    "pow 2": lambda lib, x: x**2,
    "pow 1.5": lambda lib, x: x**1.5,
    "clamp": lambda lib, x: x.clamp(0.7, 1.2),
}
BINARY = {
    "add": lambda lib, x, y: x + y,
    "mul": lambda lib, x, y: x * y,
    "div": lambda lib, x, y: x / y,
    "pow": lambda lib, x, y: x**y,
    "maximum": lambda lib, x, y: lib.maximum(x, y),
    "gt": lambda lib, x, y: x > y,
    "eq": lambda lib, x, y: x == y,
    "where": lambda lib, x, y: lib.where(x > 1, x, y),
}
OPERATIONS = UNARY | BINARY
SIZES = {"1e3": 1_000, "1e5": 100_000, "1e6": 1_000_000, "1e7": 10_000_000}
# All sizes for the first, the middle two for the others.
IMPORTANT = ("add", "mul", "exp", "tanh", "gelu", "relu")
BACKWARD = ("mul", "div", "exp", "tanh", "sigmoid", "relu", "gelu", "gelu tanh", "silu", "pow 2", "where")


def _inputs(name: str, *shape: int) -> list:
    return [positive(*shape)] * (2 if name in BINARY else 1)


def _gelu_by_hand(lib, x):
    return 0.5 * x * (1 + lib.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def _in_place(lib):
    x, y = lib.rand(1_000_000), lib.rand(1_000_000)
    return lambda: x.mul_(0.5).add_(y)


CASES = (
    {
        f"{name} {size}": forward(compute, *_inputs(name, count))
        for name, compute in OPERATIONS.items()
        for size, count in SIZES.items()
        if name in IMPORTANT or size in ("1e5", "1e6")
    }
    | {f"{name} 1e6, backward": both(OPERATIONS[name], *_inputs(name, 1_000_000)) for name in BACKWARD}
    | {
        f"{name} 1e3, backward": both(OPERATIONS[name], *_inputs(name, 1_000))
        for name in ("mul", "tanh", "relu")
    }
    | {
        "add row": forward(BINARY["add"], (1000, 1000), (1000,)),
        "add column": forward(BINARY["add"], (1000, 1000), (1000, 1)),
        "mul column": forward(BINARY["mul"], (1000, 1000), (1000, 1)),
        "add row, backward": both(BINARY["add"], (1000, 1000), (1000,)),
        "mul column, backward": both(BINARY["mul"], (1000, 1000), (1000, 1)),
        "outer sum": forward(BINARY["add"], (1000, 1), (1, 1000)),
        "add transposed": forward(BINARY["add"], (1000, 1000), lambda lib: lib.rand(1000, 1000).t()),
        "exp transposed": forward(UNARY["exp"], lambda lib: lib.rand(1000, 1000).t()),
        "mul every second column": forward(BINARY["mul"], *[lambda lib: lib.rand(1000, 2000)[:, ::2]] * 2),
        "add a number 1e6": forward(lambda lib, x: x + 1.5, (1_000_000,)),
        "in place 1e6": _in_place,
        "add float64 1e6": forward(BINARY["add"], *[typed("float64", 1_000_000)] * 2),
        "exp float64 1e6": forward(UNARY["exp"], typed("float64", 1_000_000)),
        "add bfloat16 1e6": forward(BINARY["add"], *[typed("bfloat16", 1_000_000)] * 2),
        "tanh bfloat16 1e6": forward(UNARY["tanh"], typed("bfloat16", 1_000_000)),
        "gelu by hand 1e5": forward(_gelu_by_hand, (100_000,)),
        "gelu by hand 1e6": forward(_gelu_by_hand, (1_000_000,)),
    }
)


def test_race(race, case, threads):
    race(CASES[case], threads)

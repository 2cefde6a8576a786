"""Result dtypes of every pair of dtypes, whether tensors, 0-d tensors or Python numbers."""

import operator

import pytest

import firesteel
from op_cases.table import ALL
from tensors import dtype_name

torch = pytest.importorskip("torch")

OPERATIONS = {
    "add": operator.add,
    "mul": operator.mul,
    "div": operator.truediv,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "lt": operator.lt,
    "and": operator.and_,
    "sub": operator.sub,
}
KINDS = {
    "tensor": lambda lib, dtype: lib.ones(2, dtype=dtype),
    "0-d": lambda lib, dtype: lib.ones((), dtype=dtype),
    "empty": lambda lib, dtype: lib.ones(0, 2, dtype=dtype),
}
NUMBERS = {"bool": True, "int": 1, "float": 1.5}


def result(lib, function):
    """The dtype's name, or the class of the error as PyTorch would raise it."""
    try:
        return dtype_name(function(lib).dtype)
    except RuntimeError:
        return "RuntimeError"


def compare(function, what):
    actual, expected = result(firesteel, function), result(torch, function)
    assert actual == expected, f"{what}: {actual}, PyTorch gives {expected}"


@pytest.mark.parametrize("name", OPERATIONS)
def test_operator(name):
    op = OPERATIONS[name]
    for a in ALL:
        for b in ALL:
            for left, right in (
                ("tensor", "tensor"),
                ("tensor", "0-d"),
                ("0-d", "tensor"),
                ("0-d", "0-d"),
                ("empty", "0-d"),
            ):
                compare(
                    lambda lib: op(KINDS[left](lib, getattr(lib, a)), KINDS[right](lib, getattr(lib, b))),
                    f"{left} {a} {name} {right} {b}",
                )
        for number in NUMBERS:
            for kind in KINDS:
                compare(
                    lambda lib: op(KINDS[kind](lib, getattr(lib, a)), NUMBERS[number]),
                    f"{kind} {a} {name} {number}",
                )
                if name != "and":
                    compare(
                        lambda lib: op(NUMBERS[number], KINDS[kind](lib, getattr(lib, a))),
                        f"{number} {name} {kind} {a}",
                    )


FUNCTIONS = {
    "maximum": lambda lib, x, y: lib.maximum(x, y),
    "where": lambda lib, x, y: lib.where(lib.ones(2, dtype=lib.bool), x, y),
    "cat": lambda lib, x, y: lib.cat([x.reshape(-1), y.reshape(-1)]),
    "stack": lambda lib, x, y: lib.stack([x.reshape(-1), y.reshape(-1)]) if x.numel() == y.numel() else x,
    "clamp": lambda lib, x, y: lib.clamp(x, min=y),
    "add_": lambda lib, x, y: x.add_(y),
    "mul_": lambda lib, x, y: x.mul_(y),
    "div_": lambda lib, x, y: x.div_(y),
    "pow": lambda lib, x, y: x**y,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name):
    function = FUNCTIONS[name]
    for a in ALL:
        for b in ALL:
            for left, right in (("tensor", "tensor"), ("tensor", "0-d")):
                compare(
                    lambda lib: function(
                        lib, KINDS[left](lib, getattr(lib, a)), KINDS[right](lib, getattr(lib, b))
                    ),
                    f"{name}({left} {a}, {right} {b})",
                )


@pytest.mark.parametrize("a", ALL)
def test_promote_types(a):
    for b in ALL:
        expected = torch.promote_types(getattr(torch, a), getattr(torch, b))
        assert dtype_name(
            firesteel.promote_types(getattr(firesteel, a), getattr(firesteel, b))
        ) == dtype_name(expected)
        same = firesteel.can_cast(getattr(firesteel, a), getattr(firesteel, b))
        assert same == torch.can_cast(getattr(torch, a), getattr(torch, b))

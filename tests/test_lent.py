"""Python code that runs while an operation is at work on tensors that it only borrows."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

import firesteel
from firesteel import Tensor
from firesteel.nn import functional

OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "add": lambda x: x + 1,
    "mul": lambda x: x * x,
    "radd": lambda x: 1 + x,
    "exp": lambda x: x.exp(),
    "matmul": lambda x: x @ x,
    "getitem": lambda x: x[0],
    "linear": lambda x: functional.linear(x, firesteel.ones(3, 2)),
}


class OnFree:
    """A hook that calls a function when it is freed."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function

    def __call__(self, grad: Tensor) -> None:
        pass

    def __del__(self) -> None:
        self.function()


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operand_may_get_other_data_in_the_middle(name: str) -> None:
    """A view whose base was written gets its new history at its next use: the old one goes, with its hook."""
    operation = OPERATIONS[name]
    for _ in range(5):
        w = firesteel.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
        base = w * 2
        view = base[1:3]
        calls: list[Tensor] = []

        def replace(view: Tensor = view, calls: list[Tensor] = calls) -> None:
            old = view.data.data_ptr()
            view.data = firesteel.full((5,), 7.0)
            calls.extend(firesteel.zeros(2) for _ in range(100))  # in its memory, were it free
            assert old not in [zeros.data_ptr() for zeros in calls]
            gc.collect()

        view.register_hook(OnFree(replace))
        base.mul_(3)
        before = firesteel.tensor([12.0, 18.0])
        y = operation(view)
        assert len(calls) == 100
        assert firesteel.equal(y.detach(), operation(before))
        assert view.tolist() == [7.0] * 5

"""Makers of calls: from what is computed and the shapes of its inputs to what a race repeats."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

Make = Callable[[ModuleType], Callable[[], object]]
Compute = Callable[..., Any]  # of a library and its inputs


def _drawn(lib: Any, given: object) -> Any:
    """A tensor of standard normal numbers of a shape; what is no shape makes its input itself."""
    return given(lib) if callable(given) else lib.randn(*given)


def forward(compute: Compute, *shapes: object) -> Make:
    """Computes, with inputs that nothing is recorded for."""

    def make(lib):
        inputs = [_drawn(lib, shape) for shape in shapes]
        return lambda: compute(lib, *inputs)

    return make


def both(compute: Compute, *shapes: object) -> Make:
    """Computes and goes back from there, with a gradient of random numbers; returns all gradients."""

    def make(lib):
        inputs = [_drawn(lib, shape) for shape in shapes]
        leaves = [x.requires_grad_() for x in inputs if x.is_floating_point()]
        grad = lib.randn_like(compute(lib, *inputs))

        def call():
            for leaf in leaves:
                leaf.grad = None
            compute(lib, *inputs).backward(grad)
            return [leaf.grad for leaf in leaves]

        return call

    return make


def layer(build: Callable[[Any], Any], *shapes: object, backward: bool = False) -> Make:
    """Applies the layer that `build(nn)` makes; with `backward` all gradients, too."""

    def make(lib):
        module = build(lib.nn)
        if not backward:
            return forward(lambda lib, *inputs: module(*inputs), *shapes)(lib)
        to_input = both(lambda lib, *inputs: module(*inputs), *shapes)(lib)
        parameters = list(module.parameters())

        def call():
            for parameter in parameters:
                parameter.grad = None
            return [*to_input(), *(parameter.grad for parameter in parameters)]

        return call

    return make


def integers(high: int, *shape: int) -> Callable[[Any], Any]:
    """An input of whole numbers below `high`."""
    return lambda lib: lib.randint(0, high, shape)


def positive(*shape: int) -> Callable[[Any], Any]:
    """An input of numbers between 0.5 and 1.5."""
    return lambda lib: lib.rand(*shape) + 0.5


def typed(dtype: str, *shape: int) -> Callable[[Any], Any]:
    """An input of standard normal numbers in the dtype of this name."""
    return lambda lib: lib.randn(*shape).to(getattr(lib, dtype))


def both_ways(cases: dict[str, tuple]) -> dict[str, Make]:
    """Two rows per case: forward, and forward with backward."""
    return {
        f"{name}{suffix}": make(*case)
        for name, case in cases.items()
        for suffix, make in (("", forward), (", backward", both))
    }


def layers_both_ways(cases: dict[str, tuple]) -> dict[str, Make]:
    """Two rows per layer: forward without recording, and forward with backward."""
    return {
        f"{name}{suffix}": layer(*case, backward=backward)
        for name, case in cases.items()
        for suffix, backward in (("", False), (", backward", True))
    }

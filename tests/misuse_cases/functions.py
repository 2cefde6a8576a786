"""`autograd.Function`, hooks of nodes and after accumulation, anomaly mode and checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from misuse_cases.row import CHANGED, FREED, Misuse, fail, leaf


def keep(ctx: Any, x: Any) -> Any:
    """A right `forward`: the square."""
    ctx.save_for_backward(x)
    return x * x


def rule(ctx: Any, grad: Any) -> Any:
    """A right `backward` of the square."""
    (x,) = ctx.saved_tensors
    return 2 * x * grad


def function(lib: Any, forward: Any = keep, backward: Any = rule, **more: Any) -> Any:
    """A `Function` of these static methods; None leaves one out."""
    methods = {"forward": forward, "backward": backward, **more}
    body = {name: staticmethod(method) for name, method in methods.items() if method is not None}
    return type("Mine", (lib.autograd.Function,), body)


def once(lib: Any) -> Any:
    """The square, whose gradient cannot be differentiated."""
    return function(lib, backward=lib.autograd.function.once_differentiable(rule))


def marking(mark: Callable[[Any, Any], None], result: Callable[[Any], Any] = lambda x: x) -> Any:
    """A `forward` that marks something, and returns `result(x)`."""

    def forward(ctx: Any, x: Any) -> Any:
        mark(ctx, x)
        return result(x)

    return forward


def recorded(lib: Any, f: Any) -> Any:
    """The sum of a function of a leaf."""
    return f.apply(leaf(lib)).sum()


def unsteady(calls: list[int]) -> Callable[[Any], Any]:
    """A function to checkpoint that saves less when it is computed again."""

    def compute(x: Any) -> Any:
        calls.append(0)
        for _ in range(3 - len(calls)):
            x = x.exp()
        return x

    return compute


def under_anomaly(lib: Any, backward: Callable[[], None]) -> None:
    """Runs backward in anomaly mode, without the warning that PyTorch gives for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with lib.autograd.detect_anomaly():
            backward()


def under_hooks(lib: Any, pack: Any, unpack: Any, work: Callable[[], None]) -> None:
    """Runs `work` with these hooks for saved tensors."""
    with lib.autograd.graph.saved_tensors_hooks(pack, unpack):
        work()


FUNCTIONS = [
    Misuse(
        "a Function without backward",
        NotImplementedError,
        r"You must implement either the backward or vjp",
        "function",
        lambda lib: [y := recorded(lib, function(lib, backward=None)), y.backward],
    ),
    Misuse(
        "a Function without forward",
        NotImplementedError,
        r"You must implement the forward function",
        "function",
        lambda lib: [x := leaf(lib), lambda: function(lib, forward=None).apply(x)],
    ),
    Misuse(
        "a Function called as an object",
        RuntimeError,
        r"Mine.*Mine\.apply\(",
        "function",
        lambda lib: [x := leaf(lib), lambda: function(lib)()(x)],
    ),
    Misuse(
        "more gradients than inputs",
        RuntimeError,
        r"MineBackward returned an incorrect number of gradients \(expected 1, got 2\)",
        "function",
        lambda lib: [y := recorded(lib, function(lib, backward=lambda ctx, g: (g, g))), y.backward],
    ),
    Misuse(
        "fewer gradients than inputs",
        RuntimeError,
        r"MineBackward returned an incorrect number of gradients \(expected 2, got 1\)",
        "function",
        lambda lib: [
            x := leaf(lib),
            y := function(lib, lambda ctx, a, b: a * b, lambda ctx, g: g).apply(x, x).sum(),
            y.backward,
        ],
    ),
    Misuse(
        "a gradient of another shape",
        RuntimeError,
        (
            r"MineBackward returned an invalid gradient at index 0 - got \[2\] "
            r"but expected shape compatible with \[3\]"
        ),
        "function",
        lambda lib: [y := recorded(lib, function(lib, backward=lambda ctx, g: g[:2])), y.backward],
    ),
    Misuse(
        "a gradient that is a number",
        RuntimeError,
        r"Mine.* float",
        "function",
        lambda lib: [y := recorded(lib, function(lib, backward=lambda ctx, g: 1.0)), y.backward],
    ),
    Misuse(
        "save_for_backward of a number",
        TypeError,
        (
            r"save_for_backward can only save variables, but argument 0 is of "
            r"type float; keep other values as attributes of ctx"
        ),
        "function",
        lambda lib: [
            x := leaf(lib),
            lambda: function(lib, marking(lambda ctx, x: ctx.save_for_backward(1.0))).apply(x),
        ],
    ),
    Misuse(
        "backward twice through a Function",
        RuntimeError,
        FREED,
        "function",
        lambda lib: [x := leaf(lib), y := function(lib).apply(x).sum(), y.backward(), y.backward],
    ),
    Misuse(
        "a tensor saved by a Function, changed",
        RuntimeError,
        CHANGED.format("Mine.*", ".*", "1"),
        "function",
        lambda lib: [x := leaf(lib), z := x * 1, y := function(lib).apply(z).sum(), z.add_(1), y.backward],
    ),
    Misuse(
        "mark_dirty of a leaf",
        RuntimeError,
        r"a leaf Variable that requires grad",
        "function",
        lambda lib: [
            x := leaf(lib),
            lambda: function(lib, marking(lambda ctx, x: ctx.mark_dirty(x))).apply(x),
        ],
    ),
    Misuse(
        "mark_dirty of what is not returned",
        RuntimeError,
        r"marked as dirty .* not returned as output",
        "function",
        lambda lib: [
            x := leaf(lib),
            z := x * 1,
            lambda: function(lib, marking(lambda ctx, x: ctx.mark_dirty(x), lambda x: x * 2)).apply(z),
        ],
    ),
    Misuse(
        "mark_dirty of a number",
        RuntimeError,
        r"mark_dirty can only accept variables, but argument 0 is of type float; name the inputs",
        "function",
        lambda lib: [
            x := leaf(lib),
            z := x * 1,
            lambda: function(lib, marking(lambda ctx, x: ctx.mark_dirty(1.0))).apply(z),
        ],
    ),
    Misuse(
        "a forward that raises",
        KeyError,
        "the user's own error",
        "function",
        lambda lib: [x := leaf(lib), lambda: function(lib, fail).apply(x)],
    ),
    Misuse(
        "a backward that raises",
        KeyError,
        "the user's own error",
        "function",
        lambda lib: [y := recorded(lib, function(lib, backward=fail)), y.backward],
    ),
    Misuse(
        "a forward with ctx beside setup_context",
        TypeError,
        r"missing 1 required positional argument: 'x'",
        "function",
        lambda lib: [
            x := leaf(lib),
            lambda: function(lib, setup_context=lambda ctx, inputs, output: None).apply(x),
        ],
    ),
    Misuse(
        "a second derivative of once_differentiable",
        RuntimeError,
        (
            r"differentiate twice a function that was marked with "
            r"@once_differentiable; remove the mark"
        ),
        "function new:autograd.function.once_differentiable",
        lambda lib: [
            x := leaf(lib),
            g := lib.autograd.grad(
                function(lib, backward=lib.autograd.function.once_differentiable(rule))
                .apply(x)
                .square()
                .sum(),
                x,
                create_graph=True,
            )[0],
            g.sum().backward,
        ],
    ),
    Misuse(
        "detach_ of a view",
        RuntimeError,
        r"detach_: Can't detach views in-place; use detach\(\) instead",
        "new:Tensor.detach_",
        lambda lib: [x := leaf(lib), y := x * 2, v := y[0], v.detach_],
    ),
    Misuse(
        "a hook after accumulation on a result",
        RuntimeError,
        r"hooks can only be registered on leaf tensors .*, this one was computed; use register_hook",
        "new:Tensor.register_post_accumulate_grad_hook",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: y.register_post_accumulate_grad_hook(abs)],
    ),
    Misuse(
        "a hook after accumulation on a constant",
        RuntimeError,
        r"hooks can only be registered on leaf tensors .*, this one does not require it; use register_hook",
        "new:Tensor.register_post_accumulate_grad_hook",
        lambda lib: [x := lib.ones(3), lambda: x.register_post_accumulate_grad_hook(abs)],
    ),
    Misuse(
        "a hook of a node that returns too many",
        RuntimeError,
        r"it has returned an incorrect number of values: got 2, but expected 1; return a gradient or None",
        "hook node",
        lambda lib: [
            x := leaf(lib),
            y := x.exp(),
            y.grad_fn.register_hook(lambda gi, go: (gi[0], gi[0])),
            z := y.sum(),
            z.backward,
        ],
    ),
    Misuse(
        "a hook of a node that returns another shape",
        RuntimeError,
        r"hook.*\[2\].*\[3\]",
        "hook node",
        lambda lib: [
            x := leaf(lib),
            y := x.exp(),
            y.grad_fn.register_hook(lambda gi, go: (gi[0][:2],)),
            z := y.sum(),
            z.backward,
        ],
    ),
    Misuse(
        "a hook before a node that returns a number",
        TypeError,
        r"hook.*float",
        "hook node",
        lambda lib: [
            x := leaf(lib),
            y := x.exp(),
            y.grad_fn.register_prehook(lambda go: (1.0,)),
            z := y.sum(),
            z.backward,
        ],
    ),
    Misuse(
        "a nan found by anomaly mode",
        RuntimeError,
        r"SqrtBackward0.* returned nan values in its 0th output",
        "new:autograd.detect_anomaly",
        lambda lib: [
            x := lib.zeros(3, requires_grad=True),
            y := (x.sqrt() * 0).sum(),
            lambda: under_anomaly(lib, y.backward),
        ],
    ),
    Misuse(
        "set_detect_anomaly of a string",
        TypeError,
        r"bool.* str|str.*bool",
        "new:autograd.set_detect_anomaly",
        lambda lib: [lambda: lib.autograd.set_detect_anomaly("yes")],
    ),
    Misuse(
        "checkpoint with an unknown keyword",
        ValueError,
        r"Unexpected keyword arguments: colour",
        "new:utils.checkpoint",
        lambda lib: [
            x := leaf(lib),
            lambda: lib.utils.checkpoint.checkpoint(lib.exp, x, use_reentrant=True, colour=1),
        ],
    ),
    Misuse(
        "a checkpoint that saves something else again",
        RuntimeError,
        r"[Aa] different number of tensors was saved",
        "new:utils.checkpoint",
        lambda lib: [
            x := leaf(lib),
            y := lib.utils.checkpoint.checkpoint(unsteady([]), x, use_reentrant=False).sum(),
            y.backward,
        ],
    ),
    Misuse(
        "saved_tensors_hooks that return nothing",
        TypeError,
        r"pack.*|unpack.*",
        "new:autograd.graph.saved_tensors_hooks",
        lambda lib: [
            x := leaf(lib),
            lambda: under_hooks(lib, lambda t: t, lambda t: None, lambda: x.exp().sum().backward()),
        ],
    ),
]

"""`autograd.Function`: what it must define, save, mark and return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from libraries import leaf
from misuse_cases.row import CHANGED, FREED, Misuse, fail


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


CUSTOM_FUNCTION = [
    Misuse(
        "a Function without backward",
        NotImplementedError,
        (
            r"You must implement either the backward or vjp method .*\. Define the static method "
            r"backward\(ctx, \*grad_outputs\)"
        ),
        "function",
        lambda lib: [y := recorded(lib, function(lib, backward=None)), y.backward],
    ),
    Misuse(
        "a Function without forward",
        NotImplementedError,
        r"You must implement the forward function .*\. Define the static method forward\(ctx, \.\.\.\)",
        "function",
        lambda lib: [x := leaf(lib), lambda: function(lib, forward=None).apply(x)],
    ),
    Misuse(
        "a Function called as an object",
        RuntimeError,
        r"Mine: an autograd\.Function is not made into an object, but called by Mine\.apply\(\.\.\.\)",
        "function",
        lambda lib: [x := leaf(lib), lambda: function(lib)()(x)],
    ),
    Misuse(
        "more gradients than inputs",
        RuntimeError,
        (
            r"MineBackward returned an incorrect number of gradients \(expected 1, got 2\); return one for "
            r"each argument of forward"
        ),
        "function",
        lambda lib: [y := recorded(lib, function(lib, backward=lambda ctx, g: (g, g))), y.backward],
    ),
    Misuse(
        "fewer gradients than inputs",
        RuntimeError,
        (
            r"MineBackward returned an incorrect number of gradients \(expected 2, got 1\); return one for "
            r"each argument of forward"
        ),
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
            r"but expected shape compatible with \[3\]; return one of the argument's shape"
        ),
        "function",
        lambda lib: [y := recorded(lib, function(lib, backward=lambda ctx, g: g[:2])), y.backward],
    ),
    Misuse(
        "a gradient that is a number",
        RuntimeError,
        r"function MineBackward: expected Variable or None \(got float\) at index 0; return a tensor",
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
        CHANGED.format("MineBackward", "input 0", "1"),
        "function",
        lambda lib: [x := leaf(lib), z := x * 1, y := function(lib).apply(z).sum(), z.add_(1), y.backward],
    ),
    Misuse(
        "mark_dirty of a leaf",
        RuntimeError,
        r"MineBackward_?: a leaf Variable that requires grad is .*; wrap it in `with no_grad\(\):`",
        "function",
        lambda lib: [
            x := leaf(lib),
            lambda: function(lib, marking(lambda ctx, x: ctx.mark_dirty(x))).apply(x),
        ],
    ),
    Misuse(
        "mark_dirty of what is not returned",
        RuntimeError,
        (
            r"MineBackward: Some elements marked as dirty .* not returned as output \(shape \[3\]\)\. The "
            r"inputs that are modified inplace must all be outputs of the Function"
        ),
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
        "function python",
        lambda lib: [x := leaf(lib), lambda: function(lib, fail).apply(x)],
    ),
    Misuse(
        "a backward that raises",
        KeyError,
        "the user's own error",
        "function python",
        lambda lib: [y := recorded(lib, function(lib, backward=fail)), y.backward],
    ),
    Misuse(
        "a forward with ctx beside setup_context",
        TypeError,
        r"missing 1 required positional argument: 'x'",
        "function python",
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
        "function",
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
        "mark_non_differentiable of a number",
        RuntimeError,
        (
            r"mark_non_differentiable only accepts variable arguments, but argument 0 is of type "
            r"float; name outputs of the function"
        ),
        "function",
        lambda lib: [
            x := leaf(lib),
            lambda: function(lib, marking(lambda ctx, x: ctx.mark_non_differentiable(1.0))).apply(x),
        ],
    ),
    Misuse(
        "set_materialize_grads of a string",
        TypeError,
        r"set_materialize_grads: expected a bool, not str; use True or False",
        "function",
        lambda lib: [
            x := leaf(lib),
            lambda: function(lib, marking(lambda ctx, x: ctx.set_materialize_grads("no"))).apply(x),
        ],
    ),
    Misuse(
        "save_for_forward of a number",
        AssertionError,
        (
            r"save_for_forward expects all arguments to be tensors; you should save non-tensors "
            r"as attributes on ctx: argument 0 is of type float"
        ),
        "function",
        lambda lib: [
            x := leaf(lib),
            lambda: function(lib, marking(lambda ctx, x: ctx.save_for_forward(1.0))).apply(x),
        ],
    ),
    Misuse(
        "backward and vjp both",
        RuntimeError,
        (
            r"Mine: Implementing both 'backward' and 'vjp' for a custom Function is not allowed\. "
            r"You should only implement one of them: they are two names of the gradient rule"
        ),
        "function",
        lambda lib: [y := recorded(lib, function(lib, vjp=rule)), y.backward],
    ),
    Misuse(
        "a gradient for what is no tensor",
        RuntimeError,
        (
            r"function MineBackward returned a gradient different than None at position 2, but "
            r"the corresponding forward input was not a Variable; return None there"
        ),
        "function",
        lambda lib: [
            x := leaf(lib),
            y := function(lib, lambda ctx, x, n: x * n, lambda ctx, g: (g, g)).apply(x, 2).sum(),
            y.backward,
        ],
    ),
    Misuse(
        "mark_dirty of a tensor that is no input",
        RuntimeError,
        (
            r"MineBackward: mark_dirty: a tensor of shape \[3\] is no input of the function; mark "
            r"only inputs that are changed in place"
        ),
        "function ours",
        lambda lib: [
            x := leaf(lib),
            lambda: function(lib, lambda ctx, x: [y := x * 2, ctx.mark_dirty(y)][0]).apply(x),
        ],
    ),
]

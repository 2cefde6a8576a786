"""Hooks of tensors, of nodes, and after accumulation."""

from __future__ import annotations

from libraries import leaf
from misuse_cases.row import Misuse, fail, hooked

HOOKS = [
    Misuse(
        "register_hook on a constant",
        RuntimeError,
        (
            r"register_hook: cannot register a hook on a tensor that doesn't require gradient \(shape "
            r"\[3\]\); call requires_grad_\(\) on it first"
        ),
        "hook",
        lambda lib: [x := lib.ones(3), lambda: x.register_hook(abs)],
    ),
    Misuse(
        "a hook that is no function",
        TypeError,
        r"register_hook: the hook must be callable, not int; pass a function",
        "hook",
        lambda lib: [x := leaf(lib), lambda: hooked(x, 3).sum().backward()],
    ),
    Misuse(
        "a hook that returns another shape",
        RuntimeError,
        (
            r"hook '<lambda>': the returned gradient has shape \[2\], the tensor's is \[3\]; "
            r"return one of the same shape\n  at AccumulateGrad"
        ),
        "hook",
        lambda lib: [x := hooked(leaf(lib), lambda g: g[:2]), y := x.sum(), y.backward],
    ),
    Misuse(
        "a hook that returns another dtype",
        RuntimeError,
        (
            r"hook '.*': .* changed the type of value \(was float32, is float64\); "
            r"return a gradient of the same dtype"
        ),
        "hook",
        lambda lib: [x := hooked(leaf(lib), lambda g: g.double()), y := x.sum(), y.backward],
    ),
    Misuse(
        "a hook that returns a number",
        TypeError,
        (
            r"hook '<lambda>': expected the hook of register_hook to return a Tensor or None, but got float; "
            r"return a gradient of shape \[3\]"
        ),
        "hook",
        lambda lib: [x := hooked(leaf(lib), lambda g: 1.0), y := x.sum(), y.backward],
    ),
    Misuse(
        "a hook that returns a tuple",
        TypeError,
        (
            r"hook '<lambda>': expected the hook of register_hook to return a Tensor or None, but got tuple; "
            r"return a gradient of shape \[3\]"
        ),
        "hook",
        lambda lib: [x := hooked(leaf(lib), lambda g: (g,)), y := x.sum(), y.backward],
    ),
    Misuse(
        "a hook that raises",
        KeyError,
        "the user's own error",
        "hook python",
        lambda lib: [x := hooked(leaf(lib), fail), y := x.sum(), y.backward],
    ),
    Misuse(
        "a hook that raises inside of the graph",
        KeyError,
        "the user's own error",
        "hook python",
        lambda lib: [x := leaf(lib), y := hooked(x * 2, fail), z := y.sum(), z.backward],
    ),
    Misuse(
        "a hook without arguments",
        TypeError,
        r"takes 0 positional arguments but 1 was given",
        "hook python",
        lambda lib: [x := hooked(leaf(lib), lambda: None), y := x.sum(), y.backward],
    ),
    Misuse(
        "a hook with two arguments",
        TypeError,
        r"missing 1 required positional argument: 'b'",
        "hook python",
        lambda lib: [x := hooked(leaf(lib), lambda a, b: None), y := x.sum(), y.backward],
    ),
    Misuse(
        "a hook after accumulation on a result",
        RuntimeError,
        (
            r"register_post_accumulate_grad_hook: .* only be registered on leaf tensors .*, this one \(shape "
            r"\[3\]\) was computed; use register_hook"
        ),
        "hook leaf",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: y.register_post_accumulate_grad_hook(abs)],
    ),
    Misuse(
        "a hook after accumulation on a constant",
        RuntimeError,
        (
            r"register_post_accumulate_grad_hook: .* only be registered on leaf tensors .*, this one \(shape "
            r"\[3\]\) does not require it; call requires_grad_\(\)"
        ),
        "hook leaf",
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
        (
            r"hook '<lambda>': the returned gradient has shape \[2\], the tensor's is \[3\]; return one of "
            r"the same shape\n  at ExpBackward0"
        ),
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
        (
            r"hook '<lambda>': expected a Tensor or None for each gradient, but got float; return a tuple of "
            r"them, or None"
        ),
        "hook node",
        lambda lib: [
            x := leaf(lib),
            y := x.exp(),
            y.grad_fn.register_prehook(lambda go: (1.0,)),
            z := y.sum(),
            z.backward,
        ],
    ),
    *(
        Misuse(
            f"{kind} of a node whose hook returns {what}",
            TypeError,
            (
                rf"hook '<lambda>': expected tuple, but hook returned '{name}'; return a tuple with a Tensor "
                r"or None for each gradient, or None"
            ),
            "hook node",
            lambda lib, kind=kind, make=make: [
                x := leaf(lib),
                y := x.exp(),
                getattr(y.grad_fn, kind)(lambda *grads: make(grads[0][0])),
                z := y.sum(),
                z.backward,
            ],
        )
        for kind in ("register_hook", "register_prehook")
        for what, name, make in (
            ("a tensor", "Tensor", lambda grad: grad),
            ("a list", "list", lambda grad: [grad]),
            ("a number", "float", lambda grad: 1.0),
        )
    ),
    Misuse(
        "a hook of a node that is no function",
        TypeError,
        r"register_hook: the hook must be callable, not int; pass a function",
        "hook node",
        lambda lib: [x := leaf(lib), y := x.exp(), lambda: [y.grad_fn.register_hook(3), y.sum().backward()]],
    ),
]

"""Hooks of tensors."""

from __future__ import annotations

from misuse_cases.row import Misuse, fail, hooked, leaf

HOOKS = [
    Misuse(
        "register_hook on a constant",
        RuntimeError,
        r"register_hook: cannot register a hook on a tensor that doesn't require gradient",
        "hook",
        lambda lib: [x := lib.ones(3), lambda: x.register_hook(abs)],
    ),
    Misuse(
        "a hook that is no function",
        TypeError,
        r"callable",
        "hook",
        lambda lib: [x := leaf(lib), lambda: hooked(x, 3).sum().backward()],
    ),
    Misuse(
        "a hook that returns another shape",
        RuntimeError,
        (
            r"hook '.*': the returned gradient has shape \[2\], the tensor's is \[3\]; "
            r"return one of the same shape"
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
        r"hook.*float.*return",
        "hook",
        lambda lib: [x := hooked(leaf(lib), lambda g: 1.0), y := x.sum(), y.backward],
    ),
    Misuse(
        "a hook that returns a tuple",
        TypeError,
        r"hook.*tuple.*return",
        "hook",
        lambda lib: [x := hooked(leaf(lib), lambda g: (g,)), y := x.sum(), y.backward],
    ),
    Misuse(
        "a hook that raises",
        KeyError,
        "the user's own error",
        "hook",
        lambda lib: [x := hooked(leaf(lib), fail), y := x.sum(), y.backward],
    ),
    Misuse(
        "a hook that raises inside of the graph",
        KeyError,
        "the user's own error",
        "hook",
        lambda lib: [x := leaf(lib), y := hooked(x * 2, fail), z := y.sum(), z.backward],
    ),
    Misuse(
        "a hook without arguments",
        TypeError,
        r"takes 0 positional arguments but 1 was given",
        "hook",
        lambda lib: [x := hooked(leaf(lib), lambda: None), y := x.sum(), y.backward],
    ),
    Misuse(
        "a hook with two arguments",
        TypeError,
        r"missing 1 required positional argument: 'b'",
        "hook",
        lambda lib: [x := hooked(leaf(lib), lambda a, b: None), y := x.sum(), y.backward],
    ),
]

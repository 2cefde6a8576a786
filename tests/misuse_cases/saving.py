"""What is kept for backward: checkpoints, and hooks on saved tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from libraries import leaf
from misuse_cases.row import Misuse, fail


def unsteady(calls: list[int]) -> Callable[[Any], Any]:
    """A function to checkpoint that saves less when it is computed again."""

    def compute(x: Any) -> Any:
        calls.append(0)
        for _ in range(3 - len(calls)):
            x = x.exp()
        return x

    return compute


def under_hooks(lib: Any, pack: Any, unpack: Any, work: Callable[[], None]) -> None:
    """Runs `work` with these hooks for saved tensors."""
    with lib.autograd.graph.saved_tensors_hooks(pack, unpack):
        work()


SAVING = [
    Misuse(
        "checkpoint with an unknown keyword",
        ValueError,
        r"Unexpected keyword arguments: colour; with use_reentrant=True pass them by position",
        "checkpoint",
        lambda lib: [
            x := leaf(lib),
            lambda: lib.utils.checkpoint.checkpoint(lib.exp, x, use_reentrant=True, colour=1),
        ],
    ),
    Misuse(
        "a checkpoint that saves something else again",
        RuntimeError,
        (
            r"checkpoint: A different number of tensors was saved .*: 2 and 1; tensor 1, of shape \(3,\) .*; "
            r"the function must do the same each time"
        ),
        "checkpoint",
        lambda lib: [
            x := leaf(lib),
            y := lib.utils.checkpoint.checkpoint(unsteady([]), x, use_reentrant=False).sum(),
            y.backward,
        ],
    ),
    Misuse(
        "saved_tensors_hooks that return nothing",
        TypeError,
        (
            r"Output of saved tensor unpack_hook expected to be a Tensor but got result of type NoneType; "
            r"return the tensor that pack_hook was given"
        ),
        "saved",
        lambda lib: [
            x := leaf(lib),
            lambda: under_hooks(lib, lambda t: t, lambda t: None, lambda: x.exp().sum().backward()),
        ],
    ),
    Misuse(
        "hooks on saved tensors that are no functions",
        TypeError,
        r"saved_tensors_hooks: pack_hook must be callable, not int; pass a function",
        "saved",
        lambda lib: [x := leaf(lib), lambda: under_hooks(lib, 1, 2, lambda: x.exp())],
    ),
    Misuse(
        "an unpack_hook that returns a number",
        TypeError,
        (
            r"Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
            r"float; return the tensor that pack_hook was given"
        ),
        "saved",
        lambda lib: [
            x := leaf(lib),
            lambda: under_hooks(lib, lambda t: t, lambda t: 1.0, lambda: x.exp().sum().backward()),
        ],
    ),
    Misuse(
        "a pack_hook that raises",
        KeyError,
        r".the user's own error.",
        "saved python",
        lambda lib: [x := leaf(lib), lambda: under_hooks(lib, fail, lambda t: t, lambda: x.exp())],
    ),
    Misuse(
        "a pack_hook that writes to its argument",
        RuntimeError,
        (
            r"saved_tensors_hooks: A saved tensor pack hook is modifying its input in place "
            r"\(shape \[3\]\); change a \.clone\(\) of it"
        ),
        "saved",
        lambda lib: [
            x := leaf(lib),
            y := x * 1,
            lambda: under_hooks(lib, lambda t: t.mul_(2), lambda t: t, lambda: y.exp()),
        ],
    ),
    Misuse(
        "an unpack_hook that returns another shape",
        RuntimeError,
        (
            r"exp: the unpack hook returned a tensor of shape \[2\] \(float32\) for the output of "
            r"shape \[3\] \(float32\); return one like the tensor that was packed"
        ),
        "saved",
        lambda lib: [
            x := leaf(lib),
            lambda: under_hooks(lib, lambda t: t, lambda t: lib.ones(2), lambda: x.exp().sum().backward()),
        ],
    ),
    Misuse(
        "a checkpoint of an unknown check",
        ValueError,
        (
            r"determinism_check should be one of \['default', 'none'\], got 'nope'; use one of "
            r"them: 'default' compares shapes and dtypes"
        ),
        "checkpoint",
        lambda lib: [
            x := leaf(lib),
            lambda: lib.utils.checkpoint.checkpoint(
                lib.sin, x, use_reentrant=False, determinism_check="nope"
            ),
        ],
    ),
    Misuse(
        "a reentrant checkpoint with a context",
        ValueError,
        r"Passing context_fn or debug is only supported when use_reentrant=False; leave it out",
        "checkpoint",
        lambda lib: [
            x := leaf(lib),
            lambda: lib.utils.checkpoint.checkpoint(lib.sin, x, use_reentrant=True, context_fn=lambda: 1),
        ],
    ),
    Misuse(
        "grad through a reentrant checkpoint",
        RuntimeError,
        (
            r"When use_reentrant=True, torch\.utils\.checkpoint is incompatible with \.grad\(\) "
            r"or passing an `inputs` parameter to \.backward\(\): its own backward pass would "
            r"write \.grad of all that the function takes; pass use_reentrant=False"
        ),
        "checkpoint",
        lambda lib: [
            x := leaf(lib),
            y := lib.utils.checkpoint.checkpoint(lib.sin, x, use_reentrant=True).sum(),
            lambda: lib.autograd.grad(y, x),
        ],
    ),
    Misuse(
        "more segments than functions",
        ValueError,
        (
            r"checkpoint_sequential: segments is 3; it must be between 1 and the number of "
            r"functions, 2"
        ),
        "checkpoint",
        lambda lib: [
            x := leaf(lib),
            lambda: lib.utils.checkpoint.checkpoint_sequential([lib.sin, lib.cos], 3, x, use_reentrant=False),
        ],
    ),
    Misuse(
        "a checkpoint of no function",
        TypeError,
        r"'int' object is not callable",
        "checkpoint python",
        lambda lib: [x := leaf(lib), lambda: lib.utils.checkpoint.checkpoint(3, x, use_reentrant=False)],
    ),
    Misuse(
        "an unpack_hook that returns another dtype",
        RuntimeError,
        (
            r"exp: the unpack hook returned a tensor of shape \[3\] \(float64\) for the output of "
            r"shape \[3\] \(float32\); return one like the tensor that was packed"
        ),
        "saved ours",
        lambda lib: [
            x := leaf(lib),
            lambda: under_hooks(lib, lambda t: t, lambda t: t.double(), lambda: x.exp().sum().backward()),
        ],
    ),
]

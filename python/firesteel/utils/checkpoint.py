"""Memory for time: results that backward needs are computed again instead of being kept."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import firesteel
from firesteel import Tensor
from firesteel.autograd.graph import saved_tensors_hooks
from firesteel.utils._recompute import CheckpointError, Frame, call_reentrant, unpack

__all__ = [
    "CheckpointError",
    "checkpoint",
    "checkpoint_sequential",
    "noop_context_fn",
    "set_checkpoint_debug_enabled",
    "set_checkpoint_early_stop",
]

# What `checkpoint` does with its arguments of these names; None leaves the choice to each call.
_overrides: dict[str, bool | None] = {"debug": None, "early_stop": None}


@contextlib.contextmanager
def _override(name: str, value: bool | None) -> Iterator[None]:
    previous, _overrides[name] = _overrides[name], value
    try:
        yield
    finally:
        _overrides[name] = previous


def _chosen(name: str, given: bool) -> bool:
    override = _overrides[name]
    return given if override is None else override


def set_checkpoint_early_stop(enable: bool) -> AbstractContextManager[None]:
    """A context in which `checkpoint` has this `early_stop`, whatever it is given; backward may run outside.

    Args:
        enable: whether second runs end as soon as they have saved the last tensor.

    Example:
        >>> import firesteel as torch
        >>> from firesteel.utils.checkpoint import checkpoint, set_checkpoint_early_stop
        >>> def function(x):
        ...     y = x.exp()
        ...     print("to the end")
        ...     return y
        >>> x = torch.ones(2, requires_grad=True)
        >>> with set_checkpoint_early_stop(False):
        ...     y = checkpoint(function, x, use_reentrant=False)
        to the end
        >>> y.sum().backward()
        to the end
    """
    return _override("early_stop", enable)


def set_checkpoint_debug_enabled(enabled: bool | None) -> AbstractContextManager[None]:
    """A context in which `checkpoint` has this `debug`, whatever it is given.

    Args:
        enabled: whether errors say which lines saved the tensors that differ; None leaves it to each call.

    Example:
        >>> import firesteel as torch
        >>> from firesteel.utils.checkpoint import checkpoint, set_checkpoint_debug_enabled
        >>> with set_checkpoint_debug_enabled(True):
        ...     y = checkpoint(torch.exp, torch.ones(2, requires_grad=True), use_reentrant=False)
    """
    return _override("debug", enabled)


def noop_context_fn() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Two contexts that do nothing: for the first run, and for the second.

    Example:
        >>> import firesteel as torch
        >>> from firesteel.utils.checkpoint import checkpoint, noop_context_fn
        >>> x = torch.zeros(2, requires_grad=True)
        >>> y = checkpoint(torch.exp, x, use_reentrant=False, context_fn=noop_context_fn)
        >>> torch.autograd.grad(y.sum(), x)
        (tensor([1., 1.]),)
    """
    return contextlib.nullcontext(), contextlib.nullcontext()


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[
        [], tuple[AbstractContextManager[Any], AbstractContextManager[Any]]
    ] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """Runs `function` without keeping what backward will need of it: backward runs it once more.

    The second run finds the random numbers of the first. What is kept are the arguments alone.

    Args:
        function: computes something of tensors, in the same way each time.
        args: its arguments.
        use_reentrant: False, the default, records an ordinary graph whose saved tensors are computed when
            they are needed; all of autograd works with it. True, which PyTorch takes with a warning if it is
            left out, runs `function` unrecorded, and a backward pass of its own within the outer one: for
            gradients in `.grad` alone, and only if an argument that is a tensor requires a gradient.
        context_fn: makes two contexts, the first for the run now, the second for the one in backward. It is
            entered anew for each backward pass through a retained graph.
        determinism_check: "default" compares shapes and dtypes of what both runs save, "none" does not.
        debug: errors also say which lines saved the tensors that differ, at the cost of noting them.
        early_stop: end the second run as soon as it has saved the last tensor.
        kwargs: keyword arguments of `function`, and `preserve_rng_state` (default True): whether the second
            run gets the random numbers of the first.

    Returns:
        What `function` returns.

    Raises:
        CheckpointError: in backward, if the second run saves other tensors than the first.
        ValueError: for an unknown option, or with `use_reentrant=True` for keyword arguments, `context_fn` or
            `debug`.

    Example:
        >>> import firesteel as torch
        >>> from firesteel.utils.checkpoint import checkpoint
        >>> x = torch.tensor([0.0, 1.0], requires_grad=True)
        >>> y = checkpoint(lambda x: (x.exp() + 1).log(), x, use_reentrant=False)
        >>> y.sum().backward()
        >>> x.grad
        tensor([0.5000, 0.7311])
    """
    preserve = kwargs.pop("preserve_rng_state", True)
    if determinism_check not in ("default", "none"):
        raise ValueError(
            f"determinism_check should be one of ['default', 'none'], got {determinism_check!r}; use one "
            "of them: 'default' compares shapes and dtypes"
        )
    if use_reentrant:
        if kwargs:
            raise ValueError(
                f"Unexpected keyword arguments: {','.join(kwargs)}; with use_reentrant=True pass them by "
                "position"
            )
        if context_fn is not noop_context_fn or debug:
            raise ValueError(
                "Passing context_fn or debug is only supported when use_reentrant=False; leave it out"
            )
        if firesteel.is_grad_enabled() and not any(isinstance(x, Tensor) and x.requires_grad for x in args):
            warnings.warn(
                "None of the inputs have requires_grad=True. Gradients will be None: what the function takes "
                "from elsewhere gets none either; pass use_reentrant=False",
                UserWarning,
                stacklevel=2,
            )
        return call_reentrant(function, preserve, args)
    if not firesteel.is_grad_enabled():
        return function(*args, **kwargs)
    first, second = context_fn()
    frame = Frame(
        function,
        args,
        kwargs,
        second,
        preserve_rng_state=preserve,
        early_stop=_chosen("early_stop", early_stop),
        compare=determinism_check == "default",
        debug=_chosen("debug", debug),
    )
    with saved_tensors_hooks(frame.pack, unpack), first:
        return function(*args, **kwargs)
    raise RuntimeError(
        "checkpoint: the forward context provided by context_fn suppressed an exception of the function, so "
        "that there is no result; let it pass"
    )


def checkpoint_sequential(
    functions: Any,
    segments: int,
    input: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
) -> Any:
    """Runs modules one after the other in `segments` pieces, and checkpoints each piece but the last.

    Args:
        functions: an `nn.Sequential`, or a list of modules or functions.
        segments: number of pieces.
        input: what the first one is given.
        use_reentrant: as in `checkpoint`.
        preserve_rng_state: as in `checkpoint`.

    Returns:
        What the last one returns.

    Raises:
        ValueError: if `segments` is not between 1 and the number of functions.

    Example:
        >>> import firesteel as torch
        >>> from firesteel.utils.checkpoint import checkpoint_sequential
        >>> model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(4)))
        >>> checkpoint_sequential(model, 2, torch.ones(1, 2), use_reentrant=False).shape
        torch.Size([1, 2])
    """
    layers = list(functions.children()) if isinstance(functions, firesteel.nn.Sequential) else list(functions)
    if not 1 <= segments <= len(layers):
        raise ValueError(
            f"checkpoint_sequential: segments is {segments}; it must be between 1 and the number of "
            f"functions, {len(layers)}"
        )

    def piece(first: int, last: int) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            for layer in layers[first:last]:
                value = layer(value)
            return value

        return run

    size = len(layers) // segments
    for start in range(0, size * (segments - 1), size):
        input = checkpoint(
            piece(start, start + size),
            input,
            use_reentrant=use_reentrant,
            preserve_rng_state=preserve_rng_state,
        )
    return piece(size * (segments - 1), len(layers))(input)

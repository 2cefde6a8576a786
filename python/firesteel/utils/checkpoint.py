"""Memory for time: results that backward needs are computed again instead of being kept."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import firesteel
from firesteel import Tensor
from firesteel.autograd.function import Function
from firesteel.autograd.graph import saved_tensors_hooks

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential", "noop_context_fn"]


class CheckpointError(RuntimeError):
    """Raised when a function that is run again does not save what it saved the first time."""


def noop_context_fn() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Two contexts that do nothing: for the first run, and for the second."""
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
            they are needed; all of autograd works with it. True runs `function` unrecorded, and a backward
            pass of its own within the outer one: for gradients in `.grad` alone, and only if an argument
            that is a tensor requires a gradient.
        context_fn: makes two contexts, the first for the run now, the second for the one in backward.
        determinism_check: "default" compares shapes and dtypes of what both runs save, "none" does not.
        debug: accepted; an error always says what differs.
        early_stop: end the second run as soon as it has saved the last tensor.
        kwargs: keyword arguments of `function`, and `preserve_rng_state` (default True): whether the second
            run gets the random numbers of the first.

    Returns:
        What `function` returns.

    Raises:
        CheckpointError: in backward, if the second run saves other tensors than the first.
        ValueError: for an unknown option, or keyword arguments with `use_reentrant=True`.

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
            f"determinism_check should be one of ['default', 'none'], got {determinism_check!r}; "
            "'default' compares shapes and dtypes"
        )
    if use_reentrant:
        if kwargs:
            raise ValueError(
                f"Unexpected keyword arguments: {','.join(kwargs)}; with use_reentrant=True pass them by "
                "position"
            )
        if context_fn is not noop_context_fn:
            raise ValueError(
                "Passing context_fn or debug is only supported when use_reentrant=False; leave it out"
            )
        return _Reentrant.apply(function, preserve, *args)
    if not firesteel.is_grad_enabled():
        with context_fn()[0]:
            return function(*args, **kwargs)
    first, second = context_fn()
    frame = _Frame(function, args, kwargs, second, preserve, early_stop, determinism_check == "default")
    with saved_tensors_hooks(frame.pack, _unpack), first:
        return function(*args, **kwargs)


class _Holder:
    """Stands for one tensor that the function saved; has it after the second run."""

    __slots__ = ("__weakref__", "frame", "index", "tensor")

    def __init__(self, frame: _Frame, index: int) -> None:
        self.frame = frame
        self.index = index
        self.tensor: Tensor | None = None


def _unpack(holder: _Holder) -> Tensor:
    if holder.tensor is None:
        holder.frame.run_again()
    if holder.tensor is None:
        raise CheckpointError(
            f"checkpoint: A different number of tensors was saved during the original forward and "
            f"recomputation: the second run saved no tensor {holder.index} of {len(holder.frame.looks)}; the "
            "function must do the same each time"
        )
    return holder.tensor


class _LastSaved(Exception):  # noqa: N818  # it ends the second run, nothing is wrong
    """The second run has saved all that the first one did."""


class _Keep(Function):
    """Saves the arguments that are tensors as operations do: seen by outer hooks, checked for writes."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        return anchor.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise AssertionError("no gradient comes here")


class _Frame:
    """One call of `checkpoint`: what is needed to run its function again, and what it saved."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: AbstractContextManager[Any],
        preserve_rng_state: bool,
        early_stop: bool,
        compare: bool,
    ) -> None:
        self.function = function
        self.context = context
        self.early_stop = early_stop
        self.compare = compare
        self.rng_state = firesteel.get_rng_state() if preserve_rng_state else None
        self.names = tuple(kwargs)
        given = (*args, *kwargs.values())
        self.is_tensor = [isinstance(value, Tensor) for value in given]
        self.others = [None if isinstance(value, Tensor) else value for value in given]
        tensors = [value for value in given if isinstance(value, Tensor)]
        self.kept = _Keep.apply(firesteel.zeros((), requires_grad=True), *tensors).grad_fn
        self.holders: list[weakref.ref[_Holder]] = []
        self.looks: list[tuple[Any, Any]] = []

    def pack(self, tensor: Tensor) -> _Holder:
        """What the graph keeps instead of a tensor that the function saves."""
        holder = _Holder(self, len(self.holders))
        self.holders.append(weakref.ref(holder))
        self.looks.append((tensor.shape, tensor.dtype))
        return holder

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """What the function was given."""
        tensors = iter(self.kept.saved_tensors)
        pairs = zip(self.others, self.is_tensor, strict=True)
        given = [next(tensors) if is_tensor else other for other, is_tensor in pairs]
        count = len(given) - len(self.names)
        return given[:count], dict(zip(self.names, given[count:], strict=True))

    def run_again(self) -> None:
        """Runs the function once more, and gives each holder that is still needed its tensor."""
        saved = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal saved
            self.take(saved, tensor)
            saved += 1
            if self.early_stop and saved == len(self.looks):
                raise _LastSaved
            return tensor.detach()

        args, kwargs = self.arguments()
        with (
            _random_numbers_of(self.rng_state),
            firesteel.enable_grad(),
            contextlib.suppress(_LastSaved),
            saved_tensors_hooks(pack, lambda tensor: tensor),
            self.context,
        ):
            self.function(*args, **kwargs)
        if saved != len(self.looks):
            raise CheckpointError(
                "checkpoint: A different number of tensors was saved during the original forward and "
                f"recomputation: {len(self.looks)} and {saved}; the function must do the same each time"
            )

    def take(self, index: int, tensor: Tensor) -> None:
        """Hands the tensor that the second run saved at place `index` to its holder."""
        if index >= len(self.looks):
            return
        look = (tensor.shape, tensor.dtype)
        if self.compare and look != self.looks[index]:
            raise CheckpointError(
                "checkpoint: Recomputed values for the following tensors have different metadata than during "
                f"the forward pass: tensor {index} was of shape {tuple(self.looks[index][0])} "
                f"({self.looks[index][1]}), now it is of shape {tuple(look[0])} ({look[1]}); the function "
                "must do the same each time"
            )
        holder = self.holders[index]()
        if holder is not None:
            holder.tensor = tensor.detach()


@contextlib.contextmanager
def _random_numbers_of(state: Tensor | None) -> Any:
    """Random numbers from `state` on, within the block."""
    if state is None:
        yield
        return
    previous = firesteel.get_rng_state()
    firesteel.set_rng_state(state)
    try:
        yield
    finally:
        firesteel.set_rng_state(previous)


class _Reentrant(Function):
    """Runs a function unrecorded, and again with a graph of its own when its gradient is asked for."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        ctx.function = function
        ctx.rng_state = firesteel.get_rng_state() if preserve_rng_state else None
        ctx.is_tensor = [isinstance(value, Tensor) for value in args]
        ctx.others = [None if isinstance(value, Tensor) else value for value in args]
        ctx.save_for_backward(*(value for value in args if isinstance(value, Tensor)))
        return function(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        tensors = iter(ctx.saved_tensors)
        args = []
        for is_tensor, other in zip(ctx.is_tensor, ctx.others, strict=True):
            if is_tensor:
                tensor = next(tensors)
                args.append(tensor.detach().requires_grad_(tensor.requires_grad))
            else:
                args.append(other)
        with _random_numbers_of(ctx.rng_state), firesteel.enable_grad():
            outputs = ctx.function(*args)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        recorded = [
            (output, grad)
            for output, grad in zip(outputs, grads, strict=True)
            if isinstance(output, Tensor) and output.requires_grad
        ]
        if not recorded:
            raise RuntimeError(
                "none of output has requires_grad=True, this checkpoint() is not necessary; call the function"
            )
        firesteel.autograd.backward([output for output, _ in recorded], [grad for _, grad in recorded])
        return None, None, *(arg.grad if isinstance(arg, Tensor) else None for arg in args)


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

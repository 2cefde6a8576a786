"""One call of `checkpoint`: what its function saved, and how to compute it again."""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import firesteel
from firesteel import Tensor, _core
from firesteel.autograd.anomaly_mode import first_outside
from firesteel.autograd.function import Function
from firesteel.autograd.graph import saved_tensors_hooks

_TENSOR = object()  # stands where a tensor was


class CheckpointError(RuntimeError):
    """Raised when a function that is run again does not save what it saved the first time."""


class Look(NamedTuple):
    """What is known of a tensor that the first run saved."""

    shape: tuple[int, ...]
    dtype: Any
    place: str
    """File, line and function that saved it, if that was asked for."""

    def __str__(self) -> str:
        return f"of shape {self.shape} ({self.dtype}){self.place}"


def taken_out(values: tuple[Any, ...]) -> tuple[list[Tensor], list[Any]]:
    """The tensors among the values, for autograd to keep, and the values without them."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    return tensors, [_TENSOR if isinstance(value, Tensor) else value for value in values]


def put_back(tensors: tuple[Tensor, ...] | list[Tensor], values: list[Any]) -> list[Any]:
    """The values that `taken_out` was given."""
    following = iter(tensors)
    return [next(following) if value is _TENSOR else value for value in values]


@contextlib.contextmanager
def random_numbers_of(state: Tensor | None) -> Iterator[None]:
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


class _Holder:
    """Stands for one tensor that the function saved; has it between the second run and its use."""

    __slots__ = ("__weakref__", "frame", "index", "tensor")

    def __init__(self, frame: Frame, index: int) -> None:
        self.frame = frame
        self.index = index
        self.tensor: Tensor | None = None


def unpack(holder: _Holder) -> Tensor:
    """The tensor that a holder stands for, which it lets go: a retained graph keeps none of them."""
    if holder.tensor is None:
        holder.frame.run_again()
    tensor, holder.tensor = holder.tensor, None
    if tensor is None:
        raise CheckpointError(
            f"checkpoint: A different number of tensors was saved during the original forward and "
            f"recomputation: the second run saved no tensor {holder.index} of {len(holder.frame.looks)}; the "
            "function must do the same each time"
        )
    return tensor


class _LastSaved(BaseException):
    """The second run has saved all that the first one did. No `except Exception` of the user's stops it."""


class Checkpoint(Function):
    """Saves the arguments that are tensors as operations do: seen by outer hooks, checked for writes."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        return anchor.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise AssertionError("no gradient comes here")


class Frame:
    """One call of `checkpoint`: what is needed to run its function again, and what it saved.

    Args:
        function: what is checkpointed.
        args: its arguments.
        kwargs: its keyword arguments.
        context: entered whenever the function runs again.
        preserve_rng_state: whether the random numbers are those of now when it does.
        early_stop: whether it stops as soon as it has saved the last tensor.
        compare: whether shapes and dtypes of what is saved are compared.
        debug: whether errors say where the tensors were saved.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: AbstractContextManager[Any],
        *,
        preserve_rng_state: bool,
        early_stop: bool,
        compare: bool,
        debug: bool,
    ) -> None:
        self.function = function
        self.context = context
        self.early_stop = early_stop
        self.compare = compare
        self.debug = debug
        self.rng_state = firesteel.get_rng_state() if preserve_rng_state else None
        self.names = tuple(kwargs)
        tensors, self.values = taken_out((*args, *kwargs.values()))
        self.kept = Checkpoint.apply(firesteel.zeros((), requires_grad=True), *tensors).grad_fn
        self.holders: list[weakref.ref[_Holder]] = []
        self.looks: list[Look] = []

    def pack(self, tensor: Tensor) -> _Holder:
        """What the graph keeps instead of a tensor that the function saves."""
        holder = _Holder(self, len(self.holders))
        self.holders.append(weakref.ref(holder))
        self.looks.append(self.look(tensor))
        return holder

    def look(self, tensor: Tensor) -> Look:
        """What is kept of a tensor to compare the runs."""
        return Look(tuple(tensor.shape), tensor.dtype, _place_of_the_user() if self.debug else "")

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """What the function was given."""
        given = put_back(self.kept.saved_tensors, self.values)
        count = len(given) - len(self.names)
        return given[:count], dict(zip(self.names, given[count:], strict=True))

    def run_again(self) -> None:
        """Runs the function once more, and gives each holder that is still needed its tensor."""
        saved: list[Look] = []

        def pack(tensor: Tensor) -> Tensor:
            self.take(len(saved), tensor)
            saved.append(self.look(tensor))
            if self.early_stop and len(saved) == len(self.looks):
                raise _LastSaved
            return tensor.detach()

        args, kwargs = self.arguments()
        with (
            random_numbers_of(self.rng_state),
            firesteel.enable_grad(),
            contextlib.suppress(_LastSaved),
            saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            self.run_in_context(args, kwargs)
        if len(saved) != len(self.looks):
            more, which = (saved, "second") if len(saved) > len(self.looks) else (self.looks, "first")
            raise CheckpointError(
                "checkpoint: A different number of tensors was saved during the original forward and "
                f"recomputation: {len(self.looks)} and {len(saved)}; tensor "
                f"{min(len(saved), len(self.looks))}, {more[min(len(saved), len(self.looks))]}, was saved "
                f"in the {which} run only; the function must do the same each time"
            )

    def run_in_context(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Calls the function in the second context, which must stay fit for another time."""
        if isinstance(self.context, contextlib.ContextDecorator):
            # That of a generator can be entered once. As a decorator it makes a new one for each call.
            self.context(lambda: self.function(*args, **kwargs))()
        else:
            with self.context:
                self.function(*args, **kwargs)

    def take(self, index: int, tensor: Tensor) -> None:
        """Hands the tensor that the second run saved at place `index` to its holder."""
        if index >= len(self.looks):
            return
        first = self.looks[index]
        if self.compare and (tuple(tensor.shape), tensor.dtype) != first[:2]:
            raise CheckpointError(
                "checkpoint: Recomputed values for the following tensors have different metadata than during "
                f"the forward pass: tensor {index} was {first}, now it is {self.look(tensor)}; the function "
                "must do the same each time"
            )
        holder = self.holders[index]()
        if holder is not None:
            holder.tensor = tensor.detach()


def _place_of_the_user() -> str:
    """The line of the user's program that runs now, as part of a sentence."""
    line = first_outside(sys._getframe(1))
    if line is None:
        return ""
    return f", saved at {line.f_code.co_filename}:{line.f_lineno} in {line.f_code.co_name}"


class CheckpointFunction(Function):
    """Runs a function unrecorded, and again with a graph of its own when its gradient is asked for."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        ctx.function = function
        ctx.rng_state = firesteel.get_rng_state() if preserve_rng_state else None
        tensors, ctx.values = taken_out(args)
        ctx.save_for_backward(*tensors)
        return function(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        if _core._looks_for_inputs():
            raise RuntimeError(
                "When use_reentrant=True, torch.utils.checkpoint is incompatible with .grad() or passing an "
                "`inputs` parameter to .backward(): its own backward pass would write .grad of all that the "
                "function takes; pass use_reentrant=False"
            )
        leaves = [x.detach().requires_grad_(x.requires_grad) for x in ctx.saved_tensors]
        args = put_back(leaves, ctx.values)
        with random_numbers_of(ctx.rng_state), firesteel.enable_grad():
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


def call_reentrant(function: Callable[..., Any], preserve_rng_state: bool, args: tuple[Any, ...]) -> Any:
    """The function's result, whose gradient is found by a backward pass of its own."""
    return CheckpointFunction.apply(function, preserve_rng_state, *args)

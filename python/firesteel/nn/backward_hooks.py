"""Full backward hooks of a module: what sees the gradients of its outputs and of its inputs together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from firesteel._core import Tensor, is_grad_enabled
from firesteel.autograd.function import Function

_Gradients = tuple[Tensor | None, ...]


class BackwardHookFunction(Function):
    """Hands tensors on: its node stands where a module begins, or ends."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.mark_non_differentiable(*[x for x in tensors if not x.requires_grad])
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> _Gradients:
        return grads


class _Places:
    """Where among the values of a tuple the tensors are."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.count = len(values)
        self.places = [place for place, value in enumerate(values) if isinstance(value, Tensor)]

    def spread(self, grads: _Gradients) -> _Gradients:
        """The gradients of the tensors, with None for all other values."""
        whole: list[Tensor | None] = [None] * self.count
        for place, grad in zip(self.places, grads, strict=True):
            whole[place] = grad
        return tuple(whole)

    def gathered(self, whole: _Gradients) -> _Gradients:
        """The gradients of the tensors alone."""
        return tuple([whole[place] for place in self.places])


def _through_a_node(values: tuple[Any, ...], hook: Callable[..., Any]) -> tuple[Any, ...]:
    """The values, whose tensors have passed a node that `hook` sees.

    Nothing of them may be kept in the hook: it would keep the graph alive.
    """
    places = _Places(values).places
    passed = BackwardHookFunction.apply(*[values[place] for place in places])
    next(x.grad_fn for x in passed if x.requires_grad).register_hook(hook)
    whole = list(values)
    for place, tensor in zip(places, passed, strict=True):
        whole[place] = tensor
    return tuple(whole)


def _is_recorded(values: tuple[Any, ...]) -> bool:
    """Whether a gradient will come to one of the values."""
    return is_grad_enabled() and any(isinstance(value, Tensor) and value.requires_grad for value in values)


class HookedCall:
    """One call of a module that has full backward hooks.

    Args:
        module: the module.
        hooks: called with the module, the gradients of its inputs and those of its outputs.
        pre_hooks: called with the module and the gradients of its outputs.
    """

    def __init__(
        self, module: Any, hooks: Sequence[Callable[..., Any]], pre_hooks: Sequence[Callable[..., Any]]
    ) -> None:
        self.module = module
        self.hooks = hooks
        self.pre_hooks = pre_hooks
        self.grad_outputs: _Gradients | None = None
        self.inputs = 0
        self.has_recorded_inputs = False

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The positional arguments, as `forward` gets them."""
        self.inputs = len(args)
        self.has_recorded_inputs = _is_recorded(args)
        if not self.has_recorded_inputs:
            return args
        places = _Places(args)

        def hook(grad_inputs: _Gradients, _: _Gradients) -> _Gradients | None:
            if self.grad_outputs is None:  # the gradient has come past the outputs: a second derivative
                return None
            grads, self.grad_outputs = self.grad_outputs, None
            return places.gathered(self.call_hooks(places.spread(grad_inputs), grads))

        return _through_a_node(args, hook)

    def leave(self, output: Any) -> Any:
        """What `forward` returned, as the caller gets it."""
        if not isinstance(output, Tensor | tuple):
            warnings.warn(
                "For backward hooks to be called, module output should be a Tensor or a tuple of Tensors but "
                f"received {type(output)}",
                stacklevel=4,
            )
            return output
        values: tuple[Any, ...] = output if isinstance(output, tuple) else (output,)
        if not _is_recorded(values):
            return output
        places = _Places(values)

        def hook(_: _Gradients, grads: _Gradients) -> _Gradients:
            whole = self.call_pre_hooks(places.spread(grads))
            if self.has_recorded_inputs:
                self.grad_outputs = whole
            else:
                self.call_without_inputs(whole)
            return places.gathered(whole)

        values = _through_a_node(values, hook)
        if isinstance(output, Tensor):
            return values[0]
        return values if type(output) is tuple else type(output)(*values)

    def call_pre_hooks(self, grads: _Gradients) -> _Gradients:
        """The gradients of the outputs that the hooks leave."""
        for hook in self.pre_hooks:
            changed = hook(self.module, grads)
            if changed is not None:
                grads = _fitting("Backward pre hook", "grad_output", changed, grads)
        return grads

    def call_hooks(self, grads: _Gradients, grad_outputs: _Gradients) -> _Gradients:
        """The gradients of the inputs that the hooks leave."""
        for hook in self.hooks:
            changed = hook(self.module, grads, grad_outputs)
            if changed is not None:
                grads = _fitting("Backward hook", "grad_input", changed, grads)
        return grads

    def call_without_inputs(self, grad_outputs: _Gradients) -> None:
        """Calls the hooks of a module none of whose inputs requires a gradient."""
        if not self.hooks:
            return
        warnings.warn(
            "Full backward hook is firing when gradients are computed with respect to module outputs since "
            "no inputs require gradients: grad_input holds None alone. Call requires_grad_() on an input to "
            "see its gradient.",
            stacklevel=2,
        )
        for hook in self.hooks:
            changed = hook(self.module, (None,) * self.inputs, grad_outputs)
            if changed is not None and not (
                isinstance(changed, tuple) and all(grad is None for grad in changed)
            ):
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always return None or "
                    f"None for all gradients, not {type(changed).__name__}"
                )


def _fitting(hook: str, what: str, changed: Any, grads: _Gradients) -> _Gradients:
    changed = (changed,) if isinstance(changed, Tensor) else changed
    if len(changed) != len(grads):
        raise RuntimeError(
            f"{hook} returned an invalid number of {what}, got {len(changed)}, but expected {len(grads)}; "
            "return a gradient or None for each"
        )
    return tuple(changed)

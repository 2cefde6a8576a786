"""Hooks of modules: what is called before and after `forward`, and when gradients pass the module."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from firesteel._hooks import RemovableHandle, register

from .backward_hooks import HookedCall


class Hooked:
    """The part of `Module` that keeps hooks and calls them."""

    forward: Callable[..., Any]
    _forward_hooks: dict[int, tuple[Callable[..., Any], bool, bool]]
    _forward_pre_hooks: dict[int, tuple[Callable[..., Any], bool]]
    _backward_hooks: dict[int, Callable[..., Any]]
    _backward_pre_hooks: dict[int, Callable[..., Any]]

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        called: set[int] = set()
        try:
            for hook, with_kwargs in tuple(self._forward_pre_hooks.values()):
                args, kwargs = self._after_pre_hook(hook, with_kwargs, args, kwargs)
            hooked_call = self._hooked_call()
            if hooked_call is not None:
                args = hooked_call.enter(args)
            output = self.forward(*args, **kwargs)
            for number, (hook, with_kwargs, _) in tuple(self._forward_hooks.items()):
                called.add(number)
                changed = hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
                output = output if changed is None else changed
            return output if hooked_call is None else hooked_call.leave(output)
        except Exception:
            self._call_remaining(called, args, kwargs)
            raise

    def _hooked_call(self) -> HookedCall | None:
        """What runs the backward hooks of one call, if there are any."""
        if not self._backward_hooks and not self._backward_pre_hooks:
            return None
        return HookedCall(
            self, tuple(self._backward_hooks.values()), tuple(self._backward_pre_hooks.values())
        )

    def _after_pre_hook(
        self, hook: Callable[..., Any], with_kwargs: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not with_kwargs:
            changed = hook(self, args)
            if changed is None:
                return args, kwargs
            return (changed if isinstance(changed, tuple) else (changed,)), kwargs
        changed = hook(self, args, kwargs)
        if changed is None:
            return args, kwargs
        if not isinstance(changed, tuple) or len(changed) != 2:
            raise RuntimeError(
                f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {changed}."
            )
        return changed

    def _call_remaining(self, called: set[int], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Calls the hooks that asked to be called even if `forward` fails."""
        for number, (hook, with_kwargs, always) in tuple(self._forward_hooks.items()):
            if always and number not in called:
                try:
                    hook(self, args, kwargs, None) if with_kwargs else hook(self, args, None)
                except Exception as error:
                    warnings.warn(
                        "forward hook with ``always_call=True`` raised an exception that was silenced as "
                        f"another error was raised in forward: {error}",
                        stacklevel=4,
                    )

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Calls `hook(module, args)` before `forward`; what it returns, unless None, replaces `args`.

        With `with_kwargs` it is called as `hook(module, args, kwargs)` and may return both.
        """
        return register(self._forward_pre_hooks, (hook, with_kwargs), prepend)  # type: ignore[arg-type]

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Calls `hook(module, args, output)` after `forward`; what it returns, unless None, is the output.

        With `with_kwargs` it is called as `hook(module, args, kwargs, output)`; with `always_call` also,
        with None as output, when `forward` raises.
        """
        entry: Any = (hook, with_kwargs, always_call)
        return register(self._forward_hooks, entry, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Calls `hook(module, grad_input, grad_output)` when gradients have passed the module.

        Both are tuples: a gradient for each positional argument of `forward`, and for each output; None for
        what is no tensor or got none. A tuple that the hook returns takes the place of `grad_input`. The
        arguments and the outputs of a module with such hooks cannot be overwritten in place.

        Args:
            hook: the function.
            prepend: call it before those that are registered already.

        Returns:
            A handle, whose `remove()` takes the hook away.

        Example:
            >>> import firesteel as torch
            >>> layer = torch.nn.Tanh()
            >>> handle = layer.register_full_backward_hook(lambda module, grads, outs: print(grads, outs))
            >>> layer(torch.zeros(2, requires_grad=True)).sum().backward()
            (tensor([1., 1.]),) (tensor([1., 1.]),)
        """
        return register(self._backward_hooks, hook, prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(module, grad_output)` when gradients come to the module's outputs.

        A tuple that it returns takes the place of `grad_output`.

        Args:
            hook: the function.
            prepend: call it before those that are registered already.

        Returns:
            A handle, whose `remove()` takes the hook away.

        Example:
            >>> import firesteel as torch
            >>> layer = torch.nn.Tanh()
            >>> handle = layer.register_full_backward_pre_hook(lambda module, grads: (grads[0] * 10,))
            >>> x = torch.zeros(2, requires_grad=True)
            >>> layer(x).sum().backward()
            >>> x.grad
            tensor([10., 10.])
        """
        return register(self._backward_pre_hooks, hook, prepend)

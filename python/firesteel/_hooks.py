"""Registration of hooks: the handle with which a hook is taken away again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, MutableMapping
from typing import Any

from firesteel import _core

_next_id = itertools.count()


class _HandleType(type):
    """Makes the core's handles, of hooks on tensors and nodes, instances of `RemovableHandle`."""

    def __instancecheck__(cls, instance: object) -> bool:
        is_core = cls.__name__ == "RemovableHandle" and isinstance(instance, _core.RemovableHandle)
        return is_core or super().__instancecheck__(instance)


class RemovableHandle(metaclass=_HandleType):
    """Removes one hook from the dictionary it was registered in.

    Also a context manager: the hook is removed on leaving the block.

    Args:
        hooks: the dictionary the hook was put in, keyed by `handle.id`.
        extra: further dictionaries that may hold an entry under the same id.

    Example:
        >>> import firesteel as torch
        >>> layer = torch.nn.Identity()
        >>> handle = layer.register_forward_hook(lambda module, args, output: output + 1)
        >>> layer(torch.tensor(1.0))
        tensor(2.)
        >>> handle.remove()
        >>> layer(torch.tensor(1.0))
        tensor(1.)
    """

    def __init__(
        self, hooks: MutableMapping[int, Any], extra: MutableMapping[int, Any] | None = None
    ) -> None:
        self.id = next(_next_id)
        self._hooks = hooks
        self._extra = extra

    def remove(self) -> None:
        """Takes the hook out; a second call does nothing."""
        self._hooks.pop(self.id, None)
        if self._extra is not None:
            self._extra.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register(hooks: dict[int, Any], hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
    """Adds `hook` to `hooks`, last or (with `prepend`) first, and returns its handle."""
    handle = RemovableHandle(hooks)
    if prepend:
        others = dict(hooks)
        hooks.clear()
        hooks[handle.id] = hook
        hooks.update(others)
    else:
        hooks[handle.id] = hook
    return handle

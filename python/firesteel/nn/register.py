"""The dictionaries in which a module keeps its parameters, buffers and sub-modules."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .module import Module


class Register(dict[str, Any]):
    """A dictionary that shows its entries as plain attributes of the module that owns it.

    Attributes found in an instance's `__dict__` are found at once; going through `__getattr__` would cost
    a Python call per `self.weight`. Every change goes through here, so the two never differ, even where code
    writes `module._modules[name] = ...` directly. The owner is held weakly: no reference cycle.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: Module, entries: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._owner = weakref.ref(owner)
        if entries:
            self.update(entries)

    def _attributes(self) -> dict[str, Any]:
        owner = self._owner()
        return {} if owner is None else owner.__dict__

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._attributes()[name] = value

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._attributes().pop(name, None)

    def pop(self, name: str, *default: Any) -> Any:
        value = super().pop(name, *default)
        self._attributes().pop(name, None)
        return value

    def popitem(self) -> tuple[str, Any]:
        name, value = super().popitem()
        self._attributes().pop(name, None)
        return name, value

    def clear(self) -> None:
        for name in list(self):
            del self[name]

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def update(self, *args: Any, **kwargs: Any) -> None:
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: Any) -> Register:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (list(self.items()),)

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

"""Tools around training: `data` feeds it, `checkpoint` trades its memory for time."""

import importlib

from . import data as data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import checkpoint as checkpoint, hooks as hooks

__all__ = ["checkpoint", "data", "hooks"]


if not TYPE_CHECKING:  # type checkers read the import above

    def __getattr__(name: str) -> object:
        if name in ("checkpoint", "hooks"):
            return importlib.import_module(f"firesteel.utils.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Functions made of operations that count as one where anomaly mode looks at results."""

from __future__ import annotations

from firesteel import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from firesteel import Tensor


def as_one(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Marks a function whose operations may give infinities or nan on the way, where it does not choose them.

    With `check_forward`, its result is looked at, under its name, and not those inside of it.
    """

    def run(*args: Any) -> Tensor:
        if _core._anomalies()[2]:
            return _core._as_one(function.__name__, function, args)
        return function(*args)

    return run

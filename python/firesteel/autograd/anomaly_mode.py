"""Anomaly mode: errors of the backward pass name the lines of the forward pass that led to them.

In the mode every recorded operation notes the line of the user's program that runs, and the module of the
network that is called there. That takes some microseconds an operation; off, the mode costs nothing.
"""

from __future__ import annotations

import itertools
import linecache
import os
import sys
import warnings
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from firesteel import _core

if TYPE_CHECKING:
    from firesteel.nn import Module

__all__ = [
    "detect_anomaly",
    "is_anomaly_check_nan_enabled",
    "is_anomaly_enabled",
    "set_anomaly_enabled",
    "set_detect_anomaly",
]

_PACKAGE = str(Path(__file__).parent.parent) + os.sep


def _set(op: str, mode: bool, check_nan: bool, check_forward: bool) -> None:
    for name, value in (("mode", mode), ("check_nan", check_nan), ("check_forward", check_forward)):
        if not isinstance(value, bool):
            raise TypeError(f"{op}: {name} must be a bool, not {type(value).__name__}; pass True or False")
    _core._set_anomalies(mode, check_nan, check_forward, _place)


def set_anomaly_enabled(mode: bool, check_nan: bool = True) -> None:
    """Switches anomaly mode on or off, as `torch.autograd.set_detect_anomaly` does.

    Args:
        mode: whether the mode is on.
        check_nan: whether a backward pass in the mode raises where a gradient rule gives NaN.

    Raises:
        TypeError: for anything but bools.

    Example:
        >>> from firesteel.autograd.anomaly_mode import is_anomaly_enabled, set_anomaly_enabled
        >>> set_anomaly_enabled(True)
        >>> is_anomaly_enabled()
        True
        >>> set_anomaly_enabled(False)
    """
    _set("set_anomaly_enabled", mode, check_nan, False)


class set_detect_anomaly:
    """Switches anomaly mode on or off, for all threads: as a call, or until the end of a `with` block.

    Args:
        mode: whether the mode is on.
        check_nan: whether a backward pass in the mode raises where a gradient rule gives NaN.
        check_forward: whether operations in the mode raise where their result holds NaN, or infinities that
            come from finite values. What only moves or puts in numbers (views, copies, `x[i] = ...`,
            `masked_fill`, `where`) is not looked at. An in-place operation has written its result by then.

    Example:
        >>> import firesteel as torch
        >>> with torch.autograd.set_detect_anomaly(True, check_forward=True):
        ...     torch.tensor([1.0, 0.0]).log()
        Traceback (most recent call last):
        firesteel.AutogradError: log: the result of shape [2] (float32) holds -inf ...
    """

    def __init__(self, mode: bool, check_nan: bool = True, *, check_forward: bool = False) -> None:
        self._before = _core._anomalies()
        _set("set_detect_anomaly", mode, check_nan, check_forward)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        _set("set_detect_anomaly", *self._before)


class detect_anomaly:
    """Anomaly mode until the end of a `with` block, for all threads.

    Errors of backward passes then say where the operation ran forward: file, line, function, and the module
    of the network. So they do for a saved tensor that was changed in place (where it was saved, and where it
    was changed) and for a graph that was freed (by which pass, and where).

    Args:
        check_nan: whether a backward pass raises where a gradient rule gives NaN.
        check_forward: whether operations raise where their result holds NaN, or infinities that come from
            finite values; see `set_detect_anomaly`.

    Raises:
        RuntimeError: in the block, for values that are checked.

    Example:
        >>> import firesteel as torch
        >>> x = torch.tensor([0.0], requires_grad=True)
        >>> with torch.autograd.detect_anomaly():
        ...     (x.sqrt() * 0).backward()
        Traceback (most recent call last):
        firesteel.AutogradError: Function 'SqrtBackward0' returned nan values in its 0th output: ...
    """

    def __init__(self, check_nan: bool = True, *, check_forward: bool = False) -> None:
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should only be "
            "enabled for debugging.",
            stacklevel=2,
        )
        self._wanted = (True, check_nan, check_forward)
        self._before: list[tuple[bool, bool, bool]] = []

    def __enter__(self) -> None:
        self._before.append(_core._anomalies())
        _set("detect_anomaly", *self._wanted)

    def __exit__(self, *exc: object) -> None:
        _set("detect_anomaly", *self._before.pop())


def is_anomaly_enabled() -> bool:
    """Whether anomaly mode is on.

    Example:
        >>> import firesteel as torch
        >>> with torch.autograd.set_detect_anomaly(True):
        ...     torch.autograd.anomaly_mode.is_anomaly_enabled()
        True
    """
    return _core._anomalies()[0]


def is_anomaly_check_nan_enabled() -> bool:
    """Whether backward passes in anomaly mode look for NaN.

    Example:
        >>> import firesteel as torch
        >>> with torch.autograd.set_detect_anomaly(True, check_nan=False):
        ...     torch.autograd.anomaly_mode.is_anomaly_check_nan_enabled()
        False
    """
    return _core._anomalies()[1]


def _place() -> tuple[str, int, str, str | None, str | None] | None:
    """File, line, function, module and source of the line that the user's program runs."""
    frame: FrameType | None = sys._getframe(1)
    line = first_outside(frame)
    if line is None:
        return None
    code, number = line.f_code, line.f_lineno
    source = linecache.getline(code.co_filename, number, line.f_globals).strip()
    return code.co_filename, number, code.co_name, _module_path(frame), source or None


def first_outside(frame: FrameType | None) -> FrameType | None:
    """The innermost frame that does not run this package's code."""
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame


def _module_path(frame: FrameType | None) -> str | None:
    """The module whose `forward` runs, by its names from the outermost that runs: `Net.block.fc1`."""
    if "firesteel.nn.module" not in sys.modules:
        return None
    call: CodeType = sys.modules["firesteel.nn.module"].Module.__call__.__code__
    running: list[Module] = []
    while frame is not None:
        if frame.f_code is call:
            running.append(frame.f_locals["self"])
        frame = frame.f_back
    if not running:
        return None
    innermost = running[0]
    for outer in reversed(running):
        name = _name_within(outer, innermost)
        if name is not None:
            return ".".join(filter(None, (type(outer).__name__, name)))
    return None


# The names of a network's modules by identity: a network has the same modules for long.
_names: WeakKeyDictionary[Module, dict[int, str]] = WeakKeyDictionary()


def _name_within(outer: Module, module: Module) -> str | None:
    """The name of `module` below `outer`; empty for itself."""
    for _ in itertools.repeat(None, 2):
        name = _names.get(outer, {}).get(id(module))
        if name is not None and _has(outer, name, module):
            return name
        _names[outer] = {id(each): name for name, each in outer.named_modules()}
    return None


def _has(outer: Module, name: str, module: Module) -> bool:
    try:
        return outer.get_submodule(name) is module
    except AttributeError:
        return False

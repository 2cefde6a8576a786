"""Anomaly mode."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from misuse_cases.row import Misuse


def under_anomaly(lib: Any, backward: Callable[[], None]) -> None:
    """Runs backward in anomaly mode, without the warning that PyTorch gives for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with lib.autograd.detect_anomaly():
            backward()


ANOMALY = [
    Misuse(
        "a nan found by anomaly mode",
        RuntimeError,
        (
            r"Function 'SqrtBackward0' returned nan values in its 0th output: the gradient of its input 0, "
            r"of shape \[3\] "
            r"\(float32\), holds nan .*\n  at SqrtBackward0 of shape \[3\], reached from SumBackward0"
        ),
        "anomaly place",
        lambda lib: [
            x := lib.zeros(3, requires_grad=True),
            y := (x.sqrt() * 0).sum(),
            lambda: under_anomaly(lib, y.backward),
        ],
    ),
    Misuse(
        "set_detect_anomaly of a string",
        TypeError,
        r"set_detect_anomaly: mode must be a bool, not str; pass True or False",
        "anomaly",
        lambda lib: [lambda: lib.autograd.set_detect_anomaly("yes")],
    ),
]

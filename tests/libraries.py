"""Firesteel and PyTorch beside each other: what tests that run in either library begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import firesteel
from tensors import assert_same, torch

LIBRARIES = [firesteel] if torch is None else [firesteel, torch]
# The test runs once in each library, which it gets as `lib`.
both = pytest.mark.parametrize("lib", LIBRARIES, ids=lambda lib: lib.__name__)
# The test compares the two.
parity = pytest.mark.skipif(torch is None, reason="compares with PyTorch")


def same_in_both(run: Callable[[Any], Any]) -> None:
    """Runs `run(lib)` in either library; results must be the same."""
    assert_same(run(firesteel), run(torch))


def leaf(lib: Any, *values: float) -> Any:
    """These numbers, or 1, 2 and 3, as a tensor that requires grad."""
    return lib.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


def drawn(lib: Any, *shape: int, seed: int = 0) -> Any:
    """Numbers in float64 that are the same in either library, away from 0."""
    numbers = np.random.default_rng(seed).uniform(0.3, 1.7, shape)
    return lib.tensor(numbers.tolist(), dtype=lib.float64).reshape(shape)


def doubles(tensor: Any) -> np.ndarray:
    """The values of a tensor of either library."""
    return np.array(tensor.detach().double().tolist())

"""Reductions of all dtypes over dims of all places and heights: what is cut into pieces, packed, or converted first."""

from __future__ import annotations

import numpy as np
import pytest

import firesteel
from libraries import parity, same_in_both

pytestmark = parity

DTYPES = ["bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
# Columns that are cut into pieces (also the last, shorter one), that are wide, narrow, and that do not fill packs.
SHAPES = [(257, 300), (1000, 1030), (513, 128), (5003, 7), (3, 700, 101), (64, 0), (2, 2500, 33)]


def _input(lib, dtype: str, shape: tuple[int, ...]):
    """Small whole numbers, so that sums are exact in every order; zeros of both signs and NaN among floats."""
    numbers = np.random.default_rng(0).integers(0, 2, shape).astype(np.float32)
    if "float" in dtype:
        flat = numbers.reshape(-1)
        flat[::7] = -0.0
        flat[1::1001] = np.nan
    return lib.from_numpy(numbers).to(getattr(lib, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_truths_and_counts(shape: tuple[int, ...], dtype: str) -> None:
    for dim in range(len(shape)):
        same_in_both(lambda lib, dim=dim: _input(lib, dtype, shape).any(dim))
        same_in_both(lambda lib, dim=dim: _input(lib, dtype, shape).all(dim))
        same_in_both(lambda lib, dim=dim: _input(lib, dtype, shape).count_nonzero(dim))
        same_in_both(lambda lib, dim=dim: _input(lib, dtype, shape).transpose(0, 1).any(dim))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_and_products(shape: tuple[int, ...], dtype: str) -> None:
    for dim in range(len(shape)):
        same_in_both(lambda lib, dim=dim: _input(lib, dtype, shape).nansum(dim))
        same_in_both(lambda lib, dim=dim: _input(lib, dtype, shape).sum(dim))
        same_in_both(lambda lib, dim=dim: (_input(lib, dtype, shape) > 0).sum(dim))
        same_in_both(lambda lib, dim=dim: _input(lib, dtype, shape)[..., 1::2].prod(dim))


def test_truths_of_an_array_larger_than_memory() -> None:
    x = firesteel.tensor([[0.0], [-0.0], [2.0], [float("nan")]]).expand(4, 10**12)
    assert x.any(1).tolist() == x.all(1).tolist() == [False, False, True, True]
    assert x.count_nonzero(1).tolist() == [0, 0, 10**12, 10**12]

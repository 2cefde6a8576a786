"""Operands of any strides give, bit for bit, what contiguous ones do, also where they fill many tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import firesteel

SHAPES = [(3, 5), (37, 1031), (1031, 37), (70, 129), (4, 33, 65)]
LAYOUTS: dict[str, Callable[..., Any]] = {
    "every second": lambda x: _cut(x, lambda big, s: big[..., ::2], (1, 2)),
    "every third row and column": lambda x: _cut(x, lambda big, s: big[..., ::3, ::3], (3, 3)),
    "offset": lambda x: _cut(x, lambda big, s: big[..., s[-1] :], (1, 2)),
    "reversed": lambda x: x.flip(-1).clone().flip(-1),
    "transposed": lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    "first dim last": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
}
OPERATIONS: dict[str, Callable[..., Any]] = {
    "exp": lambda a, b: a.exp(),
    "relu": lambda a, b: (a - 0.5).relu(),
    "mul": lambda a, b: a * b,
    "contiguous and strided": lambda a, b: a.contiguous() - b,
    "strided and contiguous": lambda a, b: a / b.contiguous(),
    "pow": lambda a, b: a**b,
    "number": lambda a, b: 2.5 - a,
    "row": lambda a, b: a + b[..., :1, :],
    "column": lambda a, b: b[..., :1] * a,
    "compare": lambda a, b: a < b,
    "where": lambda a, b: firesteel.where(a < 0.6, a, b),
    "where a number": lambda a, b: firesteel.where(b < a[..., :1], 0.0, b),
    "lerp": lambda a, b: a.lerp(b, b[..., :1]),
    "to": lambda a, b: a.to(firesteel.int32) + b.to(firesteel.bool),
}


def _cut(x: Any, cut: Callable[..., Any], times: tuple[int, int]) -> Any:
    """`x` as a part of something larger."""
    *lead, rows, cols = x.shape
    big = firesteel.full((*lead, rows * times[0], cols * times[1]), 7.0).to(x.dtype)
    part = cut(big, x.shape)
    part.copy_(x)
    return part


def _values(*shape: int, seed: int) -> Any:
    return firesteel.tensor(np.random.default_rng(seed).uniform(0.3, 1.7, shape).astype(np.float32))


@pytest.mark.parametrize("dtype", [firesteel.float32, firesteel.float64, firesteel.bfloat16], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_do_not_change_results(layout: str, name: str, dtype: Any) -> None:
    for shape in SHAPES:
        a, b = (_values(*shape, seed=seed).to(dtype) for seed in (0, 1))
        expected = OPERATIONS[name](a, b)
        strided = [LAYOUTS[layout](x) for x in (a, b)]
        assert all(firesteel.equal(x, y) for x, y in zip(strided, (a, b), strict=True))
        for operands in (strided, [a, strided[1]], [strided[0], b]):
            assert firesteel.equal(OPERATIONS[name](*operands), expected), shape


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_place_on_strides(layout: str) -> None:
    for shape in SHAPES:
        a, b = _values(*shape, seed=0), _values(*shape, seed=1)
        expected = ((a * 1.5).exp() - b).clamp(max=2.0)
        x = LAYOUTS[layout](a)
        address = x.data_ptr()
        x.mul_(1.5).exp_().sub_(LAYOUTS[layout](b)).clamp_(max=2.0)
        assert firesteel.equal(x, expected)
        assert x.data_ptr() == address


def test_what_lies_between_strided_elements_stays() -> None:
    big = firesteel.full((50, 300), 7.0)
    big[::3, ::2].exp_()
    changed = big != 7.0
    assert changed[::3, ::2].all() and changed.sum() == changed[::3, ::2].numel()


def test_strided_results_do_not_depend_on_threads() -> None:
    a, b = _values(700, 801, seed=0), _values(801, 700, seed=1).t()
    threads = firesteel.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            firesteel.set_num_threads(count)
            results.append(((a + b), (a[:, ::2] * b[:, ::2]).exp(), b.sum(0), b[::2].mean(1)))
    finally:
        firesteel.set_num_threads(threads)
    for other in results[1:]:
        assert all(firesteel.equal(x, y) for x, y in zip(results[0], other, strict=True))

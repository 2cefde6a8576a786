"""Products of bfloat16: their error, in every layout, and the same bits for any number of threads.

A sum of k products is computed in float32 and rounded once. The bounds are those of such sums in any order.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

import firesteel as fs

# Rows, columns and terms: odd ones, few rows, more than one block of k, more than one part of it.
SIZES = [
    (1, 1, 1),
    (1, 40, 33),
    (3, 5, 7),
    (24, 70, 100),
    (25, 70, 101),
    (150, 33, 520),
    (13, 300, 1100),
    (37, 65, 4501),
]
LAYOUTS = {
    "rows": lambda x: x,
    "columns": lambda x: x.t().contiguous().t(),
    "gaps": lambda x: fs.stack([x, x + 1], 2).flatten(1)[:, ::2],
    "odd offset": lambda x: fs.cat([x[:, :1], x, x[:, :1]], 1)[:, 1:-1],
}


def numbers(*shape: int, seed: int) -> fs.Tensor:
    """Standard normal ones."""
    return fs.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32)).bfloat16()


def doubles(x: fs.Tensor) -> np.ndarray:
    return x.double().numpy()


def check(result: fs.Tensor, a: fs.Tensor, b: fs.Tensor, added: fs.Tensor | None = None) -> None:
    """`result` is `a @ b`, and `+ added`, within the error of sums in float32 that are rounded once."""
    a, b = doubles(a), doubles(b)
    exact, size = a @ b, np.abs(a) @ np.abs(b)
    if added is not None:
        exact, size = exact + doubles(added), size + np.abs(doubles(added))
    of_sum = (a.shape[-1] + 1) * 2.0**-23 * size
    assert result.dtype == fs.bfloat16
    assert np.all(np.abs(doubles(result) - exact) <= of_sum + 2.0**-8 * (np.abs(exact) + of_sum))


@pytest.mark.parametrize("layouts", list(itertools.product(LAYOUTS, LAYOUTS)), ids=" by ".join)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_error_of_bfloat16(size, layouts):
    m, n, k = size
    a, b = LAYOUTS[layouts[0]](numbers(m, k, seed=1)), LAYOUTS[layouts[1]](numbers(k, n, seed=2))
    check(a @ b, a, b)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_error_of_what_is_added(size):
    m, n, k = size
    x, weight, bias = numbers(m, k, seed=1), numbers(n, k, seed=2), numbers(n, seed=3)
    check(fs.nn.functional.linear(x, weight, bias), x, weight.t(), bias)
    full, column = numbers(m, n, seed=4), numbers(m, 1, seed=5)
    for added in (full, full.t().contiguous().t(), column):
        check(fs.addmm(added, x, weight.t()), x, weight.t(), added)


def test_batches_of_bfloat16():
    a, b, added = numbers(3, 14, 50, seed=1), numbers(3, 50, 40, seed=2), numbers(40, seed=3)
    check(a @ b, a, b)
    check(fs.baddbmm(added, a, b), a, b, added)
    check(a @ b[0], a, b[0])
    check(a.expand(2, 3, 14, 50) @ b, a.expand(2, 3, 14, 50), b)
    assert (numbers(0, 5, seed=1) @ numbers(5, 3, seed=1)).shape == (0, 3)
    assert (numbers(2, 0, seed=1) @ numbers(0, 3, seed=1)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_bfloat16_at_its_limits():
    big = fs.full((20, 40), 3e38, dtype=fs.bfloat16)
    assert (big @ big.t()).isinf().all()
    nan = fs.zeros(40, 50, dtype=fs.bfloat16)
    nan[-1, -1] = float("nan")
    product = fs.zeros(30, 40, dtype=fs.bfloat16) @ nan
    assert product[:, -1].isnan().all()
    assert not product[:, :-1].any()


def test_threads_do_not_change_bfloat16():
    before = fs.get_num_threads()
    a, b = numbers(300, 1100, seed=1), numbers(1100, 500, seed=2)
    try:
        results = []
        for threads in (1, 2, 3):
            fs.set_num_threads(threads)
            results.append([(a @ b).tolist(), (a[:9] @ b.t().contiguous().t()).tolist()])
        assert results[0] == results[1] == results[2]
    finally:
        fs.set_num_threads(before)


@pytest.mark.skipif("FIRESTEEL_ISA" in os.environ, reason="is that run")
def test_bfloat16_that_is_widened():
    """The same on other processors, which have no instruction for it."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", __file__],
        env={**os.environ, "FIRESTEEL_ISA": "v4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout

"""Products of square matrices of float32."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [512, 1024])
def test_matmul(race, n, threads):
    def make(lib):
        lib.manual_seed(0)
        a, b = lib.rand(n, n), lib.rand(n, n)
        return lambda: a @ b

    race(make, threads, ratio=0.85)

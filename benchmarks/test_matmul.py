"""Products: square, transposed, batched and skinny ones, in three dtypes."""

from __future__ import annotations

from calls import both, forward, layer, layers_both_ways, typed
from report import Group

GROUP = Group("matmul", 1.05)
# What every product should reach, and square ones of float32 between these sizes at least.
LARGE = 0.85

PRODUCTS = {
    "A B": lambda lib, a, b: a @ b,
    "A Bt": lambda lib, a, b: a @ b.t(),
    "At B": lambda lib, a, b: a.t() @ b,
}


def _square(n: int, product: str = "A B", dtype: str = "float32"):
    return forward(PRODUCTS[product], typed(dtype, n, n), typed(dtype, n, n))


CASES = (
    {f"A B {n}": _square(n) for n in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)}
    | {f"{product} {n}": _square(n, product) for product in ("A Bt", "At B") for n in (64, 256, 1024)}
    | {f"A B {n}, float64": _square(n, dtype="float64") for n in (128, 512, 1024)}
    | {f"A B {n}, bfloat16": _square(n, dtype="bfloat16") for n in (128, 512, 1024, 2048)}
    | {
        f"{rows} rows, {product} 1024": forward(PRODUCTS[product], (rows, 1024), (1024, 1024))
        for rows in (1, 8, 32)
        for product in ("A B", "A Bt")
    }
    | {
        "A B 256, backward": both(PRODUCTS["A B"], (256, 256), (256, 256)),
        "matrix by vector 256": forward(PRODUCTS["A B"], (256, 256), (256,)),
        "matrix by vector 4096": forward(PRODUCTS["A B"], (4096, 4096), (4096,)),
        "vector by matrix 1024": forward(PRODUCTS["A B"], (1024,), (1024, 1024)),
        "dot 1e5": forward(PRODUCTS["A B"], (100_000,), (100_000,)),
        "bmm 48 of 64x32x64": forward(lambda lib, a, b: lib.bmm(a, b), (48, 64, 32), (48, 32, 64)),
        "bmm 16 of 128": forward(lambda lib, a, b: lib.bmm(a, b), (16, 128, 128), (16, 128, 128)),
        "bmm 256 of 16": forward(lambda lib, a, b: lib.bmm(a, b), (256, 16, 16), (256, 16, 16)),
        "q kt, 12 x 4 of 64x32": forward(
            lambda lib, q, k: q @ k.transpose(-2, -1), (12, 4, 64, 32), (12, 4, 64, 32)
        ),
        "batch by one matrix, 12x64x128": forward(PRODUCTS["A B"], (12, 64, 128), (128, 512)),
        "einsum bhqd,bhkd->bhqk": forward(
            lambda lib, q, k: lib.einsum("bhqd,bhkd->bhqk", q, k), (12, 4, 64, 32), (12, 4, 64, 32)
        ),
        "Linear(10, 1), batch 100": layer(lambda nn: nn.Linear(10, 1), (100, 10)),
    }
    | layers_both_ways(
        {
            "Linear(784, 256), batch 64": (lambda nn: nn.Linear(784, 256), (64, 784)),
            "Linear(784, 256), batch 512": (lambda nn: nn.Linear(784, 256), (512, 784)),
            "Linear(1024, 1024), batch 1": (lambda nn: nn.Linear(1024, 1024), (1, 1024)),
        }
    )
)


def test_race(race, case, threads):
    race(CASES[case], threads, ratio=LARGE if case in ("A B 512", "A B 1024") else 1.0)

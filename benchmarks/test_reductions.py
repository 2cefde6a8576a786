"""Sums, means, extremes: of everything, and over the first, a middle and the last dimension."""

from __future__ import annotations

from calls import both, forward
from report import Group

GROUP = Group("reductions", 2.5)

OPERATIONS = {
    "sum": lambda x, *dim: x.sum(*dim),
    "mean": lambda x, *dim: x.mean(*dim),
    "max": lambda x, *dim: x.max(*dim),
    "argmax": lambda x, *dim: x.argmax(*dim),
    "var": lambda x, *dim: x.var(*dim),
    "logsumexp": lambda x, *dim: x.logsumexp(dim or (0, 1)),
}
DIMS = {"all": (), "first": (0,), "last": (1,)}


def _over(name: str, *dim: int):
    return lambda lib, x: OPERATIONS[name](x, *dim)


def _values(compute):
    """Of operations that return the places, too, the values."""
    return lambda lib, x: compute(lib, x)[0]


CASES = (
    {
        f"{name} {where}, 1000x1000": forward(_over(name, *dim), (1000, 1000))
        for name in OPERATIONS
        for where, dim in DIMS.items()
    }
    | {f"{name} middle, 64x128x64": forward(_over(name, 1), (64, 128, 64)) for name in ("sum", "max", "var")}
    | {f"{name} all, 1000": forward(_over(name), (1000,)) for name in ("sum", "max", "var")}
    | {
        "sum all, 4096x4096": forward(_over("sum"), (4096, 4096)),
        "max first, 4096x4096": forward(_over("max", 0), (4096, 4096)),
        "argmax last, 4096x4096": forward(_over("argmax", 1), (4096, 4096)),
        "var last, 4096x4096": forward(_over("var", 1), (4096, 4096)),
        "norm all, 1e6": forward(lambda lib, x: x.norm(), (1_000_000,)),
        "any all, 1e6": forward(lambda lib, x: (x > 9).any(), (1_000_000,)),
        "sum first, 1e5x10": forward(_over("sum", 0), (100_000, 10)),
        "sum last, 1e5x10": forward(_over("sum", 1), (100_000, 10)),
        "sum of transposed last, 1000x1000": forward(lambda lib, x: x.t().sum(1), (1000, 1000)),
        "sum all, backward": both(_over("sum"), (1000, 1000)),
        "mean first, backward": both(_over("mean", 0), (1000, 1000)),
        "max last, backward": both(_values(_over("max", 1)), (1000, 1000)),
        "var last, backward": both(_over("var", 1), (1000, 1000)),
        "logsumexp last, backward": both(_over("logsumexp", 1), (1000, 1000)),
    }
)


def test_race(race, case, threads):
    race(CASES[case], threads)

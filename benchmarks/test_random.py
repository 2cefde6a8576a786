"""Random numbers and dropout."""

from __future__ import annotations

from calls import both, forward
from report import Group

GROUP = Group("random numbers", 2.0)

MILLION = (1_000_000,)

CASES = {
    "rand 1e3": forward(lambda lib: lib.rand(1_000)),
    "rand 1e6": forward(lambda lib: lib.rand(MILLION)),
    "randn 1e3": forward(lambda lib: lib.randn(1_000)),
    "randn 1e6": forward(lambda lib: lib.randn(MILLION)),
    "randn 1e7": forward(lambda lib: lib.randn(10_000_000)),
    "randint 1e6": forward(lambda lib: lib.randint(0, 1_000, MILLION)),
    "randperm 1e4": forward(lambda lib: lib.randperm(10_000)),
    "randperm 1e6": forward(lambda lib: lib.randperm(1_000_000)),
    "bernoulli 1e6": forward(lambda lib, p: lib.bernoulli(p), lambda lib: lib.rand(MILLION)),
    "uniform_ 1e6": forward(lambda lib, x: x.uniform_(-1, 1), MILLION),
    "normal_ 1e6": forward(lambda lib, x: x.normal_(0, 0.02), MILLION),
    "multinomial 128 of 1000": forward(lambda lib, p: lib.multinomial(p, 1), lambda lib: lib.rand(128, 1000)),
    "dropout 64x256": forward(lambda lib, x: lib.nn.functional.dropout(x, 0.5), (64, 256)),
    "dropout 1e6": forward(lambda lib, x: lib.nn.functional.dropout(x, 0.5), MILLION),
    "dropout 64x256, backward": both(lambda lib, x: lib.nn.functional.dropout(x, 0.5), (64, 256)),
    "dropout 1e6, backward": both(lambda lib, x: lib.nn.functional.dropout(x, 0.5), MILLION),
}


def test_race(race, case, threads):
    race(CASES[case], threads)

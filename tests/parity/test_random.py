"""The same seed gives PyTorch's numbers, bit for bit."""

import pytest

import firesteel
from tensors import assert_same, to_numpy

torch = pytest.importorskip("torch")

SIZES = [0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 100, 623, 624, 625, 1000, 4099]
SEEDS = [0, 1, 42, 2**31, 2**40 + 5]


def seeded(lib, function, seed):
    lib.manual_seed(seed)
    return function(lib)


def check(function, seed=3):
    """Fails unless `function(lib)` gives the same in both libraries from the same seed."""
    assert_same(seeded(firesteel, function, seed), seeded(torch, function, seed), compare="exact")


DRAWS = {
    "rand": lambda lib, n: lib.rand(n),
    "rand-float64": lambda lib, n: lib.rand(n, dtype=lib.float64),
    "randn": lambda lib, n: lib.randn(n),
    "randn-float64": lambda lib, n: lib.randn(n, dtype=lib.float64),
    "randint": lambda lib, n: lib.randint(0, 10, (n,)),
    "randint-wide": lambda lib, n: lib.randint(-(2**40), 2**40, (n,)),
    "randint-int32": lambda lib, n: lib.randint(100, (n,), dtype=lib.int32),
    "randperm": lambda lib, n: lib.randperm(n),
    "normal_": lambda lib, n: lib.empty(n).normal_(2.0, 0.5),
    "uniform_": lambda lib, n: lib.empty(n).uniform_(-3.0, 5.0),
    "uniform_-float64": lambda lib, n: lib.empty(n, dtype=lib.float64).uniform_(-3.0, 5.0),
    "bernoulli_": lambda lib, n: lib.empty(n).bernoulli_(0.3),
    "bernoulli": lambda lib, n: lib.bernoulli(lib.full((n,), 0.6)),
    "dropout": lambda lib, n: lib.nn.functional.dropout(lib.ones(n), 0.4),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("size", SIZES)
def test_draw(name, size):
    check(lambda lib: DRAWS[name](lib, size))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["rand", "randn", "randint", "randperm"])
def test_seed(name, seed):
    check(lambda lib: DRAWS[name](lib, 50), seed)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["rand", "randn"])
def test_half(name, dtype):
    for size in (5, 40):
        check(lambda lib, size=size: getattr(lib, name)(size, dtype=getattr(lib, dtype)))


@pytest.mark.parametrize("order", range(12))
def test_sequence(order):
    """Draws one after another, in shuffled orders: each leaves the stream where PyTorch's does."""
    import random

    picks = random.Random(order)
    names = picks.choices(list(DRAWS), k=10)
    sizes = picks.choices(SIZES[1:12], k=10)
    check(lambda lib: [DRAWS[name](lib, size) for name, size in zip(names, sizes, strict=True)])


def test_shapes_and_layout():
    check(lambda lib: lib.randn(3, 5, 7))
    check(lambda lib: lib.zeros(6, 8).t().normal_())
    check(lambda lib: lib.zeros(6, 8)[:, ::2].uniform_())


def test_generator():
    """A Generator has a stream of its own, and the global one does not move."""

    def draw(lib):
        own = lib.Generator().manual_seed(9)
        first = lib.rand(5, generator=own), lib.randn(20, generator=own), lib.randperm(6, generator=own)
        return (
            *first,
            lib.randint(0, 9, (4,), generator=own),
            lib.empty(3).normal_(generator=own),
            lib.rand(2),
        )

    check(draw)


def test_generator_seed_and_state():
    own = firesteel.Generator()
    own.manual_seed(4)
    assert own.initial_seed() == 4
    state = own.get_state()
    first = to_numpy(firesteel.rand(700, generator=own))
    own.set_state(state)
    assert (to_numpy(firesteel.rand(700, generator=own)) == first).all()


def test_global_state():
    firesteel.manual_seed(1)
    firesteel.randn(3)
    state = firesteel.get_rng_state()
    first = to_numpy(firesteel.randn(40))
    firesteel.set_rng_state(state)
    assert (to_numpy(firesteel.randn(40)) == first).all()
    assert firesteel.initial_seed() == 1

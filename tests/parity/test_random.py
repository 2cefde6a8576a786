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
    "bernoulli-bfloat16": lambda lib, n: lib.bernoulli(lib.full((n,), 0.6, dtype=lib.bfloat16)),
    "bernoulli-float16": lambda lib, n: lib.bernoulli(lib.full((n,), 0.3, dtype=lib.float16)),
    "bernoulli_-tensor": lambda lib, n: lib.zeros(n, dtype=lib.int64).bernoulli_(lib.full((n,), 0.5).half()),
    "random_-open": lambda lib, n: lib.zeros(n, dtype=lib.uint8).random_(2, None),
    "random_-open-float": lambda lib, n: lib.zeros(n).random_(-7, None),
    "dropout": lambda lib, n: lib.nn.functional.dropout(lib.ones(n), 0.4),
    "multinomial": lambda lib, n: lib.rand(n + 1).multinomial(1),
    "multinomial of rows": lambda lib, n: lib.multinomial(lib.rand(3, n + 5), 5),
    "multinomial of doubles": lambda lib, n: lib.rand(2, n + 5, dtype=lib.float64).t().multinomial(2),
    "multinomial of halves": lambda lib, n: (lib.rand(2, n + 5) + 0.1).half().multinomial(1),
    "multinomial with replacement": lambda lib, n: lib.multinomial(lib.rand(3, 7), n + 1, replacement=True),
    "multinomial with replacement of halves": lambda lib, n: lib.multinomial(
        lib.rand(n + 1).bfloat16(), 9, True
    ),
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


# Ranges whose ends not every float dtype has: there the range ends at a neighbour.
RANGES = [(0, 2), (-5, 5), (0, 1000), (0, 2049), (-3, 65504), (0, 2**31), (5, 2**40), (-(2**31), 2**31 - 1)]


@pytest.mark.filterwarnings("ignore:.*Due to precision limitations")
@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "int64", "int32", "uint8", "bool"]
)
@pytest.mark.parametrize(
    "low, high", [*RANGES, (0, 256), (0, 257), (-300, -299), (0, 65505), (2**62, 2**63 - 1)]
)
def test_integers_of_a_range(low, high, dtype):
    """The same numbers, or in both an error: no wrapped and no infinite values."""

    def draw(lib, function):
        lib.manual_seed(4)
        try:
            return function(lib, getattr(lib, dtype)).tolist()
        except RuntimeError as error:
            assert "is out of bounds for" in str(error)
            return "error"

    for function in (
        lambda lib, dtype: lib.randint(low, high, (9,), dtype=dtype),
        lambda lib, dtype: lib.zeros(9, dtype=dtype).random_(low, high),
        lambda lib, dtype: lib.randint_like(lib.zeros(9, dtype=dtype), low, high),
    ):
        assert draw(firesteel, function) == draw(torch, function)


LIMITS = [
    "-inf",
    "-1e308",
    "-3.39e38",
    "-3e38",
    "-60000",
    "-1",
    "0",
    "32752",
    "65504",
    "65505",
    "3e38",
    "1e39",
    "nan",
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_uniform_ranges_that_fit(dtype):
    for low in map(float, LIMITS):
        for high in map(float, LIMITS):
            outcome = []
            for lib in (firesteel, torch):
                lib.manual_seed(1)
                try:
                    outcome.append(lib.zeros(5, dtype=getattr(lib, dtype)).uniform_(low, high).tolist())
                except RuntimeError:
                    outcome.append("error")
            assert outcome[0] == outcome[1], (low, high)


@pytest.mark.parametrize(
    "dtype, most", [("uint8", 256), ("float16", 2049), ("bfloat16", 300), ("int32", 3000), ("float32", 3000)]
)
def test_permutations_that_fit(dtype, most):
    check(lambda lib: lib.randperm(most, dtype=getattr(lib, dtype)))
    if most in (256, 2049):
        for lib in (firesteel, torch):
            with pytest.raises(RuntimeError):
                lib.randperm(most + 1, dtype=getattr(lib, dtype))
    with pytest.raises(firesteel.DTypeError, match='randperm: "randperm" not implemented for'):
        firesteel.randperm(3, dtype=firesteel.bool)


VIEWS = {
    "transposed": lambda x: x.view(6, 20).t(),
    "permuted": lambda x: x.view(4, 5, 6).permute(2, 0, 1),
    "with gaps": lambda x: x.view(6, 20)[::2, ::3].t(),
    "a dim of one": lambda x: x.view(20, 1, 6).transpose(0, 2),
    "short": lambda x: x[:12].view(3, 4).t(),
}


@pytest.mark.parametrize("view", VIEWS)
def test_the_order_of_memory(view):
    """Tensors are filled in the order of memory, and `*_like` keeps the order of dims."""
    make = VIEWS[view]
    for like in (
        lambda lib, x: lib.rand_like(x),
        lambda lib, x: lib.randn_like(x),
        lambda lib, x: lib.randn_like(x, dtype=lib.float64),
        lambda lib, x: lib.randint_like(x, 100),
        lambda lib, x: lib.randn_like(x, memory_format=lib.contiguous_format),
        lambda lib, x: lib.bernoulli(x),
        lambda lib, x: x.bernoulli_(x * 0.5),
        lambda lib, x: lib.zeros(x.shape).bernoulli_(x),
        lambda lib, x: x.uniform_(),
        lambda lib, x: x.normal_(),
        lambda lib, x: x.random_(0, 50),
        lambda lib, x: x.exponential_(),
        lambda lib, x: x.bernoulli_(0.5),
    ):
        results = []
        for lib in (firesteel, torch):
            lib.manual_seed(2)
            result = like(lib, make(lib.rand(120)))
            results.append((result, [result.stride(d) for d, n in enumerate(result.shape) if n > 1]))
        (ours, strides), (theirs, expected) = results
        assert strides == expected
        assert_same(ours, theirs, compare="exact")


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: firesteel.randint(0, 300, (2,), dtype=firesteel.uint8),
            r"randint: to - 1 is out of bounds for uint8",
        ),
        (
            lambda: firesteel.randint(5, 5, (2,)),
            r"randint: expects 'from' to be less than 'to', but got from=5 >= to=5",
        ),
        (
            lambda: firesteel.zeros(2).uniform_(0.0, 1e39),
            r"uniform_: to is out of bounds for float32: to = 1e39; use",
        ),
        (lambda: firesteel.zeros(2).uniform_(2.0, 1.0), r"uniform_: expects .* from=2 > to=1; exchange them"),
        (
            lambda: firesteel.zeros(2).uniform_(-3e38, 3e38),
            r"uniform_: expects to-from <= .* use a smaller range",
        ),
        (
            lambda: firesteel.zeros(2).normal_(0.0, -1.0),
            r"normal_: expects std >= 0.0, but found std -1; use",
        ),
        (
            lambda: firesteel.zeros(2).exponential_(0.0),
            r"exponential_: expects lambda > 0.0, but found lambda=0; use",
        ),
        (
            lambda: firesteel.zeros(2).bernoulli_(1.5),
            r"bernoulli_: expects p to be in \[0, 1\], but got p=1.5; use",
        ),
        (
            lambda: firesteel.bernoulli(firesteel.full((2,), 1.5)),
            r"bernoulli: Expected .* but found 1.5; clamp them",
        ),
        (
            lambda: firesteel.randperm(300, dtype=firesteel.uint8),
            r"randperm: n - 1 is out of bounds for uint8: .* 299",
        ),
    ],
)
def test_what_errors_say(call, message):
    with pytest.raises(firesteel.ArgumentError, match=message):
        call()


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


SOURCES = {
    "bernoulli": lambda lib, a, b: lib.bernoulli(a),
    "bernoulli-method": lambda lib, a, b: a.bernoulli(),
    "normal-mean": lambda lib, a, b: lib.normal(a, 1.5),
    "normal-mean-alone": lambda lib, a, b: lib.normal(a),
    "normal-std": lambda lib, a, b: lib.normal(0.5, b),
    "normal-both": lambda lib, a, b: lib.normal(a, b),
}


@pytest.mark.parametrize("name", SOURCES)
def test_results_know_what_they_were_drawn_from(name):
    """They are recorded, and the gradients of what they were drawn from are zeros."""

    def draw(lib):
        sources = [lib.tensor([0.2, 0.5, 0.9], requires_grad=True) for _ in range(2)]
        out = SOURCES[name](lib, *sources)
        behind = [node is not None for node, _ in out.grad_fn.next_functions]
        grads = lib.autograd.grad(out.sum(), sources, allow_unused=True)
        return out.detach(), out.requires_grad, out.grad_fn.name(), behind, grads

    check(draw)


@pytest.mark.parametrize("asks", ["target", "source", "both"])
def test_bernoulli_in_place_knows_its_source(asks):
    def draw(lib):
        x = lib.zeros(3, requires_grad=asks != "source")
        p = lib.tensor([0.2, 0.5, 0.9], requires_grad=asks != "target")
        out = (x * 1).bernoulli_(p)
        wanted = [tensor for tensor in (x, p) if tensor.requires_grad]
        return out.detach(), lib.autograd.grad(out.sum(), wanted)

    check(draw)


def test_without_need_nothing_is_recorded():
    def draw(lib):
        p = lib.full((3,), 0.5, requires_grad=True)
        with lib.no_grad():
            silent = lib.bernoulli(p)
        return [out.requires_grad for out in (silent, lib.bernoulli(p.detach()), lib.normal(p.detach(), 1.0))]

    check(draw)


WEIGHTS = {
    "zeros": lambda lib: (lib.zeros(3), 2),
    "zeros, one": lambda lib: (lib.zeros(2, 3), 1),
    "a row of zeros": lambda lib: (lib.tensor([[1.0, 0.0], [0.0, 0.0]]), 2, True),
    "negative": lambda lib: (lib.tensor([1.0, -1.0]), 1),
    "negative, again": lambda lib: (lib.tensor([1.0, -1.0]), 2, True),
    "nan": lambda lib: (lib.tensor([1.0, lib.nan]), 2),
    "infinite": lambda lib: (lib.tensor([1.0, lib.inf]), 2, True),
    "too many": lambda lib: (lib.ones(3), 4),
    "none": lambda lib: (lib.ones(3), 0),
    "integers": lambda lib: (lib.ones(3, dtype=lib.int64), 1),
    "a number": lambda lib: (lib.tensor(1.0), 1),
    "three dims": lambda lib: (lib.ones(1, 1, 1), 1),
    "no classes": lambda lib: (lib.ones(3, 0), 1),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_nothing_can_be_drawn_by(name):
    with pytest.raises(RuntimeError):
        torch.multinomial(*WEIGHTS[name](torch))
    with pytest.raises(RuntimeError, match=r"^multinomial: .*; "):
        firesteel.multinomial(*WEIGHTS[name](firesteel))


def test_draws_of_classes_from_generators_and_into_tensors():
    def drawn(lib):
        own = lib.Generator()
        own.manual_seed(3)
        out = lib.zeros(2, 3, dtype=lib.int64)
        lib.multinomial(lib.rand(2, 6, generator=own), 3, generator=own, out=out)
        return out, lib.multinomial(lib.ones(0, 3), 2), lib.tensor([0.0, 2.0, 0.0]).multinomial(4, True)

    check(drawn)


def test_classes_come_as_often_as_they_weigh():
    firesteel.manual_seed(5)
    weights = firesteel.tensor([1.0, 0.0, 3.0, 4.0])
    again = firesteel.multinomial(weights, 8000, replacement=True)
    first = firesteel.multinomial(weights.expand(8000, 4), 1)
    for drawn in (again, first):
        counts = [int((drawn == k).sum()) for k in range(4)]
        assert counts == pytest.approx([1000, 0, 3000, 4000], abs=150)
        assert counts[1] == 0

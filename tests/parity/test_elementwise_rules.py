"""Rules that only show at the edges: numbers beside 16-bit floats and integers, infinite gradients, nan, empties."""

import math

import numpy as np
import pytest

import firesteel
from libraries import doubles
from tensors import assert_same

torch = pytest.importorskip("torch")

INF, NAN = math.inf, math.nan
LIBS = (firesteel, torch)
HALVES = ("float16", "bfloat16")


def same(function, what=""):
    """Both libraries give the same dtype, shape and values, nan included."""
    ours, theirs = function(firesteel), function(torch)
    if theirs is None:
        assert ours is None, what
        return
    assert str(ours.dtype).rpartition(".")[2] == str(theirs.dtype).rpartition(".")[2], what
    assert tuple(ours.shape) == tuple(theirs.shape), what
    np.testing.assert_array_equal(doubles(ours), doubles(theirs), err_msg=what)


def close(function, what="", **tolerance):
    np.testing.assert_allclose(
        doubles(function(firesteel)), doubles(function(torch)), err_msg=what, **tolerance
    )


def same_error(function, what=""):
    """Both raise, and ours is caught by an `except` for theirs."""
    with pytest.raises(Exception) as theirs:
        function(torch)
    with pytest.raises(theirs.type):
        function(firesteel)


def half_values(dtype, n=2048):
    """Random values of a 16-bit dtype, the same in both libraries; whole vectors, as PyTorch computes others so."""
    x = np.random.default_rng(3).uniform(-8, 8, n)
    return lambda lib: lib.tensor(x.tolist(), dtype=getattr(lib, dtype))


# Numbers beside 16-bit floats.

NUMBER_OPS = {
    "mul": lambda x, n: x * n,
    "rmul": lambda x, n: n * x,
    "div": lambda x, n: x / n,
    "rdiv": lambda x, n: n / x,
    "add": lambda x, n: x + n,
    "sub": lambda x, n: x - n,
    "rsub": lambda x, n: n - x,
    "floordiv": lambda x, n: x // n,
    "mod": lambda x, n: x % n,
    "alpha": lambda x, n: x.add(x, alpha=n),
    "lt": lambda x, n: x < n,
    "mul_": lambda x, n: x.clone().mul_(n),
    "add_": lambda x, n: x.clone().add_(n),
}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("op", NUMBER_OPS)
def test_numbers_beside_sixteen_bit_floats(op, dtype):
    x = half_values(dtype)
    for number in (0.1, 1.7, 3, 2049):
        same(lambda lib: NUMBER_OPS[op](x(lib), number), f"{op} {number}")


@pytest.mark.parametrize("dtype", HALVES)
def test_a_factor_that_the_dtype_cannot_hold(dtype):
    for x in ([0.5, 1e-3], 0.5):
        same(lambda lib: lib.tensor(x, dtype=getattr(lib, dtype)) * 65536.0)
        same(lambda lib: lib.tensor(x, dtype=getattr(lib, dtype)) / 1e5)
        same(lambda lib: lib.tensor(x, dtype=getattr(lib, dtype)) * 100000)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("other", ["float32", "float64", "int64"])
def test_zero_dim_operands_beside_sixteen_bit_floats(dtype, other):
    x = half_values(dtype)
    for op in ("add", "sub", "mul", "div", "maximum"):
        same(lambda lib: getattr(lib, op)(x(lib), lib.tensor(2049, dtype=getattr(lib, other)) / 1000), op)
        same(lambda lib: getattr(lib, op)(x(lib), lib.tensor(2049, dtype=getattr(lib, other))), op)


def test_the_mean_of_many_float16_has_a_gradient():
    def grad(lib):
        x = lib.ones(70_000, dtype=lib.float16, requires_grad=True)
        x.mean().backward()
        return x.grad

    same(grad)
    assert float(grad(firesteel)[0]) > 0


# Numbers beside integers.


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_integers_divided_by_numbers(dtype):
    for number in (-1, 300, 2**40, 0.5, True):
        same(lambda lib: lib.tensor([1, 5], dtype=getattr(lib, dtype)) / number, str(number))
        same(lambda lib: lib.tensor(5, dtype=getattr(lib, dtype)) / number, str(number))
        for op in (lambda x, n: x + n, lambda x, n: x * n, lambda x, n: x == n, lambda x, n: x < n):
            same(lambda lib: op(lib.tensor([1, 44], dtype=getattr(lib, dtype)), number), str(number))


def test_a_divisor_that_wraps_to_zero_is_no_crash():
    same_error(lambda lib: lib.tensor([5], dtype=lib.uint8) // 256)
    same_error(lambda lib: lib.tensor([5], dtype=lib.uint8) % 256)


FILLS = {
    "fill_": lambda lib, x, n: x.fill_(n),
    "full": lambda lib, x, n: lib.full((2,), n, dtype=x.dtype),
    "full_like": lambda lib, x, n: lib.full_like(x, n),
    "masked_fill": lambda lib, x, n: x.masked_fill(lib.tensor([True, False]), n),
    "clamp min": lambda lib, x, n: x.clamp(min=n),
    "clamp max": lambda lib, x, n: x.clamp(max=n),
    "where": lambda lib, x, n: lib.where(lib.tensor([True, False]), x, n),
    "tensor": lambda lib, x, n: lib.tensor([n], dtype=x.dtype),
    "setitem": lambda lib, x, n: (x.__setitem__(0, n), x)[1],
}


def outcome(lib, fill, dtype, number):
    try:
        return FILLS[fill](lib, lib.tensor([1, 2]).to(getattr(lib, dtype)), number).tolist()
    except RuntimeError:
        return "RuntimeError"


@pytest.mark.parametrize("fill", FILLS)
def test_numbers_that_do_not_fit(fill):
    for dtype in ("uint8", "int32", "int64", "bool", "float32"):
        for number in (300, -1, -255, -300, 2**40, 2.5, -2.5, 1e20, INF, -INF):
            if fill in ("clamp min", "clamp max", "where") and (dtype == "bool" or isinstance(number, float)):
                continue  # a float gives a float result
            ours, theirs = (outcome(lib, fill, dtype, number) for lib in LIBS)
            assert ours == theirs, f"{fill} {dtype} {number}"


def test_nan_into_integers():
    for fill in ("fill_", "full", "masked_fill", "tensor"):
        for dtype in ("uint8", "int64"):
            assert [outcome(lib, fill, dtype, NAN) for lib in LIBS] == ["RuntimeError"] * 2
        assert outcome(firesteel, fill, "bool", NAN) == outcome(torch, fill, "bool", NAN)


def test_the_error_names_operation_value_and_dtype():
    with pytest.raises(RuntimeError, match=r"fill_: value cannot be converted to type uint8.*300; use"):
        firesteel.zeros(2, dtype=firesteel.uint8).fill_(300)


def test_integers_beyond_64_bits():
    same_error(lambda lib: lib.ones(2).add(2**64))
    same_error(lambda lib: lib.ones(2).fill_(2**64))
    same_error(lambda lib: lib.tensor([2**64]))
    same_error(lambda lib: lib.full((2,), 2**70))
    same_error(lambda lib: lib.tensor([1], dtype=lib.uint8).pow(300))


# Gradients: nothing infinite is multiplied by a mask.

POISONED = {
    "relu": lambda lib, x: x.relu().sqrt(),
    "maximum": lambda lib, x: lib.maximum(x, lib.zeros(4)).sqrt(),
    "minimum": lambda lib, x: lib.minimum(x, lib.zeros(4)).abs().sqrt(),
    "floor": lambda lib, x: x.floor().clamp(min=0).sqrt(),
    "sign": lambda lib, x: (x.sign() - 1).abs().sqrt(),
    "trunc": lambda lib, x: (x / 10).trunc().sqrt(),
    "max": lambda lib, x: (x.max() - 4).sqrt(),
}


@pytest.mark.parametrize("op", POISONED)
def test_infinite_gradients_do_not_poison(op):
    def grad(lib):
        x = lib.tensor([-1.0, 0.5, 2.0, 4.0], requires_grad=True)
        POISONED[op](lib, x).sum().backward()
        return x.grad

    same(grad)


UNARY_AT_NAN = {
    "relu": lambda lib, x: x.relu(),
    "maximum": lambda lib, x: lib.maximum(x, lib.zeros(4)),
    "minimum": lambda lib, x: lib.minimum(lib.zeros(4), x),
    "max": lambda lib, x: x.max(),
    "amax": lambda lib, x: x.amax(0),
    "amin of rows": lambda lib, x: x.reshape(2, 2).amin(1),
    "clamp": lambda lib, x: x.clamp(-1, 1),
}


@pytest.mark.parametrize("op", UNARY_AT_NAN)
def test_gradients_at_nan(op):
    def grad(lib):
        x = lib.tensor([NAN, 0.5, -2.0, 0.0], requires_grad=True)
        out = UNARY_AT_NAN[op](lib, x)
        (out * lib.full(tuple(out.shape), 0.5)).sum().backward()
        return x.grad

    same(grad)


@pytest.mark.parametrize("op", ["relu", "tanh", "sigmoid"])
def test_second_derivatives(op):
    def second(lib):
        x = lib.tensor([-1.5, -0.3, 0.4, 2.0], dtype=lib.float64, requires_grad=True)
        (g,) = lib.autograd.grad(getattr(x, op)().sum(), x, create_graph=True)
        return lib.autograd.grad((g * g + g).sum(), x)[0]

    close(second, rtol=1e-12)


def test_third_derivatives_of_silu():
    def third(lib):
        x = lib.tensor([-1.5, -0.3, 0.4, 2.0], dtype=lib.float64, requires_grad=True)
        (g,) = lib.autograd.grad(lib.nn.functional.silu(x).sum(), x, create_graph=True)
        (h,) = lib.autograd.grad(g.sum(), x, create_graph=True)
        return lib.autograd.grad(h.sum(), x)[0]

    close(third, rtol=1e-10)


def test_second_derivative_of_a_power_at_zero():
    def second(lib):
        a = lib.tensor([-1.0, 2.0], dtype=lib.float64, requires_grad=True)
        b = lib.tensor([0.0, 0.0], dtype=lib.float64, requires_grad=True)
        (g,) = lib.autograd.grad((a**b).sum(), a, create_graph=True)
        return lib.autograd.grad((g * 0.35).sum(), a)[0]

    same(second)


OVERWRITES = {
    "zero_": lambda y: y.zero_(),
    "fill_": lambda y: y.fill_(2.0),
    "copy_": lambda y: y.copy_(y.detach() * 0 + 3),
    "setitem all": lambda y: y.__setitem__(slice(None), 2.0),
    "setitem one": lambda y: y.__setitem__(1, 2.0),
    "setitem ellipsis": lambda y: y.__setitem__(..., 2.0),
    "view": lambda y: y.reshape(3).fill_(2.0),
    "mask": lambda y: y.__setitem__(y.detach() > 0, 2.0),
}


@pytest.mark.parametrize("how", OVERWRITES)
def test_overwritten_values_have_a_gradient_of_zero(how):
    def grad(lib):
        x = lib.ones(3, requires_grad=True)
        y = x * 1
        OVERWRITES[how](y)
        y.sum().backward()
        return x.grad

    same(grad)


# Bool bytes other than 0 and 1.


def test_bool_bytes_of_others():
    def make(lib):
        return lib.from_numpy(np.array([2, 3, 255, 0], np.uint8).view(np.bool_))

    for use in (
        lambda lib, t: t.sum(),
        lambda lib, t: t.to(lib.int64),
        lambda lib, t: t.float(),
        lambda lib, t: t.half(),
        lambda lib, t: t == True,  # noqa: E712
        lambda lib, t: t & lib.ones(4, dtype=lib.bool),
        lambda lib, t: lib.where(t, lib.ones(4), lib.zeros(4)),
        lambda lib, t: t.nonzero(),
        lambda lib, t: t.all(),
        lambda lib, t: lib.ones(4).masked_fill(t, 2),
        lambda lib, t: lib.ones(4)[t],
        lambda lib, t: ~t,
        lambda lib, t: t.to(lib.uint8) + 1,
    ):
        same(lambda lib: use(lib, make(lib)))
    assert make(firesteel).tolist() == [True, True, True, False]


def test_uninitialised_bools():
    x = firesteel.full((4096,), 7, dtype=firesteel.uint8)
    del x
    assert int(firesteel.empty(4096, dtype=firesteel.bool).sum()) <= 4096


# Conversions.


def test_conversions_from_float64():
    x = np.random.default_rng(0).uniform(-2, 2, 20_000)
    for dtype in ("bfloat16", "float16", "float32"):
        same(lambda lib: lib.from_numpy(x).to(getattr(lib, dtype)), dtype)
    same(lambda lib: lib.tensor(0.4892579245195754, dtype=lib.bfloat16))


def test_conversions_of_every_sixteen_bit_float():
    bits = np.arange(65536, dtype=np.uint16)
    halves = bits.view(np.float16)
    same(lambda lib: lib.from_numpy(halves).float())
    same(lambda lib: lib.from_numpy(halves).double())
    single = (bits.astype(np.uint32) << 16).view(np.float32)
    for dtype in HALVES:
        same(lambda lib: lib.from_numpy(single).to(getattr(lib, dtype)), dtype)


def test_large_integers_are_rounded_once():
    same(lambda lib: lib.tensor([0x4000004000000001, 2**62 + 2**38 + 1, 9007199791611905]).float())
    same(lambda lib: lib.tensor([16777217, 2**53 + 1]) + 1.5)


@pytest.mark.parametrize("source", ["float16", "float32", "float64"])
@pytest.mark.parametrize("target", ["uint8", "int32", "int64", "bool"])
def test_floats_that_integers_cannot_hold(source, target):
    x = [3e9, -3e9, 1e20, NAN, INF, -INF, -1.5, 300.7, 0.0, 3000000001.0] * 5
    same(lambda lib: lib.tensor(x, dtype=getattr(lib, source)).to(getattr(lib, target)))


@pytest.mark.parametrize(
    "source", ["bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
)
def test_conversions_of_all_pairs_and_layouts(source):
    x = np.arange(-60, 60).reshape(6, 20)
    for target in ("bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64"):
        for layout in (lambda t: t, lambda t: t.t(), lambda t: t[:, ::3], lambda t: t[1:, 2:9]):
            same(
                lambda lib: layout(lib.from_numpy(x).to(getattr(lib, source))).to(getattr(lib, target)),
                target,
            )


# Extrema of nothing, of zeros; empty lists of dims.


@pytest.mark.parametrize("op", ["amax", "amin", "argmax", "argmin", "max", "min"])
def test_extrema_of_empties(op):
    def outcome(lib, shape, dim):
        try:
            out = getattr(lib.empty(*shape), op)(*dim)
            return tuple((out[0] if isinstance(out, tuple) else out).shape)
        except (IndexError, RuntimeError) as error:
            return IndexError if isinstance(error, IndexError) else RuntimeError

    for shape in ((0,), (0, 0), (0, 3), (3, 0), (2, 0, 3), (0, 0, 2)):
        for dim in ((), *((d,) for d in range(len(shape)))):
            ours, theirs = outcome(firesteel, shape, dim), outcome(torch, shape, dim)
            assert ours == theirs, f"{op} {shape} {dim}"


def test_the_extremum_is_the_element_at_the_index():
    for signs in ([0.0, -0.0], [-0.0, 0.0]):
        for op in ("max", "min"):
            ours = getattr(firesteel.tensor(signs * 40), op)(0)
            theirs = getattr(torch.tensor(signs * 40), op)(0)
            assert int(ours.indices) == int(theirs.indices)
            assert math.copysign(1, float(ours.values)) == math.copysign(1, float(theirs.values))


def test_any_and_all_over_no_dims():
    for op in ("any", "all"):
        for dim in ((), []):
            same(lambda lib: getattr(lib.tensor([[1.0, 0.0, 2.0]]), op)(dim=dim))
        same(lambda lib: getattr(lib.tensor([[1.0, 0.0, 2.0]]), op)())


# Bool where PyTorch refuses it, or gives another dtype.


@pytest.mark.parametrize("op", ["neg", "abs", "floor", "ceil", "round", "trunc", "relu"])
def test_refuses_bool(op):
    same_error(lambda lib: getattr(lib.tensor([True]), op)())


def test_bools_and_integers():
    same(lambda lib: lib.tensor([True, False]).square())
    same(lambda lib: lib.tensor([True, False]).sign())
    same_error(lambda lib: lib.nn.functional.silu(lib.tensor([1])))
    same_error(lambda lib: lib.arange(3, dtype=lib.bool))
    same_error(lambda lib: lib.linspace(0, 1, 3, dtype=lib.bool))
    same_error(lambda lib: lib.linspace(0, 1e30, 3, dtype=lib.int32))
    same_error(lambda lib: lib.linspace(NAN, 1, 3, dtype=lib.int32))
    same_error(lambda lib: lib.arange(0, 1, 0.1, dtype=lib.int64))
    same(lambda lib: lib.arange(0.5, 5.5, 1, dtype=lib.int64))


def test_dtype_errors_are_not_implemented_errors():
    same_error(lambda lib: lib.tensor([1.0]).bitwise_and(1))
    same_error(lambda lib: lib.tensor([1]).lerp(lib.tensor([1.0]), 0.5))
    assert issubclass(firesteel.DTypeError, (NotImplementedError, TypeError, RuntimeError))


# In place, and with operands of every layout.

IN_PLACE = {
    "add_ itself": lambda x, y: x.add_(x),
    "mul_ itself": lambda x, y: x.mul_(x),
    "add_ other": lambda x, y: x.add_(y),
    "sub_ row": lambda x, y: x.sub_(y[:1]),
    "mul_ column": lambda x, y: x.mul_(y[:, :1]),
    "div_ number": lambda x, y: x.div_(3),
    "sub_ strided": lambda x, y: x.sub_(y.t().contiguous().t()),
    "exp_": lambda x, y: x.exp_(),
    "relu_": lambda x, y: x.relu_(),
    "abs_ of a slice": lambda x, y: (x[:, 1::2].abs_(), x)[1],
    "add_ to a transpose": lambda x, y: (x.t().add_(y.t()), x)[1],
}


@pytest.mark.parametrize("how", IN_PLACE)
def test_in_place(how):
    x = np.random.default_rng(5).uniform(-3, 3, (33, 47))
    y = np.random.default_rng(6).uniform(-3, 3, (33, 47))

    def run(lib, dtype):
        a, b = (lib.tensor(v.tolist(), dtype=getattr(lib, dtype)) for v in (x, y))
        return IN_PLACE[how](a, b)

    for dtype in ("float32", "float64", "bfloat16", "float16"):
        close(lambda lib: run(lib, dtype), dtype, rtol=2e-2 if "16" in dtype else 1e-6, atol=1e-6)


def test_powers():
    x = np.abs(np.random.default_rng(7).normal(0, 4, 4000)).astype(np.float32)
    special = np.array([0, -0.0, 1, -1, INF, -INF, NAN, 2, -2, 0.5, -0.5, 1e-40, 3e38], np.float32)
    special = np.tile(special, 16)  # whole vectors: PyTorch computes what is left over in another way
    for exponent in (1.7, -0.3, 4.0, 5.5, -3.0, 0.25):
        # On some processors PyTorch does not round the exponent to float32, which tells at 1e-40.
        rounding = 100 * abs(float(np.float32(exponent)) - exponent)
        close(lambda lib: lib.from_numpy(x) ** exponent, str(exponent), rtol=3e-7 + rounding / 10)
        close(lambda lib: lib.from_numpy(special) ** exponent, str(exponent), rtol=3e-7 + rounding)
    a, b = (np.repeat(special[:13], 16 * 13), np.tile(special, 13))
    close(lambda lib: lib.from_numpy(a) ** lib.from_numpy(b), rtol=3e-7)


BROADCAST = {
    "row": ((300, 257), (257,)),
    "column": ((300, 257), (300, 1)),
    "both": ((300, 1), (1, 257)),
    "columns of matrices": ((7, 50, 129), (50, 1)),
    "rows of matrices": ((7, 50, 129), (7, 1, 129)),
    "long rows": ((3, 70_001), (3, 1)),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shapes", BROADCAST.values(), ids=BROADCAST)
def test_broadcast_over_rows(shapes, threads):
    """Sums and products are rounded once: the same bits, for parts of rows on either thread, too."""

    def call(lib):
        results = []
        for dtype in ("float32", "float64", "bfloat16", "float16"):
            a, b = (
                (lib.arange(float(np.prod(shape))) * 37 % 101 - 50).view(shape).to(getattr(lib, dtype)) / 7
                for shape in shapes
            )
            results += [a + b, b * a, a[..., 1:] * b[..., -1:], a[..., ::2] + b[..., :1], lib.maximum(b, a)]
            if a.shape == results[-1].shape:
                results.append(a.clone().mul_(b))
        return results

    before = firesteel.get_num_threads()
    firesteel.set_num_threads(threads)
    try:
        ours = call(firesteel)
    finally:
        firesteel.set_num_threads(before)
    for result, expected in zip(ours, call(torch), strict=True):
        assert_same(result, expected)


def test_gelu_at_infinity():
    x = firesteel.tensor([INF, -1e30, 1e30] * 8)
    assert firesteel.nn.functional.gelu(x).tolist() == [INF, 0.0, float(np.float32(1e30))] * 8


def test_remainders_are_exact():
    random = np.random.default_rng(8)
    # Quotients above 1e38 are left out: there PyTorch's vector form gives nan.
    a, b = (
        (random.normal(0, 1, 20_000) * 10.0 ** random.integers(-9, 9, 20_000)).astype(np.float32)
        for _ in range(2)
    )
    a[:100], b[:100] = random.integers(-5, 5, 100), random.integers(-5, 5, 100)
    for op in ("remainder", "fmod", "floor_divide"):
        same(lambda lib: getattr(lib, op)(lib.from_numpy(a), lib.from_numpy(b)), op)


def test_where_of_every_layout():
    x = np.random.default_rng(9).normal(size=(17, 19)).astype(np.float32)

    def run(lib, pick):
        t = lib.from_numpy(x)
        return pick(lib, t > 0, t)

    for pick in (
        lambda lib, c, t: lib.where(c, t, 0.0),
        lambda lib, c, t: lib.where(c, 1.5, t),
        lambda lib, c, t: lib.where(c, t, -t),
        lambda lib, c, t: lib.where(c.t(), t.t(), -t.t()),
        lambda lib, c, t: lib.where(c[:, ::2], t[:, ::2], t[:, 1::2].sum() + t[:, ::2]),
        lambda lib, c, t: lib.where(c[:1], t, t[:, :1]),
    ):
        close(lambda lib: run(lib, pick), rtol=1e-5, atol=1e-5)


def test_reductions_of_repeated_elements():
    x = np.random.default_rng(10).normal(size=(5, 1, 3)).astype(np.float64)

    def run(lib, dim, op):
        return getattr(lib.from_numpy(x).expand(5, 700, 3), op)(dim)

    for op in ("sum", "mean", "amax", "logsumexp"):
        for dim in (0, 1, 2, (0, 1), (1, 2), (0, 2), (0, 1, 2)):
            close(lambda lib: run(lib, dim, op), f"{op} {dim}", rtol=1e-12)
    close(lambda lib: lib.tensor(1.5).expand(10**6).sum(), rtol=1e-6)
    close(lambda lib: lib.tensor([1.5, 2.0]).expand(20, 2).prod(0), rtol=1e-6)
    same(lambda lib: lib.tensor([True, False]).expand(9, 2).count_nonzero(0))
    for width in (31, 5, 3):
        for height in (8, 9, 24, 100):
            y = np.arange(7.0 * height * width).reshape(7, height, width)
            close(lambda lib: lib.from_numpy(y).sum(1), rtol=1e-12)


def test_packed_fields_of_a_structured_array_are_refused():
    packed = np.zeros(3, dtype=[("flag", "u1"), ("value", "f4")])
    same_error(lambda lib: lib.from_numpy(packed["value"]))

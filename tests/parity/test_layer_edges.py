"""Layers, losses and picks where operands are empty, infinite or nan."""

import math

import numpy as np
import pytest

import firesteel
from libraries import doubles

torch = pytest.importorskip("torch")

INF, NAN = math.inf, math.nan
LIBS = (firesteel, torch)


def same(function, **tolerance):
    """Both libraries give the same shape and the same values, nan and the sign of 0 included."""
    ours, theirs = doubles(function(firesteel)), doubles(function(torch))
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, **{"rtol": 1e-6, "atol": 0, **tolerance})
    np.testing.assert_array_equal(np.signbit(ours[theirs == 0]), np.signbit(theirs[theirs == 0]))


def both_refuse(function, words=""):
    with pytest.raises(Exception) as theirs:
        function(torch)
    with pytest.raises(theirs.type, match=words):
        function(firesteel)


def gradient(loss, x, *others):
    """The gradient of `loss(lib, x, ...)` by its first operand."""

    def of(lib):
        first = lib.tensor(x, requires_grad=True)
        loss(lib, first, *(lib.tensor(other) for other in others)).sum().backward()
        return first.grad

    return of


def recorded_gradient(loss, x, *others):
    """The same when the backward pass is recorded."""

    def of(lib):
        first = lib.tensor(x, requires_grad=True)
        out = loss(lib, first, *(lib.tensor(other) for other in others)).sum()
        return lib.autograd.grad(out, first, create_graph=True)[0]

    return of


# Losses.

ROUNDED = {
    "smooth_l1": lambda lib, x, y: lib.nn.functional.smooth_l1_loss(x, y, reduction="none"),
    "smooth_l1 inf": lambda lib, x, y: lib.nn.functional.smooth_l1_loss(x, y, beta=INF, reduction="none"),
    "smooth_l1 wide": lambda lib, x, y: lib.nn.functional.smooth_l1_loss(x, y, beta=3.0, reduction="none"),
    "huber": lambda lib, x, y: lib.nn.functional.huber_loss(x, y, reduction="none"),
    "huber inf": lambda lib, x, y: lib.nn.functional.huber_loss(x, y, delta=INF, reduction="none"),
}


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("how", [gradient, recorded_gradient])
def test_rounded_losses_keep_nan_and_infinite_errors(name, how):
    x, y = [NAN, 1.0, INF, -INF, 0.5, -4.0, 0.0], [0.0, NAN, 0.0, 0.0, 0.0, 0.0, 1.0]
    same(how(ROUNDED[name], x, y))
    same(lambda lib: ROUNDED[name](lib, lib.tensor(x), lib.tensor(y)))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_positive_weights_of_infinite_logits(reduction):
    def loss(lib, x, y):
        weight = lib.tensor(2.0)
        return lib.nn.functional.binary_cross_entropy_with_logits(
            x, y, pos_weight=weight, reduction=reduction
        )

    same(lambda lib: loss(lib, lib.tensor([INF, 2.0]), lib.tensor([0.0, 1.0])))
    same(lambda lib: loss(lib, lib.tensor([INF, -INF, 3.0, -200.0]), lib.tensor([1.0, 0.0, 0.3, 0.7])))
    same(gradient(loss, [-2.0, 2.0, 0.5], [0.0, 1.0, 0.25]))


EMPTY_SUMS = {
    "mse": lambda lib, f: f.mse_loss(lib.zeros(0), lib.zeros(0), reduction="sum"),
    "binary": lambda lib, f: f.binary_cross_entropy(lib.zeros(0), lib.zeros(0), reduction="sum"),
    "cross_entropy": lambda lib, f: f.cross_entropy(
        lib.zeros(0, 3), lib.zeros(0, dtype=lib.int64), reduction="sum"
    ),
    "nll": lambda lib, f: f.nll_loss(lib.ones(2, 3), lib.full((2,), -100, dtype=lib.int64), reduction="sum"),
    "nll mean": lambda lib, f: f.nll_loss(lib.ones(2, 3), lib.full((2,), -100, dtype=lib.int64)),
}


@pytest.mark.parametrize("name", EMPTY_SUMS)
def test_sums_of_no_losses_are_positive_zeros(name):
    same(lambda lib: EMPTY_SUMS[name](lib, lib.nn.functional))


def test_the_bias_of_no_images_has_a_positive_zero_gradient():
    def grad(lib):
        bias = lib.zeros(2, requires_grad=True)
        lib.nn.functional.conv2d(lib.zeros(0, 3, 5, 5), lib.ones(2, 3, 3, 3), bias).sum().backward()
        return bias.grad

    same(grad)


# Convolutions and pools.


def test_convolutions_without_input_channels():
    # Sums of nothing, and the bias; PyTorch gives no output channels here.
    x, weight = firesteel.zeros(1, 0, 5, 5), firesteel.zeros(3, 0, 3, 3)
    out = firesteel.nn.functional.conv2d(x, weight)
    assert out.shape == (1, 3, 3, 3)
    assert not out.any()
    out = firesteel.nn.functional.conv2d(x, weight, firesteel.tensor([1.0, 2.0, 3.0]))
    assert out[0, :, 1, 1].tolist() == [1.0, 2.0, 3.0]
    out = firesteel.nn.functional.conv1d(firesteel.zeros(2, 0, 5), firesteel.zeros(3, 0, 3))
    assert out.shape == (2, 3, 3)


def test_gradients_of_a_convolution_without_input_channels():
    def grads(lib, wanted):
        operands = [lib.zeros(1, 0, 5, 5, requires_grad=True), lib.zeros(3, 0, 3, 3, requires_grad=True)]
        lib.nn.functional.conv2d(*operands).sum().backward()
        return operands[wanted].grad

    same(lambda lib: grads(lib, 0))
    same(lambda lib: grads(lib, 1))


@pytest.mark.parametrize("groups", [1, 2, 2**62])
def test_transposed_convolutions_need_input_channels(groups):
    def conv(lib):
        x, weight = lib.zeros(1, 0, 4, 4), lib.zeros(0, 4, 3, 3)
        return lib.nn.functional.conv_transpose2d(x, weight, groups=groups)

    both_refuse(conv, "at least")


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [((5, 2), (3, 5), (2, 2), (2, 3)), (3, 1, 2, 2), (3, 1, 1, 2)],
)
def test_padding_of_pools_with_dilation(kernel, stride, padding, dilation):
    x = np.random.default_rng(0).normal(size=(1, 2, 20, 20)).tolist()

    def pool(lib):
        return lib.nn.functional.max_pool2d(lib.tensor(x), kernel, stride, padding, dilation)

    if padding == 1:
        same(pool)
    else:
        both_refuse(pool, "half of kernel size")


# Picks.


def test_an_index_of_an_empty_dim_is_refused_beside_other_empty_dims():
    both_refuse(lambda lib: lib.zeros(0, 1, 0)[[0, 0]], "size 0; use an empty index")
    both_refuse(lambda lib: lib.zeros(0, 0)[[0]], "size 0")
    same(lambda lib: lib.zeros(2, 0)[[0, 7]])
    same(lambda lib: lib.zeros(0, 2)[[]])


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64"])
def test_an_empty_index_may_have_any_dtype(dtype):
    def index(lib):
        return lib.zeros(0, 4, dtype=getattr(lib, dtype))

    same(lambda lib: lib.ones(3, 4).gather(0, index(lib)))
    same(lambda lib: lib.ones(3, 4).scatter_add(0, index(lib), lib.ones(3, 4)))
    same(lambda lib: lib.ones(3, 4).scatter(0, index(lib), lib.ones(3, 4)))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_scattered_sums_of_all_floats(dtype):
    x = np.random.default_rng(1).normal(size=(7, 9))
    index = np.random.default_rng(2).integers(0, 7, size=(5, 9)).tolist()

    def made(lib):
        return lib.tensor(x.tolist(), dtype=getattr(lib, dtype))

    same(lambda lib: made(lib).scatter(0, lib.tensor(index), made(lib) * 2))
    # 16-bit sums are rounded once here.
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype != "float32" else {"rtol": 1e-6, "atol": 1e-6}
    same(lambda lib: made(lib).scatter_add(0, lib.tensor(index), made(lib)), **tolerance)
    same(lambda lib: made(lib).t().scatter_add_(1, lib.tensor(index).t(), made(lib).t()), **tolerance)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("columns", [1, 63, 200, 5000])
def test_wide_rows_are_put_in_order(accumulate, columns):
    rng = np.random.default_rng(columns)
    rows, picked = rng.normal(size=(6, columns)).tolist(), rng.integers(0, 6, size=40).tolist()
    given = rng.normal(size=(40, columns)).tolist()

    def put(lib):
        x = lib.tensor(rows)
        return x.index_put_((lib.tensor(picked),), lib.tensor(given), accumulate=accumulate)

    same(put)


# Element-wise.


@pytest.mark.parametrize("name", ["amax", "amin", "max", "min"])
def test_nan_shares_the_gradient_as_in_pytorch(name):
    same(gradient(lambda lib, x: getattr(x, name)(), [1.0, NAN]))
    same(gradient(lambda lib, x: getattr(x, name)(), [1.0, NAN, NAN, 2.0]))


def test_nan_shares_no_gradient_over_dims():
    same(gradient(lambda lib, x: x.amax(1), [[1.0, NAN], [2.0, 2.0]]))


@pytest.mark.parametrize("zeros", [[-0.0, 0.0], [0.0, -0.0], [-0.0, 0.0] * 40])
def test_the_first_of_two_zeros_is_the_extremum(zeros):
    same(lambda lib: lib.tensor(zeros).amax())
    same(lambda lib: lib.tensor(zeros).amin())


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_nan_is_the_extremum_of_two(name):
    same(lambda lib: getattr(lib, name)(lib.tensor([NAN, 1.0, NAN]), lib.tensor([1.0, NAN, NAN])))


@pytest.mark.parametrize("name", ["elu", "selu", "celu", "hardswish"])
def test_activations_keep_nan_in_gradients(name):
    # As PyTorch's vector loops; its loops over single elements lose it.
    x = firesteel.tensor([NAN, 1.0, -1.0, 0.0, 4.0, -4.0, 3.0, -3.0], requires_grad=True)
    getattr(firesteel.nn.functional, name)(x).backward(firesteel.ones(8))
    theirs = torch.tensor(x.tolist(), requires_grad=True)
    getattr(torch.nn.functional, name)(theirs).backward(torch.ones(8))
    assert math.isnan(x.grad[0].item())
    np.testing.assert_allclose(doubles(x.grad)[1:], doubles(theirs.grad)[1:], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_lerp_with_weights(dtype):
    def made(lib, *shape, seed):
        data = np.random.default_rng(seed).normal(size=shape).tolist()
        return lib.tensor(data, dtype=getattr(lib, dtype))

    def blended(lib):
        return lib.lerp(made(lib, 33, 70, seed=1), made(lib, 33, 70, seed=2), made(lib, 70, seed=3))

    def transposed(lib):
        return lib.lerp(made(lib, 9, 5, seed=1).t(), made(lib, 5, 9, seed=2), made(lib, 5, 1, seed=3))

    tolerance = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-12}[dtype]
    for function in (blended, transposed):
        same(function, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200, 1001])
def test_choices_of_any_length(length):
    rng = np.random.default_rng(length)
    x, y, mask = rng.normal(size=length).tolist(), rng.normal(size=length).tolist(), rng.random(length) < 0.5

    def choose(lib, dtype):
        a, b = (lib.tensor(numbers).mul(100).abs().to(getattr(lib, dtype)) for numbers in (x, y))
        return lib.where(lib.tensor(mask.tolist()), a, b)

    for dtype in ("float32", "float64", "int64", "int32", "uint8", "float16", "bool"):
        same(lambda lib, dtype=dtype: choose(lib, dtype).int())

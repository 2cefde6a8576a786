"""`autograd.grad` and `backward(inputs=)` compute what they are asked for, and that alone."""

import gc

import pytest

import firesteel
from libraries import both

MIB = 1 << 20
F = firesteel.nn.functional


def leaf(*shape):
    return firesteel.ones(shape, requires_grad=True)


# Each returns a loss, the small input that is asked for, and the large one (4 MiB) that is not.
def linear():
    x, w = leaf(1, 1024), leaf(1024, 1024)
    return F.linear(x, w).sum(), x, w


def linear_with_bias():
    x, w = leaf(1, 1024), leaf(1024, 1024)
    return F.linear(x, w, leaf(1024)).sum(), x, w


def matmul():
    x, w = leaf(1, 1024), leaf(1024, 1024)
    return (x @ w).sum(), x, w


def embedding():
    w, scale = leaf(1024, 1024), leaf(1)
    return (F.embedding(firesteel.tensor([3]), w) * scale).sum(), scale, w


def layer_norm():
    x, w = leaf(1024, 1024), leaf(1024)
    return F.layer_norm(x, (1024,), w).sum(), w, x


def grown(run):
    """Bytes that were in use at the peak of `run`, above those before."""
    gc.collect()
    firesteel.reset_peak_memory_stats()
    before = firesteel.memory_stats()["allocated_bytes"]
    kept = run()
    peak = firesteel.memory_stats()["peak_bytes"]
    del kept
    return peak - before


def by_grad(loss, wanted):
    return firesteel.autograd.grad(loss, wanted)


def by_inputs(loss, wanted):
    return loss.backward(inputs=wanted)


@pytest.mark.parametrize("ask", [by_grad, by_inputs])
@pytest.mark.parametrize(
    "make", [linear, linear_with_bias, matmul, embedding, layer_norm], ids=lambda make: make.__name__
)
def test_a_large_gradient_that_nobody_asks_for_is_not_made(make, ask):
    loss, small, large = make()
    alone = grown(lambda: ask(loss, [small]))
    loss, small, large = make()
    assert alone + 3 * MIB <= grown(lambda: ask(loss, [small, large]))


@both
def test_each_gradient_alone_is_its_part_of_all(lib):
    def make():
        lib.manual_seed(0)
        x = lib.randn(2, 3, dtype=lib.float64, requires_grad=True)
        w = lib.randn(4, 3, dtype=lib.float64, requires_grad=True)
        b = lib.randn(4, dtype=lib.float64, requires_grad=True)
        y = lib.nn.functional.linear(x, w, b)
        first, second = y.split(2, dim=1)
        z = lib.cat([first * second, lib.stack([first[0], second[1]])])
        return z.softmax(-1).log().sum() + (z * z).sum(), [x, w, b, first, second]

    loss, inputs = make()
    whole = lib.autograd.grad(loss, inputs)
    for i, expected in enumerate(whole):
        loss, inputs = make()
        (alone,) = lib.autograd.grad(loss, inputs[i])
        assert lib.equal(alone, expected)


@both
def test_a_hook_on_what_is_not_asked_for_is_silent(lib):
    x, w = lib.ones(2, requires_grad=True), lib.ones(2, requires_grad=True)
    seen = []
    w.register_hook(seen.append)
    lib.autograd.grad((x * w).sum(), x)
    assert not seen


@both
def test_second_derivatives_of_one_input_alone(lib):
    x = lib.tensor([0.3, -0.7], dtype=lib.float64, requires_grad=True)
    w = lib.tensor([1.5, 2.5], dtype=lib.float64, requires_grad=True)
    (g,) = lib.autograd.grad((x * w).tanh().sum(), x, create_graph=True)
    (gw,) = lib.autograd.grad(g.sum(), w, retain_graph=True)
    (gx,) = lib.autograd.grad(g.sum(), x, retain_graph=True)
    both_at_once = lib.autograd.grad(g.sum(), [x, w])
    assert lib.allclose(gx, both_at_once[0]) and lib.allclose(gw, both_at_once[1])


@both
def test_arguments_may_be_any_iterables(lib):
    x, w = lib.ones(2, requires_grad=True), lib.ones(2, requires_grad=True)
    outputs, starts = (y for y in (x * w, x * 2)), (g for g in (lib.ones(2), lib.ones(2) * 3))
    grads = lib.autograd.grad(outputs, (z for z in (x, w)), starts)
    assert [g.tolist() for g in grads] == [[7.0, 7.0], [1.0, 1.0]]
    lib.autograd.backward([x * w], (g for g in [lib.ones(2)]))
    assert x.grad.tolist() == [1.0, 1.0]


@both
def test_only_inputs_is_deprecated_and_ignored(lib):
    x = lib.ones(2, requires_grad=True)
    with pytest.warns(FutureWarning, match="only_inputs argument is deprecated and is ignored now"):
        (g,) = lib.autograd.grad((x * x).sum(), x, only_inputs=False)
    assert g.tolist() == [2.0, 2.0] and x.grad is None

"""Scaled dot-product attention beside PyTorch's: what the table of operations does not ask."""

import math

import numpy as np
import pytest

import firesteel as ft

torch = pytest.importorskip("torch")


def data(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def attention(lib, arrays, mask=None, **more):
    """The result and the gradients of query, key and value."""
    inputs = [lib.tensor(array, requires_grad=True) for array in arrays]
    mask = None if mask is None else lib.tensor(mask)
    out = lib.nn.functional.scaled_dot_product_attention(*inputs, attn_mask=mask, **more)
    out.backward(lib.tensor(data(*out.shape, seed=9, dtype=arrays[0].dtype)))
    return [out.detach(), *(x.grad for x in inputs)]


def assert_same(arrays, mask=None, tolerance=2e-5, **more):
    ours, theirs = (attention(lib, arrays, mask, **more) for lib in (ft, torch))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(
    "queries, keys",
    [(1, 1), (1, 70), (3, 300), (16, 16), (33, 40), (65, 64), (64, 129), (200, 300), (300, 90)],
)
@pytest.mark.parametrize("heads", [1, 20])
def test_lengths(heads, queries, keys, is_causal):
    """Panels, blocks and chunks of keys, whole and cut off, of few heads and of many."""
    arrays = [data(heads, queries, 16), data(heads, keys, 16, seed=1), data(heads, keys, 8, seed=2)]
    assert_same(arrays, is_causal=is_causal)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_queries_that_see_nothing_give_zeros(kind, dtype):
    mask = data(70, 150, seed=4) > 0
    mask[[0, 3, 69]] = False
    if kind == "float":
        mask = np.where(mask, 0.5, -np.inf).astype(dtype)
    arrays = [
        data(2, 70, 4, dtype=dtype),
        data(2, 150, 4, seed=1, dtype=dtype),
        data(2, 150, 4, seed=2, dtype=dtype),
    ]
    assert_same(arrays, mask)
    out, query, *_ = attention(ft, arrays, mask)
    assert not out[:, 3].any() and not query[:, 3].any()


@pytest.mark.parametrize(
    "shape", [(), (1,), (40,), (30, 1), (30, 40), (2, 1, 1, 40), (2, 1, 30, 40), (1, 3, 30, 40)]
)
def test_masks_are_broadcast(shape):
    """PyTorch's fused kernel wants two dims at least: three leading dims keep it out."""
    if len(shape) < 2:
        arrays = [data(3, 30, 4), data(3, 40, 4, seed=1), data(3, 40, 4, seed=2)]
    else:
        arrays = [data(2, 3, 30, 4), data(2, 3, 40, 4, seed=1), data(2, 3, 40, 4, seed=2)]
    assert_same(arrays, data(*shape, seed=3))
    assert_same(arrays, np.asarray(data(*shape, seed=3) > -1))


def test_a_mask_has_a_gradient():
    grads = []
    for lib in (ft, torch):
        q, k, v = (lib.tensor(data(2, 3, n, 4, seed=n)) for n in (5, 6, 6))
        mask = lib.tensor(data(5, 6), requires_grad=True)
        lib.nn.functional.scaled_dot_product_attention(q, k, v, mask).square().sum().backward()
        grads.append(mask.grad.numpy())
    np.testing.assert_allclose(*grads, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_dropout_drops_what_pytorch_drops(p):
    results = []
    for lib in (ft, torch):
        q, k, v = (lib.tensor(data(2, 3, n, 4, seed=n), requires_grad=True) for n in (5, 6, 6))
        lib.manual_seed(4)
        out = lib.nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=p)
        out.sum().backward()
        results.append([out.detach().numpy(), q.grad.numpy(), v.grad.numpy()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_results_lie_in_memory_as_queries_do():
    for lib in (ft, torch):
        q = lib.tensor(data(2, 7, 3, 4)).transpose(1, 2)
        out = lib.nn.functional.scaled_dot_product_attention(q, q, q)
        assert out.stride() == (84, 4, 12, 1)


@pytest.mark.parametrize("name", ["q", "k", "v", "mask", "out"])
def test_what_is_saved_must_not_change(name):
    """In PyTorch's fused kernel too."""
    for lib in (ft, torch):
        q, k, v = (lib.tensor(data(1, 2, 3, 4), requires_grad=True) * 1 for _ in range(3))
        mask = lib.zeros(3, 3)
        out = lib.nn.functional.scaled_dot_product_attention(q, k, v, mask)
        {"q": q, "k": k, "v": v, "mask": mask, "out": out}[name].detach().zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.sum().backward()


def test_only_gradients_that_are_asked_for():
    for wanted in range(3):
        grads = []
        for lib in (ft, torch):
            inputs = [lib.tensor(data(2, 2, 5, 4, seed=i), requires_grad=i == wanted) for i in range(3)]
            lib.nn.functional.scaled_dot_product_attention(*inputs).square().sum().backward()
            assert [x.grad is not None for x in inputs] == [i == wanted for i in range(3)]
            grads.append(inputs[wanted].grad.numpy())
        np.testing.assert_allclose(*grads, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_floats_are_computed_in_float32(dtype):
    arrays = [data(2, 3, 40, 8, seed=i) for i in range(3)]
    results = []
    for lib in (ft, torch):
        q, k, v = (lib.tensor(array).to(getattr(lib, dtype)).requires_grad_() for array in arrays)
        out = lib.nn.functional.scaled_dot_product_attention(q, k, v, lib.zeros(40, 40))
        out.backward(lib.ones_like(out))
        assert out.dtype == getattr(lib, dtype) and k.grad.dtype == getattr(lib, dtype)
        results.append([x.detach().to(lib.float32).numpy() for x in (out, q.grad, k.grad, v.grad)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.03)


def test_nan_and_infinity_are_passed_on():
    """PyTorch's fused kernel gives 0 for a query of nan; its formula gives nan, as here."""
    q, k, v = (ft.tensor(data(1, 1, 3, 4, seed=i)) for i in range(3))
    q[0, 0, 1] = math.nan
    out = ft.nn.functional.scaled_dot_product_attention(q, k, v)
    assert out[0, 0, 1].isnan().all() and out[0, 0, [0, 2]].isfinite().all()


def test_the_fused_operation_is_the_formula():
    """With a mask that wants a gradient the formula itself is computed: the choice changes nothing."""
    q, k, v = (ft.tensor(data(2, 3, n, 4, seed=n), requires_grad=True) for n in (70, 130, 130))
    mask = ft.tensor(data(70, 130) * 3)
    mask[5] = -math.inf
    results = []
    for wants in (False, True):
        out = ft.nn.functional.scaled_dot_product_attention(q, k, v, mask.clone().requires_grad_(wants))
        assert wants == ("FlashAttention" not in out.grad_fn.name())
        results.append([out.detach(), *ft.autograd.grad(out.square().sum(), (q, k, v))])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


def test_second_derivatives():
    grads = []
    for lib in (ft, torch):
        inputs = [lib.tensor(data(2, n, 4, seed=n, dtype="float64"), requires_grad=True) for n in (5, 6, 6)]
        out = lib.nn.functional.scaled_dot_product_attention(*inputs, is_causal=True)
        first = lib.autograd.grad(out.pow(3).sum(), inputs, create_graph=True)
        second = lib.autograd.grad(sum(x.square().sum() for x in first), inputs)
        grads.append([x.numpy() for x in second])
    for a, b in zip(*grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_arguments_after_the_sixth_are_named():
    for lib in (ft, torch):
        x = lib.ones(2, 3, 4)
        with pytest.raises(TypeError):
            lib.nn.functional.scaled_dot_product_attention(x, x, x, None, 0.0, False, 0.5)


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("shape", [(2, 3, 200, 32), (1, 1, 700, 16), (20, 1, 16, 8)])
def test_the_same_bits_on_any_number_of_threads(shape):
    arrays = [data(*shape, seed=i) for i in range(3)]
    results = []
    for threads in (1, 2, 5):
        ft.set_num_threads(threads)
        results.append([x.numpy().tobytes() for x in attention(ft, arrays, is_causal=True)])
    assert results[0] == results[1] == results[2]


@pytest.fixture
def restored_threads():
    """Gives the process its number of threads back after the test."""
    before = ft.get_num_threads()
    yield
    ft.set_num_threads(before)

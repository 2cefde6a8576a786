"""Results lie in memory as PyTorch's do, whatever the layout of the operand."""

import random

import pytest

import firesteel
from libraries import parity
from tensors import assert_same, torch

pytestmark = parity


def twisted(lib, seed):
    """A view of random strides: transposed, sliced, expanded."""
    rng = random.Random(seed)
    x = lib.arange(120).float().view(rng.choice([(2, 3, 4, 5), (4, 30), (120,), (2, 1, 60), (5, 1, 24)]))
    for _ in range(3):
        turn = rng.randrange(4)
        if turn == 0 and x.dim() > 1:
            a, b = rng.sample(range(x.dim()), 2)
            x = x.transpose(a, b)
        elif turn == 1:
            x = x.narrow(0, 0, max(1, x.shape[0] // 2))
        elif turn == 2:
            x = x[..., ::2]
        elif x.dim() < 5:
            x = x.unsqueeze(rng.randrange(x.dim() + 1))
            x = x.expand([2 if n == 1 and rng.random() < 0.5 else -1 for n in x.shape])
    return x


@pytest.mark.parametrize("seed", range(300))
def test_the_order_of_dims_is_kept(seed):
    ours, theirs = twisted(firesteel, seed), twisted(torch, seed)
    assert ours.stride() == theirs.stride()
    for call in (
        lambda x: x * 2,
        lambda x: x.exp(),
        lambda x: x.clone(),
        lambda x: x > 3,
        lambda x: x == x,
        lambda x: x > x.clone(),
        lambda x: x * x.contiguous(),
        lambda x: x.contiguous() - x,
        lambda x: x[:1] + x,
        lambda x: x[..., :1] < x,
        lambda x: x.sum() * x,
        lambda x: x.logical_and(x),
        lambda x: (x > 3) & (x < 9),
        lambda x: x.long() | x.long(),
        lambda x: x.flip(0),
    ):
        a, b = call(ours), call(theirs)
        assert a.tolist() == pytest.approx(b.tolist()) if a.dim() == 1 else a.shape == b.shape
        significant = [d for d, n in enumerate(b.shape) if n > 1]
        assert [a.stride(d) for d in significant] == [b.stride(d) for d in significant]


@pytest.mark.parametrize("seed", range(60))
def test_functions_like_another_keep_its_order(seed):
    ours, theirs = twisted(firesteel, seed), twisted(torch, seed)
    for call in (
        lambda lib, x: lib.empty_like(x),
        lambda lib, x: lib.zeros_like(x, dtype=lib.int64),
        lambda lib, x: lib.ones_like(x),
        lambda lib, x: lib.full_like(x, 2),
        lambda lib, x: lib.rand_like(x),
        lambda lib, x: lib.zeros_like(x, memory_format=lib.contiguous_format),
    ):
        a, b = call(firesteel, ours), call(torch, theirs)
        assert tuple(a.shape) == tuple(b.shape)
        significant = [d for d, n in enumerate(b.shape) if n > 1]
        assert [a.stride(d) for d in significant] == [b.stride(d) for d in significant]


ROW_MAJOR = {
    "masked_fill": lambda lib, x: x.masked_fill(x > 3, 0.0),
    "scatter": lambda lib, x: x.scatter(0, lib.tensor([[0, 1, 0]]), 1.0),
    "scatter_add": lambda lib, x: x.scatter_add(0, lib.tensor([[0, 1, 0]]), lib.ones(1, 3)),
    "index_add": lambda lib, x: x.index_add(0, lib.tensor([1]), lib.ones(1, 3)),
    "where": lambda lib, x: lib.where(lib.ones(4, 3, dtype=lib.bool), x, x),
    "where by a row": lambda lib, x: lib.where(lib.ones(3, dtype=lib.bool), x, x),
}


@pytest.mark.parametrize("call", ROW_MAJOR.values(), ids=ROW_MAJOR)
def test_results_from_a_transposed_tensor(call):
    ours, theirs = (call(lib, lib.arange(12.0).reshape(3, 4).t()) for lib in (firesteel, torch))
    assert_same(ours, theirs)
    assert ours.stride() == theirs.stride()

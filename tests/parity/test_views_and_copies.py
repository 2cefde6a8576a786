"""What is a view of its source, and what is memory of its own, whatever steps made it."""

import pytest

import firesteel
from libraries import both
from tensors import torch

MAKERS = {
    "repeat": lambda x: x.repeat(2, 1),
    "tile": lambda x: x.tile(2),
    "roll": lambda x: x.roll(1),
    "a reshape that copies": lambda x: x.t().reshape(-1),
    "a flatten that copies": lambda x: x.t().flatten(),
    "one index": lambda x: x[:, [0]],
    "an index after None": lambda x: x[None, [0]],
    "group_norm": lambda x: x[..., None].exp(),
    "max_pool1d": lambda x: x[:, None].relu(),
    "a slice": lambda x: x[:1],
    "a reshape": lambda x: x.reshape(-1),
    "a transposed": lambda x: x.t(),
}


def normed(lib):
    return lambda x: lib.nn.functional.group_norm(x, 1)


def pooled(lib):
    return lambda x: lib.nn.functional.max_pool1d(x, 2)


def makers(lib):
    return {**MAKERS, "group_norm": normed(lib), "max_pool1d": pooled(lib)}


@pytest.mark.skipif(torch is None, reason="compares with PyTorch")
@pytest.mark.parametrize(
    "name", [name for name in MAKERS if name != "max_pool1d"]
)  # there one where recorded
def test_what_is_a_view(name):
    results = [makers(lib)[name](lib.ones(2, 4, requires_grad=True) * 2) for lib in (firesteel, torch)]
    ours, theirs = ((x._is_view(), x._base is None, tuple(x.shape)) for x in results)
    assert ours == theirs


@both
@pytest.mark.parametrize("name", [name for name in MAKERS if not name.startswith("a slice")])
def test_what_is_no_view_is_free(lib, name):
    make = makers(lib)[name]
    x = lib.ones(2, 4, requires_grad=True)
    y = make(x * 2)
    if y._is_view():
        return
    y.mul_(3)
    assert y.grad_fn.name() == "MulBackward0"
    (grad,) = lib.autograd.grad(y.sum(), x)
    assert grad.shape == x.shape
    z = make(x * 2)
    z.detach_()
    with lib.no_grad():
        t = make(x * 2)
    t += x.sum()  # made unrecorded, written recorded
    assert not z.requires_grad and t.requires_grad


@both
def test_the_second_derivative_of_binary_cross_entropy_at_its_ends(lib):
    for p, t in ((1.0, 1.0), (0.0, 0.0)):
        x = lib.tensor([p, 0.25], requires_grad=True)
        loss = lib.nn.functional.binary_cross_entropy(x, lib.tensor([t, 1.0]))
        (first,) = lib.autograd.grad(loss, x, create_graph=True)
        (second,) = lib.autograd.grad(first.sum(), x)
        assert second[0].item() == 0 and second[1].item() == pytest.approx(8.0)

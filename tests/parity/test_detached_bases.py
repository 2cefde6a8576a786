"""A base that has lost its history: its views keep theirs until the base is written."""

from __future__ import annotations

import pytest

import firesteel
from libraries import both, leaf, parity, same_in_both

WRITES = {
    "mul_": lambda lib, base: base.mul_(2.0),
    "zero_": lambda lib, base: base.zero_(),
    "fill_": lambda lib, base: base.fill_(3.0),
    "setitem": lambda lib, base: base.__setitem__(0, 5.0),
    "elsewhere": lambda lib, base: base[2:].add_(1.0),
    "detached": lambda lib, base: base.detach().add_(1.0),
    "recorded": lambda lib, base: base.mul_(leaf(lib, 3.0, 4.0, 5.0, 6.0)),
}


def detached(lib):
    """A leaf, what was computed from it and lost its history, and a view that was taken before."""
    x = leaf(lib, 1.0, 2.0, 3.0, 4.0)
    base = x * 2
    view = base[:2]
    base.detach_()
    return x, base, view


@both
def test_until_then_the_view_keeps_its_history(lib):
    x, base, view = detached(lib)
    assert not base.requires_grad and view.requires_grad
    assert lib.autograd.grad(view.sum(), x)[0].tolist() == [2.0, 2.0, 0.0, 0.0]


@parity
@pytest.mark.parametrize("write", WRITES)
def test_a_write_ends_the_history_of_the_view(write):
    def run(lib):
        x, base, view = detached(lib)
        WRITES[write](lib, base)
        (grad,) = lib.autograd.grad(view.sum(), x, allow_unused=True)
        return view.requires_grad, view.is_leaf, view.grad_fn.name(), base.requires_grad, view.detach(), grad

    same_in_both(run)
    assert run(firesteel)[-1] is None


@parity
@pytest.mark.parametrize("write", WRITES)
def test_what_has_read_the_view_before_is_an_error(write):
    for lib in (firesteel, __import__("torch")):
        x, base, view = detached(lib)
        result = (view * view).sum()
        WRITES[write](lib, base)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            lib.autograd.grad(result, x)


@both
def test_a_base_that_asks_again_gets_the_gradient(lib):
    x, base, view = detached(lib)
    base.requires_grad_()
    assert lib.autograd.grad(view.sum(), (x, base), allow_unused=True)[1] is None
    with lib.no_grad():
        base.mul_(2.0)
    by_x, by_base = lib.autograd.grad(view.sum(), (x, base), allow_unused=True)
    assert by_x is None and by_base.tolist() == [1.0, 1.0, 0.0, 0.0]


@both
def test_a_leaf_that_no_longer_asks(lib):
    x = leaf(lib, 1.0, 2.0, 3.0)
    view = x[:2]
    x.requires_grad_(False)
    before = (view * view).sum()
    x.add_(1.0)
    assert view.requires_grad and not view.is_leaf
    view.sum().backward()
    assert x.grad is None
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        before.backward()


@both
def test_a_view_without_history_stays_without(lib):
    base = lib.ones(3)
    view = base[:2]
    base.detach_()
    base.add_(1.0)
    assert not view.requires_grad and view.is_leaf


@both
def test_a_view_that_asks_for_itself_goes_on_asking(lib):
    base = leaf(lib, 1.0, 2.0, 3.0)
    base.requires_grad_(False)
    view = base[:2]
    view.requires_grad_()
    base.add_(1.0)
    assert view.requires_grad and view.is_leaf
    view.sum().backward()
    assert view.grad.tolist() == [1.0, 1.0]

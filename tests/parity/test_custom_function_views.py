"""Results of an `autograd.Function` that share memory: with its input, or with each other."""

import re
import warnings

import pytest

import firesteel
from libraries import both

WRITTEN = r"Output \d of \w+ is a view( \(shape \[[\d, ]+\]\))? and is being modified inplace"
STALE = (
    r"Output \d of \w+ is a view( \(shape \[[\d, ]+\]\))? and its base or another view of its base has been"
)


def tenfold(lib, forward):
    """A function whose gradient, whatever it computes, is ten times what arrived at its first result."""

    def backward(ctx, grad, *_):
        return lib.ones(3) * 10 * grad.sum() / grad.numel()

    body = {"forward": staticmethod(lambda ctx, x: forward(x)), "backward": staticmethod(backward)}
    return type("Tenfold", (lib.autograd.Function,), body)


def itself(x):
    return x


def view(x):
    return x.view_as(x)


def part(x):
    return (x * 2)[:2]


def whole_and_part(x):
    y = x.clone()
    return y, y[:1]


def two_parts(x):
    y = x.clone()
    return y[:2], y[1:]


def start(lib):
    """A leaf, and a tensor computed from it."""
    w = lib.ones(3, requires_grad=True)
    return w, w * 1


@both
@pytest.mark.parametrize("forward", [itself, view], ids=lambda f: f.__name__)
def test_such_a_result_cannot_be_written(lib, forward):
    for write in (
        lambda y: y.mul_(2),
        lambda y: y.__setitem__(0, 5.0),
        lambda y: y.view(-1, 1).mul_(2),
        lambda y: y.unsqueeze_(0),
    ):
        _, h = start(lib)
        y = tenfold(lib, forward).apply(h)
        before = y.tolist()
        with pytest.raises(RuntimeError, match=WRITTEN):
            write(y)
        assert y.tolist() == before and y.shape == tenfold(lib, forward).apply(h).shape


@both
@pytest.mark.parametrize("forward", [itself, view], ids=lambda f: f.__name__)
def test_such_a_result_cannot_be_used_once_its_base_was_written(lib, forward):
    for use in (
        lambda y: y * 2,
        lambda y: y.view(3, 1),
        lambda y: y.sum().backward(),
        lambda y: y.grad_fn,
        lambda y: y.register_hook(lambda g: g),
        lambda y: y.retain_grad(),
        lambda y: lib.stack([y, y]),
        lambda y: lib.ones(3).add_(y),
        lambda y: tenfold(lib, itself).apply(y),
        lambda y: lib.autograd.backward(y, lib.ones(3)),
        lambda y: lib.autograd.grad(lib.ones(3, requires_grad=True).sum(), y),
    ):
        _, h = start(lib)
        y = tenfold(lib, forward).apply(h)
        z = y.view(3, 1)
        h.mul_(2)
        with pytest.raises(RuntimeError, match=STALE):
            use(y)
        with pytest.raises(RuntimeError, match=STALE):
            z.sum()
        assert y.detach().tolist() == [2.0] * 3
        assert repr(y) == "tensor([2., 2., 2.], grad_fn=<Invalid>)"


@both
def test_a_write_under_no_grad_counts_too(lib):
    w, h = start(lib)
    y = tenfold(lib, itself).apply(h)
    with lib.no_grad():
        y.mul_(2)
    with pytest.raises(RuntimeError, match=STALE):
        y.sum()
    y = tenfold(lib, itself).apply(w)
    with lib.no_grad():
        w.mul_(2)
    with pytest.raises(RuntimeError, match=STALE):
        y.sum()


@both
def test_results_that_share_memory_with_each_other(lib):
    w, h = start(lib)
    whole, part = tenfold(lib, whole_and_part).apply(h)
    with pytest.raises(RuntimeError, match=WRITTEN):
        part.mul_(3)
    whole.mul_(3)
    with pytest.raises(RuntimeError, match=STALE):
        part.sum()
    (grad,) = lib.autograd.grad(whole.sum(), w)
    assert grad.tolist() == [30.0] * 3

    for result in tenfold(lib, two_parts).apply(start(lib)[1]):
        with pytest.raises(RuntimeError, match=WRITTEN):
            result.mul_(3)


@both
@pytest.mark.parametrize("forward", [itself, view, part], ids=lambda f: f.__name__)
def test_a_clone_of_it_is_free(lib, forward):
    w, h = start(lib)
    y = tenfold(lib, forward).apply(h).clone()
    y.mul_(3)
    h.mul_(2)
    (grad,) = lib.autograd.grad(y.sum(), w)
    assert grad.tolist() == [30.0] * 3


@pytest.mark.parametrize("make", [part, lambda x: (x.repeat(2) * 2)[:3].view(3, 1)], ids=["part", "view"])
def test_a_view_of_memory_that_nobody_else_holds_can_be_written(make):
    """PyTorch refuses some of them."""
    w, h = start(firesteel)
    y = tenfold(firesteel, make).apply(h)
    y.mul_(3)
    h.mul_(2)
    y.unsqueeze_(0)
    (grad,) = firesteel.autograd.grad(y.sum(), w)
    assert grad.tolist() == [30.0] * 3


@both
def test_results_of_operations_that_make_views_inside(lib):
    for make in (lambda x: x.repeat(2), lambda x: x.tile(2)):
        w, h = start(lib)
        y = tenfold(lib, make).apply(h)
        y.add_(1)
        (grad,) = lib.autograd.grad(y.sum(), w)
        assert grad.tolist() == [10.0] * 3


@both
def test_a_gradient_that_a_rule_handed_on_can_be_written(lib):
    class Same(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, grad):
            return grad

    class Calls(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            return Same.apply(grad * 2)

    x = lib.ones(2, requires_grad=True)
    loss = (Calls.apply(x) ** 2).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cycles
        loss.backward(create_graph=True)
    assert x.grad.grad_fn is not None
    x.grad.mul_(2)
    lib.nn.utils.clip_grad_norm_([x], 1.0)
    assert x.grad.sum().item() == pytest.approx(2**0.5)
    loss = (Calls.apply(x) ** 2).sum()
    loss.backward()
    assert (x.grad * 2).requires_grad


@both
def test_a_write_to_what_is_not_differentiable_counts(lib):
    class Clears(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x.detach().numpy()[:] = 0
            ctx.mark_dirty(x)
            ctx.mark_non_differentiable(x)
            return x

        @staticmethod
        def backward(ctx, grad):
            raise AssertionError

    _, h = start(lib)
    y = h.sin()
    Clears.apply(h)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@both
def test_the_text_names_the_result_and_the_way_out(lib):
    _, h = start(lib)
    y = tenfold(lib, itself).apply(h)
    with pytest.raises(RuntimeError, match=re.escape("cloning the output of the custom Function")):
        y.mul_(2)
    if lib is firesteel:
        with pytest.raises(RuntimeError, match=re.escape("Output 0 of Tenfold is a view (shape [3])")):
            y.mul_(2)


@both
def test_what_is_marked_as_not_differentiable_has_no_history(lib):
    class Marks(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x, write):
            if write:
                x.mul_(2)
                ctx.mark_dirty(x)
            ctx.mark_non_differentiable(x)
            return x

        @staticmethod
        def backward(ctx, grad):
            raise AssertionError

    for write in (False, True):
        _, h = start(lib)
        y = Marks.apply(h, write)
        assert y is not h and not y.requires_grad and y.is_leaf and y.grad_fn is None
        assert h.requires_grad and y.tolist() == [2.0 if write else 1.0] * 3


@both
def test_a_saved_result_that_is_not_differentiable_is_a_constant(lib):
    class Square(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y, factor = x * x, x * 2
            ctx.mark_non_differentiable(factor)
            ctx.save_for_backward(x, factor)
            return y, factor

        @staticmethod
        def backward(ctx, grad, _):
            x, factor = ctx.saved_tensors
            assert not factor.requires_grad
            return grad * (x + factor / 2)

    x = lib.tensor(3.0, requires_grad=True)
    (first,) = lib.autograd.grad(Square.apply(x)[0], x, create_graph=True)
    (second,) = lib.autograd.grad(first, x)
    assert first.item() == 6.0 and second.item() == 1.0

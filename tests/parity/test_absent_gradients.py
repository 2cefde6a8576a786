"""Rules that give None: nodes behind them have their turn all the same, and their hooks are told of it."""

from __future__ import annotations

import pytest

import firesteel
from libraries import both, leaf, parity, same_in_both


def functions(lib):
    """Custom functions: one that has a gradient for its second input alone, and one that has none at all."""

    class Second(lib.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            return a * 1 + b

        @staticmethod
        def backward(ctx, grad):
            return None, grad

    class Nothing(lib.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return a * 1

        @staticmethod
        def backward(ctx, grad):
            return None

    return Second, Nothing


def accumulator(x):
    """The node at which the gradient of a leaf arrives."""
    return x.view_as(x).grad_fn.next_functions[0][0]


def lists(grads):
    return [None if grad is None else grad.tolist() for grad in grads]


@both
@pytest.mark.parametrize("kind", ["register_hook", "register_prehook"])
def test_node_hooks_see_none(lib, kind):
    _, nothing = functions(lib)
    x, calls = leaf(lib), []
    y = x * 2
    z = y.exp()
    for name, node in (("x", accumulator(x)), ("y", y.grad_fn), ("z", z.grad_fn)):
        getattr(node, kind)(lambda *grads, name=name: calls.append((name, [lists(g) for g in grads])))
    nothing.apply(z).sum().backward()
    if kind == "register_hook":
        assert calls == [("z", [[None], [None]]), ("y", [[None, None], [None]]), ("x", [[], [None]])]
    else:
        assert calls == [("z", [[None]]), ("y", [[None]]), ("x", [[None]])]
    assert x.grad is None


@both
def test_hooks_of_tensors_and_leaves_see_none(lib):
    _, nothing = functions(lib)
    x, calls = leaf(lib), []
    y = x * 2
    y.register_hook(lambda grad: calls.append(("y", grad)))
    y.retain_grad()
    x.register_hook(lambda grad: calls.append(("x", grad)))
    x.register_post_accumulate_grad_hook(lambda leaf: calls.append(("added", leaf is x, leaf.grad)))
    nothing.apply(y).sum().backward()
    assert calls == [("y", None), ("x", None), ("added", True, None)]
    assert x.grad is None and y.grad is None


@both
def test_a_gradient_that_meets_none_is_what_hooks_see(lib):
    _, nothing = functions(lib)
    x, calls = leaf(lib), []
    node = accumulator(x)
    node.register_prehook(lambda grads: calls.append(lists(grads)))
    x.register_hook(lambda grad: calls.append(grad.tolist()))
    (nothing.apply(x).sum() + x.sum()).backward()
    assert calls == [[1.0] * 3, [[1.0] * 3]]
    assert x.grad.tolist() == [1.0] * 3


@both
@pytest.mark.parametrize("place", ["tensor", "node", "leaf"])
def test_none_cannot_be_replaced(lib, place):
    _, nothing = functions(lib)
    x = leaf(lib)
    y = x * 2
    if place == "tensor":
        y.register_hook(lambda grad: lib.ones(3))
    elif place == "node":
        y.grad_fn.register_prehook(lambda grads: (lib.ones(3),))
    else:
        accumulator(x).register_prehook(lambda grads: (lib.ones(3),))
    with pytest.raises(RuntimeError, match="can't replace a None gradient with a non-None value"):
        nothing.apply(y).sum().backward()
    assert x.grad is None


def test_the_error_says_what_to_return():
    _, nothing = functions(firesteel)
    x = leaf(firesteel)
    x.register_hook(lambda grad: firesteel.ones(2))
    with pytest.raises(
        firesteel.AutogradError,
        match=r"hook '<lambda>': can't replace a None gradient with a non-None value \(of shape \[2\]\); "
        "return None where None is given",
    ):
        nothing.apply(x).sum().backward()


@both
@pytest.mark.parametrize("leaves", [False, True])
def test_a_hook_on_all_gradients_gets_none_for_one(lib, leaves):
    second, nothing = functions(lib)
    x, y, calls = leaf(lib), leaf(lib), []
    a, b = (x, y) if leaves else (x * 2, y * 2)
    lib.autograd.graph.register_multi_grad_hook((a, b), lambda grads: calls.append(lists(grads)))
    second.apply(a, b).sum().backward()
    assert calls == [[None, [1.0] * 3]]
    c, d = (x, y) if leaves else (x * 2, y * 2)
    lib.autograd.graph.register_multi_grad_hook((c, d), lambda grads: calls.append(lists(grads)))
    (nothing.apply(c) + nothing.apply(d)).sum().backward()
    assert calls[-1] == [None, None]


@both
def test_a_hook_on_any_gradient_may_get_none(lib):
    _, nothing = functions(lib)
    a, calls = leaf(lib) * 2, []
    lib.autograd.graph.register_multi_grad_hook((a,), calls.append, mode="any")
    nothing.apply(a).sum().backward()
    assert calls == [None]


@both
@pytest.mark.parametrize("materialize", [False, True])
def test_a_custom_function_behind_none(lib, materialize):
    _, nothing = functions(lib)
    seen = []

    class Double(lib.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.set_materialize_grads(materialize)
            return a * 2

        @staticmethod
        def backward(ctx, grad):
            seen.append(grad if grad is None else grad.tolist())
            return grad

    x = leaf(lib)
    nothing.apply(Double.apply(x)).sum().backward()
    assert seen == [[0.0] * 3 if materialize else None]
    assert (x.grad.tolist() == [0.0] * 3) if materialize else x.grad is None


@both
def test_a_pass_frees_what_lies_behind_none(lib):
    _, nothing = functions(lib)
    x = leaf(lib)
    y = x.exp()
    nothing.apply(y).sum().backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.sum().backward()


@parity
def test_of_a_node_with_several_outputs_every_hook_is_told():
    def run(lib):
        a, b = leaf(lib, 1.0, 2.0).unbind(0)
        calls = []
        a.register_hook(lambda grad: calls.append(("a", None if grad is None else grad.item())))
        b.register_hook(lambda grad: calls.append(("b", None if grad is None else grad.item())))
        b.backward()
        return str(calls)

    assert run(firesteel) == run(__import__("torch"))


@parity
def test_the_zero_norm_has_no_gradient():
    def run(lib):
        x = leaf(lib)
        return lib.autograd.grad(x.norm(0), x, allow_unused=True)[0] is None

    same_in_both(run)
    assert run(firesteel)

"""Hooks whose functions name what they hang on: cycles that the garbage collector ends, and must not end early."""

import gc
import weakref

import pytest

import firesteel
from libraries import both
from tensors import torch


def leaf(lib):
    x = lib.ones(2, requires_grad=True)
    x.register_hook(lambda grad: grad * x.numel())
    return x


def used_leaf(lib):
    x = leaf(lib)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [4, 4]
    return x


def parameter(lib):
    x = lib.nn.Parameter(lib.ones(2))
    x.register_hook(lambda grad: grad * x.numel())
    (x * 2).sum().backward()
    return x


def result(lib):
    y = lib.ones(2, requires_grad=True) * 2
    y.register_hook(lambda grad: grad * y.numel())
    return y


def used_result(lib):
    y = lib.ones(2, requires_grad=True) * 2
    y.retain_grad()
    y.register_hook(lambda grad: grad * y.numel())
    y.sum().backward()
    assert y.grad.tolist() == [2, 2]
    return y


def leaf_with_new_data(lib):
    x = leaf(lib)
    x.data = lib.zeros(2)
    return x


def two_leaves(lib):
    x, y = lib.ones(2, requires_grad=True), lib.ones(2, requires_grad=True)
    x.register_hook(lambda grad: grad * y.numel())
    y.register_hook(lambda grad: grad * x.numel())
    return x


def with_its_handle(lib):
    x = lib.ones(2, requires_grad=True)
    handle = x.register_hook(lambda grad: (x, handle) and None)
    return x


@both
@pytest.mark.parametrize(
    "make",
    [leaf, used_leaf, parameter, result, used_result, leaf_with_new_data, two_leaves, with_its_handle],
    ids=lambda make: make.__name__,
)
def test_a_tensor_whose_hook_names_it_is_collected(lib, make):
    if lib is torch and make in (result, used_result):
        pytest.skip("PyTorch keeps them")
    gone = weakref.ref(make(lib))
    gc.collect()
    assert gone() is None


def test_a_node_whose_hook_names_it_is_collected():
    class Marker:
        pass

    def make():
        y = firesteel.ones(2, requires_grad=True) * 2
        node, marker = y.grad_fn, Marker()
        y.register_hook(lambda grad: (node, marker) and None)
        return weakref.ref(marker)

    gone = make()
    gc.collect()
    assert gone() is None


@both
@pytest.mark.parametrize("is_leaf", [True, False])
def test_hooks_live_as_long_as_a_graph_leads_to_them(lib, is_leaf):
    """The Python object of the tensor is garbage but for its own hook; the graph still calls that."""
    seen = []

    def make():
        x = lib.ones(2, requires_grad=True)
        y = x if is_leaf else x * 2
        y.register_hook(lambda grad: seen.append((grad.tolist(), y.tolist())))
        return (y * 3).sum()

    loss = make()
    for _ in range(3):
        gc.collect()
    loss.backward(retain_graph=True)
    gc.collect()
    loss.backward()
    assert len(seen) == 2 and all(grad == [3, 3] for grad, _ in seen)


@both
def test_a_hook_lives_as_long_as_a_view_of_its_tensor(lib):
    seen = []

    def make():
        x = lib.ones(2, requires_grad=True)
        x.register_hook(lambda grad: seen.append(x.shape))
        return x[0]

    view = make()
    gc.collect()
    view.backward()
    gc.collect()
    assert seen == [(2,)]


@both
def test_collections_between_nodes_leave_the_hooks_alone(lib):
    seen = []
    x = lib.ones(2, requires_grad=True)

    def run():
        z = x
        for i in range(5):
            z = z * 2

            def hook(grad, i=i, z=z):
                gc.collect()
                seen.append(i)

            z.register_hook(hook)
        z.sum().backward()

    run()
    assert seen == [4, 3, 2, 1, 0]
    gc.collect()
    assert x.grad.tolist() == [32, 32]


class Holder:
    """Something that a graph and its results may hold each other through."""


def hooked_inside(holder):
    middle = firesteel.ones(2, requires_grad=True) * 2
    middle.register_hook(lambda grad: print(holder))
    return (middle * 3).sum()


def hooked_node(holder):
    middle = firesteel.ones(2, requires_grad=True) * 2
    middle.grad_fn.register_prehook(lambda grads: print(holder))
    return middle.exp().sum()


def context(holder):
    class Keeps(firesteel.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.holder = holder
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    return Keeps.apply(firesteel.ones(2, requires_grad=True)).exp().sum()


def metadata(holder):
    middle = firesteel.ones(2, requires_grad=True) * 2
    middle.grad_fn.metadata["holder"] = holder
    return middle.exp().sum()


def packed(holder):
    with firesteel.autograd.graph.saved_tensors_hooks(
        lambda tensor: (holder, tensor.detach()), lambda packed: packed[1]
    ):
        return firesteel.ones(2, requires_grad=True).exp().sin().sum()


@pytest.mark.parametrize("make", [hooked_inside, hooked_node, context, metadata, packed])
def test_a_circle_through_the_middle_of_a_graph_is_collected(make):
    """PyTorch keeps them."""
    holder = Holder()
    holder.result = make(holder)
    gc.collect()
    holder.result.backward()  # nothing was taken from a graph in use
    holder.result = make(holder)
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None

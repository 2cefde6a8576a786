"""Hooks of nodes and of leaves, node metadata, and `detach_`: PyTorch's behaviour."""

import gc
import weakref

import pytest

import firesteel
from libraries import both


def numbers(grads):
    return [None if grad is None else grad.tolist() for grad in grads]


@both
def test_order_of_all_hooks(lib):
    """Hooks of the tensor, then of the node before and after its rule; at a leaf also after accumulation."""
    x = lib.zeros(2, requires_grad=True)
    y = x.exp()
    calls = []
    y.register_hook(lambda grad: calls.append("tensor"))
    y.grad_fn.register_hook(lambda ins, outs: calls.append(("after", numbers(ins), numbers(outs))))
    y.grad_fn.register_prehook(lambda outs: calls.append(("before", numbers(outs))))
    leaf = y.grad_fn.next_functions[0][0]
    leaf.register_hook(lambda ins, outs: calls.append(("leaf after", ins, numbers(outs))))
    leaf.register_prehook(lambda outs: calls.append("leaf before"))
    x.register_post_accumulate_grad_hook(
        lambda leaf: calls.append(("accumulated", leaf is x, leaf.grad.tolist()))
    )
    x.register_hook(lambda grad: calls.append("leaf tensor"))
    y.sum().backward()
    assert calls == [
        "tensor",
        ("before", [[1, 1]]),
        ("after", [[1, 1]], [[1, 1]]),
        "leaf tensor",
        "leaf before",
        ("accumulated", True, [1, 1]),
        ("leaf after", (), [[1, 1]]),
    ]


@both
def test_hooks_replace_gradients(lib):
    x, w = (lib.full((2,), value, requires_grad=True) for value in (3.0, 5.0))
    y = x * w
    y.grad_fn.register_prehook(lambda outs: (outs[0] * 10,))
    y.grad_fn.register_hook(lambda ins, outs: (ins[0] + 1, None))
    y.sum().backward()
    assert x.grad.tolist() == [51, 51]
    assert w.grad is None


@both
def test_removed_hooks_are_silent(lib):
    x = lib.ones(2, requires_grad=True)
    y = x * 2
    calls = []
    handles = [
        y.grad_fn.register_prehook(lambda outs: calls.append(1)),
        y.grad_fn.register_hook(lambda ins, outs: calls.append(2)),
        x.register_post_accumulate_grad_hook(lambda leaf: calls.append(3)),
    ]
    for handle in handles:
        handle.remove()
    y.sum().backward()
    assert calls == []


@both
def test_post_accumulate_hook_may_clear_the_gradient(lib):
    """The pattern of an optimizer that steps within backward."""
    x = lib.ones(2, requires_grad=True)

    def step(leaf):
        with lib.no_grad():
            leaf -= leaf.grad
        leaf.grad = None

    x.register_post_accumulate_grad_hook(step)
    for _ in range(2):
        (x * 2).sum().backward()
    assert x.grad is None
    assert x.tolist() == [-3, -3]


@both
def test_post_accumulate_hook_with_inputs(lib):
    x, w = (lib.ones(2, requires_grad=True) for _ in range(2))
    calls = []
    x.register_post_accumulate_grad_hook(lambda leaf: calls.append("x"))
    w.register_post_accumulate_grad_hook(lambda leaf: calls.append("w"))
    (x * w).sum().backward(inputs=[w])
    assert calls == ["w"]
    lib.autograd.grad((x * w).sum(), x)
    assert calls == ["w"]


@both
def test_post_accumulate_hook_only_on_leaves(lib):
    y = lib.ones(2, requires_grad=True) * 2
    for tensor in (y, lib.ones(2)):
        with pytest.raises(RuntimeError, match="registered on (non-)?leaf|require"):
            tensor.register_post_accumulate_grad_hook(print)


@both
def test_a_post_accumulate_hook_returns_nothing(lib):
    x = lib.ones(2, requires_grad=True)
    x.register_post_accumulate_grad_hook(lambda leaf: leaf * 2)
    with pytest.raises(RuntimeError, match="should return None"):
        x.sum().backward()


@pytest.mark.parametrize(
    "returned", [lambda g: (g, g, g), lambda g: (g[:1], None), lambda g: (g.double(), None)]
)
def test_wrong_results_of_hooks(returned):
    x, w = (firesteel.ones(2, requires_grad=True) for _ in range(2))
    y = x * w
    y.grad_fn.register_hook(lambda ins, outs: returned(ins[0]))
    with pytest.raises(RuntimeError, match="hook"):
        y.sum().backward()
    assert x.grad is None and w.grad is None


def test_wrong_hooks():
    x = firesteel.ones(2, requires_grad=True)
    node = (x * 2).grad_fn
    for register in (
        x.register_hook, x.register_post_accumulate_grad_hook, node.register_hook, node.register_prehook
    ):  # fmt: skip
        with pytest.raises(TypeError, match="must be callable, not int"):
            register(3)
    y = x * 2
    y.grad_fn.register_prehook(lambda outs: 3)
    with pytest.raises(TypeError, match="expected tuple, but hook returned 'int'"):
        y.sum().backward()
    y = x * 2
    y.grad_fn.register_prehook(lambda outs: (3,))
    with pytest.raises(TypeError, match="expected a Tensor or None for each gradient, but got int"):
        y.sum().backward()
    assert x.grad is None


@both
def test_an_exception_in_a_hook_comes_out(lib):
    x = lib.ones(2, requires_grad=True)
    y = x * 2

    def hook(ins, outs):
        raise KeyError("mine")

    y.grad_fn.register_hook(hook)
    with pytest.raises(KeyError, match="mine"):
        y.sum().backward(retain_graph=True)
    assert x.grad is None


@both
def test_metadata_is_one_dict(lib):
    y = lib.ones(2, requires_grad=True) * 2
    assert y.grad_fn.metadata == {}
    y.grad_fn.metadata["note"] = 1
    assert y.grad_fn.metadata == {"note": 1}


def result_in_its_metadata(lib):
    y = lib.ones(2, requires_grad=True) * 2
    y.grad_fn.metadata["me"] = y
    return y


def result_in_a_node_hook(lib):
    y = lib.ones(2, requires_grad=True) * 2
    y.grad_fn.register_hook(lambda ins, outs: print(y))
    return y


def leaf_in_its_hook(lib):
    x = lib.ones(2, requires_grad=True)
    x.register_post_accumulate_grad_hook(lambda leaf: print(x))
    return x


@pytest.mark.parametrize("make", [result_in_its_metadata, result_in_a_node_hook, leaf_in_its_hook])
def test_cycles_are_collected(make):
    seen = weakref.ref(make(firesteel))
    gc.collect()
    assert seen() is None


@both
def test_detach_(lib):
    x = lib.ones(2, requires_grad=True)
    y = x * 2
    assert y.detach_() is y
    assert (y.requires_grad, y.is_leaf, y.grad_fn) == (False, True, None)
    x.detach_()
    assert not x.requires_grad
    view = (lib.ones(2, requires_grad=True) * 2)[:1]
    with pytest.raises(RuntimeError, match="Can't detach views in-place"):
        view.detach_()


def test_saved_data_is_listed():
    x, w = firesteel.ones(2, 3, requires_grad=True), firesteel.ones(3, 4, requires_grad=True)
    y = x @ w
    parts = [(part, shape, size) for part, shape, _, size, _ in y.grad_fn._saved]
    assert parts == [("input 0", (2, 3), 24), ("input 1", (3, 4), 48)]
    assert y.grad_fn._outputs == [((2, 4), firesteel.float32)]
    assert y.exp().grad_fn._saved[0][0] == "output"
    y.sum().backward()
    assert y.grad_fn._saved == []


@both
@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x * x,
        lambda x: x.exp(),
        lambda x: x.softmax(0),
        lambda x: x @ x,
        lambda x: x.sort()[0],
        lambda x: x.max(0)[0],
    ],
    ids=["mul", "exp", "softmax", "dot", "sort", "max"],
)
def test_an_error_in_a_hook_of_a_node_leaves_its_graph(lib, compute):
    x = lib.tensor([1.0, 3.0, 2.0], requires_grad=True)
    y = compute(x)
    fails = [True]

    def hook(inputs, outputs):
        if fails:
            raise ValueError(fails.pop())

    y.grad_fn.register_hook(hook)
    with pytest.raises(ValueError, match="True"):
        y.sum().backward()
    y.sum().backward()
    expected = lib.autograd.grad(compute(x).sum(), x)[0]
    assert lib.equal(x.grad, expected)

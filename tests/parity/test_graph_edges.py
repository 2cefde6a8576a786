"""Gradient edges, hooks on several gradients, writes to saved tensors, `Variable`: PyTorch's behaviour."""

import gc
import subprocess
import sys
import weakref

import pytest

import firesteel
from libraries import both


def program(lib):
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    return x, y, (y * y).sum()


# --- edges --------------------------------------------------------------------------------------------------


@both
def test_edges_stand_for_tensors(lib):
    edge_of = lib.autograd.graph.get_gradient_edge
    x, y, z = program(lib)
    edge = edge_of(y)
    assert edge.node == y.grad_fn and edge.output_nr == 0 and edge[:2] == (y.grad_fn, 0)
    assert isinstance(edge, lib.autograd.graph.GradientEdge)
    grads = lib.autograd.grad(z, [x, edge, edge_of(x)], retain_graph=True)
    assert [g.tolist() for g in grads] == [[18, 36], [6, 12], [18, 36]]
    (alone,) = lib.autograd.grad(z, edge, retain_graph=True)
    assert alone.tolist() == [6, 12]
    (from_edge,) = lib.autograd.grad(edge_of(z), x, retain_graph=True)
    assert from_edge.tolist() == [18, 36]
    (weighted,) = lib.autograd.grad([edge], [x], [lib.tensor([1.0, 10.0])], retain_graph=True)
    assert weighted.tolist() == [3, 30]


@both
def test_edges_of_a_multi_output_node(lib):
    x = lib.tensor([1.0, 2.0, 3.0], requires_grad=True)
    first, _, last = (x * 1).unbind()
    edge = lib.autograd.graph.get_gradient_edge(last)
    assert (edge.node, edge.output_nr) == (first.grad_fn, 2)
    (grad,) = lib.autograd.grad(first * 2 + last * 5, edge)
    assert grad.item() == 5


@both
def test_backward_to_edges_and_from_them(lib):
    edge_of = lib.autograd.graph.get_gradient_edge
    x, y, z = program(lib)
    lib.autograd.backward(z, inputs=edge_of(x), retain_graph=True)
    assert x.grad.tolist() == [18, 36]
    z.backward(inputs=[edge_of(x)], retain_graph=True)
    assert x.grad.tolist() == [36, 72]
    lib.autograd.backward(edge_of(z), retain_graph=True)
    assert x.grad.tolist() == [54, 108]
    z.backward(inputs=edge_of(y), retain_graph=True)
    assert x.grad.tolist() == [54, 108]
    z.backward(inputs={"x": x})
    assert x.grad.tolist() == [72, 144]


@both
def test_an_edge_keeps_the_graph_and_not_the_tensor(lib):
    x = lib.ones(2, requires_grad=True)
    y = x + 1
    edge = lib.autograd.graph.get_gradient_edge(y)
    gone = weakref.ref(y)
    del y
    gc.collect()
    assert gone() is None
    (grad,) = lib.autograd.grad(edge, x, lib.ones(2))
    assert grad.tolist() == [1, 1]


@both
def test_refused_edges(lib):
    edge_of = lib.autograd.graph.get_gradient_edge
    x, y, z = program(lib)
    with pytest.raises(RuntimeError, match="gradient edge for a Tensor that does not require gradients"):
        edge_of(lib.ones(2))
    with pytest.raises(RuntimeError, match="scalar outputs"):
        lib.autograd.grad(edge_of(y), x)
    with pytest.raises(RuntimeError, match="shape"):
        lib.autograd.grad(edge_of(y), x, lib.ones(3))
    unused = edge_of(lib.ones(2, requires_grad=True))
    with pytest.raises(RuntimeError, match="allow_unused=True"):
        lib.autograd.grad(z, unused, retain_graph=True)
    with pytest.raises(RuntimeError, match="materialize_grads cannot be used"):
        lib.autograd.grad(z, unused, materialize_grads=True)


def test_refused_output_numbers():
    edge = firesteel.autograd.graph.GradientEdge(program(firesteel)[1].grad_fn, 1)
    with pytest.raises(IndexError, match="GradientEdge: MulBackward0 has 1 outputs"):
        firesteel.autograd.grad(program(firesteel)[2], edge)


# --- dicts of inputs ----------------------------------------------------------------------------------------


@both
def test_dicts_of_inputs(lib):
    x, y, z = program(lib)
    other = lib.ones(3, requires_grad=True)
    grads = lib.autograd.grad(z, {"x": x, "y": y}, retain_graph=True)
    assert {key: g.tolist() for key, g in grads.items()} == {"x": [18, 36], "y": [6, 12]}
    grads = lib.autograd.grad(z, {"a": other, 1: x}, retain_graph=True, allow_unused=True)
    assert grads["a"] is None and grads[1].tolist() == [18, 36]
    grads = lib.autograd.grad(z, {"a": other}, retain_graph=True, materialize_grads=True, create_graph=True)
    assert grads["a"].tolist() == [0, 0, 0] and grads["a"].requires_grad
    with pytest.raises(RuntimeError, match="cannot be empty"):
        lib.autograd.grad(z, {})


# --- hooks on several gradients -------------------------------------------------------------------------------


@both
def test_a_hook_on_all_gradients(lib):
    a, b = (lib.ones(2, requires_grad=True) for _ in range(2))
    c, d = a * b, a * b * 2
    calls = []
    handle = lib.autograd.graph.register_multi_grad_hook(
        (a, b, c, d), lambda grads: calls.append([g is not None and g.tolist() for g in grads])
    )
    assert isinstance(handle, lib.utils.hooks.RemovableHandle)
    c.sum().backward(retain_graph=True)
    c.sum().backward(inputs=(a,), retain_graph=True)
    (c + d).sum().backward(inputs=(b, d), retain_graph=True)
    d.sum().backward(retain_graph=True)
    handle.remove()
    c.sum().backward(retain_graph=True)
    assert calls == [
        [[1, 1], [1, 1], [1, 1], False],
        [[1, 1], False, [1, 1], False],
        [False, [3, 3], [1, 1], [1, 1]],
        [[2, 2], [2, 2], False, [1, 1]],
    ]


@both
def test_a_hook_on_the_first_gradient(lib):
    a = lib.ones(2, requires_grad=True)
    c, d = a * 2, a * 3
    calls = []
    handle = lib.autograd.graph.register_multi_grad_hook(
        (a, c, d, lib.ones(2)), lambda grad: calls.append(grad.tolist()), mode="any"
    )
    (c + 2 * d).sum().backward(retain_graph=True)
    (c * 5).sum().backward(retain_graph=True)
    handle.remove()
    c.sum().backward()
    assert calls in ([[2, 2], [5, 5]], [[1, 1], [5, 5]])  # which of two comes first is an engine's own matter


@both
def test_hooks_in_passes_within_passes(lib):
    """A backward pass that a hook begins is another one than that which calls the hook."""
    a, b = (lib.ones(2, requires_grad=True) for _ in range(2))
    calls = []

    def again(grad):
        with lib.enable_grad():
            (a * b).sum().backward()

    c = a * b
    c.register_hook(again)
    lib.autograd.graph.register_multi_grad_hook(
        (a, b), lambda grads: calls.append([g.tolist() for g in grads])
    )
    (c * 7).sum().backward()
    assert calls == [[[1, 1], [1, 1]], [[7, 7], [7, 7]]]


@both
def test_hooks_after_a_pass_that_failed(lib):
    a, b = (lib.ones(2, requires_grad=True) for _ in range(2))
    calls, fails = [], [True]

    def hook(grad):
        if fails:
            raise ValueError("stop")

    c = a.exp()  # newer than the product, so that its gradient arrives first
    total = (a * b).sum() + c.sum()
    a.register_hook(hook)
    lib.autograd.graph.register_multi_grad_hook((a, b, c), lambda grads: calls.append(len(grads)))
    with pytest.raises(ValueError, match="stop"):
        total.backward(retain_graph=True)
    fails.clear()
    total.backward()
    assert calls == [3]


def test_a_hook_on_some_outputs_of_a_node():
    """PyTorch waits for the gradients of all outputs of a node, and so for ever."""
    x = firesteel.ones(2, requires_grad=True)
    first, second = (x * 1).unbind()
    calls = []
    firesteel.autograd.graph.register_multi_grad_hook(
        (first, second), lambda grads: calls.append([g and g.item() for g in grads])
    )
    first.backward()
    assert calls == [[1.0, None]]


@both
@pytest.mark.parametrize("mode", ["all", "any"])
def test_hooks_on_several_gradients_keep_none(lib, mode):
    x = lib.ones(2, requires_grad=True)
    y, seen = x * 2, []

    def hook(grads):
        seen.append(weakref.ref(grads[0] if mode == "all" else grads))

    lib.autograd.graph.register_multi_grad_hook((y,), hook, mode=mode)
    for count in (1, 2):
        y.sum().backward(retain_graph=True)
        gc.collect()
        assert [ref() for ref in seen] == [None] * count


@pytest.mark.parametrize("mode", ["all", "any"])
def test_a_generator_of_tensors(mode):
    """PyTorch refuses one with "all", after it has used it up."""
    layer, calls = firesteel.nn.Linear(2, 2), []
    hook = firesteel.autograd.graph.register_multi_grad_hook
    hook(layer.parameters(), lambda given: calls.append(len(given)), mode=mode)
    layer(firesteel.ones(1, 2)).sum().backward()
    assert calls == [2]
    with pytest.raises(RuntimeError, match=r"tensor 1 of shape \(2,\) doesn't require gradient"):
        hook((x for x in (layer.weight, firesteel.ones(2))), print)


def test_edges_of_leaves_made_in_inference_mode():
    with firesteel.inference_mode():
        x = firesteel.ones(2, requires_grad=True)
        with pytest.raises(
            RuntimeError, match=r"get_gradient_edge: a leaf of shape \(2,\) .*; call this out"
        ):
            firesteel.autograd.graph.get_gradient_edge(x)
        with pytest.raises(RuntimeError, match="register_multi_grad_hook: a leaf .* or make the leaf there$"):
            firesteel.autograd.graph.register_multi_grad_hook((x,), print)
    assert firesteel.autograd.graph.get_gradient_edge(x).node.name() == "AccumulateGrad"


@both
def test_refused_hooks(lib):
    register = lib.autograd.graph.register_multi_grad_hook
    with pytest.raises(ValueError, match="Expects mode to be one of"):
        register((lib.ones(1, requires_grad=True),), print, mode="some")
    with pytest.raises((RuntimeError, AssertionError)):
        register((lib.ones(1),), print)


# --- writes to what was saved ---------------------------------------------------------------------------------


@both
def test_writes_to_saved_tensors(lib):
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    with lib.autograd.graph.allow_mutation_on_saved_tensors() as context:
        y = x.clone()
        out = (y**2).sum() + y.exp().sum()
        y.zero_()
        out.backward()
        later = x.exp()
        with pytest.raises(RuntimeError, match="cannot be nested"):
            with lib.autograd.graph.allow_mutation_on_saved_tensors():
                pass
    assert x.grad.tolist() == pytest.approx([2 + 2.718281828, 4 + 7.389056099])
    with pytest.raises(AssertionError, match="outside of the 'allow_mutation_on_saved_tensors' context"):
        later.sum().backward()
    context.clear()


@both
def test_counted_writes(lib):
    x = lib.ones(2, requires_grad=True)
    y = x * 2
    z = y.exp()
    lib.autograd.graph.increment_version([y, z])
    assert (y._version, z._version) == (1, 1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    with lib.inference_mode():
        lib.autograd.graph.increment_version(lib.ones(2))


# --- old names --------------------------------------------------------------------------------------------------


@both
def test_variables(lib):
    variable = lib.autograd.Variable
    data = lib.ones(2)
    made = variable(data, requires_grad=True)
    assert type(made) is lib.Tensor and made.requires_grad and not data.requires_grad
    made.detach()[0] = 5
    assert data.tolist() == [5, 1]
    assert not variable(made).requires_grad
    assert isinstance(data, variable) and isinstance(lib.nn.Parameter(data), variable)
    assert not isinstance(3, variable)
    assert variable().shape == (0,)
    for data, name in ((3.0, "float"), ([1.0], "list")):
        with pytest.raises(TypeError, match=f"Variable data has to be a tensor, but got {name}"):
            variable(data)
    assert lib.autograd.variable.Variable is variable


@both
def test_handles(lib):
    handle_type = lib.utils.hooks.RemovableHandle
    x = lib.ones(2, requires_grad=True)
    layer = lib.nn.Linear(1, 1)
    handles = [
        x.register_hook(print),
        (x * 2).grad_fn.register_prehook(print),
        layer.register_forward_hook(print),
    ]
    assert all(isinstance(handle, handle_type) for handle in handles)
    assert not isinstance(3, handle_type)


@both
def test_versions_of_what_is_no_tensor(lib):
    x = lib.ones(2)
    for wrong in (3, [x, 3]):
        with pytest.raises(RuntimeError):
            lib.autograd.graph.increment_version(wrong)
    if lib is firesteel:
        assert x._version == 0  # all are looked at before the first is changed
        with pytest.raises(RuntimeError, match="increment_version: expected a Tensor or several, not int"):
            lib.autograd.graph.increment_version(3)


def test_the_first_hook_of_a_program_may_come_in_the_middle_of_a_pass():
    """It is called from the next pass on. In a process of its own: there must be no such hook before."""
    program = """
import firesteel as torch
x = torch.ones(2, requires_grad=True)
y = x * 2
seen = []
def begin(grad):
    torch.autograd.graph.register_multi_grad_hook([x], seen.append)
    torch.autograd.graph.register_multi_grad_hook([x], seen.append, mode="any")
handle = y.register_hook(begin)
y.sum().backward(retain_graph=True)
assert seen == [], seen
handle.remove()
y.sum().backward()
assert len(seen) == 2, seen
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

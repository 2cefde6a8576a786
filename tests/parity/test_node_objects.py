"""Nodes as programs look at them: their types, their identity, what they saved."""

import gc
import inspect
import threading

import pytest

import firesteel
from libraries import LIBRARIES, both, parity
from tensors import torch


def doubled(lib):
    class Double(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    return Double.apply


@both
def test_types_are_named_as_operations(lib):
    x = lib.ones(2, requires_grad=True)
    y, z = x * 2, x * 3
    node = lib.autograd.graph.Node
    assert type(y.grad_fn).__name__ == "MulBackward0"
    assert str(type(y.grad_fn)) == "<class 'MulBackward0'>"
    assert repr(y.grad_fn).startswith("<MulBackward0 object at 0x")
    assert type(y.grad_fn) is type(z.grad_fn) is not type(x.exp().grad_fn)
    assert isinstance(y.grad_fn, node) and issubclass(type(y.grad_fn), node)
    assert type(y.grad_fn.next_functions[0][0]).__name__ == "AccumulateGrad"
    assert type(doubled(lib)(x).grad_fn).__name__ == "DoubleBackward"
    with pytest.raises(TypeError, match="cannot create 'MulBackward0' instances"):
        type(y.grad_fn)()


@both
def test_a_node_is_one_object(lib):
    x = lib.ones(2, requires_grad=True)
    y = x * 2
    z = y + y
    assert y.grad_fn is y.grad_fn
    assert z.grad_fn.next_functions[0][0] is z.grad_fn.next_functions[1][0] is y.grad_fn
    assert y.grad_fn.next_functions[0][0] is (x + 1).grad_fn.next_functions[0][0]
    assert y.grad_fn is not (x * 2).grad_fn and y.grad_fn != (x * 2).grad_fn
    custom = doubled(lib)(x)
    assert custom.grad_fn is custom.grad_fn
    seen = {y.grad_fn: "y"}
    assert seen[y.grad_fn] == "y" and z.grad_fn not in seen


@both
def test_what_is_kept_at_a_node_outlives_its_object(lib):
    x = lib.ones(2, requires_grad=True)
    y = x * 2
    y.grad_fn.metadata["note"] = "mine"
    gc.collect()
    assert y.grad_fn.metadata == {"note": "mine"}


def test_objects_of_nodes_come_and_go_in_threads():
    """The table of objects is looked at, filled and emptied by several threads at once."""
    y = firesteel.ones(2, requires_grad=True) * 2
    wrong = []

    def look():
        for _ in range(2000):
            one = y.grad_fn
            if one is not y.grad_fn or one.next_functions[0][0].name() != "AccumulateGrad":
                wrong.append(one)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@both
def test_a_graph_drawer_sees_one_graph(lib):
    """What torchviz does: nodes by `id`, named by their types, found by walking."""
    w, b, x = (lib.ones(2, 2, requires_grad=True) for _ in range(3))
    loss = ((x @ w + b).tanh() * x).sum()
    nodes, edges, seen = {}, [], set()

    def walk(fn):
        if fn in seen:
            return
        seen.add(fn)
        nodes[str(id(fn))] = str(type(fn).__name__)
        if hasattr(fn, "variable"):
            nodes[str(id(fn.variable))] = str(tuple(fn.variable.shape))
        for following, _ in fn.next_functions:
            if following is not None:
                edges.append((str(id(following)), str(id(fn))))
                walk(following)

    walk(loss.grad_fn)
    assert sorted(nodes.values()) == ["(2, 2)"] * 3 + ["AccumulateGrad"] * 3 + [
        "AddBackward0",
        "MmBackward0",
        "MulBackward0",
        "SumBackward0",
        "TanhBackward0",
    ]
    assert len(edges) == 8 and {key for edge in edges for key in edge} <= set(nodes)


# --- what nodes saved -----------------------------------------------------------------------------------------


def inputs(lib):
    a = lib.tensor([[0.5, -1.0], [2.0, 1.5]], requires_grad=True)
    b = lib.tensor([[1.5, 0.25], [0.75, 2.0]], requires_grad=True)
    return a, b


PROGRAMS = {
    "mul": lambda lib, a, b: a * b,
    "mul by a constant": lambda lib, a, b: a * b.detach(),
    "div": lambda lib, a, b: a / b,
    "maximum": lambda lib, a, b: lib.maximum(a, b),
    "remainder": lambda lib, a, b: lib.remainder(a, b),
    "exp": lambda lib, a, b: a.exp(),
    "tanh": lambda lib, a, b: a.tanh(),
    "sigmoid": lambda lib, a, b: a.sigmoid(),
    "relu": lambda lib, a, b: a.relu(),
    "sqrt": lambda lib, a, b: b.sqrt(),
    "softmax": lambda lib, a, b: a.softmax(0),
    "log_softmax": lambda lib, a, b: a.log_softmax(1),
    "log": lambda lib, a, b: b.log(),
    "log10": lambda lib, a, b: b.log10(),
    "cos": lambda lib, a, b: a.cos(),
    "abs": lambda lib, a, b: a.abs(),
    "gelu": lambda lib, a, b: lib.nn.functional.gelu(a),
    "clamp": lambda lib, a, b: a.clamp(-0.5, 1),
    "clamp by tensors": lambda lib, a, b: a.clamp(b - 1, b),
    "clamp to a largest tensor": lambda lib, a, b: a.clamp(max=b),
    "clamp to a smallest tensor": lambda lib, a, b: a.clamp(min=b),
    "clamp_min": lambda lib, a, b: a.clamp_min(0),
    "pow": lambda lib, a, b: b**a,
    "pow by a number": lambda lib, a, b: b**2.5,
    "mm": lambda lib, a, b: a @ b,
    "mv": lambda lib, a, b: a @ b[0],
    "dot": lambda lib, a, b: a[0].dot(b[0]),
    "bmm": lambda lib, a, b: a[None].bmm(b[None]),
    "addmm": lambda lib, a, b: lib.addmm(b, a, b),
    "linear": lambda lib, a, b: lib.nn.functional.linear(a, b, b[0]),
    "linear without bias": lambda lib, a, b: lib.nn.functional.linear(a, b),
    "baddbmm": lambda lib, a, b: lib.baddbmm(b, a[None], b[None]),
    "lerp": lambda lib, a, b: lib.lerp(a, b, b),
    "prod": lambda lib, a, b: a.prod(),
    "prod of rows": lambda lib, a, b: a.prod(1),
    "amax": lambda lib, a, b: a.amax(1),
    "max": lambda lib, a, b: a.max(),
    "std": lambda lib, a, b: a.std(),
    "var": lambda lib, a, b: a.var(),
    "logsumexp": lambda lib, a, b: a.logsumexp(1),
    "cumprod": lambda lib, a, b: a.cumprod(1),
    "sort": lambda lib, a, b: a.sort(1)[0],
    "topk": lambda lib, a, b: a.topk(1)[0],
    "scatter_add": lambda lib, a, b: a.scatter_add(1, lib.tensor([[0], [1]]), b),
    "where": lambda lib, a, b: lib.where(a > 0, a, b),
    "masked_fill": lambda lib, a, b: a.masked_fill(a > 0, 2),
    "mse": lambda lib, a, b: lib.nn.functional.mse_loss(a, b, reduction="none"),
    "huber": lambda lib, a, b: lib.nn.functional.huber_loss(a, b, reduction="none"),
    "conv": lambda lib, a, b: lib.nn.functional.conv2d(a[None, None], b[None, None]),
}


def saved(node):
    found = {}
    for name in dir(node):
        if name.startswith("_saved_"):
            value = getattr(node, name)
            if type(value) in (firesteel.Tensor, torch.Tensor):
                found[name] = (value.tolist(), value.requires_grad, value.is_leaf)
    return found


@parity
@pytest.mark.parametrize("name", PROGRAMS)
def test_saved_tensors_by_name(name):
    ours, theirs = (saved(PROGRAMS[name](lib, *inputs(lib)).grad_fn) for lib in LIBRARIES)
    assert list(ours) == list(theirs) and ours
    for key, (values, *rest) in theirs.items():
        assert tuple(rest) == ours[key][1:], key
        assert firesteel.allclose(firesteel.tensor(ours[key][0]), firesteel.tensor(values)), key


@both
def test_saved_tensors_are_linked_to_the_graph(lib):
    a, b = inputs(lib)
    y = a * b
    z = y.exp()
    assert y.grad_fn._saved_self is a and y.grad_fn._saved_other is b
    assert (y * b).grad_fn._saved_self.grad_fn is y.grad_fn
    assert z.grad_fn._saved_result.grad_fn is z.grad_fn
    assert (a * 2).grad_fn._saved_self is None
    with pytest.raises(AttributeError, match="'MulBackward0' object has no attribute '_saved_result'"):
        _ = y.grad_fn._saved_result
    assert not hasattr((a + b).grad_fn, "_saved_self")


@both
def test_saved_tensors_that_are_gone(lib):
    a, b = inputs(lib)
    y = a * b
    y.sum().backward()
    with pytest.raises(RuntimeError, match="a second time"):
        _ = y.grad_fn._saved_self
    c = a * 2
    z = c * b
    c.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        _ = z.grad_fn._saved_self


@both
def test_saved_tensors_that_hooks_keep(lib):
    a, b = inputs(lib)
    with lib.autograd.graph.saved_tensors_hooks(lambda t: t.tolist(), lib.tensor):
        y = a * b
    assert y.grad_fn._saved_self.tolist() == a.tolist()


def test_fused_operations_do_not_show_others_parts():
    """`l1_loss` is one node, `AbsBackward0`, that saves both operands: it has no `_saved_self`."""
    a, b = inputs(firesteel)
    node = firesteel.nn.functional.l1_loss(a, b, reduction="none").grad_fn
    assert node.name() == "AbsBackward0" and len(node._saved) == 2
    with pytest.raises(AttributeError, match="_saved_self"):
        _ = node._saved_self
    assert "_saved_self" not in dir(node) and inspect.getattr_static(node, "name")


@both
def test_functions_of_one_name_have_node_types_of_their_own(lib):
    def make(factor):
        class Scale(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * factor

            @staticmethod
            def backward(ctx, grad):
                return grad * factor

        return Scale

    two, three = make(2), make(3)
    x = lib.ones(2, requires_grad=True)
    kinds = [type(function.apply(x).grad_fn) for function in (two, two, three)]
    assert kinds[0] is kinds[1] is not kinds[2]
    assert {kind.__name__ for kind in kinds} == {"ScaleBackward"}

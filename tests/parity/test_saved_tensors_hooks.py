"""Hooks on saved tensors, as PyTorch has them."""

import pytest

import firesteel
from libraries import both


def hooks(lib, pack, unpack=lambda packed: packed):
    return lib.autograd.graph.saved_tensors_hooks(pack, unpack)


@both
def test_what_is_packed(lib):
    """Inputs come as they are, outputs without history; nothing is recorded meanwhile."""
    x, w = lib.ones(2, requires_grad=True), lib.nn.Parameter(lib.ones(2))
    seen = []

    def pack(tensor):
        seen.append((tensor is x, type(tensor) is lib.nn.Parameter, lib.is_grad_enabled()))
        return tensor

    with hooks(lib, pack):
        y = x * w
        seen.sort()
        y.sin()
    assert seen == [(False, True, False), (True, False, False), (False, False, False)]


@both
def test_packed_values_are_what_backward_sees(lib):
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    with hooks(lib, lambda tensor: tensor.detach() * 10, lambda packed: packed + 1):
        y = x.exp()
        z = x * x
    assert lib.allclose(lib.autograd.grad(y.sum(), x)[0], x.detach().exp() * 10 + 1)
    assert lib.allclose(lib.autograd.grad(z.sum(), x)[0], 2 * (x.detach() * 10 + 1))


@both
@pytest.mark.parametrize("name", ["max_pool", "layer_norm", "cross_entropy", "index", "gather", "batch_norm"])
def test_intermediate_results_are_packed(lib, name):
    """Through a list of Python numbers and back."""
    lib.manual_seed(0)
    F = lib.nn.functional
    call = {
        "max_pool": lambda x: F.max_pool2d(x.reshape(1, 1, 4, 4), 2),
        "layer_norm": lambda x: F.layer_norm(x, (4,)),
        "cross_entropy": lambda x: F.cross_entropy(x, lib.tensor([0, 1, 2, 3])),
        "index": lambda x: x[lib.tensor([0, 2, 2])],
        "gather": lambda x: x.gather(1, lib.tensor([[0, 1], [2, 2]])),
        "batch_norm": lambda x: F.batch_norm(x, None, None, training=True),
    }[name]
    x = lib.randn(4, 4, requires_grad=True)
    plain = lib.autograd.grad(call(x).sin().sum(), x)[0]
    count = 0

    def pack(tensor):
        nonlocal count
        count += 1
        return tensor.tolist(), tensor.shape, tensor.dtype

    with hooks(lib, pack, lambda packed: lib.tensor(packed[0], dtype=packed[2]).reshape(packed[1])):
        y = call(x).sin().sum()
    assert count >= 2
    assert lib.allclose(lib.autograd.grad(y, x)[0], plain)


@both
def test_second_derivatives_through_packed_tensors(lib):
    x = lib.tensor([0.5, 2.0], dtype=lib.float64, requires_grad=True)
    with hooks(lib, lambda tensor: tensor.detach().clone()):
        y = (x * x * x).exp()
        first = lib.autograd.grad(y.sum(), x, create_graph=True)[0]
        second = lib.autograd.grad(first.sum(), x)[0]
    v = x.detach()
    assert lib.allclose(second, (6 * v + 9 * v**4) * (v**3).exp())


@both
def test_the_innermost_hooks_are_asked(lib):
    seen = []

    def noting(name):
        return hooks(lib, lambda tensor: seen.append(name) or tensor)

    x = lib.ones(2, requires_grad=True)
    with noting("outer"):
        with noting("inner"):
            x.exp()
        x.exp()
    x.exp()
    assert seen == ["inner", "outer"]


@both
def test_custom_functions_are_packed(lib):
    class Cube(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x, x + 1)
            return x * x * x

        @staticmethod
        def backward(ctx, grad):
            x, more = ctx.saved_tensors
            assert more.tolist() == (x.detach() + 1).tolist()
            return 3 * x * x * grad

    x = lib.tensor([1.0, 2.0], requires_grad=True)
    packed = []
    with hooks(lib, lambda tensor: packed.append(tensor) or (tensor.detach() + 1), lambda packed: packed - 1):
        y = Cube.apply(x)
    assert len(packed) == 2
    y.sum().backward()
    assert x.grad.tolist() == [3, 12]


@both
def test_exceptions_and_wrong_results(lib):
    def fail(_):
        raise KeyError("mine")

    x = lib.ones(2, requires_grad=True)
    with hooks(lib, fail), pytest.raises(KeyError, match="mine"):
        x.exp()
    assert lib.is_grad_enabled()
    with hooks(lib, lambda tensor: tensor, fail):
        y = x.exp()
    with pytest.raises(KeyError, match="mine"):
        y.sum().backward()
    with hooks(lib, lambda tensor: 3):
        y = x.exp()
    with pytest.raises(TypeError, match="unpack_hook expected to be a Tensor but got result of type"):
        y.sum().backward()
    with (
        hooks(lib, lambda tensor: tensor.add_(1)),
        pytest.raises(RuntimeError, match="pack hook is modifying"),
    ):
        (x * 1).pow(2)
    with hooks(lib, lambda tensor: tensor, lambda packed: packed[:1].expand(3)):
        y = x.exp()
    with pytest.raises(RuntimeError):
        y.sum().backward()
    assert x.grad is None
    with pytest.raises(TypeError):
        hooks(lib, 3).__enter__()


@both
def test_disabled(lib):
    graph = lib.autograd.graph
    with graph.disable_saved_tensors_hooks("not here"), pytest.raises(RuntimeError, match="not here"):
        hooks(lib, lambda tensor: tensor).__enter__()
    x = lib.ones(2, requires_grad=True)
    with graph.save_on_cpu():
        y = x * x
    y.sum().backward()
    assert x.grad.tolist() == [2, 2]


@both
def test_disabled_for_a_function_and_never_beneath_hooks(lib):
    graph = lib.autograd.graph

    @graph.disable_saved_tensors_hooks("not in here")
    def function(depth):
        if depth:
            return function(depth - 1)
        with pytest.raises(RuntimeError, match="not in here"):
            graph.save_on_cpu().__enter__()
        return "done"

    assert function(2) == "done"
    with graph.save_on_cpu(), pytest.raises(RuntimeError, match="too late"):
        graph.disable_saved_tensors_hooks("too late").__enter__()
    with graph.disable_saved_tensors_hooks("again"):
        pass  # the hooks before were left


@pytest.mark.parametrize("name", ["x * x", "x.exp()", "x @ x", "2 * x", "x[0]"])
def test_a_hook_may_replace_the_data_of_the_operand(name):
    """The operation goes on with the memory that it was given, which nobody else holds any more."""
    compute = {
        "x * x": lambda x: x * x,
        "x.exp()": lambda x: x.exp(),
        "x @ x": lambda x: x @ x,
        "2 * x": lambda x: 2 * x,
        "x[0]": lambda x: x[0],
    }[name]
    x = firesteel.ones(2, 2, requires_grad=True)
    expected = compute(x.detach())

    def pack(tensor):
        x.data = firesteel.zeros(2, 2)
        return tensor

    with hooks(firesteel, pack):
        y = compute(x)
    assert firesteel.equal(y, expected)
    y.sum().backward()
    assert firesteel.equal(x.detach(), firesteel.zeros(2, 2)) is (name != "x[0]")  # which saves nothing


def test_gradients_reach_a_tensor_whose_data_a_hook_replaced():
    for compute in (lambda x, w: x * w, lambda x, w: w * x, lambda x, w: x @ w):
        x, w = firesteel.tensor([1.0, 2.0, 3.0], requires_grad=True), firesteel.tensor([4.0, 5.0, 6.0])
        before = x.detach().clone()

        def pack(tensor, x=x, before=before):
            x.data = firesteel.zeros(1)
            return tensor if tensor.shape == (3,) else before

        with hooks(firesteel, pack):
            y = compute(x, w)
        leaf = y.grad_fn.next_functions[0 if y.grad_fn.next_functions[0][0] else 1][0].variable
        assert leaf.shape == (3,)
        y.sum().backward()
        assert leaf.grad.tolist() == [4.0, 5.0, 6.0]

"""`utils.checkpoint` as PyTorch has it."""

import pytest

import firesteel
import firesteel.utils.checkpoint
from libraries import both
from tensors import torch

if torch is not None:
    import torch.utils.checkpoint

variants = pytest.mark.parametrize("reentrant", [False, True], ids=["graph", "reentrant"])


def block(lib):
    lib.manual_seed(0)
    nn = lib.nn
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 4))


@both
@variants
def test_gradients_are_those_of_a_plain_call(lib, reentrant):
    """Dropout included: the second run draws the same random numbers, and those that follow are untouched."""
    results = []
    for checkpoint in (lambda f, x, **_: f(x), lib.utils.checkpoint.checkpoint):
        model = block(lib)
        x = lib.randn(3, 4, requires_grad=True)
        y = checkpoint(model, x, use_reentrant=reentrant)
        y.sin().sum().backward()
        results.append([y.detach(), x.grad, *(p.grad for p in model.parameters()), lib.rand(2)])
    for plain, again in zip(*results, strict=True):
        assert lib.equal(plain, again)


@both
def test_the_node_of_a_reentrant_one_is_called_as_in_pytorch(lib):
    y = lib.utils.checkpoint.checkpoint(lib.exp, lib.ones(2, requires_grad=True), use_reentrant=True)
    assert y.grad_fn.name() == "CheckpointFunctionBackward"


@both
def test_nothing_is_kept_and_the_function_runs_once_more(lib):
    runs = []

    def function(x):
        runs.append(lib.is_grad_enabled())
        return x.exp().sin().exp()

    x = lib.ones(2, requires_grad=True)
    y = lib.utils.checkpoint.checkpoint(function, x, use_reentrant=False)
    assert runs == [True]
    y.sum().backward()
    assert runs == [True, True]
    if lib is firesteel:
        node = y.grad_fn
        while node is not None:
            assert node._saved == []
            node = node.next_functions[0][0] if node.next_functions else None


@both
def test_all_of_autograd_works(lib):
    """`autograd.grad`, second derivatives, keyword arguments, several results, retained graphs."""
    x = lib.tensor([0.5, 2.0], dtype=lib.float64, requires_grad=True)

    def function(x, *, power):
        return x**power, (x * x).exp()

    a, b = lib.utils.checkpoint.checkpoint(function, x, power=3, use_reentrant=False)
    first = lib.autograd.grad((a + b).sum(), x, create_graph=True)[0]
    v = x.detach()
    assert lib.allclose(first, 3 * v**2 + 2 * v * (v * v).exp())
    second = lib.autograd.grad(first.sum(), x, retain_graph=True)[0]
    assert lib.allclose(second, 6 * v + (2 + 4 * v * v) * (v * v).exp())
    again = lib.autograd.grad((a + b).sum(), x, retain_graph=True)[0]
    assert lib.equal(first, again)


@both
@variants
def test_nested(lib, reentrant):
    if lib is torch and reentrant:
        pytest.skip("PyTorch warns of the inner call, which runs unrecorded at first")
    checkpoint = lib.utils.checkpoint.checkpoint

    def inner(x):
        return x.exp().sin()

    def outer(x):
        return checkpoint(inner, x.cos(), use_reentrant=reentrant).tanh()

    x = lib.tensor([0.5, 2.0], dtype=lib.float64, requires_grad=True)
    plain = lib.autograd.grad(inner(x.cos()).tanh().sum(), x)[0]
    checkpoint(outer, x, use_reentrant=reentrant).sum().backward()
    assert lib.allclose(x.grad, plain)


@both
@pytest.mark.parametrize("early_stop", [True, False])
def test_early_stop(lib, early_stop):
    finished = []

    def function(x):
        y = x.exp() + 1
        finished.append(True)
        return y

    x = lib.ones(2, requires_grad=True)
    if lib is firesteel:
        y = lib.utils.checkpoint.checkpoint(function, x, use_reentrant=False, early_stop=early_stop)
    else:
        with lib.utils.checkpoint.set_checkpoint_early_stop(early_stop):
            y = lib.utils.checkpoint.checkpoint(function, x, use_reentrant=False)
    y.sum().backward()
    assert len(finished) == (1 if early_stop else 2)


@both
def test_a_function_that_differs_is_refused(lib):
    calls = []

    def other_count(x):
        calls.append(1)
        return x.exp().sin() if len(calls) == 1 else x + 2

    def other_shape(x):
        calls.append(1)
        return (x if len(calls) == 1 else lib.cat([x, x])).exp().sum()

    x = lib.ones(2, requires_grad=True)
    for function, text in (
        (other_count, "A different number of tensors"),
        (other_shape, "different metadata"),
    ):
        calls.clear()
        y = lib.utils.checkpoint.checkpoint(function, x, use_reentrant=False)
        with pytest.raises(lib.utils.checkpoint.CheckpointError, match=text):
            y.sum().backward()
        assert x.grad is None


@both
def test_arguments_changed_since_are_noticed(lib):
    x = lib.ones(2, requires_grad=True)
    h = x * 1
    y = lib.utils.checkpoint.checkpoint(lambda h: (h * 3).exp(), h, use_reentrant=False)
    with lib.no_grad():
        h.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@both
@variants
def test_exceptions_come_out(lib, reentrant):
    calls = []

    def function(x):
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("mine")
        return x.exp()

    x = lib.ones(2, requires_grad=True)
    y = lib.utils.checkpoint.checkpoint(function, x, use_reentrant=reentrant)
    with pytest.raises(KeyError, match="mine"):
        y.sum().backward()
    assert x.grad is None
    assert lib.is_grad_enabled()
    (x * x).sum().backward()  # no hook was left behind
    assert x.grad.tolist() == [2, 2]


@both
def test_without_gradients_it_is_a_call(lib):
    x = lib.ones(2, requires_grad=True)
    with lib.no_grad():
        assert not lib.utils.checkpoint.checkpoint(lib.exp, x, use_reentrant=False).requires_grad
    assert not lib.utils.checkpoint.checkpoint(lib.exp, x.detach(), use_reentrant=False).requires_grad


@both
@variants
@pytest.mark.parametrize("segments", [1, 2, 3])
def test_sequential(lib, reentrant, segments):
    model = block(lib).eval()
    x = lib.randn(3, 4, requires_grad=True)
    plain = lib.autograd.grad(model(x).sin().sum(), x)[0]
    y = lib.utils.checkpoint.checkpoint_sequential(model, segments, x, use_reentrant=reentrant)
    y.sin().sum().backward()
    assert lib.allclose(x.grad, plain)


def test_wrong_options():
    checkpoint = firesteel.utils.checkpoint
    x = firesteel.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="determinism_check"):
        checkpoint.checkpoint(firesteel.exp, x, determinism_check="maybe")
    with pytest.raises(ValueError, match="Unexpected keyword arguments: other"):
        checkpoint.checkpoint(firesteel.exp, x, use_reentrant=True, other=1)
    with pytest.raises(
        ValueError, match="segments is 3; it must be between 1 and the number of functions, 2"
    ):
        checkpoint.checkpoint_sequential([firesteel.exp, firesteel.sin], 3, x)

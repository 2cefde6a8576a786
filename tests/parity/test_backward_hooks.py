"""Full backward hooks of modules, as PyTorch calls them."""

import copy
import gc
import warnings
import weakref

import pytest

import firesteel
from libraries import both
from tensors import torch


def linear(lib):
    layer = lib.nn.Linear(2, 2)
    with lib.no_grad():
        layer.weight.copy_(lib.tensor([[1.0, 2.0], [3.0, 4.0]]))
        layer.bias.zero_()
    return layer


def leaf(lib):
    return lib.ones(1, 2, requires_grad=True)


def numbers(grads):
    return tuple(None if grad is None else [round(v, 4) for v in grad.flatten().tolist()] for grad in grads)


def noting(seen):
    return lambda module, inputs, outputs: seen.append(
        (type(module).__name__, numbers(inputs), numbers(outputs))
    )


@both
def test_the_hook_sees_both_sides(lib):
    seen, layer, x = [], linear(lib), leaf(lib)
    handle = layer.register_full_backward_hook(noting(seen))
    y = layer(x)
    assert y.grad_fn.name() == "BackwardHookFunctionBackward"
    y.sum().backward(retain_graph=True)
    assert seen == [("Linear", ([4.0, 6.0],), ([1.0, 1.0],))]
    y.sum().backward()
    assert len(seen) == 2
    handle.remove()
    layer(x).sum().backward()
    assert len(seen) == 2 and x.grad.tolist() == [[12.0, 18.0]]


@both
def test_hooks_replace_gradients(lib):
    layer, x = linear(lib), leaf(lib)
    layer.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 10,))
    layer.register_full_backward_pre_hook(lambda module, outputs: (outputs[0] * 2,))
    layer(x).sum().backward()
    assert x.grad.tolist() == [[80.0, 120.0]] and layer.weight.grad.tolist() == [[2.0, 2.0]] * 2


@both
def test_the_order_of_hooks(lib):
    order, layer = [], linear(lib)
    layer.register_full_backward_hook(lambda *_: order.append("second"))
    layer.register_full_backward_hook(lambda *_: order.append("first"), prepend=True)
    layer.register_full_backward_pre_hook(lambda *_: order.append("second before"))
    layer.register_full_backward_pre_hook(lambda *_: order.append("first before"), prepend=True)
    layer.register_forward_hook(lambda module, args, out: order.append(args[0].grad_fn is not None))
    layer(leaf(lib)).sum().backward()
    assert order == [True, "first before", "second before", "first", "second"]


@both
def test_modules_within_modules(lib):
    seen = []
    net = lib.nn.Sequential(linear(lib), lib.nn.Sigmoid(), linear(lib))
    for module in net:
        module.register_full_backward_hook(noting(seen))
    net(leaf(lib)).sum().backward()
    assert [name for name, *_ in seen] == ["Linear", "Sigmoid", "Linear"]
    assert [inputs for _, inputs, _ in seen[:-1]] == [outputs for *_, outputs in seen[1:]]


@both
def test_several_arguments_and_results(lib):
    class Two(lib.nn.Module):
        def forward(self, x, factor, y):
            return x * factor, y * x, "text"

    seen, module, x = [], Two(), lib.ones(2, requires_grad=True)
    module.register_full_backward_hook(noting(seen))
    first, second, text = module(x, 2, lib.full((2,), 3.0))
    assert text == "text"
    first.sum().backward(retain_graph=True)
    (first.sum() + second.sum()).backward()
    got = [(inputs[:2], outputs) for _, inputs, outputs in seen]
    ones = [1.0, 1.0]
    assert got == [(([2.0, 2.0], None), (ones, None, None)), (([5.0, 5.0], None), (ones, ones, None))]
    if lib is firesteel:  # PyTorch gives zeros for what requires no gradient
        assert [inputs[2] for _, inputs, _ in seen] == [None, None]


@both
def test_a_second_derivative_passes_the_module_again(lib):
    seen, layer, x = [], linear(lib), leaf(lib)
    layer.register_full_backward_hook(noting(seen))
    (grad,) = lib.autograd.grad((layer(x) ** 2).sum(), x, create_graph=True)
    grad.sum().backward()
    assert x.grad.tolist() == [[48.0, 68.0]] and len(seen) == 2


@both
def test_without_inputs_that_require_grad(lib):
    seen, layer = [], linear(lib)
    layer.register_full_backward_hook(noting(seen))
    with pytest.warns(
        UserWarning, match="Full backward hook is firing when gradients are computed with respect"
    ):
        layer(lib.ones(1, 2)).sum().backward()
    assert seen == [("Linear", (None,), ([1.0, 1.0],))] and layer.weight.grad is not None
    with lib.no_grad():
        assert not layer(leaf(lib)).requires_grad

    layer = linear(lib)
    layer.register_full_backward_hook(lambda *_: (lib.ones(1, 2),))
    with (
        warnings.catch_warnings(),
        pytest.raises(RuntimeError, match="should always return None or None for all"),
    ):
        warnings.simplefilter("ignore")
        layer(lib.ones(1, 2)).sum().backward()


@both
def test_results_that_cannot_be_hooked(lib):
    class Listing(lib.nn.Module):
        def forward(self, x):
            return [x * 2]

    seen, module, x = [], Listing(), leaf(lib)
    module.register_full_backward_hook(noting(seen))
    with pytest.warns(
        UserWarning, match="module output should be a Tensor or a tuple of Tensors but received"
    ):
        (y,) = module(x)
    y.sum().backward()
    assert seen == [] and x.grad.tolist() == [[2.0, 2.0]]


@both
def test_wrong_numbers_of_gradients(lib):
    layer = linear(lib)
    with layer.register_full_backward_hook(lambda module, inputs, outputs: inputs * 2):
        y = layer(leaf(lib)).sum()
    with pytest.raises(RuntimeError, match="invalid number of grad_input, got 2, but expected 1"):
        y.backward()
    layer.register_full_backward_pre_hook(lambda module, outputs: outputs * 2)
    with pytest.raises(RuntimeError, match="invalid number of grad_output, got 2, but expected 1"):
        layer(leaf(lib)).sum().backward()


@both
def test_its_results_cannot_be_overwritten(lib):
    net = lib.nn.Sequential(linear(lib), lib.nn.ReLU(inplace=True))
    net[0].register_full_backward_hook(lambda *_: None)
    with pytest.raises(RuntimeError, match="Output 0 of BackwardHookFunction is a view"):
        net(leaf(lib))


@both
def test_copies_have_the_hooks(lib):
    seen, layer = [], linear(lib)
    layer.register_full_backward_hook(noting(seen))
    copy.deepcopy(layer)(leaf(lib)).sum().backward()
    assert len(seen) == 1


def test_a_call_makes_no_garbage():
    layer, x = linear(firesteel), leaf(firesteel)
    layer.register_full_backward_hook(lambda *_: None)
    layer.register_full_backward_pre_hook(lambda *_: None)
    gc.collect()
    gc.disable()
    try:
        y = layer(x)
        node = weakref.ref(y.grad_fn)
        before = firesteel.graph.memory(y).nodes
        y.sum().backward()
        gone = weakref.ref(y)
        del y
        assert gone() is None and node() is None and before > 3
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.skipif(torch is None, reason="compares with PyTorch")
def test_gradient_maps_are_those_of_pytorch():
    """What Grad-CAM does: activations and their gradients of an inner layer."""
    results = []
    for lib in (firesteel, torch):
        lib.manual_seed(0)
        net = lib.nn.Sequential(lib.nn.Conv2d(1, 3, 3), lib.nn.ReLU(), lib.nn.Flatten(), lib.nn.Linear(48, 4))
        kept = {}
        net[1].register_forward_hook(lambda module, args, out, kept=kept: kept.update(out=out.detach()))
        net[1].register_full_backward_hook(
            lambda module, inputs, outputs, kept=kept: kept.update(grad=outputs[0].detach())
        )
        image = lib.linspace(-1, 1, 36).reshape(1, 1, 6, 6)
        net(image)[0, 2].backward()
        weights = kept["grad"].mean((2, 3), keepdim=True)
        results.append((weights * kept["out"]).sum(1).relu().numpy())
    assert results[0].shape == (1, 4, 4) and abs(results[0] - results[1]).max() < 1e-6

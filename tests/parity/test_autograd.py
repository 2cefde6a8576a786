"""What recording and backward mean, case by case as in PyTorch."""

import pytest

import firesteel
from libraries import same_in_both

torch = pytest.importorskip("torch")


def leaf(lib=firesteel, values=(1.0, 2.0, 3.0)):
    return lib.tensor(list(values), requires_grad=True)


def test_accumulation_and_zeroing():
    def run(lib):
        x = leaf(lib)
        (x * 2).sum().backward()
        (x * x).sum().backward()
        return x.grad

    same_in_both(run)


def test_reused_tensor():
    same_in_both(lambda lib: (lambda x: lib.autograd.grad((x * x + x.exp() * x).sum(), x))(leaf(lib)))


def test_second_backward_needs_retain_graph():
    y = (leaf() * leaf()).exp().sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_retain_graph():
    def run(lib):
        x = leaf(lib)
        y = (x * x).sum()
        y.backward(retain_graph=True)
        y.backward()
        return x.grad

    same_in_both(run)


@pytest.mark.parametrize("name", ["no_grad", "inference_mode"])
def test_no_grad_as_context_and_decorator(name):
    mode = getattr(firesteel, name, firesteel.no_grad)
    x = leaf()
    with mode():
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @mode()
    def double(t):
        return t * 2

    assert not double(x).requires_grad
    assert (x * 2).requires_grad


def test_enable_grad_and_set_grad_enabled():
    x = leaf()
    with firesteel.no_grad():
        with firesteel.enable_grad():
            assert (x * 2).requires_grad
        assert not firesteel.is_grad_enabled()
    with firesteel.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    firesteel.set_grad_enabled(False)
    assert not firesteel.is_grad_enabled()
    firesteel.set_grad_enabled(True)
    with pytest.raises(KeyError), firesteel.no_grad():
        raise KeyError
    assert firesteel.is_grad_enabled()


def test_detach_shares_memory():
    x = leaf()
    y = x.detach()
    assert not y.requires_grad and y.grad_fn is None and y.data_ptr() == x.data_ptr()
    with firesteel.no_grad():
        y[0] = 9.0
    assert x[0].item() == 9.0


@pytest.mark.parametrize(
    "write", [lambda x: x.add_(1), lambda x: x.__setitem__(0, 1.0), lambda x: x[:2].mul_(2)]
)
def test_leaf_in_place(write):
    x = leaf()
    with pytest.raises(RuntimeError, match="leaf"):
        write(x)
    assert x.tolist() == [1.0, 2.0, 3.0]
    with firesteel.no_grad():
        write(x)
    assert x.is_leaf


@pytest.mark.parametrize(
    "function", [lambda y: y.exp(), lambda y: y * y, lambda y: y.sigmoid(), lambda y: y.pow(3)]
)
def test_saved_tensor_changed(function):
    """An input that backward reads, or an output that it reads, was changed after."""
    y = leaf() * 1
    z = function(y)
    y.add_(1)
    z.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


IN_PLACE = {
    "view": lambda lib, y: (y[1:].mul_(3), y)[1],
    "view-and-base": lambda lib, y: (lambda v: (v.mul_(3), y * v.sum())[1])(y[1:]),
    "base-with-view": lambda lib, y: (lambda v: (y.mul_(3), v)[1])(y[1:]),
    "item": lambda lib, y: (y.__setitem__(0, y[1] * 5), y)[1],
    "mask": lambda lib, y: (y.__setitem__(lib.tensor([True, False, True]), 2.0), y)[1],
    "slice": lambda lib, y: (y.__setitem__(slice(0, 2), y[1:].exp()), y)[1],
    "chain": lambda lib, y: (lambda v: (v[0].mul_(4), v.add_(1), y)[2])(y.reshape(3, 1).t()),
    "twice": lambda lib, y: (y[0].mul_(2), y[1:].mul_(3), y[0].exp_(), y)[3],
    "expanded-read": lambda lib, y: (y[0].add_(y[2]), y.expand(2, 3))[1],
    "view-first": lambda lib, y: (lambda v, w: (w.mul_(2), v * w[:1])[1])(y[:2], y[1:]),
    "copy": lambda lib, y: (y[1:].copy_(y[:2].clone()), y)[1],
    "zero": lambda lib, y: (y[1:].zero_(), y)[1],
    "constant-target": lambda lib, y: (lambda c: (c[0].copy_(y), c[1].add_(y * y), c)[2])(lib.zeros(2, 3)),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_on_views(name):
    def run(lib):
        x = leaf(lib)
        out = IN_PLACE[name](lib, x * 1)
        weights = lib.arange(1.0, out.numel() + 1).reshape(out.shape)
        return out.detach(), lib.autograd.grad((out * weights).sum(), x)

    same_in_both(run)


def test_backward_with_gradient():
    def run(lib):
        x = leaf(lib)
        (x * x).backward(gradient=lib.tensor([1.0, -1.0, 0.5]))
        return x.grad

    same_in_both(run)


def test_backward_needs_a_scalar():
    with pytest.raises(RuntimeError, match="scalar"):
        (leaf() * 2).backward()
    with pytest.raises(RuntimeError, match="shape"):
        (leaf() * 2).backward(firesteel.ones(2))
    with pytest.raises(RuntimeError, match="require"):
        firesteel.ones(()).backward()


def test_integers_have_no_gradient():
    with pytest.raises(RuntimeError, match="float"):
        firesteel.tensor([1, 2], requires_grad=True)
    with pytest.raises(RuntimeError, match="float"):
        firesteel.tensor([1, 2]).requires_grad_()


@pytest.mark.parametrize(
    "function", [lambda x: x**4, lambda x: x.tanh(), lambda x: x.exp() * x, lambda x: x.sigmoid() / x]
)
def test_third_derivative(function):
    def run(lib):
        x = leaf(lib)
        y = function(x).sum()
        for _ in range(3):
            (y,) = lib.autograd.grad(y.sum(), x, create_graph=True)
        return y.detach()

    same_in_both(run)


def test_deep_chain():
    x = leaf()
    y = x
    for _ in range(20000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 1.0]
    del y


def test_tensor_hooks():
    def run(lib):
        x, seen = leaf(lib), []
        y = x * 2
        y.register_hook(lambda g: seen.append(g.clone()))
        handle = y.register_hook(lambda g: g * 10)
        x.register_hook(lambda g: g + 1)
        (y * y).sum().backward(retain_graph=True)
        handle.remove()
        (y * y).sum().backward()
        return x.grad, seen

    same_in_both(run)


def test_retain_grad():
    x = leaf()
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward()
    assert y.grad.tolist() == [4.0, 8.0, 12.0]


def test_grad_assignment():
    x = leaf()
    x.grad = firesteel.ones(3)
    (x * 1).sum().backward()
    assert x.grad.tolist() == [2.0] * 3
    x.grad = None
    assert x.grad is None
    with pytest.raises(RuntimeError):
        x.grad = firesteel.ones(2)
    with pytest.raises(TypeError):
        x.grad = 1.0


def test_grad_of_unused_input():
    x, z = leaf(), leaf()
    y = (x * 1).sum()
    with pytest.raises(RuntimeError, match="allow_unused"):
        firesteel.autograd.grad(y, [x, z], retain_graph=True)
    assert firesteel.autograd.grad(y, [x, z], allow_unused=True)[1] is None
    assert x.grad is None


NAMES = {
    "AddBackward0": lambda x, m: x + x, "SubBackward0": lambda x, m: x - x, "MulBackward0": lambda x, m: x * x, "DivBackward0": lambda x, m: x / x,
    "PowBackward0": lambda x, m: x**2, "ExpBackward0": lambda x, m: x.exp(), "LogBackward0": lambda x, m: x.log(), "SumBackward0": lambda x, m: x.sum(),
    "MeanBackward0": lambda x, m: x.mean(), "MmBackward0": lambda x, m: m @ m, "ReluBackward0": lambda x, m: x.relu(), "TBackward0": lambda x, m: m.t(),
    "NegBackward0": lambda x, m: -x, "SigmoidBackward0": lambda x, m: x.sigmoid(), "TanhBackward0": lambda x, m: x.tanh(),
    "SelectBackward0": lambda x, m: x[0], "SliceBackward0": lambda x, m: x[1:], "CloneBackward0": lambda x, m: x.clone(),
    "ViewBackward0": lambda x, m: m.view(-1), "UnsqueezeBackward0": lambda x, m: x.unsqueeze(0), "SumBackward1": lambda x, m: m.sum(0),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_grad_fn_name(name):
    result = NAMES[name](leaf(), firesteel.ones(2, 2, requires_grad=True))
    assert result.grad_fn.name() == name
    assert type(result.grad_fn).__name__ == name or repr(result.grad_fn).startswith(f"<{name}")


def test_next_functions():
    x = leaf()
    y = (x * 2 + firesteel.ones(3)).sum()
    (add, _), = y.grad_fn.next_functions  # fmt: skip
    (mul, _), (constant, _) = add.next_functions
    assert (add.name(), mul.name(), constant) == ("AddBackward0", "MulBackward0", None)
    accumulate = mul.next_functions[0][0]
    assert "AccumulateGrad" in accumulate.name() and accumulate.variable.data_ptr() == x.data_ptr()
    assert x.grad_fn is None and x.is_leaf


def test_the_first_input_of_a_linear_layer_is_its_bias():
    def names(lib):
        lib.manual_seed(0)
        model = lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.ReLU(), lib.nn.Linear(4, 2))
        node = lib.nn.MSELoss()(model(lib.ones(5, 3)), lib.ones(5, 2)).grad_fn
        path = []
        while node is not None:
            path.append(node.name().rpartition("::")[2])
            node = node.next_functions[0][0] if node.next_functions else None
        return path

    assert names(firesteel) == names(torch) == ["MseLossBackward0", "AddmmBackward0", "AccumulateGrad"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_names_of_losses_that_pytorch_composes(reduction):
    def names(lib):
        functional, x = lib.nn.functional, lib.ones(2, 3, requires_grad=True)
        labels = lib.tensor([0, 1])
        losses = (
            functional.l1_loss(x, lib.zeros(2, 3), reduction=reduction),
            functional.smooth_l1_loss(x, lib.zeros(2, 3), reduction=reduction, beta=0.0),
            functional.cross_entropy(x, labels, reduction=reduction, label_smoothing=0.1),
            functional.cross_entropy(x, labels, reduction=reduction),
        )
        return [loss.grad_fn.name() for loss in losses]

    assert names(firesteel) == names(torch)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_names_of_linear_layers(shape, bias):
    names = [lib.nn.Linear(3, 4, bias)(lib.ones(*shape)).grad_fn.name() for lib in (firesteel, torch)]
    assert names[0] == names[1]

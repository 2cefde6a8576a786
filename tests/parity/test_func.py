"""`torch.func`: what the transforms return is what PyTorch's return, and what the formulas say."""

import gc
from collections import namedtuple
from functools import cache, partial

import numpy as np
import pytest

import firesteel
from tensors import torch

LIBRARIES = [firesteel] if torch is None else [firesteel, torch]
both = pytest.mark.parametrize("lib", LIBRARIES, ids=lambda lib: lib.__name__)
parity = pytest.mark.skipif(torch is None, reason="compares with PyTorch")
# PyTorch warns of what its own forward mode and `linearize` do.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning"),
]
Pair = namedtuple("Pair", ["first", "second"])


def values(lib, *shape, seed=0):
    drawn = np.random.default_rng(seed).uniform(0.3, 1.7, shape)
    return lib.tensor(drawn.tolist(), dtype=lib.float64).reshape(shape)


def leaves(tree):
    """The tensors of a tree as nested lists, in a form that both libraries share."""
    if isinstance(tree, dict):
        return {key: leaves(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [type(tree).__name__, *(leaves(part) for part in tree)]
    if isinstance(tree, firesteel.Tensor) or (torch is not None and isinstance(tree, torch.Tensor)):
        return np.asarray(tree.detach().tolist()), tuple(tree.shape), str(tree.dtype).rpartition(".")[2]
    return tree


def assert_same(ours, theirs):
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(ours, list | tuple) and not (ours and isinstance(ours[0], np.ndarray)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(ours, tuple):
        assert ours[1:] == theirs[1:]
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-9, atol=1e-11)
    else:
        assert ours == theirs


def mlp_loss(lib, params, x, target):
    hidden = (x @ params["w1"].T + params["b1"]).tanh()
    return ((hidden @ params["w2"].T - target) ** 2).mean()


def mlp_params(lib):
    return {"w1": values(lib, 3, 2), "b1": values(lib, 3, seed=1), "w2": values(lib, 1, 3, seed=2)}


@cache
def net_class(lib):
    class Net(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = lib.nn.Linear(2, 3, dtype=lib.float64)
            self.last = lib.nn.Linear(3, 1, dtype=lib.float64)

        def forward(self, x):
            return self.last(self.hidden(x).tanh())

    return Net


def make_net(lib):
    """Both libraries' module with one set of values."""
    net = net_class(lib)()
    with lib.no_grad():
        for seed, parameter in enumerate(net.parameters()):
            parameter.copy_(values(lib, *parameter.shape, seed=seed))
    return net


def per_sample_gradients(lib, func):
    net = make_net(lib)
    params = {name: p.detach() for name, p in net.named_parameters()}

    def loss(params, x, y):
        output = func.functional_call(net, params, (x.unsqueeze(0),))
        return lib.nn.functional.mse_loss(output, y.unsqueeze(0))

    x, y = values(lib, 4, 2), values(lib, 4, 1, seed=3)
    return func.vmap(func.grad(loss), in_dims=(None, 0, 0))(params, x, y)


def ensemble(lib, func):
    models = [make_net(lib) for _ in range(3)]
    with lib.no_grad():
        for i, model in enumerate(models):
            model.last.weight.mul_(i + 1)
    params, buffers = func.stack_module_state(models)

    def call(params, buffers, x):
        return func.functional_call(models[0], (params, buffers), x)

    output = func.vmap(call, in_dims=(0, 0, None))(params, buffers, values(lib, 5, 2))
    output.sum().backward()
    return output, params["last.weight"].grad, params["last.weight"].is_leaf


# Each takes a library and its `func`, and returns a tree of tensors.
PROGRAMS = {
    "grad": lambda lib, f: f.grad(lambda x: (x.sin() * x).sum())(values(lib, 3)),
    "grad of grad": lambda lib, f: f.grad(f.grad(lambda x: x.sin() * x**2))(values(lib)),
    "third derivative": lambda lib, f: f.grad(f.grad(f.grad(lambda x: x**5)))(values(lib)),
    "unused argument": lambda lib, f: f.grad(lambda x, y: y.sum(), argnums=0)(values(lib, 2), values(lib, 2)),
    "constant": lambda lib, f: f.grad(lambda x: values(lib))(values(lib, 2)),
    "argnums": lambda lib, f: f.grad(lambda x, y, z: (x * y * z).sum(), argnums=(2, 0))(
        values(lib, 2), values(lib, 2, seed=1), values(lib, 2, seed=2)
    ),
    "negative argnum": lambda lib, f: f.grad(lambda x, y: (x * y).sum(), argnums=-1)(
        values(lib, 2), values(lib, 2, seed=1)
    ),
    "tuple of one argnum": lambda lib, f: f.grad(lambda x: (x * x).sum(), argnums=(0,))(values(lib, 2)),
    "keyword": lambda lib, f: f.grad(lambda x, *, scale: (x * scale).sum())(
        values(lib, 2), scale=values(lib, 2, seed=1)
    ),
    "grad_and_value": lambda lib, f: f.grad_and_value(lambda x: (x**3).sum())(values(lib, 3)),
    "aux": lambda lib, f: f.grad(lambda x: ((x**3).sum(), {"square": x * x}), has_aux=True)(values(lib, 3)),
    "value and aux": lambda lib, f: f.grad_and_value(lambda x: ((x**3).sum(), x * 2), has_aux=True)(
        values(lib, 3)
    ),
    "tree": lambda lib, f: f.grad(lambda t: (t["a"] * t["b"][0]).sum() + t["b"][1].sum())(
        {"a": values(lib, 2), "b": [values(lib, 2, seed=1), values(lib, 3)]}
    ),
    "named tuple": lambda lib, f: f.grad(lambda t: (t.first * t.second).sum())(
        Pair(values(lib, 2), values(lib, 2, seed=1))
    ),
    "grad of parameters": lambda lib, f: f.grad(partial(mlp_loss, lib))(
        mlp_params(lib), values(lib, 5, 2), values(lib, 5, 1)
    ),
    "closure is constant": lambda lib, f: (lambda x: f.grad(lambda y: (x * y).sum())(x))(values(lib, 2)),
    "no perturbation confusion": lambda lib, f: f.grad(lambda x: x * f.grad(lambda y: (x + y) ** 2)(x * 1.0))(
        values(lib)
    ),
    "inner gradient does not depend": lambda lib, f: f.grad(lambda x: x * f.grad(lambda y: x + y)(x))(
        values(lib)
    ),
    "inner no_grad": lambda lib, f: f.grad(lambda x: x**2 - lib.no_grad()(lambda: x**3)())(values(lib)),
    "vjp": lambda lib, f: f.vjp(lambda x, y: {"p": x * y, "s": x.sum()}, values(lib, 2), values(lib, 2))[1](
        {"p": values(lib, 2, seed=4), "s": values(lib)}
    ),
    "vjp twice": lambda lib, f: (lambda out, pull: (out, pull(values(lib, 2)), pull(values(lib, 2, seed=5))))(
        *f.vjp(lambda x: x**3, values(lib, 2))
    ),
    "vjp aux": lambda lib, f: f.vjp(lambda x: (x**3, x + 1), values(lib, 2), has_aux=True)[::2],
    "grad of vjp": lambda lib, f: f.grad(
        lambda v: (f.vjp(lambda x: x**3, values(lib, 2))[1](v)[0] ** 2).sum()
    )(values(lib, 2, seed=5)),
    "jvp": lambda lib, f: f.jvp(
        lambda x, y: (x * y, y.sin()),
        (values(lib, 2), values(lib, 2, seed=1)),
        (values(lib, 2, seed=2), values(lib, 2, seed=3)),
    ),
    "jvp aux": lambda lib, f: f.jvp(
        lambda x: (x**2, x + 1), (values(lib, 2),), (values(lib, 2, seed=2),), has_aux=True
    ),
    "jvp of linear": lambda lib, f: f.jvp(lambda x: 3 * x, (values(lib, 2),), (values(lib, 2, seed=2),)),
    "jvp of constant": lambda lib, f: f.jvp(
        lambda x: (values(lib, 3), x), (values(lib, 2),), (values(lib, 2, seed=2),)
    ),
    "jvp of identity": lambda lib, f: f.jvp(lambda x: x, (values(lib, 2),), (values(lib, 2, seed=2),)),
    "jvp with one unused": lambda lib, f: f.jvp(
        lambda x, y: x * 2, (values(lib, 2), values(lib, 3)), (values(lib, 2, seed=2), values(lib, 3))
    ),
    "jvp of tree": lambda lib, f: f.jvp(
        lambda t: {"out": t["a"] * t["b"]},
        ({"a": values(lib, 2), "b": values(lib, 2, seed=1)},),
        ({"a": values(lib, 2, seed=2), "b": values(lib, 2, seed=3)},),
    ),
    "jvp of jvp": lambda lib, f: f.jvp(
        lambda x: f.jvp(lambda y: y**4, (x,), (values(lib, 2, seed=1),))[1],
        (values(lib, 2),),
        (values(lib, 2, seed=2),),
    ),
    "grad of jvp": lambda lib, f: f.grad(
        lambda x: f.jvp(lambda y: y**4, (x,), (values(lib, 2, seed=1),))[1].sum()
    )(values(lib, 2)),
    "grad of jvp by tangent": lambda lib, f: f.grad(
        lambda t: (f.jvp(lambda y: y**4, (values(lib, 2),), (t,))[1] ** 2).sum()
    )(values(lib, 2, seed=1)),
    "linearize": lambda lib, f: (lambda out, push: (out, push(values(lib, 2)), push(values(lib, 2, seed=1))))(
        *f.linearize(lambda x: x.sin() * x, values(lib, 2, seed=6))
    ),
    "jacrev": lambda lib, f: f.jacrev(lambda x: (x @ x.T).sin())(values(lib, 2, 3)),
    "jacrev of several": lambda lib, f: f.jacrev(
        lambda x, y: {"a": x * y.sum(), "b": y.sum()}, argnums=(0, 1)
    )(values(lib, 2), values(lib, 3)),
    "jacrev of tree": lambda lib, f: f.jacrev(lambda t: (t["a"] * t["b"], t["a"].sum()))(
        {"a": values(lib, 2), "b": values(lib, 2, seed=1)}
    ),
    "jacrev aux": lambda lib, f: f.jacrev(lambda x: (x**2, x + 1), has_aux=True, chunk_size=1)(
        values(lib, 2)
    ),
    "jacrev empty": lambda lib, f: f.jacrev(lambda x: x * 2)(values(lib, 0)),
    "jacfwd": lambda lib, f: f.jacfwd(lambda x: (x @ x.T).sin())(values(lib, 2, 3)),
    "jacfwd of several": lambda lib, f: f.jacfwd(
        lambda x, y: {"a": x * y.sum(), "b": y.sum(), "c": values(lib, 2)}, argnums=(0, 1)
    )(values(lib, 2), values(lib, 3)),
    "jacfwd of tree": lambda lib, f: f.jacfwd(lambda t: (t["a"] * t["b"], t["a"].sum()))(
        {"a": values(lib, 2), "b": values(lib, 2, seed=1)}
    ),
    "jacfwd aux": lambda lib, f: f.jacfwd(lambda x: (x**2, x + 1), has_aux=True)(values(lib, 2)),
    "jacfwd of jacfwd": lambda lib, f: f.jacfwd(f.jacfwd(lambda x: (x**3).sum() * x))(values(lib, 2)),
    "jacfwd of jacrev": lambda lib, f: f.jacfwd(f.jacrev(lambda x: (x**3).sum() * x))(values(lib, 2)),
    "jacrev of jacfwd": lambda lib, f: f.jacrev(f.jacfwd(lambda x: (x**3).sum() * x))(values(lib, 2)),
    "hessian": lambda lib, f: f.hessian(lambda x: (x.sin() * x.sum()).sum())(values(lib, 3)),
    "hessian of several": lambda lib, f: f.hessian(lambda x, y: (x * y).prod(), argnums=(0, 1))(
        values(lib, 2), values(lib, 2, seed=1)
    ),
    "hessian of linear": lambda lib, f: f.hessian(lambda x: x.sum())(values(lib, 2)),
    "hessian of parameters": lambda lib, f: f.hessian(partial(mlp_loss, lib))(
        mlp_params(lib), values(lib, 5, 2), values(lib, 5, 1)
    ),
    "vmap": lambda lib, f: f.vmap(lambda x, y: x @ y)(values(lib, 4, 3), values(lib, 4, 3, seed=1)),
    "vmap in_dims": lambda lib, f: f.vmap(lambda x, y: x + y, in_dims=(-1, None), out_dims=1)(
        values(lib, 3, 4), values(lib, 3, seed=1)
    ),
    "vmap out_dims": lambda lib, f: f.vmap(lambda x: (x, x.sum(), x * 2), out_dims=(1, 0, -1))(
        values(lib, 4, 3)
    ),
    "vmap tuple of one out_dim": lambda lib, f: f.vmap(lambda x: x * 2, out_dims=(1,))(values(lib, 4, 3)),
    "vmap shared output": lambda lib, f: f.vmap(lambda x: (x, values(lib, 2), 7), out_dims=(0, None, None))(
        values(lib, 4, 3)
    ),
    "vmap constant": lambda lib, f: f.vmap(lambda x: values(lib, 2))(values(lib, 4, 3)),
    "vmap tree": lambda lib, f: f.vmap(
        lambda t, s: {"a": t["a"] * s, "b": [t["b"][0].sum()]}, in_dims=({"a": 0, "b": [1]}, None)
    )({"a": values(lib, 4, 2), "b": [values(lib, 3, 4)]}, 2.0),
    "vmap prefix": lambda lib, f: f.vmap(lambda t: t["a"] * t["b"], in_dims=(1,))(
        {"a": values(lib, 2, 4), "b": values(lib, 2, 4, seed=1)}
    ),
    "vmap keyword is shared": lambda lib, f: f.vmap(lambda x, *, y: x + y)(values(lib, 3), y=values(lib, 2)),
    "vmap nested": lambda lib, f: f.vmap(f.vmap(lambda x, y: x * y, (0, None)), (None, 0))(
        values(lib, 3), values(lib, 2)
    ),
    "vmap chunks": lambda lib, f: f.vmap(lambda x: x.sin(), chunk_size=2)(values(lib, 5, 2)),
    "vmap of empty": lambda lib, f: f.vmap(lambda x: (x.sum(), x * 2), out_dims=(0, 1))(values(lib, 0, 3)),
    "grad of vmap": lambda lib, f: f.grad(lambda w: f.vmap(lambda x: (x @ w).sin())(values(lib, 4, 3)).sum())(
        values(lib, 3, seed=1)
    ),
    "grad of vmap by batch": lambda lib, f: f.grad(lambda x: (f.vmap(lambda x: x**3)(x) ** 2).sum())(
        values(lib, 4, 3)
    ),
    "vmap of grad": lambda lib, f: f.vmap(f.grad(lambda w, x: (x @ w).sin()), in_dims=(None, 0))(
        values(lib, 3), values(lib, 4, 3, seed=1)
    ),
    "vmap of jacrev": lambda lib, f: f.vmap(f.jacrev(lambda x: x**2 * x.sum()))(values(lib, 4, 3)),
    "vmap of hessian": lambda lib, f: f.vmap(f.hessian(lambda x: (x**3).prod()))(values(lib, 2, 3)),
    "vmap of jvp": lambda lib, f: f.vmap(lambda x, t: f.jvp(lib.sin, (x,), (t,)))(
        values(lib, 3), values(lib, 3, seed=1)
    ),
    "per-sample gradients": per_sample_gradients,
    "ensemble": ensemble,
}


@parity
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_program_gives_the_same(name):
    ours = PROGRAMS[name](firesteel, firesteel.func)
    theirs = PROGRAMS[name](torch, torch.func)
    assert_same(leaves(ours), leaves(theirs))


def vector(*numbers):
    return firesteel.tensor(numbers, dtype=firesteel.float64)


# These hold without PyTorch.
def test_derivatives_are_those_of_the_formulas():
    f, x = firesteel.func, vector(0.5, -1.5)
    assert firesteel.allclose(f.grad(lambda x: (x**3).sum())(x), 3 * x**2)
    assert firesteel.allclose(f.jacrev(lambda x: x**3)(x), firesteel.eye(2) * (3 * x**2))
    assert firesteel.allclose(f.jacfwd(lambda x: x**3)(x), firesteel.eye(2) * (3 * x**2))
    assert firesteel.allclose(f.hessian(lambda x: (x**3).sum())(x), firesteel.eye(2) * (6 * x))
    output, product = f.jvp(lambda x: x**3, (x,), (vector(2.0, 3.0),))
    assert firesteel.equal(output, x**3)
    assert firesteel.allclose(product, 3 * x**2 * vector(2.0, 3.0))


def test_per_sample_gradients_add_up_to_the_gradient_of_the_sum():
    net, x = make_net(firesteel), values(firesteel, 4, 2)
    params = {name: p.detach() for name, p in net.named_parameters()}

    def loss(params, x):
        return firesteel.func.functional_call(net, params, x).square().sum()

    each = firesteel.vmap(firesteel.func.grad(loss), in_dims=(None, 0))(params, x)
    net(x).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert each[name].shape == (4, *parameter.shape)
        assert firesteel.allclose(each[name].sum(0), parameter.grad)


# What carries a history, and what is left alone: both libraries.
@both
def test_results_have_a_history_only_by_tensors_of_the_user(lib):
    f, w = lib.func, values(lib, 2).requires_grad_()
    x = values(lib, 2, seed=1)
    assert not f.grad(lambda x: (x**2).sum())(x).requires_grad
    assert not f.grad(f.grad(lambda x: x**3))(values(lib)).requires_grad
    gradient, (value, aux) = f.grad_and_value(lambda x: ((x**2 * w).sum(), x * 2), has_aux=True)(x)
    assert gradient.requires_grad and value.requires_grad and not aux.requires_grad
    (by_w,) = lib.autograd.grad(gradient.sum(), w, retain_graph=True)
    assert lib.allclose(by_w, 2 * x)
    gradient, value = f.grad_and_value(lambda x: (x**2).sum() + w.sum())(x)
    assert value.requires_grad and not gradient.requires_grad
    for result in (f.jacrev(lambda x: x * w)(x), f.jacfwd(lambda x: x * w)(x)):
        (by_w,) = lib.autograd.grad(result.sum(), w)
        assert lib.allclose(by_w, lib.ones_like(w))
    for product in f.jvp(lambda x: x**2 * w, (x,), (lib.ones_like(x),)):
        assert product.requires_grad
    assert not f.jvp(lambda x: x**2, (x,), (lib.ones_like(x),))[1].requires_grad
    output, pull = f.vjp(lambda x: x**2, x)
    assert not output.requires_grad and not pull(x)[0].requires_grad
    assert pull(w)[0].requires_grad


@both
def test_a_variable_of_a_finished_transform_is_no_history(lib):
    """The inner gradient is recorded for the outer transform's sake; afterwards nobody needs it."""
    f, data = lib.func, values(lib, 2, seed=1)

    def outer(w):
        inner = f.grad(lambda x: (x**2 * w).sum())(data)
        output, pull = f.vjp(lambda x: x * w, data)
        return f.grad(lambda y: (y * inner * output * pull(y)[0]).sum())(data).sum()

    gradient, value = f.grad_and_value(outer)(values(lib, 2))
    assert not gradient.requires_grad and not value.requires_grad


@both
def test_no_grad_around_a_transform_only_takes_the_history(lib):
    w, x = values(lib, 2).requires_grad_(), values(lib, 2, seed=1)
    with lib.no_grad():
        gradient = lib.func.grad(lambda x: (x**2 * w).sum())(x)
        own = lib.func.grad(lambda w: (w**2).sum())(w)
        assert not lib.is_grad_enabled()
    assert not gradient.requires_grad and not own.requires_grad
    assert lib.allclose(gradient, 2 * x * w)
    assert lib.allclose(own, 2 * w)

    def frozen(x):
        with lib.no_grad():
            inner = lib.func.grad(lambda y: (y**3).sum())(x)
        return (x * inner).sum()

    assert lib.allclose(lib.func.grad(frozen)(x), 3 * x**2)


@both
def test_no_gradient_is_added_anywhere(lib):
    w, x = values(lib, 2).requires_grad_(), values(lib, 2, seed=1).requires_grad_()
    lib.func.grad(lambda x: (x * w).sum())(x)
    lib.func.jacrev(lambda x: x * w)(x)
    lib.func.jacfwd(lambda x: x * w)(x)
    lib.func.hessian(lambda x: (x**3 * w).sum())(x)
    assert w.grad is None and x.grad is None
    lib.func.grad(lambda x: (x * w).sum())(x).sum().backward()
    assert x.grad is None and lib.allclose(w.grad, lib.ones_like(w))


@both
def test_second_derivatives_by_what_requires_grad(lib):
    x = values(lib, 3).requires_grad_()
    gradient = lib.func.grad(lambda x: (x**3).sum())(x)
    (second,) = lib.autograd.grad(gradient.sum(), x)
    assert lib.allclose(second, 6 * x)


def test_transforms_end_also_when_the_function_fails():
    def fail(x):
        raise KeyError("mine")

    with firesteel.no_grad():
        for transform in (firesteel.func.grad, firesteel.func.jacrev, firesteel.func.jacfwd):
            with pytest.raises(KeyError, match="mine"):
                transform(fail)(vector(1.0))
        assert not firesteel.is_grad_enabled()


# Random numbers.
@both
def test_randomness(lib):
    def draw(x):
        return x + lib.rand(2)

    x = lib.zeros(3)
    lib.manual_seed(0)
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        lib.vmap(draw)(x)
    same = lib.vmap(draw, randomness="same")(x)
    assert same.shape == (3, 2)
    assert lib.equal(same[0], same[1]) and lib.equal(same[0], same[2])
    different = lib.vmap(draw, randomness="different")(x)
    assert not lib.equal(different[0], different[1])
    assert not lib.equal(same, lib.vmap(draw, randomness="same")(x))
    with pytest.raises(RuntimeError, match="Only allowed values for randomness are"):
        lib.vmap(draw, randomness="some")(x)
    with pytest.raises(RuntimeError, match="randomness error mode"):
        lib.func.jacfwd(lambda x: x * lib.rand(3))(x)


def test_graphs_are_freed_without_the_garbage_collector():
    f, x = firesteel.func, values(firesteel, 4, 3)

    def run():
        w = values(firesteel, 3, 3)
        f.hessian(lambda w: (x @ w).tanh().sum())(w)
        f.jacfwd(f.grad(lambda w: (x @ w).tanh().sum()))(w)
        f.vmap(f.grad(lambda w, x: (w @ x).sum()), (None, 0))(w, x)
        output, pull = f.vjp(lambda w: {"y": x @ w}, w)
        pull(output)
        f.linearize(lambda w: x @ w, w)[1](w)

    run()
    gc.collect()
    gc.disable()
    try:
        before = firesteel.memory_stats()["allocated_bytes"]
        run()
        assert firesteel.memory_stats()["allocated_bytes"] == before
    finally:
        gc.enable()


def test_a_refused_draw_leaves_the_generator_alone():
    before = firesteel.get_rng_state()
    with pytest.raises(RuntimeError, match="randomness error mode"):
        firesteel.vmap(lambda x: x + firesteel.rand(()))(firesteel.zeros(3))
    assert firesteel.equal(firesteel.get_rng_state(), before)


def test_dropout_draws_for_each_example():
    dropout = partial(firesteel.nn.functional.dropout, p=0.5)
    x = firesteel.ones(2, 64)
    kept = firesteel.vmap(dropout, randomness="different")(x)
    assert not firesteel.equal(kept[0], kept[1])
    kept = firesteel.vmap(dropout, randomness="same")(x)
    assert firesteel.equal(kept[0], kept[1])


def test_examples_may_look_at_their_values_and_overwrite_them():
    x = vector(1.0, -2.0, 3.0)
    assert firesteel.equal(firesteel.vmap(lambda x: x if x > 0 else -x)(x), x.abs())
    firesteel.vmap(lambda x: x.mul_(2))(x)
    assert firesteel.equal(x, vector(2.0, -4.0, 6.0))


def test_vmap_of_a_module_and_of_a_partial():
    layer = firesteel.nn.Linear(3, 2)
    x = firesteel.ones(4, 3)
    assert firesteel.allclose(firesteel.vmap(layer)(x), layer(x))
    assert firesteel.vmap(partial(firesteel.add, firesteel.ones(3)))(x).shape == (4, 3)
    assert firesteel.vmap is firesteel.func.vmap


def test_an_empty_batch_keeps_its_history():
    x = firesteel.zeros(2, 0, 3, requires_grad=True)
    w = firesteel.ones(3, requires_grad=True)
    output = firesteel.vmap(lambda x: x * w, in_dims=1, out_dims=1)(x)
    assert output.shape == (2, 0, 3)
    output.sum().backward()
    assert firesteel.equal(w.grad, firesteel.zeros(3))


def test_outputs_must_be_alike():
    x = vector(1.0, 2.0)
    with pytest.raises(ValueError, match="same structure"):
        firesteel.vmap(lambda x: x if x > 1 else (x, x))(x)
    with pytest.raises(ValueError, match="BatchedTensor when out_dim is None"):
        firesteel.vmap(lambda x: (x, x.item()), out_dims=(0, None))(x)


def test_gradients_through_a_custom_function():
    class Cube(firesteel.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * grad

    x = vector(1.0, 2.0)
    assert firesteel.allclose(firesteel.func.grad(lambda x: Cube.apply(x).sum())(x), 3 * x**2)
    hessian = firesteel.func.hessian(lambda x: Cube.apply(x).sum())(x)
    assert firesteel.allclose(hessian, firesteel.eye(2) * (6 * x))


# Errors: class and the beginning of the text are PyTorch's.
ERRORS = {
    "no scalar": lambda lib, f: f.grad(lambda x: x)(values(lib, 2)),
    "no tensor": lambda lib, f: f.grad(lambda x: 3.0)(values(lib, 2)),
    "no aux": lambda lib, f: f.grad(lambda x: x.sum(), has_aux=True)(values(lib, 2)),
    "argnum": lambda lib, f: f.grad(lambda x: x.sum(), argnums=1)(values(lib, 2)),
    "argnum float": lambda lib, f: f.grad(lambda x: x.sum(), argnums=1.0)(values(lib, 2)),
    "argnums twice": lambda lib, f: f.grad(lambda x: x.sum(), argnums=(0, 0))(values(lib, 2)),
    "argnums empty": lambda lib, f: f.grad(lambda x: x.sum(), argnums=())(values(lib, 2)),
    "float argument": lambda lib, f: f.grad(lambda x: x)(2.0),
    "int": lambda lib, f: f.grad(lambda x: x.sum())(lib.tensor([1])),
    "vjp int output": lambda lib, f: f.vjp(lambda x: lib.tensor(1), values(lib)),
    "vjp no tensor": lambda lib, f: f.vjp(lambda x: (x, 1.0), values(lib)),
    "vjp None": lambda lib, f: f.vjp(lambda x: None, values(lib)),
    "vjp structure": lambda lib, f: f.vjp(lambda x: (x, x), values(lib))[1](values(lib)),
    "jvp no tuple": lambda lib, f: f.jvp(lambda x: x, values(lib), values(lib)),
    "jvp structure": lambda lib, f: f.jvp(lambda x: x, (values(lib),), (values(lib), values(lib))),
    "jvp strict": lambda lib, f: f.jvp(lambda x: values(lib), (values(lib),), (values(lib),), strict=True),
    "jvp shape": lambda lib, f: f.jvp(lambda x: x, (values(lib, 2),), (values(lib, 3),)),
    "jacrev chunk": lambda lib, f: f.jacrev(lambda x: x, chunk_size=0),
    "vmap chunk": lambda lib, f: f.vmap(lambda x: x, chunk_size=0)(values(lib, 2)),
    "vmap sizes": lambda lib, f: f.vmap(lambda x, y: x)(values(lib, 2), values(lib, 3)),
    "vmap nothing": lambda lib, f: f.vmap(lambda x: x, in_dims=(None,))(values(lib, 2)),
    "vmap no inputs": lambda lib, f: f.vmap(lambda: 1)(),
    "vmap in_dims list": lambda lib, f: f.vmap(lambda x: x, in_dims=[0])(values(lib, 2)),
    "vmap in_dims structure": lambda lib, f: f.vmap(lambda x: x, in_dims=(0, 0))(values(lib, 2)),
    "vmap in_dim float": lambda lib, f: f.vmap(lambda x: x, in_dims=(0.5,))(values(lib, 2)),
    "vmap in_dim range": lambda lib, f: f.vmap(lambda x: x, in_dims=1)(values(lib, 2)),
    "vmap no tensor input": lambda lib, f: f.vmap(lambda x, y: x)(values(lib, 2), 3),
    "vmap no tensor output": lambda lib, f: f.vmap(lambda x: 3)(values(lib, 2)),
    "vmap out_dims": lambda lib, f: f.vmap(lambda x: (x, x), out_dims=(0, 0, 0))(values(lib, 2)),
    "vmap out_dims tuple": lambda lib, f: f.vmap(lambda x: x, out_dims=(0, 0))(values(lib, 2)),
    "vmap out_dim float": lambda lib, f: f.vmap(lambda x: x, out_dims=0.5)(values(lib, 2)),
    "vmap out_dim range": lambda lib, f: f.vmap(lambda x: x, out_dims=3)(values(lib, 2)),
    "vmap batched": lambda lib, f: f.vmap(lambda x: x * 2, out_dims=None)(values(lib, 2)),
    "no models": lambda lib, f: f.stack_module_state([]),
}
# They say more, or how trees are written differs.
OWN_TEXTS = {"int", "jvp shape", "vmap out_dim range"}


@parity
@pytest.mark.parametrize("name", ERRORS)
def test_misuse_raises_what_pytorch_raises(name):
    with pytest.raises(Exception) as theirs:
        ERRORS[name](torch, torch.func)
    with pytest.raises(type(theirs.value)) as ours:
        ERRORS[name](firesteel, firesteel.func)

    def clean(error):
        return str(error.value).replace("firesteel.", "torch.")

    if name not in OWN_TEXTS:
        assert clean(ours)[:60] == clean(theirs)[:60]

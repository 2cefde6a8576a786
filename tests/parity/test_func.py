"""`torch.func`: what the transforms return is what PyTorch's return, and what the formulas say."""

from collections import namedtuple
from functools import cache, partial

import numpy as np
import pytest

import firesteel
from libraries import drawn, parity
from tensors import torch

# PyTorch warns of what its own forward mode and `linearize` do.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning"),
]
Pair = namedtuple("Pair", ["first", "second"])


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
    return {"w1": drawn(lib, 3, 2), "b1": drawn(lib, 3, seed=1), "w2": drawn(lib, 1, 3, seed=2)}


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
            parameter.copy_(drawn(lib, *parameter.shape, seed=seed))
    return net


def per_sample_gradients(lib, func):
    net = make_net(lib)
    params = {name: p.detach() for name, p in net.named_parameters()}

    def loss(params, x, y):
        output = func.functional_call(net, params, (x.unsqueeze(0),))
        return lib.nn.functional.mse_loss(output, y.unsqueeze(0))

    x, y = drawn(lib, 4, 2), drawn(lib, 4, 1, seed=3)
    return func.vmap(func.grad(loss), in_dims=(None, 0, 0))(params, x, y)


def ensemble(lib, func):
    models = [make_net(lib) for _ in range(3)]
    with lib.no_grad():
        for i, model in enumerate(models):
            model.last.weight.mul_(i + 1)
    params, buffers = func.stack_module_state(models)

    def call(params, buffers, x):
        return func.functional_call(models[0], (params, buffers), x)

    output = func.vmap(call, in_dims=(0, 0, None))(params, buffers, drawn(lib, 5, 2))
    output.sum().backward()
    return output, params["last.weight"].grad, params["last.weight"].is_leaf


# Each takes a library and its `func`, and returns a tree of tensors.
PROGRAMS = {
    "grad": lambda lib, f: f.grad(lambda x: (x.sin() * x).sum())(drawn(lib, 3)),
    "grad of grad": lambda lib, f: f.grad(f.grad(lambda x: x.sin() * x**2))(drawn(lib)),
    "third derivative": lambda lib, f: f.grad(f.grad(f.grad(lambda x: x**5)))(drawn(lib)),
    "unused argument": lambda lib, f: f.grad(lambda x, y: y.sum(), argnums=0)(drawn(lib, 2), drawn(lib, 2)),
    "constant": lambda lib, f: f.grad(lambda x: drawn(lib))(drawn(lib, 2)),
    "argnums": lambda lib, f: f.grad(lambda x, y, z: (x * y * z).sum(), argnums=(2, 0))(
        drawn(lib, 2), drawn(lib, 2, seed=1), drawn(lib, 2, seed=2)
    ),
    "negative argnum": lambda lib, f: f.grad(lambda x, y: (x * y).sum(), argnums=-1)(
        drawn(lib, 2), drawn(lib, 2, seed=1)
    ),
    "tuple of one argnum": lambda lib, f: f.grad(lambda x: (x * x).sum(), argnums=(0,))(drawn(lib, 2)),
    "keyword": lambda lib, f: f.grad(lambda x, *, scale: (x * scale).sum())(
        drawn(lib, 2), scale=drawn(lib, 2, seed=1)
    ),
    "grad_and_value": lambda lib, f: f.grad_and_value(lambda x: (x**3).sum())(drawn(lib, 3)),
    "aux": lambda lib, f: f.grad(lambda x: ((x**3).sum(), {"square": x * x}), has_aux=True)(drawn(lib, 3)),
    "value and aux": lambda lib, f: f.grad_and_value(lambda x: ((x**3).sum(), x * 2), has_aux=True)(
        drawn(lib, 3)
    ),
    "tree": lambda lib, f: f.grad(lambda t: (t["a"] * t["b"][0]).sum() + t["b"][1].sum())(
        {"a": drawn(lib, 2), "b": [drawn(lib, 2, seed=1), drawn(lib, 3)]}
    ),
    "named tuple": lambda lib, f: f.grad(lambda t: (t.first * t.second).sum())(
        Pair(drawn(lib, 2), drawn(lib, 2, seed=1))
    ),
    "grad of parameters": lambda lib, f: f.grad(partial(mlp_loss, lib))(
        mlp_params(lib), drawn(lib, 5, 2), drawn(lib, 5, 1)
    ),
    "closure is constant": lambda lib, f: (lambda x: f.grad(lambda y: (x * y).sum())(x))(drawn(lib, 2)),
    "no perturbation confusion": lambda lib, f: f.grad(lambda x: x * f.grad(lambda y: (x + y) ** 2)(x * 1.0))(
        drawn(lib)
    ),
    "inner gradient does not depend": lambda lib, f: f.grad(lambda x: x * f.grad(lambda y: x + y)(x))(
        drawn(lib)
    ),
    "inner no_grad": lambda lib, f: f.grad(lambda x: x**2 - lib.no_grad()(lambda: x**3)())(drawn(lib)),
    "vjp": lambda lib, f: f.vjp(lambda x, y: {"p": x * y, "s": x.sum()}, drawn(lib, 2), drawn(lib, 2))[1](
        {"p": drawn(lib, 2, seed=4), "s": drawn(lib)}
    ),
    "vjp twice": lambda lib, f: (lambda out, pull: (out, pull(drawn(lib, 2)), pull(drawn(lib, 2, seed=5))))(
        *f.vjp(lambda x: x**3, drawn(lib, 2))
    ),
    "vjp aux": lambda lib, f: f.vjp(lambda x: (x**3, x + 1), drawn(lib, 2), has_aux=True)[::2],
    "grad of vjp": lambda lib, f: f.grad(
        lambda v: (f.vjp(lambda x: x**3, drawn(lib, 2))[1](v)[0] ** 2).sum()
    )(drawn(lib, 2, seed=5)),
    "jvp": lambda lib, f: f.jvp(
        lambda x, y: (x * y, y.sin()),
        (drawn(lib, 2), drawn(lib, 2, seed=1)),
        (drawn(lib, 2, seed=2), drawn(lib, 2, seed=3)),
    ),
    "jvp aux": lambda lib, f: f.jvp(
        lambda x: (x**2, x + 1), (drawn(lib, 2),), (drawn(lib, 2, seed=2),), has_aux=True
    ),
    "jvp of linear": lambda lib, f: f.jvp(lambda x: 3 * x, (drawn(lib, 2),), (drawn(lib, 2, seed=2),)),
    "jvp of constant": lambda lib, f: f.jvp(
        lambda x: (drawn(lib, 3), x), (drawn(lib, 2),), (drawn(lib, 2, seed=2),)
    ),
    "jvp of identity": lambda lib, f: f.jvp(lambda x: x, (drawn(lib, 2),), (drawn(lib, 2, seed=2),)),
    "jvp with one unused": lambda lib, f: f.jvp(
        lambda x, y: x * 2, (drawn(lib, 2), drawn(lib, 3)), (drawn(lib, 2, seed=2), drawn(lib, 3))
    ),
    "jvp of tree": lambda lib, f: f.jvp(
        lambda t: {"out": t["a"] * t["b"]},
        ({"a": drawn(lib, 2), "b": drawn(lib, 2, seed=1)},),
        ({"a": drawn(lib, 2, seed=2), "b": drawn(lib, 2, seed=3)},),
    ),
    "jvp of jvp": lambda lib, f: f.jvp(
        lambda x: f.jvp(lambda y: y**4, (x,), (drawn(lib, 2, seed=1),))[1],
        (drawn(lib, 2),),
        (drawn(lib, 2, seed=2),),
    ),
    "grad of jvp": lambda lib, f: f.grad(
        lambda x: f.jvp(lambda y: y**4, (x,), (drawn(lib, 2, seed=1),))[1].sum()
    )(drawn(lib, 2)),
    "grad of jvp by tangent": lambda lib, f: f.grad(
        lambda t: (f.jvp(lambda y: y**4, (drawn(lib, 2),), (t,))[1] ** 2).sum()
    )(drawn(lib, 2, seed=1)),
    "linearize": lambda lib, f: (lambda out, push: (out, push(drawn(lib, 2)), push(drawn(lib, 2, seed=1))))(
        *f.linearize(lambda x: x.sin() * x, drawn(lib, 2, seed=6))
    ),
    "jacrev": lambda lib, f: f.jacrev(lambda x: (x @ x.T).sin())(drawn(lib, 2, 3)),
    "jacrev of several": lambda lib, f: f.jacrev(
        lambda x, y: {"a": x * y.sum(), "b": y.sum()}, argnums=(0, 1)
    )(drawn(lib, 2), drawn(lib, 3)),
    "jacrev of tree": lambda lib, f: f.jacrev(lambda t: (t["a"] * t["b"], t["a"].sum()))(
        {"a": drawn(lib, 2), "b": drawn(lib, 2, seed=1)}
    ),
    "jacrev aux": lambda lib, f: f.jacrev(lambda x: (x**2, x + 1), has_aux=True, chunk_size=1)(drawn(lib, 2)),
    "jacrev empty": lambda lib, f: f.jacrev(lambda x: x * 2)(drawn(lib, 0)),
    "jacfwd": lambda lib, f: f.jacfwd(lambda x: (x @ x.T).sin())(drawn(lib, 2, 3)),
    "jacfwd of several": lambda lib, f: f.jacfwd(
        lambda x, y: {"a": x * y.sum(), "b": y.sum(), "c": drawn(lib, 2)}, argnums=(0, 1)
    )(drawn(lib, 2), drawn(lib, 3)),
    "jacfwd of tree": lambda lib, f: f.jacfwd(lambda t: (t["a"] * t["b"], t["a"].sum()))(
        {"a": drawn(lib, 2), "b": drawn(lib, 2, seed=1)}
    ),
    "jacfwd aux": lambda lib, f: f.jacfwd(lambda x: (x**2, x + 1), has_aux=True)(drawn(lib, 2)),
    "jacfwd of jacfwd": lambda lib, f: f.jacfwd(f.jacfwd(lambda x: (x**3).sum() * x))(drawn(lib, 2)),
    "jacfwd of jacrev": lambda lib, f: f.jacfwd(f.jacrev(lambda x: (x**3).sum() * x))(drawn(lib, 2)),
    "jacrev of jacfwd": lambda lib, f: f.jacrev(f.jacfwd(lambda x: (x**3).sum() * x))(drawn(lib, 2)),
    "hessian": lambda lib, f: f.hessian(lambda x: (x.sin() * x.sum()).sum())(drawn(lib, 3)),
    "hessian of several": lambda lib, f: f.hessian(lambda x, y: (x * y).prod(), argnums=(0, 1))(
        drawn(lib, 2), drawn(lib, 2, seed=1)
    ),
    "hessian of linear": lambda lib, f: f.hessian(lambda x: x.sum())(drawn(lib, 2)),
    "hessian of parameters": lambda lib, f: f.hessian(partial(mlp_loss, lib))(
        mlp_params(lib), drawn(lib, 5, 2), drawn(lib, 5, 1)
    ),
    "vmap": lambda lib, f: f.vmap(lambda x, y: x @ y)(drawn(lib, 4, 3), drawn(lib, 4, 3, seed=1)),
    "vmap in_dims": lambda lib, f: f.vmap(lambda x, y: x + y, in_dims=(-1, None), out_dims=1)(
        drawn(lib, 3, 4), drawn(lib, 3, seed=1)
    ),
    "vmap out_dims": lambda lib, f: f.vmap(lambda x: (x, x.sum(), x * 2), out_dims=(1, 0, -1))(
        drawn(lib, 4, 3)
    ),
    "vmap tuple of one out_dim": lambda lib, f: f.vmap(lambda x: x * 2, out_dims=(1,))(drawn(lib, 4, 3)),
    "vmap shared output": lambda lib, f: f.vmap(lambda x: (x, drawn(lib, 2), 7), out_dims=(0, None, None))(
        drawn(lib, 4, 3)
    ),
    "vmap constant": lambda lib, f: f.vmap(lambda x: drawn(lib, 2))(drawn(lib, 4, 3)),
    "vmap tree": lambda lib, f: f.vmap(
        lambda t, s: {"a": t["a"] * s, "b": [t["b"][0].sum()]}, in_dims=({"a": 0, "b": [1]}, None)
    )({"a": drawn(lib, 4, 2), "b": [drawn(lib, 3, 4)]}, 2.0),
    "vmap prefix": lambda lib, f: f.vmap(lambda t: t["a"] * t["b"], in_dims=(1,))(
        {"a": drawn(lib, 2, 4), "b": drawn(lib, 2, 4, seed=1)}
    ),
    "vmap keyword is shared": lambda lib, f: f.vmap(lambda x, *, y: x + y)(drawn(lib, 3), y=drawn(lib, 2)),
    "vmap nested": lambda lib, f: f.vmap(f.vmap(lambda x, y: x * y, (0, None)), (None, 0))(
        drawn(lib, 3), drawn(lib, 2)
    ),
    "vmap chunks": lambda lib, f: f.vmap(lambda x: x.sin(), chunk_size=2)(drawn(lib, 5, 2)),
    "vmap of empty": lambda lib, f: f.vmap(lambda x: (x.sum(), x * 2), out_dims=(0, 1))(drawn(lib, 0, 3)),
    "grad of vmap": lambda lib, f: f.grad(lambda w: f.vmap(lambda x: (x @ w).sin())(drawn(lib, 4, 3)).sum())(
        drawn(lib, 3, seed=1)
    ),
    "grad of vmap by batch": lambda lib, f: f.grad(lambda x: (f.vmap(lambda x: x**3)(x) ** 2).sum())(
        drawn(lib, 4, 3)
    ),
    "vmap of grad": lambda lib, f: f.vmap(f.grad(lambda w, x: (x @ w).sin()), in_dims=(None, 0))(
        drawn(lib, 3), drawn(lib, 4, 3, seed=1)
    ),
    "vmap of jacrev": lambda lib, f: f.vmap(f.jacrev(lambda x: x**2 * x.sum()))(drawn(lib, 4, 3)),
    "vmap of hessian": lambda lib, f: f.vmap(f.hessian(lambda x: (x**3).prod()))(drawn(lib, 2, 3)),
    "vmap of jvp": lambda lib, f: f.vmap(lambda x, t: f.jvp(lib.sin, (x,), (t,)))(
        drawn(lib, 3), drawn(lib, 3, seed=1)
    ),
    "hessian of convolution": lambda lib, f: f.hessian(
        lambda w: lib.nn.functional.conv2d(drawn(lib, 1, 1, 4, 4), w).tanh().sum()
    )(drawn(lib, 1, 1, 2, 2)),
    "per-sample cross entropy": lambda lib, f: f.vmap(
        f.grad(lambda w, x, y: lib.nn.functional.cross_entropy(w @ x, y)), in_dims=(None, 0, 0)
    )(drawn(lib, 3, 2), drawn(lib, 4, 2), lib.tensor([0, 1, 2, 0])),
    "jacfwd of layer norm": lambda lib, f: f.jacfwd(lambda x: lib.nn.functional.layer_norm(x, (3,)))(
        drawn(lib, 2, 3)
    ),
    "jvp at infinite slope": lambda lib, f: f.jvp(
        lib.sqrt, (lib.tensor([0.0, 1.0]),), (lib.tensor([1.0, 1.0]),)
    ),
    "jvp with truth values": lambda lib, f: f.jvp(
        lambda x: (x > 1, x * 2), (drawn(lib, 3),), (drawn(lib, 3),)
    ),
    "grad of an inner value": lambda lib, f: f.grad(lambda x: f.grad_and_value(lambda y: y**3 * x)(x)[1])(
        drawn(lib)
    ),
    "vmap of a pullback": lambda lib, f: f.vmap(f.vjp(lambda x: x**3, drawn(lib, 2))[1])(drawn(lib, 4, 2)),
    "jacrev of vmap of grad": lambda lib, f: f.jacrev(
        lambda w: f.vmap(f.grad(lambda x, w: (x * w).sin().sum()), (0, None))(drawn(lib, 3, 2), w)
    )(drawn(lib, 2)),
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
    net, x = make_net(firesteel), drawn(firesteel, 4, 2)
    params = {name: p.detach() for name, p in net.named_parameters()}

    def loss(params, x):
        return firesteel.func.functional_call(net, params, x).square().sum()

    each = firesteel.vmap(firesteel.func.grad(loss), in_dims=(None, 0))(params, x)
    net(x).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert each[name].shape == (4, *parameter.shape)
        assert firesteel.allclose(each[name].sum(0), parameter.grad)

"""`autograd.functional`, and `grad` for batches of gradients: as in PyTorch, and by formulas."""

import numpy as np
import pytest

import firesteel
from libraries import both, drawn, parity
from tensors import torch


def two(lib, *shape):
    return drawn(lib, *shape), drawn(lib, *shape, seed=1)


def cubes(x):
    return (x**3).sum()


def api(lib):
    return lib.autograd.functional


def assert_same(ours, theirs):
    assert isinstance(ours, tuple) == isinstance(theirs, tuple)
    if isinstance(ours, tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert ours.shape == theirs.shape and ours.requires_grad == theirs.requires_grad
        np.testing.assert_allclose(ours.tolist(), theirs.tolist(), rtol=1e-9, atol=1e-11)


PROGRAMS = {
    "vjp": lambda lib: api(lib).vjp(lambda x: x.exp().sum(1), drawn(lib, 2, 3), drawn(lib, 2)),
    "vjp of several": lambda lib: api(lib).vjp(lambda x, y: (x * y, y.sum()), two(lib, 2), (drawn(lib, 2), drawn(lib))),
    "vjp without v": lambda lib: api(lib).vjp(lambda x: x.exp().sum(), drawn(lib, 2)),
    "vjp unused": lambda lib: api(lib).vjp(lambda x, y: x.sum(), two(lib, 2)),
    "vjp constant": lambda lib: api(lib).vjp(lambda x: drawn(lib), drawn(lib, 2)),
    "vjp graph": lambda lib: api(lib).vjp(lambda x: x.exp(), drawn(lib, 2).requires_grad_(), drawn(lib, 2), create_graph=True),
    "vjp of requires_grad": lambda lib: api(lib).vjp(lambda x: x.exp(), drawn(lib, 2).requires_grad_(), drawn(lib, 2)),
    "jvp": lambda lib: api(lib).jvp(lambda x: x.exp().sum(1), drawn(lib, 2, 3), drawn(lib, 2, 3)),
    "jvp of several": lambda lib: api(lib).jvp(lambda x, y: (x * y, y.sum()), two(lib, 2), two(lib, 2)),
    "jvp without v": lambda lib: api(lib).jvp(lambda x: (x * 2, x.exp()), drawn(lib, 1)),
    "jvp linear": lambda lib: api(lib).jvp(lambda x: 2 * x, drawn(lib, 2), drawn(lib, 2)),
    "jvp constant": lambda lib: api(lib).jvp(lambda x: (x, drawn(lib, 3)), drawn(lib, 2), drawn(lib, 2)),
    "jvp graph": lambda lib: api(lib).jvp(lambda x: x.exp(), drawn(lib, 2).requires_grad_(), drawn(lib, 2), create_graph=True),
    "jacobian": lambda lib: api(lib).jacobian(lambda x: x.exp().sum(1), drawn(lib, 2, 3)),
    "jacobian in a tuple": lambda lib: api(lib).jacobian(lambda x: x.exp(), (drawn(lib, 2),)),
    "jacobian of several": lambda lib: api(lib).jacobian(lambda x, y: (x * y, y.sum()), two(lib, 2)),
    "jacobian constant": lambda lib: api(lib).jacobian(lambda x: drawn(lib, 2), drawn(lib, 3)),
    "jacobian graph": lambda lib: api(lib).jacobian(lambda x: x.exp(), drawn(lib, 2).requires_grad_(), create_graph=True),
    "jacobian vectorized": lambda lib: api(lib).jacobian(lambda x: x.exp(), drawn(lib, 2), vectorize=True),
    "jacobian strict": lambda lib: api(lib).jacobian(lambda x, y: x * y, two(lib, 2), strict=True),
    "hessian": lambda lib: api(lib).hessian(lambda x: (x**3).sum() * x[0], drawn(lib, 3)),
    "hessian of several": lambda lib: api(lib).hessian(lambda x, y: (x * y**2).sum(), two(lib, 2)),
    "hessian linear": lambda lib: api(lib).hessian(lambda x: x.sum(), drawn(lib, 2)),
    "hessian of one element": lambda lib: api(lib).hessian(lambda x: (x**3).sum(0, keepdim=True), drawn(lib, 2)),
    "hessian graph": lambda lib: api(lib).hessian(lambda x: (x**3).sum(), drawn(lib, 2).requires_grad_(), create_graph=True),
    # Quadratic functions: the second derivatives are constant, and have a history all the same.
    "hessian of a square, graph": lambda lib: api(lib).hessian(lambda x: x.square().sum(), drawn(lib, 2), create_graph=True),
    "hessian of a power, graph": lambda lib: api(lib).hessian(lambda x: (x**2).sum(), drawn(lib, 2).requires_grad_(), create_graph=True, strict=True),
    "hessian of a product, graph": lambda lib: api(lib).hessian(lambda x: (x * x).sum(), drawn(lib, 2), create_graph=True),
    "vhp of a power, graph": lambda lib: api(lib).vhp(lambda x: (x**2).sum(), drawn(lib, 2), drawn(lib, 2), create_graph=True, strict=True),
    "hvp of a square, graph": lambda lib: api(lib).hvp(lambda x: x.square().sum(), drawn(lib, 2), drawn(lib, 2), create_graph=True, strict=True),
    "hvp of a product, graph": lambda lib: api(lib).hvp(lambda x: (x * x).sum(), drawn(lib, 2), drawn(lib, 2), create_graph=True),
    "vhp": lambda lib: api(lib).vhp(lambda x: (x**3).sum() * x[0], drawn(lib, 3), drawn(lib, 3, seed=1)),
    "vhp of several": lambda lib: api(lib).vhp(lambda x, y: (x * y**2).sum(), two(lib, 2), two(lib, 2)),
    "vhp linear": lambda lib: api(lib).vhp(lambda x: x.sum(), drawn(lib, 2), drawn(lib, 2)),
    "vhp without v": lambda lib: api(lib).vhp(lambda x: (x**3).sum(), drawn(lib, 1)),
    "hvp": lambda lib: api(lib).hvp(lambda x: (x**3).sum() * x[0], drawn(lib, 3), drawn(lib, 3, seed=1)),
    "hvp of several": lambda lib: api(lib).hvp(lambda x, y: (x * y**2).sum(), two(lib, 2), two(lib, 2)),
    "hvp linear": lambda lib: api(lib).hvp(lambda x: x.sum(), drawn(lib, 2), drawn(lib, 2)),
    "hvp graph": lambda lib: api(lib).hvp(lambda x: (x**3).sum(), drawn(lib, 2).requires_grad_(), drawn(lib, 2), create_graph=True),
}  # fmt: skip


@parity
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_program_gives_the_same(name):
    assert_same(PROGRAMS[name](firesteel), PROGRAMS[name](torch))


ERRORS = {
    "no tensor": lambda lib: api(lib).vjp(lambda x: x, 3.0),
    "no tensor in a tuple": lambda lib: api(lib).hvp(lambda x, y: x, (drawn(lib, 2), 3.0)),
    "no tensor output": lambda lib: api(lib).jacobian(lambda x: 3.0, drawn(lib, 2)),
    "vjp needs v": lambda lib: api(lib).vjp(lambda x: x, drawn(lib, 2)),
    "jvp needs v": lambda lib: api(lib).jvp(lambda x: x, drawn(lib, 2)),
    "vhp needs v": lambda lib: api(lib).vhp(lambda x: x.sum(), drawn(lib, 2)),
    "v size": lambda lib: api(lib).jvp(lambda x: x, drawn(lib, 2), drawn(lib, 3)),
    "v entry size": lambda lib: api(lib).jvp(lambda x, y: x, two(lib, 2), (drawn(lib, 2), drawn(lib, 3))),
    "v length": lambda lib: api(lib).jvp(lambda x, y: x, two(lib, 2), drawn(lib, 2)),
    "v too many": lambda lib: api(lib).jvp(lambda x: x, drawn(lib, 2), two(lib, 2)),
    "int": lambda lib: api(lib).jacobian(lambda x: x, lib.tensor([1])),
    "hessian of vector": lambda lib: api(lib).hessian(lambda x: x, drawn(lib, 2)),
    "hvp of vector": lambda lib: api(lib).hvp(lambda x: x, drawn(lib, 2), drawn(lib, 2)),
    "hessian of tuple": lambda lib: api(lib).hessian(lambda x: (x.sum(), x.sum()), drawn(lib, 2)),
    "strict output": lambda lib: api(lib).vjp(lambda x: drawn(lib), drawn(lib, 2), strict=True),
    "strict input": lambda lib: api(lib).vjp(lambda x, y: x.sum(), two(lib, 2), strict=True),
    "strict jacobian": lambda lib: api(lib).jacobian(lambda x, y: x.sum(), two(lib, 2), strict=True),
    "strict jvp": lambda lib: api(lib).jvp(lambda x, y: x, two(lib, 2), two(lib, 2), strict=True),
    "strict hessian": lambda lib: api(lib).hessian(lambda x: x.sum(), drawn(lib, 2), strict=True),
    "strict vhp": lambda lib: api(lib).vhp(lambda x: x.sum(), drawn(lib, 2), drawn(lib, 2), strict=True),
    "strict hvp": lambda lib: api(lib).hvp(lambda x: x.sum(), drawn(lib, 2), drawn(lib, 2), strict=True),
    "strict graph": lambda lib: api(lib).vjp(
        lambda x: x.sum(), drawn(lib, 2), create_graph=True, strict=True
    ),
    "strict vectorize": lambda lib: api(lib).jacobian(
        lambda x: x, drawn(lib, 2), strict=True, vectorize=True
    ),
    "strategy": lambda lib: api(lib).jacobian(lambda x: x, drawn(lib, 2), strategy="sideways"),
    "hessian strategy": lambda lib: api(lib).hessian(
        lambda x: x.sum(), drawn(lib, 2), outer_jacobian_strategy="sideways"
    ),
    "forward output": lambda lib: api(lib).jacobian(
        lambda x: None, drawn(lib, 2), vectorize=True, strategy="forward-mode"
    ),
    "forward int": lambda lib: api(lib).jacobian(
        lambda x: x, lib.tensor([1]), vectorize=True, strategy="forward-mode"
    ),
    "forward strict": lambda lib: api(lib).jacobian(
        lambda x: x, drawn(lib, 2), strict=True, vectorize=True, strategy="forward-mode"
    ),
}


@parity
# PyTorch warns of what its own forward mode does.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ERRORS)
def test_misuse_raises_what_pytorch_raises(name):
    with pytest.raises(Exception) as theirs:
        ERRORS[name](torch)
    with pytest.raises(type(theirs.value)) as ours:
        ERRORS[name](firesteel)
    # The core says which function it was; PyTorch forgets it in forward mode.
    if name not in ("int", "forward output"):
        text = str(ours.value).replace("firesteel.", "torch.")
        assert text.startswith(str(theirs.value)[:70])


@both
def test_products_are_those_of_the_formulas(lib):
    x, v = drawn(lib, 3), drawn(lib, 3, seed=1)
    assert lib.allclose(api(lib).hessian(cubes, x), lib.eye(3, dtype=lib.float64) * (6 * x))
    for product in (api(lib).hvp, api(lib).vhp):
        assert lib.allclose(product(cubes, x, v)[1], 6 * x * v)
    for product in (api(lib).vjp, api(lib).jvp):
        assert lib.allclose(product(lambda x: x**3, x, v)[1], 3 * x**2 * v)


def test_forward_mode_gives_what_reverse_mode_gives():
    """In tuples, as documented; PyTorch gives lists, and a history where none was asked for."""
    functional = api(firesteel)
    for function, inputs in (
        (lambda x, y: (x * y, y.sum()), two(firesteel, 2)),
        (lambda x: x.exp(), drawn(firesteel, 2)),
        (lambda x: x.exp(), (drawn(firesteel, 2),)),
    ):
        forward = functional.jacobian(function, inputs, vectorize=True, strategy="forward-mode")
        assert_same(forward, functional.jacobian(function, inputs))
    for function, inputs in (
        (lambda x, y: (x * y**2).sum(), two(firesteel, 2)),
        (cubes, drawn(firesteel, 2)),
    ):
        forward = functional.hessian(function, inputs, vectorize=True, outer_jacobian_strategy="forward-mode")
        assert_same(forward, functional.hessian(function, inputs))


def test_forward_mode_records_and_needs_no_vectorize():
    """Where PyTorch has NotImplementedErrors."""
    functional = api(firesteel)
    x = drawn(firesteel, 2).requires_grad_()
    assert not functional.jacobian(lambda x: x**3, x, strategy="forward-mode").requires_grad
    assert not functional.hessian(cubes, x, outer_jacobian_strategy="forward-mode").requires_grad
    jacobian = functional.jacobian(lambda x: x**3, x, create_graph=True, strategy="forward-mode")
    (second,) = firesteel.autograd.grad(jacobian.sum(), x)
    assert firesteel.allclose(second, 6 * x.detach())
    hessian = functional.hessian(cubes, x, create_graph=True, outer_jacobian_strategy="forward-mode")
    (third,) = firesteel.autograd.grad(hessian.sum(), x)
    assert firesteel.allclose(third, 6 * firesteel.ones_like(third))


@both
def test_results_that_can_be_differentiated(lib):
    x = drawn(lib, 2).requires_grad_()
    jacobian = api(lib).jacobian(lambda x: x**3, x, create_graph=True)
    assert lib.allclose(lib.autograd.grad(jacobian.sum(), x)[0], 6 * x)
    hessian = api(lib).hessian(lambda x: (x**3).sum(), x, create_graph=True)
    assert lib.allclose(lib.autograd.grad(hessian.sum(), x)[0], lib.full_like(x, 6.0))
    v = drawn(lib, 2, seed=1).requires_grad_()
    _, product = api(lib).jvp(lambda x: x**3, x, v, create_graph=True)
    assert lib.allclose(lib.autograd.grad(product.sum(), v)[0], 3 * x**2)


@both
def test_no_grad_around_and_no_gradient_is_added(lib):
    x, w = drawn(lib, 2).requires_grad_(), drawn(lib, 2, seed=1).requires_grad_()
    with lib.no_grad():
        jacobian = api(lib).jacobian(lambda x: x**2 * w, x)
        _, product = api(lib).hvp(lambda x: (x**3 * w).sum(), x, lib.ones_like(x))
        _, pushed = api(lib).vjp(lambda x: (x * w).sum(), x)
    assert lib.allclose(jacobian, lib.eye(2, dtype=lib.float64) * (2 * x * w))
    assert lib.allclose(product, 6 * x * w) and lib.allclose(pushed, w)
    assert x.grad is None and w.grad is None
    assert not jacobian.requires_grad and not product.requires_grad


# Batches of gradients.
@both
def test_batched_gradients_are_the_rows_of_the_jacobian(lib):
    x, unused = drawn(lib, 3).requires_grad_(), drawn(lib, 2).requires_grad_()
    y = x**3
    rows, none = lib.autograd.grad(
        y, (x, unused), lib.eye(3, dtype=lib.float64), is_grads_batched=True, allow_unused=True
    )
    assert lib.allclose(rows, lib.eye(3, dtype=lib.float64) * (3 * x**2)) and none is None
    with pytest.raises(RuntimeError):
        lib.autograd.grad(y, x, lib.ones(3, dtype=lib.float64))  # the graph was freed


@both
def test_batched_gradients_of_several_outputs(lib):
    x = drawn(lib, 2).requires_grad_()
    batches = drawn(lib, 4, 2, seed=1), drawn(lib, 4, seed=2)
    (batched,) = lib.autograd.grad(
        (x**2, x.prod()), x, batches, is_grads_batched=True, retain_graph=True, create_graph=True
    )
    assert batched.shape == (4, 2)
    for i in range(4):
        (alone,) = lib.autograd.grad((x**2, x.prod()), x, [batch[i] for batch in batches])
        assert lib.allclose(batched[i], alone)
    (second,) = lib.autograd.grad(batched[0, 0], x)
    assert second.shape == (2,)


@both
def test_batches_that_do_not_fit(lib):
    x = drawn(lib, 3).requires_grad_()
    with pytest.raises(RuntimeError, match="If `is_grads_batched=True`, we interpret the first dimension"):
        lib.autograd.grad(x * 2, x, drawn(lib, 4, 2), is_grads_batched=True)
    with pytest.raises(ValueError):
        lib.autograd.grad((x * 2, x * 3), x, (drawn(lib, 4, 3), drawn(lib, 5, 3)), is_grads_batched=True)
    lib.autograd.grad((x * 2).sum(), x)  # nothing is left behind


@both
def test_the_gradient_of_a_constant_second_derivative(lib):
    x = drawn(lib, 2).requires_grad_()
    for square in (lambda x: x**2, lambda x: x.square()):
        hessian = api(lib).hessian(lambda x: square(x).sum(), x, create_graph=True)
        (grad,) = lib.autograd.grad(hessian.sum(), x)
        assert grad.tolist() == [0, 0]

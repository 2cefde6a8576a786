"""The rules of `torch.func`: what has a history, what random draws mean, what is refused."""

import gc
from functools import partial

import pytest

import firesteel
from libraries import both, drawn, parity
from tensors import torch

# PyTorch warns of what its own forward mode does.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


def vector(*numbers):
    return firesteel.tensor(numbers, dtype=firesteel.float64)


# What carries a history, and what is left alone: both libraries.
@both
def test_results_have_a_history_only_by_tensors_of_the_user(lib):
    f, w = lib.func, drawn(lib, 2).requires_grad_()
    x = drawn(lib, 2, seed=1)
    assert not f.grad(lambda x: (x**2).sum())(x).requires_grad
    assert not f.grad(f.grad(lambda x: x**3))(drawn(lib)).requires_grad
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
    f, data = lib.func, drawn(lib, 2, seed=1)

    def outer(w):
        inner = f.grad(lambda x: (x**2 * w).sum())(data)
        output, pull = f.vjp(lambda x: x * w, data)
        return f.grad(lambda y: (y * inner * output * pull(y)[0]).sum())(data).sum()

    gradient, value = f.grad_and_value(outer)(drawn(lib, 2))
    assert not gradient.requires_grad and not value.requires_grad


@both
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")  # of linearize
def test_what_outlives_its_transform_is_no_history(lib):
    """The variables of `vjp` and `linearize` live on in the functions that they return."""
    f, x, c = lib.func, drawn(lib, 2), drawn(lib, 2, seed=1)
    _, pull = f.vjp(lambda x: x**3, x)
    _, push = f.linearize(lambda x: x**3, x)
    jacobian = f.jacrev(lambda c: pull(c)[0])(c)
    assert not jacobian.requires_grad
    assert lib.allclose(jacobian, lib.eye(2, dtype=lib.float64) * 3 * x**2)
    assert not f.vmap(push)(lib.eye(2, dtype=lib.float64)).requires_grad
    c.requires_grad_()
    assert f.jacrev(lambda c: pull(c**2)[0])(c).requires_grad


@both
def test_no_grad_around_a_transform_only_takes_the_history(lib):
    w, x = drawn(lib, 2).requires_grad_(), drawn(lib, 2, seed=1)
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
def test_what_a_pullback_returns_depends_on_the_mode_it_is_called_in(lib):
    w, x = drawn(lib, 2).requires_grad_(), drawn(lib, 2, seed=1)
    with lib.no_grad():
        output, pull = lib.func.vjp(lambda x: x**2 * w, x)
        assert not output.requires_grad and not pull(lib.ones_like(x))[0].requires_grad
    (by_w,) = lib.autograd.grad(pull(lib.ones_like(x))[0].sum(), w)
    assert lib.allclose(by_w, 2 * x)
    with lib.no_grad():
        _, pull = lib.func.vjp(lambda x: x**2, x)
    (by_w,) = lib.autograd.grad(pull(w)[0].sum(), w)
    assert lib.allclose(by_w, 2 * x)


@both
def test_no_gradient_is_added_anywhere(lib):
    w, x = drawn(lib, 2).requires_grad_(), drawn(lib, 2, seed=1).requires_grad_()
    lib.func.grad(lambda x: (x * w).sum())(x)
    lib.func.jacrev(lambda x: x * w)(x)
    lib.func.jacfwd(lambda x: x * w)(x)
    lib.func.hessian(lambda x: (x**3 * w).sum())(x)
    assert w.grad is None and x.grad is None
    lib.func.grad(lambda x: (x * w).sum())(x).sum().backward()
    assert x.grad is None and lib.allclose(w.grad, lib.ones_like(w))


@both
def test_second_derivatives_by_what_requires_grad(lib):
    x = drawn(lib, 3).requires_grad_()
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
    f, x = firesteel.func, drawn(firesteel, 4, 3)

    def run():
        w = drawn(firesteel, 3, 3)
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


@both
def test_batch_norms_that_would_update_shared_statistics(lib):
    norm = lib.nn.BatchNorm1d(3)
    x = lib.ones(2, 4, 3)
    model = lib.nn.Sequential(norm)
    for call in (lambda: lib.func.vmap(model)(x), lambda: lib.func.vmap(lambda x: model(x).sum())(x[:1])):
        with pytest.raises(RuntimeError, match="running_mean or running_var, which will be updated in place"):
            call()
    assert norm.running_mean.tolist() == [0, 0, 0] and norm.running_var.tolist() == [1, 1, 1]
    norm.eval()
    assert lib.func.vmap(model)(x).shape == (2, 4, 3)
    lib.func.replace_all_batch_norm_modules_(model.train())
    assert lib.func.vmap(model)(x).shape == (2, 4, 3)


@both
def test_batch_norms_with_statistics_of_each_example(lib):
    """Three models with their own buffers see one batch each; the buffers are updated, as in a loop."""
    models = [lib.nn.Sequential(lib.nn.BatchNorm1d(2)) for _ in range(3)]
    x = lib.arange(24.0).reshape(3, 4, 2)
    parameters, buffers = lib.func.stack_module_state(models)

    def run(parameters, buffers, x):
        return lib.func.functional_call(models[0], (parameters, buffers), (x,))

    outputs = lib.func.vmap(run)(parameters, buffers, x)
    expected = lib.stack([model(part) for model, part in zip(models, x, strict=True)])
    assert lib.allclose(outputs, expected, atol=1e-6)
    means = lib.stack([model[0].running_mean for model in models])
    assert lib.allclose(buffers["0.running_mean"], means)
    with pytest.raises(RuntimeError, match="which will be updated in place"):
        lib.func.vmap(lambda x: lib.func.vmap(run)(parameters, buffers, x))(lib.stack([x, x]))


def test_a_refused_batch_norm_is_no_reason_to_refuse_the_next():
    norm = firesteel.nn.BatchNorm1d(2)
    with pytest.raises(RuntimeError, match="batch_norm: .*torch.func.replace_all_batch_norm_modules_"):
        firesteel.func.vmap(norm)(firesteel.ones(2, 4, 2))
    assert norm(firesteel.ones(4, 2)).shape == (4, 2) and norm.num_batches_tracked == 1


@both
def test_functional_batch_norms_in_vmap(lib):
    mean, var, x = lib.zeros(2), lib.ones(2), lib.arange(24.0).reshape(3, 4, 2)

    def norm(x, mean, var):
        return lib.nn.functional.batch_norm(x, mean, var, training=True)

    for in_dims in ((0, None, None), (0, 0, None), (0, None, 0)):
        given = [
            s if d is None else lib.stack([s] * 3) for s, d in zip((mean, var), in_dims[1:], strict=True)
        ]
        with pytest.raises(RuntimeError, match="which will be updated in place"):
            lib.func.vmap(norm, in_dims=in_dims)(x, *given)
    with pytest.raises(RuntimeError, match="which will be updated in place"):
        lib.func.vmap(lambda x: norm(x, mean, var))(x)
    assert mean.tolist() == [0, 0] and var.tolist() == [1, 1]
    means, variances = lib.stack([mean] * 3), lib.stack([var] * 3)

    def of_clones(x, mean, var):
        own, variance = mean.clone(), var.clone()
        return norm(x, own, variance), own

    for count in (3, 1):
        lib.func.vmap(of_clones)(x[:count], means[:count], variances[:count])
        assert means.sum() == 0
        assert lib.func.vmap(lambda *given: of_clones(*given)[0])(
            x[:count], means[:count], variances[:count]
        ).shape == (count, 4, 2)
    cloned = lib.func.vmap(of_clones)(x, means, variances)[1]
    lib.func.vmap(norm)(x, means, variances)
    assert lib.allclose(cloned, means)
    for own, part in zip(means, x, strict=True):
        norm(part, mean.zero_(), var)
        assert lib.allclose(own, mean)


def test_an_empty_batch_keeps_its_history():
    x = firesteel.zeros(2, 0, 3, requires_grad=True)
    w = firesteel.ones(3, requires_grad=True)
    output = firesteel.vmap(lambda x: x * w, in_dims=1, out_dims=1)(x)
    assert output.shape == (2, 0, 3)
    output.sum().backward()
    assert firesteel.equal(w.grad, firesteel.zeros(3))


def test_a_shared_argument_is_not_changed_once_per_example():
    """PyTorch does it once for all; done for each, the result would depend on their number."""
    x, shared = vector(1.0, 2.0, 3.0), firesteel.zeros(())
    with pytest.raises(RuntimeError, match="`<lambda>` changed an argument in place that has no in_dim"):
        firesteel.vmap(lambda x, y: x * y.add_(1), in_dims=(0, None))(x, shared)
    with pytest.raises(RuntimeError, match="changed an argument in place"):
        firesteel.vmap(lambda x, y: x * y.add_(1))(x, y=shared)
    shared.zero_()
    result = firesteel.vmap(lambda x, y: x * y.clone().add_(1), in_dims=(0, None))(x, shared)
    assert result.tolist() == [1.0, 2.0, 3.0]


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
    "no scalar": lambda lib, f: f.grad(lambda x: x)(drawn(lib, 2)),
    "no tensor": lambda lib, f: f.grad(lambda x: 3.0)(drawn(lib, 2)),
    "no aux": lambda lib, f: f.grad(lambda x: x.sum(), has_aux=True)(drawn(lib, 2)),
    "argnum": lambda lib, f: f.grad(lambda x: x.sum(), argnums=1)(drawn(lib, 2)),
    "argnum float": lambda lib, f: f.grad(lambda x: x.sum(), argnums=1.0)(drawn(lib, 2)),
    "argnums twice": lambda lib, f: f.grad(lambda x: x.sum(), argnums=(0, 0))(drawn(lib, 2)),
    "argnums None": lambda lib, f: f.grad(lambda x: x.sum(), argnums=None)(drawn(lib, 2)),
    "argnums empty": lambda lib, f: f.grad(lambda x: x.sum(), argnums=())(drawn(lib, 2)),
    "float argument": lambda lib, f: f.grad(lambda x: x)(2.0),
    "int": lambda lib, f: f.grad(lambda x: x.sum())(lib.tensor([1])),
    "vjp int output": lambda lib, f: f.vjp(lambda x: lib.tensor(1), drawn(lib)),
    "vjp no tensor": lambda lib, f: f.vjp(lambda x: (x, 1.0), drawn(lib)),
    "vjp None": lambda lib, f: f.vjp(lambda x: None, drawn(lib)),
    "vjp cotangent": lambda lib, f: f.vjp(lambda x: x, drawn(lib))[1](1.0),
    "jvp int": lambda lib, f: f.jvp(lambda x: x, (lib.tensor([1]),), (lib.tensor([1]),)),
    "jacfwd int": lambda lib, f: f.jacfwd(lambda x: x)(lib.tensor([1])),
    "vjp structure": lambda lib, f: f.vjp(lambda x: (x, x), drawn(lib))[1](drawn(lib)),
    "jvp no tuple": lambda lib, f: f.jvp(lambda x: x, drawn(lib), drawn(lib)),
    "jvp structure": lambda lib, f: f.jvp(lambda x: x, (drawn(lib),), (drawn(lib), drawn(lib))),
    "jvp strict": lambda lib, f: f.jvp(lambda x: drawn(lib), (drawn(lib),), (drawn(lib),), strict=True),
    "jvp shape": lambda lib, f: f.jvp(lambda x: x, (drawn(lib, 2),), (drawn(lib, 3),)),
    "jacrev chunk": lambda lib, f: f.jacrev(lambda x: x, chunk_size=0),
    "vmap chunk": lambda lib, f: f.vmap(lambda x: x, chunk_size=0)(drawn(lib, 2)),
    "vmap sizes": lambda lib, f: f.vmap(lambda x, y: x)(drawn(lib, 2), drawn(lib, 3)),
    "vmap nothing": lambda lib, f: f.vmap(lambda x: x, in_dims=(None,))(drawn(lib, 2)),
    "vmap no inputs": lambda lib, f: f.vmap(lambda: 1)(),
    "vmap in_dims list": lambda lib, f: f.vmap(lambda x: x, in_dims=[0])(drawn(lib, 2)),
    "vmap in_dims structure": lambda lib, f: f.vmap(lambda x: x, in_dims=(0, 0))(drawn(lib, 2)),
    "vmap in_dim float": lambda lib, f: f.vmap(lambda x: x, in_dims=(0.5,))(drawn(lib, 2)),
    "vmap in_dim range": lambda lib, f: f.vmap(lambda x: x, in_dims=1)(drawn(lib, 2)),
    "vmap no tensor input": lambda lib, f: f.vmap(lambda x, y: x)(drawn(lib, 2), 3),
    "vmap no tensor output": lambda lib, f: f.vmap(lambda x: 3)(drawn(lib, 2)),
    "vmap out_dims": lambda lib, f: f.vmap(lambda x: (x, x), out_dims=(0, 0, 0))(drawn(lib, 2)),
    "vmap out_dims tuple": lambda lib, f: f.vmap(lambda x: x, out_dims=(0, 0))(drawn(lib, 2)),
    "vmap out_dim float": lambda lib, f: f.vmap(lambda x: x, out_dims=0.5)(drawn(lib, 2)),
    "vmap out_dim range": lambda lib, f: f.vmap(lambda x: x, out_dims=3)(drawn(lib, 2)),
    "vmap batched": lambda lib, f: f.vmap(lambda x: x * 2, out_dims=None)(drawn(lib, 2)),
    "vmap changes what is shared": lambda lib, f: f.vmap(lambda x, y: y.add_(x), (0, None))(
        drawn(lib, 2), drawn(lib)
    ),
    "no models": lambda lib, f: f.stack_module_state([]),
}
# They say more, or how trees are written differs.
OWN_TEXTS = {"int", "jvp shape", "vmap out_dim range", "vmap changes what is shared"}


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
        assert clean(ours).startswith(clean(theirs)[:60].rstrip("."))


def test_vmap_shares_tensors_of_inference_mode():
    with firesteel.inference_mode():
        w = vector(3.0)
    assert firesteel.vmap(lambda x, w: (x * w).sum(), in_dims=(0, None))(vector(1.0, 2.0), w).tolist() == [
        3.0,
        6.0,
    ]


def test_histories_of_many_outputs_are_walked_once(monkeypatch):
    """Whether each of many outputs has a history of others' is one question, not one for each."""
    walks = []
    graph = firesteel._core._Graph
    monkeypatch.setattr(firesteel._core, "_Graph", lambda roots: walks.append(1) or graph(roots))
    w = vector(2.0).requires_grad_()

    def run(count):
        walks.clear()
        outputs, _ = firesteel.func.vjp(
            lambda x: tuple((x * w if i % 2 else x * 2).sum() for i in range(count)), vector(1.0, 3.0)
        )
        assert [out.requires_grad for out in outputs] == [i % 2 == 1 for i in range(count)]
        return len(walks)

    assert run(50) == run(4) > 0


@both
def test_jvp_through_a_function_whose_rule_cannot_be_differentiated(lib):
    """PyTorch asks for a rule `jvp`, which is not used here."""

    def make(rule):
        class Sine(lib.autograd.Function):
            @staticmethod
            def forward(x):
                return x.sin()

            @staticmethod
            def setup_context(ctx, inputs, output):
                ctx.save_for_backward(*inputs)

            backward = staticmethod(rule)

        return Sine.apply

    def by_numpy(ctx, grad):
        (x,) = ctx.saved_tensors
        return lib.from_numpy(grad.detach().numpy() * x.detach().cos().numpy())

    def once(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()

    x, t = lib.tensor([0.1, 0.2]), lib.ones(2)
    for rule in (by_numpy, lib.autograd.function.once_differentiable(once)):
        with pytest.raises(RuntimeError):  # NotImplementedError in PyTorch and for the first one
            lib.func.jvp(make(rule), (x,), (t,))
        with pytest.raises(RuntimeError):
            lib.func.jacfwd(make(rule))(x)
        if rule is not by_numpy or lib is firesteel:  # PyTorch's gradients have no memory there
            assert lib.allclose(lib.func.jacrev(make(rule))(x), lib.eye(2) * x.cos())
    if lib is firesteel:
        with pytest.raises(NotImplementedError, match="Sine: products with a Jacobian .* use vjp or jacrev"):
            lib.func.jvp(make(by_numpy), (x,), (t,))
        _, product = lib.func.jvp(make(once), (x,), (t,))
        assert lib.allclose(product, x.cos())
        _, product = lib.func.jvp(make(lambda ctx, grad: lib.zeros_like(grad)), (x,), (t,))
        assert product.tolist() == [0.0, 0.0]

"""How an `autograd.Function` is called, and which of PyTorch's declarations it accepts."""

import pytest

import firesteel
from libraries import both, leaf


def scaled(lib, seen, setup=False, **attributes):
    """`x * factor`, with a gradient for both."""

    def forward(x, factor=2.0):
        return x * factor

    def forward_with_ctx(ctx, x, factor=2.0):
        setup_context(ctx, (x, factor), None)
        return x * factor

    def setup_context(ctx, inputs, output):
        ctx.x, ctx.factor = inputs
        seen.append(len(inputs))

    def backward(ctx, grad):
        seen.append(ctx.needs_input_grad)
        grads = grad * ctx.factor, grad * ctx.x
        return tuple(g if needed else None for g, needed in zip(grads, ctx.needs_input_grad, strict=False))

    methods = {"forward": forward if setup else forward_with_ctx, "backward": backward}
    if setup:
        methods["setup_context"] = setup_context
    static = {name: staticmethod(method) for name, method in methods.items()}
    return type("Scaled", (lib.autograd.Function,), {**static, **attributes})


@both
@pytest.mark.parametrize("setup", [False, True])
def test_gradients_reach_arguments_given_by_keyword(lib, setup):
    for call in (
        lambda f, x, w: f.apply(x, factor=w),
        lambda f, x, w: f.apply(x=x, factor=w),
        lambda f, x, w: f.apply(factor=w, x=x),
    ):
        x, w, seen = leaf(lib, 1.0, 2.0), leaf(lib, 3.0, 4.0), []
        call(scaled(lib, seen, setup), x, w).sum().backward()
        assert x.grad.tolist() == [3.0, 4.0] and w.grad.tolist() == [1.0, 2.0]
        assert seen == [2, (True, True)]


@both
def test_defaults_are_arguments_where_there_is_a_setup_context(lib):
    for setup, needs in ((True, (True, False)), (False, (True,))):
        x, seen = leaf(lib, 1.0, 2.0), []
        scaled(lib, seen, setup).apply(x).sum().backward()
        assert x.grad.tolist() == [2.0, 2.0]
        assert seen == [2, needs]


@both
@pytest.mark.parametrize("setup", [False, True])
def test_arguments_that_do_not_fit(lib, setup):
    function, x = scaled(lib, [], setup), leaf(lib, 1.0)
    for call in (
        lambda: function.apply(),
        lambda: function.apply(x, 1.0, 2.0),
        lambda: function.apply(x, n=1),
    ):
        with pytest.raises(TypeError):
            call()


@both
def test_tensors_by_keyword_only_are_refused(lib):
    forward = staticmethod(lambda ctx, x, *, w: x * w)
    function = type("F", (lib.autograd.Function,), {"forward": forward})
    with pytest.raises(TypeError, match="keyword"):
        function.apply(leaf(lib, 1.0), w=leaf(lib, 2.0))


@both
def test_keywords_that_a_setup_context_would_not_see(lib):
    functions = {
        "forward": staticmethod(lambda x, *, factor=2.0: x * factor),
        "setup_context": staticmethod(lambda ctx, inputs, output: None),
    }
    function = type("F", (lib.autograd.Function,), functions)
    for call in (lambda: function.apply(leaf(lib, 1.0)), lambda: function.apply(leaf(lib, 1.0), factor=3.0)):
        with pytest.raises(TypeError, match="keyword"):
            call()


@both
def test_rules_of_forward_mode_and_of_batches_may_be_declared(lib):
    def jvp(ctx, x, factor):
        raise AssertionError("not called by a backward pass")

    x = leaf(lib, 1.0, 2.0)
    scaled(lib, [], True, jvp=staticmethod(jvp)).apply(x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
    batched = lib.vmap(lambda x: scaled(lib, [], True, generate_vmap_rule=True).apply(x, 3.0))
    assert batched(lib.ones(2, 2)).tolist() == [[3.0, 3.0], [3.0, 3.0]]

    def vmap(info, in_dims, x, factor):
        return x * factor, in_dims[0]

    batched = lib.vmap(lambda x: scaled(lib, [], True, vmap=staticmethod(vmap)).apply(x, 3.0))
    assert batched(lib.ones(2, 2)).tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert lib.autograd.Function.generate_vmap_rule is False
    with pytest.raises(NotImplementedError, match="must implement the jvp function"):
        lib.autograd.Function.jvp(None)
    with pytest.raises(NotImplementedError, match="override the vmap staticmethod"):
        lib.autograd.Function.vmap(None, ())


def declaring(lib, declare):
    def forward(ctx, x):
        declare(ctx, x)
        return x * 2

    methods = {"forward": staticmethod(forward), "backward": staticmethod(lambda ctx, grad: grad * 2)}
    return type("Declaring", (lib.autograd.Function,), methods)


@both
def test_save_for_forward_is_accepted(lib):
    x = leaf(lib, 1.0)
    declaring(lib, lambda ctx, x: ctx.save_for_forward(x, None)).apply(x).sum().backward()
    assert x.grad.tolist() == [2.0]


@both
@pytest.mark.parametrize(
    ("declare", "error", "text"),
    [
        (lambda ctx: ctx.save_for_forward(1), AssertionError, "save_for_forward expects all arguments"),
        (lambda ctx: ctx.set_materialize_grads(1), TypeError, "set_materialize_grads"),
        (lambda ctx: ctx.set_materialize_grads(None), TypeError, "set_materialize_grads"),
        (lambda ctx: ctx.mark_non_differentiable(1), RuntimeError, "mark_non_differentiable only accepts"),
        (lambda ctx: ctx.mark_dirty("x"), RuntimeError, "mark_dirty"),
    ],
)
def test_declarations_of_wrong_types(lib, declare, error, text):
    function = declaring(lib, lambda ctx, x: declare(ctx))
    with pytest.raises(error, match=text if lib is firesteel else None):
        function.apply(leaf(lib, 1.0))


@both
def test_one_of_two_names_of_the_rule(lib):
    rules = {name: staticmethod(lambda ctx, grad: grad * 5) for name in ("backward", "vjp")}
    forward = staticmethod(lambda ctx, x: x * 2)
    x = leaf(lib, 1.0)
    for name in rules:
        function = type("F", (lib.autograd.Function,), {"forward": forward, name: rules[name]})
        function.apply(x).sum().backward()
    assert x.grad.tolist() == [10.0]
    function = type("F", (lib.autograd.Function,), {"forward": forward, **rules})
    with pytest.raises(RuntimeError, match="Implementing both 'backward' and 'vjp'"):
        function.apply(x).sum().backward()

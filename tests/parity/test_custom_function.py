"""`autograd.Function` as PyTorch has it."""

import gc
import weakref

import pytest

import firesteel
from libraries import both


def function(lib, **methods):
    """A subclass of `Function` with these static methods."""
    return type("Mine", (lib.autograd.Function,), {name: staticmethod(f) for name, f in methods.items()})


def cube(lib):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x * x * grad

    return function(lib, forward=forward, backward=backward)


def exp(lib):
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * y

    return function(lib, forward=forward, backward=backward)


def scale(lib):
    """Two tensors, a number, a keyword-free setup."""

    def forward(x, factor, w):
        return x * factor * w, w + 1

    def setup_context(ctx, inputs, output):
        x, ctx.factor, w = inputs
        ctx.save_for_backward(x, w)

    def backward(ctx, grad, grad_w):
        x, w = ctx.saved_tensors
        return grad * ctx.factor * w, None, (grad * ctx.factor * x).sum() + grad_w

    return function(lib, forward=forward, setup_context=setup_context, backward=backward)


@both
@pytest.mark.parametrize("make", [cube, exp])
def test_derivatives_of_every_order(lib, make):
    x = lib.tensor([0.5, -1.25], dtype=lib.float64, requires_grad=True)
    mine = make(lib)
    y = mine.apply(x)
    first = lib.autograd.grad(y.sum(), x, create_graph=True)[0]
    second = lib.autograd.grad(first.sum(), x, create_graph=True)[0]
    third = lib.autograd.grad(second.sum(), x)[0]
    v = x.detach()
    expected = [3 * v * v, 6 * v, 6 + 0 * v] if make is cube else [v.exp()] * 3
    for got, want in zip([first, second, third], expected, strict=True):
        assert lib.allclose(got, want)
    assert lib.autograd.gradcheck(mine.apply, (x,))
    assert lib.autograd.gradgradcheck(mine.apply, (x,))


@both
def test_node_and_context(lib):
    x = lib.ones(2, requires_grad=True)
    y = cube(lib).apply(x)
    node = y.grad_fn
    assert node.name() == "MineBackward"
    assert "grad_fn=<MineBackward>" in repr(y)
    assert node.saved_tensors[0] is x or node.saved_tensors[0].tolist() == [1, 1]
    assert node.saved_tensors[0].requires_grad
    assert node.needs_input_grad == (True,)
    with pytest.raises(AttributeError):
        node.nothing  # noqa: B018
    y.sum().backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        node.saved_tensors  # noqa: B018
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.sum().backward()


@both
def test_setup_context_and_other_arguments(lib):
    x = lib.full((3,), 2.0, requires_grad=True)
    w = lib.tensor(5.0, requires_grad=True)
    y, z = scale(lib).apply(x, 10, w)
    (y.sum() + 7 * z).backward()
    assert x.grad.tolist() == [50, 50, 50]
    assert w.grad.item() == 67


@both
def test_materialized_gradients(lib):
    for materialize in (True, False):
        seen = []

        def forward(ctx, x, materialize=materialize):
            ctx.set_materialize_grads(materialize)
            return x + 1, x + 2

        def backward(ctx, first, second, seen=seen):
            seen.append([None if g is None else g.tolist() for g in (first, second)])
            return first

        x = lib.ones(2, requires_grad=True)
        function(lib, forward=forward, backward=backward).apply(x)[0].sum().backward()
        assert seen == [[[1, 1], [0, 0] if materialize else None]]
        assert x.grad.tolist() == [1, 1]


@both
def test_outputs_of_other_kinds(lib):
    def forward(ctx, x):
        mask, order = x > 0, lib.arange(2)
        ctx.mark_non_differentiable(mask)
        return x * 2, mask, order, "text", None

    def backward(ctx, grad, *others):
        assert len(others) == 4
        return grad * 2

    x = lib.ones(2, requires_grad=True)
    y, mask, order, text, nothing = function(lib, forward=forward, backward=backward).apply(x)
    assert (mask.requires_grad, order.requires_grad, text, nothing) == (False, False, "text", None)
    y.sum().backward()
    assert x.grad.tolist() == [2, 2]


@both
def test_non_differentiable_output(lib):
    def forward(ctx, x):
        a, b = x * 2, x * 3
        ctx.mark_non_differentiable(b)
        return a, b

    def backward(ctx, grad, other):
        assert other.tolist() == [0, 0]
        return grad * 2

    x = lib.ones(2, requires_grad=True)
    a, b = function(lib, forward=forward, backward=backward).apply(x)
    assert a.requires_grad and not b.requires_grad
    a.sum().backward()
    assert x.grad.tolist() == [2, 2]


@both
def test_an_input_returned_unchanged(lib):
    """The gradient reversal of domain adaptation."""
    reverse = function(lib, forward=lambda ctx, x: x, backward=lambda ctx, grad: -grad)
    x = lib.ones(2, requires_grad=True)
    y = reverse.apply(x)
    assert y is not x and y.data_ptr() == x.data_ptr()
    (y * 3).sum().backward()
    assert x.grad.tolist() == [-3, -3]
    plain = lib.ones(2)
    assert not reverse.apply(plain).requires_grad


@both
def test_in_place(lib):
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    double = function(lib, forward=forward, backward=lambda ctx, grad: grad * 2)
    x = lib.ones(3, requires_grad=True)
    y = x * 1
    before = y._version
    out = double.apply(y)
    assert out is y and y._version > before
    y.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    x.grad = None
    base = x * 1
    double.apply(base[1:])
    base.sum().backward()
    assert x.grad.tolist() == [1, 2, 2]
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        double.apply(x)


@both
def test_dirty_inputs_must_be_returned(lib):
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x + 1

    with pytest.raises(RuntimeError, match="marked as dirty"):
        function(lib, forward=forward).apply(lib.ones(1, requires_grad=True) * 1)


@both
def test_changed_saved_tensor_is_refused(lib):
    x = lib.ones(2, requires_grad=True) * 1
    y = cube(lib).apply(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@both
def test_wrong_gradients(lib):
    x, w = lib.ones(3, requires_grad=True), lib.ones(3, requires_grad=True)
    for returned, text in (
        (lambda g: g, "incorrect number of gradients .expected 2, got 1"),
        (lambda g: (g, g, g), "incorrect number of gradients .expected 2, got 3"),
        (
            lambda g: (g[:2], None),
            "invalid gradient at index 0 - got .2. but expected shape compatible with .3.",
        ),
        (lambda g: (3, None), "expected Variable or None .got int"),
    ):
        mine = function(lib, forward=lambda ctx, a, b: a * b, backward=lambda ctx, g, r=returned: r(g))
        with pytest.raises(RuntimeError, match=text):
            mine.apply(x, w).sum().backward()
        assert x.grad is None and w.grad is None
    number = function(lib, forward=lambda ctx, a, n: a * n, backward=lambda ctx, g: (g, g))
    with pytest.raises(RuntimeError, match="different than None at position 2"):
        number.apply(x, 2).sum().backward()


@both
def test_missing_gradients_and_broadcasts(lib):
    x, w = lib.ones(3, requires_grad=True), lib.ones(3, requires_grad=True)
    mine = function(
        lib, forward=lambda ctx, a, b: a * b, backward=lambda ctx, g: (g.expand(2, 3), None, None, None)
    )
    mine.apply(x, w).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    assert w.grad is None


@both
def test_misuse(lib):
    x = lib.ones(2, requires_grad=True)
    empty = function(lib)
    with pytest.raises(NotImplementedError, match="must implement the forward"):
        empty.apply(x)
    with pytest.raises(NotImplementedError, match="backward or vjp"):
        function(lib, forward=lambda ctx, x: x * 2).apply(x).sum().backward()
    if lib is firesteel:  # PyTorch only warns of it
        with pytest.raises(RuntimeError, match=r"called by Mine\.apply"):
            empty()
    save = function(lib, forward=lambda ctx, x: ctx.save_for_backward(3))
    with pytest.raises(TypeError, match="can only save variables, but argument 0 is of type int"):
        save.apply(x)


@both
def test_exceptions_come_out_and_leave_gradients_alone(lib):
    def fail(*args):
        raise KeyError("mine")

    x = lib.ones(2, requires_grad=True)
    with pytest.raises(KeyError, match="mine"):
        function(lib, forward=fail).apply(x)
    assert lib.is_grad_enabled()
    y = function(lib, forward=lambda ctx, x: x * 2, backward=fail).apply(x)
    with pytest.raises(KeyError, match="mine"):
        y.sum().backward()
    assert x.grad is None
    assert lib.is_grad_enabled()


@both
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
def test_once_differentiable(lib):
    once = lib.autograd.function.once_differentiable

    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    mine = function(lib, forward=forward, backward=once(backward))
    x = lib.full((2,), 3.0, requires_grad=True)
    mine.apply(x).sum().backward()
    assert x.grad.tolist() == [6, 6]
    weight = lib.ones(2, requires_grad=True)
    grad = lib.autograd.grad((mine.apply(x) * weight).sum(), x, create_graph=True)[0]
    assert grad.tolist() == [6, 6]
    with pytest.raises(RuntimeError, match="trying to differentiate twice"):
        grad.sum().backward()
    # What the mark returns is as any result: it can be written to.
    x.grad = None
    mine.apply(x).sum().backward(create_graph=True)
    x.grad.mul_(2)
    assert x.grad.tolist() == [12, 12]


@both
def test_grad_mode_inside(lib):
    modes = []

    def forward(ctx, x):
        modes.append(lib.is_grad_enabled())
        return x * 2

    def backward(ctx, grad):
        modes.append(lib.is_grad_enabled())
        return grad * 2

    x = lib.ones(1, requires_grad=True)
    mine = function(lib, forward=forward, backward=backward)
    mine.apply(x).backward()
    lib.autograd.grad(mine.apply(x), x, create_graph=True)
    assert modes == [False, False, False, True]
    with lib.no_grad():
        assert not mine.apply(x).requires_grad


@both
def test_context_cycles_are_collected(lib):
    def forward(ctx, x):
        ctx.mine, ctx.outputs = ctx, []
        return x * 2

    x = lib.ones(2, requires_grad=True)
    y = function(lib, forward=forward, backward=lambda ctx, grad: grad).apply(x)
    y.grad_fn.outputs.append(y)
    seen = weakref.ref(y)
    del y
    gc.collect()
    assert seen() is None


def test_long_chains_of_contexts_are_freed_in_a_loop():
    """Each context holds the tensor before it."""

    def forward(ctx, x):
        ctx.x = x
        return x + 1

    mine = function(firesteel, forward=forward, backward=lambda ctx, grad: grad)
    y = firesteel.ones(1, requires_grad=True)
    for _ in range(20_000):
        y = mine.apply(y)
    y.backward()
    del y


def test_saved_tensors_are_freed_as_backward_passes():
    x = firesteel.ones(1000, requires_grad=True)
    y = cube(firesteel).apply(x * 1)
    assert [saved[3] for saved in y.grad_fn._saved] == [4000]
    y.sum().backward()
    assert y.grad_fn._saved == []


@both
def test_attributes_of_grad_fn(lib):
    def backward(ctx, grad):
        return grad * ctx.scale

    mine = function(lib, forward=lambda ctx, x: x * 2, backward=backward)
    x = lib.ones(2, requires_grad=True)
    y = mine.apply(x)
    node = y.grad_fn
    node.scale = 5
    assert node.scale == y.grad_fn.scale == 5
    y.sum().backward()
    assert x.grad.tolist() == [5.0, 5.0]
    del node.scale
    assert not hasattr(node, "scale")
    for other in ("next_functions", "metadata"):
        with pytest.raises(AttributeError, match=f"'{other}' of .* is not writable|read-only"):
            setattr(node, other, ())
    product = (x * 2).grad_fn
    for change in (lambda: setattr(product, "scale", 1), lambda: delattr(product, "scale")):
        with pytest.raises(AttributeError, match="'MulBackward0' object has no attribute 'scale'"):
            change()


@both
def test_places_of_outputs_among_values(lib):
    def forward(ctx, x):
        return "a", x * 2, None, x * 3, 7, x * 4

    def backward(ctx, *grads):
        assert [g is None for g in grads] == [True, False, True, False, True, False]
        return grads[1] * 2 + grads[3] * 3 + grads[5] * 4

    x = lib.ones(2, requires_grad=True)
    _, a, _, b, _, c = function(lib, forward=forward, backward=backward).apply(x)
    (a + 10 * b + 100 * c).sum().backward()
    assert x.grad.tolist() == [432.0, 432.0]

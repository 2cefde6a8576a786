"""gradcheck finds wrong gradients and says what is wrong."""

import inspect

import pytest

import firesteel
from firesteel.autograd import GradcheckError, gradcheck, gradgradcheck


def point(*values, dtype="float64"):
    return firesteel.tensor(values, dtype=getattr(firesteel, dtype), requires_grad=True)


@pytest.mark.parametrize(
    "options", [{}, {"fast_mode": True}, {"check_undefined_grad": True, "check_grad_dtypes": True}]
)
def test_right_gradients_pass(options):
    assert gradcheck(lambda x, y: (x * y, x.exp()), (point(1.0, 2.0), point(0.5, -1.0)), **options)
    assert gradgradcheck(lambda x, y: (x * y, x.exp()), (point(1.0, 2.0), point(0.5, -1.0)))
    assert gradgradcheck(lambda x: x * 3, point(1.0, 2.0), gen_non_contig_grad_outputs=True)


@pytest.mark.parametrize(
    "function, cause",
    [
        (lambda x: x * x.detach(), "constant factor"),
        (lambda x: x.exp().detach() + x * 0, "no gradient flows"),
        (lambda x: x.detach() * 2 - x, "sign"),
    ],
)
def test_wrong_gradients_are_reported(function, cause):
    with pytest.raises(GradcheckError, match=cause) as raised:
        gradcheck(function, point(1.0, 2.0))
    text = str(raised.value)
    assert "output 0" in text and "input 0" in text and "d output[0] / d input[0]: analytic" in text
    assert not gradcheck(function, point(1.0, 2.0), raise_exception=False)
    assert not gradcheck(function, point(1.0, 2.0), fast_mode=True, raise_exception=False)


def test_float32_is_named_as_the_cause():
    with pytest.raises(GradcheckError, match="float64"):
        gradcheck(lambda x: x.exp(), point(1.0, 2.0, dtype="float32"))


def test_nothing_to_check():
    with pytest.raises(ValueError, match="requires_grad"):
        gradcheck(lambda x: x, firesteel.ones(2))
    with pytest.raises(ValueError, match="requires_grad"):
        gradgradcheck(lambda x: x, firesteel.ones(2))


def test_outputs_without_a_gradient():
    """They are right if the inputs do not move them."""
    for check in (gradcheck, gradgradcheck):
        for function in (lambda x: x.detach(), lambda x: 3.0, lambda x: None):
            with pytest.raises(GradcheckError, match="no output requires grad"):
                check(function, point(1.0))
            assert not check(function, point(1.0), raise_exception=False)
        for function in (lambda x: firesteel.ones(2), lambda x: (x > 0).sum(), lambda x: (x.detach() * 0, 1)):
            assert check(function, point(1.0, 2.0))
            assert check(function, point(1.0, 2.0), fast_mode=True)


class Half(firesteel.autograd.Function):
    """x * x * y, with a rule whose gradient of x has lost its history."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * x * y

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return (grad * 2 * x * y).detach(), grad * x * x


def test_a_rule_that_loses_its_history():
    x, y = point(0.5, 2.0), point(1.0, 3.0)
    assert gradcheck(Half.apply, (x, y))
    with pytest.raises(GradcheckError, match="no history although it depends on an input"):
        gradgradcheck(Half.apply, (x, y))
    with pytest.raises(GradcheckError, match="no output requires grad"):
        gradgradcheck(lambda x: Half.apply(x, y.detach()), x)
    assert gradgradcheck(lambda x: x * 3, x)


def with_gradient_of(value, other):
    """The value of `value`, with the gradient of `other`: what a wrong backward formula makes."""
    return value.detach() + other - other.detach()


def weights(*shape):
    return (
        firesteel.arange(1.0, 1 + firesteel.zeros(shape).numel(), dtype=firesteel.float64)
        .sqrt()
        .reshape(shape)
    )


def matrix(rows, columns):
    return weights(rows, columns).detach().requires_grad_()


def drawing(state):
    """A function that gives another result at every call."""

    def function(x):
        state.append(0)
        return x * len(state)

    return function


def unsteady(state):
    """A function whose gradient changes a little at every backward."""

    def hook(grad):
        state.append(0)
        return grad * (1 + 1e-5 * len(state))

    def function(x):
        y = x * 1
        y.register_hook(hook)
        return y

    return function


class Square(firesteel.autograd.Function):
    """x * x, with a rule that does not look at the gradient that comes in."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0]


def overwriting(x):
    """The square of twice the input, which is doubled where it lies."""
    with firesteel.no_grad():
        x.mul_(2)
    return x * x


def counting(x, calls):
    """A function that counts its calls in a tensor it was given."""
    calls.add_(1)
    return x * calls


def factors(*values):
    return firesteel.tensor(values, dtype=firesteel.float64)


CAUSES = {
    "two": (
        lambda x: with_gradient_of(x * x, 2 * x * x),
        (point(1.0, 2.0),),
        "every analytic value is 2 times",
    ),
    "mean": (
        lambda x: with_gradient_of(x.exp().sum(), x.exp().mean()),
        (point(1.0, 2.0, 3.0),),
        r"1/3, and 3 is the number of elements of the input: a mean where a sum belongs",
    ),
    "sum": (
        lambda x: with_gradient_of(x.exp().mean(0), x.exp().sum(0)),
        (matrix(4, 2),),
        r"4 is the number of elements in dim 0 of the input: a sum where a mean belongs",
    ),
    "transposed": (
        lambda x: with_gradient_of((x * weights(2, 3)).sum(), (x.reshape(3, 2).t() * weights(2, 3)).sum()),
        (matrix(2, 3),),
        "a transposed gradient",
    ),
    "transposed square": (
        lambda x: with_gradient_of((x * weights(3, 3)).sum(), (x.t() * weights(3, 3)).sum()),
        (matrix(3, 3),),
        "a transposed gradient",
    ),
    "Jacobian": (
        lambda x: with_gradient_of(weights(3, 3) @ x, weights(3, 3).t() @ x),
        (point(1.0, 2.0, 3.0),),
        "a transposed Jacobian",
    ),
    "broadcast": (
        lambda x: with_gradient_of(
            x.expand(4, 3) * weights(4, 3), firesteel.cat([x, x.detach().expand(3, 3)]) * weights(4, 3)
        ),
        (matrix(1, 3),),
        "a sum over the broadcast dims is missing",
    ),
    "random": (drawing([]), (point(1.0, 2.0),), r"two calls of the function differ by .* seed it"),
    "random backward": (unsteady([]), (point(1.0, 2.0),), r"two runs of backward differ by \d\.?\d*e-05"),
    "kink": (
        lambda x: x.relu(),
        (point(1.0, 0.0),),
        "a kink .* the difference to the left is 0, to the right 1",
    ),
    "nan": (lambda x: (x - 2).log(), (point(1.0, 2.5),), "is not finite around this point"),
    "constant": (lambda x: with_gradient_of(x.floor(), x), (point(1.5),), "the function is constant here"),
    "incoming gradient ignored": (
        Square.apply,
        (point(1.0, 2.0),),
        "ignores the gradient that comes in: zeros for the output lead to an entry of 4; multiply with",
    ),
    "one entry": (
        lambda x: with_gradient_of(x * 2, x * 2 * factors(1, 1, 3, 1)),
        (point(1.0, 2.0, 3.0, 4.0),),
        "single entries, the others are right: wrong indexing or a special case in the backward formula$",
    ),
    "the only entry": (
        lambda x: with_gradient_of(x * 2, x * 6),
        (point(1.0),),
        "the one analytic value is 3 times the numeric one",
    ),
    "some entries": (
        lambda x: with_gradient_of(x * 2, x * 2 * factors(1, 3, 3, 1)),
        (point(1.0, 2.0, 3.0, 4.0),),
        "these 2 values are 3 times the numeric ones, 2 others are right",
    ),
    "some entries without": (
        lambda x: with_gradient_of(x * 2, x * 2 * factors(1, 0, 0, 1)),
        (point(1.0, 2.0, 3.0, 4.0),),
        "no gradient flows through these entries",
    ),
    "input changed": (overwriting, (point(1.0, 2.0),), r"changes input 0 in place.*\.clone\(\)"),
    "other input changed": (
        counting,
        (point(1.0, 2.0), factors(0.0, 0.0)),
        r"changes input 1 in place.*\.clone\(\)",
    ),
    "no pattern": (
        lambda x: with_gradient_of(x * x, x * factors(1, 7, 2, 5)),
        (point(1.0, 2.0, 3.0, 4.0),),
        "not known, the wrong numbers show no pattern; check the backward formula term by term$",
    ),
    "expanded": (lambda x: x, (point(1.0).expand(3),), r"strides \(0,\)\): it is expanded; call \.clone\(\)"),
}


@pytest.mark.parametrize("case", CAUSES)
def test_the_likely_cause(case):
    function, inputs, cause = CAUSES[case]
    with pytest.raises(GradcheckError, match=cause) as raised:
        gradcheck(function, inputs)
    assert "likely cause: " in str(raised.value) or case in ("random backward", "expanded")
    assert not gradcheck(function, inputs, raise_exception=False)


@pytest.mark.parametrize("eps, problem", [(0.5, "large"), (1e-15, "small")])
def test_the_step_is_named_as_the_cause(eps, problem):
    better = r"1e-06 the difference is (3|2\.9999|12|11\.9999)\d*(\.0000\d*)?"
    with pytest.raises(GradcheckError, match=f"eps={eps:.3g} is too {problem}.*; with eps={better}$"):
        gradcheck(lambda x: x**3, point(1.0, 2.0), eps=eps)
    # A wrong formula stays wrong with any step, and is no kink for bending within a large one.
    for check in (eps, 0.1):
        with pytest.raises(GradcheckError) as raised:
            gradcheck(lambda x: with_gradient_of(x**2, 2 * x**2), point(1.0, 2.0), eps=check)
        assert "too" not in str(raised.value) and "kink" not in str(raised.value)


@pytest.mark.parametrize("options", [{}, {"fast_mode": True}])
def test_a_scalar_that_ignores_the_incoming_gradient(options):
    """Unit vectors alone do not tell: they are 1."""
    with pytest.raises(GradcheckError, match="not multiplied by the gradient that comes in: with zeros for"):
        gradcheck(lambda x: Square.apply(x), point(3.0).detach().reshape(()).requires_grad_(), **options)


def test_one_tensor_given_twice():
    """It moves in both places, as it does in PyTorch, which changes it in place."""
    x, y = point(1.0, 2.0), point(3.0, 4.0)
    for options in ({}, {"fast_mode": True}):
        assert gradcheck(lambda a, b: a * b * b, (x, x), **options)
        assert gradcheck(lambda a, b, c: a * b * c, (x, y, x), **options)
        assert gradgradcheck(lambda a, b: a * b * b, (x, x), **options)
        with pytest.raises(GradcheckError, match="the sign of the backward formula"):
            gradcheck(lambda a, b: with_gradient_of(a * b, -a * b), (x, x), **options)
    torch = pytest.importorskip("torch")
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: a * b * b, (x, x))


def test_the_worst_entry_comes_first_with_its_place_and_numbers():
    scale = firesteel.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 3.0]], dtype=firesteel.float64)
    with pytest.raises(GradcheckError) as raised:
        gradcheck(lambda a, x: (a * 1, with_gradient_of(x * 2, x * 2 * scale)), (point(1.0), matrix(2, 3)))
    lines = str(raised.value).splitlines()
    assert lines[0] == (
        "gradcheck: gradient of output 1 (shape (2, 3)) with respect to input 1 (shape (2, 3)) is wrong in "
        "1 of 36 entries:"
    )
    assert lines[1].startswith("  d output[1, 2] / d input[1, 2]: analytic 6, numeric 2")


def test_fast_mode_reports_the_entries_as_well():
    with pytest.raises(GradcheckError, match=r"d output\[0\] / d input\[0\]: analytic 4, numeric 2"):
        gradcheck(lambda x: with_gradient_of(x * x, 2 * x * x), point(1.0, 2.0), fast_mode=True)


def test_second_derivatives_are_named():
    def function(x, y):
        # The first derivative is right; its own derivative by x lacks a term.
        return with_gradient_of(x**3 * y, x.detach() ** 2 * 3 * x * y) - x.detach() ** 3 * (
            3 * y - 3 * y.detach()
        )

    with pytest.raises(GradcheckError, match="gradgradcheck: gradient of the gradient of input 0") as raised:
        gradgradcheck(function, (point(1.0, 2.0), point(3.0, 4.0).detach()))
    assert "with respect to input 0" in str(raised.value)


def test_pytorchs_signature():
    torch = pytest.importorskip("torch")
    for ours, theirs in (
        (gradcheck, torch.autograd.gradcheck),
        (gradgradcheck, torch.autograd.gradgradcheck),
    ):
        mine, expected = (inspect.signature(f).parameters.values() for f in (ours, theirs))
        assert [(p.name, p.kind, p.default) for p in mine] == [(p.name, p.kind, p.default) for p in expected]
    for check in (gradcheck, gradgradcheck):
        with pytest.raises(
            ValueError, match=f"{check.__name__}: masked=True is not available; leave it False"
        ):
            check(lambda x: x, point(1.0), masked=True)


OPTIONS = {
    "nothing": (gradcheck, {"check_backward_ad": False}),
    "nothing of second order": (gradgradcheck, {"check_rev_over_rev": False}),
    "batches of nothing": (
        gradcheck,
        {"check_backward_ad": False, "check_forward_ad": True, "check_batched_grad": True},
    ),
    "batches of forward mode alone": (gradcheck, {"check_batched_forward_grad": True}),
    "batches of second order": (
        gradgradcheck,
        {"check_rev_over_rev": False, "check_fwd_over_rev": True, "check_batched_grad": True},
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_exclude_each_other(name):
    torch = pytest.importorskip("torch")
    check, options = OPTIONS[name]
    options = {"check_undefined_grad": False, **options}
    with pytest.raises(AssertionError) as theirs:
        x = torch.ones(1, dtype=torch.float64, requires_grad=True)
        getattr(torch.autograd, check.__name__)(lambda x: x, x, **options)
    with pytest.raises(ValueError) as ours:
        check(lambda x: x, point(1.0), **options)
    assert str(theirs.value).rstrip(".") in str(ours.value)


@pytest.mark.parametrize("fast_mode", [False, True])
def test_products_and_batches_of_right_gradients(fast_mode):
    def function(x, y):
        return x * y, x.exp().sum(), y.detach().exp() * x

    inputs, options = (point(1.0, 2.0), point(0.5, -1.0)), {"fast_mode": fast_mode}
    assert gradcheck(lambda x, y: (x * y, x.exp().sum()), inputs, check_forward_ad=True, **options)
    assert gradcheck(
        lambda x, y: (x * y, x * 1),
        inputs,
        check_forward_ad=True,
        check_batched_forward_grad=True,
        check_backward_ad=False,
        **options,
    )
    assert gradcheck(lambda x, y: (x * y, x.sum()), inputs, check_batched_grad=True, **options)
    assert gradgradcheck(
        lambda x, y: x * y**2, inputs, check_fwd_over_rev=True, check_batched_grad=True, **options
    )
    assert gradgradcheck(
        lambda x, y: x * y**2, inputs, check_fwd_over_rev=True, check_rev_over_rev=False, **options
    )
    assert not gradcheck(function, inputs, check_forward_ad=True, raise_exception=False, **options)


class Tripled(firesteel.autograd.Function):
    """Its rule is right, but cannot be transposed: it is computed apart from the gradient's history."""

    @staticmethod
    def forward(ctx, x):
        return x * 3

    @staticmethod
    def backward(ctx, grad):
        return grad.detach() * 3


@pytest.mark.parametrize("fast_mode", [False, True])
def test_wrong_products_are_reported(fast_mode):
    assert gradcheck(Tripled.apply, point(1.0, 2.0), fast_mode=fast_mode)
    with pytest.raises(GradcheckError, match=r"product \(jvp\) of") as raised:
        gradcheck(Tripled.apply, point(1.0, 2.0), check_forward_ad=True, fast_mode=fast_mode)
    assert "output 0" in str(raised.value) and "input 0" in str(raised.value)


def test_gradients_that_depend_on_what_ran_before():
    runs = []

    class Counts(firesteel.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            runs.append(1)
            return grad * (2 if len(runs) % 5 == 0 else 1)

    with pytest.raises(
        GradcheckError, match="While testing batched gradients: entry . of a batch for output 0"
    ):
        gradcheck(Counts.apply, point(1.0), check_batched_grad=True, nondet_tol=10.0)


def test_outputs_that_are_one_tensor():
    assert gradcheck(lambda x: (lambda y: (y, y))(x * x), point(1.0, 2.0))

"""Functions of layers beside those in `nn` and `unary`, their in-place twins, and views in place."""

from op_cases.nn import CLOSE, seeded
from op_cases.table import ALL, FLOATS, NUMBERS, WIDE, Case, E, S, T

# Kinks of the shrinking functions at their default of 0.5, and of their samples.
KINKS = (-0.7, -0.5, 0.0, 0.5, 0.7)


def bent(*kinks):
    """An input away from the places where a derivative jumps."""
    return T((3, 4), away=kinks or (0.0,))


def activation(name, samples, **more):
    """A row for a function of nn.functional alone."""
    return Case(name, "n", samples, grad=True, **more)


ACTIVATIONS = [
    activation("tanhshrink", [S(T((3, 4)))], tol16=2.0),
    activation("hardshrink", [S(bent(*KINKS)), S(bent(*KINKS), 0.7, label="lambd")]),
    activation("softshrink", [S(bent(*KINKS)), S(bent(*KINKS), 0.7, label="lambd")]),
    activation("threshold", [S(bent(0.5), 0.5, -3.0), S(bent(0.0), 0.0, 0.0, label="zero")]),
    activation(
        "prelu",
        [
            S(bent(), T((1,))),
            S(bent(), T((4,)), label="channels"),
            S(T((2, 3, 2), away=(0.0,)), T((3,)), label="3-d"),
        ],
        tol=4.0,
        tol16=2.0,
        errors=[E(T((3, 4)), T((3,)), says=("3", "4"), label="channels")],
    ),
    activation(
        "bilinear",
        [
            S(T((3, 4)), T((3, 5)), T((2, 4, 5)), T((2,))),
            S(T((2, 3, 4)), T((2, 3, 5)), T((2, 4, 5)), label="no-bias"),
        ],
        tol=30.0,
        tol16=8.0,
    ),
]


def twin(name, *samples):
    """A row for an in-place function of nn.functional, run on a copy."""

    def call(lib, x, *args):
        return getattr(lib.nn.functional, name)(x.clone(), *args)

    return Case(name, "", [*samples], call=call, covers=(f"F.{name}",), grad=True)


TWINS = [
    twin("celu_", S(bent()), S(bent(), 0.7, label="alpha")),
    twin("elu_", S(bent()), S(bent(), 0.7, label="alpha")),
    twin("selu_", S(bent())),
    twin("leaky_relu_", S(bent()), S(bent(), 0.3, label="slope")),
    twin("hardtanh_", S(bent(-1.0, 1.0)), S(bent(-0.5, 1.5), -0.5, 1.5, label="bounds")),
    twin("threshold_", S(bent(0.5), 0.5, -3.0)),
]


def reseeded(name, *samples):
    """A row for dropout of whole channels: it must drop what PyTorch drops."""
    call = seeded(lambda lib, *args: getattr(lib.nn.functional, name)(*args))
    return Case(name, "", [*samples], call=call, covers=(f"F.{name}",), grad=True, layouts=CLOSE)


DROPOUTS = [
    reseeded("dropout1d", S(T((2, 3, 4))), S(T((3, 4)), 0.3, label="unbatched"), S(T((2, 3, 4)), 0.5, False)),
    reseeded("dropout2d", S(T((2, 3, 2, 2))), S(T((2, 5, 3, 2)), 0.3, label="p")),
]

# The method, which has no `p` of its own.
DRAWS = [
    Case(
        "bernoulli",
        "",
        [S(T((3, 4), 0, 1)), S(T((2, 3, 4), 0, 1), label="3-d")],
        title="bernoulli_method",
        call=seeded(lambda lib, x: x.bernoulli()),
        covers=("Tensor.bernoulli",),
        dtypes=WIDE,
        compare="exact",
        grad="formula",
    )
]

WITH_NAN = T((2, 3), values=[[1.0, float("nan"), 2.0], [float("nan"), float("nan"), -1.0]])
SUMS = [
    Case(
        "nansum",
        "fm",
        [
            S(T((3, 4))),
            S(T((3, 4)), 1, label="dim"),
            S(T((2, 3, 4)), (0, -1), True, label="dims"),
            S(WITH_NAN, label="nan", grad="formula", dtypes=FLOATS),
            S(WITH_NAN, 0, label="nan-dim", grad="formula", dtypes=FLOATS),
        ],
        dtypes=NUMBERS,
        grad=True,
        tol=4.0,
        tol16=4.0,
    ),
    Case(
        "tensordot",
        "f",
        [
            S(T((2, 3, 4)), T((4, 3, 5)), dims=([1, 2], [1, 0])),
            S(T((3, 4)), T((4, 2)), dims=1, label="int"),
        ],
        grad=True,
        tol=30.0,
        tol16=8.0,
    ),
]


def in_place(name, *samples, **more):
    """A row for a view in place, run on a copy: the copy becomes the view."""

    def call(lib, x, *args):
        copy = x.clone()
        result = getattr(copy, name)(*args)
        assert result is copy, f"{name} must return the tensor itself"
        return result

    covers = (f"Tensor.{name}",)
    return Case(name, "", [*samples], ALL, call, covers=covers, grad=True, compare="exact", **more)


def outside(*args):
    """A call with a dim that is not there."""
    return [E(T((3, 4)), *args, raises=IndexError, label="dim")]


VIEWS = [
    in_place("squeeze_", S(T((1, 3, 1))), S(T((1, 3, 1)), 0, label="dim"), S(T(()), label="0-d")),
    in_place("unsqueeze_", S(T((3, 4)), 0), S(T((3, 4)), -1, label="last"), errors=outside(3)),
    in_place("t_", S(T((3, 4))), S(T((3,)), label="1-d"), errors=[E(T((2, 3, 4)), says="3", label="3-d")]),
    in_place("transpose_", S(T((2, 3, 4)), 0, -1), errors=outside(0, 2)),
    in_place("swapaxes_", S(T((2, 3, 4)), 0, -1)),
    in_place("swapdims_", S(T((2, 3, 4)), 1, 2)),
]


def recurrent(name, gates, states=1):
    """Rows for a recurrent layer and its cell: 3 inputs, 2 hidden units, a batch of 2."""

    def params(width=3):
        return [T((gates * 2, width)), T((gates * 2, 2)), T((gates * 2,)), T((gates * 2,))]

    def state(*shape):
        return T(shape) if states == 1 else [T(shape), T(shape)]

    two = [T((gates * 2, 3)), T((gates * 2, 2))] * 2 + [T((gates * 2, 4)), T((gates * 2, 2))] * 2
    sizes = T((3,), values=[2, 2, 1], dtype="int64")
    return [
        Case(
            name,
            "f",
            [
                S(T((4, 2, 3)), state(1, 2, 2), params(), True, 1, 0.0, True, False, False),
                S(T((2, 3, 3)), state(4, 2, 2), two, False, 2, 0.0, True, True, True, label="stack"),
            ],
            grad=True,
            tol=30.0,
            tol16=32.0,  # PyTorch rounds between all steps
            layouts=STEPWISE,
            errors=[
                E(T((4, 2, 5)), state(1, 2, 2), params(), True, 1, 0.0, True, False, False, says=("5", "3")),
                E(T((4, 2, 3)), state(1, 3, 2), params(), True, 1, 0.0, True, False, False, label="state"),
            ]
            if states == 1  # PyTorch's LSTM reads beyond the memory of such weights
            else [],
        ),
        Case(
            name,
            "f",
            [S(T((5, 3)), sizes, state(1, 2, 2), params(), True, 1, 0.0, False, False)],
            title=f"{name}_packed",
            grad=True,
            tol=30.0,
            tol16=32.0,
            layouts=("contiguous", "transposed", "offset"),  # PyTorch takes strided batch_sizes for others
        ),
        Case(
            f"{name}_cell",
            "f",
            [S(T((2, 3)), state(2, 2), *params()), S(T((2, 3)), state(2, 2), *params()[:2], label="no-bias")],
            grad=True,
            tol=30.0,
            tol16=8.0,
            layouts=STEPWISE,
            errors=[E(T((2, 5)), state(2, 2), *params(), says=("5", "3"))],
        ),
    ]


STEPWISE = ("contiguous", "transposed", "strided", "broadcast", "offset", "mixed")
RECURRENT = [
    *recurrent("rnn_tanh", 1),
    *recurrent("rnn_relu", 1),
    *recurrent("lstm", 4, states=2),
    *recurrent("gru", 3),
]

CASES = RECURRENT + ACTIVATIONS + TWINS + DROPOUTS + DRAWS + SUMS + VIEWS

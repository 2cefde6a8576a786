"""Element-wise operations of two or three operands, with broadcasting."""

import operator

import numpy as np

from op_cases.table import ALL, BOOL, FLOATS, INTS, NUMBERS, Case, E, S, T

WRONG = E(T((3, 4)), T((2, 5)), says=(r"3, 4", r"2, 5"), label="shapes")
WRONG_INPLACE = E(T((4,)), T((3, 4)), form="inplace", says=(r"4", r"3, 4"), label="inplace-grows")


def operators(symbol, function):
    return {symbol: function}


def pairs(low, high, *, second=None, scalar=1.5, reverse=True, away=()):
    """Samples of two tensors: same shape, broadcast both ways, 0-d, and a Python scalar."""
    lo, hi = second or (low, high)
    a, b = lambda *shape: T(shape, low, high, away=away), lambda *shape: T(shape, lo, hi, away=away)
    return [
        S(a(3, 4), b(3, 4)),
        S(a(3, 4), b(4), label="row"),
        S(a(3, 4), b(3, 1), label="column"),
        S(a(4), b(2, 3, 4), label="grows"),
        S(a(3, 1), b(1, 4), label="outer"),
        S(a(3, 4), b(), label="0-d-second"),
        S(a(), b(3), label="0-d-first"),
        S(a(3, 4), scalar, label="scalar", dtypes=("float32", "float64")),
    ]


ARITHMETIC = [
    Case(
        "add",
        "fm",
        pairs(-2, 2) + [S(T(), 3, label="int-scalar", dtypes=ALL)],
        dtypes=ALL,
        grad=True,
        inplace="add_",
        elementwise=True,
        np=np.add,
        operators=operators("x + y", operator.add),
        errors=[WRONG, WRONG_INPLACE],
    ),
    Case(
        "sub",
        "fm",
        pairs(-2, 2)
        + [
            S(T(high=9), 3, label="int-scalar", dtypes=NUMBERS),
        ],
        dtypes=NUMBERS,
        grad=True,
        inplace="sub_",
        elementwise=True,
        np=np.subtract,
        also=("subtract", "Tensor.subtract"),
        operators=operators("x - y", operator.sub),
        errors=[WRONG, WRONG_INPLACE],
    ),
    Case(
        "mul",
        "fm",
        pairs(-2, 2) + [S(T(), 3, label="int-scalar", dtypes=ALL)],
        dtypes=ALL,
        grad=True,
        inplace="mul_",
        elementwise=True,
        np=np.multiply,
        also=("multiply", "Tensor.multiply"),
        operators=operators("x * y", operator.mul),
        errors=[WRONG, WRONG_INPLACE],
    ),
    Case(
        "div",
        "fm",
        pairs(-2, 2, second=(0.5, 2)) + [S(T(), 3, label="int-scalar", dtypes=ALL)],
        dtypes=ALL,
        grad=True,
        inplace="div_",
        elementwise=True,
        np=np.divide,
        also=("divide", "Tensor.divide", "true_divide", "Tensor.true_divide"),
        operators=operators("x / y", operator.truediv),
        errors=[
            WRONG,
            WRONG_INPLACE,
            E(T(), T(), rounding_mode="up", says="up", label="mode"),
            E(T((3,), 1, 5, dtype="int64"), 2, form="inplace", label="int-inplace"),
        ],
    ),
]

# In 16 bits the product with alpha is rounded before it is added.
SCALED = [
    Case(
        name,
        "fm",
        [
            S(T(), T(), alpha=2.5, reference=False, dtypes=FLOATS),
            S(T(), T((4,)), alpha=-3, label="int", reference=False, dtypes=NUMBERS[:-1]),
        ],
        title=f"{name}_alpha",
        dtypes=NUMBERS,
        grad=True,
        inplace=f"{name}_",
        tol16=4.0,
    )
    for name in ("add", "sub")
]

ROUNDED = [
    Case(
        "div",
        "fm",
        [
            S(T((3, 4), -9, 9), T((3, 4), 0.7, 2), rounding_mode=mode),
            S(
                T((3, 4), -9, 9),
                T((4,), -3, -0.7),
                rounding_mode=mode,
                label="negative",
                dtypes=("float32", "int64"),
            ),
            S(T((3, 4), -9, 9), 2.5, rounding_mode=mode, label="scalar"),
            S(
                T((4,), values=[0.0, 1.0, -1.0, 7.0]),
                T((4,), values=[0.0, 0.0, 0.0, 7.0]),
                rounding_mode=mode,
                label="zero",
                grad=False,
            ),
        ],
        title=f"div_{mode}",
        grad="formula",
        dtypes=NUMBERS,
        inplace="div_",
    )
    for mode in ("trunc", "floor")
] + [
    Case(
        "floor_divide",
        "fm",
        [
            S(T((3, 4), -9, 9), T((3, 4), 0.7, 3)),
            S(T((3, 4), -9, 9), T((4,), -3, -0.7), label="negative", dtypes=("float32", "int64")),
            S(T((3, 4), -9, 9), -2, label="scalar", dtypes=("float32", "int64", "int32")),
        ],
        dtypes=NUMBERS,
        grad="formula",
        inplace="floor_divide_",
        np=np.floor_divide,
        operators=operators("x // y", operator.floordiv),
        errors=[E(T((2,), 1, 5), T((2,), values=[0, 1]), dtype="int64", label="by-zero", says="zero")],
    ),
    Case(
        "remainder",
        "fm",
        [
            S(T((3, 4), 3.1, 3.9), T((3, 4), 1.3, 1.5)),
            S(
                T((3, 4), -9, 9),
                T((4,), -3, -0.7),
                label="negative",
                dtypes=("float32", "int64", "int32"),
                grad=False,
            ),
            S(T((3, 4), -9, 9), -2, label="scalar", dtypes=("float32", "int64"), grad=False),
            S(
                T((4,), values=[-3.0, 3.0, -0.5, 5.5]),
                T((4,), values=[2.0, -2.0, 3.0, -2.5]),
                label="signs",
                grad=False,
            ),
        ],
        dtypes=NUMBERS,
        grad=True,
        inplace="remainder_",
        np=np.remainder,
        operators=operators("x % y", operator.mod),
    ),
    Case(
        "fmod",
        "fm",
        [S(T((3, 4), 3.1, 3.9), T((3, 4), 1.3, 1.5)), S(T((3, 4), -9, 9), 2, label="scalar", grad=False)],
        dtypes=NUMBERS,
        grad=True,
        inplace="fmod_",
        np=np.fmod,
    ),
]

COMPARISONS = [
    Case(
        name,
        "fm",
        [
            S(T((3, 4), -2, 2), T((3, 4), -2, 2)),
            S(
                T((3, 4), values=[[1.0, 2.0], [3.0, 4.0]]),
                T(values=[[1.0, 3.0], [3.0, 2.0]]),
                label="ties",
                dtypes=("float32", "int64"),
            ),
            S(T((3, 4)), T((4,)), label="row"),
            S(T((3, 1)), T((1, 4)), label="outer"),
            S(T((3, 4)), 0.5, label="scalar", dtypes=("float32", "int64", "uint8", "bool")),
            S(T((3, 4)), 1, label="int-scalar", dtypes=("float32", "int64", "uint8", "bool")),
            S(
                T((3,), values=[float("nan"), 1.0, float("inf")]),
                T((3,), values=[float("nan"), 1.0, float("inf")]),
                label="special",
            ),
        ],
        dtypes=ALL,
        elementwise=True,
        np=getattr(np, long),
        inplace=f"{name}_",
        operators=operators(f"x {symbol} y", getattr(operator, name)),
        errors=[WRONG],
        also=extra,
    )
    for name, symbol, long, extra in [
        ("eq", "==", "equal", ()),
        ("ne", "!=", "not_equal", ("not_equal", "Tensor.not_equal")),
        ("lt", "<", "less", ("less", "Tensor.less")),
        ("le", "<=", "less_equal", ("less_equal", "Tensor.less_equal")),
        ("gt", ">", "greater", ("greater", "Tensor.greater")),
        ("ge", ">=", "greater_equal", ("greater_equal", "Tensor.greater_equal")),
    ]
]

LOGIC = [
    Case(
        f"logical_{name}",
        "fm",
        [S(T((3, 4)), T((3, 4))), S(T((3, 4)), T((4,)), label="row", dtypes=("bool", "int64"))],
        dtypes=ALL,
        elementwise=True,
        np=getattr(np, f"logical_{name}"),
        inplace=f"logical_{name}_",
        errors=[WRONG],
    )
    for name in ("and", "or", "xor")
] + [
    Case(
        f"bitwise_{name}",
        "fm",
        [
            S(T((3, 4), -9, 9), T((3, 4), -9, 9)),
            S(T((3, 4), -9, 9), T((4,), -9, 9), label="row"),
            S(T((3, 4), -9, 9), 5, label="scalar", dtypes=INTS),
        ],
        dtypes=INTS + BOOL,
        elementwise=True,
        np=getattr(np, f"bitwise_{name}"),
        inplace=f"bitwise_{name}_",
        operators=operators(f"x {symbol} y", getattr(operator, f"{name}_" if name != "xor" else name)),
        errors=[E(T(), T(), raises=NotImplementedError, label="float", says="float32|Float")],
    )
    for name, symbol in (("and", "&"), ("or", "|"), ("xor", "^"))
]

POWERS = [
    Case(
        "pow",
        "fm",
        pairs(0.5, 2, second=(-2, 2), scalar=2.5)
        + [
            S(
                T((3, 4), -2, 2, away=(0.0,)),
                exponent,
                label=f"power{exponent}",
                dtypes=("float32", "float64", "bfloat16"),
            )
            for exponent in (0, 1, 2, 3, -1, -2, 2.0, 3.0)
        ]
        + [
            S(T((3, 4), 0.5, 2), exponent, label=f"power{exponent}", dtypes=("float32", "float64"))
            for exponent in (0.5, -0.5, 1.5)
        ]
        + [
            S(2.0, T((3, 4)), label="scalar-base", forms="f", dtypes=("float32", "int64")),
            S(2, T((3, 4), 0, 3), label="int-base", forms="f", dtypes=("float32", "int64")),
            S(T((3, 4), -3, 3), 3, label="int-int", dtypes=("int64", "int32", "uint8"), grad=False),
            S(T((3, 4), -3, 3), T((3, 4), 0, 3), label="tensor-int", dtypes=("int64", "uint8"), grad=False),
            S(
                T((5,), values=[0.0, -0.0, 2.0, -8.0, float("inf")]),
                T((5,), values=[0.0, -1.0, 0.5, 1 / 3, -1.0]),
                label="special",
                grad=False,
            ),
        ],
        dtypes=FLOATS,
        grad=True,
        inplace="pow_",
        elementwise=True,
        np=np.power,
        operators=operators("x ** y", operator.pow),
        tol=2.0,
        errors=[WRONG, E(T((3,), 1, 4, dtype="int64"), -1, label="int-negative", says="negative|-1")],
    ),
    Case(
        "pow",
        "f",
        [S(2.0, T((3, 4)), forms="f")],
        title="rpow",
        operators={"2 ** x": lambda a, b: a**b},
        grad=True,
    ),
]

REVERSED = [
    Case(
        name,
        "",
        [
            S(T((3, 4), 0.5, 2)),
            S(T((3, 4), 1, 5), label="ints", dtypes=("int64", "uint8", "bool"), grad=False),
        ],
        title=f"r{name}",
        call=call,
        grad=True,
    )
    for name, call in [
        ("add", lambda lib, x: 2.5 + x),
        ("mul", lambda lib, x: 2.5 * x),
        ("div", lambda lib, x: 3 / x),
    ]
] + [
    Case(
        "sub", "", [S(T((3, 4), 0.5, 2))], title="rsub", call=lambda lib, x: 3 - x, dtypes=NUMBERS, grad=True
    ),
    Case(
        "floor_divide",
        "",
        [S(T((3, 4), 0.6, 4))],
        title="rfloordiv",
        grad="formula",
        call=lambda lib, x: 7 // x,
        dtypes=NUMBERS,
    ),
    Case(
        "remainder",
        "",
        [S(T((3, 4), 0.6, 4))],
        title="rmod",
        grad="formula",
        call=lambda lib, x: 7 % x,
        dtypes=NUMBERS,
    ),
]

EXTREMA = [
    Case(
        name,
        "fm",
        [
            S(T((3, 4)), T((3, 4))),
            S(T((3, 4)), T((4,)), label="row"),
            S(T((3, 1)), T((1, 4)), label="outer"),
            S(
                T((3,), values=[1.0, float("nan"), 2.0]),
                T((3,), values=[1.0, 2.0, float("nan")]),
                label="nan",
                grad=False,
            ),
            S(T((2,), values=[1.0, 2.0], grad=True), T((2,), values=[1.0, 1.0]), label="tie", grad=False),
        ],
        dtypes=ALL,
        grad=True,
        elementwise=True,
        np=getattr(np, name),
        errors=[WRONG],
    )
    for name in ("maximum", "minimum")
]

CLAMP = [
    Case(
        "clamp",
        "fm",
        [
            S(T((3, 4), -2, 2, away=(-1.0, 1.0)), -1, 1),
            S(
                T((3, 4), -2, 2, away=(-0.5, 0.5)),
                min=-0.5,
                label="min",
                dtypes=("float32", "int64"),
            ),
            S(
                T((3, 4), -2, 2, away=(-0.5, 0.5)),
                max=0.5,
                label="max",
                dtypes=("float32", "int64"),
            ),
            S(T((3, 4), -2, 2, away=(-0.5, 0.5)), -0.5, 0.5, label="floats"),
            S(T((3, 4), -2, 2), T((3, 4), -2, -0.5), T((3, 4), 0.5, 2), label="tensors"),
            S(T((3, 4), -2, 2), T((4,), -1, 1), label="tensor-min"),
            S(T((3, 4), -2, 2), max=T((4,), -1, 1), label="tensor-max"),
            S(T((3, 4), -2, 2), 1, -1, label="crossed", grad=False),
            S(T((3,), values=[float("nan"), 0.5, 9.0]), -1, 1, label="nan", grad=False),
        ],
        dtypes=NUMBERS,
        grad=True,
        inplace="clamp_",
        elementwise=True,
        np=lambda x, min=None, max=None: np.clip(x, min, max),
        also=("clip", "Tensor.clip"),
        errors=[E(T(), label="no-bounds", says="min")],
    ),
    Case("clamp_min", "fm", [S(T((3, 4), away=(0.0,)), 0.0)], grad=True, inplace="clamp_min_"),
    Case("clamp_max", "fm", [S(T((3, 4), away=(0.0,)), 0.0)], grad=True, inplace="clamp_max_"),
]

MASK = T((3, 4), dtype="bool")
TERNARY = [
    Case(
        "where",
        "f",
        [
            S(MASK, T((3, 4)), T((3, 4))),
            S(MASK, T((4,)), T((3, 1)), label="broadcast"),
            S(T((4,), dtype="bool"), T((3, 1)), T((4,)), label="grows"),
            S(MASK, T((3, 4)), 0.0, label="scalar-second"),
            S(MASK, 1.0, T((3, 4)), label="scalar-first"),
            S(MASK, 1.0, 0.0, label="scalars", grad=False),
            S(MASK, T((3, 4)), T((3, 4), dtype="int64"), label="mixed"),
            S(MASK, label="indices", grad=False),
        ],
        dtypes=ALL,
        grad=True,
        errors=[E(MASK, T((2, 5)), T((3, 4)), says="2, 5", label="shapes")],
    ),
    Case("where", "m", [S(T((3, 4)), MASK, T((3, 4)))], title="where_method", dtypes=ALL, grad=True),
    Case(
        "masked_fill",
        "fm",
        [
            S(T((3, 4)), MASK, 2.0),
            S(T((3, 4)), T((4,), dtype="bool"), -9.0, label="row"),
            S(T((3, 4)), MASK, float("-inf"), label="inf", grad=False),
            S(T((3, 4)), MASK, T((), 1, 3), label="0-d"),
            S(T((4,)), MASK, 1.0, label="grows"),
        ],
        dtypes=ALL,
        grad=True,
        inplace="masked_fill_",
        errors=[
            E(T((3, 4)), T((3, 4)), 1.0, label="float-mask", says="bool"),
            E(T((3, 4)), T((3, 3), dtype="bool"), 1.0, label="shapes", says="3, 3"),
        ],
    ),
    Case(
        "lerp",
        "fm",
        [S(T(), T(), 0.3), S(T(), T(), T(low=0, high=1), label="tensor")],
        grad=True,
        inplace="lerp_",
    ),
    Case(
        "addcmul",
        "fm",
        [S(T(), T(), T()), S(T(), T((4,)), T((3, 1)), value=0.5, label="value")],
        grad=True,
        inplace="addcmul_",
    ),
    Case(
        "addcdiv",
        "fm",
        [S(T(), T(), T(low=0.5)), S(T(), T((4,)), T((3, 1), 0.5, 2), value=0.5, label="value")],
        grad=True,
        inplace="addcdiv_",
        tol16=8.0,  # the quotient is rounded before it is added
    ),
    Case("isclose", "fm", [S(T(), T())]),
    Case("allclose", "fm", [S(T(), T())]),
    Case(
        "equal",
        "fm",
        [
            S(T(), T()),
            S(T((2,), values=[1.0, 2.0]), T((2,), values=[1.0, 2.0]), label="same"),
            S(T((2,)), T((3,)), label="shapes"),
        ],
        dtypes=ALL,
    ),
]

CASES = ARITHMETIC + SCALED + ROUNDED + COMPARISONS + LOGIC + POWERS + REVERSED + EXTREMA + CLAMP + TERNARY

"""Element-wise functions of one tensor."""

import numpy as np

from op_cases.table import ALL, BOOL, FLOATS, INTS, NUMBERS, Case, E, S, T


def unary(name, low=-2.0, high=2.0, *, forms="fm", away=(), dtypes=ALL, grad=True, np=None, **more):
    """A row for `name`, tried on [low, high)."""
    samples = [S(T((3, 4), low, high, away=away))] + more.pop("samples", [])
    more.setdefault("inplace", f"{name}_")
    return Case(name, forms, samples, dtypes=dtypes, grad=grad, np=np, elementwise=True, **more)


def special(*values):
    """A sample of values that formulas tend to forget; no gradients."""
    return S(T((len(values),), values=values), label="special", grad=False, dtypes=("float32", "float64"))


INF, NAN = float("inf"), float("nan")
EXTREMES = special(0.0, -0.0, INF, -INF, NAN, 1e-30, -1e-30, 80.0, -80.0, 1e30)
POSITIVE = special(0.0, INF, NAN, -1.0, 1e-30, 1e30)
HALVES = special(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, -0.0, INF, NAN)
# A float result cannot be written into an integer tensor.
NO_CAST = [
    E(T((3,), 1, 4, dtype="int64"), form="inplace", says=("int64|Long", "float32|Float"), label="int-inplace")
]


def more(name, low=-2.0, high=2.0, **rest):
    """A row that is run where the operation exists."""
    return unary(name, low, high, **rest)


FLOAT_FUNCTIONS = [
    unary("exp", np=np.exp, samples=[EXTREMES], errors=NO_CAST),
    unary("expm1", np=np.expm1, samples=[EXTREMES]),
    unary("log", 0.2, 4.0, np=np.log, samples=[POSITIVE], errors=NO_CAST),
    unary("log2", 0.2, 4.0, np=np.log2, samples=[POSITIVE]),
    unary("log10", 0.2, 4.0, np=np.log10, samples=[POSITIVE]),
    unary("log1p", -0.5, 3.0, np=np.log1p, samples=[POSITIVE]),
    unary("sqrt", 0.2, 4.0, np=np.sqrt, samples=[POSITIVE]),
    unary("rsqrt", 0.2, 4.0, np=lambda x: 1 / np.sqrt(x), samples=[POSITIVE]),
    unary("reciprocal", 0.3, 3.0, np=lambda x: 1 / x, samples=[EXTREMES]),
    unary("sin", -4.0, 4.0, np=np.sin),
    unary("cos", -4.0, 4.0, np=np.cos),
    unary("tanh", np=np.tanh, samples=[EXTREMES], also=("F.tanh",)),
    unary("sigmoid", np=lambda x: 1 / (1 + np.exp(-x)), samples=[EXTREMES], also=("F.sigmoid",)),
    unary("erf", samples=[EXTREMES]),
]

SIGNED = [
    unary(
        "abs",
        away=(0.0,),
        dtypes=NUMBERS,
        np=np.abs,
        samples=[EXTREMES],
        also=("absolute", "Tensor.absolute"),
        operators={"abs()": abs},
    ),
    unary(
        "neg",
        dtypes=NUMBERS,
        np=np.negative,
        also=("negative", "Tensor.negative"),
        operators={"-x": lambda x: -x},
    ),
    unary(
        "sign",
        away=(0.0,),
        np=np.sign,
        samples=[S(T((4,), values=[0.0, -0.0, 3.0, -2.0]), label="zeros", grad=False)],
    ),
    unary("square", dtypes=NUMBERS, np=np.square),
]

ROUNDING = [
    unary(name, -3.0, 3.0, away="integers", dtypes=NUMBERS, np=getattr(np, name), samples=[HALVES])
    for name in ("floor", "ceil", "round", "trunc")
] + [
    Case(
        "round",
        "fm",
        [S(T(), decimals=1), S(T(high=300.0), decimals=-2)],
        title="round_decimals",
        grad="formula",
        layouts=("contiguous",),
        dtypes=("float32", "float64"),
        np=np.round,
    )
]

ACTIVATIONS = [
    unary(
        "relu", forms="fmn", away=(0.0,), dtypes=NUMBERS, samples=[EXTREMES], np=lambda x: np.maximum(x, 0)
    ),
    unary(
        "gelu",
        forms="n",
        dtypes=FLOATS,
        inplace=None,
        samples=[
            # Without infinity, of which PyTorch's vector form makes nan on some processors.
            special(0.0, -0.0, -INF, NAN, 1e-30, -1e-30, 80.0, -80.0, 1e30),
            S(T((3, 4), -3, 3), approximate="tanh", label="tanh", dtypes=FLOATS),
            S(T((4,), values=[20.0, -20.0, 0.0, -1e-3]), approximate="tanh", label="tanh-far", grad=False),
        ],
        errors=[E(T(), approximate="cubic", says="cubic", label="approximate")],
    ),
    unary("silu", forms="n", dtypes=FLOATS, inplace=None, samples=[EXTREMES]),
    unary(
        "softplus",
        forms="n",
        dtypes=FLOATS,
        inplace=None,
        samples=[
            EXTREMES,
            S(T(), 2.0, 1.0, label="beta"),
            S(T((4,), values=[30.0, 19.0, -30.0, 25.0]), label="threshold"),
        ],
    ),
]

# Parts of the usual set of activations: tried where they exist, so that none is public and unchecked.
MORE = [
    more(
        "leaky_relu",
        forms="n",
        away=(0.0,),
        dtypes=FLOATS,
        inplace=None,
        samples=[S(T(away=(0.0,)), 0.3, label="slope")],
    ),
    more(
        "elu",
        forms="n",
        away=(0.0,),
        dtypes=FLOATS,
        inplace=None,
        samples=[S(T(away=(0.0,)), 0.7, label="alpha")],
    ),
    more("selu", forms="n", away=(0.0,), dtypes=FLOATS, inplace=None),
    more("celu", forms="n", away=(0.0,), dtypes=FLOATS, inplace=None),
    more("hardtanh", forms="n", away=(-1.0, 1.0), dtypes=FLOATS, inplace=None),
    more("relu6", -3.0, 9.0, forms="n", away=(0.0, 6.0), dtypes=FLOATS, inplace=None),
    more("hardsigmoid", -5.0, 5.0, tol=10.0, forms="n", away=(-3.0, 3.0), dtypes=FLOATS, inplace=None),
    more("hardswish", -5.0, 5.0, forms="n", away=(-3.0, 3.0), dtypes=FLOATS, inplace=None),
    more("logsigmoid", forms="n", dtypes=FLOATS, inplace=None),
    more("mish", forms="n", dtypes=FLOATS, inplace=None),
    more("softsign", forms="n", away=(0.0,), dtypes=FLOATS, inplace=None),
    more("tan", -1.0, 1.0, np=np.tan),
]

TESTS = [
    unary("isnan", grad=False, inplace=None, np=np.isnan, samples=[special(0.0, INF, -INF, NAN)]),
    unary("isinf", grad=False, inplace=None, np=np.isinf, samples=[special(0.0, INF, -INF, NAN)]),
    unary("isfinite", grad=False, inplace=None, np=np.isfinite, samples=[special(0.0, INF, -INF, NAN)]),
    unary(
        "logical_not",
        grad=False,
        inplace="logical_not_",
        np=np.logical_not,
    ),
    unary(
        "bitwise_not",
        grad=False,
        dtypes=INTS + BOOL,
        operators={"~x": lambda x: ~x},
    ),
]

CASES = FLOAT_FUNCTIONS + SIGNED + ROUNDING + ACTIVATIONS + MORE + TESTS

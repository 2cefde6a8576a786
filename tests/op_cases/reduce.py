"""Reductions: many elements to one, over all dims, one dim or several."""

import numpy as np

from op_cases.table import ALL, LAYOUTS, NUMBERS, WIDE, Case, D, E, S, T

NO_DIM = E(T((3, 4)), 2, raises=IndexError, says=("-2", "1", "2"), label="dim")


def over(spec=None, *, several=True, dim_first=False):
    """Samples over all elements, one dim, the last dim, several dims, empty dims; kept or not."""
    x = spec or (lambda *shape: T(shape))
    samples = [] if dim_first else [S(x(3, 4))]
    samples += [
        S(x(3, 4), 1, label="dim1"),
        S(x(3, 4), dim=0, label="dim0"),
        S(x(2, 3, 4), -2, label="middle"),
        S(x(3, 4), dim=-1, keepdim=True, label="keepdim"),
        S(x(3, 1), 1, label="size1"),
        S(x(0, 3), dim=1, label="empty", grad=False),
    ]
    if not dim_first:
        samples += [S(x(), label="0-d"), S(x(40, 70), label="large", grad=False)]
    if several:
        samples += [
            S(x(2, 3, 4), dim=(0, 2), label="dims"),
            S(x(2, 3, 4), (1, -1), keepdim=True, label="dims-keep"),
            S(x(2, 3), dim=[0, 1], label="all-dims"),
        ]
    return samples


def distinct(*shape):
    return T(shape, distinct=True)


def _reduction(function):
    """A NumPy reduction as PyTorch spells its arguments."""

    def call(x, dim=None, keepdim=False, dtype=None):
        x = x if dtype is None else x.astype(dtype.name)
        return function(x, axis=_axis(dim), keepdims=keepdim)

    return call


def _axis(dim):
    """PyTorch's `dim` as NumPy's `axis`: no dims at all are all of them."""
    return None if dim is None or dim == () else tuple(dim) if isinstance(dim, list) else dim


SUMS = [
    Case(
        "sum",
        "fm",
        over()
        + [
            S(T((0, 3)), label="empty-all", grad=False),
            S(T((0, 3)), dim=0, label="empty-dim", grad=False),
            S(T((3, 4)), dtype=D("float64"), label="dtype", dtypes=("float32", "int64"), grad=False),
            S(T((3, 4)), dim=0, dtype=D("int64"), label="dtype-int", dtypes=("bool", "uint8"), grad=False),
            S(T((3, 4)), dim=(), label="no-dims"),
        ],
        dtypes=ALL,
        grad=True,
        np=_reduction(np.sum),
        tol=20.0,
        errors=[NO_DIM, E(T((3, 4)), dim=(0, 0), says="0", label="twice")],
    ),
    Case(
        "mean",
        "fm",
        over() + [S(T((3, 4), 1, 5, dtype="int64"), dtype=D("float32"), label="dtype", grad=False)],
        grad=True,
        np=_reduction(np.mean),
        tol=20.0,
        errors=[NO_DIM, E(T((3,), dtype="int64"), says="int64|Long", label="int")],
    ),
    Case(
        "prod",
        "fm",
        over(lambda *shape: T(shape, 0.5, 1.5), several=False)[:-1]
        + [
            S(T((3,), values=[2.0, 0.0, 3.0]), label="one-zero"),
            S(T((3,), values=[2.0, 0.0, 0.0]), label="two-zeros"),
            S(T((2, 3), values=[[2.0, 0.0, 3.0], [1.0, 2.0, 3.0]]), 1, label="zero-dim"),
        ],
        dtypes=ALL,
        grad=True,
        tol=4.0,
    ),
    Case(
        "cumsum",
        "fm",
        [
            S(T((3, 4)), 1),
            S(T((3, 4)), dim=0, label="dim0"),
            S(T((2, 3, 4)), -2, label="middle"),
            S(T((0, 3)), 0, label="empty", grad=False),
            S(T(()), 0, label="0-d"),
            S(
                T((3, 4)),
                1,
                dtype=D("float64"),
                label="dtype",
                grad=False,
                dtypes=("float32", "int64"),
            ),
        ],
        dtypes=ALL,
        grad=True,
        np=lambda x, dim, dtype=None: np.cumsum(x, dim, dtype and dtype.name).reshape(x.shape),
        tol=4.0,
        inplace="cumsum_",
        errors=[NO_DIM],
    ),
    Case(
        "cumprod",
        "fm",
        [S(T((3, 4), 0.5, 2), 1), S(T((2, 3, 4), 0.5, 2), -2, label="middle")],
        grad=True,
        inplace="cumprod_",
        tol=4.0,
    ),
]

# The root of a variance of 0 has no derivative: nothing broadcast along the dim.
PLAIN = ("contiguous", "transposed", "strided", "offset")


def _spread(function):
    """np.var or np.std as PyTorch spells its arguments."""

    def call(x, dim=None, unbiased=True, keepdim=False, correction=1):
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        return function(x, axis=_axis(dim), ddof=correction if unbiased else 0, keepdims=keepdim)

    return call


SPREAD = [
    Case(
        name,
        "fm",
        [
            S(T((3, 4))),
            S(T((3, 4)), 1, label="dim1"),
            S(T((3, 4)), dim=0, label="dim0"),
            S(T((2, 3, 4)), dim=(0, 2), label="dims"),
            S(T((3, 4)), 1, correction=0, label="correction0"),
            S(T((5, 4)), 0, correction=2, label="correction2"),
            S(T((3, 4)), unbiased=False, label="biased"),
            S(T((3, 4)), 1, unbiased=False, label="biased-dim"),
            S(T((3, 4)), dim=-1, keepdim=True, label="keepdim"),
            S(T((3, 4)), 1, True, True, label="positional"),
            S(T((40, 70), 99, 101), label="large-mean", grad=False, dtypes=WIDE),
            S(T((3, 4)), dim=None, keepdim=True, correction=1, label="dim-none"),
        ],
        grad=True,
        tol=20.0,
        np=_spread(getattr(np, name)),
        layouts=PLAIN if name == "std" else LAYOUTS,
        errors=[NO_DIM],
    )
    for name in ("var", "std")
] + [
    Case(
        "std",
        "fm",
        [S(T((3, 4))), S(T((3, 4)), 1, label="dim1"), S(T((2, 3, 4)), dim=(0, 2), label="dims")],
        title="std_broadcast",
        tol=20.0,
        np=_spread(np.std),
        layouts=("broadcast",),
    ),
    Case(
        "var_mean",
        "f",
        [S(T((3, 4))), S(T((3, 4)), dim=1, correction=0, label="dim")],
        grad=True,
        tol=20.0,
    ),
    Case(
        "std_mean",
        "f",
        [S(T((3, 4))), S(T((3, 4)), dim=1, correction=0, label="dim")],
        grad=True,
        tol=20.0,
    ),
]

NAN = T((4,), values=[1.0, float("nan"), 3.0, float("nan")])
EMPTY_ERROR = [E(T((0, 3)), says="0", label="empty")]

EXTREMA = []
for _name in ("max", "min"):
    EXTREMA += [
        Case(
            _name,
            "fm",
            [
                S(distinct(3, 4)),
                S(distinct(), label="0-d"),
                S(NAN, label="nan", grad=False),
                S(
                    T((6,), values=[1.0, 3.0, 3.0, 0.0, 0.0, 1.0]),
                    label="tie",
                    grad="formula",
                    dtypes=("float32",),
                ),
            ],
            dtypes=ALL,
            grad=True,
            np=getattr(np, _name),
            errors=EMPTY_ERROR,
            twice=True,
        ),
        Case(
            _name,
            "fm",
            over(distinct, several=False, dim_first=True)[:-1]
            + [
                S(NAN, 0, label="nan", grad=False),
                S(T((2, 3), values=[[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]), 1, label="tie", grad="formula"),
                S(distinct(), 0, label="0-d"),
                S(T((3, 0, 2)), 0, label="empty", grad=False),
                S(distinct(3, 40), 1, label="long", grad=False),
            ],
            title=f"{_name}_dim",
            dtypes=ALL,
            grad=True,
            layouts=("contiguous", "transposed", "strided", "offset"),
            errors=[NO_DIM, E(T((0, 3)), 0, raises=IndexError, says="0", label="empty")],
        ),
        Case(
            _name,
            "fm",
            [S(T(), T()), S(T((4,)), T((3, 1)), label="broadcast")],
            title=f"{_name}_two",
            dtypes=ALL,
            grad=True,
        ),
        Case(
            f"a{_name}",
            "fm",
            over(distinct)
            + [
                S(T((4,), values=[1.0, 3.0, 3.0, 0.0]), label="tie", grad=False),
                S(NAN, label="nan", grad=False),
            ],
            dtypes=ALL,
            grad=True,
            errors=[NO_DIM, E(T((0, 3)), 0, raises=IndexError, says="0", label="empty")],
        ),
        Case(
            f"arg{_name}",
            "fm",
            over(distinct, several=False)
            + [S(NAN, label="nan"), S(T((6,), values=[1.0, 3.0, 3.0, 0.0, 0.0, 1.0]), label="tie")],
            dtypes=NUMBERS,
            errors=[NO_DIM, E(T((0, 3)), raises=IndexError, says="0", label="empty")],
        ),
    ]

TRUTH = [
    Case(
        name,
        "fm",
        over(several=False)
        + [
            S(T((0,)), label="none"),
            S(T((2, 3, 4)), dim=(0, 2), label="dims"),
            S(T((2, 2), values=[[1.0, 0.0], [0.0, 0.0]]), 1, label="zeros", dtypes=ALL),
        ],
        dtypes=ALL,
        np=_reduction(getattr(np, name)),
        errors=[NO_DIM],
    )
    for name in ("any", "all")
] + [Case("count_nonzero", "fm", [S(T((3, 4))), S(T((3, 4)), 1, label="dim")], dtypes=ALL)]

NORMS = [
    Case(
        "logsumexp",
        "fm",
        [
            S(T((3, 4)), 1),
            S(T((3, 4)), dim=0, keepdim=True, label="keepdim"),
            S(T((2, 3, 4)), dim=(0, 2), label="dims"),
            S(T((3,), values=[1000.0, 1000.0, -1000.0]), 0, label="large"),
            S(T((2,), values=[float("-inf")] * 2), 0, label="inf", grad=False),
            S(T((3, 4), 0, 5, dtype="int64"), 1, label="int", grad=False),
        ],
        grad=True,
        tol=4.0,
        tol16=2.0,
        errors=[NO_DIM],
    ),
    Case(
        "norm",
        "fm",
        [S(T((3, 4)))]
        + [
            S(T((3, 4), away=(0.0,)), p, dim, label=f"p{p}-{'all' if dim is None else 'dim'}")
            for p in (1, 2, 3.0, 2.5)
            for dim in (None, 1)
        ]
        + [
            S(T((3, 4), 0.5, 4, distinct=True), float("inf"), label="inf"),
            S(T((3, 4), 0.5, 4, distinct=True), float("-inf"), 1, label="-inf"),
            S(T((3, 4)), 0, label="p0", grad=False),
            S(T((3, 4)), "fro", label="fro"),
            S(T((3, 4)), 2, 1, True, label="keepdim"),
            S(T((3, 4)), dim=(0, 1), label="dims"),
            S(T((3,), values=[0.0, 0.0, 0.0]), label="zero", grad=False),
        ],
        grad=True,
        tol=4.0,
        errors=[E(T((3, 4)), 2, 2, raises=IndexError, says=("-2", "1", "2"), label="dim")],
    ),
]


CASES = SUMS + SPREAD + EXTREMA + TRUTH + NORMS

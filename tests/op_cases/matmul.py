"""Matrix products in all their spellings."""

import operator

import numpy as np

from op_cases.table import FLOATS, Case, E, S, T

PRODUCT = FLOATS + ("int64", "int32", "uint8")


def two(a, b, label="", **more):
    return S(T(a), T(b), label=label, **more)


RANKS = [
    ((3, 4), (4, 2), ""),
    ((4,), (4,), "1d-1d"),
    ((3, 4), (4,), "2d-1d"),
    ((4,), (4, 2), "1d-2d"),
    ((2, 3, 4), (4,), "3d-1d"),
    ((4,), (2, 4, 3), "1d-3d"),
    ((2, 3, 4), (4, 2), "3d-2d"),
    ((3, 4), (2, 4, 2), "2d-3d"),
    ((2, 3, 4), (2, 4, 2), "3d-3d"),
    ((2, 1, 2, 3), (3, 3, 2), "4d-3d"),
    ((1, 2, 3), (2, 3, 2), "batch-1"),
    ((2, 1, 2, 3), (1, 2, 3, 2), "outer-batch"),
    ((1, 1), (1, 1), "ones"),
    ((3, 1), (1, 2), "inner-1"),
]
EMPTY = [
    two((3, 0), (0, 2), "inner-0", grad=False),
    two((0, 4), (4, 2), "rows-0", grad=False),
    two((0, 3, 4), (4, 2), "batch-0", grad=False),
]
LARGE = [
    two((70, 90), (90, 50), "large", grad=False),
    two((5, 130), (130, 300), "wide", grad=False),
    two((1, 257), (257, 31), "row", grad=False),
]
MISMATCH = [
    E(T((3, 4)), T((5, 6)), says=(r"3, 4", r"5, 6"), label="inner"),
    E(T(()), T((3,)), label="0-d"),
    E(T((2, 3, 4)), T((3, 4, 2)), says=("2, 3, 4", "3, 4, 2"), label="batch"),
    E(
        T((3, 4)),
        T((4, 2), dtype="float64", grad=False),
        says=("float32|Float", "float64|Double"),
        label="dtypes",
    ),
]

PRODUCTS = [
    Case(
        "matmul",
        "fm",
        [two(a, b, label) for a, b, label in RANKS] + EMPTY + LARGE,
        dtypes=PRODUCT,
        grad=True,
        np=np.matmul,
        tol=20.0,
        operators={"x @ y": operator.matmul},
        errors=MISMATCH,
    ),
    Case(
        "mm",
        "fm",
        [two((3, 4), (4, 2))] + EMPTY[:2],
        dtypes=PRODUCT,
        grad=True,
        np=np.matmul,
        tol=10.0,
        errors=[MISMATCH[0], E(T((2, 3, 4)), T((4, 2)), says="2", label="3-d")],
    ),
    Case(
        "bmm",
        "fm",
        [two((2, 3, 4), (2, 4, 2)), two((0, 3, 4), (0, 4, 2), "empty", grad=False)],
        dtypes=PRODUCT,
        grad=True,
        np=np.matmul,
        tol=10.0,
        errors=[E(T((2, 3, 4)), T((3, 4, 2)), label="batch"), E(T((3, 4)), T((4, 2)), says="3", label="2-d")],
    ),
    Case(
        "mv",
        "fm",
        [two((3, 4), (4,))],
        dtypes=PRODUCT,
        grad=True,
        np=np.matmul,
        tol=10.0,
        errors=[E(T((3, 4)), T((3,)), says="4", label="size")],
    ),
    Case(
        "dot",
        "fm",
        [two((5,), (5,)), two((0,), (0,), "empty", grad=False)],
        dtypes=PRODUCT,
        grad=True,
        np=np.dot,
        tol=10.0,
        errors=[E(T((4,)), T((3,)), says=("4", "3"), label="size"), E(T((2, 2)), T((2, 2)), label="2-d")],
    ),
    Case(
        "outer",
        "fm",
        [two((3,), (4,)), two((0,), (2,), "empty", grad=False)],
        dtypes=PRODUCT,
        grad=True,
        np=np.outer,
        errors=[E(T((2, 2)), T((2,)), label="2-d")],
    ),
    Case(
        "addmm",
        "fm",
        [
            S(T((3, 2)), T((3, 4)), T((4, 2))),
            S(T((2,)), T((3, 4)), T((4, 2)), label="row"),
            S(T((3, 1)), T((3, 4)), T((4, 2)), beta=0.5, alpha=-2.0, label="scaled"),
            S(
                T((3, 2), values=[[float("nan")] * 2] * 3),
                T((3, 4)),
                T((4, 2)),
                beta=0,
                label="beta0",
                grad=False,
            ),
        ],
        dtypes=FLOATS,
        grad=True,
        tol=10.0,
        inplace="addmm_",
        errors=[
            E(T((3, 2)), T((3, 4)), T((5, 2)), says=("3, 4|3x4", "5, 2|5x2"), label="inner"),
            E(T((4, 2)), T((3, 4)), T((4, 2)), label="bias"),
        ],
    ),
    Case(
        "baddbmm",
        "fm",
        [
            S(T((2, 3, 2)), T((2, 3, 4)), T((2, 4, 2))),
            S(T((1, 2)), T((2, 3, 4)), T((2, 4, 2)), beta=0.5, alpha=2.0, label="scaled"),
        ],
        grad=True,
        tol=10.0,
        inplace="baddbmm_",
    ),
    Case("addmv", "fm", [S(T((3,)), T((3, 4)), T((4,)))], grad=True, inplace="addmv_", tol=10.0),
    Case(
        "linear",
        "n",
        [
            S(T((3, 4)), T((2, 4)), T((2,))),
            S(T((3, 4)), T((2, 4)), label="no-bias"),
            S(T((4,)), T((2, 4)), T((2,)), label="1-d"),
            S(T((2, 3, 4)), T((2, 4)), T((2,)), label="3-d"),
            S(T((0, 4)), T((2, 4)), T((2,)), label="empty", grad=False),
            S(T((65, 33)), T((40, 33)), T((40,)), label="large", grad=False),
        ],
        grad=True,
        tol=20.0,
        errors=[
            E(T((3, 5)), T((2, 4)), T((2,)), says=("5", "4"), label="inner"),
            E(T((3, 4)), T((2, 4)), T((3,)), label="bias"),
        ],
    ),
]

EQUATIONS = [
    ("ij,jk->ik", (3, 4), (4, 2)),
    ("ij,jk", (3, 4), (4, 2)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
    ("ij->ji", (3, 4)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("ij->", (3, 4)),
    ("ij->j", (3, 4)),
    ("i,j->ij", (3,), (4,)),
    ("i,i->", (3,), (3,)),
    ("i,i->i", (3,), (3,)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 2), (2, 2, 2, 2)),
    ("...ij,...jk->...ik", (2, 3, 4), (4, 2)),
    ("b...->...b", (2, 3, 2)),
    ("...,...->...", (3, 4), (4,)),
    ("ij,jk,kl->il", (2, 3), (3, 2), (2, 3)),
    ("bn,anm,bm->ba", (2, 3), (2, 3, 2), (2, 2)),
    (" i j , j -> i ", (3, 4), (4,)),
    ("ba", (3, 4)),
    ("ij,kj->ik", (3, 4), (2, 4)),
    ("ij,ij->ij", (3, 4), (3, 4)),
    ("ij,i->ij", (3, 4), (3,)),
    ("nchw,kc->nkhw", (2, 3, 2, 2), (2, 3)),
    ("ij,kl->ijkl", (2, 2), (2, 3)),
    ("i...,i...->...", (3, 2), (3, 2)),
    ("ab,b", (1, 4), (4,)),
]
EINSUM = Case(
    "einsum",
    "f",
    [
        S(eq, *(T(shape) for shape in shapes), label="" if n == 0 else eq.replace(" ", ""))
        for n, (eq, *shapes) in enumerate(EQUATIONS)
    ]
    + [S("ij,jk->ik", [T((3, 4)), T((4, 2))], label="list", reference=False)],
    dtypes=FLOATS + ("int64",),
    grad=True,
    tol=20.0,
    np=np.einsum,
    errors=[
        E("ij,jk->ik", T((3, 4)), T((5, 2)), says=("4", "5"), label="size"),
        E("ij,jk->ik", T((3, 4)), says="2", label="operands"),
        E("ijk->i", T((3, 4)), says="3", label="rank"),
        E("ij->k", T((3, 4)), says="k", label="output"),
        E("i1->i", T((3, 4)), label="letter"),
        E("ij->ii", T((3, 4)), label="twice"),
    ],
)

CASES = PRODUCTS + [EINSUM]

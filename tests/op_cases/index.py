"""Reads and writes at places that tensors name: gather, scatter, index_*, masks, sorting."""

from op_cases.table import ALL, FLOATS, NUMBERS, Case, E, S, T

X = T((3, 4))


def places(*shape, high, **more):
    """A tensor of indices below `high`."""
    return T(shape, 0, high - 1, dtype="int64", **more)


ONCE = T(
    (2, 4), values=[[0, 2, 1, 0], [1, 0, 2, 2]], dtype="int64"
)  # no place twice, so that order cannot matter
FLOAT_INDEX = T((2, 4), 0, 2, dtype="float32", grad=False)

GATHER = [
    Case(
        "gather",
        "fm",
        [
            S(X, 0, ONCE),
            S(X, 1, places(3, 2, high=4), label="dim1"),
            S(X, -1, places(2, 5, high=4), label="fewer-rows"),
            S(T((2, 3, 2)), 1, places(2, 2, 2, high=3), label="3-d"),
            S(T((4,)), 0, places(0, high=1), label="empty", grad=False),
        ],
        dtypes=ALL,
        grad=True,
        compare="exact",
        errors=[
            E(
                X,
                0,
                T((1, 4), values=[[0, 3, 1, 1]], dtype="int64"),
                says="3",
                label="range",
            ),
            E(X, 0, FLOAT_INDEX, says="int64", label="dtype"),
            E(X, 2, ONCE, raises=IndexError, label="dim"),
            E(X, 0, places(2, high=2), label="ranks"),
            E(X, 1, places(5, 2, high=2), says="5", label="shape"),
        ],
    ),
    Case(
        "take_along_dim",
        "fm",
        [
            S(X, ONCE, 0),
            S(X, places(1, 4, high=4), 1, label="row"),
            S(T((1, 4)), places(3, 2, high=4), -1, label="grows"),
            S(T((2, 1, 3)), places(1, 4, 3, high=1), 1, label="both"),
        ],
        dtypes=ALL,
        grad=True,
        compare="exact",
        errors=[
            E(X, places(2, 3, high=3), 1, says=("3", "2"), label="shape"),
            E(X, places(3, high=3), 0, says=("2", "1"), label="ranks"),
            E(X, FLOAT_INDEX, 0, says="int64", label="dtype"),
            E(X, ONCE, 2, raises=IndexError, label="dim"),
        ],
    ),
    Case(
        "take_along_dim",
        "fm",
        [S(X, places(2, 5, high=12))],
        title="take_along_dim_flat",
        grad=True,
        compare="exact",
        layouts=("contiguous", "offset"),  # PyTorch takes a view of all elements
    ),
    Case(
        "index_select",
        "fm",
        [
            S(X, 0, places(5, high=3)),
            S(X, 1, places(2, high=4), label="dim1"),
            S(X, -1, places(0, high=2), label="empty", grad=False),
            S(X, 1, T((2,), 0, 3, dtype="int32"), label="int32"),
        ],
        dtypes=ALL,
        grad=True,
        compare="exact",
        errors=[
            E(
                X,
                0,
                T((2,), values=[0, 3], dtype="int64"),
                raises=IndexError,
                says="3",
                label="range",
            ),
            E(X, 0, T((2,), 0, 1, dtype="float32", grad=False), raises=RuntimeError, label="dtype"),
            E(X, 2, places(2, high=2), raises=IndexError, label="dim"),
        ],
    ),
    Case(
        "masked_select",
        "fm",
        [
            S(X, T((3, 4), dtype="bool")),
            S(X, T((4,), dtype="bool"), label="row"),
            S(T((4,)), T((3, 1), dtype="bool"), label="grows"),
        ],
        dtypes=ALL,
        grad=True,
        compare="exact",
        errors=[
            E(X, T((3, 4)), says="bool", label="dtype"),
            E(X, T((2, 4), dtype="bool"), says="2, 4", label="shape"),
        ],
    ),
    Case(
        "nonzero",
        "fm",
        [
            S(X),
            S(T((4,), values=[0.0, 1.0, 0.0, 2.0]), label="1-d"),
            S(T((0, 2)), label="empty"),
            S(T(()), label="0-d"),
        ],
        dtypes=ALL,
    ),
    Case(
        "nonzero",
        "fm",
        [S(T((2, 2), values=[[0.0, 1.0], [1.0, 0.0]]), as_tuple=True)],
        title="nonzero_tuple",
        dtypes=ALL,
    ),
]

SCATTER = [
    Case(
        "scatter",
        "fm",
        [
            S(X, 0, ONCE, T((2, 4))),
            S(X, 0, ONCE, 1.5, label="value"),
            S(X, 1, T((3, 2), values=[[0, 3], [1, 2], [2, 0]], dtype="int64"), T((3, 2)), label="dim1"),
            S(X, 0, ONCE, T((3, 5)), label="larger-src", grad=False),
        ],
        dtypes=ALL,
        grad=True,
        inplace="scatter_",
        errors=[
            E(
                X,
                0,
                T((1, 4), values=[[0, 3, 1, 1]], dtype="int64"),
                1.0,
                says="3",
                label="range",
            ),
            E(X, 0, FLOAT_INDEX, 1.0, says="int64", label="dtype"),
            E(X, 0, ONCE, T((1, 4)), label="shape"),
        ],
    ),
    Case(
        "scatter_add",
        "fm",
        [
            S(X, 0, places(2, 4, high=3), T((2, 4))),
            S(X, 1, places(3, 6, high=4), T((3, 6)), label="dim1"),
            S(T((5,)), 0, T((4,), values=[1, 1, 1, 4], dtype="int64"), T((4,)), label="repeats"),
        ],
        dtypes=NUMBERS,
        grad=True,
        inplace="scatter_add_",
        tol16=8.0,  # every addend is rounded
        tol=2.0,
        errors=[
            E(
                X,
                0,
                T((1, 4), values=[[0, 3, 1, 1]], dtype="int64"),
                T((1, 4)),
                says="3",
                label="range",
            ),
            E(X, 0, ONCE, T((2, 4), dtype="float64", grad=False), label="dtype"),
        ],
    ),
    Case(
        "index_add",
        "fm",
        [
            S(X, 0, places(5, high=3), T((5, 4))),
            S(X, 1, places(2, high=4), T((3, 2)), label="dim1"),
            S(X, 0, places(2, high=3), T((2, 4)), alpha=-0.5, label="alpha"),
        ],
        dtypes=NUMBERS,
        grad=True,
        inplace="index_add_",
        tol16=8.0,  # every addend is rounded
        tol=2.0,
        errors=[
            E(
                X,
                0,
                T((1,), values=[3], dtype="int64"),
                T((1, 4)),
                says="3",
                label="range",
            ),
            E(X, 0, places(2, high=3), T((3, 4)), label="shape"),
        ],
    ),
    Case(
        "index_put_",
        "",
        [
            S(X, (T((2,), values=[2, 0], dtype="int64"),), T((2, 4))),
            S(
                X,
                (T((2,), values=[2, 2], dtype="int64"), T((2,), 0, 3, dtype="int64")),
                1.5,
                True,
                label="add",
            ),
        ],
        call=lambda lib, t, places, value, *more: t.clone().index_put_(
            places, lib.tensor(value, dtype=t.dtype) if isinstance(value, float) else value, *more
        ),
        covers=("Tensor.index_put_",),
        grad=True,
    ),
]

D34 = T((3, 4), distinct=True)
SORTING = [
    Case(
        "topk",
        "fm",
        [
            S(D34, 2),
            S(D34, 2, 0, label="dim0"),
            S(D34, 3, largest=False, label="smallest"),
            S(D34, 4, -1, True, True, label="all"),
        ],
        dtypes=FLOATS + ("int64",),
        grad=True,
        layouts=("contiguous", "transposed"),
        errors=[E(D34, 5, says="5", label="k")],
    ),
    Case(
        "sort",
        "fm",
        [
            S(D34),
            S(D34, 0, label="dim0"),
            S(D34, descending=True, label="descending"),
            S(T((3,), values=[2.0, float("nan"), 1.0]), label="nan", grad=False),
        ],
        dtypes=FLOATS + ("int64", "uint8"),
        grad=True,
        layouts=("contiguous", "transposed"),
        errors=[E(D34, 2, raises=IndexError, label="dim")],
    ),
    Case("argsort", "fm", [S(D34), S(D34, 0, True, label="descending")]),
]

CASES = GATHER + SCATTER + SORTING

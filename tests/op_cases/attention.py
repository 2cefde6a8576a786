"""Attention."""

from op_cases.nn import CLOSE, seeded
from op_cases.table import Case, E, S, T

SEEN = T((3, 5), values=[[True, False, True, True, False], [False] * 5, [True] * 5], dtype="bool")
PADDING = T(
    (2, 1, 1, 5), values=[[[[True] * 4 + [False]]], [[[False, True, True, True, True]]]], dtype="bool"
)


def inputs(*lead, queries=3, keys=5, width=4, values=4):
    """Queries, keys and values."""
    return T((*lead, queries, width)), T((*lead, keys, width)), T((*lead, keys, values))


CASES = [
    Case(
        "scaled_dot_product_attention",
        "n",
        [
            S(*inputs(2, 3)),
            S(*inputs(), label="2-d"),
            S(*inputs(2, values=3), label="narrow-values"),
            S(*inputs(2, 2), is_causal=True, label="causal"),
            S(*inputs(2, queries=6, keys=3), is_causal=True, label="causal-tall"),
            S(*inputs(2, 2), SEEN, label="bool-mask"),
            S(*inputs(2, 2), PADDING, label="padding-mask"),
            S(*inputs(2, 2), T((2, 1, 3, 5), grad=False), label="float-mask"),
            S(*inputs(2, 2), T((3, 5)), label="float-mask-grad"),
            S(*inputs(2, 2), T((3, 1)), label="float-mask-column"),
            S(*inputs(2, 2), scale=0.3, label="scale"),
            S(T((2, 4, 3, 4)), T((2, 2, 5, 4)), T((2, 2, 5, 4)), enable_gqa=True, label="grouped"),
            S(T((4, 3, 4)), T((2, 5, 4)), T((1, 5, 4)), enable_gqa=True, label="grouped-unevenly"),
            S(
                T((2, 4, 3, 4)),
                T((2, 2, 5, 4)),
                T((2, 2, 5, 4)),
                T((4, 3, 5), grad=False),
                enable_gqa=True,
                label="grouped-mask",
            ),
            S(T((2, 1, 3, 4)), T((1, 3, 5, 4)), T((5, 4)), label="broadcast"),
            S(*inputs(2, queries=1, keys=1), label="one"),
            S(*inputs(2, keys=0), label="no-keys", grad=False),
            S(*inputs(0, 2), label="no-heads", grad=False),
            S(*inputs(2, 2, queries=150, keys=300, width=16, values=16), label="long", grad="formula"),
            S(
                *inputs(1, 2, queries=150, keys=300, width=16, values=16),
                is_causal=True,
                label="long-causal",
                grad="formula",
            ),
            S(*inputs(2, 2), None, 1.0, label="all-dropped", grad=False),
        ],
        grad=True,
        tol=30.0,
        tol16=3.0,
        errors=[
            E(T((3,)), T((3,)), T((3,)), says=("2", "1"), label="rank"),
            E(*inputs(2)[:2], T((2, 6, 4)), says=("5", "6"), label="values"),
            E(T((2, 3, 4)), T((2, 5, 3)), T((2, 5, 4)), says=("4", "3"), label="width"),
            E(T((2, 3, 4)), T((3, 5, 4)), T((3, 5, 4)), says=(r"\(2, 3, 4\)", r"\(3, 5, 4\)"), label="batch"),
            E(T((2, 3, 4)), T((2, 5, 4), dtype="float64"), T((2, 5, 4)), says="float64", label="dtype"),
            E(*inputs(2), T((3, 4), dtype="bool"), says=(r"\(3, 4\)", r"\(2, 3, 5\)"), label="mask"),
            E(*inputs(2), T((3, 5), 0, 2, dtype="int64"), says="int64", label="mask-dtype"),
            E(*inputs(2), SEEN, is_causal=True, says="is_causal", label="both"),
            E(*inputs(2), None, 1.5, says="1.5", label="dropout"),
            E(T((3, 3, 4)), T((2, 5, 4)), T((2, 5, 4)), enable_gqa=True, says=("3", "2"), label="groups"),
            E(
                T((3, 4)),
                T((5, 4)),
                T((5, 4)),
                enable_gqa=True,
                raises=IndexError,
                says="-3",
                label="no-heads",
            ),
        ],
    ),
    Case(
        "scaled_dot_product_attention",
        "",
        [
            S(*inputs(2, 3), None, 0.4),
            S(*inputs(2, 3), SEEN, 0.4, label="mask"),
            S(*inputs(2, 3), None, 0.4, True, label="causal"),
        ],
        title="scaled_dot_product_attention_dropout",
        call=seeded(lambda lib, *args: lib.nn.functional.scaled_dot_product_attention(*args)),
        grad=True,
        tol=30.0,
        tol16=3.0,
        layouts=CLOSE,
    ),
]

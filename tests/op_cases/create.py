"""New tensors: from values, of one value, of a sequence, at random."""

import numpy as np

from op_cases.table import ALL, BOOL, FLOATS, INTS, WIDE, Case, D, E, S, T

ONE = ("contiguous",)
F32 = ("float32",)
DTYPES = [S(2, 3, dtype=D(name), label=name) for name in ALL]


def create(name, samples, forms="f", **more):
    """A row whose result is compared bit by bit."""
    more.setdefault("dtypes", F32)
    return Case(name, forms, samples, layouts=ONE, compare=more.pop("compare", "exact"), **more)


VALUES = [
    create(
        "tensor",
        [
            S(value, label=label)
            for label, value in {
                "": [[1.0, 2.0], [3.0, 4.0]],
                "int": 3,
                "float": 2.5,
                "bool": True,
                "ints": [1, 2],
                "mixed": [1, 2.5],
                "bools": [True, False],
                "mixed-bool": [True, 2],
                "none": [],
                "nested-none": [[], []],
                "tuple": (1, (2,))[:1],
                "deep": [[[1], [2]]],
            }.items()
        ]
        + [S([1, 0, 2], dtype=D(name), label=name) for name in ALL]
        + [S(np.arange(6.0).reshape(2, 3), label="numpy")],
        errors=[
            E([[1, 2], [3]], raises=ValueError, label="ragged"),
            E("text", raises=TypeError, label="text"),
        ],
    ),
    create("as_tensor", [S([1.0, 2.0]), S(np.arange(3), label="numpy")]),
    create(
        "from_numpy",
        [
            S(np.arange(6).astype(kind).reshape(2, 3), label=kind)
            for kind in ("float32", "float64", "int64", "int32", "uint8", "bool")
        ],
    ),
]

FILLED = [
    create(
        name,
        [
            S(2, 3),
            S((2, 3), label="tuple"),
            S([4], label="list"),
            S((), label="0-d"),
            S(0, 2, label="empty"),
            *DTYPES,
        ],
        errors=[E(-1, 2, says="-1", label="negative")],
        compare="meta" if name == "empty" else "exact",
    )
    for name in ("zeros", "ones", "empty")
] + [
    create(
        "full",
        [
            S((2, 3), 7.5),
            S((2,), 7, label="int"),
            S((2,), True, label="bool"),
            S((), 1.0, label="0-d"),
            S((2,), 1, dtype=D("float64"), label="dtype"),
            S((2,), float("inf"), label="inf"),
        ],
    ),
    create(
        "eye",
        [
            S(3),
            S(2, 4, label="wide"),
            S(4, 2, label="tall"),
            S(0, label="empty"),
            S(2, dtype=D("int64"), label="int"),
        ],
        errors=[E(-1, says="-1", label="negative")],
    ),
    create(
        "arange",
        [
            S(5),
            S(5.0, label="float"),
            S(1, 7, 2, label="step"),
            S(3, -3, -2, label="down"),
            S(0.0, 1.0, 0.3, label="fraction"),
            S(2, 2, label="empty"),
            S(0, 5, dtype=D("float32"), label="dtype"),
            S(end=3, label="keyword", forms="f"),
            S(100, label="long"),
            S(0, 1, 0.1, dtype=D("float64"), label="float64"),
        ],
        errors=[E(0, 3, 0, says="0", label="zero-step"), E(0, 3, -1, label="sign")],
    ),
    create(
        "linspace",
        [
            S(0, 1, 5),
            S(-3.0, 3.0, 7, label="floats"),
            S(1, 0, 4, label="down"),
            S(2, 3, 1, label="one"),
            S(2, 3, 0, label="none"),
            S(0, 10, 4, dtype=D("int64"), label="int"),
            S(0, 1, 101, dtype=D("float64"), label="float64"),
        ],
        compare="close",
        errors=[E(0, 1, -1, says="-1", label="steps")],
    ),
]


LIKE = [
    create(
        f"{name}_like",
        [
            S(T((3, 4))),
            S(T((3, 4)), dtype=D("int64"), label="dtype"),
            S(T(()), label="0-d"),
            S(T((0, 2)), label="empty"),
        ],
        dtypes=ALL,
        compare="meta" if name == "empty" else "exact",
    )
    for name in ("zeros", "ones", "empty")
] + [
    create("full_like", [S(T((3, 4)), 2), S(T((3, 4)), 2.5, dtype=D("float64"), label="dtype")], dtypes=ALL),
    create(
        "new_zeros",
        [
            S(T((3,)), (2, 2)),
            S(T((3,)), 2, 2, label="varargs"),
            S(T((3,)), (2,), dtype=D("int64"), label="dtype"),
        ],
        forms="m",
        dtypes=ALL,
    ),
    create(
        "new_ones",
        [S(T((3,)), (2, 2)), S(T((3,)), (2,), dtype=D("int64"), label="dtype")],
        forms="m",
        dtypes=ALL,
    ),
    create("new_empty", [S(T((3,)), (2, 2))], forms="m", dtypes=ALL, compare="meta"),
    create(
        "new_full",
        [S(T((3,)), (2, 2), 3), S(T((3,)), (2,), 3.5, dtype=D("float64"), label="dtype")],
        forms="m",
        dtypes=ALL,
    ),
    create(
        "new_tensor",
        [S(T((3,)), [1, 0]), S(T((3,)), [1.5], dtype=D("float64"), label="dtype")],
        forms="m",
        compare="exact",
        dtypes=WIDE + INTS + BOOL,
    ),
]


def seeded(name):
    """`name` after `manual_seed(11)`: the same seed must give PyTorch's numbers, bit for bit."""

    def call(lib, *args, **kwargs):
        lib.manual_seed(11)
        return (
            getattr(args[0], name)(*args[1:], **kwargs)
            if name.endswith("_")
            else getattr(lib, name)(*args, **kwargs)
        )

    return call


def draws(name, samples, **more):
    """A row for a random operation."""
    owner = "Tensor." if name.endswith("_") else ""
    return create(name, samples, forms="", call=seeded(name), covers=(owner + name,), **more)


def filled(name, *args, **kwargs):
    """An in-place random method, tried on a copy in several sizes."""
    call = seeded(name)
    samples = [S(T((3,)), *args, **kwargs)] + [
        S(T((n,)), *args, label=f"n{n}", **kwargs) for n in (1, 15, 16, 17, 100)
    ]
    return create(
        name,
        samples,
        forms="",
        covers=(f"Tensor.{name}",),
        call=lambda lib, t, *a, **k: call(lib, t.clone(), *a, **k),
        dtypes=WIDE,
        grad="formula",
    )


RANDOM = [
    draws("rand", [S(3, 4), S((100,), label="long"), S(5, dtype=D("float64"), label="float64")]),
    draws(
        "randn",
        [
            S(3, 4),
            S(100, label="long"),
            S(17, label="n17"),
            S(20, dtype=D("float64"), label="float64"),
            S(3, dtype=D("float64"), label="float64-short"),
        ],
    ),
    draws(
        "randint",
        [
            S(10, (3, 4)),
            S(-5, 5, (20,), label="low"),
            S(0, 2**40, (5,), label="wide"),
            S(3, (4,), dtype=D("float32"), label="float"),
        ],
    ),
    draws(
        "randperm", [S(10), S(0, label="empty"), S(100, label="long"), S(5, dtype=D("int32"), label="int32")]
    ),
    draws("rand_like", [S(T((3, 4))), S(T((20,)), label="long")], dtypes=WIDE),
    draws("randn_like", [S(T((3, 4))), S(T((20,)), label="long")], dtypes=WIDE),
    draws("randint_like", [S(T((3, 4)), 10)]),
    draws("bernoulli", [S(T((3, 4), 0, 1)), S(T((50,), 0, 1), label="long")], grad="formula"),
    draws(
        "normal",
        [
            S(0.0, 1.0, (3, 4)),
            S(T((3, 4)), 0.5, label="mean"),
            S(0.5, T((3, 4), 0, 1), label="std"),
            S(T((3, 4)), T((3, 4), 0, 1), label="both"),
        ],
        grad="formula",
    ),
    filled("normal_"),
    filled("uniform_"),
    filled("uniform_", -2, 3),
    filled("bernoulli_", 0.3),
    filled("exponential_"),
    filled("random_", 10),
]
for _index, _case in enumerate(RANDOM):
    _case.title = f"{_case.name}-{_index}"

WRITES = [
    Case(
        name,
        "",
        [S(T((3, 4)), *args)] + [S(T((3, 4)), *more, label=label) for label, *more in extra],
        dtypes=ALL,
        grad=True,
        covers=(f"Tensor.{name}",),
        call=lambda lib, t, *a, name=name: getattr(t * 1 if t.requires_grad else t.clone(), name)(*a),
        compare="exact",
        errors=errors,
    )
    for name, args, extra, errors in [
        ("zero_", (), [], []),
        ("fill_", (2,), [("0-d", T((), 1, 3))], [E(T((3,)), T((2,)), label="not-0-d")]),
        (
            "copy_",
            (T((3, 4)),),
            [
                ("row", T((4,))),
                ("int", T((3, 4), dtype="int64")),
                ("half", T((3, 4), dtype="bfloat16", grad=False)),
            ],
            [E(T((3, 4)), T((2, 4)), says=("3", "2"), label="shape")],
        ),
    ]
]

FLOAT_CONVERSIONS = ("float", "double", "half", "bfloat16")
CONVERSIONS = [
    Case(
        name,
        "m",
        [S(T((3, 4), 0, 9, away="integers")), S(T(()), label="0-d")],
        dtypes=ALL,
        grad="formula" if name in FLOAT_CONVERSIONS else False,
        compare="exact",
    )
    for name in ("float", "double", "half", "bfloat16", "int", "long", "byte", "bool")
] + [
    Case(
        "to",
        "m",
        [
            S(
                T((3, 4), 0, 9, away="integers"),
                D(name),
                label=name,
                grad="formula" if name in FLOATS else False,
            )
            for name in ALL
        ],
        dtypes=ALL,
        grad="formula",
        compare="exact",
    ),
    Case(
        "type_as",
        "m",
        [S(T((3, 4)), T((1,), dtype="float64", grad=False))],
        dtypes=ALL,
        grad="formula",
        compare="exact",
    ),
]

CASES = VALUES + FILLED + LIKE + RANDOM + WRITES + CONVERSIONS

"""Other arrangements of the same elements: views, copies with repetition, indexing, joining."""

from op_cases.table import ALL, Case, E, S, T

NO_DIM = E(T((3, 4)), 2, raises=IndexError, says=("-2", "1", "2"), label="dim")
PLAIN = ("contiguous", "transposed", "strided", "broadcast", "offset")


def view(name, samples, forms="fm", **more):
    """A row whose results must be equal bit by bit, in every dtype."""
    return Case(name, forms, samples, dtypes=ALL, grad=True, compare="exact", **more)


def x(*shape):
    return T(shape)


SHAPES = [
    view(
        "reshape",
        [
            S(x(3, 4), (4, 3)),
            S(x(3, 4), (-1,), label="flat"),
            S(x(2, 3, 4), (2, -1), label="infer"),
            S(x(3, 4), (2, 1, 6), label="more"),
            S(x(), (1, 1), label="0-d"),
            S(x(1), (), label="to-0-d"),
            S(x(0, 3), (3, 0), label="empty", grad=False),
        ],
        errors=[
            E(x(3, 4), (5, 2), says="5, 2", label="numel"),
            E(x(3, 4), (-1, -1), says="-1", label="two-unknown"),
            E(x(3, 4), (-1, 5), says="5", label="not-divisible"),
        ],
    ),
    view("reshape", [S(x(3, 4), 2, 6), S(x(3, 4), -1, label="flat")], forms="m", title="reshape_varargs"),
    view(
        "view",
        [
            S(x(3, 4), 2, 6),
            S(x(3, 4), (4, 3), label="tuple"),
            S(x(3, 4), -1, label="flat"),
            S(x(0, 2), 2, 0, label="empty", grad=False),
        ],
        forms="m",
        layouts=("contiguous", "offset"),
        errors=[E(x(3, 4), 5, 2, says="5, 2", label="numel")],
    ),
    view(
        "view",
        [S(x(3, 4))],
        forms="",
        title="view_strided",
        layouts=("contiguous",),
        call=lambda lib, t: t.t().view(4, 3, 1),
    ),
    view("view_as", [S(x(3, 4), T((2, 6), grad=False))], forms="m", layouts=("contiguous",)),
    view("reshape_as", [S(x(3, 4), T((2, 6), grad=False))], forms="m"),
    view(
        "flatten",
        [
            S(x(2, 3, 4)),
            S(x(2, 3, 4), 1, label="start"),
            S(x(2, 3, 4), 0, 1, label="both"),
            S(x(2, 3, 4), start_dim=-2, label="negative"),
            S(x(), label="0-d"),
        ],
        errors=[E(x(2, 3), 1, 0, says="", label="order"), E(x(2, 3), 4, raises=IndexError, label="dim")],
    ),
    view("ravel", [S(x(2, 3, 4)), S(x(3), label="1-d"), S(x(), label="0-d")]),
    view(
        "unflatten",
        [S(x(2, 12), 1, (3, 4)), S(x(2, 12), -1, (-1, 4), label="infer")],
        errors=[E(x(2, 12), 1, (5, 2), says="12", label="numel")],
    ),
    view(
        "squeeze",
        [
            S(x(1, 3, 1)),
            S(x(1, 3, 1), 0, label="dim"),
            S(x(1, 3, 1), 1, label="not-one"),
            S(x(1, 3, 1), (0, 2), label="dims"),
            S(x(), label="0-d"),
        ],
        errors=[NO_DIM],
    ),
    view(
        "unsqueeze",
        [S(x(3, 4), 0), S(x(3, 4), -1, label="last"), S(x(3, 4), 1, label="middle"), S(x(), 0, label="0-d")],
        errors=[E(x(3, 4), 3, raises=IndexError, says=("-3", "2", "3"), label="dim")],
    ),
    view(
        "expand",
        [
            S(x(3, 1), 3, 4),
            S(x(3, 1), 2, 3, 4, label="more"),
            S(x(3, 1), (-1, 4), label="keep"),
            S(x(), 2, 3, label="0-d"),
            S(x(1), 0, label="empty", grad=False),
        ],
        forms="m",
        errors=[E(x(3, 4), 3, 5, says="4", label="size"), E(x(3, 4), 4, label="fewer")],
    ),
    view("expand_as", [S(x(3, 1), T((2, 3, 4), grad=False))], forms="m"),
    view("broadcast_to", [S(x(3, 1), (2, 3, 4))]),
    view("contiguous", [S(x(3, 4)), S(x(), label="0-d")], forms="m"),
    view("clone", [S(x(3, 4)), S(x(), label="0-d"), S(x(0, 2), label="empty", grad=False)]),
]

ORDERS = [
    view(
        "permute",
        [S(x(2, 3, 4), (2, 0, 1)), S(x(2, 3, 4), (-1, 0, 1), label="negative"), S(x(), (), label="0-d")],
        errors=[
            E(x(2, 3), (0, 0), says="0", label="twice"),
            E(x(2, 3), (0,), says="2", label="few"),
            E(x(2, 3), (0, 2), raises=IndexError, label="dim"),
        ],
    ),
    view("permute", [S(x(2, 3, 4), 2, 0, 1)], forms="m", title="permute_varargs"),
    view(
        "transpose",
        [S(x(3, 4), 0, 1), S(x(2, 3, 4), -1, 0, label="negative"), S(x(3), 0, 0, label="1-d")],
        errors=[E(x(3, 4), 0, 2, raises=IndexError, says=("-2", "1", "2"), label="dim")],
        also=("swapaxes", "Tensor.swapaxes", "swapdims", "Tensor.swapdims"),
    ),
    view(
        "t",
        [S(x(3, 4)), S(x(3), label="1-d"), S(x(), label="0-d")],
        errors=[E(x(2, 3, 4), says="3", label="3-d")],
    ),
    view("T", [S(x(3, 4))], forms="", call=lambda lib, t: t.T, title="T"),
    view("mT", [S(x(2, 3, 4)), S(x(3, 4), label="2-d")], forms="", call=lambda lib, t: t.mT, title="mT"),
    view(
        "movedim",
        [S(x(2, 3, 4), 0, 2), S(x(2, 3, 4), (0, 1), (-1, 0), label="several")],
        errors=[E(x(2, 3), 2, 0, raises=IndexError, label="dim")],
        also=("moveaxis", "Tensor.moveaxis"),
    ),
    view(
        "flip",
        [S(x(3, 4), (0,)), S(x(3, 4), (0, 1), label="both"), S(x(3, 4), [-1], label="last")],
        errors=[E(x(3, 4), (2,), raises=IndexError, label="dim")],
    ),
    view(
        "roll",
        [S(x(3, 4), 1, 0), S(x(3, 4), 2, label="flat"), S(x(3, 4), (1, -1), (0, 1), label="both")],
    ),
    view("diagonal", [S(x(3, 4)), S(x(2, 3, 4), 1, 1, 2, label="dims")]),
]

PARTS = [
    view(
        "narrow",
        [
            S(x(3, 4), 1, 1, 2),
            S(x(3, 4), 0, -2, 1, label="negative"),
            S(x(3, 4), 0, 1, 0, label="none", grad=False),
        ],
        errors=[
            E(x(3, 4), 1, 3, 2, says="4", label="long"),
            E(x(3, 4), 2, 0, 1, raises=IndexError, label="dim"),
        ],
    ),
    view(
        "select",
        [S(x(3, 4), 1, 2), S(x(3, 4), 0, -1, label="negative"), S(x(2, 3, 4), -1, 0, label="last")],
        errors=[
            E(x(3, 4), 1, 4, raises=IndexError, says="4", label="index"),
            E(x(3, 4), 2, 0, raises=IndexError, label="dim"),
        ],
    ),
    view(
        "chunk",
        [
            S(x(3, 4), 2),
            S(x(3, 4), 2, 1, label="dim"),
            S(
                x(
                    7,
                ),
                4,
                label="uneven",
            ),
            S(
                x(
                    2,
                ),
                5,
                label="few",
            ),
        ],
        errors=[E(x(3, 4), 0, says="0", label="none")],
    ),
    view(
        "split",
        [
            S(x(5, 2), 2),
            S(x(3, 4), 3, 1, label="dim"),
            S(x(5, 2), [1, 4], label="sizes"),
            S(x(2, 5), (2, 0, 3), dim=-1, label="sizes-dim"),
        ],
        errors=[E(x(5, 2), [1, 3], says="5", label="sum"), E(x(5, 2), -1, says="-1", label="negative")],
    ),
    view(
        "unbind",
        [S(x(3, 4)), S(x(3, 4), 1, label="dim"), S(x(3), label="1-d")],
        errors=[E(x(3, 4), 2, raises=IndexError, label="dim")],
    ),
    view(
        "repeat",
        [
            S(x(3, 2), 2, 3),
            S(x(3), 2, 2, label="more"),
            S(x(3, 2), (1, 2), label="tuple"),
            S(x(2), 0, label="none", grad=False),
        ],
        forms="m",
        errors=[E(x(3, 2), 2, says="1", label="few")],
    ),
    view("tile", [S(x(3, 2), (2, 2))]),
    view(
        "tril",
        [
            S(x(3, 4)),
            S(x(3, 4), 1, label="above"),
            S(x(2, 3, 3), diagonal=-1, label="batch"),
            S(x(3, 4), -9, label="none"),
        ],
        inplace="tril_",
        errors=[E(x(3), says="2", label="1-d")],
    ),
    view(
        "triu",
        [
            S(x(3, 4)),
            S(x(3, 4), 1, label="above"),
            S(x(2, 3, 3), diagonal=-1, label="batch"),
            S(x(3, 4), 9, label="none"),
        ],
        inplace="triu_",
        errors=[E(x(3), says="2", label="1-d")],
    ),
]

SQUARE = [T((2, 3)), T((2, 3)), T((2, 3))]
JOINS = [
    view(
        "cat",
        [
            S([x(2, 3), x(1, 3)], forms="f"),
            S([x(2, 3), x(2, 1), x(2, 2)], 1, label="dim1"),
            S((x(2, 3), x(2, 3)), dim=-1, label="tuple"),
            S([x(2, 3)], label="one"),
            S([x(0, 3), x(2, 3)], label="empty", grad=False),
            S([x(0), x(2, 3)], label="legacy-empty", grad=False),
            S([x(2, 3), T((1, 3), dtype="float64")], label="promote"),
            S([x(2, 3), T((1, 3), dtype="int64")], label="promote-int"),
        ],
        forms="f",
        also=("concat", "concatenate"),
        errors=[
            E([x(2, 3), x(2, 4)], says="4", label="shapes"),
            E([x(2, 3), x(3)], label="ranks"),
            E([x(2, 3)], 2, raises=IndexError, label="dim"),
            E([], raises=ValueError, label="none"),
        ],
    ),
    view(
        "stack",
        [S(SQUARE), S(SQUARE, 1, label="dim1"), S(SQUARE, dim=-1, label="last"), S([x(), x()], label="0-d")],
        forms="f",
        errors=[
            E([x(2, 3), x(3, 2)], says=("2, 3", "3, 2"), label="shapes"),
            E(SQUARE, 3, raises=IndexError, label="dim"),
            E([], label="none"),
        ],
    ),
]


def pick(*key):
    """A read at a constant key, as a call."""
    key = key[0] if len(key) == 1 else key
    return lambda lib, t: t[key]


KEYS = {
    "int": pick(1),
    "negative": pick(-1),
    "ints": pick(1, 2),
    "slice": pick(slice(1, 3)),
    "step": pick(slice(None, None, 2)),
    "slices": pick(slice(0, 2), slice(1, None, 2)),
    "none": pick(None),
    "none-middle": pick(slice(None), None, 1),
    "ellipsis": pick(Ellipsis, 0),
    "ellipsis-alone": pick(Ellipsis),
    "empty": pick(slice(3, 1)),
    "far": pick(slice(-100, 100)),
    "list": pick([0, 2]),
    "list-repeat": pick([1, 1, 0]),
    "lists": pick([0, 2], [1, 3]),
    "list-slice": pick([0, 2], slice(1, 3)),
    "slice-list": pick(slice(1, 3), [0, 3, 0]),
    "bool": pick([True, False, True]),
    "true": pick(True),
    "tuple-empty": pick(()),
    "split-lists": pick([0, 1], None, [1, 2]),
    "mask": lambda lib, t: t[t > 0],
    "mask-row": lambda lib, t: t[lib.tensor([True, False, True])],
    "tensor": lambda lib, t: t[lib.tensor([[0, 2], [1, -1]])],
    "tensor-0-d": lambda lib, t: t[lib.tensor(1)],
    "tensors": lambda lib, t: t[lib.tensor([[0], [2]]), lib.tensor([1, 3])],
    "mask-int": lambda lib, t: t[lib.tensor([True, False, True]), 1],
}
BAD_KEYS = [
    ("int", lambda lib, t: t[3], IndexError),
    ("many", lambda lib, t: t[0, 0, 0], IndexError),
    ("list", lambda lib, t: t[[0, 3]], IndexError),
    ("mask", lambda lib, t: t[lib.tensor([True, False])], IndexError),
    ("float", lambda lib, t: t[lib.tensor([0.5])], IndexError),
    ("shapes", lambda lib, t: t[[0, 1], [0, 1, 2]], IndexError),
    ("negative-step", lambda lib, t: t[::-1], ValueError),
]
READS = [
    Case(
        "getitem",
        "",
        [S(x(3, 4))],
        title=f"getitem_{name}",
        call=call,
        dtypes=("float32", "int64", "bool", "bfloat16"),
        compare="exact",
        grad=True,
        layouts=PLAIN,
    )
    for name, call in KEYS.items()
]
BAD_READS = [
    Case(
        "getitem",
        "",
        [],
        title=f"getitem_bad_{name}",
        call=call,
        errors=[E(x(3, 4), raises=error, label="key")],
    )
    for name, call, error in BAD_KEYS
]


def assign(key):
    """A write at a key, on a copy: `(lib, t, value) -> copy`."""

    def call(lib, t, value):
        copy = t.clone()
        copy[key(lib, t) if callable(key) else key] = value
        return copy

    return call


WRITES = [
    Case(
        "setitem",
        "",
        [
            S(x(3, 4), x(*shape)),
            S(x(3, 4), 2.0, label="scalar", dtypes=("float32", "int64", "bool")),
            S(x(3, 4), x(), label="0-d"),
        ],
        title=f"setitem_{name}",
        call=assign(key),
        dtypes=("float32", "int64", "bfloat16"),
        compare="exact",
        grad=True,
        layouts=PLAIN,
    )
    for name, key, shape in [
        ("int", 1, (4,)),
        ("ints", (1, 2), ()),
        ("slice", slice(1, 3), (2, 4)),
        ("step", (slice(None), slice(None, None, 2)), (3, 2)),
        ("broadcast", slice(1, 3), (4,)),
        ("ellipsis", (Ellipsis, 0), (3,)),
        ("all", slice(None), (1, 4)),
        ("none", None, (3, 4)),
        ("list", [0, 2], (2, 4)),
        ("lists", ([0, 2], [1, 3]), (2,)),
        ("mask-row", [True, False, True], (2, 4)),
        ("mask", lambda lib, t: lib.tensor([[True, False, True, False]] * 3), (6,)),
        ("list-slice", ([2, 0], slice(1, 3)), (2, 2)),
        ("slice-list", (slice(1, 3), [0, 3]), (2, 2)),
        ("tensor", lambda lib, t: lib.tensor([1, -1]), (2, 4)),
        ("dtype", 0, (1,)),
    ]
] + [
    Case(
        "setitem",
        "",
        [],
        title="setitem_bad",
        call=assign(slice(0, 2)),
        errors=[E(x(3, 4), x(3, 4), says="2, 4", label="shapes")],
    )
]

CASES = SHAPES + ORDERS + PARTS + JOINS + READS + BAD_READS + WRITES

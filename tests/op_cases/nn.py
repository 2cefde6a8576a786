"""Layers' functions, losses, and others of firesteel.nn.functional."""

import numpy as np

from op_cases.table import FLOATS, WIDE, Case, D, E, S, T

STRAIGHT = ("contiguous", "transposed", "strided", "broadcast", "offset")


def softmax_samples():
    return [
        S(T((3, 4)), 1),
        S(T((3, 4)), dim=0, label="dim0"),
        S(T((2, 3, 4)), dim=-2, label="middle"),
        S(T((4,)), 0, label="1-d"),
        S(T(()), 0, label="0-d"),
        S(T((3,), values=[1000.0, -1000.0, 999.0]), 0, label="large"),
        S(T((2, 2), values=[[float("-inf"), 0.0], [1.0, 2.0]]), 1, label="inf", grad=False),
        S(T((3, 4)), dim=1, dtype=D("float64"), label="dtype", grad=False),
        S(T((0, 3)), 1, label="empty", grad=False),
        S(T((7, 300), -9, 9), 1, label="long", grad=False),
    ]


NORMALISED = (
    [
        Case(
            name,
            "fmn",
            softmax_samples(),
            grad=True,
            tol=3.0,
            tol16=2.0,
            errors=[E(T((3, 4)), 2, raises=IndexError, says=("-2", "1", "2"), label="dim")],
        )
        for name in ("softmax", "log_softmax")
    ]
    + [
        Case("softmin", "n", [S(T((3, 4)), 1)], grad=True),
        Case("normalize", "n", [S(T((3, 4))), S(T((3, 4)), 2.0, 0, label="dim")], grad=True, tol=4.0),
        Case("glu", "n", [S(T((3, 4)))], grad=True),
        Case("cosine_similarity", "nf", [S(T((3, 4)), T((3, 4)))], grad=True, tol=4.0),
        Case(
            "layer_norm",
            "nf",
            [
                S(T((3, 4)), (4,), T((4,)), T((4,))),
                S(T((3, 4)), (4,), label="plain"),
                S(T((2, 3, 4)), [3, 4], T((3, 4)), label="two-dims"),
                S(T((2, 3)), (3,), None, T((3,)), label="bias-only"),
                S(T((3, 4)), (4,), eps=0.1, label="eps"),
                S(T((5, 100), 9, 11), (100,), label="long", grad=False),
            ],
            grad=True,
            tol16=2.0,
            tol=20.0,
            errors=[
                E(T((3, 4)), (5,), says=("5", "3, 4"), label="shape"),
                E(T((3, 4)), (4,), T((3,)), label="weight"),
            ],
        ),
        Case(
            "group_norm",
            "nf",
            [
                S(T((2, 4, 3)), 2, T((4,)), T((4,))),
                S(T((2, 4, 3, 2)), 2, label="4-d"),
                S(T((2, 4, 3)), 2, T((4,)), label="weight"),
                S(T((2, 4, 3)), 1, None, T((4,)), label="bias", grad=False),  # PyTorch's gradient fails
                S(T((3, 8)), 2, T((8,)), T((8,)), label="2-d"),
                S(T((3, 6, 5, 17), 9, 11), 3, T((6,)), T((6,)), label="long", grad=False),
            ],
            grad=True,
            tol=20.0,
            layouts=("contiguous", "strided"),
        ),
        Case(
            "rms_norm",
            "n",
            [
                S(T((3, 4)), (4,), T((4,))),
                S(T((3, 4)), (4,), label="plain"),
                S(T((2, 3, 4)), (3, 4), T((3, 4)), 0.1, label="matrices"),
                S(T((70, 261)), (261,), T((261,)), label="long", grad=False),
            ],
            grad=True,
            tol=10.0,
            layouts=("contiguous", "strided"),
        ),
        Case(
            "batch_norm",
            "n",
            [
                S(T((5, 3)), None, None, T((3,)), T((3,)), True),
                S(T((4, 3, 2)), None, None, training=True, label="3-d"),
                S(T((3, 2, 2, 2)), None, None, T((2,)), T((2,)), True, 0.1, 0.1, label="4-d"),
                S(
                    T((5, 3)),
                    T((3,), grad=False),
                    T((3,), 0.5, 2, grad=False),
                    T((3,)),
                    T((3,)),
                    label="eval",
                ),
                S(T((2, 3, 2)), T((3,), grad=False), T((3,), 0.5, 2, grad=False), label="eval-plain"),
            ],
            dtypes=FLOATS[:3],
            grad=True,
            tol=30.0,
            tol16=2.0,
            errors=[
                E(T((1, 3)), None, None, training=True, raises=ValueError, says="1", label="one-value"),
                E(T((4, 3)), T((2,)), T((2,)), says="2", label="stats"),
            ],
            layouts=STRAIGHT,
        ),
        Case(
            "batch_norm",
            "n",
            [
                S(
                    T((5, 3)),
                    T((3,), grad=False),
                    T((3,), 0.5, 2, grad=False),
                    momentum=momentum,
                    label=f"m{momentum}",
                )
                for momentum in (0.1, 0.5)
            ],
            grad="formula",
            title="batch_norm_running",
            dtypes=WIDE,
            tol=10.0,
            layouts=STRAIGHT,
            call=lambda lib, x, mean, var, momentum: _running(lib, x, mean.clone(), var.clone(), momentum),
        ),
    ]
)


def _running(lib, x, mean, var, momentum):
    """The result, and the running statistics that training has written."""
    return lib.nn.functional.batch_norm(x, mean, var, training=True, momentum=momentum), mean, var


def classes(*shape, high, **more):
    return T(shape, 0, high - 1, dtype="int64", **more)


PARTIAL = T((3,), values=[1, -100, 3], dtype="int64")
REDUCTIONS = ("none", "sum", "mean")
PROBABILITIES = T((3, 4), values=[[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0]])
WEIGHT = T((4,), 0.5, 2, grad=False)


def class_samples(spec):
    """What cross_entropy and nll_loss share."""
    target = classes(3, high=4)
    return [
        S(spec(3, 4), target),
        S(spec(3, 4), target, WEIGHT, label="weight"),
        S(spec(3, 4), PARTIAL, label="ignored"),
        S(spec(3, 4), PARTIAL, WEIGHT, label="ignored-weight"),
        S(spec(3, 4), classes(3, high=4), ignore_index=2, label="ignore2", grad="formula"),
        S(spec(2, 4, 3), classes(2, 3, high=4), label="positions"),
        S(spec(2, 4, 2, 2), classes(2, 2, 2, high=4), WEIGHT, reduction="sum", label="images"),
        S(spec(4), T((), values=2, dtype="int64"), label="unbatched"),
    ] + [S(spec(3, 4), PARTIAL, WEIGHT, reduction=reduction, label=reduction) for reduction in REDUCTIONS]


BAD_TARGETS = [
    E(T((3, 4)), T((3,), values=[0, 4, 1], dtype="int64"), raises=IndexError, says="4", label="range"),
    E(T((3, 4)), classes(2, high=4), raises=ValueError, says=("3", "2"), label="batch"),
    E(T((3, 4)), classes(3, high=4), reduction="avg", raises=ValueError, says="avg", label="reduction"),
]
CLASSIFICATION = [
    Case(
        "cross_entropy",
        "n",
        class_samples(lambda *shape: T(shape))
        + [
            S(T((3, 4)), classes(3, high=4), label_smoothing=0.1, label="smooth"),
            S(T((3, 4)), PARTIAL, WEIGHT, label_smoothing=0.2, label="smooth-weight"),
            S(
                T((2, 4, 3)),
                classes(2, 3, high=4),
                label_smoothing=0.2,
                reduction="none",
                label="smooth-none",
            ),
            S(T((3, 4)), PROBABILITIES, label="probabilities"),
            S(T((3, 4)), PROBABILITIES, WEIGHT, reduction="sum", label="probabilities-weight"),
            S(T((3, 4)), PROBABILITIES, label_smoothing=0.1, reduction="none", label="probabilities-smooth"),
            S(T((2, 4, 3)), T((2, 4, 3), 0, 1), label="probabilities-positions"),
            S(
                T((2, 2), values=[[1000.0, -1000.0], [-500.0, 500.0]]),
                T((2,), values=[1, 1], dtype="int64"),
                label="large",
            ),
        ],
        grad=True,
        tol=10.0,
        errors=BAD_TARGETS
        + [E(T((3, 4)), classes(3, high=4), label_smoothing=1.5, says="1.5", label="smoothing")],
    ),
    Case(
        "nll_loss",
        "n",
        class_samples(lambda *shape: T(shape, -3, -0.1)),
        grad=True,
        tol=4.0,
        errors=BAD_TARGETS,
    ),
]


def loss(name, a=None, b=None, *, samples=(), **more):
    """A row for a loss of two tensors of one shape, in every reduction."""
    a, b = a or T((3, 4)), b or T((3, 4))
    return Case(
        name,
        "n",
        [S(a, b)]
        + [S(a, b, reduction=reduction, label=reduction) for reduction in REDUCTIONS]
        + list(samples),
        grad=True,
        tol=8.0,
        errors=[
            E(a, b, reduction="avg", raises=ValueError, says="avg", label="reduction"),
            *more.pop("errors", []),
        ],
        **more,
    )


P = T((3, 4), 0.1, 0.9)
LOSSES = [
    loss("mse_loss", np=lambda a, b, reduction="mean": _reduce((a - b) ** 2, reduction)),
    loss("l1_loss", np=lambda a, b, reduction="mean": _reduce(np.abs(a - b), reduction)),
    loss(
        "smooth_l1_loss",
        samples=[
            S(T((3, 4)), T((3, 4)), beta=0.5, label="beta"),
            S(T((3, 4)), T((3, 4)), beta=0.0, label="beta0"),
        ],
    ),
    loss("huber_loss", samples=[S(T((3, 4)), T((3, 4)), delta=0.5, label="delta")]),
    loss(
        "binary_cross_entropy",
        P,
        P,
        samples=[
            S(P, P, T((4,), 0.5, 2, grad=False), label="weight"),
            S(
                T((4,), values=[0.0, 1.0, 0.0, 1.0]),
                T((4,), values=[0.0, 1.0, 1.0, 0.0], grad=False),
                label="edges",
                grad=False,
            ),
        ],
        errors=[
            E(P, T((3, 3), 0, 1), raises=ValueError, says=("3, 4", "3, 3"), label="shapes"),
            E(T((3,), 1.5, 2), T((3,), 0, 1), says="0", label="range"),
        ],
    ),
    loss(
        "binary_cross_entropy_with_logits",
        T((3, 4), -3, 3),
        P,
        samples=[
            S(T((3, 4)), P, T((4,), 0.5, 2, grad=False), label="weight"),
            S(T((3, 4)), P, pos_weight=T((4,), 0.5, 2, grad=False), label="pos-weight"),
            S(
                T((3, 4)),
                P,
                T((3, 1), 0.5, 2, grad=False),
                pos_weight=T((), 2, 3, grad=False),
                label="both",
                reduction="sum",
            ),
            S(
                T((4,), values=[90.0, -90.0, 0.0, 800.0]),
                T((4,), values=[1.0, 1.0, 0.5, 0.0]),
                label="large",
                grad="formula",
            ),
        ],
        errors=[E(T((3, 4)), T((3, 3), 0, 1), raises=ValueError, says=("3, 4", "3, 3"), label="shapes")],
    ),
    Case(
        "kl_div",
        "n",
        [
            S(T((3, 4), -3, -0.1), P, reduction="sum"),
            S(T((3, 4), -3, -0.1), P, reduction="batchmean", label="batch"),
        ],
        grad=True,
        tol=8.0,
    ),
]


def _reduce(values, reduction):
    return {"none": values, "sum": values.sum(), "mean": values.mean()}[reduction]


D44 = T((1, 2, 5, 5), distinct=True)
POOLS = [
    Case(
        "max_pool2d",
        "nf",
        [
            S(D44, 2),
            S(T((2, 2, 9, 33), distinct=True), 3, 1, 1, label="stride-1", grad=False),
            S(T((2, 2, 9, 33), distinct=True), (2, 5), (1, 3), (0, 2), label="stride-3", grad=False),
            S(T((2, 2, 9, 33), distinct=True), 3, 2, 1, 2, True, label="dilated-ceil", grad=False),
            S(D44, 3, 2, 1, label="padding"),
            S(D44, (2, 3), stride=(1, 2), label="pairs"),
            S(D44, 2, ceil_mode=True, label="ceil"),
            S(D44, 2, dilation=2, label="dilation"),
            S(T((2, 5, 5), distinct=True), 2, label="unbatched"),
            S(T((2, 3, 16, 16), distinct=True), 2, label="large", grad=False),
        ],
        dtypes=FLOATS[:3],
        grad=True,
        layouts=STRAIGHT,
        compare="exact",
        errors=[
            E(D44, 6, says=("6", "5"), label="large"),
            E(D44, 2, padding=2, says="2", label="padding"),
            E(T((5,)), 2, label="rank"),
            E(D44, 0, says="0", label="zero"),
        ],
    ),
    Case(
        "max_pool2d",
        "n",
        [
            S(D44, 2, return_indices=True),
            S(D44, 3, 2, 1, ceil_mode=True, return_indices=True, label="padding"),
            S(T((1, 2, 5, 140), distinct=True), 3, 2, 1, return_indices=True, label="wide", grad=False),
        ],
        title="max_pool2d_indices",
        dtypes=WIDE,
        grad=True,
        layouts=STRAIGHT,
        compare="exact",
    ),
    Case(
        "max_pool1d",
        "nf",
        [S(T((2, 3, 7), distinct=True), 2), S(T((2, 3, 7), distinct=True), 3, 2, 1, label="padding")],
        grad=True,
        layouts=STRAIGHT,
    ),
    Case(
        "avg_pool2d",
        "n",
        [
            S(T((1, 2, 5, 5)), 2),
            S(T((1, 2, 5, 5)), 3, 2, 1, label="padding"),
            S(T((1, 2, 5, 5)), (2, 3), stride=(1, 2), label="pairs"),
            S(T((1, 2, 5, 5)), 2, ceil_mode=True, label="ceil"),
            S(T((1, 2, 5, 5)), 3, 2, 1, count_include_pad=False, label="exclude-pad"),
            S(T((1, 2, 5, 5)), 2, divisor_override=3, label="divisor"),
            S(T((2, 5, 5)), 2, label="unbatched"),
        ],
        dtypes=FLOATS[:3],
        grad=True,
        layouts=STRAIGHT,
        tol=2.0,
        errors=[
            E(T((1, 2, 5, 5)), 6, says=("6", "5"), label="large"),
            E(T((1, 2, 5, 5)), 2, padding=2, says="2", label="padding"),
        ],
    ),
    Case("avg_pool1d", "nf", [S(T((2, 3, 7)), 2)], grad=True, layouts=STRAIGHT),
    Case(
        "adaptive_avg_pool2d",
        "n",
        [
            S(T((1, 2, 5, 4)), 2),
            S(T((1, 2, 5, 4)), (1, 1), label="global"),
            S(T((1, 2, 5, 4)), (3, None), label="none"),
        ],
        grad=True,
        layouts=STRAIGHT,
        tol=2.0,
    ),
    Case(
        "adaptive_max_pool2d",
        "n",
        [
            S(D44, 2),
            S(D44, (1, 1), label="global"),
            S(D44, (3, None), label="none"),
            S(D44, (5, 7), label="larger"),
            S(D44, (0, 2), label="nothing", grad=False),  # PyTorch's gradient refuses it
            S(T((2, 5, 5), distinct=True), 2, return_indices=True, label="unbatched"),
            S(T((3, 5, 17, 33), distinct=True), (3, 4), return_indices=True, label="large", grad=False),
        ],
        dtypes=FLOATS[:3],
        grad=True,
        layouts=STRAIGHT,
        compare="exact",
        errors=[
            E(T((5,)), 2, says="5", label="rank"),
            E(T((2, 0, 4)), 2, says="2, 0, 4", label="empty"),
            E(D44, (2, 3, 4), says="2", label="three"),
            E(D44, -1, says="-1", label="negative"),
        ],
    ),
    Case(
        "adaptive_max_pool1d",
        "n",
        [S(T((2, 3, 7), distinct=True), 3), S(T((3, 7), distinct=True), 2, True, label="indices")],
        title="adaptive_max_pool1d_values",
        grad=True,
        layouts=STRAIGHT,
        compare="exact",
    ),
    Case(
        "adaptive_max_pool1d",
        "f",
        [S(T((2, 3, 7), distinct=True), 3), S(T((3, 7), distinct=True), (2,), label="unbatched")],
        grad=True,
        layouts=STRAIGHT,
        compare="exact",
        errors=[
            E(T((5,)), 2, says="5", label="rank"),
            E(T((2, 3, 7)), (2, 3), says="2", label="two"),
        ],
    ),
    Case(
        "pad",
        "n",
        [
            S(T((3, 4)), (1, 2)),
            S(T((3, 4)), (1, 0, 2, 1), value=5.0, label="two"),
            S(T((1, 3, 4)), (1, 2), mode="reflect", label="reflect"),
            S(T((1, 3, 4)), (1, 2), mode="replicate", label="replicate"),
            S(T((3, 4)), (-1, 1), label="crop"),
        ],
        grad=True,
    ),
    Case(
        "one_hot",
        "n",
        [S(classes(3, 4, high=5), 5), S(classes(3, high=4), label="infer")],
        dtypes=("int64",),
    ),
]


def seeded(function):
    """A random operation after `manual_seed(5)`: it must draw what PyTorch draws."""

    def call(lib, *args, **kwargs):
        lib.manual_seed(5)
        return function(lib, *args, **kwargs)

    return call


def dropout(lib, *args, **kwargs):
    return lib.nn.functional.dropout(*args, **kwargs)


CLOSE = ("contiguous", "offset")
OTHERS = [
    Case(
        "dropout",
        "",
        [
            S(T((3, 4))),
            S(T((3, 4)), 0.2, label="p0.2"),
            S(T((40, 70)), 0.3, label="large", grad="formula"),
            S(T((3, 4)), 0.0, label="p0"),
            S(T((3, 4)), 1.0, label="p1"),
            S(T((3, 4)), 0.9, False, label="eval"),
        ],
        call=seeded(dropout),
        covers=("F.dropout",),
        dtypes=FLOATS,
        grad=True,
        compare="exact",
        layouts=CLOSE,
        errors=[
            E(T((3, 4)), 1.5, raises=ValueError, says="1.5", label="p"),
            E(T((3, 4)), -0.1, raises=ValueError, says="-0.1", label="negative"),
        ],
    ),
    Case(
        "dropout",
        "",
        [S(T((3, 4))), S(T((40, 70)), 0.3, label="large")],
        title="dropout_layouts",
        call=seeded(dropout),
        grad="formula",  # differences are taken on contiguous copies, for which other elements are drawn
        compare="exact",
        layouts=("transposed", "strided", "broadcast"),
    ),
    Case(
        "embedding",
        "n",
        [
            S(classes(2, 3, high=5), T((5, 4))),
            S(T((3,), values=[1, 1, 4], dtype="int64"), T((5, 4)), label="repeats"),
            S(T((), values=2, dtype="int64"), T((5, 4)), label="0-d"),
            S(
                T((4,), values=[0, 2, 2, 1], dtype="int64"),
                T((5, 4)),
                padding_idx=2,
                label="padding",
                grad="formula",
            ),
            S(
                T((4,), values=[0, 4, 3, 1], dtype="int64"),
                T((5, 4)),
                -1,
                label="padding-negative",
                grad="formula",
            ),
            S(classes(0, high=5), T((5, 4)), label="empty", grad=False),
            S(T((2,), 0, 4, dtype="int32"), T((5, 4)), label="int32"),
        ],
        grad=True,
        compare="exact",
        errors=[
            E(T((2,), values=[0, 5], dtype="int64"), T((5, 4)), raises=IndexError, says="5", label="range"),
            E(T((2,), 0, 1, dtype="float32", grad=False), T((5, 4)), says="float32|Float", label="dtype"),
            E(classes(2, high=5), T((5, 4)), 7, raises=AssertionError, label="padding"),
        ],
    ),
]

CASES = NORMALISED + CLASSIFICATION + LOSSES + POOLS + OTHERS

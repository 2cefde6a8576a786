"""Calls that fail today. A test that meets them is expected to fail; when they pass, their line must go."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple


class Bug(NamedTuple):
    """Calls that fail for one reason; every field but the first may hold `*` and `?`."""

    case: str
    kind: str
    sample: str
    dtype: str
    reason: str

    def matches(self, kind: str, sample: str, dtype: str) -> bool:
        """Whether a call of this row is one of these."""
        return (
            fnmatchcase(kind, self.kind)
            and fnmatchcase(sample, self.sample)
            and fnmatchcase(dtype, self.dtype)
        )


ONE_ANSWER = "one element, or one index, too few: PyTorch answers with 1-d tensors here"
UNCHECKED = "no check for a reduced dim of size 0 where the result is empty too"
UNFIT = "a scalar that does not fit the integer dtype is cut, not refused"
UNFLATTEN = "-1 is inferred from all elements, not from the dim; a panic for a 0-d tensor"
ZERO_DIM = "an operation on a 0-d tensor that PyTorch refuses, or the other way round"
ACCIDENT = "PyTorch fails in the middle of its formula here"
EMPTY_BATCH = "statistics of the wrong size are refused, PyTorch takes them for an empty batch"
POOL = "the image's size is not checked"
OVERWRITTEN = "what is overwritten as a whole gets no gradient, PyTorch gives zeros"
CUMSUM = "cumsum_ refuses bools that need no sum, and does not know dtype="
PANIC = "pos_weight of another shape ends in a panic"

RANDOM_WRITES = ("normal_-10", "uniform_-11", "uniform_-12", "bernoulli_-13", "exponential_-14", "random_-15")

SHARED = [
    Bug("unflatten", "empty-first", "infer", "*", UNFLATTEN),
    Bug("unflatten", "0-d", "infer", "*", UNFLATTEN),
    Bug("mT", "0-d", "*", "*", ZERO_DIM),
    Bug("roll", "0-d", "first", "*", ZERO_DIM),
    Bug("take_along_dim", "0-d", "first", "*", ZERO_DIM),
    Bug("index_add", "0-d", "first", "*", ZERO_DIM),
    *(Bug("batch_norm", "empty-last", sample, "*", ACCIDENT) for sample in ("first", "eval")),
    Bug("batch_norm", "empty-*", "eval-plain", "*", EMPTY_BATCH),
    Bug("batch_norm_running", "empty-first", "*", "*", EMPTY_BATCH),
    Bug("adaptive_avg_pool2d", "empty-last", "first", "*", POOL),
    Bug("binary_cross_entropy_with_logits", "empty-first", "pos-weight", "*", PANIC),
]
VALUE = [
    *SHARED,
    Bug("where", "0-d", "indices", "*", ONE_ANSWER),
    Bug("nonzero_tuple", "0-d", "*", "*", ONE_ANSWER),
    Bug("masked_select", "0-d", "*", "*", ONE_ANSWER),
    Bug("masked_fill", "*", "inf", "*int*", UNFIT),
    *(Bug("index_add", kind, "alpha", "*int*", UNFIT) for kind in ("[!0e]*",)),
    *(Bug("masked_fill", kind, "row", "uint8", UNFIT) for kind in ("[!e]*", "empty-last")),
    *(Bug(name, "empty-first", "empty", "*", UNCHECKED) for name in ("max_dim", "min_dim")),
    *(Bug(name, "empty-last", "empty", "*", UNCHECKED) for name in ("amax", "amin", "argmax", "argmin")),
]
SPELLING = [
    Bug("masked_fill", "*", "inf", "*int*", UNFIT),
    Bug("masked_fill", "*", "row", "uint8", UNFIT),
    Bug("index_add", "*", "alpha", "*int*", UNFIT),
]
INPLACE = [
    *(bug for bug in VALUE if bug.case in ("masked_fill", "index_add")),
    Bug("cumsum", "*", "dtype", "*", CUMSUM),
    Bug("cumsum", "empty-*", "*", "bool", CUMSUM),
    Bug("cumsum", "[!e]*", "empty", "bool", CUMSUM),
    Bug("cumsum", "0-d", "dim0", "bool", CUMSUM),
    Bug("cumsum", "[!0e]*", "0-d", "bool", CUMSUM),
]
GRADIENT = [
    *SHARED,
    Bug("masked_select", "0-d", "row", "*", ONE_ANSWER),
    *(Bug("nll_loss", kind, "images", "*", ACCIDENT) for kind in ("transposed", "mixed")),
    *(Bug(name, "*", "*", "*", OVERWRITTEN) for name in ("zero_", "fill_")),
    *(Bug(name, "*", "*", "*", OVERWRITTEN) for name in RANDOM_WRITES),
    Bug("setitem_all", "[!0]*", "*", "*", OVERWRITTEN),
    *(Bug("copy_", kind, "*", "*", OVERWRITTEN) for kind in ("[!e]*", "empty-last")),
    *(Bug("copy_", "empty-first", sample, "*", OVERWRITTEN) for sample in ("first", "int", "half")),
    Bug("setitem_slice", "empty-first", "*", "*", OVERWRITTEN),
    *(Bug("setitem_broadcast", "empty-first", sample, "*", OVERWRITTEN) for sample in ("scalar", "0-d")),
]
INPLACE_GRADIENT = [bug for bug in SHARED if bug.case == "index_add"]
GRADCHECK: list[Bug] = []

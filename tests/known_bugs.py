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


UNCHECKED = "no check for a reduced dim of size 0 where the result is empty too"
UNFIT = "a scalar that does not fit the integer dtype is cut, not refused"
ACCIDENT = "PyTorch fails in the middle of its formula here"
EMPTY_BATCH = "statistics of the wrong size are refused, PyTorch takes them for an empty batch"
POOL = "the image's size is not checked"
OVERWRITTEN = "what is overwritten as a whole gets no gradient, PyTorch gives zeros"
CUMSUM = "cumsum_ refuses bools that need no sum, and does not know dtype="

RANDOM_WRITES = ("normal_-10", "uniform_-11", "uniform_-12", "bernoulli_-13", "exponential_-14", "random_-15")

SHARED = [
    *(Bug("batch_norm", "empty-last", sample, "*", ACCIDENT) for sample in ("first", "eval")),
    Bug("batch_norm", "empty-*", "eval-plain", "*", EMPTY_BATCH),
    Bug("batch_norm_running", "empty-first", "*", "*", EMPTY_BATCH),
    Bug("adaptive_avg_pool2d", "empty-last", "first", "*", POOL),
]
VALUE = [
    *SHARED,
    Bug("masked_fill", "*", "inf", "*int*", UNFIT),
    *(Bug("masked_fill", kind, "row", "uint8", UNFIT) for kind in ("[!e]*", "empty-last")),
    *(Bug(name, "empty-first", "empty", "*", UNCHECKED) for name in ("max_dim", "min_dim")),
    *(Bug(name, "empty-last", "empty", "*", UNCHECKED) for name in ("amax", "amin", "argmax", "argmin")),
]
SPELLING = [
    Bug("masked_fill", "*", "inf", "*int*", UNFIT),
    Bug("masked_fill", "*", "row", "uint8", UNFIT),
]
INPLACE = [
    *(bug for bug in VALUE if bug.case == "masked_fill"),
    Bug("cumsum", "*", "dtype", "*", CUMSUM),
    Bug("cumsum", "empty-*", "*", "bool", CUMSUM),
    Bug("cumsum", "[!e]*", "empty", "bool", CUMSUM),
    Bug("cumsum", "0-d", "dim0", "bool", CUMSUM),
    Bug("cumsum", "[!0e]*", "0-d", "bool", CUMSUM),
]
GRADIENT = [
    *SHARED,
    *(Bug("nll_loss", kind, "images", "*", ACCIDENT) for kind in ("transposed", "mixed")),
    *(Bug(name, "*", "*", "*", OVERWRITTEN) for name in ("zero_", "fill_")),
    *(Bug(name, "*", "*", "*", OVERWRITTEN) for name in RANDOM_WRITES),
    Bug("setitem_all", "[!0]*", "*", "*", OVERWRITTEN),
    *(Bug("copy_", kind, "*", "*", OVERWRITTEN) for kind in ("[!e]*", "empty-last")),
    *(Bug("copy_", "empty-first", sample, "*", OVERWRITTEN) for sample in ("first", "int", "half")),
    Bug("setitem_slice", "empty-first", "*", "*", OVERWRITTEN),
    *(Bug("setitem_broadcast", "empty-first", sample, "*", OVERWRITTEN) for sample in ("scalar", "0-d")),
]
INPLACE_GRADIENT: list[Bug] = []
GRADCHECK: list[Bug] = []

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


ACCIDENT = "PyTorch fails in the middle of its formula here"
EMPTY_BATCH = "statistics of the wrong size are refused, PyTorch takes them for an empty batch"
CUMSUM = "cumsum_ refuses bools that need no sum"

UNREAD = "sizes that do not fit are refused, PyTorch does not look at them where there is nothing to compute"

SHARED = [
    Bug("scaled_dot_product_attention", "empty-last", "*mask*", "*", UNREAD),
    Bug("scaled_dot_product_attention_dropout", "empty-*", "mask", "*", UNREAD),
    *(
        Bug("scaled_dot_product_attention", "empty-first", sample, "*", UNREAD)
        for sample in ("bool-mask", "float-mask-[gc]*", "grouped-*", "broadcast")
    ),
    *(Bug("batch_norm", "empty-last", sample, "*", ACCIDENT) for sample in ("first", "eval")),
    Bug("batch_norm", "empty-*", "eval-plain", "*", EMPTY_BATCH),
    Bug("batch_norm_running", "empty-first", "*", "*", EMPTY_BATCH),
]
VALUE = [
    *SHARED,
    Bug("scaled_dot_product_attention", "empty-last", "broadcast", "*", UNREAD),
]
SPELLING: list[Bug] = []
INPLACE = [
    Bug("cumsum", "empty-*", "*", "bool", CUMSUM),
    Bug("cumsum", "[!e]*", "empty", "bool", CUMSUM),
    Bug("cumsum", "0-d", "dim0", "bool", CUMSUM),
    Bug("cumsum", "[!0e]*", "0-d", "bool", CUMSUM),
]
GRADIENT = [
    *SHARED,
    *(Bug("nll_loss", kind, "images", "*", ACCIDENT) for kind in ("transposed", "mixed")),
]
INPLACE_GRADIENT: list[Bug] = []
GRADCHECK: list[Bug] = []

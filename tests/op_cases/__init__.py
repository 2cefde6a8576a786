"""The one table of operations: every public one has a row, `tests/test_ops.py` runs them all."""

import importlib

import firesteel
from op_cases.table import Case

FAMILIES = ("unary", "binary", "reduce", "view", "index", "matmul", "nn", "layers", "create")


def _exists(case: Case) -> bool:
    """Whether firesteel has this row's first name; optional rows are left out where it has not."""
    owner, _, name = [*case.spellings(), *case.covers][0].rpartition(".")
    place = {"": firesteel, "Tensor": firesteel.Tensor, "F": firesteel.nn.functional}[owner]
    return hasattr(place, name)


ROWS: list[Case] = [
    case for family in FAMILIES for case in importlib.import_module(f"op_cases.{family}").CASES
]
CASES: list[Case] = [case for case in ROWS if not case.optional or _exists(case)]

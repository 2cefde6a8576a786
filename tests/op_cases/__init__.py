"""The one table of operations: every public one has a row, `tests/test_ops.py` runs them all."""

import importlib

from op_cases.table import Case

FAMILIES = (
    *("unary", "binary", "reduce", "view", "index", "matmul", "nn", "convolution", "layers", "attention"),
    "create",
)

CASES: list[Case] = [
    case for family in FAMILIES for case in importlib.import_module(f"op_cases.{family}").CASES
]

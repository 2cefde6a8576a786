"""Building tensors of either library from the same values, and comparing what comes back."""

from __future__ import annotations

import numpy as np

import firesteel
from op_cases.table import D, Drawn, walk

try:
    import torch
except ImportError:  # parity with PyTorch is then skipped, or checked against NumPy
    torch = None
else:
    torch.set_num_threads(1)  # its threads cost more than they save on the small tensors of the tests

# (rtol, atol) by dtype; what a row multiplies them by is in `Case.tolerance`. The 16-bit dtypes are computed
# in float32 and rounded once: their rtol is two units in the last place.
TOLERANCES = {
    "float64": (1e-9, 1e-10),
    "float32": (4e-6, 2e-6),
    "float16": (2e-3, 1e-4),
    "bfloat16": (1.6e-2, 1e-3),
}
# What the gaps and margins around a tensor's elements hold: who reads them gets another result.
POISON = {"f": np.nan, "i": 77, "u": 77, "b": True}


def dtype_name(dtype) -> str:
    """A dtype's name without its module: "float32"."""
    return str(dtype).rpartition(".")[2]


def is_tensor(value) -> bool:
    """Whether `value` is a tensor of either library."""
    return isinstance(value, firesteel.Tensor) or (torch is not None and isinstance(value, torch.Tensor))


def is_float_name(dtype: str) -> bool:
    """Whether gradients can flow through a tensor of the dtype of this name."""
    return dtype in TOLERANCES


def is_float(tensor) -> bool:
    """Whether gradients can flow through a tensor of this dtype."""
    return is_float_name(dtype_name(tensor.dtype))


def to_numpy(tensor) -> np.ndarray:
    """A copy of the tensor's values; bfloat16 comes as float32."""
    tensor = tensor.detach()
    if dtype_name(tensor.dtype) == "bfloat16":
        tensor = tensor.float()
    return np.array(tensor.contiguous().numpy())


def from_numpy(lib, array: np.ndarray, dtype: str | None = None):
    """A tensor of `lib` with these values, in `dtype` if one is named."""
    if dtype in ("float16", "bfloat16"):
        array = array.astype(np.float32)  # rounded by NumPy, alike for both libraries
    tensor = lib.from_numpy(np.ascontiguousarray(array).reshape(array.shape).copy())
    return tensor if dtype is None else tensor.to(getattr(lib, dtype))


def build(lib, tree, requires_grad: bool = False, bases: list | None = None):
    """`tree` with the tensors of `lib` in place of `Drawn`, and its dtypes in place of `D`.

    `bases` receives the tensors that own the memory, gaps and margins included.
    """

    def one(leaf):
        if isinstance(leaf, D):
            return getattr(lib, leaf.name)
        if not isinstance(leaf, Drawn):
            return leaf
        base, tensor = _laid_out(lib, leaf)
        if bases is not None:
            bases.append(base)
        return tensor.detach().requires_grad_() if requires_grad and leaf.grad else tensor

    return walk(tree, one)


def _laid_out(lib, drawn: Drawn):
    """The tensor that owns the memory, and the one to be tested: a view of it, or itself."""
    array, dtype = drawn.array, drawn.dtype
    array = array.astype(np.float64 if is_float_name(dtype) else dtype)
    poison = POISON[array.dtype.kind]
    if drawn.layout == "transposed":
        base = from_numpy(lib, array.swapaxes(-1, -2), dtype)
        return base, base.transpose(-1, -2)
    if drawn.layout == "strided":
        spread = np.full((*array.shape[:-1], 2 * array.shape[-1]), poison, array.dtype)
        spread[..., ::2] = array
        base = from_numpy(lib, spread, dtype)
        return base, base[..., ::2]
    if drawn.layout == "broadcast":
        base = from_numpy(lib, array[:1], dtype)
        return base, base.expand(array.shape)
    if drawn.layout == "offset":
        margin = np.full(3, poison, array.dtype)
        base = from_numpy(lib, np.concatenate([margin, array.reshape(-1), margin]), dtype)
        return base, base[3 : 3 + array.size].reshape(array.shape)
    base = from_numpy(lib, array, dtype)
    return base, base


def memory(tensor) -> int:
    """Where the storage of a tensor begins."""
    return tensor.data_ptr() - tensor.storage_offset() * tensor.element_size()


def leaves(tree) -> list:
    """The tensors in nested tuples, lists and dicts, in order."""
    found: list = []
    walk(tree, lambda leaf: found.append(leaf) if is_tensor(leaf) else None)
    return found


def assert_same(actual, expected, tol: float = 1.0, where: str = "result", compare: str = "close"):
    """Fails unless both have the same structure, shapes, dtypes and (up to `tol`) values."""
    if is_tensor(expected):
        assert is_tensor(actual), f"{where}: {type(actual).__name__} where a tensor was expected"
        assert dtype_name(actual.dtype) == dtype_name(expected.dtype), (
            f"{where}: dtype {actual.dtype}, expected {expected.dtype}"
        )
        assert tuple(actual.shape) == tuple(expected.shape), (
            f"{where}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
        )
        if compare != "meta":
            exact = compare == "exact"
            assert_values(to_numpy(actual), to_numpy(expected), dtype_name(expected.dtype), tol, where, exact)
    elif isinstance(expected, (tuple, list)):
        assert isinstance(actual, (tuple, list)), (
            f"{where}: {type(actual).__name__} where a tuple was expected"
        )
        assert len(actual) == len(expected), f"{where}: {len(actual)} results, expected {len(expected)}"
        for index, (a, e) in enumerate(zip(actual, expected, strict=True)):
            assert_same(a, e, tol, f"{where}[{index}]", compare)
        if not isinstance(expected, list) and hasattr(expected, "indices"):
            assert actual.indices is not None, f"{where}: no field named 'indices'"
    elif isinstance(expected, float):
        assert isinstance(actual, float), f"{where}: {type(actual)}, expected a float"
        assert_values(np.float64(actual), np.float64(expected), "float64", tol, where, compare == "exact")
    else:
        assert type(actual) is type(expected), f"{where}: {type(actual)}, expected {type(expected)}"
        assert actual == expected, f"{where}: {actual}, expected {expected}"


def assert_values(actual: np.ndarray, expected: np.ndarray, dtype: str, tol: float, where: str, exact: bool):
    """Fails unless the arrays are equal: exactly if `exact` or not of a float dtype."""
    if exact or dtype not in TOLERANCES:
        np.testing.assert_array_equal(actual, expected, err_msg=where)
        return
    rtol, atol = TOLERANCES[dtype]
    np.testing.assert_allclose(
        np.asarray(actual, np.float64),
        np.asarray(expected, np.float64),
        rtol=rtol * tol,
        atol=atol * tol,
        err_msg=where,
    )

"""Conversions between float dtypes round as PyTorch's do, bit for bit."""

import numpy as np
import pytest

import firesteel
from tensors import to_numpy

torch = pytest.importorskip("torch")
COUNT = 100_000


def values(low, high):
    """Numbers of every size between two powers of ten, of both signs."""
    rng = np.random.default_rng(0)
    return rng.uniform(-2, 2, COUNT) * 10.0 ** rng.uniform(low, high, COUNT)


@pytest.mark.parametrize(
    "source, target",
    [
        ("float64", "bfloat16"),
        ("float64", "float16"),
        ("float64", "float32"),
        ("float32", "bfloat16"),
        ("float32", "float16"),
        ("bfloat16", "float16"),
        ("float16", "bfloat16"),
    ],
)
@pytest.mark.parametrize("powers", [(0, 0), (-9, 6)], ids=["ones", "all"])
def test_conversion(source, target, powers):
    array = values(*powers)
    if source == "bfloat16":  # exactly representable: the upper half of a float32
        array = (array.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)

    def convert(lib):
        return lib.from_numpy(array).to(getattr(lib, source)).to(getattr(lib, target))

    np.testing.assert_array_equal(to_numpy(convert(firesteel)), to_numpy(convert(torch)))

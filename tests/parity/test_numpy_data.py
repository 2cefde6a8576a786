"""NumPy's arrays and numbers as data: dtypes, memory, and what is refused."""

import gc

import numpy as np
import pytest

import firesteel
from firesteel.utils.data import DataLoader, default_collate
from tensors import assert_same

torch = pytest.importorskip("torch")

LISTS = {
    "float64 numbers": [np.float64(1.1), np.float64(2)],
    "float32 numbers": [[np.float32(1.1)], [np.float32(2)]],
    "float16 beside int": [np.float16(1), 1],
    "int32 numbers": [np.int32(1), np.int32(-2)],
    "uint8 beside int": [np.uint8(3), 1],
    "bools": [np.bool_(True), np.bool_(False)],
    "int beside float64": [1, np.float64(2.1)],
    "arrays": [np.ones(2), np.zeros(2)],
    "int32 arrays": [np.ones(2, np.int32)],
    "one number": np.float64(1.1),
    "one int32": np.int32(3),
    "0-d array": np.array(2.5),
    "Python's": [1, 2.5],
    "bool beside int": [True, 2],
}


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy.ndarrays")
@pytest.mark.parametrize("data", LISTS.values(), ids=LISTS)
def test_dtype_and_values(data):
    assert_same(firesteel.tensor(data), torch.tensor(data), compare="exact")
    assert_same(firesteel.as_tensor(data), torch.as_tensor(data), compare="exact")


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32"])
def test_tensors_of_one_element_keep_their_dtype(dtype):
    ours, theirs = (
        lib.tensor(
            [lib.tensor(2**20 + 1, dtype=getattr(lib, dtype)), lib.tensor(3, dtype=getattr(lib, dtype))]
        )
        for lib in (firesteel, torch)
    )
    assert_same(ours, theirs, compare="exact")
    assert firesteel.tensor([firesteel.tensor(2**60 + 1)]).item() == 2**60 + 1


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.float64, np.float32, np.bool_, np.uint8])
def test_numbers_are_copied(kind):
    """A number's memory is a temporary of NumPy's; others come to lie there afterwards."""
    tensors = [firesteel.as_tensor(kind(i % 2)) for i in range(100)]
    batch = default_collate([kind(i % 2) for i in range(100)])
    gc.collect()
    others = [kind(7) for _ in range(1000)]
    assert [t.item() for t in tensors] == [i % 2 for i in range(100)]
    assert batch.tolist() == [i % 2 for i in range(100)]
    assert_same(batch, torch.utils.data.default_collate([kind(i % 2) for i in range(100)]), compare="exact")
    assert len(others) == 1000


def test_labels_of_a_loader():
    data = [(np.full(2, i, np.float32), np.int64(i)) for i in range(4)]
    assert [labels.tolist() for _, labels in DataLoader(data, batch_size=2)] == [[0, 1], [2, 3]]


def test_arrays_share_their_memory():
    array = np.zeros((2, 3), np.float32)
    t = firesteel.from_numpy(array.T)
    t[0, 1] = 5
    single = np.array(3.0)
    firesteel.from_numpy(single).fill_(4)
    assert array[1, 0] == 5 and t.stride() == (1, 3) and single == 4
    assert firesteel.from_numpy(np.zeros((0, 3))).shape == (0, 3)


def unaligned():
    return np.frombuffer(bytearray(13), np.uint8)[1:].view(np.float32)


REFUSED = {
    "a number": (lambda: np.float32(3), TypeError, r"expected np.ndarray \(got float32\)"),
    "a list": (lambda: [1], TypeError, r"expected np.ndarray \(got list\)"),
    "negative strides": (lambda: np.ones(3)[::-1], ValueError, r"stride .* is negative \(\[-8\]\)"),
    "text": (lambda: np.array(["a"]), TypeError, "can't convert np.ndarray of type <U1"),
    "objects": (lambda: np.array([object()]), TypeError, "can't convert np.ndarray of type object"),
    "foreign order": (lambda: np.ones(3, ">f4"), ValueError, "byte order"),
    "between elements": (
        lambda: np.zeros(3, [("a", np.uint8), ("b", np.float32)])["b"],
        ValueError,
        "not a multiple of the element byte size 4",
    ),
}


@pytest.mark.parametrize("make, error, text", REFUSED.values(), ids=REFUSED)
def test_refused(make, error, text):
    with pytest.raises(error, match="from_numpy: .*" + text):
        firesteel.from_numpy(make())
    with pytest.raises(error):
        torch.from_numpy(make())


def test_memory_that_is_not_aligned():
    with pytest.raises(ValueError, match=r"not aligned .* use array.copy\(\)"):
        firesteel.from_numpy(unaligned())


def test_an_untrue_interface_reaches_no_memory():
    class Untrue:
        __array_interface__ = {"shape": (2**62,), "typestr": "<f4", "data": (64, False), "version": 3}

    with pytest.raises((ValueError, TypeError, RuntimeError)):
        firesteel.as_tensor(Untrue())

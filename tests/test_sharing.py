"""Memory shared with NumPy, and copies of tensors: copy, deepcopy, pickle."""

import copy
import pickle

import numpy as np
import pytest

import firesteel
from tensors import memory

DTYPES = ["float32", "float64", "float16", "int64", "int32", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_sees_the_same_memory(dtype):
    t = firesteel.zeros(3, 4, dtype=getattr(firesteel, dtype))
    for array in (t.numpy(), np.asarray(t)):
        assert array.dtype == dtype
        assert array.shape == (3, 4)
        assert array.ctypes.data == t.data_ptr()
    t.numpy()[1, 2] = 1
    assert t[1, 2].item() == 1
    t[0, 0] = 1
    assert t.numpy()[0, 0] == 1


@pytest.mark.xfail(strict=True, reason="tensors have no __dlpack__ yet")
def test_dlpack_sees_the_same_memory():
    t = firesteel.zeros(3, 4)
    assert np.from_dlpack(t).ctypes.data == t.data_ptr()


@pytest.mark.parametrize("dtype", DTYPES)
def test_from_numpy_sees_the_same_memory(dtype):
    array = np.zeros((3, 4), dtype)
    t = firesteel.from_numpy(array)
    assert t.data_ptr() == array.ctypes.data
    array[2, 3] = 1
    assert t[2, 3].item() == 1
    t[0, 1] = 1
    assert array[0, 1] == 1


def test_views_keep_their_layout_on_the_way_to_numpy_and_back():
    t = firesteel.arange(24).reshape(2, 3, 4)
    for view in (t.transpose(0, 2), t[:, ::2], t[1], t[..., 1:]):
        array = view.numpy()
        assert array.ctypes.data == view.data_ptr()
        np.testing.assert_array_equal(array, np.array(view.tolist()))
        back = firesteel.from_numpy(array)
        assert back.stride() == view.stride()
        assert back.data_ptr() == view.data_ptr()


def test_the_memory_outlives_the_tensor():
    array = firesteel.ones(1000).numpy()
    firesteel.zeros(1000)
    assert array.sum() == 1000


def test_numpy_of_a_tensor_with_history_is_refused():
    x = firesteel.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="detach"):
        x.numpy()
    assert x.detach().numpy().tolist() == [1, 1]


@pytest.mark.parametrize(
    "make", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_a_copy_is_another_tensor_with_the_same_values(make, dtype):
    t = firesteel.arange(6).reshape(2, 3).to(getattr(firesteel, dtype))
    other = make(t)
    assert type(other) is firesteel.Tensor
    assert other.dtype == t.dtype
    assert other.tolist() == t.tolist()
    assert other.data_ptr() != t.data_ptr()
    assert not other.requires_grad


@pytest.mark.parametrize(
    "make", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deepcopy", "pickle"]
)
def test_a_copy_of_a_leaf_or_parameter_is_one(make):
    leaf = firesteel.ones(2, requires_grad=True)
    assert make(leaf).requires_grad
    assert make(leaf).is_leaf
    parameter = firesteel.nn.Parameter(firesteel.ones(2))
    assert type(make(parameter)) is firesteel.nn.Parameter
    assert make(parameter).requires_grad


def test_a_shallow_copy_shares_the_memory():
    t = firesteel.ones(3)
    other = copy.copy(t)
    assert other is not t
    assert memory(other) == memory(t)


def test_deepcopy_keeps_who_shares_with_whom():
    t = firesteel.ones(4)
    first, second = copy.deepcopy([t, t])
    assert first is second


def test_a_result_with_history_cannot_be_deep_copied():
    x = firesteel.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf|leaves|detach"):
        copy.deepcopy(x * 2)


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t,
        lambda t: t.transpose(0, 2),
        lambda t: t.permute(1, 2, 0),
        lambda t: t[:, ::2],
        lambda t: t[0],
    ],
    ids=["plain", "transposed", "permuted", "sliced", "row"],
)
def test_pickling_keeps_the_order_in_memory(view):
    x = view(firesteel.arange(24.0).reshape(2, 3, 4))
    copied = pickle.loads(pickle.dumps(x))
    assert copied.tolist() == x.tolist() and not copied._is_view() and copied.is_leaf
    if x.numel() == 24:
        assert copied.stride() == x.stride()
    parameter = pickle.loads(pickle.dumps(firesteel.nn.Parameter(firesteel.ones(2, 3).t())))
    assert type(parameter) is firesteel.nn.Parameter and parameter.stride() == (1, 3)


def test_functions_of_numpy_give_tensors():
    np = pytest.importorskip("numpy")
    x = firesteel.tensor([0.0, 1.0])
    result = np.exp(x)
    assert type(result) is firesteel.Tensor and result.dtype is firesteel.float32
    assert result.tolist() == pytest.approx([1.0, 2.7182817])
    assert type(np.exp(firesteel.tensor(1.0))) is firesteel.Tensor
    assert np.isnan(x).tolist() == [False, False]
    assert [part.tolist() for part in np.modf(x)] == [[0.0, 0.0], [0.0, 1.0]]
    with pytest.raises(RuntimeError, match="requires grad"):
        np.exp(x.requires_grad_())

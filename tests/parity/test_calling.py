"""Every way to call the methods that take ints one by one, as a tuple, or by PyTorch's keyword."""

import pytest

import firesteel
from tensors import assert_same

torch = pytest.importorskip("torch")

CALLS = {
    "view": lambda lib, x: x.view(size=(3, 2)),
    "view of a dtype": lambda lib, x: x.view(dtype=lib.float32),
    "reshape": lambda lib, x: x.reshape(shape=(3, -1)),
    "reshape as a function": lambda lib, x: lib.reshape(input=x, shape=[6]),
    "permute": lambda lib, x: x.permute(dims=(1, 0)),
    "permute as a function": lambda lib, x: lib.permute(x, dims=(1, 0)),
    "expand": lambda lib, x: x.expand(size=(4, -1, 3)),
    "broadcast_to": lambda lib, x: x.broadcast_to(4, 2, 3),
    "broadcast_to by keyword": lambda lib, x: lib.broadcast_to(x, size=(4, 2, 3)),
    "flip": lambda lib, x: x.flip(dims=(0,)),
    "flip as a function": lambda lib, x: lib.flip(x, dims=[0, 1]),
    "flip of no dim": lambda lib, x: x.flip(dims=()),
    "tile": lambda lib, x: x.tile(dims=(2,)),
    "tile as a function": lambda lib, x: lib.tile(x, dims=(2, 1)),
    "repeat": lambda lib, x: x.repeat(repeats=(2, 1, 1)),
    "split": lambda lib, x: x.split(split_size=2, dim=1)[1],
    "split as a function": lambda lib, x: lib.split(x, split_size_or_sections=[1, 2], dim=1)[1],
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_sizes_and_dims_by_keyword(call):
    ours, theirs = (call(lib, lib.arange(6.0).reshape(2, 3)) for lib in (firesteel, torch))
    assert_same(ours, theirs)


WRONG = {
    "view()": lambda x: x.view(),
    "reshape()": lambda x: x.reshape(),
    "permute()": lambda x: x.permute(),
    "expand()": lambda x: x.expand(),
    "flip()": lambda x: x.flip(),
    "tile()": lambda x: x.tile(),
    "repeat()": lambda x: x.repeat(),
    "view(shape=)": lambda x: x.view(shape=(6,)),
    "view(1, size=)": lambda x: x.view(1, size=(6,)),
    "flip(0, dims=)": lambda x: x.flip(0, dims=(0,)),
    "permute(foo=)": lambda x: x.permute(foo=(1, 0)),
    "split()": lambda x: x.split(),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_missing_and_unknown_arguments(call):
    for lib in (torch, firesteel):
        with pytest.raises(TypeError):
            call(lib.ones(2, 3))


def test_the_message_names_the_argument():
    with pytest.raises(
        TypeError, match=r"flip\(\) got an unexpected keyword argument 'axis'; its argument is 'dims'"
    ):
        firesteel.ones(2).flip(axis=0)
    with pytest.raises(TypeError, match=r"view\(\) missing 1 required positional argument: 'size'"):
        firesteel.ones(2).view()

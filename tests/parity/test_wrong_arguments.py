"""Wrong arguments raise the class that PyTorch raises, with a text that says what to do, and change nothing.

The rows are code for both libraries, `L`; the second part is a pattern of our text.
"""

import copy

import numpy as np
import pytest

import firesteel
from tensors import assert_same

TORCH = pytest.importorskip("torch")

SAMPLES = """
x = L.arange(6.0).view(2, 3)
k = L.arange(6).view(2, 3)
u = L.ones(2, dtype=L.uint8)
h = L.ones(2, dtype=L.float16)
"""


def outcome(lib, code):
    """What the code returns or raises, and the samples before and after it."""
    names = {"L": lib, "F": lib.nn.functional, "nn": lib.nn, "D": lib.utils.data, "np": np, "copy": copy}
    exec(SAMPLES, names)
    before = {name: names[name].clone() for name in "xkuh"}
    try:
        result = eval(code, names)
    except Exception as error:  # whatever comes is compared
        result = error
    return result, before, {name: names[name] for name in "xkuh"}


REFUSED = {
    # Integers that no 64 bits hold.
    "x + 2**70": r"int too big to convert: 1180591620717411303424 .* use a float",
    "2**70 - x": r"int too big to convert",
    "x ** 2**70": r"int too big to convert",
    "x == 2**70": r"int too big to convert",
    "k << 2**70": r"int too big to convert",
    "x.__iadd__(2**70)": r"int too big to convert",
    "L.add(2**70, x)": r"int too big to convert",
    "L.full((2,), 2**64)": r"int too big to convert",
    "L.zeros(2**63)": r"9223372036854775808 does not fit into 64 bits; use a smaller number",
    "x.sum(2**70)": r"does not fit into 64 bits",
    "x.sum((2**70,))": r"does not fit into 64 bits",
    "x.sort(2**70)": r"does not fit into 64 bits",
    "L.tensor(2**70)": r"tensor: Overflow when unpacking long long: 1180591620717411303424 .*; use a float",
    "L.manual_seed(2**70)": r"manual_seed: Overflow .*; use a smaller seed",
    # Numbers that their dtype cannot hold.
    "L.tensor([300], dtype=L.uint8)": r"tensor: value cannot be converted to type uint8 .*: 300; use a number",
    "L.tensor([float('nan')], dtype=L.int64)": r"tensor: value cannot be converted to type int64",
    "L.full((2,), 2**40, dtype=L.int32)": r"full: .*int32 without overflow: 1099511627776; ",
    "u.fill_(300)": r"fill_: .*uint8 without overflow: 300; ",
    "u.fill_(-1.5)": r"fill_: .*uint8",
    "h.fill_(65505.0)": r"fill_: .*float16 without overflow: 65505.0; ",
    "L.full((2,), 70000, dtype=L.float16)": r"full: .*float16",
    "L.full((2,), 3.4e38, dtype=L.bfloat16)": r"full: .*bfloat16",
    "h.clamp(max=2**40)": r"clamp: .*float16",
    "h.masked_fill(h > 0, 2**40)": r"masked_fill: .*float16",
    "h.pow(1e10)": r"pow: .*float16",
    "u.add(1, alpha=300)": r"add: .*uint8 without overflow: 300; ",
    "x.add_(x, alpha=1e40)": r"add: .*float32",
    "F.pad(u, (1, 1), value=-1)": r"full: .*uint8",
    "L.arange(0, 1e40, 1e39, dtype=L.int32)": r"arange: .*int64 without overflow",
    # What is no number, no size, no dim.
    "L.tensor(None)": r"tensor: Could not infer dtype of NoneType; tensor\(\) takes",
    "L.tensor({})": r"tensor: Could not infer dtype of dict",
    "L.tensor([1, {}])": r"tensor: Could not infer dtype of dict",
    "L.tensor({1})": r"tensor: Could not infer dtype of set",
    "L.tensor(object())": r"tensor: Could not infer dtype of object",
    "L.tensor(None, dtype=L.float32)": r"tensor: must be a number for float32, not NoneType",
    "L.tensor('a')": r"tensor: invalid data type 'str'",
    "L.tensor(['a'])": r"tensor: too many dimensions 'str'",
    "L.tensor([1, 'a'])": r"tensor: invalid data type 'str'",
    "L.tensor(b'a')": r"tensor: invalid data type 'bytes'",
    "L.zeros()": r"zeros: missing 1 required positional argument: 'size'; use \(\)",
    "L.zeros(True)": r"expected an int, not bool \(True\); name keepdim, or use an int",
    "x.sum(True)": r"not bool",
    "x.argmax(True)": r"not bool",
    "x.sort(True)": r"not bool",
    "F.softmax(x, True)": r"not bool",
    "x.normal_(x, 1.0)": r"expected a float, not a Tensor of shape \[2, 3\]; use a number",
    "F.leaky_relu(x, x)": r"expected a float",
    "L.maximum(1.5, x)": r"argument 'input' \(position 1\) must be Tensor, not float",
    "F.hardshrink('a')": r"hardshrink\(\): argument 'input' must be Tensor, not str",
    "F.kl_div(1.5, x, reduction='sum')": r"must be Tensor, not float",
    "F.one_hot(1.5)": r"must be Tensor, not float",
    "L.equal(x, 1)": r"equal\(\): argument 'other' must be Tensor, not int",
    "L.allclose(x, [])": r"must be Tensor, not list",
    "L.numel(1)": r"must be Tensor, not int",
    "L.can_cast('a', L.int64)": r"expected a dtype",
    "F.mse_loss(x, x, reduction=None)": r"None is not a valid value for reduction; use 'none'",
    "F.cross_entropy(x, k[:, 1], reduction=1)": r"1 is not a valid value for reduction",
    "x.topk(-1)": r"topk: selected index k out of range: k is -1; use 0 or more",
    "x.type('a')": r"type: invalid type: 'a'; use a dtype",
    "x.copy_('a')": r"expected a Tensor or a number, not str",
    "x.cumsum_(0, dtype=L.float64)": r"cumsum_: dtype float64 must be that of the tensor, float32; ",
    "setattr(x, 'requires_grad', 1)": r"requires_grad must be a bool, not int; use True or False",
    # Settings and devices.
    "L.set_num_threads(-3)": r"set_num_threads expects a positive integer, got -3; use 1 or more",
    "L.set_num_threads('a')": r"set_num_threads expects an int, but got str",
    "L.manual_seed('a')": r"invalid literal",
    "L.manual_seed(None)": r"NoneType",
    "L.Generator().manual_seed('a')": r"manual_seed expected a long, but got str; convert it",
    "L.set_grad_enabled(1)": r"must be bool, not int",
    "x.to('cuda')": r"device: 'cuda' is not available, .*; pass 'cpu'",
    "x.cuda()": r"device: 'cuda'",
    "nn.Linear(2, 2).to('cuda')": r"device: 'cuda'",
    "nn.Linear(2, 2).cuda()": r"device: 'cuda'",
    "L.rand(2, device='cuda')": r"device: 'cuda'",
    "L.randint(5, (2,), device='cuda')": r"device: 'cuda'",
    "L.rand_like(x, device='cuda')": r"device: 'cuda'",
    "L.as_tensor([1], device='cuda')": r"device: 'cuda'",
    "L.Generator('cuda')": r"device: 'cuda'",
    "L.zeros(2, device='a')": r"device: 'a'",
    "L.zeros(2, device=-3)": r"device: index -3 names no device here, .*; pass 'cpu'",
    # Losses, norms, data.
    "F.binary_cross_entropy_with_logits(x, k)": r"result type Float can't be cast to the target's type Long; ",
    "F.binary_cross_entropy_with_logits(x, k > 1)": r"target's type Bool; convert the target with .float\(\)",
    "F.batch_norm(x, None, None, training=True, eps=0.0)": r"batch_norm: eps must be positive .*but got 0; ",
    "F.batch_norm(x, L.zeros(3), None, training=True)": r"batch_norm: running_mean and running_var must either",
    "D.TensorDataset(x, L.ones(3))": r"TensorDataset: Size mismatch .*\[2, 3\]",
    "D.ConcatDataset([])": r"ConcatDataset: datasets should not be empty; give at least one",
    "D.ConcatDataset([[1], [2]])[-5]": r"ConcatDataset: absolute value of index -5",
    "D.DataLoader([], shuffle=True)": r"got num_samples=0: the dataset is empty; leave out shuffle",
    "D.RandomSampler(None)": r"no len",
    "list(D.DataLoader(1.5))": r"a dataset of type 'float' cannot be indexed; define",
    "list(D.DataLoader([1], collate_fn=[]))": r"not callable",
    "list(D.DataLoader([1], timeout=1))": r"timeout is 1, which needs num_workers > 0; use 0",
    "nn.utils.clip_grad_norm_([x], None)": r"NoneType",
}


@pytest.mark.parametrize("code", REFUSED)
def test_refused(code):
    expected, _, _ = outcome(TORCH, code)
    actual, before, after = outcome(firesteel, code)
    assert isinstance(expected, Exception), f"PyTorch returns {expected!r}"
    assert isinstance(actual, type(expected)), f"{expected!r} in PyTorch, here {actual!r}"
    with pytest.raises(type(actual), match=REFUSED[code]):
        raise actual
    for name, value in before.items():
        assert firesteel.equal(value, after[name])


TAKEN = [
    "L.tensor(2**70, dtype=L.float32)",
    "L.tensor([2**63, 1], dtype=L.float64)",
    "L.tensor([2**70], dtype=L.bool)",
    "L.tensor([-1], dtype=L.uint8)",
    "L.full((1,), 1e10, dtype=L.float16)",
    "L.full((), 70000, dtype=L.float16)",
    "L.zeros(2, requires_grad=None)",
    "L.zeros(())",
    "L.zeros((2, True))",
    "L.add(1.5, x)",
    "L.bitwise_and(1, k)",
    "L.device('cpu', 0).index",
    "x.cumsum_(1, dtype=L.float32)",
    "x.cumprod_(axis=0)",
    "x.copy_(1.5)",
    "k.copy_(1.5)",
    "u.copy_(300)",
    "x.type('torch.DoubleTensor')",
    "h.__setitem__(0, 1e10) or h",
    "h.__setitem__(slice(None), 1e10) or h",
    "L.manual_seed('3').initial_seed()",
    "L.manual_seed(1.5).initial_seed()",
    "len(D.TensorDataset().tensors)",
    "len(list(D.DataLoader([])))",
    # A smaller integer than int64 counts as many as the numbers given do.
    "L.arange(1.5, dtype=L.int32)",
    "L.arange(-1.5, 2.5, dtype=L.int32)",
    "L.arange(-1.5, 2.5, dtype=L.int64)",
    "L.arange(2.9, 5.1, 1.5, dtype=L.int32)",
    "L.arange(1, 3, 0.5, dtype=L.uint8)",
    "L.arange(0, 300, dtype=L.uint8)",
    "F.batch_norm(L.ones(0, 3), x[0], x[1], training=True)",
]


@pytest.mark.parametrize("code", TAKEN)
def test_taken(code):
    """Both return the same, and leave the same in the samples."""
    (expected, _, theirs), (actual, _, ours) = outcome(TORCH, code), outcome(firesteel, code)
    assert not isinstance(actual, Exception), actual
    if isinstance(actual, firesteel.Tensor):
        assert_same(actual, expected)
    else:
        assert actual == expected
    for name in theirs:
        assert_same(ours[name], theirs[name])


# --- copies ------------------------------------------------------------------------------------------------------


def both():
    return firesteel, TORCH


@pytest.mark.parametrize("lib", both(), ids=["firesteel", "torch"])
def test_deepcopy_keeps_what_shares_memory(lib):
    x = lib.arange(6.0)
    a, part, flat = copy.deepcopy([x, x[1:3], x.view(2, 3).t()])
    a.fill_(7.0)
    assert part.tolist() == [7.0, 7.0] and flat.shape == (3, 2) and flat.stride() == (1, 3)
    assert (flat == 7).all() and x.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert part.storage_offset() == 1 and part._base is None and not part.requires_grad

    p = lib.ones(2, requires_grad=True)
    p.grad = lib.full((2,), 3.0)
    held = copy.deepcopy({"p": p, "data": p.detach(), "grad": p.grad, "view": p.grad[:1]})
    assert held["p"].requires_grad and not held["data"].requires_grad
    assert held["grad"] is held["p"].grad and held["grad"] is not p.grad
    held["data"].zero_()
    held["grad"].zero_()
    assert held["p"].tolist() == [0.0, 0.0] and p.tolist() == [1.0, 1.0]
    assert held["view"].tolist() == [0.0] and p.grad.tolist() == [3.0, 3.0]

    held = copy.deepcopy([lib.nn.Parameter(x), x])  # parameters are copied each for itself
    held[1].zero_()
    assert held[0].tolist() == x.tolist()

    assert [t.shape for t in copy.deepcopy([lib.zeros(0), lib.zeros(2, 0)])] == [(0,), (2, 0)]
    assert copy.deepcopy(lib.ones(1).expand(5)).tolist() == [1.0] * 5
    with pytest.raises(RuntimeError, match="created explicitly"):
        copy.deepcopy([x, p * 2])


def test_deepcopy_of_memory_from_numpy():
    array = np.arange(4, dtype=np.int32)
    x = firesteel.from_numpy(array)
    a, part = copy.deepcopy([x, x[::2]])
    a += 1
    assert part.tolist() == [1, 3] and array.tolist() == [0, 1, 2, 3]


def test_statistics_of_an_empty_batch_stay():
    for lib in both():
        norm = lib.nn.BatchNorm1d(3)
        norm(lib.ones(0, 3)).sum().backward()
        assert norm.running_mean.tolist() == [0.0] * 3 and norm.running_var.tolist() == [1.0] * 3
        assert norm.num_batches_tracked == 1 and norm.weight.grad.tolist() == [0.0] * 3

"""Convolutions of volumes, plain and transposed, and their gradients, beside PyTorch."""

from __future__ import annotations

import pytest

import firesteel
from libraries import drawn, parity
from tensors import assert_same, torch

# Volumes that are computed several at a time, in bands of slices, and in bands of the rows of a slice; steps and gaps
# along each dim; signals and images in disguise; filters that are larger than what they see.
CONVOLUTIONS = {
    "many small": ((5, 3, 3, 4, 5), (20, 3, 3, 3, 3), {"padding": 1}),
    "slices": ((2, 8, 11, 17, 16), (16, 8, 3, 3, 3), {"padding": 1}),
    "wide slices": ((1, 3, 3, 45, 43), (8, 3, 3, 3, 3), {"padding": (1, 0, 2)}),
    "wide rows": ((1, 1, 2, 2, 2000), (3, 1, 2, 2, 5), {"padding": (1, 1, 2)}),
    "stride": ((2, 16, 9, 10, 11), (32, 16, 3, 3, 3), {"padding": 1, "stride": 2}),
    "strides": ((2, 3, 9, 10, 11), (5, 3, 4, 2, 3), {"padding": (3, 1, 0), "stride": (3, 1, 2)}),
    "dilation": ((2, 4, 9, 10, 11), (6, 4, 3, 2, 3), {"padding": (4, 1, 0), "dilation": (3, 1, 2)}),
    "dilation and stride": ((2, 4, 9, 9, 8), (6, 4, 3, 3, 3), {"padding": 2, "dilation": 3, "stride": 2}),
    "groups": ((2, 6, 5, 6, 7), (9, 2, 3, 3, 3), {"groups": 3, "padding": 1}),
    "depthwise": ((2, 12, 6, 9, 20), (12, 1, 3, 3, 3), {"groups": 12, "padding": 1}),
    "patches": ((2, 2, 8, 8, 8), (20, 2, 4, 4, 4), {"stride": 4}),
    "points": ((2, 40, 3, 9, 9), (33, 40, 1, 1, 1), {}),
    "along slices": ((2, 5, 9, 6, 7), (17, 5, 5, 1, 1), {"padding": (2, 0, 0)}),
    "along rows": ((2, 5, 9, 6, 7), (17, 5, 1, 3, 3), {"padding": (0, 1, 1)}),
    "larger filter": ((2, 3, 2, 1, 3), (4, 3, 5, 5, 5), {"padding": (2, 2, 1)}),
}
TRANSPOSED = {
    "plain": ((2, 8, 3, 7, 6), (8, 5, 3, 3, 3), {}),
    "stride": ((2, 3, 4, 5, 6), (3, 5, 3, 3, 3), {"stride": 2, "padding": 1, "output_padding": (1, 0, 1)}),
    "far": ((2, 3, 2, 3, 4), (3, 2, 2, 3, 2), {"dilation": 3, "padding": 2, "output_padding": (2, 1, 0)}),
    "gaps": ((1, 3, 2, 3, 4), (3, 2, 2, 1, 2), {"stride": (3, 2, 4)}),
    "groups": ((2, 6, 3, 4, 5), (6, 2, 3, 2, 3), {"groups": 3, "stride": (1, 2, 2)}),
}
CASES = {f"conv3d {name}": ("conv3d", *case) for name, case in CONVOLUTIONS.items()} | {
    f"conv_transpose3d {name}": ("conv_transpose3d", *case) for name, case in TRANSPOSED.items()
}


def results(lib, case, dtype, *, last=False, twice=False):
    """The output, and the gradients of input, weight and bias; `twice`: of a loss of the gradients."""
    name, shape, kernel, attributes = case
    outputs = kernel[0] if name == "conv3d" else kernel[1] * attributes.get("groups", 1)
    x, weight, bias = (
        drawn(lib, *shape, seed=seed).to(getattr(lib, dtype))
        for seed, shape in enumerate((shape, kernel, (outputs,)))
    )
    if last:
        x = x.to(memory_format=lib.channels_last_3d)
    leaves = [operand.requires_grad_() for operand in (x, weight, bias)]
    y = getattr(lib.nn.functional, name)(*leaves, **attributes)
    grad = lib.cos(lib.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)
    if not twice:
        return [y, *lib.autograd.grad(y, leaves, grad)]
    slopes = lib.autograd.grad(y, leaves[:2], grad * y.detach() + grad * y, create_graph=True)
    return lib.autograd.grad(sum((slope * slope).sum() for slope in slopes), leaves)


@parity
@pytest.mark.parametrize("last", [False, True], ids=["", "channels_last_3d"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_convolutions_and_their_gradients(case, dtype, last):
    ours, theirs = (results(lib, case, dtype, last=last) for lib in (firesteel, torch))
    for mine, reference in zip(ours, theirs, strict=True):
        assert_same(mine, reference, tol=100)  # sums of thousands


@parity
@pytest.mark.parametrize("case", ["slices", "strides", "dilation", "groups"])
def test_second_gradients(case):
    ours, theirs = (
        results(lib, CASES[f"conv3d {case}"], "float64", twice=True) for lib in (firesteel, torch)
    )
    for mine, reference in zip(ours, theirs, strict=True):
        assert_same(mine, reference, tol=1000)


@parity
def test_channels_last_3d_is_kept():
    def formats(lib, name, kernel, which):
        # In float64 PyTorch has another kernel, which forgets the format.
        operands = [drawn(lib, 2, 24, 5, 6, 4).float(), drawn(lib, *kernel, seed=1).float()]
        operands[which] = operands[which].to(memory_format=lib.channels_last_3d)
        leaves = [operand.requires_grad_() for operand in operands]
        y = getattr(lib.nn.functional, name)(*leaves, padding=1)
        return [tensor.stride() for tensor in (y, *lib.autograd.grad(y, leaves, lib.ones_like(y)))]

    for call in (("conv3d", (48, 24, 3, 3, 3)), ("conv_transpose3d", (24, 48, 3, 3, 3))):
        for which in (0, 1):
            assert formats(firesteel, *call, which) == formats(torch, *call, which), (call, which)


WRONG = {
    "rank": (((2, 3), (2, 2, 2, 2, 2)), {}, "4D|5D"),
    "rank of the weight": (((1, 2, 4, 4, 4), (2, 2, 2, 2)), {}, "reshape"),
    "channels": (((1, 3, 4, 4, 4), (2, 2, 2, 2, 2)), {}, "expected input.* 3"),
    "groups": (((1, 4, 4, 4, 4), (3, 2, 2, 2, 2)), {"groups": 2}, "groups=2"),
    "no groups": (((1, 2, 4, 4, 4), (2, 2, 2, 2, 2)), {"groups": 0}, "non-positive groups"),
    "stride": (((1, 2, 4, 4, 4), (2, 2, 2, 2, 2)), {"stride": 0}, "non-positive stride"),
    "two strides": (((1, 2, 4, 4, 4), (2, 2, 2, 2, 2)), {"stride": (1, 2)}, "three ints"),
    "padding": (((1, 2, 4, 4, 4), (2, 2, 2, 2, 2)), {"padding": (0, -1, 0)}, "negative padding"),
    "word": (((1, 2, 4, 4, 4), (2, 2, 2, 2, 2)), {"padding": "some"}, "Invalid padding string"),
    "same": (((1, 2, 4, 4, 4), (2, 2, 2, 2, 2)), {"padding": "same", "stride": 2}, "strided convolutions"),
    "dilation": (((1, 2, 4, 4, 4), (2, 2, 2, 2, 2)), {"dilation": 0}, "dilation should be greater than zero"),
    "small": (
        ((1, 2, 4, 4, 1), (2, 2, 2, 2, 2)),
        {},
        r"padded input size per channel: 1 at dim 2 of \[4, 4, 1\]",
    ),
    "nothing": (((1, 2, 4, 0, 4), (2, 2, 2, 2, 2)), {}, "zero"),
    "bias": (((1, 2, 4, 4, 4), (3, 2, 2, 2, 2), (2,)), {}, "3 elements"),
}


@parity
@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_both_refuse(case):
    shapes, attributes, words = case
    for lib, match in ((torch, None), (firesteel, f"conv3d: .*({words})")):
        with pytest.raises(RuntimeError, match=match):
            lib.nn.functional.conv3d(*(lib.ones(*shape) for shape in shapes), **attributes)


def test_volumes_without_input_channels_are_the_bias():
    x, weight = firesteel.zeros(1, 0, 3, 4, 5), firesteel.zeros(2, 0, 3, 3, 3)
    out = firesteel.nn.functional.conv3d(x, weight, firesteel.tensor([1.0, 2.0]))
    assert out.shape == (1, 2, 1, 2, 3)
    assert (out == firesteel.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)).all()

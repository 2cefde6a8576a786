"""Padding and packing of sequences beside PyTorch's functions."""

import numpy as np
import pytest

import firesteel as ft

torch = pytest.importorskip("torch")

LENGTHS = [3, 5, 1, 5]


def same(ours, theirs):
    if theirs is None:
        assert ours is None
        return
    assert str(ours.dtype) == str(theirs.dtype).replace("torch.", "torch.")
    assert ours.tolist() == theirs.tolist()
    assert tuple(ours.shape) == tuple(theirs.shape)


def sequences(lib, lengths=LENGTHS, rest=(2,), **options):
    draw = np.random.default_rng(0).standard_normal
    return [lib.tensor(draw((length, *rest)).tolist(), dtype=lib.float64, **options) for length in lengths]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("rest", [(), (2,), (2, 3)])
def test_pad_sequence(rest, batch_first, side):
    def run(lib):
        given = sequences(lib, rest=rest, requires_grad=True)
        padded = lib.nn.utils.rnn.pad_sequence(given, batch_first, -1.5, side)
        (padded * padded).sum().backward()
        return [padded, *(x.grad for x in given)]

    for ours, theirs in zip(run(ft), run(torch), strict=True):
        same(ours, theirs)


@pytest.mark.parametrize("batch_first", [False, True])
def test_unpad_sequence(batch_first):
    def run(lib):
        rnn = lib.nn.utils.rnn
        padded = rnn.pad_sequence(sequences(lib), batch_first)
        return rnn.unpad_sequence(padded, lib.tensor(LENGTHS), batch_first)

    for ours, theirs in zip(run(ft), run(torch), strict=True):
        same(ours, theirs)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("total", [None, 7])
@pytest.mark.parametrize("lengths", [[5, 5, 3, 1], [3, 5, 1, 4], [2], [1, 1]])
def test_packing_and_back(lengths, total, batch_first):
    def run(lib):
        rnn = lib.nn.utils.rnn
        given = sequences(lib, lengths, requires_grad=True)
        padded = rnn.pad_sequence(given, batch_first)
        is_sorted = sorted(lengths, reverse=True) == lengths
        packed = rnn.pack_padded_sequence(padded, lib.tensor(lengths), batch_first, enforce_sorted=is_sorted)
        back, found = rnn.pad_packed_sequence(packed, batch_first, -2.0, total)
        (back * back).sum().backward()
        return [*packed, back, found, *(x.grad for x in given)]

    for ours, theirs in zip(run(ft), run(torch), strict=True):
        if (
            ours is None
            or ours.ndim == 0
            or not ours.is_floating_point()
            or len(set(lengths)) == len(lengths)
        ):
            same(ours, theirs)


def test_equal_lengths_may_come_in_any_order():
    """Sorting need not keep the order of equals in PyTorch; what comes back is what went in."""
    rnn = ft.nn.utils.rnn
    given = sequences(ft)
    back = rnn.unpack_sequence(rnn.pack_sequence(given, enforce_sorted=False))
    for ours, first in zip(back, given, strict=True):
        same(ours, first)


def test_pack_sequence_prints_as_pytorchs():
    def run(lib):
        packed = lib.nn.utils.rnn.pack_sequence([lib.tensor(x) for x in ([1, 2, 3], [4, 5], [6])])
        return repr(packed)

    assert run(ft) == run(torch)


def test_packed_sequences_convert_and_unpack():
    def run(lib):
        packed = lib.nn.utils.rnn.pack_sequence(sequences(lib, [3, 2]))
        assert packed.to(lib.float64) is packed
        assert packed.cpu() is packed
        assert not packed.is_cuda
        assert not packed.is_pinned()
        other = lib.nn.utils.rnn.PackedSequence((packed.data, packed.batch_sizes))
        data, sizes, order, back = packed
        assert order is None
        assert back is None
        converted = [
            getattr(packed, name)().data for name in ("double", "float", "half", "long", "int", "byte")
        ]
        return [other.data, other.batch_sizes, data, sizes, *converted[:3]]

    for ours, theirs in zip(run(ft), run(torch), strict=True):
        same(ours, theirs)


ERRORS = {
    "unsorted": (lambda lib, x: ([2, 4], {}), "must be sorted in decreasing order"),
    "zero": (lambda lib, x: ([2, 0], {}), "Length of all samples has to be greater than 0"),
    "count": (lambda lib, x: ([2], {}), "Expected `len\\(lengths\\)` to be equal to batch_size"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_lengths_that_do_not_fit(case):
    arguments, text = ERRORS[case]
    for lib in (ft, torch):
        x = lib.zeros(4, 2, 3)
        lengths, options = arguments(lib, x)
        with pytest.raises(RuntimeError, match=text):
            lib.nn.utils.rnn.pack_padded_sequence(x, lengths, **options)


def test_lengths_beyond_the_input_are_an_error():
    """PyTorch cuts them off, and says nothing."""
    with pytest.raises(RuntimeError, match="the longest of lengths, 9, exceeds the 4 steps"):
        ft.nn.utils.rnn.pack_padded_sequence(ft.zeros(4, 2, 3), [9, 1])


def test_other_errors_are_pytorchs():
    for lib in (ft, torch):
        rnn = lib.nn.utils.rnn
        with pytest.raises(RuntimeError, match="Expected iterable for input sequences"):
            rnn.pad_sequence(3)
        with pytest.raises(RuntimeError, match="received an empty list of sequences"):
            rnn.pad_sequence([])
        with pytest.raises(RuntimeError, match="padding_side to be one of left or right"):
            rnn.pad_sequence([lib.zeros(2)], padding_side="top")
        with pytest.raises(RuntimeError):
            rnn.pad_sequence([lib.zeros(2, 3), lib.zeros(2, 4)])
        with pytest.raises(RuntimeError, match="Cannot pack empty tensors"):
            rnn.pack_padded_sequence(lib.zeros(4, 2, 0), [4, 2])
        packed = rnn.pack_sequence([lib.zeros(3), lib.zeros(2)])
        with pytest.raises(ValueError, match="total_length=2 and max sequence length being 3"):
            rnn.pad_packed_sequence(packed, total_length=2)
        with pytest.raises(AssertionError):
            rnn.PackedSequence(lib.zeros(3))
        assert rnn.invert_permutation(None) is None
        with pytest.raises((ValueError, RuntimeError)):
            rnn.unpad_sequence(lib.zeros(4, 2), lib.tensor([1]), batch_first=True)

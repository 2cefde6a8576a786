"""Writes in place to pieces of `split`, `chunk` and `unbind`. PyTorch refuses those; here they are recorded as
those to any view, so each program is held against one that makes new tensors instead."""

import pytest

import firesteel
from tensors import torch

# How the base is cut, and how the pieces are joined again.
CUTS = {
    "split": (lambda b: b.split(2, 0), lambda lib, pieces: lib.cat(pieces, 0)),
    "split_with_sizes": (lambda b: b.split([1, 3], 0), lambda lib, pieces: lib.cat(pieces, 0)),
    "chunk": (lambda b: b.chunk(2, 1), lambda lib, pieces: lib.cat(pieces, 1)),
    "unbind": (lambda b: b.unbind(0), lambda lib, pieces: lib.stack(pieces, 0)),
    "unbind_last": (lambda b: b.unbind(1), lambda lib, pieces: lib.stack(pieces, 1)),
}
VALUES = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [10.0, 11.0, 12.0]]


class InPlace:
    """A base and its pieces; `write` changes a piece in its memory."""

    def __init__(self, base, cut):
        self.lib, self.base, self.pieces = firesteel, base, list(CUTS[cut][0](base))

    def write(self, i, change):
        change(self.pieces[i], True)

    def write_base(self, change):
        change(self.base, True)


class OutOfPlace:
    """The same with new tensors: the base is joined from the pieces after each write, and cut again."""

    def __init__(self, base, cut, lib):
        self.lib, self.base, self.cut = lib, base, cut
        self.pieces = list(CUTS[cut][0](base))

    def write(self, i, change):
        self.pieces[i] = change(self.pieces[i], False)
        self.base = CUTS[self.cut][1](self.lib, self.pieces)
        self.pieces = list(CUTS[self.cut][0](self.base))

    def write_base(self, change):
        self.base = change(self.base, False)
        self.pieces = list(CUTS[self.cut][0](self.base))


def one_piece(p, w):
    p.write(0, lambda x, here: x.mul_(w.sum()) if here else x * w.sum())
    return (p.base**2).sum() + (p.pieces[0] ** 2).sum() * 3 + p.pieces[1].sum() * 7


def pieces_and_base_in_turn(p, w):
    before = (p.base * 2).sum() + (p.pieces[1] * 3).sum()
    p.write(1, lambda x, here: x.mul_(2).add_(w.sum()) if here else x * 2 + w.sum())
    p.write_base(lambda x, here: x.mul_(w.prod()) if here else x * w.prod())
    p.write(0, lambda x, here: x.pow_(2) if here else x**2)
    return before + (p.base**2).sum() + sum((x**3).sum() * (i + 1) for i, x in enumerate(p.pieces))


def from_a_sibling(p, w):
    source = p.pieces[1].sum(0, keepdim=True) * w[0]
    p.write(0, lambda x, here: x.copy_(source.expand(x.shape)) if here else source.expand(x.shape).clone())
    p.write(1, lambda x, here: x.zero_() if here else x * 0)
    return (p.base**3).sum() * w.sum() + (p.pieces[0] ** 2).sum()


def view_of_a_piece(p, w):
    def change(x, here):
        if here:
            x[0:1].mul_(w.sum())
            return None
        return p.lib.cat([x[0:1] * w.sum(), x[1:]], 0)

    p.write(0, change)
    total = p.pieces[0][0:1].sum()
    p.write(-1, lambda x, here: x.add_(total) if here else x + total)
    return (p.base**2).sum() + (p.pieces[0][0:1] ** 3).sum() + (p.pieces[-1] ** 2).sum()


def every_piece(p, w):
    for i in range(len(p.pieces)):
        p.write(i, lambda x, here, factor=i + 2.0: x.mul_(factor) if here else x * factor)
    p.write(0, lambda x, here: x.sub_(w[1]) if here else x - w[1])
    return sum((x**2).sum() * (i + 1) for i, x in enumerate(p.pieces)) + (p.base**2).sum()


def overwritten(p, w):
    p.write(0, lambda x, here: x.fill_(4.0) if here else x * 0 + 4.0)
    p.write(1, lambda x, here: x.mul_(w[2]) if here else x * w[2])
    return (p.base**2).sum()


PROGRAMS = [one_piece, pieces_and_base_in_turn, from_a_sibling, view_of_a_piece, every_piece, overwritten]


def inputs(lib):
    x = lib.tensor(VALUES, dtype=lib.float64, requires_grad=True)
    return x, lib.tensor([2.0, 3.0, 5.0], dtype=lib.float64, requires_grad=True)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.parametrize("base_has_history", [True, False])
def test_gradients_are_those_of_the_program_without_writes(program, cut, base_has_history):
    results = []
    for lib, kind in ((firesteel, "in place"), (firesteel, ""), (torch, "")):
        if lib is None:
            continue
        x, w = inputs(lib)
        base = x * 1.5 if base_has_history else x.detach() * 1.5
        p = InPlace(base, cut) if kind else OutOfPlace(base, cut, lib)
        loss = program(p, w)
        loss.backward()
        results.append([loss.item(), None if x.grad is None else x.grad.tolist(), w.grad.tolist()])
    for other in results[1:]:
        for a, e in zip(results[0], other, strict=True):
            assert (a is None) == (e is None)
            if e is not None:
                assert firesteel.allclose(firesteel.tensor(a), firesteel.tensor(e)), (a, e)


def test_pieces_of_a_leaf_are_refused_as_any_view_of_it():
    x = firesteel.ones(4, requires_grad=True)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        x.unbind()[0].mul_(2)
    with firesteel.no_grad():
        x.chunk(2)[1].mul_(2)
    assert x.tolist() == [1, 1, 2, 2]


def test_a_saved_sibling_is_missed():
    """The pieces share one memory and its version, as all views do."""
    b = firesteel.ones(4, requires_grad=True) * 1
    first, second = b.split(2)
    loss = (second * second).sum()
    first.mul_(3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()

"""Views made in `no_grad` and `inference_mode`: a write to them outside cannot be recorded, and is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import firesteel
from libraries import both

modes = pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])

REFUSED = (
    r"A view was created in (no_grad|inference) mode|view of a view which was created in (no_grad|inference)"
)

VIEWS: dict[str, Callable[[Any], Any]] = {
    "slice": lambda x: x[:2],
    "slice of a slice": lambda x: x[:3][:2],
    "reshaped": lambda x: x.view(2, 2),
    "piece": lambda x: x.split(2)[0],
    "column": lambda x: x.view(2, 2).t()[0],
}
WRITES: dict[str, Callable[[Any, Any], Any]] = {
    "mul_": lambda lib, v: v.mul_(2),
    "copy_": lambda lib, v: v.copy_(lib.zeros(())),
    "item": lambda lib, v: v.__setitem__(0, 3.0),
    "zero_": lambda lib, v: v.zero_(),
    "normal_": lambda lib, v: v.normal_(),
    "unsqueeze_": lambda lib, v: v.unsqueeze_(0),
}


def leaf(lib: Any) -> Any:
    return lib.ones(4, requires_grad=True)


def result(lib: Any) -> Any:
    return leaf(lib) * 2


def unrecorded(lib: Any, mode: str, base: Any, view: Callable[[Any], Any]) -> Any:
    """A view of `base` made in a mode that records nothing."""
    with getattr(lib, mode)():
        return view(base)


@both
@modes
@pytest.mark.parametrize("make", [leaf, result], ids=["leaf", "result"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("write", WRITES)
def test_writes_are_refused(lib: Any, mode: str, make: Any, view: str, write: str) -> None:
    base = make(lib)
    v = unrecorded(lib, mode, base, VIEWS[view])
    outside = v[:1]
    before = base.tolist()
    for target in (v, outside):
        with pytest.raises(RuntimeError, match=REFUSED):
            WRITES[write](lib, target)
    assert base.tolist() == before and base._version == 0 and tuple(v.shape) == tuple(VIEWS[view](base).shape)


@both
@modes
@pytest.mark.parametrize("make", [leaf, result], ids=["leaf", "result"])
def test_writes_without_recording_are_allowed(lib: Any, mode: str, make: Any) -> None:
    base = make(lib)
    v = unrecorded(lib, mode, base, VIEWS["slice"])
    with lib.no_grad():
        v.zero_()
    with lib.inference_mode():
        v.add_(3)
    assert base.tolist()[:2] == [3.0, 3.0] and base._version == 2


@both
@modes
def test_bases_without_a_gradient(lib: Any, mode: str) -> None:
    base = lib.ones(4)
    v = unrecorded(lib, mode, base, VIEWS["slice"])
    v.mul_(2)
    assert base.tolist() == [2.0, 2.0, 1.0, 1.0]
    detached = unrecorded(lib, mode, leaf(lib), lambda x: x.detach()[:2])
    assert detached.mul_(2).tolist() == [2.0, 2.0]
    with pytest.raises(RuntimeError, match=REFUSED):  # its history would be lost to the base
        v.mul_(leaf(lib)[:2])
    # A gradient that is asked for later counts as well.
    base.requires_grad_()
    with pytest.raises(RuntimeError, match=REFUSED):
        v.mul_(2)
    assert base.tolist() == [2.0, 2.0, 1.0, 1.0]


@both
@modes
def test_a_base_that_was_given_a_history_later(lib: Any, mode: str) -> None:
    base = lib.ones(4)
    v = unrecorded(lib, mode, base, VIEWS["slice"])
    base.mul_(leaf(lib))
    with pytest.raises(RuntimeError, match=r"A view was created in (no_grad|inference) mode"):
        v.mul_(2)


@both
@modes
def test_a_view_of_a_recorded_view(lib: Any, mode: str) -> None:
    base = result(lib)
    between = base[:3]
    v = unrecorded(lib, mode, between, VIEWS["slice"])
    del between
    with pytest.raises(RuntimeError, match=REFUSED):
        v.mul_(2)


def test_a_view_of_a_leaf_that_is_a_view() -> None:
    # PyTorch looks at the base alone, and writes the leaf.
    w = firesteel.ones(4).view(2, 2).requires_grad_()
    v = unrecorded(firesteel, "no_grad", w, lambda x: x[0])
    with pytest.raises(RuntimeError, match=REFUSED):
        v.mul_(2)
    assert w.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_the_text_says_what_to_do() -> None:
    base = leaf(firesteel)
    v = unrecorded(firesteel, "no_grad", base, VIEWS["slice"])
    text = r"mul_: A view was created in .*; take the view with grad mode enabled, or write to it under .*no_grad"
    with pytest.raises(RuntimeError, match=text):
        v.mul_(2)
    with pytest.raises(RuntimeError, match=text):  # PyTorch has its error for out= and gradients
        firesteel.mul(v.detach(), 2, out=v)


def test_a_view_keeps_no_graph_alive() -> None:
    x = leaf(firesteel)
    y = x * 2
    node = y.grad_fn
    assert node is not None
    y.register_hook(lambda grad: None)
    v = unrecorded(firesteel, "no_grad", y, VIEWS["slice"])
    del y
    assert v._base is None and v.mul_(2).tolist() == [4.0, 4.0]  # nobody can ask for the history any more

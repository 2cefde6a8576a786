"""`unsqueeze_` and its like: the object stays, its shape, strides and history are those of the view."""

from __future__ import annotations

from typing import Any

import pytest

import firesteel
from firesteel import nn

CALLS: dict[str, Any] = {
    "squeeze_": lambda x: x.squeeze_(),
    "squeeze_ dim": lambda x: x.squeeze_(0),
    "unsqueeze_": lambda x: x.unsqueeze_(-1),
    "t_": lambda x: x.t_(),
    "transpose_": lambda x: x.transpose_(0, 1),
    "swapaxes_": lambda x: x.swapaxes_(0, 1),
    "swapdims_": lambda x: x.swapdims_(0, 1),
}


def outcome(lib: Any, call: Any) -> Any:
    """What is seen of a plain tensor, a result and a view of a result, before and after."""
    plain = lib.arange(3.0).reshape(1, 3).clone()
    memory = plain.data_ptr()
    assert call(plain) is plain and plain.data_ptr() == memory
    assert plain.is_leaf and plain._base is None and not plain.requires_grad
    leaf = lib.arange(3.0).reshape(1, 3).clone().requires_grad_()
    result = leaf * 2
    assert call(result) is result and result._base is None and not result.is_leaf
    result.mul_(lib.arange(3.0).reshape(result.shape))
    result.sum().backward()
    whole = leaf * 3
    view = whole[:, 1:]
    assert call(view) is view
    view.mul_(10)
    whole.sum().backward()
    return plain.tolist(), plain.stride(), result.tolist(), view.tolist(), leaf.grad.tolist()


@pytest.mark.parametrize("name", CALLS)
def test_the_tensor_becomes_its_view(name: str) -> None:
    ours = outcome(firesteel, CALLS[name])
    torch = pytest.importorskip("torch")
    assert ours == outcome(torch, CALLS[name])


@pytest.mark.parametrize("name", CALLS)
def test_leaves_that_require_grad_are_refused(name: str) -> None:
    leaf = firesteel.ones(1, 3, requires_grad=True)
    op = name.partition(" ")[0]
    op = "transpose_" if op == "swapdims_" else op
    with pytest.raises(RuntimeError, match=f"{op}: a leaf Variable that requires grad .* in-place"):
        CALLS[name](leaf)
    with pytest.raises(RuntimeError, match=f"{op}: a view of a leaf Variable that requires grad"):
        CALLS[name](leaf[:])
    assert leaf.shape == (1, 3)


@pytest.mark.parametrize("name", CALLS)
def test_without_recording_a_parameter_stays_one(name: str) -> None:
    parameter = nn.Parameter(firesteel.ones(1, 3))
    model = nn.Module()
    model.weight = parameter
    with firesteel.no_grad():
        assert CALLS[name](parameter) is parameter
    assert type(parameter) is nn.Parameter and parameter.is_leaf and model.weight.shape == parameter.shape
    (model.weight * 2).sum().backward()
    assert parameter.grad.shape == parameter.shape and parameter.grad.sum() == 6


def test_views_and_their_base_keep_one_history() -> None:
    w = firesteel.ones(1, requires_grad=True)
    base = firesteel.ones(4)
    view = base[:2]
    base.unsqueeze_(0)  # while a view of it is alive
    view.mul_(w * 5)
    base.sum().backward()
    assert w.grad.tolist() == [10.0]

    with firesteel.no_grad():
        piece = base.detach()[0]
    piece.unsqueeze_(0)
    assert piece.shape == (1, 4)


def test_a_view_of_nothing_recorded_writes_through() -> None:
    w = firesteel.ones(1, requires_grad=True)
    base = firesteel.ones(4)
    view = base[:2]
    with firesteel.no_grad():
        view.unsqueeze_(0)
    assert view._base is base
    view.mul_(w * 3)
    base.sum().backward()
    assert w.grad.tolist() == [6.0] and base.tolist() == [3.0, 3.0, 1.0, 1.0]


def test_a_retained_gradient_has_the_new_shape() -> None:
    x = firesteel.ones(3, requires_grad=True)
    y = x * 2
    y.retain_grad()
    y.unsqueeze_(0)
    (y * 4).sum().backward()
    assert y.grad.shape == (1, 3) and x.grad.tolist() == [8.0] * 3


def test_a_failed_call_changes_nothing() -> None:
    x = firesteel.ones(2, 3, 4)
    for call in (lambda: x.unsqueeze_(5), lambda: x.transpose_(0, 3), lambda: x.squeeze_(7)):
        with pytest.raises(IndexError, match="out of range"):
            call()
    with pytest.raises(RuntimeError, match="t_: expects a tensor with <= 2 dimensions"):
        x.t_()
    assert x.shape == (2, 3, 4) and x.stride() == (12, 4, 1)


def test_references_and_attributes_stay() -> None:
    x = firesteel.ones(3)
    x.note = "kept"
    seen = {x: 1}
    for _ in range(100):
        x.unsqueeze_(0)
        x.squeeze_(0)
    assert x.note == "kept" and seen[x] == 1 and x.shape == (3,)
    x.requires_grad_()
    (x * 2).sum().backward()
    assert x.grad is x.grad and x.grad.tolist() == [2.0] * 3

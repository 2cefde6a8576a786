"""Inference tensors: what is made in `inference_mode`, and what is refused outside of it, as in PyTorch."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import firesteel
from libraries import both, leaf


class Refused(NamedTuple):
    """A RuntimeError, and what its text says in both libraries."""

    text: str


class Row(NamedTuple):
    """One use of an inference tensor, and what comes of it."""

    id: str
    expected: Any
    case: Callable[[Any], Any]


WRITE = Refused("Inplace update to inference tensor outside InferenceMode is not allowed")
SAVE = Refused("Inference tensors cannot be saved for backward")
ASK = Refused("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed")
VERSION = Refused("Inference tensors do not track version counter")


def inside(lib: Any, make: Callable[[], Any]) -> Any:
    """What `make` gives inside of inference mode."""
    with lib.inference_mode():
        return make()


def quiet(lib: Any, make: Callable[[], Any]) -> Any:
    """What `make` gives inside of `no_grad`."""
    with lib.no_grad():
        return make()


def made(lib: Any, *values: Any) -> Any:
    """An inference tensor."""
    return inside(lib, lambda: lib.tensor(list(values) or [1.0, 2.0, 3.0]))


def made_leaf(lib: Any) -> Any:
    """An inference tensor that requires grad."""
    return inside(lib, lambda: leaf(lib))


def made_layer(lib: Any) -> Any:
    """A layer whose parameters are inference tensors."""
    return inside(lib, lambda: lib.nn.Linear(3, 2))


def kinds(*tensors: Any) -> list[bool]:
    """Which of the tensors are inference tensors."""
    return [bool(x.is_inference()) for x in tensors]


def views(x: Any) -> list[Any]:
    """Every way to see the memory of a vector of three."""
    return [x[:2], x.detach(), x.view(3), x.data, x.contiguous(), x.expand(2, 3), *x.split(2), x.unbind()[0]]


def product(lib: Any) -> Any:
    """A custom function that saves its second argument."""

    class Product(lib.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any) -> Any:
            ctx.save_for_backward(weight)
            return x * weight

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return grad * ctx.saved_tensors[0], None

    return Product


def gradient(x: Any, y: Any, start: Any = None) -> Any:
    """The gradient of `x` after the backward pass of `y`."""
    y.backward(y.detach() * 0 + 1 if start is None else start)
    return x.grad


def matrix(lib: Any) -> Any:
    """A 2x3 matrix that requires grad."""
    return lib.ones(2, 3, requires_grad=True)


def saved_on_cpu(lib: Any) -> Any:
    """A product whose saved tensors pass hooks."""
    with lib.autograd.graph.save_on_cpu():
        return leaf(lib) * made(lib)


MADE = [
    Row("a new tensor", True, lambda lib: lib.is_inference(made(lib))),
    Row("an ordinary tensor", False, lambda lib: lib.is_inference(lib.ones(3))),
    Row("a leaf", True, lambda lib: made_leaf(lib).is_inference()),
    Row("a leaf requires grad", True, lambda lib: made_leaf(lib).requires_grad),
    Row("a range", [True], lambda lib: inside(lib, lambda: kinds(lib.arange(3)))),
    Row("random numbers", [True] * 2, lambda lib: inside(lib, lambda: kinds(lib.rand(2), lib.randperm(3)))),
    Row("memory of NumPy", [True], lambda lib: inside(lib, lambda: kinds(lib.from_numpy(np.ones(2))))),
    Row("a Parameter", [True], lambda lib: inside(lib, lambda: kinds(lib.nn.Parameter(lib.ones(2))))),
    Row("in no_grad inside", [True], lambda lib: inside(lib, lambda: quiet(lib, lambda: kinds(lib.ones(2))))),
    Row("views outside", [True] * 9, lambda lib: kinds(*views(made(lib)))),
    Row("detach_", [True], lambda lib: kinds(made_leaf(lib).detach_())),
    Row("a result outside", [False], lambda lib: kinds(made(lib) * 2)),
    Row("a clone outside", [False], lambda lib: kinds(made(lib).clone())),
    Row("a copy of another dtype", [False], lambda lib: kinds(made(lib).double())),
    Row("cat outside", [False], lambda lib: kinds(lib.cat([made(lib), made(lib)]))),
    Row("empty_like outside", [False], lambda lib: kinds(lib.empty_like(made(lib)))),
    Row("memory lent to NumPy", [False], lambda lib: kinds(lib.from_numpy(made(lib).numpy()))),
    Row("its text", "tensor([1., 2., 3.])", lambda lib: repr(made(lib))),
]

WRITTEN = [
    Row("add_", WRITE, lambda lib: made(lib).add_(1)),
    Row("add_ in no_grad", WRITE, lambda lib: quiet(lib, lambda: made(lib).add_(1))),
    Row("add_ to a leaf", WRITE, lambda lib: quiet(lib, lambda: made_leaf(lib).add_(1))),
    Row("add_ to a view", WRITE, lambda lib: made(lib)[:2].add_(1)),
    Row("copy_", WRITE, lambda lib: made(lib).copy_(lib.ones(3))),
    Row("fill_", WRITE, lambda lib: made(lib).fill_(1.0)),
    Row("zero_", WRITE, lambda lib: made(lib).zero_()),
    Row("normal_", WRITE, lambda lib: made(lib).normal_()),
    Row("an item", WRITE, lambda lib: made(lib).__setitem__(0, 1.0)),
    Row("a mask", WRITE, lambda lib: made(lib).__setitem__(lib.tensor([True, False, True]), 1.0)),
    Row("unsqueeze_", WRITE, lambda lib: made(lib).unsqueeze_(0)),
    Row("out=", WRITE, lambda lib: lib.add(lib.ones(3), 1, out=made(lib))),
    Row("out= that grows", WRITE, lambda lib: lib.add(lib.ones(3), 1, out=made(lib)[:0])),
    Row("a clone", [2.0, 3.0, 4.0], lambda lib: made(lib).clone().add_(1).tolist()),
    Row("another tensor from it", [1.0, 2.0, 3.0], lambda lib: lib.zeros(3).copy_(made(lib)).tolist()),
    Row("through .data", [2.0, 3.0, 4.0], lambda lib: made(lib).data.add_(1).tolist()),
    Row("its version", VERSION, lambda lib: made(lib)._version),
    Row("its version inside", VERSION, lambda lib: inside(lib, lambda: lib.ones(2)._version)),
]

ASKED = [
    Row("requires_grad_", ASK, lambda lib: made(lib).requires_grad_()),
    Row("requires_grad = True", ASK, lambda lib: setattr(made(lib), "requires_grad", True)),
    Row("requires_grad_ of a leaf", ASK, lambda lib: made_leaf(lib).requires_grad_()),
    Row("requires_grad_(False)", False, lambda lib: made_leaf(lib).requires_grad_(False).requires_grad),
    Row("requires_grad_ inside", True, lambda lib: made_leaf(lib).requires_grad),
    Row("a Parameter", ASK, lambda lib: lib.nn.Parameter(made(lib))),
    Row("a Parameter of a clone", [False], lambda lib: kinds(lib.nn.Parameter(made(lib).clone()))),
]

SAVED = [
    Row("a factor", SAVE, lambda lib: leaf(lib) * made(lib)),
    Row("a factor in place", SAVE, lambda lib: (leaf(lib) * 1).mul_(made(lib))),
    Row("a matrix product", SAVE, lambda lib: matrix(lib) @ made(lib)),
    Row("a condition", SAVE, lambda lib: lib.where(made(lib, True, False, True), leaf(lib), 0.0)),
    Row("a mask", SAVE, lambda lib: leaf(lib).masked_fill(made(lib, True, False, True), 0.0)),
    Row("a target", SAVE, lambda lib: lib.nn.functional.mse_loss(leaf(lib), made(lib))),
    Row("the input of linear", SAVE, lambda lib: lib.nn.functional.linear(made(lib), matrix(lib))),
    Row(
        "the input of layer_norm", SAVE, lambda lib: lib.nn.functional.layer_norm(made(lib), (3,), leaf(lib))
    ),
    Row("save_for_backward", SAVE, lambda lib: product(lib).apply(leaf(lib), made(lib))),
    Row("beside hooks", SAVE, saved_on_cpu),
    Row("a summand", True, lambda lib: (leaf(lib) + made(lib)).requires_grad),
    Row("a part of cat", True, lambda lib: lib.cat([leaf(lib), made(lib)]).requires_grad),
    Row("no graph", False, lambda lib: (lib.ones(3) * made(lib)).requires_grad),
    Row("no_grad", False, lambda lib: quiet(lib, lambda: (leaf(lib) * made(lib)).requires_grad)),
    Row("a leaf times a number", [2.0] * 3, lambda lib: gradient(x := made_leaf(lib), x * 2).tolist()),
    Row("gradient=", [2.0, 4.0, 6.0], lambda lib: gradient(x := leaf(lib), x * 2, made(lib)).tolist()),
    Row("a layer made inside", True, lambda lib: made_layer(lib)(lib.ones(1, 3)).requires_grad),
]

FALLOUT = [
    Row("pickle", [False], lambda lib: kinds(pickle.loads(pickle.dumps(made(lib))))),
    Row("deepcopy", [False], lambda lib: kinds(copy.deepcopy(made_leaf(lib)))),
    Row("deepcopy requires grad", True, lambda lib: copy.deepcopy(made_leaf(lib)).requires_grad),
    Row("deepcopy of a layer", [False], lambda lib: kinds(copy.deepcopy(made_layer(lib)).weight)),
    Row("a layer in double", [False], lambda lib: kinds(made_layer(lib).double().weight)),
    Row(
        "a layer used in no_grad",
        [False],
        lambda lib: quiet(lib, lambda: kinds(made_layer(lib)(lib.ones(1, 3)))),
    ),
    Row(
        "load_state_dict into a layer",
        Refused("Inplace update|Error.* in loading state_dict"),
        lambda lib: made_layer(lib).load_state_dict(lib.nn.Linear(3, 2).state_dict()),
    ),
    Row(
        "load_state_dict from a layer",
        "<All keys matched successfully>",
        lambda lib: repr(lib.nn.Linear(3, 2).load_state_dict(made_layer(lib).state_dict())),
    ),
    Row(
        "func.grad",
        [2.0, 4.0, 6.0],
        lambda lib: lib.func.grad(lambda x: (x * x).sum())(made(lib)).tolist(),
    ),
    Row(
        "func.grad inside",
        [2.0, 4.0, 6.0],
        lambda lib: inside(
            lib, lambda: lib.func.grad(lambda x: (x * x).sum())(lib.tensor([1.0, 2.0, 3.0])).tolist()
        ),
    ),
]


@both
@pytest.mark.parametrize("row", [*MADE, *WRITTEN, *ASKED, *SAVED, *FALLOUT], ids=lambda row: row.id)
def test_what_becomes_of_an_inference_tensor(lib: Any, row: Row) -> None:
    if isinstance(row.expected, Refused):
        with pytest.raises(RuntimeError, match=row.expected.text):
            row.case(lib)
    else:
        assert row.case(lib) == row.expected
    assert lib.is_grad_enabled() and not lib.is_inference_mode_enabled()


def test_a_refusal_says_what_to_do_and_changes_nothing() -> None:
    x, y = made(firesteel), leaf(firesteel) * 1
    with pytest.raises(RuntimeError, match=r"add_: .*\(shape \[3\]\); clone\(\) it to get a normal tensor"):
        x.add_(1)
    with pytest.raises(RuntimeError, match=r"mul: .*\(shape \[3\]\)\. To work around this.* clone\(\)"):
        y.mul_(x)
    assert x.tolist() == y.tolist() == [1.0, 2.0, 3.0] and y._version == 0
    assert y.grad_fn is not None and y.grad_fn.name() == "MulBackward0"


@both
def test_ordinary_tensors_inside(lib: Any) -> None:
    x, y, empty = leaf(lib), lib.ones(3), lib.empty(0)
    with lib.inference_mode():
        assert kinds(*views(x)) == [False] * 9
        assert kinds(x * 2, x.clone()) == [True, True] and not (x * 2).requires_grad
        x.add_(1)
        y.unsqueeze_(0).squeeze_(0)
        lib.add(x, 1, out=y)
        lib.add(x, 1, out=empty)
        assert kinds(lib.nn.Parameter(y.detach())) == [False]
    assert x.tolist() == [2.0, 3.0, 4.0] and x._version == 1
    assert kinds(x, y, empty) == [False] * 3 and y.tolist() == empty.tolist() == [3.0, 4.0, 5.0]
    assert gradient(x, x * y).tolist() == [3.0, 4.0, 5.0]


@both
def test_inference_tensors_are_written_inside(lib: Any) -> None:
    x, p = made(lib), made_leaf(lib)
    with lib.inference_mode():
        x.add_(1)
        p.mul_(2)
        x[0] = 0.0
        x.unsqueeze_(0)
    assert kinds(x, p) == [True, True]
    assert x.tolist() == [[0.0, 3.0, 4.0]] and p.tolist() == [2.0, 4.0, 6.0]


@both
def test_modes_inside_of_each_other(lib: Any) -> None:
    x = leaf(lib)
    with lib.inference_mode():
        with lib.enable_grad():  # records nothing
            y = x * 2
            assert lib.is_grad_enabled() and y.is_inference() and not y.requires_grad
        with lib.inference_mode(False):
            y = x * x
            assert y.requires_grad and not y.is_inference() and not lib.is_inference_mode_enabled()
        lib.set_grad_enabled(True)
    assert lib.is_grad_enabled() and not lib.is_inference_mode_enabled()
    with lib.no_grad():
        with lib.inference_mode(False):
            assert lib.is_grad_enabled()
        with lib.inference_mode():
            pass
        assert not lib.is_grad_enabled()
    assert gradient(x, y).tolist() == [2.0, 4.0, 6.0]


@both
def test_the_mode_is_of_the_thread(lib: Any) -> None:
    seen: list[bool] = []
    thread = threading.Thread(
        target=lambda: seen.extend((*kinds(lib.ones(1)), lib.is_inference_mode_enabled()))
    )
    with lib.inference_mode():
        thread.start()
        thread.join()
    assert seen == [False, False]


@both
def test_backward_inside(lib: Any) -> None:
    x = leaf(lib)
    y = (x * x).sum()
    with lib.inference_mode():
        y.backward(retain_graph=True)
    assert x.grad.tolist() == [2.0, 4.0, 6.0] and kinds(x.grad) == [True]
    with pytest.raises(RuntimeError, match=WRITE.text):  # `.grad` would be added to in place
        y.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=WRITE.text):
        lib.optim.SGD([x], lr=0.1).zero_grad(set_to_none=False)
    x.grad = None
    y.backward()
    assert kinds(x.grad) == [False]


@both
def test_data_takes_the_kind_along(lib: Any) -> None:
    x, y = lib.ones(3), made(lib)
    x.data, y.data = y, lib.zeros(3)
    assert kinds(x, y) == [True, False]


@both
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_optimizers_of_inference_tensors(lib: Any, name: str) -> None:
    parameter = made_leaf(lib)
    parameter.grad = lib.ones(3)
    with pytest.raises(RuntimeError, match=WRITE.text):
        getattr(lib.optim, name)([parameter], lr=0.1).step()
    if lib is firesteel:  # PyTorch has written by then
        assert parameter.tolist() == [1.0, 2.0, 3.0]
    # The state that a first step made inside belongs there.
    x = leaf(lib)
    optimizer = getattr(lib.optim, name)([x], lr=0.1, **({"momentum": 0.9} if name == "SGD" else {}))
    x.grad = lib.ones(3)
    with lib.inference_mode():
        optimizer.step()
    with pytest.raises(RuntimeError, match=WRITE.text):
        optimizer.step()


@both
def test_files_and_loaders(lib: Any) -> None:
    file = io.BytesIO()
    lib.save({"made": made(lib)}, file)
    file.seek(0)
    assert kinds(lib.load(file)["made"]) == [False]
    file.seek(0)
    assert inside(lib, lambda: kinds(lib.load(file)["made"])) == [True]
    for data, is_inside, expected in [(made(lib), False, False), (lib.ones(3), True, True)]:
        loader = lib.utils.data.DataLoader(lib.utils.data.TensorDataset(data), batch_size=2)
        with lib.inference_mode(is_inside):
            assert kinds(*(batch for (batch,) in loader)) == [expected] * 2


def test_what_pytorch_does_not_record_or_refuses() -> None:
    # An operation on inference tensors alone: PyTorch records none, and says nothing.
    x = made_leaf(firesteel)
    assert gradient(x, x.exp()).tolist() == pytest.approx([2.718281828, 7.389056099, 20.08553692])
    with pytest.raises(RuntimeError, match=SAVE.text):
        x * x
    # Indices: operations keep copies of their own.
    x, index = leaf(firesteel), made(firesteel, 0, 1)
    assert gradient(x, x[index]).tolist() == [1.0, 1.0, 0.0]
    assert gradient(x, x.gather(0, index)).tolist() == [2.0, 2.0, 0.0]
    loss = firesteel.nn.functional.cross_entropy(matrix(firesteel), index)
    loss.backward()

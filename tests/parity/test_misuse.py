"""Every misuse in the table raises what PyTorch raises, says what to do, and leaves the tensors alone."""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import Any

import pytest

import firesteel
import firesteel.utils.checkpoint
from libraries import parity
from misuse_cases import TABLE, Misuse
from tensors import torch

if torch is not None:
    import torch.utils.checkpoint

# PyTorch warns of what its own forward mode does.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
rows = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)
# What a text says to do begins with one of these.
WAY_OUT = (
    r"\b([Uu]se|call|pass|give|make|[Ss]et|convert|wrap|clone|return|Specify|assign|sum|leave|reduce|change|keep|"
    r"save|name|put|take|[Dd]efine|add|remove|map|stack|Delete|compute|begin|argnums=0|None stands for|only implement|"
    r"called by|mark only|must (all be|be|do|have|equal))\b"
)


def state(tensor: Any) -> tuple[Any, ...]:
    """All of a tensor that a failed call must leave alone."""
    if torch is not None and isinstance(tensor, torch.Tensor):
        return ()  # what PyTorch leaves alone is its own affair
    grad = tensor.grad if tensor.is_leaf else None
    return (
        tensor.detach().tolist(),
        tuple(tensor.shape),
        str(tensor.dtype),
        None if tensor.is_inference() else tensor._version,
        tensor.requires_grad,
        tensor.is_leaf,
        tensor.grad_fn and tensor.grad_fn.name(),
        None if grad is None else grad.tolist(),
    )


def raised(lib: Any, row: Misuse) -> tuple[BaseException | None, list[Any], list[Any]]:
    """What the misuse raises, and the state of its tensors before and after."""
    *made, misuse = row.case(lib)
    tensors = [item for item in made if isinstance(item, lib.Tensor)]
    before, error = [state(tensor) for tensor in tensors], None
    try:
        misuse()
    except Exception as caught:
        error = caught
    return error, before, [state(tensor) for tensor in tensors]


@rows
def test_the_class_and_the_text(row: Misuse) -> None:
    error, before, after = raised(firesteel, row)
    assert isinstance(error, row.error), f"{type(error).__name__}: {error}"
    assert re.search(row.text, str(error), re.DOTALL), str(error)
    assert before == after
    assert firesteel.is_grad_enabled()


@parity
@pytest.mark.parametrize(
    "row", [row for row in TABLE if "ours" not in row.tags.split()], ids=lambda row: row.id
)
def test_pytorch_raises_that_class(row: Misuse) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        error, _, _ = raised(torch, row)
    # Its own subclasses of RuntimeError and the like have no name here.
    assert isinstance(error, row.error), f"{type(error).__name__}: {error}"


@cache
def texts() -> dict[str, str]:
    """What each row's misuse says, by its id."""
    return {row.id: str(raised(firesteel, row)[0]) for row in TABLE}


@rows
def test_the_row_asks_for_its_own_text_and_the_way_out(row: Misuse) -> None:
    """A pattern that other texts match, too, or that ends before the advice, would let the text decay."""
    others = [other for other in TABLE if other.text != row.text and texts()[other.id] != texts()[row.id]]
    strangers = [other.id for other in others if re.search(row.text, texts()[other.id], re.DOTALL)]
    assert not strangers, f"{row.text!r} is said by {strangers}, too"
    if not {"python", "place"} & {*row.tags.split()}:
        found = re.search(row.text, texts()[row.id], re.DOTALL)
        assert found and re.search(WAY_OUT, found[0]), f"{row.text!r} asks for no way out"


def test_the_table_is_large_and_its_names_are_unique() -> None:
    names = [row.id for row in TABLE]
    assert len(names) >= 200 and len(set(names)) == len(names)

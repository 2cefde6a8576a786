"""Every misuse in the table raises what PyTorch raises, says what to do, and leaves the tensors alone."""

from __future__ import annotations

import re
import warnings
from functools import reduce
from typing import Any

import pytest

import firesteel
from misuse_cases import TABLE, Misuse
from tensors import torch


def has(lib: Any, name: str) -> bool:
    """Whether `lib` has `name`, which may be dotted."""
    missing = object()
    return reduce(lambda owner, part: getattr(owner, part, missing), name.split("."), lib) is not missing


def rows() -> list[Any]:
    found = []
    for row in TABLE:
        needed = [tag.removeprefix("new:") for tag in row.tags.split() if tag.startswith("new:")]
        marks = [
            pytest.mark.skipif(not has(firesteel, name), reason=f"no {name} here yet") for name in needed
        ]
        found.append(pytest.param(row, id=row.id, marks=marks))
    return found


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


@pytest.mark.parametrize("row", rows())
def test_the_class_and_the_text(row: Misuse) -> None:
    error, before, after = raised(firesteel, row)
    assert isinstance(error, row.error), f"{type(error).__name__}: {error}"
    assert re.search(row.text, str(error), re.DOTALL), str(error)
    assert before == after
    assert firesteel.is_grad_enabled()


@pytest.mark.skipif(torch is None, reason="needs PyTorch")
@pytest.mark.parametrize(
    "row", [row for row in TABLE if "ours" not in row.tags.split()], ids=lambda row: row.id
)
def test_pytorch_raises_that_class(row: Misuse) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        error, _, _ = raised(torch, row)
    # Its own subclasses of RuntimeError and the like have no name here.
    assert isinstance(error, row.error), f"{type(error).__name__}: {error}"


def test_the_table_is_large_and_its_names_are_unique() -> None:
    names = [row.id for row in TABLE]
    assert len(names) >= 60 and len(set(names)) == len(names)

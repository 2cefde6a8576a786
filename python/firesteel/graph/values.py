"""Tensors in a few characters: their elements if they are few, else shape and norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firesteel import Tensor

# A tensor of more elements is told by its first ones and its norm.
MOST_ELEMENTS = 12


def value_text(tensor: Tensor | None) -> str:
    """The elements of a small tensor; of a large one shape, norm and first elements."""
    if tensor is None:
        return "nothing"
    values = tensor.detach()
    if values.numel() <= MOST_ELEMENTS:
        return _nested(values.tolist())
    norm = _norm(values)
    first = ", ".join(_number(value) for value in values.reshape(-1)[:4].tolist())
    return f"{tuple(tensor.shape)}, norm {norm:.4g}: [{first}, ...]"


def scalar_text(tensor: Tensor) -> str:
    """The only element of a tensor, or nothing if it has another number of them."""
    return _number(tensor.detach().item()) if tensor.numel() == 1 else ""


def gradient_text(tensor: Tensor) -> str:
    """What `.grad` holds: a number, or shape and norm; nothing while there is none."""
    grad = tensor.grad
    if grad is None:
        return ""
    return f"grad {scalar_text(grad) or f'{tuple(grad.shape)}, norm {_norm(grad.detach()):.3g}'}"


def _norm(values: Tensor) -> float:
    from firesteel.autograd import no_grad

    with no_grad():
        return float(values.double().square().sum().sqrt())


def _nested(values: object) -> str:
    if isinstance(values, list):
        return f"[{', '.join(map(_nested, values))}]"
    return _number(values)


def _number(value: object) -> str:
    if isinstance(value, float):
        short = f"{value:.4g}"
        return short if any(char in short for char in ".en") else f"{short}.0"
    return str(value)

"""Formulas of functions that count as one operation where anomaly mode looks at results."""

from __future__ import annotations

from firesteel._as_one import as_one
from firesteel._core import Tensor, _tied, where


@as_one
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Of a weight that broadcasts: what is not chosen may be infinity times 0."""
    input, weight = _tied(input), _tied(weight)
    return where(input > 0, input, input * weight)


@as_one
def normalize(input: Tensor, p: float, dim: int, eps: float) -> Tensor:
    """The norm may be infinite."""
    return input / input.norm(p, dim, keepdim=True).clamp(min=eps)


@as_one
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int, eps: float) -> Tensor:
    """Of tensors of one shape: the norms may be infinite."""
    norm1 = x1.norm(2, dim, keepdim=True).clamp(min=eps)
    norm2 = x2.norm(2, dim, keepdim=True).clamp(min=eps)
    return ((x1 / norm1) * (x2 / norm2)).sum(dim)


@as_one
def kl_div(input: Tensor, target: Tensor, log_target: bool) -> Tensor:
    """Without reduction: 0 * log(0) counts as 0; a negative target is no probability and gives nan."""
    if log_target:
        return target.exp() * (target - input)
    return where(target == 0, target.new_zeros(()), target * target.log()) - target * input

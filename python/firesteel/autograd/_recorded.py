"""Gradients where some tensors have no history."""

from __future__ import annotations

from collections.abc import Sequence

from firesteel._core import Tensor
from firesteel.autograd import grad


def gradients(
    outputs: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor | None] | None,
    *,
    create_graph: bool,
    retain_graph: bool | None = None,
) -> tuple[Tensor | None, ...]:
    """As `autograd.grad`, leaving out outputs that are None or have no history; None for unused inputs."""
    given = (None,) * len(outputs) if cotangents is None else cotangents
    pairs = [(x, c) for x, c in zip(outputs, given, strict=True) if x is not None and x.requires_grad]
    if not pairs or not inputs:
        return (None,) * len(inputs)
    return grad(
        [x for x, _ in pairs],
        inputs,
        [c for _, c in pairs],
        retain_graph=retain_graph,
        create_graph=create_graph,
        allow_unused=True,
    )

"""Pooling as `nn.functional` spells it, where the core's function of that name returns something else."""

from __future__ import annotations

from typing import Any

from firesteel import _core
from firesteel._core import Tensor


def adaptive_max_pool1d(input: Tensor, output_size: int | tuple[int], return_indices: bool = False) -> Any:
    """The largest elements of windows chosen so that the output has a given length.

    Args:
        input: (N, C, L) or (C, L).
        output_size: length of the output.
        return_indices: whether to return the places of the largest too.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.functional.adaptive_max_pool1d(torch.arange(5.0).view(1, 1, 5), 2)
        tensor([[[2., 4.]]])
    """
    out, indices = _core.adaptive_max_pool1d(input, output_size)
    return (out, indices) if return_indices else out

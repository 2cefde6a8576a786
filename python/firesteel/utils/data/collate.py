"""Collating: many samples become one batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import firesteel
from firesteel._core import Tensor


def default_collate(batch: Sequence[Any]) -> Any:
    """Puts samples together along a new first dimension, through tuples, lists and dicts.

    Args:
        batch: samples of one structure. Tensors of one shape are stacked, NumPy arrays likewise; ints and
            bools become an int64 or bool tensor, floats a float64 tensor; strings stay as they come.

    Returns:
        The same structure with batches in place of the samples (a tuple becomes a list, as in PyTorch).

    Raises:
        TypeError: if a sample has a type that cannot be put together.
        RuntimeError: if samples differ in shape or length.

    Example:
        >>> default_collate([(1, "a"), (2, "b")])
        [tensor([1, 2]), ('a', 'b')]
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return firesteel.stack(list(batch), 0)
    if isinstance(first, str | bytes):  # NumPy's strings too
        return batch
    if type(first).__module__ == "numpy":
        return _collate_numpy(batch)
    if isinstance(first, float):
        return firesteel.tensor(batch, dtype=firesteel.float64)
    if isinstance(first, int):
        return firesteel.tensor(batch)
    if isinstance(first, Mapping):
        return _rebuild_mapping(
            first, {key: default_collate([sample[key] for sample in batch]) for key in first}
        )
    if isinstance(first, Sequence):
        lengths = sorted({len(sample) for sample in batch})
        if len(lengths) > 1:
            raise RuntimeError(f"default_collate: the samples of a batch have different lengths: {lengths}")
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        return _rebuild_sequence(first, columns)
    raise TypeError(
        f"default_collate: cannot put samples of type {type(first).__name__} together; give tensors, "
        "numbers, strings, tuples, lists or dicts, or pass a collate_fn"
    )


def default_convert(sample: Any) -> Any:
    """Turns the NumPy arrays of a single sample into tensors and leaves everything else as it is.

    Args:
        sample: what the dataset returned, when batching is off (``batch_size=None``).

    Example:
        >>> default_convert({"x": 1})
        {'x': 1}
    """
    if isinstance(sample, Tensor | str | bytes):
        return sample
    if type(sample).__module__ == "numpy":
        return sample if _is_text_array(sample) else firesteel.as_tensor(sample)
    if isinstance(sample, Mapping):
        return _rebuild_mapping(sample, {key: default_convert(value) for key, value in sample.items()})
    if isinstance(sample, Sequence):
        return _rebuild_sequence(sample, [default_convert(value) for value in sample])
    return sample


def _collate_numpy(batch: Sequence[Any]) -> Any:
    if _is_text_array(batch[0]):
        raise TypeError(f"default_collate: a NumPy array of dtype {batch[0].dtype} cannot become a tensor")
    return firesteel.stack([firesteel.as_tensor(array) for array in batch], 0)


def _is_text_array(value: Any) -> bool:
    return getattr(value, "dtype", None) is not None and value.dtype.kind in "SUO"


def _rebuild_mapping(example: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    """Keeps the mapping's type, and what it holds beside its items, as a defaultdict's default."""
    if type(example) is dict:
        return items
    try:
        if isinstance(example, MutableMapping):
            filled = copy.copy(example)
            filled.update(items)
            return filled
        return type(example)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def _rebuild_sequence(example: Sequence[Any], items: list[Any]) -> Any:
    """Keeps the sequence's type if it can be made from its items (``range`` and the like cannot)."""
    if isinstance(example, tuple):
        return type(example)(*items) if hasattr(example, "_fields") else items
    if type(example) is list:
        return items
    try:
        if isinstance(example, MutableSequence):
            filled = copy.copy(example)
            filled[:] = items
            return filled
        return type(example)(items)  # type: ignore[call-arg]
    except TypeError:
        return items

"""Reading: from a list of indices to a collated batch, the short way where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import firesteel

from .collate import default_collate
from .dataset import Dataset, Subset, TensorDataset

Indices = list[Any]


def batch_reader(dataset: Dataset[Any], collate: Callable[[Any], Any]) -> Callable[[Indices], Any]:
    """Returns the function that reads the samples at a list of indices and puts them together.

    Args:
        dataset: a dataset that can be indexed.
        collate: makes a batch of a list of samples.
    """

    def samples(indices: Indices) -> Any:
        read_many = getattr(dataset, "__getitems__", None)
        return read_many(indices) if callable(read_many) else [dataset[i] for i in indices]

    read_samples = without_stop_iteration(dataset, samples)

    def read(indices: Indices) -> Any:
        return collate(read_samples(indices))

    rows = _row_reader(dataset) if collate is default_collate else None
    if rows is None:
        return read

    def read_rows(indices: Indices) -> Any:
        # Samplers may yield anything that indexes a tensor; the short way is for plain numbers.
        return rows(indices) if all(type(i) is int for i in indices) else read(indices)

    return read_rows


def without_stop_iteration(dataset: Dataset[Any], read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns `read` with StopIteration as an error: it would end the epoch and lose the rest unseen."""

    def checked(key: Any) -> Any:
        try:
            return read(key)
        except StopIteration as error:
            raise RuntimeError(
                f"DataLoader: {type(dataset).__name__} raised StopIteration for {key}; "
                "raise IndexError where there is no such sample"
            ) from error

    return checked


def _row_reader(dataset: Dataset[Any]) -> Callable[[Indices], Any] | None:
    """Returns the short way to a batch of tensor rows, if the dataset is nothing but tensors.

    One indexing per tensor gives what stacking its rows gives, without a call per sample. A
    subclass that has its own ``__getitem__`` is read the long way.
    """
    if type(dataset) is Subset:
        inner, positions = _row_reader(dataset.dataset), dataset.indices
        if inner is None or not isinstance(positions, list | range):
            return None
        return lambda indices: inner([positions[i] for i in indices])
    if type(dataset).__getitem__ is TensorDataset.__getitem__ and not hasattr(dataset, "__getitems__"):
        tensors = dataset.tensors  # type: ignore[attr-defined]

        def rows(indices: Indices) -> Any:
            index = firesteel.tensor(indices, dtype=firesteel.int64)
            return [tensor[index] for tensor in tensors]

        return rows
    return None

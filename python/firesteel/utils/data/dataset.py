"""Datasets: what can be indexed (:class:`Dataset`) or only iterated (:class:`IterableDataset`)."""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import firesteel
from firesteel._core import Generator, Tensor

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Dataset(Generic[T_co]):
    """Samples that are found by an index.

    Subclasses define ``__getitem__`` and, for most samplers, ``__len__``. A subclass may also define
    ``__getitems__(indices)``, which returns a list of samples and is asked once per batch.

    Example:
        >>> class Squares(Dataset):
        ...     def __len__(self):
        ...         return 10
        ...     def __getitem__(self, index):
        ...         return index * index
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Samples that come one after the other, such as lines of a stream. Subclasses define ``__iter__``."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def __add__(self, other: Dataset[T_co]) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Tensors of the same first size; sample ``i`` is the tuple of their rows ``i``.

    Args:
        tensors: tensors whose size in dimension 0 is the number of samples.

    Raises:
        AssertionError: if the first sizes differ.

    Example:
        >>> import firesteel
        >>> TensorDataset(firesteel.arange(3), firesteel.arange(3) * 10)[2]
        (tensor(2), tensor(20))
    """

    tensors: tuple[Tensor, ...]

    def __init__(self, *tensors: Tensor) -> None:
        sizes = [tensor.size(0) for tensor in tensors]
        if len(set(sizes)) > 1:
            raise AssertionError(
                f"TensorDataset: Size mismatch between tensors: the first sizes are {sizes}; they must "
                "agree, as each row is one sample"
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return int(self.tensors[0].size(0))


class StackDataset(Dataset[Any]):
    """Datasets of one length side by side; sample ``i`` is the tuple, or the dict, of their samples ``i``.

    Args:
        args: datasets, for samples that are tuples.
        kwargs: datasets by name, for samples that are dicts.

    Raises:
        ValueError: if the lengths differ, there is no dataset, or there are both kinds of arguments.

    Example:
        >>> StackDataset(x=range(3), y="abc")[1]
        {'x': 1, 'y': 'b'}
    """

    datasets: tuple[Any, ...] | dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError("StackDataset: give datasets either by position or by name, and at least one")
        self.datasets = args or kwargs
        lengths = [len(dataset) for dataset in (args or kwargs.values())]
        if len(set(lengths)) != 1:
            raise ValueError(f"StackDataset: Size mismatch between datasets: {lengths}")
        self._length = lengths[0]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[T_co]):
    """Several datasets, one after the other.

    Args:
        datasets: at least one dataset with a length.

    Raises:
        AssertionError: if there is no dataset.
        TypeError: if one is an :class:`IterableDataset`; use :class:`ChainDataset` for those.
    """

    datasets: list[Dataset[T_co]]
    cumulative_sizes: list[int]

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("ConcatDataset: datasets should not be empty; give at least one")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise TypeError("ConcatDataset: an IterableDataset cannot be indexed; use ChainDataset")
        self.cumulative_sizes = list(itertools.accumulate(len(d) for d in self.datasets))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T_co:
        position = index + len(self) if index < 0 else index
        if position < 0:
            raise ValueError(
                f"ConcatDataset: absolute value of index {index} should not exceed the length, {len(self)}"
            )
        if position >= len(self):
            raise IndexError(f"ConcatDataset: index {index} is out of range for {len(self)} samples")
        which = bisect.bisect_right(self.cumulative_sizes, position)
        start = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][position - start]


class ChainDataset(IterableDataset[Any]):
    """Several iterable datasets, one after the other.

    Args:
        datasets: the :class:`IterableDataset` objects, opened only when their turn comes.
    """

    def __init__(self, datasets: Iterable[Dataset[Any]]) -> None:
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise TypeError(f"ChainDataset: {type(dataset).__name__} is not an IterableDataset")
            yield from dataset

    def __len__(self) -> int:
        lengths: list[int] = [len(dataset) for dataset in self.datasets]  # type: ignore[arg-type]
        return sum(lengths)


class Subset(Dataset[T_co]):
    """The samples of a dataset at the given indices.

    Args:
        dataset: the whole dataset.
        indices: positions in ``dataset``, in the order in which the subset shows them.
    """

    dataset: Dataset[T_co]
    indices: Sequence[int]

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[T_co]:
        chosen = [self.indices[i] for i in indices]
        read_many = getattr(self.dataset, "__getitems__", None)
        return read_many(chosen) if callable(read_many) else [self.dataset[i] for i in chosen]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(
    dataset: Dataset[T], lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset[T]]:
    """Splits a dataset at random into parts that share no sample.

    Args:
        dataset: a dataset with a length.
        lengths: sizes that add up to ``len(dataset)``, or fractions that add up to 1. Of fractions, the
            samples that rounding down leaves over go one each to the first parts.
        generator: source of randomness; the same seed gives the same split as in PyTorch.

    Raises:
        ValueError: if the sizes do not add up, or a fraction is not between 0 and 1.

    Example:
        >>> import firesteel
        >>> parts = random_split(range(10), [0.75, 0.25], generator=firesteel.Generator().manual_seed(0))
        >>> [len(part) for part in parts]
        [8, 2]
    """
    total = len(dataset)  # type: ignore[arg-type]
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        sizes = _sizes_of_fractions(total, lengths)
    else:
        # NumPy's integers are integers, too.
        sizes = [int(length) for length in lengths if length == int(length)]
    if sum(sizes) != total or len(sizes) != len(lengths):
        raise ValueError(
            f"random_split: lengths {list(lengths)} must add up to the {total} samples of the dataset or to 1"
        )
    order = firesteel.randperm(total, generator=generator).tolist()
    ends = itertools.accumulate(sizes)
    return [Subset(dataset, order[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def _sizes_of_fractions(total: int, fractions: Sequence[float]) -> list[int]:
    for i, fraction in enumerate(fractions):
        if not 0 <= fraction <= 1:
            raise ValueError(f"random_split: fraction {fraction} at position {i} is not between 0 and 1")
    sizes = [math.floor(total * fraction) for fraction in fractions]
    for i in range(total - sum(sizes)):
        sizes[i % len(sizes)] += 1
    for i, size in enumerate(sizes):
        if size == 0:
            warnings.warn(f"random_split: part {i} of {total} samples is empty", stacklevel=3)
    return sizes

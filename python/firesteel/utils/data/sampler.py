"""Samplers: the order in which a dataset is read. Same seed, same order as PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import firesteel
from firesteel._core import Generator

T_co = TypeVar("T_co", covariant=True)

# Draws with replacement are made in blocks of this size, so that the order is PyTorch's.
_DRAWS_PER_BLOCK = 32


class Sampler(Generic[T_co]):
    """Anything that yields indices (or lists of them) when iterated. Subclasses define ``__iter__``."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


class SequentialSampler(Sampler[int]):
    """Yields 0, 1, 2, ... up to the length of the dataset.

    Args:
        data_source: anything with a length.
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Yields the indices of the dataset in random order.

    Args:
        data_source: anything with a length.
        replacement: draw each index anew, so that some come twice and some never.
        num_samples: how many indices to yield; by default the length of the dataset. Without replacement,
            more than the length means several permutations in a row.
        generator: source of randomness; by default one that is seeded from the default generator, once
            per iteration.

    Raises:
        ValueError: if ``num_samples`` is not positive, or is left out and the dataset is empty.
        TypeError: if ``replacement`` is not a bool.

    Example:
        >>> import firesteel
        >>> sorted(RandomSampler(range(4)))
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        if not isinstance(replacement, bool):
            raise TypeError(f"RandomSampler: replacement must be a bool, not {replacement!r}")
        if num_samples is not None and (not isinstance(num_samples, int) or num_samples <= 0):
            raise ValueError(f"RandomSampler: num_samples must be a positive integer, not {num_samples!r}")
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator
        if self.num_samples == 0:
            raise ValueError(
                "RandomSampler: num_samples should be a positive integer value, but got num_samples=0: "
                "the dataset is empty; leave out shuffle, or give num_samples"
            )

    @property
    def num_samples(self) -> int:
        """How many indices one iteration yields."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        generator = self.generator
        if generator is None:
            generator = Generator()
            generator.manual_seed(draw_seed(None))
        draw = self._with_replacement if self.replacement else self._without_replacement
        yield from draw(len(self.data_source), generator)

    def _with_replacement(self, n: int, generator: Generator) -> Iterator[int]:
        for start in range(0, self.num_samples, _DRAWS_PER_BLOCK):
            count = min(_DRAWS_PER_BLOCK, self.num_samples - start)
            yield from firesteel.randint(n, (count,), dtype=firesteel.int64, generator=generator).tolist()

    def _without_replacement(self, n: int, generator: Generator) -> Iterator[int]:
        whole, rest = divmod(self.num_samples, n) if n else (0, 0)
        for _ in range(whole):
            yield from firesteel.randperm(n, generator=generator).tolist()
        # The last permutation is drawn even when nothing is left to take from it: PyTorch draws it too.
        yield from firesteel.randperm(n, generator=generator).tolist()[:rest]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """Yields the given indices in random order.

    Args:
        indices: the indices to choose from.
        generator: source of randomness; by default the default generator.
    """

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for i in firesteel.randperm(len(self.indices), generator=self.generator).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class BatchSampler(Sampler[list[int]]):
    """Yields lists of indices taken from another sampler.

    Args:
        sampler: where the indices come from.
        batch_size: indices per list.
        drop_last: leave out the last list when it is shorter.

    Raises:
        ValueError: if ``batch_size`` is not a positive integer or ``drop_last`` not a bool.

    Example:
        >>> list(BatchSampler(range(5), batch_size=2, drop_last=False))
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise ValueError(f"BatchSampler: batch_size must be a positive integer, not {batch_size!r}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"BatchSampler: drop_last must be a bool, not {drop_last!r}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield batch

    def __len__(self) -> int:
        samples: Any = self.sampler
        whole, rest = divmod(len(samples), self.batch_size)
        return whole if self.drop_last or rest == 0 else whole + 1


def draw_seed(generator: Generator | None) -> int:
    """Draws a 63-bit seed, advancing the generator exactly as PyTorch does."""
    return int(firesteel.empty((), dtype=firesteel.int64).random_(generator=generator).item())

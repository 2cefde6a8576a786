"""The loader: reads a dataset in the order of a sampler and yields batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from firesteel._core import Generator

from .collate import default_collate, default_convert
from .dataset import Dataset, IterableDataset
from .fetch import batch_reader, without_stop_iteration
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, draw_seed

T_co = TypeVar("T_co", covariant=True)

_FIXED = frozenset({"batch_sampler", "batch_size", "dataset", "drop_last", "persistent_workers", "sampler"})


class DataLoader(Generic[T_co]):
    """Iterates over a dataset in batches.

    With the same seed the batches are those of PyTorch, in the same order. So is what a dataset draws with
    Firesteel in workers: each has a default generator of its own, which the seed determines. `random` and
    `numpy.random` have one state for the whole program. Workers share it with the main thread, in the order
    in which they happen to run, and `random.seed` in `worker_init_fn` seeds it for all. For numbers that
    repeat draw with `firesteel.rand` and `firesteel.randint`, or read with ``num_workers=0``.

    Args:
        dataset: what to read: a :class:`Dataset` or an :class:`IterableDataset`.
        batch_size: samples per batch; None turns batching off and yields single samples.
        shuffle: read in a new random order every time.
        sampler: the order of the indices, instead of ``shuffle``.
        batch_sampler: lists of indices, instead of ``batch_size``, ``shuffle``, ``sampler``, ``drop_last``.
        num_workers: 0 reads in the loop itself; more reads ahead in that many background threads. They keep
            the order, share this process's memory, and overlap wherever a dataset waits or computes
            without Python's lock. Batch i is read by worker i modulo ``num_workers``, whose default
            generator is seeded with the loader's seed plus its number. An :class:`IterableDataset` is read
            by one. Python's exit does not wait for them.
        collate_fn: makes a batch of a list of samples (default :func:`default_collate`).
        pin_memory: accepted for compatibility; without effect on CPUs.
        drop_last: leave out the last batch when it is shorter.
        timeout: seconds to wait for a batch from the workers; 0 waits forever.
        worker_init_fn: called with the worker's number in each worker before it reads.
        multiprocessing_context: accepted for compatibility; workers are threads.
        generator: source of randomness for ``shuffle``; by default the default generator.
        prefetch_factor: batches that each worker reads ahead (default 2).
        persistent_workers: keep the threads from one iteration to the next.

    Raises:
        ValueError: if the arguments contradict each other or are out of range.

    Example:
        >>> import firesteel
        >>> from firesteel.utils.data import TensorDataset
        >>> for (batch,) in DataLoader(TensorDataset(firesteel.arange(5)), batch_size=2):
        ...     print(batch)
        tensor([0, 1])
        tensor([2, 3])
        tensor([4])
    """

    _initialized = False

    def __init__(
        self,
        dataset: Dataset[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        self.dataset = dataset
        self.multiprocessing_context = multiprocessing_context
        self.pin_memory_device = pin_memory_device
        self.in_order = in_order
        self.num_workers = num_workers
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers > 0 else prefetch_factor
        self.pin_memory = pin_memory
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.persistent_workers = persistent_workers
        self._is_iterable = isinstance(dataset, IterableDataset)
        if self._is_iterable:
            _check_iterable_order(shuffle, sampler, batch_sampler)
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "DataLoader: batch_sampler already decides batch_size, shuffle, sampler and drop_last; "
                    "leave those out"
                )
            batch_size, drop_last = None, False
        elif batch_size is None and drop_last:
            raise ValueError(
                "DataLoader: batch_size=None turns batching off, so there is no last batch to drop"
            )
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: the sampler decides the order; leave out shuffle")
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler if sampler is not None else self._default_sampler(shuffle)
        if batch_size is not None and not self._is_iterable:
            batch_sampler = BatchSampler(self.sampler, batch_size, drop_last)
        self.batch_sampler = batch_sampler
        batching = batch_sampler is not None or batch_size is not None
        self.collate_fn: Callable[[Any], Any] = (
            (default_collate if batching else default_convert) if collate_fn is None else collate_fn
        )
        self._kept_iterator: Any = None
        self._initialized = True

    def __setattr__(self, name: str, value: Any) -> None:
        # A change would reach neither the samplers made from it nor a running iterator.
        if self._initialized and name in _FIXED:
            raise ValueError(
                f"{name} attribute should not be set after {type(self).__name__} is initialized; "
                "make a new DataLoader"
            )
        super().__setattr__(name, value)

    def _default_sampler(self, shuffle: bool | None) -> Iterable[Any]:
        if self._is_iterable:
            return itertools.repeat(None)
        if shuffle:
            return RandomSampler(self.dataset, generator=self.generator)  # type: ignore[arg-type]
        return SequentialSampler(self.dataset)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if self.num_workers == 0:
            return _LoopIterator(self)
        from .workers import ThreadedIterator

        if not self.persistent_workers:
            return ThreadedIterator(self)
        if self._kept_iterator is None:
            self._kept_iterator = ThreadedIterator(self)
        else:
            self._kept_iterator.restart()
        return self._kept_iterator  # type: ignore[no-any-return]

    def __len__(self) -> int:
        if self._is_iterable:
            samples = len(self.dataset)  # type: ignore[arg-type]
            if self.batch_size is None:
                return samples
            return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)
        return len(self._index_source())  # type: ignore[arg-type]

    def _index_source(self) -> Iterable[Any]:
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    def _tasks(self) -> Iterator[Any]:
        """Yields what :meth:`_reader` is to be called with, once per batch."""
        return iter(self._index_source())

    def _reader(self) -> Callable[[Any], Any]:
        """Returns the function that makes one batch of one task; it may raise StopIteration."""
        if self._is_iterable:
            return self._iterable_reader()
        if not hasattr(type(self.dataset), "__getitem__"):
            raise TypeError(
                f"DataLoader: a dataset of type '{type(self.dataset).__name__}' cannot be indexed; define "
                "__getitem__ and __len__, or use an IterableDataset"
            )
        if self.batch_sampler is not None:
            return batch_reader(self.dataset, self.collate_fn)
        convert = self.collate_fn
        read = without_stop_iteration(self.dataset, self.dataset.__getitem__)
        return lambda index: convert(read(index))

    def _iterable_reader(self) -> Callable[[Any], Any]:
        samples: Iterator[Any] = iter(self.dataset)
        collate, batch_size = self.collate_fn, self.batch_size
        shortest = batch_size if self.drop_last else 1

        def read(_: Any) -> Any:
            if batch_size is None:
                return collate(next(samples))
            batch = list(itertools.islice(samples, batch_size))
            if len(batch) < (shortest or 1):
                raise StopIteration
            return collate(batch)

        return read


class _LoopIterator:
    """Reads each batch when it is asked for."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        if loader.timeout != 0:
            raise AssertionError(
                f"DataLoader: timeout is {loader.timeout}, which needs num_workers > 0; use 0"
            )
        self._tasks = loader._tasks()
        # PyTorch draws a seed for its workers here even if there are none: drawing it keeps the order equal.
        draw_seed(loader.generator)
        self._read = loader._reader()
        self._length = loader.__len__

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._read(next(self._tasks))

    def __len__(self) -> int:
        return self._length()


def get_worker_info() -> Any:
    """Returns the calling worker's ``id``, ``num_workers``, ``seed`` and ``dataset``; None outside workers.

    Example:
        >>> get_worker_info() is None
        True
    """
    from .workers import current_worker

    return current_worker()


def _check_workers(
    num_workers: int, timeout: float, prefetch_factor: int | None, persistent_workers: bool
) -> None:
    if num_workers < 0:
        raise ValueError(f"DataLoader: num_workers is {num_workers}; 0 means reading in the loop itself")
    if timeout < 0:
        raise ValueError(f"DataLoader: timeout is {timeout} seconds; 0 waits forever")
    if num_workers == 0 and prefetch_factor is not None:
        raise ValueError("DataLoader: prefetch_factor needs num_workers > 0")
    if prefetch_factor is not None and prefetch_factor < 1:
        raise ValueError(f"DataLoader: prefetch_factor is {prefetch_factor}; it must be at least 1")
    if persistent_workers and num_workers == 0:
        raise ValueError("DataLoader: persistent_workers needs num_workers > 0")


def _check_iterable_order(shuffle: bool | None, sampler: object, batch_sampler: object) -> None:
    if shuffle or sampler is not None or batch_sampler is not None:
        raise ValueError(
            "DataLoader: an IterableDataset decides its own order; "
            "leave out shuffle, sampler and batch_sampler"
        )

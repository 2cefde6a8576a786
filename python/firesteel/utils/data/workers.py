"""Background threads that read batches ahead of the loop and hand them over in order."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .sampler import draw_seed

if TYPE_CHECKING:
    from .dataloader import DataLoader

_END = object()
_thread = threading.local()


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker knows about itself; see :func:`~firesteel.utils.data.get_worker_info`."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


def current_worker() -> WorkerInfo | None:
    """Returns the information of the calling worker, None in any other thread."""
    return getattr(_thread, "info", None)


class _Job:
    """What a worker thread runs. It knows nothing of the iterator, so that an abandoned one can go."""

    def __init__(self, loader: DataLoader[Any], seed: int, threads: int) -> None:
        self._numbers = itertools.count()
        self._init = loader.worker_init_fn
        self._describe: Callable[[int], WorkerInfo] = lambda number: WorkerInfo(
            number, threads, seed + number, loader.dataset
        )

    def run(self, read: Callable[[Any], Any], task: Any) -> Any:
        """Reads one batch; the first call in a thread introduces the worker."""
        if getattr(_thread, "info", None) is None:
            _thread.info = self._describe(next(self._numbers))
            if self._init is not None:
                self._init(_thread.info.id)
        try:
            return read(task)
        except StopIteration:
            return _END
        except BaseException as error:
            error.add_note(f"Raised in worker {_thread.info.id} of a DataLoader.")
            raise


class ThreadedIterator:
    """Iterates over a loader's batches while its worker threads read the next ones.

    The threads end when the iterator is exhausted or garbage-collected, or when Python exits.
    With ``persistent_workers`` they wait for :meth:`restart` instead of ending with the batches.

    Args:
        loader: the loader to read for.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        # One iterator cannot be advanced by two threads at once, so a stream is read by one.
        threads = 1 if loader._is_iterable else loader.num_workers
        self._loader = loader
        self._ahead = loader.num_workers * (loader.prefetch_factor or 1)
        self._tasks: Iterator[Any] = loader._tasks()
        self._job = _Job(loader, draw_seed(loader.generator), threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="firesteel-data")
        self._stop = weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        self._pending: deque[Future[Any]] = deque()
        self._read_ahead()

    def restart(self) -> None:
        """Begins a new pass over the dataset, dropping what was read ahead of the old one."""
        self._cancel()
        self._tasks = self._loader._tasks()
        self._read_ahead()

    def _read_ahead(self) -> None:
        self._read = self._loader._reader()
        for _ in range(self._ahead):
            self._submit_next()

    def _submit_next(self) -> None:
        for task in itertools.islice(self._tasks, 1):
            self._pending.append(self._pool.submit(self._job.run, self._read, task))

    def _cancel(self) -> None:
        while self._pending:
            self._pending.pop().cancel()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self) -> Any:
        if not self._pending:
            return self._finish()
        first = self._pending[0]
        try:
            batch = first.result(self._loader.timeout or None)
        except BaseException as error:
            if first.done():
                self._advance()
            elif isinstance(error, TimeoutError):
                seconds = self._loader.timeout
                raise RuntimeError(
                    f"DataLoader: no batch from the workers within {seconds} seconds"
                ) from None
            raise
        self._advance()
        return self._finish() if batch is _END else batch

    def _advance(self) -> None:
        self._pending.popleft()
        self._submit_next()

    def _finish(self) -> Any:
        self._cancel()
        self._tasks = iter(())
        if not self._loader.persistent_workers:
            self._stop()
        raise StopIteration

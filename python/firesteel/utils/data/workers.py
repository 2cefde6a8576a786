"""Background threads that read batches ahead of the loop and hand them over in order."""

from __future__ import annotations

import itertools
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firesteel import _core

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


class _Worker:
    """A thread with a queue of its own.

    It knows nothing of the iterator, so that an abandoned one can go. The thread is a daemon: Python's exit
    does not wait for a sample that is being read.

    Args:
        info: what `get_worker_info` returns in the thread.
        init: the loader's ``worker_init_fn``.
    """

    def __init__(self, info: WorkerInfo, init: Callable[[int], None] | None) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        arguments = (self._queue, info, init)
        name = f"firesteel-data-{info.id}"
        threading.Thread(target=_work, args=arguments, name=name, daemon=True).start()

    def submit(self, read: Callable[[Any], Any], task: Any) -> Future[Any]:
        """Asks for one batch; what is asked first is read first."""
        future: Future[Any] = Future()
        self._queue.put((future, read, task))
        return future

    def stop(self) -> None:
        """Lets the thread end after what it is reading now."""
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        self._queue.put(None)


def _work(tasks: queue.SimpleQueue[Any], info: WorkerInfo, init: Callable[[int], None] | None) -> None:
    """What a worker's thread runs until it is given None."""
    _thread.info = info
    _core._use_thread_generator(info.seed)
    failures = iter(()) if init is None else _failures_of(init, info.id)
    # Nothing of a batch may outlive it here while the thread waits for the next one: hence a function.
    while _serve(tasks.get(), info, next(failures, None)):
        pass


def _serve(item: Any, info: WorkerInfo, failure: BaseException | None) -> bool:
    """Reads one batch, unless the worker could not be initialised; False when it is to end."""
    if item is None:
        return False
    future, read, task = item
    if future.set_running_or_notify_cancel():
        try:
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(read(task))
        except StopIteration:
            future.set_result(_END)
        except BaseException as error:
            error.add_note(f"Raised in worker {info.id} of a DataLoader.")
            future.set_exception(error)
    return True


def _failures_of(init: Callable[[int], None], number: int) -> Iterator[BaseException]:
    """Calls ``worker_init_fn``. A worker that was not initialised must not read: an error for every batch.

    They are different ones, as one that is raised in the loop refers to the iterator, and would keep it.
    """
    try:
        init(number)
        return
    except BaseException as error:
        error.add_note(f"Raised by worker_init_fn in worker {number} of a DataLoader.")
        text = f"{type(error).__name__}: {error}"
        first = [error]
    yield first.pop()
    while True:
        yield RuntimeError(f"DataLoader: worker_init_fn failed in worker {number}: {text}")


def _stop_all(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.stop()


class ThreadedIterator:
    """Iterates over a loader's batches while its worker threads read the next ones.

    Batch i is read by worker i modulo their number, and every worker draws random numbers from a generator of
    its own, so that the same seed gives the same batches. The threads end when the iterator is exhausted or
    garbage-collected; Python's exit does not wait for them. With ``persistent_workers`` they wait for
    :meth:`restart` instead of ending with the batches.

    Args:
        loader: the loader to read for.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        # One iterator cannot be advanced by two threads at once, so a stream is read by one.
        count = 1 if loader._is_iterable else loader.num_workers
        self._loader = loader
        self._ahead = loader.num_workers * (loader.prefetch_factor or 1)
        self._tasks: Iterator[Any] = loader._tasks()
        seed = draw_seed(loader.generator)
        self._workers = [
            _Worker(WorkerInfo(number, count, seed + number, loader.dataset), loader.worker_init_fn)
            for number in range(count)
        ]
        self._stop = weakref.finalize(self, _stop_all, self._workers)
        self._pending: deque[Future[Any]] = deque()
        self._read_ahead()

    def restart(self) -> None:
        """Begins a new pass over the dataset, dropping what was read ahead of the old one."""
        self._cancel()
        self._tasks = self._loader._tasks()
        self._read_ahead()

    def _read_ahead(self) -> None:
        self._turn = itertools.cycle(self._workers)
        self._read = self._loader._reader()
        for _ in range(self._ahead):
            self._submit_next()

    def _submit_next(self) -> None:
        for task in itertools.islice(self._tasks, 1):
            self._pending.append(next(self._turn).submit(self._read, task))

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

"""Workers of a DataLoader: their random numbers, how they end, and what they do with errors."""

from __future__ import annotations

import collections
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

import firesteel
from firesteel.utils import data as ours


def _program(body: str) -> list[str]:
    start = """
    import threading, time
    import firesteel
    from firesteel.utils.data import DataLoader, Dataset

    class Blocking(Dataset):
        def __len__(self): return 100
        def __getitem__(self, index):
            if index: time.sleep(SECONDS)
            return index
    """
    return [sys.executable, "-c", textwrap.dedent(start) + textwrap.dedent(body)]


def test_exit_does_not_wait_for_a_worker() -> None:
    program = _program("""
    SECONDS = 1000
    for batch in DataLoader(Blocking(), 1, num_workers=2): break
    print("done")
    """)
    done = subprocess.run(program, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_exit_while_workers_compute() -> None:
    program = _program("""
    class Busy(Dataset):
        def __len__(self): return 10_000
        def __getitem__(self, index):
            x = firesteel.ones(150, 150)
            for _ in range(20): x = x @ x * 0.0
            return x
    loader = DataLoader(Busy(), 2, num_workers=3, persistent_workers=True)
    next(iter(loader))
    print("done")
    """)
    for _ in range(3):
        done = subprocess.run(program, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_an_interrupt_ends_the_program_at_once() -> None:
    program = _program("""
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    SECONDS = 5
    loader = DataLoader(Blocking(), 1, num_workers=2, prefetch_factor=4, persistent_workers=True)
    for batch in loader: print("batch", flush=True)
    """)
    running = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "batch\n"
    running.send_signal(signal.SIGINT)
    before = time.monotonic()
    _, errors = running.communicate(timeout=30)
    assert time.monotonic() - before < 3
    assert "KeyboardInterrupt" in errors
    assert running.returncode != 0


def _random_dataset(framework: Any, data: Any, n: int = 12) -> Any:
    class Drawing(data.Dataset):
        def __len__(self) -> int:
            return n

        def __getitem__(self, index: int) -> Any:
            time.sleep(0.001 * (index % 3))  # so that threads overtake each other
            return framework.rand(1)

    return Drawing()


def _drawn(framework: Any, data: Any, persistent: bool = False, **options: Any) -> Any:
    framework.manual_seed(0)
    loader = data.DataLoader(
        _random_dataset(framework, data), 2, num_workers=2, persistent_workers=persistent, **options
    )
    epochs = [[batch.flatten().tolist() for batch in loader] for _ in range(2)]
    return epochs, framework.rand(3).tolist()


def test_a_seed_determines_what_workers_draw_and_the_main_stream() -> None:
    first = _drawn(firesteel, ours)
    assert first[0][0] != first[0][1]
    for _ in range(4):
        assert _drawn(firesteel, ours) == first


@pytest.mark.filterwarnings("ignore")  # of PyTorch, on machines with few cores
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_draw_what_workers_of_pytorch_draw(persistent: bool) -> None:
    torch = pytest.importorskip("torch")
    import torch.utils.data as theirs

    expected = _drawn(torch, theirs, persistent, multiprocessing_context="fork")
    assert _drawn(firesteel, ours, persistent) == expected


def test_a_worker_may_seed_its_own_generator() -> None:
    def seeded(number: int) -> None:
        firesteel.manual_seed(number)

    loader = ours.DataLoader(_random_dataset(firesteel, ours), 2, num_workers=2, worker_init_fn=seeded)
    before = firesteel.get_rng_state()
    iterator = iter(loader)
    after_seed = firesteel.initial_seed()
    first = [next(iterator).flatten().tolist() for _ in range(2)]
    expected = [firesteel.rand(2, generator=firesteel.Generator().manual_seed(n)).tolist() for n in range(2)]
    assert first == expected
    assert firesteel.initial_seed() == after_seed
    assert before.numel() == firesteel.get_rng_state().numel()


def test_batch_i_is_read_by_worker_i_modulo_their_number() -> None:
    class Asking(ours.Dataset):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> int:
            time.sleep(0.002 * (index % 2))
            return ours.get_worker_info().id

    loader = ours.DataLoader(Asking(), 2, num_workers=3)
    assert [batch.tolist() for batch in loader] == [[i % 3] * 2 for i in range(10)]


def test_a_worker_whose_init_failed_never_reads() -> None:
    def broken(number: int) -> None:
        raise LookupError("no data base")

    read: list[int] = []

    class Recording(ours.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> int:
            read.append(index)
            return index

    iterator = iter(ours.DataLoader(Recording(), num_workers=1, worker_init_fn=broken))
    with pytest.raises(LookupError, match="no data base"):
        next(iterator)
    for _ in range(3):
        with pytest.raises(
            RuntimeError, match="worker_init_fn failed in worker 0: LookupError: no data base"
        ):
            next(iterator)
    assert read == []


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_stop_iteration_of_a_sample_is_an_error(workers: int, batch_size: int | None) -> None:
    class Ending(ours.Dataset):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> int:
            if index == 3:
                raise StopIteration
            return index

    with pytest.raises(RuntimeError, match="Ending raised StopIteration for"):
        list(ours.DataLoader(Ending(), batch_size, num_workers=workers))


@pytest.mark.parametrize("name", ["batch_size", "sampler", "batch_sampler", "drop_last", "dataset"])
def test_what_the_samplers_were_made_from_is_fixed(name: str) -> None:
    loader = ours.DataLoader(ours.TensorDataset(firesteel.arange(4)), 2)
    with pytest.raises(ValueError, match=f"{name} attribute should not be set after DataLoader"):
        setattr(loader, name, None)
    assert len(list(loader)) == 2


def test_options_are_kept() -> None:
    loader = ours.DataLoader([1, 2], multiprocessing_context="fork", in_order=False, pin_memory_device="x")
    kept = (loader.multiprocessing_context, loader.in_order, loader.pin_memory_device)
    assert kept == ("fork", False, "x")


def test_no_thread_is_left() -> None:
    before = set(threading.enumerate())
    _drawn(firesteel, ours)
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- collating and splitting


def test_collating_keeps_what_a_container_holds_beside_its_items() -> None:
    sample = collections.defaultdict(list, {"a": 1})
    batch = ours.default_collate([sample, {"a": 2}])
    assert type(batch) is collections.defaultdict
    assert batch["missing"] == []
    assert batch["a"].tolist() == [1, 2]
    assert sample == {"a": 1}
    assert ours.default_collate([range(2), range(2)])[1].tolist() == [1, 1]


def test_numpy_strings_and_sizes() -> None:
    np = pytest.importorskip("numpy")
    words = [np.str_("a"), np.str_("b")]
    assert ours.default_collate(words) == words
    parts = ours.random_split(range(23), [np.int64(10), np.int64(13)])
    assert [len(part) for part in parts] == [10, 13]
    with pytest.raises(ValueError, match="must add up"):
        ours.random_split(range(23), [10.5, 12.5])

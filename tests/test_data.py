"""Datasets, samplers, collating and the loader; order and batches against PyTorch where it is installed."""

from __future__ import annotations

import collections
import gc
import threading
import time
import traceback
from typing import Any

import pytest

import firesteel
from firesteel.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    default_convert,
    get_worker_info,
    random_split,
)


class Squares(Dataset[int]):
    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.n:
            raise IndexError(index)
        return index * index


class Stream(IterableDataset[int]):
    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Any:
        return iter(range(self.n))

    def __len__(self) -> int:
        return self.n


def lists(loader: Any) -> list[Any]:
    return [batch.tolist() for batch in loader]


# ---- datasets


def test_tensor_dataset_pairs_rows() -> None:
    data = TensorDataset(firesteel.arange(6).reshape(3, 2), firesteel.arange(3))
    x, y = data[1]
    assert (x.tolist(), y.item(), len(data)) == ([2, 3], 1, 3)


def test_tensor_dataset_rejects_different_first_sizes() -> None:
    with pytest.raises(AssertionError, match=r"first sizes are \[3, 4\]"):
        TensorDataset(firesteel.arange(3), firesteel.arange(4))


def test_concat_dataset() -> None:
    both = Squares(3) + Squares(2)
    assert isinstance(both, ConcatDataset)
    assert [both[i] for i in range(5)] == [0, 1, 4, 0, 1]
    assert (both[-1], both[-5], len(both)) == (1, 0, 5)
    with pytest.raises(IndexError, match="index 5 is out of range for 5 samples"):
        both[5]
    with pytest.raises(ValueError, match="index -6"):
        both[-6]
    with pytest.raises(AssertionError, match="should not be empty; give at least one"):
        ConcatDataset([])
    with pytest.raises(TypeError, match="use ChainDataset"):
        ConcatDataset([Stream(2)])


def test_chain_dataset() -> None:
    both = Stream(2) + Stream(3)
    assert isinstance(both, ChainDataset)
    assert (list(both), len(both)) == ([0, 1, 0, 1, 2], 5)


def test_subset_reads_single_samples_and_lists() -> None:
    part = Subset(Squares(10), [9, 0, 3])
    assert (part[0], len(part), part.__getitems__([2, 0])) == (81, 3, [9, 81])


def test_random_split() -> None:
    parts = random_split(Squares(10), [7, 3], generator=firesteel.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [7, 3]
    assert sorted(i for part in parts for i in part.indices) == list(range(10))
    assert [len(part) for part in random_split(Squares(10), [0.5, 0.25, 0.25])] == [6, 2, 2]


def test_random_split_errors() -> None:
    with pytest.raises(ValueError, match=r"lengths \[7, 4\] must add up to the 10 samples"):
        random_split(Squares(10), [7, 4])
    with pytest.raises(ValueError, match="fraction 1.5 at position 0"):
        random_split(Squares(10), [1.5, -0.5])
    with pytest.warns(UserWarning, match="part 1 of 1 samples is empty"):
        random_split(Squares(1), [0.5, 0.5])


# ---- samplers


def test_samplers() -> None:
    assert list(SequentialSampler(range(3))) == [0, 1, 2]
    assert sorted(RandomSampler(range(5))) == [0, 1, 2, 3, 4]
    assert len(list(RandomSampler(range(5), replacement=True, num_samples=70))) == 70
    assert sorted(RandomSampler(range(2), num_samples=5))[1:4] in ([0, 0, 1], [0, 1, 1])
    assert sorted(SubsetRandomSampler([4, 7, 9])) == [4, 7, 9]
    assert list(BatchSampler(range(5), 2, drop_last=True)) == [[0, 1], [2, 3]]
    assert [len(BatchSampler(range(n), 2, drop_last=False)) for n in range(4)] == [0, 1, 1, 2]
    assert list(SequentialSampler([])) == []


def test_sampler_errors() -> None:
    with pytest.raises(ValueError, match="num_samples must be a positive integer, not 0"):
        RandomSampler(range(3), num_samples=0)
    with pytest.raises(ValueError, match="got num_samples=0: the dataset is empty"):
        RandomSampler([])
    with pytest.raises(TypeError, match="replacement must be a bool"):
        RandomSampler(range(3), replacement=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size must be a positive integer, not 0"):
        BatchSampler(range(3), 0, drop_last=False)


# ---- collating


def test_default_collate_keeps_the_structure() -> None:
    Point = collections.namedtuple("Point", "x y")
    batch = default_collate(
        [{"p": Point(1, 2.0), "s": "a", "l": [True]}, {"p": Point(3, 4.0), "s": "b", "l": [False]}]
    )
    assert batch["p"].x.tolist() == [1, 3]
    assert batch["p"].y.dtype == firesteel.float64
    assert batch["s"] == ["a", "b"]
    assert batch["l"][0].tolist() == [True, False]
    assert type(batch["p"]) is Point


def test_default_collate_stacks_tensors_and_arrays() -> None:
    np = pytest.importorskip("numpy")
    assert default_collate([firesteel.ones(2), firesteel.zeros(2)]).tolist() == [[1, 1], [0, 0]]
    assert default_collate([np.ones(2), np.zeros(2)]).tolist() == [[1, 1], [0, 0]]
    assert default_collate([np.float32(1), np.float32(2)]).dtype == firesteel.float32


def test_default_collate_errors() -> None:
    with pytest.raises(TypeError, match="samples of type object"):
        default_collate([object()])
    with pytest.raises(RuntimeError, match=r"different lengths: \[1, 2\]"):
        default_collate([(1,), (1, 2)])


def test_default_convert() -> None:
    np = pytest.importorskip("numpy")
    sample = default_convert({"x": np.ones(2), "name": "a", "pair": (1, 2)})
    assert isinstance(sample["x"], firesteel.Tensor)
    assert (sample["name"], sample["pair"]) == ("a", [1, 2])


# ---- loader


def test_batches_and_lengths() -> None:
    assert lists(DataLoader(Squares(5), batch_size=2)) == [[0, 1], [4, 9], [16]]
    assert lists(DataLoader(Squares(5), batch_size=2, drop_last=True)) == [[0, 1], [4, 9]]
    assert list(DataLoader(Squares(3), batch_size=None)) == [0, 1, 4]
    assert lists(DataLoader(Squares(5), batch_sampler=[[4], [0, 1]])) == [[16], [0, 1]]
    assert lists(DataLoader(Squares(5), sampler=[3, 1], batch_size=2)) == [[9, 1]]
    assert list(DataLoader(Squares(4), batch_size=3, collate_fn=sum)) == [5, 9]
    assert [len(DataLoader(Squares(5), batch_size=2, drop_last=d)) for d in (False, True)] == [3, 2]
    assert len(DataLoader(Squares(5), batch_size=None)) == 5


def test_iterable_datasets() -> None:
    assert lists(DataLoader(Stream(5), batch_size=2)) == [[0, 1], [2, 3], [4]]
    assert lists(DataLoader(Stream(5), batch_size=2, drop_last=True)) == [[0, 1], [2, 3]]
    assert list(DataLoader(Stream(3), batch_size=None)) == [0, 1, 2]
    assert lists(DataLoader(Stream(5), batch_size=2, num_workers=2)) == [[0, 1], [2, 3], [4]]
    assert len(DataLoader(Stream(5), batch_size=2)) == 3


class _ReadsMany(Squares):
    def __getitems__(self, indices: list[int]) -> list[int]:
        return [-i for i in indices]


def test_getitems_is_asked_once_per_batch() -> None:
    assert lists(DataLoader(_ReadsMany(3), batch_size=2)) == [[0, -1], [-2]]


def test_row_reading_equals_stacking() -> None:
    data = TensorDataset(firesteel.arange(24.0).reshape(6, 2, 2), firesteel.arange(6))
    short = next(iter(DataLoader(Subset(data, [5, 1, 3]), batch_size=3)))
    long = next(
        iter(DataLoader(Subset(data, [5, 1, 3]), batch_size=3, collate_fn=lambda s: default_collate(s)))
    )
    assert type(short) is type(long) is list
    assert [x.tolist() for x in short] == [x.tolist() for x in long]
    assert [x.dtype for x in short] == [x.dtype for x in long]
    short[0].zero_()
    assert data.tensors[0].sum().item() == sum(range(24))


class _Doubled(TensorDataset):
    def __getitem__(self, index: Any) -> Any:
        return self.tensors[0][index] * 2


def test_a_subclass_of_tensor_dataset_is_read_through_its_getitem() -> None:
    assert lists(DataLoader(_Doubled(firesteel.arange(3)), batch_size=3)) == [[0, 2, 4]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": -1}, "num_workers is -1"),
        ({"timeout": -1}, "timeout is -1"),
        ({"prefetch_factor": 2}, "prefetch_factor needs"),
        ({"persistent_workers": True}, "persistent_workers needs"),
        ({"shuffle": True, "sampler": [0]}, "leave out shuffle"),
        ({"batch_sampler": [[0]], "shuffle": True}, "leave those out"),
        ({"batch_size": None, "drop_last": True}, "no last batch to drop"),
        ({"batch_size": 0}, "batch_size must be a positive integer"),
        ({"num_workers": 1, "prefetch_factor": 0}, "at least 1"),
    ],
)
def test_contradicting_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataLoader(Squares(3), **options)


def test_iterable_dataset_takes_no_order() -> None:
    with pytest.raises(ValueError, match="decides its own order"):
        DataLoader(Stream(3), shuffle=True)


# ---- workers


class _Slow(Squares):
    def __getitem__(self, index: int) -> int:
        time.sleep(0.004 if index % 3 == 0 else 0.001)
        return super().__getitem__(index)


def _worker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("firesteel-data")]


def _wait_until_no_worker_is_left() -> None:
    deadline = time.monotonic() + 5
    while _worker_threads():
        assert time.monotonic() < deadline, "worker threads are still running"
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_keep_the_order(workers: int) -> None:
    assert lists(DataLoader(_Slow(23), 2, num_workers=workers)) == lists(DataLoader(Squares(23), 2))
    _wait_until_no_worker_is_left()


def test_workers_read_ahead() -> None:
    seen: list[int] = []

    class Recording(Squares):
        def __getitem__(self, index: int) -> int:
            seen.append(index)
            return index

    batches = iter(DataLoader(Recording(20), num_workers=1, prefetch_factor=3))
    next(batches)
    deadline = time.monotonic() + 5
    while len(seen) < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert seen == [0, 1, 2, 3]


def test_an_abandoned_iterator_ends_its_workers() -> None:
    batches = iter(DataLoader(_Slow(1000), num_workers=2))
    next(batches)
    assert _worker_threads()
    del batches
    gc.collect()
    _wait_until_no_worker_is_left()


class _Broken(Squares):
    def __getitem__(self, index: int) -> int:
        if index == 2:
            raise LookupError("sample 2 is broken")
        return index


def test_a_worker_error_is_raised_in_the_loop_with_its_traceback() -> None:
    batches = iter(DataLoader(_Broken(4), num_workers=2))
    assert [next(batches).item(), next(batches).item()] == [0, 1]
    with pytest.raises(LookupError, match="sample 2 is broken") as caught:
        next(batches)
    text = "".join(traceback.format_exception(caught.value))
    assert "in __getitem__" in text
    assert "of a DataLoader" in text
    assert next(batches).item() == 3


def test_worker_init_and_info() -> None:
    started: list[int] = []
    infos: list[Any] = []

    class Asking(Squares):
        def __getitem__(self, index: int) -> int:
            time.sleep(0.002)
            infos.append(get_worker_info())
            return index

    data = Asking(8)
    list(DataLoader(data, num_workers=2, worker_init_fn=started.append))
    assert set(started) in ({0}, {0, 1})
    assert {info.num_workers for info in infos} == {2}
    assert all(info.dataset is data and info.seed - info.id == infos[0].seed - infos[0].id for info in infos)
    assert get_worker_info() is None


def test_worker_timeout() -> None:
    class Stuck(Squares):
        def __getitem__(self, index: int) -> int:
            time.sleep(0.3)
            return index

    with pytest.raises(RuntimeError, match="no batch from the workers within 0.05 seconds"):
        next(iter(DataLoader(Stuck(2), num_workers=1, timeout=0.05)))


def test_persistent_workers_stay() -> None:
    others = set(_worker_threads())  # that are about to end
    loader = DataLoader(Squares(6), batch_size=2, num_workers=2, persistent_workers=True)
    assert lists(loader) == [[0, 1], [4, 9], [16, 25]]
    threads = set(_worker_threads()) - others
    assert threads
    next(iter(loader))
    assert lists(loader) == [[0, 1], [4, 9], [16, 25]]
    assert threads <= set(_worker_threads())
    del loader
    gc.collect()
    _wait_until_no_worker_is_left()


# ---- the same as PyTorch


def _both(run: Any) -> None:
    torch = pytest.importorskip("torch")
    import torch.utils.data as theirs

    from firesteel.utils import data as ours

    assert run(firesteel, ours) == run(torch, theirs)


@pytest.mark.parametrize("with_generator", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_shuffled_batches_are_those_of_pytorch(seed: int, with_generator: bool) -> None:
    def run(framework: Any, data: Any) -> Any:
        framework.manual_seed(seed)
        generator = framework.Generator().manual_seed(seed + 7) if with_generator else None
        rows = data.TensorDataset(framework.arange(50), framework.rand(50, 3))
        loader = data.DataLoader(rows, batch_size=8, shuffle=True, generator=generator)
        epochs = [[[x.tolist() for x in batch] for batch in loader] for _ in range(2)]
        return epochs, framework.rand(3).tolist()

    _both(run)


@pytest.mark.parametrize("persistent", [False, True])
def test_worker_batches_are_those_of_pytorch(persistent: bool) -> None:
    def run(framework: Any, data: Any) -> Any:
        framework.manual_seed(3)
        rows = data.TensorDataset(framework.arange(20))
        loader = data.DataLoader(rows, 4, shuffle=True, num_workers=1, persistent_workers=persistent)
        epochs = [[batch[0].tolist() for batch in loader] for _ in range(3)]
        return epochs, framework.rand(3).tolist()

    _both(run)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"replacement": True},
        {"replacement": True, "num_samples": 100},
        {"num_samples": 3},
        {"num_samples": 20},
        {"num_samples": 25},
    ],
)
@pytest.mark.parametrize("with_generator", [False, True])
def test_random_sampler_is_that_of_pytorch(options: dict[str, Any], with_generator: bool) -> None:
    def run(framework: Any, data: Any) -> Any:
        framework.manual_seed(5)
        generator = framework.Generator().manual_seed(6) if with_generator else None
        sampler = data.RandomSampler(range(10), generator=generator, **options)
        return [list(sampler), list(sampler), framework.rand(2, generator=generator).tolist()]

    _both(run)


def test_subset_random_sampler_is_that_of_pytorch() -> None:
    def run(framework: Any, data: Any) -> Any:
        framework.manual_seed(8)
        return [list(data.SubsetRandomSampler(range(10, 30))) for _ in range(2)]

    _both(run)


@pytest.mark.parametrize("lengths", [[80, 23], [0.8, 0.2], [0.333, 0.333, 0.334], [0.5, 0.25, 0.25]])
def test_random_split_is_that_of_pytorch(lengths: list[float]) -> None:
    def run(framework: Any, data: Any) -> Any:
        framework.manual_seed(2)
        parts = data.random_split(range(103), lengths)
        again = data.random_split(range(103), lengths, generator=framework.Generator().manual_seed(42))
        return [list(part.indices) for part in [*parts, *again]]

    _both(run)

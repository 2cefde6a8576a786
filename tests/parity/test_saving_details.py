"""Saving and loading: pipes, unbuffered files, modes, and what cannot be saved."""

from __future__ import annotations

import io
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

import firesteel


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    firesteel.save({"x": firesteel.arange(3)}, pipe)
    reader.join(10)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert firesteel.load(io.BytesIO(read[0]))["x"].tolist() == [0, 1, 2]


def test_devices_and_directories_are_not_replaced(tmp_path: Path) -> None:
    firesteel.save({"x": firesteel.ones(1)}, os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with pytest.raises(IsADirectoryError):
        firesteel.save({"x": firesteel.ones(1)}, tmp_path)
    assert tmp_path.is_dir() and not list(tmp_path.iterdir())


def test_the_mode_of_a_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    firesteel.save(1, path)
    path.chmod(0o600)
    firesteel.save(2, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert firesteel.load(path) == 2


def test_long_names(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    firesteel.save(3, path)
    assert firesteel.load(path) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


class _Slow(io.RawIOBase):
    """Takes at most 100 bytes at a time, as files without a buffer may."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data[:100])
        return min(len(data), 100)


def test_an_unbuffered_file_gets_everything() -> None:
    file = _Slow()
    firesteel.save(firesteel.arange(1000), file)  # type: ignore[arg-type]
    assert firesteel.load(io.BytesIO(file.data)).tolist() == list(range(1000))


def test_what_read_may_give(tmp_path: Path) -> None:
    file = io.BytesIO()
    firesteel.save(firesteel.ones(2), file)

    class Other:
        def __init__(self, value: Any) -> None:
            self.value = value

        def read(self) -> Any:
            return self.value

    for kind in (bytes, bytearray, memoryview):
        assert firesteel.load(Other(kind(file.getvalue()))).tolist() == [1.0, 1.0]  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="gives str, not bytes; open it with mode 'rb'"):
        firesteel.load(Other("text"))  # type: ignore[arg-type]


def test_out_of_memory_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    firesteel.save(firesteel.ones(2), file)

    def full(data: bytes) -> Any:
        raise MemoryError("allocate: 8 bytes refused")

    monkeypatch.setattr(firesteel._core, "_safetensors_deserialize", full)
    with pytest.raises(MemoryError, match="8 bytes refused"):
        firesteel.load(io.BytesIO(file.getvalue()))


def test_strange_texts_come_back() -> None:
    file = io.BytesIO()
    value = {"s": "\ud800 \U0001f600 é", "\udfff": firesteel.ones(1), "n": 10**4000}
    firesteel.save(value, file)
    file.seek(0)
    loaded = firesteel.load(file)
    assert loaded["s"] == value["s"] and loaded["\udfff"].tolist() == [1.0] and loaded["n"] == value["n"]


def test_what_cannot_be_saved() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(ValueError, match="does it contain itself"):
        firesteel.save({"a": cycle}, io.BytesIO())
    with pytest.raises(TypeError, match="'big' is an int of 16610 bits"):
        firesteel.save({"big": 10**5000}, io.BytesIO())
    deep: Any = firesteel.ones(1)
    for _ in range(150):
        deep = [deep]
    file = io.BytesIO()
    firesteel.save(deep, file)
    file.seek(0)
    assert isinstance(firesteel.load(file), list)


def _saved(value: Any) -> Any:
    file = io.BytesIO()
    firesteel.save(value, file)
    file.seek(0)
    return firesteel.load(file)


def test_tensors_require_grad_after_loading_if_they_did() -> None:
    x = firesteel.ones(2, requires_grad=True)
    loaded = _saved({"leaf": x, "loss": (x * 2).sum(), "plain": firesteel.zeros(1)})
    assert loaded["leaf"].requires_grad and loaded["leaf"].is_leaf
    assert loaded["loss"].requires_grad and loaded["loss"].is_leaf and loaded["loss"].item() == 4
    assert not loaded["plain"].requires_grad
    model = firesteel.nn.Linear(2, 1)
    assert not any(value.requires_grad for value in _saved(model.state_dict()).values())


def test_numpy_scalars_are_saved_as_numbers() -> None:
    np = pytest.importorskip("numpy")
    scalars = {
        "a": np.float32(0.5),
        "b": np.int64(3),
        "c": np.bool_(True),
        "d": np.float64("inf"),
        "e": np.str_("x"),
    }
    loaded = _saved(scalars)
    assert loaded == {"a": 0.5, "b": 3, "c": True, "d": float("inf"), "e": "x"}
    assert [type(value) for value in loaded.values()] == [float, int, bool, float, str]
    with pytest.raises(TypeError, match="'when' is a date"):
        _saved({"when": np.datetime64("2024-01-01")})

"""Saving and loading: what comes back, what others see in the file, and what happens when it fails."""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

import firesteel
from firesteel import nn, optim
from firesteel.serialization import load, save

DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool"]


def _header(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    return header


def _same(a: Any, b: Any) -> bool:
    """Compares nested data, types included, nan equal to nan."""
    if isinstance(a, firesteel.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and str(a.tolist()) == str(b.tolist())
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_come_back(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    x = firesteel.arange(math.prod(shape)).reshape(shape).to(getattr(firesteel, dtype))
    save({"x": x}, tmp_path / "x.safetensors")
    assert _same(load(tmp_path / "x.safetensors"), {"x": x})


@pytest.mark.parametrize(
    "obj",
    [
        None,
        3,
        "text with ü and \n",
        [1, 2.5, None, True, "a"],
        (1, (2, [3])),
        {"lr": 0.1, 0: "int key", "nested": {"betas": (0.9, 0.999), "empty": {}, "list": []}},
        [math.nan, math.inf, -math.inf, 1e-300, 2**80],
        {"tensor": "x", "dict": {"float": [1]}},
    ],
)
def test_plain_values_come_back(obj: Any) -> None:
    file = io.BytesIO()
    save(obj, file)
    file.seek(0)
    assert _same(load(file), obj)


def test_nested_tensors_come_back(tmp_path: Path) -> None:
    obj = {
        "a": {"b": firesteel.ones(2)},
        "a.b": firesteel.zeros(3),
        "list": [firesteel.tensor(1), (firesteel.tensor([True]), "x")],
        "__metadata__": firesteel.tensor([5]),
        "": firesteel.tensor([6]),
    }
    save(obj, str(tmp_path / "x"))
    assert _same(load(str(tmp_path / "x")), obj)


def test_a_bare_tensor_and_a_view_come_back(tmp_path: Path) -> None:
    x = firesteel.arange(6).reshape(2, 3).t()
    save(x, tmp_path / "x")
    assert load(tmp_path / "x").tolist() == [[0, 3], [1, 4], [2, 5]]


def test_training_state_comes_back(tmp_path: Path) -> None:
    def make() -> tuple[Any, Any]:
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        return model, optim.Adam(model.parameters(), lr=0.01)

    def step(model: Any, optimizer: Any) -> float:
        optimizer.zero_grad()
        loss = model(firesteel.ones(5, 3)).square().mean()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    model, optimizer = make()
    step(model, optimizer)
    save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, tmp_path / "x")
    other_model, other_optimizer = make()
    checkpoint = load(tmp_path / "x", map_location="cpu", weights_only=True)
    other_model.load_state_dict(checkpoint["model"])
    other_optimizer.load_state_dict(checkpoint["optimizer"])
    assert checkpoint["epoch"] == 3
    assert [step(model, optimizer) for _ in range(3)] == [
        step(other_model, other_optimizer) for _ in range(3)
    ]


def test_a_state_dict_keeps_its_names_in_the_file(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    path = tmp_path / "model.safetensors"
    save(model.state_dict(), path)
    header = _header(path)
    assert header.pop("__metadata__")["format"] == "pt"
    assert set(header) == set(model.state_dict())
    assert header["0.weight"]["shape"] == [4, 3]
    assert list(load(path)) == list(model.state_dict())


def test_other_readers_open_the_file(tmp_path: Path) -> None:
    readers = pytest.importorskip("safetensors.numpy")
    pytest.importorskip("numpy")
    path = tmp_path / "x.safetensors"
    save({"model": {"w": firesteel.tensor([1.0, 2.0])}, "epoch": 1}, path)
    assert readers.load_file(path)["model.w"].tolist() == [1.0, 2.0]


def test_files_of_other_writers_load_as_a_flat_dict(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\x80\x3f\0\0\0\x40")
    assert _same(load(path), {"w": firesteel.tensor([1.0, 2.0])})


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'optimizer.hook.1' is a function"):
        save({"optimizer": {"hook": [1, lambda: 0]}}, tmp_path / "x")
    with pytest.raises(TypeError, match="the object is a set"):
        save({1}, tmp_path / "x")
    with pytest.raises(TypeError, match=r"'a' has the key \(1, 2\); keys must be strings or ints"):
        save({"a": {(1, 2): 3}}, tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save({"w": firesteel.ones(100)}, path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], whole[:50], whole[:-1], whole + b"x", b"\xff" * 100):
        path.write_bytes(damaged)
        with pytest.raises(
            RuntimeError, match=r"model\.safetensors \(\d+ bytes\) is not a safetensors file or is"
        ):
            load(path)
    path.write_bytes(b"PK\x03\x04rest")
    with pytest.raises(RuntimeError, match="is a pickled PyTorch file"):
        load(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path / "nowhere")


def test_a_structure_that_names_a_missing_tensor_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    save({"weight": firesteel.ones(1)}, path)
    path.write_bytes(path.read_bytes().replace(b'\\"weight\\"}', b'\\"waight\\"}'))
    with pytest.raises(RuntimeError, match="names the tensor 'waight', which is missing"):
        load(path)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    save({"epoch": 1}, path)

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save({"epoch": 2}, path)
    monkeypatch.undo()
    assert load(path) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["x"]


def test_saving_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    save({"epoch": 1}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert load(tmp_path / "target") == {"epoch": 1}


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="save: there is no such folder; create it first") as caught:
        firesteel.save({"x": firesteel.ones(1)}, path)
    assert caught.value.filename == str(path)

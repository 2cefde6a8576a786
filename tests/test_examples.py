"""The example programs run from start to end and learn."""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

needs_tqdm = pytest.mark.skipif(importlib.util.find_spec("tqdm") is None, reason="tqdm is not installed")
needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed"
)


def _run(name: str, *arguments: object, code: int = 0) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    # Networks this small gain nothing from threads, and tests often run on busy machines.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def _percent(pattern: str, text: str) -> float:
    found = re.search(pattern + r" ([\d.]+)%", text)
    assert found, text
    return float(found[1])


@needs_tqdm
@needs_matplotlib
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_digits_are_learned_and_read(tmp_path: Path, model: str) -> None:
    output = _run("train_digits.py", "--model", model, "--epochs", 4, "--out", tmp_path)
    assert _percent("held-out digits read with accuracy", output) > 85
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    shown = _run("predict_digits.py", "--checkpoint", tmp_path / "checkpoint.safetensors", "--count", 3)
    assert shown.count("read as") == 3
    assert shown.count(": right") >= 2


@needs_tqdm
def test_predicting_without_a_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    output = _run("predict_digits.py", "--checkpoint", tmp_path / "none", code=2)
    assert "run examples/train_digits.py first" in output


def _write_fake_mnist(root: Path, part: str, count: int) -> None:
    """Writes images that are dark in the row of their label, which a network learns at once."""
    labels = bytes(i % 10 for i in range(count))
    rows = (b"\xff" * 28 if row // 2 == label else bytes(28) for label in labels for row in range(28))
    images = struct.pack(">4I", 0x0803, count, 28, 28) + b"".join(rows)
    (root / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, 1))
    (root / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x0801, count) + labels)


@needs_tqdm
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_mnist_runs_on_files_in_its_format(tmp_path: Path, model: str) -> None:
    _write_fake_mnist(tmp_path, "train", 600)
    _write_fake_mnist(tmp_path, "t10k", 50)
    options = ["--data", tmp_path, "--out", tmp_path, "--epochs", 2, "--model", model]
    output = _run("train_mnist.py", *options, "--batch-size", 20)
    assert _percent(r"epoch  2: loss [\d.]+, test accuracy", output) > 90
    assert (tmp_path / f"mnist-{model}.safetensors").is_file()

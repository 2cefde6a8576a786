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
@pytest.mark.parametrize("model, wanted", [("cnn", 97), ("mlp", 95)])
def test_digits_are_learned_and_read(tmp_path: Path, model: str, wanted: float) -> None:
    """The default network reads 97 % of the digits it has not seen; its bar shows loss and accuracy."""
    output = _run("train_digits.py", "--model", model, "--out", tmp_path)
    assert _percent("held-out digits read with accuracy", output) >= wanted
    assert re.search(r"epoch 1/15: .*it/s, accuracy=[\d.]+%, loss=\d\.\d+", output)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    shown = _run("predict_digits.py", "--checkpoint", tmp_path / "checkpoint.safetensors", "--count", 3)
    assert shown.count("read as") == 3
    assert shown.count(": right") >= 2


@needs_tqdm
def test_predicting_without_a_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    output = _run("predict_digits.py", "--checkpoint", tmp_path / "none", code=2)
    assert "run `make train` or examples/train_digits.py first" in output


def test_the_loss_with_a_rule_of_its_own_is_robust() -> None:
    output = _run("custom_function.py")
    slope, intercept = map(float, re.findall(r"log cosh: y = ([\d.]+) x \+ ([\d.]+)", output)[0])
    assert abs(slope - 2) < 0.1
    assert abs(intercept - 1) < 0.2


def test_gradients_by_hand_are_those_of_backward_and_train(tmp_path: Path) -> None:
    output = _run("backprop_by_hand.py", "--epochs", 10, "--out", tmp_path)
    rules = re.findall(r"^d_(\w+) .* ([\d.e+-]+)$", output, re.MULTILINE)
    assert [name for name, _ in rules] == ["log_p", "scores", "b2", "w2", "h", "a", "b1", "w1"]
    largest = re.search(r"checked once per epoch: ([\d.e+-]+)", output)
    assert largest and max(float(largest[1]), *(float(difference) for _, difference in rules)) < 1e-12
    assert _percent("epoch 10: loss [\\d.]+, held-out accuracy", output) > 93
    assert "log_p = sub" in (tmp_path / "graph.svg").read_text()
    assert "w1.grad += (64, 32)" in (tmp_path / "steps.txt").read_text()
    assert "--epochs is 0; it must be 1 or more" in _run("backprop_by_hand.py", "--epochs", 0, code=2)


def test_newton_reaches_the_minimum_where_gradient_descent_does_not() -> None:
    output = _run("newton_cg.py")
    error = re.search(r"hvp by ([\d.e+-]+)", output)
    assert error and float(error[1]) < 1e-12
    reached = {
        name: (float(loss), float(gradient))
        for name, loss, gradient in re.findall(r"(\S+): loss ([\d.]+), \|gradient\| ([\d.e+-]+)", output)
    }
    assert reached["Newton-CG"][1] < 1e-8 < reached["descent"][1]
    assert reached["Newton-CG"][0] < reached["descent"][0]


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


@needs_tqdm
def test_missing_and_damaged_mnist_files_are_named(tmp_path: Path) -> None:
    output = _run("train_mnist.py", "--data", tmp_path, code=2)
    assert "train-images-idx3-ubyte" in output
    assert str(tmp_path) in output
    _write_fake_mnist(tmp_path, "train", 20)
    _write_fake_mnist(tmp_path, "t10k", 20)
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-3])
    output = _run("train_mnist.py", "--data", tmp_path, code=2)
    assert re.search(r"t10k-labels-idx1-ubyte.*28", output), output
    assert "Traceback" not in output


@needs_tqdm
@pytest.mark.parametrize("name", ["train_digits.py", "train_mnist.py"])
def test_no_epochs_are_refused(name: str, tmp_path: Path) -> None:
    data = ["--data", tmp_path] if name == "train_mnist.py" else []
    assert "--epochs is 0; it must be 1 or more" in _run(name, "--epochs", 0, *data, code=2)


@needs_tqdm
@pytest.mark.skipif(
    "FIRESTEEL_MNIST" not in os.environ, reason="FIRESTEEL_MNIST names no directory with MNIST"
)
@pytest.mark.parametrize("model, wanted", [("mlp", 95), ("cnn", 98)])
def test_mnist_is_learned(tmp_path: Path, model: str, wanted: float) -> None:
    options = ["--data", os.environ["FIRESTEEL_MNIST"], "--out", tmp_path, "--model", model]
    output = _run("train_mnist.py", *options)
    assert _percent(r"epoch 10: loss [\d.]+, test accuracy", output) >= wanted

"""The data sets: contents of the digits, and MNIST files whole, missing and damaged."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import pytest

import firesteel
from firesteel.datasets import MNIST, Digits, digits, load_digits, read_idx

COUNT = 5


def _images(count: int = COUNT) -> bytes:
    return struct.pack(">4I", 0x0803, count, 28, 28) + bytes(i % 256 for i in range(count * 784))


def _labels(count: int = COUNT) -> bytes:
    return struct.pack(">2I", 0x0801, count) + bytes(i % 10 for i in range(count))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(_images())
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_labels()))
    return tmp_path


def test_digits() -> None:
    images, labels = load_digits()
    assert (tuple(images.shape), images.dtype) == ((1797, 1, 8, 8), firesteel.float32)
    assert (tuple(labels.shape), labels.dtype) == ((1797,), firesteel.int64)
    assert (images.min().item(), images.max().item()) == (0.0, 1.0)
    counts = [int((labels == digit).sum().item()) for digit in range(10)]
    assert counts == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.datasets")
    theirs = sklearn.load_digits()
    images, labels = load_digits()
    assert (images * 16).reshape(-1, 64).tolist() == theirs.data.tolist()
    assert labels.tolist() == theirs.target.tolist()


def test_digits_dataset() -> None:
    data = Digits()
    image, label = data[7]
    assert (len(data), tuple(image.shape), label.item()) == (1797, (1, 8, 8), 7)
    assert len(data.images) == len(data.labels) == 1797


def test_damaged_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "digits.bin.gz"
    damaged.write_bytes(digits._FILE.read_bytes()[:1000])
    monkeypatch.setattr(digits, "_FILE", damaged)
    with pytest.raises(ValueError, match="digits.bin.gz is truncated or damaged"):
        load_digits()


def test_mnist_reads_plain_and_compressed_files(root: Path) -> None:
    data = MNIST(root)
    assert (tuple(data.images.shape), data.images.dtype) == ((COUNT, 1, 28, 28), firesteel.float32)
    assert (data.labels.tolist(), data.labels.dtype) == ([0, 1, 2, 3, 4], firesteel.int64)
    image, label = data[1]
    assert image[0, 0, 0].item() == pytest.approx((784 % 256) / 255)
    assert label.item() == 1


def test_missing_files_are_named(root: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match="neither t10k-images-idx3-ubyte nor t10k-images-idx3-ubyte.gz"
    ):
        MNIST(root, train=False)
    (root / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="train-labels-idx1-ubyte"):
        MNIST(root)


def test_swapped_files(root: Path) -> None:
    (root / "train-images-idx3-ubyte").write_bytes(_labels())
    with pytest.raises(
        ValueError, match=r"magic number 2049, expected 2051 \(images\): the file holds labels"
    ):
        MNIST(root)


def test_counts_that_differ(root: Path) -> None:
    (root / "train-labels-idx1-ubyte.gz").write_bytes(_labels(4))
    with pytest.raises(ValueError, match=r"has 5 images but .* has 4 labels"):
        MNIST(root)


def test_labels_out_of_range(root: Path) -> None:
    (root / "train-labels-idx1-ubyte.gz").write_bytes(_labels()[:-1] + b"\x0b")
    with pytest.raises(ValueError, match="has the label 11, expected 0 to 9"):
        MNIST(root)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes are too few"),
        (b"\x00\x00\x08\x03\x00", "5 of the 16 bytes of its header"),
        (_images()[:-1], r"truncated: its header \(5, 28, 28\) needs 3936 bytes, found 3935"),
        (_images() + b"x", "too long"),
        (gzip.compress(_images())[:-20], "truncated or damaged"),
        (b"PNG, really", "not an IDX file"),
    ],
)
def test_damaged_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_an_empty_file_of_images(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(_images(0))
    assert tuple(read_idx(tmp_path / "images").shape) == (0, 28, 28)


def test_the_real_files() -> None:
    root = os.environ.get("FIRESTEEL_MNIST")
    if root is None:
        pytest.skip("set FIRESTEEL_MNIST to the directory with the MNIST files")
    data = MNIST(root, train=False)
    assert len(data) == 10000
    assert data.labels[:5].tolist() == [7, 2, 1, 0, 4]

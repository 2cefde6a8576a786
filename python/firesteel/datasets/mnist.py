"""MNIST and data sets in its format, read from the original IDX files, compressed or not."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import firesteel
from firesteel._core import Tensor

from ..utils.data.dataset import TensorDataset

# An IDX file begins with its magic number: the element type (8 = unsigned byte) and the number of dimensions.
_IMAGES_MAGIC = 0x0803
_LABELS_MAGIC = 0x0801
_CONTENTS = {_IMAGES_MAGIC: "images", _LABELS_MAGIC: "labels"}
_CLASSES = 10


class MNIST(TensorDataset):
    """Images of handwritten digits, 28x28 pixels, with their labels.

    Args:
        root: directory with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the two
            ``t10k-...`` files, each plain or with ``.gz``. How many images there are is read from the files.
        train: True for the training part, False for the test part.

    Samples are pairs of a float32 image of shape (1, 28, 28) between 0 and 1 and an int64 label.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is truncated, is not what its name says, or images and labels do not match.

    Example:
        >>> digits = MNIST("data/mnist", train=False)  # doctest: +SKIP
        >>> digits.images.shape  # doctest: +SKIP
        torch.Size([10000, 1, 28, 28])
    """

    def __init__(self, root: str | os.PathLike[str], train: bool = True) -> None:
        part = "train" if train else "t10k"
        images_path = _find(Path(root), f"{part}-images-idx3-ubyte")
        labels_path = _find(Path(root), f"{part}-labels-idx1-ubyte")
        images = read_idx(images_path, _IMAGES_MAGIC)
        labels = read_idx(labels_path, _LABELS_MAGIC)
        if len(images) != len(labels):
            raise ValueError(
                f"MNIST: {images_path} has {len(images)} images but {labels_path} has {len(labels)} labels; "
                "both files must belong to the same part"
            )
        if len(labels) and int(labels.max().item()) >= _CLASSES:
            raise ValueError(f"MNIST: {labels_path} has the label {labels.max().item()}, expected 0 to 9")
        super().__init__(images.unsqueeze(1).to(firesteel.float32) / 255.0, labels.to(firesteel.int64))

    @property
    def images(self) -> Tensor:
        """All images, float32 of shape (count, 1, rows, columns)."""
        return self.tensors[0]

    @property
    def labels(self) -> Tensor:
        """All labels, int64 of shape (count,)."""
        return self.tensors[1]


def read_idx(path: str | os.PathLike[str], magic: int | None = None) -> Tensor:
    """Reads an IDX file of unsigned bytes.

    Args:
        path: the file; gzip is recognised by its content, not by its name.
        magic: the magic number that the file must have; by default any of images or labels.

    Returns:
        A uint8 tensor of the shape that the file's header names.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, truncated, too long or of another kind.

    Example:
        >>> read_idx("data/mnist/t10k-labels-idx1-ubyte.gz").shape  # doctest: +SKIP
        torch.Size([10000])
    """
    data = read_unpacked(Path(path), "read_idx")
    if len(data) < 4:
        raise ValueError(f"read_idx: {path} is truncated: {len(data)} bytes are too few for an IDX header")
    (found,) = struct.unpack_from(">I", data)
    _check_magic(path, found, magic)
    header = 4 + 4 * (found & 0xFF)
    if len(data) < header:
        raise ValueError(f"read_idx: {path} is truncated: {len(data)} of the {header} bytes of its header")
    shape = struct.unpack_from(f">{found & 0xFF}I", data, 4)
    expected = header + math.prod(shape)
    if len(data) != expected:
        state = "truncated" if len(data) < expected else "too long"
        raise ValueError(
            f"read_idx: {path} is {state}: its header {shape} needs {expected} bytes, found {len(data)}"
        )
    if expected == header:
        return firesteel.zeros(shape, dtype=firesteel.uint8)
    return firesteel.frombuffer(data, dtype=firesteel.uint8, offset=header).reshape(shape)


def _check_magic(path: str | os.PathLike[str], found: int, wanted: int | None) -> None:
    if found == wanted or (wanted is None and found in _CONTENTS):
        return
    names = " or ".join(f"{magic} ({what})" for magic, what in _CONTENTS.items() if wanted in (None, magic))
    text = f"read_idx: {path} has the magic number {found}, expected {names}"
    if found in _CONTENTS:
        raise ValueError(f"{text}: the file holds {_CONTENTS[found]}; were two files swapped?")
    raise ValueError(f"{text}: this is not an IDX file of unsigned bytes")


def read_unpacked(path: Path, reader: str) -> bytearray:
    """Reads a file for `reader`, unpacking it if it is gzipped.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is gzipped and damaged; the message begins with `reader`.
    """
    data = path.read_bytes()
    if data[:2] != b"\x1f\x8b":
        return bytearray(data)
    try:
        return bytearray(gzip.decompress(data))
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{reader}: {path} is truncated or damaged: gzip says {error}") from error


def _find(root: Path, name: str) -> Path:
    for candidate in (root / name, root / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"MNIST: found neither {name} nor {name}.gz in {root}")

"""Handwritten digits that ship with the package: 1,797 images of 8x8 pixels.

Source: "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, 1998, UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49 (its test part), licensed under CC BY 4.0. Each pixel counts the
dark dots, 0 to 16, in a 4x4 block of a 32x32 scan. ``_make_digits.py`` made ``digits.bin.gz`` from the copy
in scikit-learn: gzip over 65 bytes per image, 64 pixels by rows and the label.
"""

from __future__ import annotations

from pathlib import Path

import firesteel
from firesteel._core import Tensor

from ..utils.data.dataset import TensorDataset
from .mnist import read_unpacked

_FILE = Path(__file__).with_name("digits.bin.gz")
_COUNT = 1797
_PIXELS = 64
_DARKEST = 16.0


def load_digits() -> tuple[Tensor, Tensor]:
    """Loads the digits.

    Returns:
        Images, float32 of shape (1797, 1, 8, 8) between 0 (paper) and 1 (ink), and labels 0 to 9, int64 of
        shape (1797,).

    Raises:
        FileNotFoundError: if the data file is missing from the installed package.
        ValueError: if the file is damaged.

    Example:
        >>> images, labels = load_digits()
        >>> images.shape, labels[:5].tolist()
        (torch.Size([1797, 1, 8, 8]), [0, 1, 2, 3, 4])
    """
    data = read_unpacked(_FILE, "load_digits")
    if len(data) != _COUNT * (_PIXELS + 1):
        raise ValueError(
            f"load_digits: {_FILE} is damaged: {len(data)} bytes instead of {_COUNT * (_PIXELS + 1)}; "
            "reinstall the package"
        )
    rows = firesteel.frombuffer(data, dtype=firesteel.uint8).reshape(_COUNT, _PIXELS + 1)
    images = rows[:, :_PIXELS].to(firesteel.float32) / _DARKEST
    return images.reshape(-1, 1, 8, 8), rows[:, _PIXELS].to(firesteel.int64)


class Digits(TensorDataset):
    """The digits as a dataset of (image, label) pairs; see :func:`load_digits`.

    Example:
        >>> image, label = Digits()[3]
        >>> label.item()
        3
    """

    def __init__(self) -> None:
        super().__init__(*load_digits())

    @property
    def images(self) -> Tensor:
        """All images, float32 of shape (1797, 1, 8, 8)."""
        return self.tensors[0]

    @property
    def labels(self) -> Tensor:
        """All labels, int64 of shape (1797,)."""
        return self.tensors[1]

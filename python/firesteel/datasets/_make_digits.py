"""Makes digits.bin.gz from scikit-learn's copy of the UCI digits. Run once; needs scikit-learn.

python -m firesteel.datasets._make_digits
"""

from __future__ import annotations

import gzip
from pathlib import Path


def main() -> None:
    """Writes 65 bytes per image (64 pixels, label) beside this file, compressed, without a time stamp."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rows = zip(digits.data, digits.target, strict=True)
    data = b"".join(bytes(int(pixel) for pixel in pixels) + bytes([int(label)]) for pixels, label in rows)
    path = Path(__file__).with_name("digits.bin.gz")
    path.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
    print(f"{path}: {len(data) // 65} images, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""Small data sets to learn and test with: digits (ships with the package) and MNIST (read from its files)."""

from .digits import Digits, load_digits
from .mnist import MNIST, read_idx

__all__ = ["MNIST", "Digits", "load_digits", "read_idx"]

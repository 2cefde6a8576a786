"""CUDA as programs ask for it: there is none, and they fall back to the CPU."""

from __future__ import annotations


def is_available() -> bool:
    """False: Firesteel computes on the CPU."""
    return False


def device_count() -> int:
    """0: there are no CUDA devices here."""
    return 0


def manual_seed(seed: int) -> None:
    """Does nothing: there are no CUDA devices to seed."""


def manual_seed_all(seed: int) -> None:
    """Does nothing: there are no CUDA devices to seed."""


def empty_cache() -> None:
    """Does nothing: there is no memory on CUDA devices to give back."""


def synchronize(device: object = None) -> None:
    """Does nothing: every operation is finished when it returns."""

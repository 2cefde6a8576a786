"""CUDA as programs ask for it: there is none, and they fall back to the CPU."""

from __future__ import annotations


def is_available() -> bool:
    """False: Firesteel computes on the CPU."""
    return False


def device_count() -> int:
    """0: there are no CUDA devices here."""
    return 0

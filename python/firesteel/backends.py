"""Backends as programs ask for them: switches that may be set, and answers that there are none.

Results are the same for any number of threads anyway, so `cudnn.deterministic` has nothing to change.
"""

from __future__ import annotations

from types import SimpleNamespace


def _unavailable() -> bool:
    """False: Firesteel computes on the CPU with its own kernels."""
    return False


cudnn = SimpleNamespace(
    allow_tf32=False, benchmark=False, deterministic=False, enabled=False, is_available=_unavailable
)
mps = SimpleNamespace(is_available=_unavailable, is_built=_unavailable)
mkldnn = SimpleNamespace(enabled=False, is_available=_unavailable)

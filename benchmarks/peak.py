"""A process of its own: how much memory some training steps need, above what the model and the library take,
and how many page faults a step causes when all memory has been used once.

python benchmarks/peak.py LIBRARY STEP
"""

from __future__ import annotations

import importlib
import resource
import sys
from pathlib import Path

from models import STEPS

COUNT = 10
CLEAR_PEAK = "5"  # what /proc/self/clear_refs takes to forget the peak


def _kilobytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1])


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def main(library: str, step: str) -> None:
    """Prints the bytes at the peak of some steps above those before them, and a later one's faults."""
    lib = importlib.import_module(library)
    lib.set_num_threads(1)
    lib.manual_seed(0)
    train = STEPS[step](lib)
    Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    before = _kilobytes("VmRSS")
    for _ in range(COUNT):
        train()
    peak = (_kilobytes("VmHWM") - before) * 1024
    known = _faults()
    for _ in range(COUNT):
        train()
    print(peak, (_faults() - known) / COUNT)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The table at the end of a benchmark run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

DIST = Path(__file__).parent.parent / "dist"
UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


@dataclass
class Row:
    """Seconds per call of one case in every round; `theirs` is empty without PyTorch."""

    case: str
    threads: int
    ours: Sequence[float]
    theirs: Sequence[float]

    def cells(self) -> list[str]:
        ours, theirs = _min_and_median(self.ours), _min_and_median(self.theirs)
        times = [_time(seconds) for seconds in (*ours, *theirs)]
        ratios = [f"{them / us:.2f}" for us, them in zip(ours, theirs, strict=False)]
        return [self.case, str(self.threads), *times, *ratios]


def _min_and_median(times: Sequence[float]) -> list[float]:
    return [min(times), statistics.median(times)] if times else []


def _time(seconds: float) -> str:
    unit, scale = next(((u, s) for u, s in UNITS if seconds >= s), UNITS[-1])
    return f"{seconds / scale:.3g} {unit}" if seconds < 100 * scale else f"{seconds / scale:.0f} {unit}"


def print_table(rows: Iterable[Row], write: Callable[[str], None]) -> None:
    """Writes a row per case: time per call, and how many times faster Firesteel is (above 1 is faster)."""
    head = [
        "case",
        "threads",
        "firesteel min",
        "median",
        "torch min",
        "median",
        "torch/firesteel min",
        "median",
    ]
    cells = [row.cells() for row in rows]
    columns = max(len(row) for row in cells)
    table = [head[:columns], *cells]
    widths = [max(len(row[i]) for row in table if i < len(row)) for i in range(columns)]
    for row in table:
        first, *rest = row
        aligned = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=False)]
        write("  ".join([first.ljust(widths[0]), *aligned]))


def sizes(libraries: Iterable[ModuleType], write: Callable[[str], None]) -> None:
    """Writes how much room each library takes when installed, and the wheel in `dist/`, if one is there."""
    for library in libraries:
        folder = Path(library.__file__).parent
        total = sum(
            path.stat().st_size
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )
        write(f"installed size of {library.__name__}: {total / 2**20:.1f} MiB")
    for wheel in sorted(DIST.glob("*.whl")):
        write(f"size of {wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB")

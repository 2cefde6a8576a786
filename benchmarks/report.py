"""The table at the end of a benchmark run: times, ratios, and what was wanted of them."""

from __future__ import annotations

import gzip
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

DIST = Path(__file__).parent.parent / "dist"
UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))
LARGEST_WHEEL = 6.0  # MB


@dataclass
class Row:
    """Seconds per call of one case in every round; `theirs` is empty without PyTorch.

    `ratio` is how many times faster than PyTorch it should be at least, `seconds` how long it may take.
    """

    case: str
    threads: int
    ours: Sequence[float]
    theirs: Sequence[float]
    ratio: float | None = None
    seconds: float | None = None

    def cells(self) -> list[str]:
        """The row as text: best and median times of both, their ratios, what was wanted and if it is met."""
        ours, theirs = _min_and_median(self.ours), _min_and_median(self.theirs)
        times = [_time(seconds) for seconds in (*ours, *(theirs or ["", ""]))]
        ratios = [f"{them / us:.2f}" for us, them in zip(ours, theirs, strict=False)] or ["", ""]
        return [self.case, str(self.threads), *times, *ratios, *self.verdict(ours, theirs)]

    def verdict(self, ours: Sequence[float], theirs: Sequence[float]) -> list[str]:
        """What was wanted of the best times, and "met" or "missed"."""
        if self.seconds is not None:
            return [f"<= {_time(self.seconds)}", "met" if ours[0] <= self.seconds else "missed"]
        if self.ratio is None:
            return ["", ""]
        met = "?" if not theirs else "met" if theirs[0] / ours[0] >= self.ratio else "missed"
        return [f">= {self.ratio:g} x", met]


def _min_and_median(times: Sequence[float]) -> list[float]:
    return [min(times), statistics.median(times)] if times else []


def _time(seconds: float | str) -> str:
    if isinstance(seconds, str):
        return seconds
    unit, scale = next(((u, s) for u, s in UNITS if seconds >= s), UNITS[-1])
    return f"{seconds / scale:.3g} {unit}" if seconds < 100 * scale else f"{seconds / scale:.0f} {unit}"


HEAD = ["case", "threads", "firesteel", "median", "torch", "median", "ratio", "median", "wanted", ""]


def print_table(rows: Iterable[Row], write: Callable[[str], None]) -> None:
    """Writes a row per case: best and median time per call, and how many times faster Firesteel is."""
    table = [HEAD, *(row.cells() for row in rows), _wheel()]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEAD))]
    for first, *rest in table:
        aligned = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        write("  ".join([first.ljust(widths[0]), *aligned]).rstrip())


def _wheel() -> list[str]:
    """The size of the newest wheel in `dist/`; without one that of the installed files, which judges nothing.

    `make wheel` optimises more than the build of `make bench`, and its file is smaller by a tenth.
    """
    import firesteel

    wheels = sorted(DIST.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    if wheels:
        name, size = "wheel", wheels[-1].stat().st_size
        met = "met" if size / 1e6 <= LARGEST_WHEEL else "missed"
    else:
        files = [path for path in Path(firesteel.__file__).parent.rglob("*") if path.is_file()]
        name, met = "wheel (estimated; see make wheel)", "?"
        size = sum(len(gzip.compress(path.read_bytes())) for path in files if path.suffix != ".pyc")
    return [name, "", f"{size / 1e6:.2f} MB", *[""] * 5, f"<= {LARGEST_WHEEL:g} MB", met]


def print_sizes(libraries: Iterable[ModuleType], write: Callable[[str], None]) -> None:
    """Writes how much room each library takes when installed."""
    for library in libraries:
        files = [path for path in Path(library.__file__).parent.rglob("*") if path.is_file()]
        total = sum(path.stat().st_size for path in files if path.suffix != ".pyc")
        write(f"installed size of {library.__name__}: {total / 1e6:.1f} MB")

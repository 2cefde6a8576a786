"""The tables at the end of a benchmark run: times, ratios, what was wanted of them, and what was missed."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import NamedTuple

from sizes import package_size, wheel_size

UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))
MB = 1e6
MISSED = ("missed", "missing", "wrong")
NOISE = 0.05  # the part of the processors that others may take before figures mean little
FAULTS = 1.0  # page faults of a training step from which on memory is not reused
SLOWDOWN = 2.5  # how many times longer a call may take beside a busy process


@dataclass(frozen=True)
class Group:
    """Rows about one thing; `goal` is what the geometric mean of their ratios should be at least."""

    name: str
    goal: float | None = None


QUIET, BUSY = Group("quiet machine"), Group("beside a busy process")


@dataclass
class Row:
    """Seconds per call of one case in every round; `theirs` is empty without PyTorch.

    `ratio` is how many times faster than PyTorch it should be at least, `seconds` how long it may take;
    `missing` is the name that Firesteel does not have; the result of a `wrong` row is not PyTorch's.
    """

    group: Group
    case: str
    threads: int
    ours: Sequence[float] = ()
    theirs: Sequence[float] = ()
    ratio: float | None = 1.0
    seconds: float | None = None
    missing: str | None = None
    wrong: bool = False

    @property
    def speedup(self) -> float | None:
        """How many times faster Firesteel is, in the median."""
        both = self.ours and self.theirs
        return statistics.median(self.theirs) / statistics.median(self.ours) if both else None

    @property
    def wanted(self) -> str:
        """What is wanted, as text."""
        if self.seconds is not None:
            return f"<= {time_text(self.seconds)}"
        return "" if self.ratio is None else f">= {self.ratio:g} x"

    @property
    def verdict(self) -> str:
        """One of `MISSED`, "met", "?" without PyTorch, and nothing where nothing is wanted."""
        if self.missing or self.wrong:
            return "wrong" if self.wrong else "missing"
        if self.seconds is not None:
            return _verdict(statistics.median(self.ours) <= self.seconds)
        if self.ratio is None:
            return ""
        return "?" if self.speedup is None else _verdict(round(self.speedup, 2) >= self.ratio)

    def cells(self) -> list[str]:
        """The row as text."""
        times = [time_text(statistics.median(times)) if times else "" for times in (self.ours, self.theirs)]
        ratio = "" if self.speedup is None else f"{self.speedup:.2f}"
        return [self.case, str(self.threads), *times, ratio, self.wanted, self.verdict]


@dataclass
class Mean:
    """The geometric mean of the ratios of a group's rows at one number of threads, of those that ran."""

    group: Group
    threads: int
    rows: int
    missing: int
    ratio: float | None

    @property
    def verdict(self) -> str:
        """As of a row."""
        if self.group.goal is None:
            return ""
        return "?" if self.ratio is None else _verdict(round(self.ratio, 2) >= self.group.goal)

    def text(self) -> str:
        """The mean as a line of the table."""
        ratio = "no ratio" if self.ratio is None else f"{self.ratio:.2f} x"
        missing = f", {self.missing} missing" if self.missing else ""
        wanted = "" if self.group.goal is None else f", wanted >= {self.group.goal:g} x: {self.verdict}"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"geometric mean, {threads}: {ratio} of {self.rows} rows{missing}{wanted}"


class Need(NamedTuple):
    """Bytes at the peak of training steps, above those before the first, and page faults of a later one."""

    peak: int
    faults: float


@dataclass
class Memory:
    """What training steps need; `theirs` is None without PyTorch."""

    step: str
    ours: Need | None
    theirs: Need | None

    @property
    def verdict(self) -> str:
        """As of a row; Firesteel should need no more than PyTorch, and nothing new from the system."""
        if self.ours is None:
            return "missing"
        if self.theirs is None:
            return "?"
        return _verdict(self.ours.peak <= self.theirs.peak and self.ours.faults < FAULTS)

    def cells(self) -> list[str]:
        """The row as text."""
        needs = (self.ours, self.theirs)
        peaks = ["" if need is None else f"{need.peak / MB:.1f} MB" for need in needs]
        faults = ["" if need is None else f"{need.faults:.1f}" for need in needs]
        return [self.step, *peaks, *faults, "<= torch, no faults", self.verdict]


@dataclass
class Slowdown:
    """How many times longer a case takes beside a busy process than on a quiet machine."""

    case: str
    ours: float
    theirs: float | None

    @property
    def verdict(self) -> str:
        """As of a row."""
        return _verdict(self.ours <= SLOWDOWN)

    def cells(self) -> list[str]:
        """The row as text."""
        theirs = "" if self.theirs is None else f"{self.theirs:.1f} x"
        return [self.case, f"{self.ours:.1f} x", theirs, f"<= {SLOWDOWN:g} x", self.verdict]


@dataclass
class Report:
    """All that a run has measured; `others` is the part of the processors that was busy when it began."""

    rows: list[Row] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    others: float | None = None

    def groups(self) -> list[Group]:
        """The groups in the order of their first rows."""
        return list(dict.fromkeys(row.group for row in self.rows))

    def means(self, group: Group) -> list[Mean]:
        """The geometric mean of a group for each number of threads."""
        means = []
        for threads in sorted({row.threads for row in self.rows if row.group == group}):
            rows = [row for row in self.rows if (row.group, row.threads) == (group, threads)]
            rows = [row for row in rows if row.ratio is not None]
            ratios = [row.speedup for row in rows if row.speedup is not None]
            missing = sum(row.missing is not None for row in rows)
            means.append(Mean(group, threads, len(rows), missing, geometric_mean(ratios)))
        return means

    def slowdowns(self) -> list[Slowdown]:
        """The cases that ran both on a quiet machine and beside a busy process."""
        quiet, busy = ({row.case: row for row in self.rows if row.group == group} for group in (QUIET, BUSY))
        return [
            Slowdown(
                case,
                *(_slowdown(getattr(quiet[case], side), getattr(row, side)) for side in ("ours", "theirs")),
            )
            for case, row in busy.items()
            if case in quiet and not row.missing
        ]

    def missed(self) -> list[Row]:
        """The rows that are slower than they should be (than PyTorch at least), missing, or wrong."""
        return [row for row in self.rows if row.verdict in MISSED]

    def print(self, write: Callable[[str], None], libraries: Iterable[ModuleType]) -> None:
        """Writes all tables, and what was missed."""
        self._print_rows(write)
        if self.memory:
            write("")
            write("peak memory of training steps, above that after building, and page faults of a later step")
            head = ["step", "firesteel", "torch", "faults", "torch's", "wanted", ""]
            print_table([head, *(m.cells() for m in self.memory)], write)
        slow = self.slowdowns()
        if slow:
            write("")
            write("how many times longer beside a busy process, with 2 threads")
            print_table([["case", "firesteel", "torch", "wanted", ""], *(s.cells() for s in slow)], write)
            ours = middle([row.ours for row in slow])
            theirs = middle([row.theirs for row in slow if row.theirs is not None])
            beside = "" if theirs is None else f", torch: {theirs:.1f} x"
            write(f"median: {ours:.1f} x{beside}, wanted <= {SLOWDOWN:g} x: {_verdict(ours <= SLOWDOWN)}")
        self._print_missed(write)
        write("")
        write(wheel_size())
        for library in libraries:
            write(package_size(library))
        if self.others is not None and self.others > NOISE:
            write(f"NOISE: other programs took {self.others:.0%} of the processors when the run began")

    def _print_rows(self, write: Callable[[str], None]) -> None:
        head = ["case", "threads", "firesteel", "torch", "ratio", "wanted", ""]
        grouped = [(group, [row for row in self.rows if row.group == group]) for group in self.groups()]
        widths = _widths([head, *(row.cells() for row in self.rows)])
        for group, rows in grouped:
            write("")
            write(group.name.upper())
            print_table([head, *(row.cells() for row in rows)], write, widths)
            for mean in self.means(group):
                if mean.ratio is not None or mean.missing:
                    write(mean.text())

    def _print_missed(self, write: Callable[[str], None]) -> None:
        missed, means = self.missed(), [mean for group in self.groups() for mean in self.means(group)]
        means = [mean for mean in means if mean.verdict == "missed"]
        small = [item for item in (*self.memory, *self.slowdowns()) if item.verdict == "missed"]
        write("")
        write(f"MISSED: {len(missed)} of {len(self.rows)} rows, {len(means)} of the groups' means")
        for mean in means:
            write(f"  {mean.group.name}: {mean.text()}")
        table = [[row.group.name, *row.cells()] for row in missed if not row.missing]
        if table:
            print_table(table, lambda line: write(f"  {line}"))
        for item in small:
            write("  " + "  ".join(item.cells()))
        for name, count in Counter(row.missing for row in missed if row.missing).items():
            write(f"  missing: {name} ({count} rows)")


def geometric_mean(ratios: Sequence[float]) -> float | None:
    """The geometric mean; None of nothing."""
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None


def middle(numbers: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return statistics.median(numbers) if numbers else None


def time_text(seconds: float) -> str:
    """Seconds in the unit that suits them, in three digits."""
    unit, scale = next(((u, s) for u, s in UNITS if seconds >= s), UNITS[-1])
    return f"{seconds / scale:.3g} {unit}" if seconds < 100 * scale else f"{seconds / scale:.0f} {unit}"


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _slowdown(quiet: Sequence[float], busy: Sequence[float]) -> float | None:
    return statistics.median(busy) / statistics.median(quiet) if quiet and busy else None


def _widths(table: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[i]) for row in table) for i in range(len(table[0]))]


def print_table(
    table: Sequence[Sequence[str]], write: Callable[[str], None], widths: Sequence[int] | None = None
) -> None:
    """Writes rows of text in columns, the first aligned to the left."""
    widths = widths or _widths(table)
    for first, *rest in table:
        aligned = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        write("  ".join([first.ljust(widths[0]), *aligned]).rstrip())

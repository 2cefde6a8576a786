"""How a race is run: batches of calls, and who is when at turn."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Long enough for the other library's workers to stop spinning: PyTorch's do so for 7 to 10 ms after a region.
# While they did, the workers of the next batch shared a processor with its caller: 20 to 40 % slower.
REST_SECONDS = 0.02
# Calls that take longer are not repeated to warm up.
LONG_SECONDS = 0.3
STATUS = Path("/proc/stat")


@dataclass(frozen=True)
class Pace:
    """Seconds of a batch, rounds at most and at least, and seconds of a row.

    Numbers of rounds are odd: each library has as many then. `single` is how many there are at most where a
    round is one call.
    """

    batch: float
    most: int
    least: int
    row: float
    single: int

    def rounds(self, seconds: float) -> int:
        """How many rounds of so many seconds fit into a row."""
        return min(self.most, max(self.least, int(self.row / seconds) // 2 * 2 + 1))


FULL = Pace(batch=0.02, most=21, least=3, row=1.1, single=5)
QUICK = Pace(batch=0.006, most=7, least=1, row=0.12, single=1)


def repeat(call: Callable[[], object], calls: int) -> None:
    """Makes so many calls."""
    for _ in range(calls):
        call()


def batch(call: Callable[[], object], seconds: float) -> tuple[int, float]:
    """How many calls take about `seconds`, after a few to warm up, and what they took."""
    begin, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begin) < seconds or (calls < 3 and elapsed < LONG_SECONDS):
        call()
        calls += 1
    return calls, elapsed


def share_of_others(seconds: float = 0.5) -> float | None:
    """The part of the processors' time that other programs take now; None where the system does not tell."""
    try:
        before = _processor_ticks()
        time.sleep(seconds)
        busy, all_ = (after - at for after, at in zip(_processor_ticks(), before, strict=True))
    except OSError:
        return None
    return busy / max(all_, 1)


def _processor_ticks() -> tuple[int, int]:
    """Those with work, and all of them, since the machine started."""
    ticks = [int(field) for field in STATUS.read_text().split("\n")[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # idle, and waiting for a disk


def race(benchmark, calls: list[Callable[[], object]], pace: Pace, batched: bool, rounds: int | None):
    """Times ours, the first of `calls`, and theirs, if there is a second, in turns; seconds per call of both.

    Ours are the rounds of pytest-benchmark. With `batched=False` a round is one call.
    """
    sizes = [batch(call, pace.batch) if batched else (1, 0.0) for call in calls]
    if rounds is not None:
        rounds = min(rounds, pace.single)
    else:
        rounds = pace.rounds(sum(seconds + REST_SECONDS for _, seconds in sizes))
    ours, *theirs = zip(calls, (size for size, _ in sizes), strict=True)
    their_times: list[float] = []

    def time_theirs():
        call, size = theirs[0]
        time.sleep(REST_SECONDS)
        begin = time.perf_counter()
        repeat(call, size)
        their_times.append((time.perf_counter() - begin) / size)

    turns = itertools.count()

    def before_ours():
        # Theirs, ours, ours, theirs, theirs, ours: who was last in one round is first in the next.
        turn = next(turns)
        if theirs and turn % 2 == 0:
            for _ in range(2 if turn else 1):
                time_theirs()
        time.sleep(REST_SECONDS)

    gc.collect()
    benchmark.pedantic(repeat, args=ours, setup=before_ours, rounds=rounds)
    return [seconds / ours[1] for seconds in benchmark.stats.stats.data], their_times

"""Beside another busy process: a library whose threads wait for each other by spinning stands still there.

The slowdown of each case is the table at the end of the run.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from calls import both, forward
from models import STEPS
from report import BUSY, QUIET

THREADS = 2

CASES = {
    "tanh 1e5": forward(lambda lib, x: x.tanh(), (100_000,)),
    "add 1e6": forward(lambda lib, x, y: x + y, (1_000_000,), (1_000_000,)),
    "sum 1e6": forward(lambda lib, x: x.sum(), (1_000_000,)),
    "matmul 256": forward(lambda lib, a, b: a @ b, (256, 256), (256, 256)),
    "softmax 128x1000, backward": both(lambda lib, x: x.softmax(1), (128, 1000)),
    "MNIST MLP, batch 64": STEPS["MNIST MLP, batch 64"],
    "LeNet, batch 64": STEPS["LeNet, batch 64"],
    "char GPT, attention by hand": STEPS["char GPT, attention by hand"],
}


@pytest.fixture
def neighbour():
    """A process that never rests."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield
    process.kill()
    process.wait()


def test_quiet(race, case):
    race(CASES[case], THREADS, group=QUIET)


def test_beside_a_busy_process(race, case, neighbour):
    race(CASES[case], THREADS, group=BUSY)

"""How much memory training steps need, and their page faults: a fresh process for each step and library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models import STEPS
from report import Need

CASES = STEPS
PROGRAM = Path(__file__).with_name("peak.py")


def _peak(library: str, step: str) -> Need | None:
    done = subprocess.run([sys.executable, PROGRAM, library, step], capture_output=True, text=True)
    if done.returncode and "AttributeError" in done.stderr:
        return None
    assert done.returncode == 0, done.stderr
    peak, faults = done.stdout.split()
    return Need(int(peak), float(faults))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_peak_memory(compare_memory, case):
    compare_memory(_peak, case)

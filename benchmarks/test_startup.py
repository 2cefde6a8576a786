"""Wall time of a program that only imports the library: interpreter, import and exit."""

from __future__ import annotations

import subprocess
import sys

import pytest

from report import Group

GROUP = Group("start-up")
WITHOUT_NUMPY = "import sys, warnings; warnings.simplefilter('ignore'); sys.modules['numpy'] = None; "


@pytest.mark.parametrize("prefix", ["", WITHOUT_NUMPY], ids=["numpy installed", "without numpy"])
def test_import(race, prefix):
    def make(lib):
        command = [sys.executable, "-c", f"{prefix}import {lib.__name__}"]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    race(make, batched=False, rounds=5, seconds=0.040)


def test_bare_interpreter(race):
    def make(_lib):
        return lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)

    race(make, batched=False, rounds=5, ratio=None)

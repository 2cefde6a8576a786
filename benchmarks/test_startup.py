"""Wall time of a program that only imports the library: interpreter, import and exit."""

from __future__ import annotations

import subprocess
import sys

from report import Group

GROUP = Group("start-up")
WITHOUT_NUMPY = "import sys, warnings; warnings.simplefilter('ignore'); sys.modules['numpy'] = None; "


CASES = {"import, numpy installed": "", "import without numpy": WITHOUT_NUMPY}


def test_import(race, case):
    def make(lib):
        command = [sys.executable, "-c", f"{CASES[case]}import {lib.__name__}"]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    race(make, batched=False, rounds=5, seconds=0.040)


def test_bare_interpreter(race):
    def make(_lib):
        return lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)

    race(make, batched=False, rounds=5, ratio=None)

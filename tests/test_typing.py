"""The types that users see: mypy passes a typed program, and the stub's aliases are true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from firesteel import _core

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "tests" / "typing" / "sample.py"
STUB = ROOT / "python" / "firesteel" / "_core.pyi"


def _run(*command: object) -> str:
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_typed_program_passes_mypy() -> None:
    pytest.importorskip("mypy")
    _run("-m", "mypy", SAMPLE)


def test_the_typed_program_runs() -> None:
    assert re.fullmatch(r"accuracy \d\d%\n", _run(SAMPLE))


def test_functions_that_the_stub_calls_methods_are_those_methods() -> None:
    aliases = re.findall(r"^(\w+) = Tensor\.(\w+)$", STUB.read_text(), re.MULTILINE)
    assert len(aliases) > 50  # the others take `out=` beside what the method takes
    assert not [
        name
        for name, method in aliases
        if getattr(_core, name).__wrapped__ is not getattr(_core.Tensor, method)
    ]

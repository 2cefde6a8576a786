"""The programs that open the documentation print what PyTorch prints, character for character."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import firesteel

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parent.parent.parent


def _output(lib, programs) -> str:
    """What the programs print, one after the other in one session, with `lib` as `torch`."""
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        namespace = {"torch": lib}
        for program in programs:
            exec(program.replace("import firesteel as torch\n", ""), namespace)
    return stdout.getvalue()


@pytest.mark.parametrize("page", ["docs/autograd.md", "README.md"])
def test_the_two_programs_print_what_pytorch_prints(page):
    programs = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)[:2]
    assert "manual_seed(0)" in programs[1]
    printed = _output(firesteel, programs)
    assert printed == _output(torch, programs)
    assert printed.count("\n") == 5

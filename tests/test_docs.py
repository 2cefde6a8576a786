"""The documentation tells the truth: its Python blocks run and print what stands beside or below them.

The ```python blocks of a file run from top to bottom in one namespace. What a statement prints is compared
with the comment at its end, and what a block prints with the ```text block right below it; `...` stands for
any text. Pictures are what the code above them draws. Examples in docstrings are doctests.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import importlib.util
import io
import pkgutil
import re
import tokenize
from pathlib import Path
from types import ModuleType

import pytest

import firesteel

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
# Programs, not modules: they need what training and building need.
MODULES = [
    module.name
    for module in pkgutil.walk_packages(firesteel.__path__, "firesteel.")
    if module.name not in ("firesteel._core", "firesteel.datasets._make_digits")
]


def _comments(source: str) -> dict[int, str]:
    """Maps the number of a line to the comment at its end."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def _check(printed: str, expected: str, where: str) -> None:
    """Compares two texts, `...` in the second standing for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    assert re.fullmatch(pattern, printed.strip(), re.DOTALL), (
        f"{where}: expected\n{expected}\nbut it printed\n{printed}"
    )


def _is_print(statement: ast.stmt) -> bool:
    """Whether a statement calls `print`: the comment at its end is then what it prints."""
    return isinstance(statement, ast.Expr) and ast.unparse(statement).startswith("print(")


def _run_block(source: str, namespace: dict[str, object], where: str) -> str:
    """Runs the statements one by one, checks those that print, and returns all that was printed."""
    comments = _comments(source)
    output = ""
    for statement in ast.parse(source).body:
        code = compile(ast.Module([statement], []), where, "exec")
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            exec(code, namespace)
        printed = stdout.getvalue()
        if statement.end_lineno in comments and (printed or _is_print(statement)):
            _check(printed, comments[statement.end_lineno], f"{where}, `{ast.unparse(statement)}`")
        output += printed
    return output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_on_the_page_runs(page: Path) -> None:
    text = page.read_text()
    assert len(re.findall("```(python|py|text)", text)) == sum(
        1 + (block[2] is not None) for block in BLOCK.finditer(text)
    ), "a block is written in a way that the tests do not see"
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        where = f"{page.name}:{text.count(chr(10), 0, block.start()) + 1}"
        output = _run_block(block[1], namespace, where)
        if block[2] is not None:
            _check(output, block[2], where)


def _drawing_program() -> ModuleType:
    """`docs/pictures/draw.py`."""
    spec = importlib.util.spec_from_file_location("draw", ROOT / "docs/pictures/draw.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pictures_are_what_the_code_above_them_draws(page: Path) -> None:
    drawn = list(_drawing_program().pictures(page))
    assert len(drawn) == len(re.findall(r"pictures/\S+\.svg", page.read_text())), "a link is not seen"
    for path, svg in drawn:
        same = path.exists() and path.read_text(encoding="utf-8") == svg
        assert same, f"{path.name} is not what {page.name} draws: run docs/pictures/draw.py and look at it"


def test_every_picture_is_on_a_page() -> None:
    links = {Path(name).name for page in PAGES for name in re.findall(r"pictures/\S+\.svg", page.read_text())}
    assert {path.name for path in (ROOT / "docs/pictures").glob("*.svg")} == links


def test_a_wrong_page_is_noticed() -> None:
    with pytest.raises(AssertionError, match="expected"):
        _run_block("print(1)  # 2\n", {}, "page")
    with pytest.raises(AssertionError, match="expected"):
        _run_block("print(end='')  # 2\n", {}, "page")
    assert _run_block("print('a 0x12 b')  # a ... b\n", {}, "page") == "a 0x12 b\n"


@pytest.mark.parametrize("name", ["firesteel", *MODULES])
def test_examples_in_docstrings_run(name: str) -> None:
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0, report.getvalue()

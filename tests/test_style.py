"""The rules of the house that a program can check: where unsafe code, threads and Python may appear."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from firesteel import _core

ROOT = Path(__file__).parent.parent
RUST = sorted(path for folder in ("core", "python") for path in (ROOT / "rust" / folder).rglob("*.rs"))
PYTHON = sorted((ROOT / "python").rglob("*.py"))
OTHER = [path for folder in ("tests", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")]

# Where unsafe code may stand, as paths in the source folders of the two crates.
UNSAFE = {
    "core": ("kernels/", "alloc/", "alloc.rs", "array.rs", "par.rs", "simd.rs", "storage.rs"),
    "python": ("numpy.rs", "tensor/identity.rs", "tensor/mod.rs"),
}
LONGEST_FILE = 600
# How far above an unsafe block its reason may stand: an attribute or the start of a statement lies between.
REASON_WITHIN = 3


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _code_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbers and text of the lines of a Rust file, without comments and strings."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        yield number, re.sub(r'"(\\.|[^"\\])*"', '""', line).split("//")[0]


def _has_reason(lines: list[str], number: int) -> bool:
    """Whether a SAFETY comment stands within a few lines above line `number`, or begins there."""
    for distance in range(1, REASON_WITHIN + 1):
        at = number - 1 - distance
        while at >= 0 and lines[at].strip().startswith("//"):
            if "SAFETY:" in lines[at]:
                return True
            at -= 1
    return "SAFETY:" in lines[number - 1] or _is_covered(lines, number)


def _is_covered(lines: list[str], number: int) -> bool:
    """Whether line `number` is part of an item with one reason for all, `SAFETY (all blocks):`."""
    for first in (i for i, line in enumerate(lines[:number]) if "SAFETY (all blocks):" in line):
        indent = lines[first][: -len(lines[first].lstrip())]
        last = next((i for i in range(first, len(lines)) if lines[i] == indent + "}"), first)
        if first < number <= last:
            return True
    return False


@pytest.mark.parametrize("path", RUST, ids=_name)
def test_unsafe_code_is_where_it_may_be_and_says_why_it_is_sound(path: Path) -> None:
    crate, folder, *_ = path.relative_to(ROOT / "rust").parts
    inside = path.relative_to(ROOT / "rust" / crate / folder).as_posix()
    allowed = folder != "src" or inside.startswith(UNSAFE[crate])
    lines = path.read_text().splitlines()
    for number, code in _code_lines(path):
        if re.search(r"\bunsafe\b", code):
            assert allowed, f"{_name(path)}:{number}: unsafe code may not stand here"
        if re.search(r"\bunsafe\s*(\{|impl\b)", code):
            assert _has_reason(lines, number), f"{_name(path)}:{number}: no SAFETY comment above"


def _naming(word: str) -> set[str]:
    """Names of the Rust files whose code contains `word`."""
    pattern = re.compile(rf"\b{word}\b")
    return {_name(path) for path in RUST if any(pattern.search(code) for _, code in _code_lines(path))}


def test_rayon_is_named_in_one_file() -> None:
    assert _naming("rayon") == {"rust/core/src/par.rs"}


def test_the_core_does_not_know_python() -> None:
    assert all(name.startswith("rust/python/") for name in _naming("pyo3"))
    assert "pyo3" not in (ROOT / "rust/core/Cargo.toml").read_text()


def test_files_are_short() -> None:
    files = [path for path in (*RUST, *PYTHON, *OTHER) if "op_cases" not in path.parts]
    lengths = {_name(path): len(path.read_text().splitlines()) for path in files}
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FILE}


def _undocumented(path: Path) -> Iterator[str]:
    """Public classes and functions of a module that have no docstring, and the module itself."""
    module = ast.parse(path.read_text())
    if ast.get_docstring(module) is None:
        yield "the module"
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            overload = any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)
            if ast.get_docstring(node) is None and not overload:
                yield node.name


@pytest.mark.parametrize("path", PYTHON, ids=_name)
def test_public_python_is_documented(path: Path) -> None:
    assert not list(_undocumented(path))


@pytest.mark.parametrize("owner", [_core, _core.Tensor, _core.Generator], ids=lambda owner: owner.__name__)
def test_public_names_of_the_binding_are_documented(owner: object) -> None:
    public = {name: getattr(owner, name) for name in vars(owner) if not name.startswith("_")}
    named = [name for name, value in public.items() if callable(value) or inspect.isdatadescriptor(value)]
    docs = {name: inspect.getdoc(public[name]) for name in named}
    assert not [name for name, doc in docs.items() if not doc]
    assert docs.get("exp", "exp(input)").startswith("exp(input)"), "functions show the docs of their methods"

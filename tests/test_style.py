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
    "core": (
        "kernels/",
        "alloc/",
        "alloc.rs",
        "array.rs",
        "par.rs",
        "shared.rs",
        "watched.rs",
        "simd.rs",
        "stack.rs",
        "storage.rs",
    ),
    "python": ("numpy.rs", "tensor/identity.rs", "tensor/lent.rs", "tensor/mod.rs"),
}
LONGEST_FILE = 600
# Gradient rules and what only they call: the engine catches what the operators on tensors unwind with there.
GRADIENT_RULES = (
    *("backward", "curvature", "recorded", "recorded_grad", "by_input", "by_target", "side", "shares"),
    *("winner", "flat", "exponent_grad", "others_product", "cumprod_grad"),
)
# Methods of tensors that return something else.
NO_TENSOR = r"\.(item\w*|array|numel|shape|rank|dtype|strides|layout|count|divisor)\("
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


def _functions(text: str) -> Iterator[tuple[int, str, str, str]]:
    """The functions of a Rust file but for its tests: line, name, parameters, and body without its texts."""
    text = re.sub(
        r'"(\\[\s\S]|[^"\\])*"',
        lambda string: '""' + "\n" * string[0].count("\n"),
        text.split("#[cfg(test)]")[0],
    )
    text = re.sub(r"//.*", "", text)
    for match in re.finditer(r"\bfn (\w+)(<[^(]*>)?\(((?:\[[^\]]*\]|[^{;])*)\{", text):
        depth, end = 1, match.end()
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        yield text[: match.end()].count("\n") + 1, match[1], match[3], text[match.end() : end]


def _tensors(parameters: str, body: str) -> set[str]:
    """Names in a Rust function that hold tensors, as far as can be seen from here."""
    names = set(re.findall(r"(\w+): [^,)]*\bTensor\b", parameters))
    for bound, value in re.findall(r"\blet (?:mut )?(\(?[\w, ]+\)?) = ([^;]*);", body):
        known = "|".join({*names, "self"} - {"mut"})
        made = re.search(r"\bTensor::\w+\(", value) or re.search(
            rf"\b({known})\.\w+\(.*(\)\?|clone\(\))", value, re.DOTALL
        )
        if made and not re.search(NO_TENSOR, value):
            names |= set(re.findall(r"\w+", bound))
    return names - {"self", "mut", "_"}


def _operators_on_tensors(parameters: str, body: str) -> Iterator[int]:
    """Where in the body `+ - * /` stand beside a tensor."""
    tensors = _tensors(parameters, body)
    for match in re.finditer(r"(\)\?|\)|\b\w+)\s+[-+*/]\s+(&?\(?&?\w+\b)(?![.(\w:])?", body):
        left, right = match[1], match[2].lstrip("&(")
        call = body[: match.end(1)].rstrip("?")
        if left.startswith(")"):
            start = len(call) - 1
            depth = 1
            while depth and start:
                start -= 1
                depth += {")": 1, "(": -1}.get(call[start], 0)
            called = re.search(r"[\w.:]*$", call[:start])
            made = "?" in left or (called and called[0].startswith("Tensor::"))
            is_left = bool(made) and not re.search(NO_TENSOR, (called[0] if called else "") + "(")
        else:
            is_left = left in tensors and not call[: match.start(1)].endswith(".")
        after = body[match.end(2) : match.end(2) + 1]
        if is_left or (right in tensors and after not in (".", "(", ":", "[")):
            yield match.start()
    for match in re.finditer(r"(?:[=(,>]|\breturn)\s+-(\w+)[^;,]*?\)\?", body):
        if match[1] in tensors and not re.search(NO_TENSOR, match[0]):
            yield match.start()


@pytest.mark.parametrize("path", [path for path in RUST if "core/src/ops" in path.as_posix()], ids=_name)
def test_operators_on_tensors_stand_in_gradient_rules(path: Path) -> None:
    """Elsewhere their errors would unwind through code that does not expect it."""
    for line, name, parameters, body in _functions(path.read_text()):
        if name not in GRADIENT_RULES and path.name != "operators.rs":
            found = [line + body[:at].count("\n") for at in _operators_on_tensors(parameters, body)]
            assert not found, f"{_name(path)}:{found}: {name} is no gradient rule; use .add(..)? and the like"


def test_operators_on_tensors_are_found() -> None:
    forward = """fn forward(x: &Tensor, n: usize) -> Result<Tensor> {
        let mean = x.mean(&[], true)?;
        let count = x.numel() * n + 1; // x - mean
        let sum = x.sub(&mean)?.square()? / 2.0;
        let next = count - 1;
        Ok(-x.neg()? + Tensor::constant(a) * mean)
    }"""
    ((line, name, parameters, body),) = _functions(forward)
    assert (line, name) == (1, "forward")
    lines = {1 + body[:at].count("\n") for at in _operators_on_tensors(parameters, body)}
    assert lines == {4, 6}


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


def _strings_without_effect(tree: ast.Module) -> Iterator[int]:
    """Lines of strings that stand alone and describe nothing: the rest of a text that was cut off."""
    for owner in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(owner, field, None)
            for before, statement in (
                zip([None, *block], block, strict=False) if isinstance(block, list) else ()
            ):
                value = statement.value if isinstance(statement, ast.Expr) else None
                is_text = isinstance(value, ast.JoinedStr) or (
                    isinstance(value, ast.Constant) and isinstance(value.value, str)
                )
                if is_text and not (before is None or isinstance(before, ast.Assign | ast.AnnAssign)):
                    yield statement.lineno


def test_strings_are_not_cut_off() -> None:
    assert list(_strings_without_effect(ast.parse('def f():\n    return "a "\n    f"{1}"'))) == [3]
    found = {
        _name(path): list(_strings_without_effect(ast.parse(path.read_text()))) for path in (*PYTHON, *OTHER)
    }
    assert not {name: lines for name, lines in found.items() if lines}

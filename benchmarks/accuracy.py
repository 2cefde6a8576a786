"""Measures the largest errors of functions, and of sums, and writes them into docs/accuracy.md.

    python benchmarks/accuracy.py [docs/accuracy.md]

Errors are in ulp: units of the last place of the exact value. Firesteel is measured once for each instruction
set that the machine has, in processes of their own (`FIRESTEEL_ISA`), and PyTorch beside it where it is
installed. What is exact comes from float64 for float32, and from the processor's 80 bits for float64.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PAGE = Path(__file__).parent.parent / "docs" / "accuracy.md"
BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"
SETS = {"baseline": "SSE2", "v3": "AVX2", "v4": "AVX-512"}
# Of the bit patterns of float32 every so many'th is tried, as in the tests of the kernels.
STEP = 4001
# Numbers in float64 that are tried.
COUNT = 200_000
INF = math.inf
HAS_80_BITS = np.finfo(np.longdouble).nmant > 60
Arrays = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Function:
    """A function, what is exact, where it is tried, and the largest error that the tests allow in float32."""

    call: Callable[..., Any]
    exact: Arrays
    low: float
    high: float
    allowed: float


def _each(function: Callable[[float], float]) -> Arrays:
    return np.vectorize(function, otypes=[np.float64])


def _erf(x: np.ndarray) -> np.ndarray:
    """Of float64 by Python's; of 80 bits by a series whose terms are all positive."""
    if x.dtype == np.float64:
        return _each(math.erf)(x)
    a = np.minimum(abs(x), np.longdouble(7))
    term = total = a
    for n in range(1, 250):
        term = term * (2 * a * a) / (2 * n + 1)
        total = total + term
    return np.copysign(total * np.exp(-a * a) * (2 / np.sqrt(4 * np.arctan(np.longdouble(1)))), x)


def _gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + _erf(x / np.sqrt(x.dtype.type(2))))


FUNCTIONS = {
    "exp": Function(lambda lib, x: x.exp(), np.exp, -INF, INF, 1.05),
    "expm1": Function(lambda lib, x: x.expm1(), np.expm1, -INF, INF, 2.0),
    "log": Function(lambda lib, x: x.log(), np.log, 0.0, INF, 1.05),
    "log1p": Function(lambda lib, x: x.log1p(), np.log1p, -1.0, INF, 1.6),
    "log2": Function(lambda lib, x: x.log2(), np.log2, 0.0, INF, 0.51),
    "log10": Function(lambda lib, x: x.log10(), np.log10, 0.0, INF, 0.51),
    "pow": Function(lambda lib, x, y: x**y, np.power, 0.0, INF, 1.0),
    "sqrt": Function(lambda lib, x: x.sqrt(), np.sqrt, 0.0, INF, 0.51),
    "sin": Function(lambda lib, x: x.sin(), np.sin, -INF, INF, 2.0),
    "cos": Function(lambda lib, x: x.cos(), np.cos, -INF, INF, 2.0),
    "tan": Function(lambda lib, x: x.tan(), np.tan, -INF, INF, 4.0),
    "tanh": Function(lambda lib, x: x.tanh(), np.tanh, -INF, INF, 2.0),
    "sigmoid": Function(lambda lib, x: x.sigmoid(), lambda x: 1 / (1 + np.exp(-x)), -88.0, INF, 2.0),
    "silu": Function(
        lambda lib, x: lib.nn.functional.silu(x), lambda x: x / (1 + np.exp(-x)), -88.0, INF, 2.0
    ),
    "softplus": Function(
        lambda lib, x: lib.nn.functional.softplus(x), lambda x: np.log1p(np.exp(x)), -87.0, 19.0, 2.0
    ),
    "logsigmoid": Function(
        lambda lib, x: lib.nn.functional.logsigmoid(x),
        lambda x: np.minimum(x, 0) - np.log1p(np.exp(-abs(x))),
        -INF,
        INF,
        2.0,
    ),
    "erf": Function(lambda lib, x: x.erf(), _erf, -INF, INF, 2.0),
    "gelu": Function(lambda lib, x: lib.nn.functional.gelu(x), _gelu, -0.5, INF, 3.5),
}


def _inputs(name: str, dtype: Any, step: int) -> list[np.ndarray]:
    """Numbers of all magnitudes between the function's bounds; for `pow` bases and exponents."""
    function, rng = FUNCTIONS[name], np.random.default_rng(0)
    if dtype == np.float32 and name != "pow":
        x = np.arange(0, 2**32, step, dtype=np.uint32).view(np.float32)
    else:
        most = 20 if name == "pow" else 12
        magnitudes = np.exp2(rng.uniform(-most if name == "pow" else -40, most, COUNT * STEP // step))
        x = (magnitudes * rng.choice([-1, 1], magnitudes.size)).astype(dtype)
    x = x[np.isfinite(x) & (x > function.low) & (x < function.high)]
    return [x, rng.uniform(-6, 6, x.size).astype(dtype)] if name == "pow" else [x]


def ulps(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distances in units of the last place of the exact value, which has more digits than `got`."""
    kind = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        same = (got == rounded) & ~np.isfinite(got) | np.isnan(got) & np.isnan(exact)
        _, exponents = np.frexp(np.maximum(abs(exact), kind.tiny))
        unit = np.ldexp(exact.dtype.type(1), exponents - 1 - kind.nmant)
        return np.where(same, 0, abs(got.astype(exact.dtype) - exact) / unit).astype(np.float64)


def largest_error(lib: Any, name: str, dtype: Any, step: int = STEP) -> float:
    """The largest error of a function of the library `lib` in ulp."""
    function, inputs = FUNCTIONS[name], _inputs(name, dtype, step)
    got = function.call(lib, *(lib.from_numpy(x) for x in inputs)).numpy()
    with np.errstate(all="ignore"):
        wide = np.float64 if dtype == np.float32 else np.longdouble
        exact = function.exact(*(x.astype(wide) for x in inputs))
    return float(ulps(got, exact).max())


def sum_errors(lib: Any) -> dict[str, float]:
    """Relative errors of sums of float32 from 0 to 1, the largest of some, by shape and dim."""
    errors: dict[str, float] = {}
    for rows, cols in ((1, 1_000), (1, 1_000_000), (1, 30_000_000), (1_000_000, 8)):
        x = np.random.default_rng(0).random((rows, cols), dtype=np.float32)
        exact = x.sum(1 if rows == 1 else 0, dtype=np.longdouble)
        got = lib.from_numpy(x).sum(1 if rows == 1 else 0).numpy()
        errors[f"{rows * cols // exact.size:,}, {'rows' if rows == 1 else 'columns'}"] = float(
            abs(got / exact - 1).max()
        )
    return errors


def measure(library: str) -> dict[str, Any]:
    """All errors of a library, in this process."""
    lib = importlib.import_module(library)
    kinds = [np.float32, np.float64] if HAS_80_BITS else [np.float32]
    return {
        "functions": {name: [largest_error(lib, name, kind) for kind in kinds] for name in FUNCTIONS},
        "sums": sum_errors(lib),
    }


def _all_sets() -> Iterator[tuple[str, dict[str, Any]]]:
    """The errors of Firesteel for each instruction set of this machine, and of PyTorch."""
    for level, title in SETS.items():
        environment = os.environ | {"FIRESTEEL_ISA": level}
        command = [sys.executable, __file__, "--measure"]
        output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        result = json.loads(output)
        if result["level"] == level:
            yield title, result
    if importlib.util.find_spec("torch"):
        yield "PyTorch", measure("torch")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _range(function: Function) -> str:
    ends = [
        ("-∞" if end < 0 else "∞") if math.isinf(end) else f"{end:g}" for end in (function.low, function.high)
    ]
    return " to ".join(ends)


def _digits(error: float) -> str:
    return "∞" if math.isinf(error) else f"{error:.2f}"


def tables(results: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The page's tables, by the names of their markers."""
    made = {}
    for index, kind in enumerate(("float32", "float64")):
        rows = []
        for name, function in FUNCTIONS.items():
            measured = [result["functions"][name][index : index + 1] for result in results.values()]
            allowed = [f"{function.allowed:g}"] if index == 0 else []
            rows.append(
                [f"`{name}`", _range(function), *allowed, *(_digits(e[0]) if e else "" for e in measured)]
            )
        made[kind] = _table(["function", "range", *["allowed"] * (index == 0), *results], rows)
    counts = next(iter(results.values()))["sums"]
    rows = [[count, *(f"{result['sums'][count]:.1e}" for result in results.values())] for count in counts]
    made["sums"] = _table(["terms", *results], rows)
    return made


def write(page: Path, made: dict[str, str]) -> None:
    """Puts each table between its markers."""
    text = page.read_text()
    for name, table in made.items():
        before, begin, rest = text.partition(BEGIN.format(name))
        _, end, after = rest.partition(END.format(name))
        if not end:
            raise ValueError(f"{page} needs the lines {BEGIN.format(name)} and {END.format(name)}")
        text = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    page.write_text(text)


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        from firesteel import _core

        print(json.dumps(measure("firesteel") | {"level": _core._cpu_capability()}))
    else:
        write(*map(Path, sys.argv[1:2] or [PAGE]), tables(dict(_all_sets())))

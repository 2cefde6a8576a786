"""Writes the results of a benchmark run into the README, between its two markers.

python benchmarks/readme.py RESULTS.json [README.md]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from report import BUSY, QUIET, time_text

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
TRAINING = "training steps"
MB = 1e6


def tables(results: dict[str, Any]) -> str:
    """The geometric means of all groups, and the times of the training steps, in Markdown."""
    machine = results["machine"]
    threads = sorted({mean["threads"] for mean in results["groups"]})
    heads = [f"{count} thread{'s' * (count > 1)}" for count in threads]
    versions = f"Firesteel {machine['firesteel']} beside PyTorch {machine['torch']}"
    kind = " (a quick run)" if results["quick"] else ""
    source = f"{versions} on {machine['cores']} cores of {machine['cpu']} ({machine['isa']})"
    groups = dict.fromkeys(mean["group"] for mean in results["groups"])
    shown = [group for group in groups if group not in (QUIET.name, BUSY.name)]
    return "\n".join(
        [
            f"{source}, {results['date'][:10]}{kind}. How many times faster, in the geometric mean:",
            "",
            *_markdown([["group", "rows", *heads], *(_group(results, group, threads) for group in shown)]),
            "",
            "Training steps, and the memory that they need beyond model and library (Firesteel, PyTorch):",
            "",
            *_markdown([["step", *heads, "memory"], *_steps(results, threads)]),
        ]
    )


def _group(results: dict[str, Any], group: str, threads: list[int]) -> list[str]:
    means = {mean["threads"]: mean for mean in results["groups"] if mean["group"] == group}
    most = max(means.values(), key=lambda mean: mean["rows"])
    missing = f" ({most['missing']} missing)" if most["missing"] else ""
    ratios = [means[count]["geometric_mean"] if count in means else None for count in threads]
    return [group, f"{most['rows']}{missing}", *("" if r is None else f"{r:.2f} x" for r in ratios)]


def _steps(results: dict[str, Any], threads: list[int]) -> Iterable[list[str]]:
    rows = {(row["case"], row["threads"]): row for row in results["rows"] if row["group"] == TRAINING}
    memory = {row["step"]: row for row in results["memory"]}
    for step in dict.fromkeys(case for case, _ in rows):
        times = [_pair(rows.get((step, count)), lambda side: time_text(side["median"])) for count in threads]
        yield [step, *times, _pair(memory.get(step), lambda side: f"{side['peak'] / MB:.1f} MB")]


def _pair(row: dict[str, Any] | None, text) -> str:
    sides = [row["firesteel"], row["torch"]] if row else []
    return ", ".join(text(side) for side in sides) if sides and None not in sides else ""


def _markdown(rows: Iterable[list[str]]) -> list[str]:
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return [head, "| --- " * (head.count("|") - 1) + "|", *rest]


def write(results: dict[str, Any], readme: Path = README) -> None:
    """Replaces what stands between the markers.

    Raises:
        ValueError: where the markers are not there.
    """
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme} needs the lines {BEGIN} and {END} where the tables belong")
    readme.write_text(f"{before}{BEGIN}\n\n{tables(results)}\n\n{END}{after}")


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text()), *map(Path, sys.argv[2:]))

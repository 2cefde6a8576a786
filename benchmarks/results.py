"""The results of a run as JSON, with the machine that they come from."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import firesteel
from report import Mean, Memory, Report, Row, Slowdown, middle


def write_json(path: Path, report: Report, quick: bool) -> None:
    """Writes everything that a run has measured."""
    slow = report.slowdowns()
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine() | {"others": report.others},
        "groups": [_mean(mean) for group in report.groups() for mean in report.means(group)],
        "rows": [_row(row) for row in report.rows],
        "memory": [_memory(row) for row in report.memory],
        "busy": {
            "cases": [_slowdown(row) for row in slow],
            "firesteel": middle([row.ours for row in slow]),
            "torch": middle([row.theirs for row in slow if row.theirs is not None]),
        },
        "missed": [{"group": r.group.name, "case": r.case, "threads": r.threads} for r in report.missed()],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def machine() -> dict[str, object]:
    """Processor, cores, the instruction set of Firesteel's kernels, and versions."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "isa": firesteel._core._cpu_capability(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "firesteel": firesteel.__version__,
        "torch": _version("torch"),
        "numpy": _version("numpy"),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _times(times: Sequence[float]) -> dict[str, float] | None:
    return {"min": min(times), "median": statistics.median(times), "rounds": len(times)} if times else None


def _row(row: Row) -> dict[str, object]:
    return {
        "group": row.group.name,
        "case": row.case,
        "threads": row.threads,
        "firesteel": _times(row.ours),
        "torch": _times(row.theirs),
        "ratio": row.speedup,
        "wanted": row.wanted,
        "verdict": row.verdict,
        "missing": row.missing,
    }


def _mean(mean: Mean) -> dict[str, object]:
    return {
        "group": mean.group.name,
        "threads": mean.threads,
        "rows": mean.rows,
        "missing": mean.missing,
        "geometric_mean": mean.ratio,
        "goal": mean.group.goal,
        "verdict": mean.verdict,
    }


def _memory(row: Memory) -> dict[str, object]:
    sides = {"firesteel": row.ours, "torch": row.theirs}
    needs = {side: None if need is None else need._asdict() for side, need in sides.items()}
    return {"step": row.step, **needs, "verdict": row.verdict}


def _slowdown(row: Slowdown) -> dict[str, object]:
    return {"case": row.case, "firesteel": row.ours, "torch": row.theirs, "verdict": row.verdict}

"""The benchmarks: every case runs, results have their fields, and means and verdicts are right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import firesteel
import readme
from agree import losses_agree, made, missing_name, results_agree
from models import STEPS
from racing import FULL, QUICK, batch, share_of_others
from report import BUSY, QUIET, Group, Memory, Need, Report, Row, geometric_mean
from results import write_json

ROOT = Path(__file__).parent.parent
FAST = Group("fast", 1.5)
FIELDS = {"date", "quick", "machine", "groups", "rows", "memory", "busy", "missed"}
ROW_FIELDS = {
    *("group", "case", "threads", "firesteel", "torch", "ratio", "wanted", "verdict", "missing"),
}


def _benchmarks(*options: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--threads", "1", *options]
    environment = os.environ | {"PYTHONPATH": str(Path(firesteel.__file__).parent.parent)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _report() -> Report:
    rows = [
        Row(FAST, "eight times", 1, [1.0, 1.0, 9.0], [8.0, 7.0, 8.0]),
        Row(FAST, "half", 1, [2.0], [1.0]),
        Row(FAST, "not there", 1, missing="nn.Hopfield"),
        Row(FAST, "not right", 2, wrong=True),
        Row(FAST, "three, of four", 2, [1.0], [3.0], ratio=4.0),
        Row(Group("start-up"), "import", 1, [0.03], [1.2], seconds=0.04),
        Row(Group("start-up"), "nothing wanted", 1, [1.0], [0.5], ratio=None),
        *(Row(QUIET, case, 2, [1.0], [1.0]) for case in ("a", "b", "only quiet")),
        Row(BUSY, "a", 2, [2.0], [50.0]),
        Row(BUSY, "b", 2, [3.0], [10.0]),
    ]
    memory = [
        Memory("step", Need(3_000_000, 0.0), Need(2_000_000, 5.0)),
        Memory("not there", None, Need(1, 0.0)),
    ]
    return Report(rows, memory, others=0.5)


def test_every_case_runs() -> None:
    assert " passed" in _benchmarks("benchmarks", "--benchmark-disable")


def test_a_race_writes_its_results(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    options = ("benchmarks/test_overhead.py", "--benchmark-only", "--quick", "-k", "exp", "--json", str(path))
    table = _benchmarks(*options)
    results = json.loads(path.read_text())
    assert results.keys() == FIELDS and results["quick"]
    assert results["machine"]["isa"] == firesteel._core._cpu_capability()
    assert results["machine"]["cores"] >= 1
    (row,) = results["rows"]
    assert row.keys() == ROW_FIELDS
    assert (row["group"], row["case"], row["threads"]) == ("overhead", "10 x exp", 1)
    assert 0 < row["firesteel"]["min"] <= row["firesteel"]["median"]
    (mean,) = results["groups"]
    assert (mean["goal"], mean["rows"], mean["geometric_mean"]) == (8.0, 1, pytest.approx(row["ratio"]))
    assert "OVERHEAD" in table and "MISSED" in table
    assert ("geometric mean, 1 thread" in table) == (row["ratio"] is not None)  # None without PyTorch


def test_verdicts_are_of_medians() -> None:
    verdicts = {row.case: (row.speedup, row.verdict) for row in _report().rows}
    assert verdicts["eight times"] == (8.0, "met")
    assert verdicts["half"] == (0.5, "missed")
    assert verdicts["not there"] == (None, "missing")
    assert verdicts["not right"] == (None, "wrong")
    assert verdicts["three, of four"] == (3.0, "missed")
    assert verdicts["import"][1] == "met"
    assert verdicts["nothing wanted"][1] == ""
    assert Row(FAST, "alone", 1, [1.0]).verdict == "?"
    assert [row.case for row in _report().missed()] == ["half", "not there", "not right", "three, of four"]


def test_means_are_geometric_and_compared_with_the_goal() -> None:
    one, two = _report().means(FAST)
    assert (one.threads, one.rows, one.missing, one.ratio) == (1, 3, 1, pytest.approx(2.0))
    assert one.verdict == "met"
    assert (two.threads, two.ratio, two.verdict) == (2, pytest.approx(3.0), "met")
    (start,) = _report().means(Group("start-up"))
    assert (start.rows, start.ratio, start.verdict) == (1, pytest.approx(40.0), "")
    assert (
        Report([Row(Group("slow", 2.5), "half", 1, [2.0], [4.0])]).means(Group("slow", 2.5))[0].verdict
        == "missed"
    )
    assert geometric_mean([]) is None
    assert geometric_mean([2.0, 32.0]) == pytest.approx(8.0)


def test_slowdowns_pair_the_quiet_rows_with_the_busy_ones() -> None:
    slow = _report().slowdowns()
    assert [(row.case, row.ours, row.theirs, row.verdict) for row in slow] == [
        ("a", 2.0, 50.0, "met"),
        ("b", 3.0, 10.0, "missed"),
    ]


def test_the_tables_show_everything() -> None:
    lines: list[str] = []
    _report().print(lines.append, [firesteel])
    text = "\n".join(lines)
    assert "geometric mean, 1 thread: 2.00 x of 3 rows, 1 missing, wanted >= 1.5 x: met" in text
    assert "median: 2.5 x, torch: 30.0 x, wanted <= 2.5 x: met" in text
    assert "MISSED: 4 of 12 rows" in text
    assert "missing: nn.Hopfield (1 rows)" in text
    assert "NOISE: other programs took 50% of the processors" in text
    assert [line for line in lines if line.startswith("step") and "missed" in line]
    assert [line for line in lines if line.startswith("  ") and "not right" in line and "wrong" in line]


def test_results_as_json_and_in_the_readme(tmp_path: Path) -> None:
    report = _report()
    training = Group(readme.TRAINING, 2.0)
    report.rows += [Row(training, "step", threads, [0.001], [0.004]) for threads in (1, 2)]
    path, text = tmp_path / "results.json", tmp_path / "README.md"
    write_json(path, report, quick=False)
    results = json.loads(path.read_text())
    assert results["busy"]["firesteel"] == 2.5 and results["busy"]["torch"] == 30.0
    assert len(results["missed"]) == 4 and results["memory"][0]["verdict"] == "missed"

    text.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    for _ in range(2):
        readme.write(results, text)
    written = text.read_text()
    assert written.startswith("before\n") and written.endswith(f"{readme.END}\nafter\n")
    assert "old" not in written
    assert "| fast | 3 (1 missing) | 2.00 x | 3.00 x |" in written
    assert "| step | 1 ms, 4 ms | 1 ms, 4 ms | 3.0 MB, 2.0 MB |" in written
    text.write_text("no markers")
    with pytest.raises(ValueError, match="needs the lines"):
        readme.write(results, text)


def test_the_readme_has_a_place_for_the_results() -> None:
    text = readme.README.read_text()
    assert 0 < text.find(readme.BEGIN) < text.find(readme.END)


@pytest.mark.parametrize(
    "other",
    [
        lambda x: x + 0.01,
        lambda x: x.double(),
        lambda x: x[:2],
        lambda x: [x, x],
        lambda x: x * float("nan"),
    ],
    ids=["value", "dtype", "shape", "number", "nan"],
)
def test_a_wrong_result_does_not_race(other) -> None:
    x = firesteel.tensor([1.0, 2.0, 3.0])
    results_agree(lambda: (x, None, [x.bfloat16()]), lambda: (x * 1.00001, None, [x.bfloat16()]))
    with pytest.raises(AssertionError):
        results_agree(lambda: x, lambda: other(x))


def test_a_name_is_missing_only_where_theirs_has_it() -> None:
    theirs = SimpleNamespace(manual_seed=firesteel.manual_seed, nn=SimpleNamespace(Hopfield=int))

    def make(lib):
        return lambda: lib.nn.Hopfield()

    assert missing_name(make, firesteel, theirs) == missing_name(make, firesteel) == "nn.Hopfield"
    assert missing_name(lambda lib: lambda: lib.ones(1), firesteel, theirs) is None
    with pytest.raises(AttributeError):
        missing_name(make, firesteel, firesteel)


def test_training_steps_begin_with_the_same_weights() -> None:
    steps = [made(STEPS["moons MLP, batch 100"], firesteel) for _ in range(2)]
    with firesteel.no_grad():
        steps[1].model[0].weight.zero_()
    losses_agree(*steps)
    steps[1].optimizer.param_groups[0]["lr"] = 10.0
    with pytest.raises(AssertionError, match="losses"):
        losses_agree(*steps)


def test_rounds_are_odd_and_fit_into_their_time() -> None:
    assert FULL.rounds(1e-9) == FULL.most and FULL.rounds(1e9) == FULL.least
    assert all(pace.rounds(seconds / 100) % 2 for pace in (FULL, QUICK) for seconds in range(1, 100))
    assert 0 <= (share_of_others(0.01) or 0) <= 1
    calls: list[int] = []
    count, seconds = batch(lambda: calls.append(1), 0.001)
    assert count == len(calls) >= 3 and seconds >= 0.001

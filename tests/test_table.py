"""The table is complete: what is public, or registered in the core, has a row or a stated reason for none."""

import inspect
import re
from pathlib import Path

import pytest

import firesteel
from firesteel import nn
from op_cases import CASES
from op_cases.non_ops import NON_OPS


def public(owner, prefix=""):
    """Names of the public callables of `owner`: functions, not classes or modules."""
    for name in dir(owner):
        value = getattr(owner, name, None)
        if name.startswith("_") or not callable(value) or inspect.isclass(value) or inspect.ismodule(value):
            continue
        yield prefix + name


def missing(names, covered, reasons):
    """The names that have neither a row nor a reason, and are no second spelling of one that has."""
    known = {*covered, *reasons}
    objects = {id(found(name)) for name in known if found(name) is not None}
    return sorted(
        name for name in set(names) - known if found(name) is None or id(found(name)) not in objects
    )


PLACES = {"": firesteel, "Tensor": firesteel.Tensor, "F": nn.functional}


def found(name):
    """The object of that name, kept alive by its owner."""
    place, _, attribute = name.rpartition(".")
    value = getattr(PLACES[place], attribute, None)
    return getattr(value, "__wrapped__", value)  # functions that are methods


def covered_names(cases=CASES):
    """Every public name that some row runs, functions' in-place twins included."""
    return set().union(*(case.names() for case in cases))


def registered_problems(registered, cases=CASES):
    """What is wrong with the table, given the core's names -> "is it differentiable?"."""
    rows: dict[str, list] = {}
    for case in cases:
        for name in {case.name, case.id, *(spelling.rpartition(".")[2] for spelling in case.names())}:
            rows.setdefault(name, []).append(case)
    problems = []
    for name, differentiable in registered.items():
        if name not in rows:
            problems.append(f"{name}: registered in the core but not in the table")
        elif differentiable and not any(
            case.grad is True and any(s.grad is True for s in case.samples) for case in rows[name]
        ):
            problems.append(f"{name}: differentiable but has no gradcheck sample")
        elif differentiable and not any(case.twice for case in rows[name]):
            problems.append(f"{name}: differentiable but has no gradgradcheck sample")
    return problems


def registered_ops():
    """The core's registry as name -> differentiable."""
    return dict(firesteel._core._registered_ops())


SOURCES = Path(__file__).parent.parent / "rust/core/src/ops"
# Operations of the core that users spell otherwise, or do not meet: parts of others and of gradient rules.
INTERNAL = {
    "linalg_vector_norm": "norm",
    "log_sigmoid": "logsigmoid",
    "loss": "mse_loss",  # and the other losses of two tensors
    "logical": "",  # writes truth values in place; the gradient is 0
    "to": "",  # differences cannot tell gradients of what rounds: compared with PyTorch's
    "slice": "narrow",
    "select_along": "topk",  # values of what sort, topk, max and min choose
    "as_strided": "setitem",  # views of a base that was written to
    "as_strided_scatter": "setitem",
    "clear_region": "setitem",
    "index": "getitem",
    "index_add_zeros": "getitem",
    "slice_scatter": "narrow",
    "diagonal_scatter": "diagonal",
    "constant_pad_nd": "pad",
    "gather_backward": "gather",
    "conv_transpose2d": "conv2d",
    "conv2d_weight": "conv2d",
    "conv2d_bias": "conv2d",
    "max_pool2d_backward": "max_pool2d",
    "avg_pool2d_backward": "avg_pool2d",
    "softmax_backward": "softmax",
    "nll_loss_backward": "nll_loss",
}


def recorded_names():
    """The names of all types in the core's `ops` that are operations: `const NAME: &'static str = "exp";`."""
    text = "\n".join(path.read_text() for path in SOURCES.rglob("*.rs"))
    return set(re.findall(r"const NAME: &'static str = \"(\w+)\";", text))


@pytest.mark.parametrize(
    "owner, prefix",
    [(firesteel, ""), (nn.functional, "F."), (firesteel.Tensor, "Tensor.")],
    ids=["module", "F", "Tensor"],
)
def test_every_public_name_has_a_row(owner, prefix):
    assert not missing(public(owner, prefix), covered_names(), NON_OPS)


@pytest.mark.skipif(not hasattr(getattr(firesteel, "_core", None), "_registered_ops"), reason="no registry")
def test_every_registered_op_has_a_row():
    assert not registered_problems(registered_ops())


def test_every_operation_of_the_core_is_registered():
    registered, recorded = registered_ops(), recorded_names()
    assert len(recorded) > 50
    assert not recorded - set(registered) - set(INTERNAL)
    assert not set(INTERNAL) - recorded, "not in the core"
    assert not set(INTERNAL) & set(registered)
    assert not set(filter(None, INTERNAL.values())) - set(registered), (
        "gradients of a registered operation are checked"
    )


def test_a_missing_row_is_reported(monkeypatch):
    assert registered_problems({"exp": True, "no_such_op": True}) == [
        "no_such_op: registered in the core but not in the table"
    ]
    assert registered_problems({"floor_divide": True}) == [
        "floor_divide: differentiable but has no gradcheck sample"
    ]
    monkeypatch.setattr(nn.functional, "no_such_op", lambda x: x, raising=False)
    assert "F.no_such_op" in missing(public(nn.functional, "F."), covered_names(), NON_OPS)


def test_rows_are_unique_and_exist():
    names = [case.id for case in CASES]
    doubles = {name for name in names if names.count(name) > 1}
    assert not doubles
    absent = [name for name in sorted(covered_names()) if found(name) is None]
    assert not absent


def test_reasons_are_not_rows():
    assert not covered_names() & set(NON_OPS)
    assert all(NON_OPS.values())
    assert not [name for name in NON_OPS if found(name) is None]

"""Anomaly mode with `check_forward`: which results are looked at, and what is said of them."""

import dataclasses

import numpy as np
import pytest

import firesteel as torch
from firesteel import nn
from firesteel.autograd import detect_anomaly, set_detect_anomaly
from firesteel.utils.checkpoint import checkpoint
from op_cases import CASES
from op_cases.table import Drawn, draw, walk
from tensors import build, leaves


@pytest.fixture(autouse=True)
def _off_afterwards():
    yield
    set_detect_anomaly(False)


def message(run):
    with pytest.raises(torch.AutogradError) as caught:
        run()
    return str(caught.value)


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0), requires_grad=True)


@pytest.mark.parametrize(
    ("name", "compute", "facts"),
    [
        (
            "log",
            lambda: torch.tensor([[1.0], [0.0]]).log(),
            "holds -inf (1 of 2 elements are not finite, the first at [1, 0])",
        ),
        ("sqrt", lambda: torch.tensor([-1.0]).sqrt(), "holds nan (1 of 1"),
        ("mul", lambda: torch.tensor([3e38]) * 10, "holds inf"),
        (
            "sub",
            lambda: torch.tensor([torch.inf]) - torch.inf,
            "that it was given hold infinities, but no nan",
        ),
        (
            "add",
            lambda: torch.tensor([torch.nan, 1.0]) + 1,
            "its input of shape [2] held nan already: from the data, or",
        ),
        ("exp", lambda: torch.tensor([800.0], dtype=torch.float64).exp_(), "holds inf"),
        ("mean", lambda: torch.zeros(0).mean(), "holds nan"),
        ("log_softmax", lambda: torch.full((2,), -torch.inf).log_softmax(0), "(2 of 2 elements are nan, the"),
        ("std", lambda: torch.ones(1).std(), "holds nan"),
        ("mse_loss", lambda: nn.functional.mse_loss(leaf(3e38), leaf(0.0)), "holds inf"),
        ("sub", lambda: torch.tensor([3e38]).sub_(-3e38), "that it was given are finite"),
        ("kl_div", lambda: nn.functional.kl_div(leaf(0.0), leaf(3e38), reduction="sum"), "holds inf"),
    ],
)
def test_forward_checks(name, compute, facts):
    with detect_anomaly(check_forward=True):
        text = message(compute)
    assert text.startswith(f"{name}: the result of shape ")
    # Not in the source line, which holds what is expected, too.
    assert facts in text.split("\n")[0]
    assert f'File "{__file__}"' in text
    compute()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(3, 3)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_forward_checks_name_the_module():
    net = Net()
    nn.init.constant_(net.blocks[0].weight, 3e38)
    with detect_anomaly(check_forward=True):
        text = message(lambda: net(torch.ones(2, 3)))
    assert text.startswith("linear: ")
    assert "module Net.blocks.0: x = block(x)" in text


def test_forward_checks_let_masks_pass():
    with detect_anomaly(check_forward=True):
        mask = torch.eye(3).bool()
        scores = torch.zeros(3, 3).masked_fill(mask, -torch.inf)
        assert scores.softmax(-1).isfinite().all()
        scores = torch.where(mask, torch.full((), -torch.inf), torch.zeros(3, 3))
        assert scores.softmax(-1).isfinite().all()
        values = torch.zeros(3)
        values[1] = -torch.inf
        assert values.logsumexp(0).isfinite()
        # Large, but finite, though the sum is not.
        assert (torch.full((8,), 3e38) * 1.0).isfinite().all()


def test_gradients_are_not_results():
    x = leaf(0.0)
    with detect_anomaly(check_nan=False, check_forward=True):
        x.sqrt().sum().backward()
    assert x.grad.isinf().all()


def test_forward_checks_through_checkpoints():
    x = leaf()
    with detect_anomaly(check_forward=True):
        y = checkpoint(lambda x: x.exp(), x, use_reentrant=False)
        y.sum().backward()
    assert torch.allclose(x.grad, x.detach().exp())


NAN = torch.full((4,), torch.nan)


@pytest.mark.parametrize(
    "move",
    [
        lambda x: x.clone(),
        lambda x: x[1:].view(3, 1).expand(3, 2).t().contiguous(),
        lambda x: x.reshape(2, 2).unbind(),
        lambda x: x[[0, 1]],
        lambda x: torch.cat((x, torch.stack((x, x)).flatten())),
        lambda x: torch.where(x > 0, x, 1.0),
        lambda x: x.masked_fill(x > 0, torch.nan),
        lambda x: x.gather(0, torch.tensor([1])),
        lambda x: x.scatter(0, torch.tensor([1]), 1.0),
        lambda x: x.flip(0).sort(),
        lambda x: x.fill_(torch.nan),
        lambda x: x[2:].copy_(torch.ones(2)),
        lambda x: x.__setitem__(0, 1.0),
        lambda x: x.__setitem__([0, 1], torch.ones(2)),
        lambda x: torch.ones(4).__setitem__(0, torch.nan),
        lambda x: x.uniform_(),
        lambda x: x.zero_() + 1,
    ],
)
def test_what_memory_held_before_is_no_result(move):
    with detect_anomaly(check_forward=True):
        x = torch.empty(4)
        x.copy_(NAN)  # as what nothing was written to may be
        move(x)


def test_a_nan_that_was_put_in_is_found_where_it_is_used():
    with detect_anomaly(check_forward=True):
        x = torch.empty(4)
        x[:3] = 1.0
        x[3] = torch.nan
        assert "its input of shape [4] held nan already" in message(lambda: x * 2)


HARD_VALUES = (0.0, 3e38, -torch.inf)


def hard_inputs(drawn):
    """The inputs of a call, with hard values in every second place of one of them."""
    places = []
    walk(drawn, lambda leaf: places.append(leaf) if isinstance(leaf, Drawn) else None)
    for place in places:
        array = np.array(place.array)
        if array.dtype.kind == "f" and array.size > 1:
            for value in HARD_VALUES:
                array.flat[::2] = value
                hard = dataclasses.replace(place, array=array.copy())
                yield walk(drawn, lambda leaf, place=place, hard=hard: hard if leaf is place else leaf)


def has_nan_or_inf(tree):
    tensors = [x for x in leaves(tree) if isinstance(x, torch.Tensor) and x.is_floating_point()]
    return any(x.isnan().any() for x in tensors), any(x.isinf().any() for x in tensors)


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.name.startswith("empty")], ids=lambda c: c.id
)
@pytest.mark.filterwarnings("ignore")
def test_operations_with_finite_results_are_let_through(case):
    for sample, dtype, layout in case.calls("contiguous", ("float32",)):
        if sample.label == "large":
            continue
        for hard in hard_inputs(draw(sample, dtype, layout, case.name)):
            try:
                args, kwargs = build(torch, hard)
                result = case.run(torch, args, kwargs)
            except (RuntimeError, ValueError, TypeError):
                continue  # refused: a probability of 3e38
            is_bad = any(has_nan_or_inf(result))
            args, kwargs = build(torch, hard)
            try:
                with detect_anomaly(check_forward=True):
                    case.run(torch, args, kwargs)
            except torch.AutogradError as error:
                assert is_bad, error


@pytest.mark.parametrize(
    "compute",
    [
        lambda: nn.functional.kl_div(torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]), reduction="sum"),
        lambda: nn.functional.prelu(torch.tensor([torch.inf]), torch.zeros(1)),
        lambda: torch.tensor([[-torch.inf, -torch.inf], [0.0, -torch.inf]]).logsumexp(1),
        lambda: torch.tensor([[-torch.inf, 0.0]]).softmax(1),
        lambda: torch.allclose(torch.tensor([torch.inf, torch.nan]), torch.tensor([torch.inf, torch.nan])),
        lambda: str(NAN),
        lambda: torch.zeros(2).norm(),
    ],
)
def test_what_is_infinite_on_the_way_alone_is_let_through(compute):
    with detect_anomaly(check_forward=True):
        compute()


def test_sums_of_gradients_are_not_results():
    x = leaf(0.0)
    with detect_anomaly(check_nan=False, check_forward=True):
        for _ in range(2):
            (x.sqrt() - x.sqrt()).sum().backward()
    assert x.grad.isnan().all()


def test_forward_checks_of_custom_functions():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x + 1, torch.from_numpy(np.array([np.inf], dtype=np.float32))

        @staticmethod
        def backward(ctx, *grads):
            return grads[0]

    with detect_anomaly(check_forward=True):
        text = message(lambda: Broken.apply(leaf()))
    assert text.startswith("Broken: the result of shape [1] (float32) holds inf")
    Broken.apply(leaf())


def test_what_was_written_has_its_history_when_a_check_fails():
    y = leaf(0.0) * 1
    with detect_anomaly(check_forward=True):
        assert "holds -inf" in message(y.log_)
    assert y.grad_fn.name() == "LogBackward0"

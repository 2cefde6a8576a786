"""Anomaly mode: the lines, functions and modules that messages name, and what the mode looks for."""

import gc
import sys
import threading
import warnings
import weakref
from functools import partial

import pytest

import firesteel as torch
from firesteel import nn
from firesteel.autograd import anomaly_mode, detect_anomaly, set_detect_anomaly
from firesteel.utils.checkpoint import checkpoint
from libraries import both


@pytest.fixture(autouse=True)
def _off_afterwards():
    yield
    set_detect_anomaly(False)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(2)])

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x.sqrt()


def message(run, error=RuntimeError):
    with pytest.raises(error) as caught:
        run()
    return str(caught.value)


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0), requires_grad=True)


def test_off_by_default():
    assert not torch.is_anomaly_enabled()
    x = leaf(0.0)
    (x.sqrt() * 0).sum().backward()
    assert x.grad.isnan().all()


def test_modes_nest_and_end():
    seen = []

    def look():
        seen.append((torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()))

    with detect_anomaly(check_nan=False):
        look()
        with detect_anomaly():
            look()
            with set_detect_anomaly(False):
                look()
            look()
        look()
    look()
    torch.set_anomaly_enabled(True)
    look()
    assert seen == [
        (True, False),
        (True, True),
        (False, True),
        (True, True),
        (True, False),
        (False, True),
        (True, True),
    ]


def test_the_mode_ends_when_the_block_raises():
    with pytest.raises(ZeroDivisionError), detect_anomaly():
        raise ZeroDivisionError
    assert not torch.is_anomaly_enabled()


@pytest.mark.parametrize("arguments", [("yes",), (True, 1)])
def test_switches_are_bools(arguments):
    assert "must be a bool" in message(lambda: set_detect_anomaly(*arguments), TypeError)
    assert not torch.is_anomaly_enabled()


def test_nan_in_a_rule_names_the_forward_line():
    x = leaf(0.0, 4.0)
    with detect_anomaly():
        y = x.sqrt()  # the line
        text = message((y * torch.tensor([0.0, 1.0])).sum().backward)
    assert "Function 'SqrtBackward0' returned nan values in its 0th output" in text
    assert "of shape [2] (float32), holds nan (1 of 2 elements" in text
    assert f'File "{__file__}"' in text
    assert "in test_nan_in_a_rule_names_the_forward_line" in text
    assert "y = x.sqrt()  # the line" in text
    assert x.grad is None


def test_nan_is_not_looked_for_without_check_nan():
    x = leaf(0.0)
    with detect_anomaly(check_nan=False):
        (x.sqrt() * 0).sum().backward()
    assert x.grad.isnan().all()


def test_the_module_is_named_by_its_path():
    net = Net()
    nn.init.zeros_(net.blocks[1][0].weight)
    nn.init.zeros_(net.blocks[1][0].bias)
    with detect_anomaly():
        loss = net(torch.ones(2, 3)).mul(0).sum()
        text = message(loss.backward)
    assert "SqrtBackward0" in text
    assert "module Net: return x.sqrt()" in text
    traces = [node._trace for node in nodes_of(loss)]
    assert {trace[3] for trace in traces if trace} >= {"Net", "Net.stem", "Net.blocks.0.0", "Net.blocks.1.1"}


def nodes_of(tensor):
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return seen


def test_a_module_that_moved_is_named_by_its_new_path():
    net = Net()
    with detect_anomaly():
        net(torch.ones(2, 3))
        net.renamed = net.stem
        del net.stem
        net.forward = lambda x: net.renamed(x)
        assert net(torch.ones(2, 3)).grad_fn._trace[3] == "Net.renamed"


def test_a_module_of_no_other_is_named_alone():
    with detect_anomaly():
        assert nn.Linear(2, 2)(torch.ones(2)).grad_fn._trace[3] == "Linear"


def test_functions_of_the_package_are_not_the_users_line():
    with detect_anomaly():
        loss = nn.functional.gelu(leaf(), approximate="tanh")
    for node in nodes_of(loss):
        assert node._trace is None or node._trace[0] == __file__


def test_lines_are_noted_only_in_the_mode():
    assert (leaf() * 2).grad_fn._trace is None


def test_an_inplace_conflict_names_both_lines():
    x = leaf()
    with detect_anomaly():
        y = x.exp()  # saved here
        y.add_(1)  # changed here
        y.mul_(2)
        text = message(y.sum().backward)
    assert "modified by an inplace operation" in text
    assert "changed by add_ at " in text and "y.add_(1)  # changed here" in text
    assert "ExpBackward0" in text and "y = x.exp()  # saved here" in text
    assert "set_detect_anomaly" not in text


def test_an_inplace_conflict_through_a_view_and_an_optimizer():
    w = leaf()
    with detect_anomaly():
        y = w * w
        optimizer = torch.optim.SGD([w], lr=0.1)
        w.grad = torch.ones(2)
        optimizer.step()  # changed here
        text = message(y.sum().backward)
        assert "optimizer.step()  # changed here" in text
        z = w.exp()
        with torch.no_grad():
            z[0] = 1.0  # a region
        assert "z[0] = 1.0  # a region" in message(z.sum().backward)


def test_without_the_mode_conflicts_say_how_to_learn_more():
    y = leaf().exp()
    y.add_(1)
    text = message(y.sum().backward)
    assert "set_detect_anomaly(True) names the lines that saved and changed it" in text
    assert "at ExpBackward0 of shape [2], reached from SumBackward0 of shape []" in text


def test_a_second_backward_names_the_pass_that_freed():
    x = leaf()
    with detect_anomaly():
        loss = (x * x).sum()  # the graph
        loss.backward()  # freed here
        text = message(loss.backward)
    assert "backward through the graph a second time" in text
    assert "(x * x).sum()  # the graph" in text
    assert "freed by the backward pass from SumBackward0 of shape [] at " in text
    assert "loss.backward()  # freed here" in text


def test_a_second_backward_through_a_shared_part_names_the_other_graph():
    x = leaf()
    with detect_anomaly():
        shared = x.exp()
        shared.mean().backward()  # freed here
        text = message(shared.sum().backward)
    assert "at ExpBackward0 of shape [2], reached from SumBackward0" in text
    assert "freed by the backward pass from MeanBackward0" in text


def test_without_the_mode_a_second_backward_names_the_graph():
    loss = leaf().exp().sum()
    loss.backward()
    text = message(loss.backward)
    assert "at ExpBackward0 of shape [2], reached from SumBackward0 of shape []" in text
    assert "set_detect_anomaly(True) names its line" in text


def fail(_):
    raise KeyError("the user's own")


def test_exceptions_of_hooks_keep_their_class_and_get_a_note():
    y = leaf().exp()
    y.register_hook(fail)
    with pytest.raises(KeyError) as plain:
        y.sum().backward()
    assert not hasattr(plain.value, "__notes__")
    with detect_anomaly():
        z = leaf().exp()  # the line
        z.register_hook(fail)
        with pytest.raises(KeyError) as noted:
            z.sum().backward()
    assert noted.value.args == ("the user's own",)
    assert "z = leaf().exp()  # the line" in "".join(noted.value.__notes__)


def test_exceptions_of_custom_functions_name_the_line_of_apply():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return fail(grad)

    with detect_anomaly():
        y = Wrong.apply(leaf())  # applied here
        with pytest.raises(KeyError) as noted:
            y.sum().backward()
    assert "WrongBackward" in noted.value.__notes__[0]
    assert "y = Wrong.apply(leaf())  # applied here" in noted.value.__notes__[0]


def test_a_nan_in_a_second_derivative_names_the_first():
    x = leaf(0.0)
    with detect_anomaly():
        y = x**1.5  # first
        (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)  # second
        text = message((g * 0).sum().backward)
    assert "create_graph=True)  # second" in text
    assert "in the backward of PowBackward0, which was recorded at" in text
    assert "y = x**1.5  # first" in text


def test_the_mode_is_that_of_all_threads():
    seen = []

    def work():
        seen.append((leaf() * 2).grad_fn._trace)

    with detect_anomaly():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen[0][2] == "work"


def test_the_mode_keeps_no_memory():
    with detect_anomaly():
        x = leaf()
        y = x.exp()
        y.add_(1)
        alive = weakref.ref(x)
        loss = (x * 2).sum()
        loss.backward()
        loss.register_hook(lambda grad: None)
        del x, y, loss
        gc.collect()
        assert alive() is None


def test_a_training_step_is_the_same_in_the_mode():
    def train(mode):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
        optimizer = torch.optim.Adam(net.parameters())
        with set_detect_anomaly(mode, check_forward=mode):
            for _ in range(3):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(net(torch.randn(6, 4)), torch.arange(6) % 2)
                loss.backward()
                optimizer.step()
        return [p.tolist() for p in net.parameters()]

    assert train(True) == train(False)


def test_pictures_fold_by_the_modules_that_ran():
    net = Net()
    with detect_anomaly():
        y = net(torch.ones(2, 3)).sum()
    text = str(torch.graph.draw(y, module=net, format="text", fold=1))
    assert "blocks" in text and "stem" in text and "Net." not in text


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        x.detach().numpy()[:] *= 2  # seen by nobody else
        return x

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


@pytest.mark.parametrize(
    ("apply", "name"),
    [
        (Square.apply, "SquareBackward"),
        (partial(checkpoint, torch.exp, use_reentrant=False), "CheckpointBackward"),
        (partial(checkpoint, torch.exp, use_reentrant=True), "CheckpointFunctionBackward"),
    ],
)
def test_an_inplace_conflict_of_custom_functions_names_both_lines(apply, name):
    with detect_anomaly():
        y = leaf() * 1
        z = apply(y)  # saved here
        y.add_(1)  # changed here
        text = message(z.sum().backward)
    assert "changed by add_ at " in text and "y.add_(1)  # changed here" in text
    assert f"saved by {name}, recorded at " in text and "z = apply(y)  # saved here" in text


def test_writes_of_functions_and_optimizers_are_called_by_their_names():
    x = leaf()
    assert message(lambda: Double.apply(x)).startswith("DoubleBackward: a leaf Variable")
    with detect_anomaly():
        y = x * 1
        z = y.exp() * y
        Double.apply(y)
        assert "changed by DoubleBackward at " in message(z.sum().backward)
        z = x * x
        x.grad = torch.ones(2)
        torch.optim.SGD([x], lr=0.1).step()
        assert "changed by optimizer.step at " in message(z.sum().backward)
        y = x.exp()
        y.sub_(1)
        assert "changed by sub_ at " in message(y.sum().backward)


def test_only_what_was_freed_is_said_to_be():
    with detect_anomaly():
        y = leaf() + 1
        loss = y.sum()
        loss.backward()
        y.register_hook(fail)
        with pytest.raises(KeyError) as noted:
            loss.backward()
    assert "at AddBackward0" in noted.value.__notes__[0]
    assert "freed by" not in noted.value.__notes__[0]


@pytest.mark.parametrize("apply", [Square.apply, lambda x: x[[0, 1]], lambda x: x.exp()])
def test_all_that_has_saved_names_the_pass_that_freed(apply):
    with detect_anomaly():
        loss = apply(leaf()).sum()
        loss.backward()  # freed here
        with pytest.raises(RuntimeError, match="backward through the graph a second time") as caught:
            loss.backward()
    text = str(caught.value) + "".join(getattr(caught.value, "__notes__", ()))
    assert "freed by the backward pass from SumBackward0 of shape [] at " in text
    assert "loss.backward()  # freed here" in text


def test_what_happened_before_the_mode_is_said_to_be_unknown():
    y = leaf().exp()
    loss = leaf().exp().sum()
    loss.backward()
    with detect_anomaly():
        y.add_(1)
        text = message(y.sum().backward)
        assert "recorded while anomaly mode was off: turn it on before the forward" in text
        assert "freed by a backward pass that ran while anomaly mode was off" in message(loss.backward)


def test_many_derivatives_of_derivatives():
    w = leaf(1.0)
    with detect_anomaly():
        at = leaf(1.0)
        y = at * w
        for _ in range(20_000):  # each is recorded by the rule of the one before
            following = leaf(1.0)
            (y,) = torch.autograd.grad(y, at, following, create_graph=True)
            at = following
        y.register_hook(fail)
        with pytest.raises(KeyError) as noted:
            y.sum().backward()
    assert noted.value.__notes__[0].count("in the backward of MulBackward0") == 4
    assert "... and 19996 more" in noted.value.__notes__[0]
    del y  # frees the chain


def interrupt(_):
    raise KeyboardInterrupt


def a_step():
    x = leaf()
    x.grad = torch.ones(2)
    return torch.optim.Adam([x]).step


@pytest.mark.parametrize(
    "make",
    [
        lambda: leaf().exp,
        lambda: (leaf() * 1).exp_,
        lambda: leaf()[:1].view(1, 1).cos,
        lambda: lambda: torch.cat((leaf(), leaf())),
        lambda: lambda: Square.apply(leaf()),
        lambda: leaf().sum().backward,
        a_step,
    ],
)
def test_an_interrupt_while_the_line_is_looked_for_is_raised(make, monkeypatch):
    with detect_anomaly():
        call = make()
        with monkeypatch.context() as patch:
            patch.setattr(anomaly_mode, "_module_path", interrupt)
            with pytest.raises(KeyboardInterrupt):
                call()
        leaf().exp().sum().backward()  # nothing is left of it


def test_errors_while_the_line_is_looked_for_are_not_the_users(monkeypatch):
    monkeypatch.setattr(anomaly_mode, "_module_path", fail)
    with detect_anomaly():
        y = leaf().exp()
    assert y.grad_fn._trace is None


def test_a_profiler_may_run_backward_itself():
    x = leaf()
    passes = []

    def profile(frame, event, _):
        if event == "call" and frame.f_code is anomaly_mode._place.__code__:
            passes.append(1)
            with torch.enable_grad():
                (x * 3).sum().backward()

    with detect_anomaly():
        loss = (x * 2).sum()
        loss.backward(retain_graph=True)
        sys.setprofile(profile)
        try:
            loss.backward()
        finally:
            sys.setprofile(None)
    assert passes
    assert x.grad.tolist() == [4 + 3 * len(passes)] * 2


def test_threads_lose_no_gradient_in_the_mode():
    x = leaf()

    def work():
        for _ in range(100):
            (x * 1).sum().backward()

    with detect_anomaly():
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert x.grad.tolist() == [300, 300]


@both
def test_the_mode_warns_that_it_costs_time(lib):
    text = (
        "Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled "
        "for debugging."
    )
    with pytest.warns(UserWarning, match=text) as caught, lib.autograd.detect_anomaly():
        pass
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lib.autograd.set_detect_anomaly(False)  # asked for by that name, it is no accident

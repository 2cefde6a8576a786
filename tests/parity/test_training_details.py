"""Optimizers, gradients by function, grad modes and gradient checks where they used to differ from PyTorch."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

import firesteel
from firesteel import nn, optim
from firesteel.autograd import GradcheckError, gradcheck

# ---- gradients


def test_grad_takes_any_iterable() -> None:
    model = nn.Linear(2, 1)
    loss = model(firesteel.ones(1, 2)).sum()
    grads = firesteel.autograd.grad(loss, model.parameters())
    assert [grad.tolist() for grad in grads] == [[[1.0, 1.0]], [1.0]]
    loss = model(firesteel.ones(1, 2)).sum()
    firesteel.autograd.backward((x for x in [loss]), inputs=model.parameters())
    assert model.bias.grad.tolist() == [1.0]


def test_grad_of_nothing_is_an_error() -> None:
    x = firesteel.ones(1, requires_grad=True)
    with pytest.raises(RuntimeError, match="cannot be empty"):
        firesteel.autograd.grad(x * 2, [])
    with pytest.raises(RuntimeError, match="cannot be empty"):
        firesteel.autograd.backward(x * 2, inputs=[])
    with pytest.raises(ValueError, match="allow_unused=False"):
        firesteel.autograd.grad(x * 2, x, allow_unused=False, materialize_grads=True)


def test_no_grad_around_a_generator_function() -> None:
    x = firesteel.ones(1, requires_grad=True)

    @firesteel.no_grad()
    def numbers() -> Any:
        try:
            got = yield (x * 2).requires_grad
            yield got, (x * 2).requires_grad
        except LookupError:
            yield "caught", firesteel.is_grad_enabled()
        return "end"

    generator = numbers()
    assert next(generator) is False
    assert firesteel.is_grad_enabled()
    assert generator.send("sent") == ("sent", False)
    assert generator.throw(LookupError) == ("caught", False)
    assert firesteel.is_grad_enabled()
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert end.value.value == "end" and firesteel.is_grad_enabled()

    closed: list[bool] = []

    @firesteel.no_grad
    def closing() -> Any:
        try:
            yield 1
        finally:
            closed.append(firesteel.is_grad_enabled())

    generator = closing()
    next(generator)
    generator.close()
    assert closed == [False] and firesteel.is_grad_enabled()


def test_the_fast_check_sees_a_transposed_jacobian() -> None:
    matrix = firesteel.tensor([[1.0, 2.0, 0.5], [-1.0, 0.0, 3.0], [4.0, 1.0, 1.0]], dtype=firesteel.float64)

    def wrong(x: Any) -> Any:
        value = matrix @ x.detach()
        transposed = matrix.t() @ x
        return value + transposed - transposed.detach()

    x = firesteel.ones(3, dtype=firesteel.float64, requires_grad=True)
    for fast in (False, True):
        with pytest.raises(GradcheckError):
            gradcheck(wrong, (x,), fast_mode=fast)
    assert gradcheck(lambda x: matrix @ x, (x,), fast_mode=True)


# ---- optimizers


def test_steps_of_older_checkpoints_are_numbers() -> None:
    p = nn.Parameter(firesteel.ones(2))
    optimizer = optim.Adam([p])
    p.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0]["step"] = 1
    optimizer.load_state_dict(state)
    optimizer.step()
    assert optimizer.state[p]["step"].item() == 2.0


def test_a_learning_rate_of_two_elements_and_two_implementations() -> None:
    p = [nn.Parameter(firesteel.ones(2))]
    for make in (optim.SGD, optim.Adam, optim.AdamW):
        with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
            make(p, lr=firesteel.tensor([0.1, 0.2]))
        with pytest.raises(RuntimeError, match="cannot be `True` together"):
            make(p, lr=0.1, foreach=True, fused=True)


def test_groups_are_all_with_or_all_without_names() -> None:
    p, q = (nn.Parameter(firesteel.ones(1)) for _ in range(2))
    optimizer = optim.SGD([("p", p)], lr=0.1)
    with pytest.raises(ValueError, match="should be with/without names"):
        optimizer.add_param_group({"params": [q]})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [("q", q)]})


def test_texts_name_types_as_pytorch_does() -> None:
    with pytest.raises(TypeError, match=r"but got torch\.FloatTensor"):
        optim.SGD(firesteel.ones(1), lr=0.1)
    with pytest.raises(TypeError, match="one of the params is str"):
        optim.SGD(["a"], lr=0.1)  # type: ignore[list-item]


def test_hooks_of_optimizer_states() -> None:
    optimizer = optim.SGD([nn.Parameter(firesteel.ones(1))], lr=0.1)
    seen: list[str] = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("before"))
    handle = optimizer.register_state_dict_post_hook(lambda o, state: {**state, "more": 1})
    state = optimizer.state_dict()
    assert state["more"] == 1 and seen == ["before"]
    handle.remove()
    assert "more" not in optimizer.state_dict()

    def other_rate(o: Any, state: Any) -> Any:
        groups = [{**state["param_groups"][0], "lr": 0.5}]
        return {**state, "param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(other_rate)
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.5 and seen[-1] == "loaded"


# ---- the rest of the namespace


def test_close_bools_and_bad_tolerances() -> None:
    t, f = firesteel.tensor([True]), firesteel.tensor([False])
    assert firesteel.allclose(t, t) and not firesteel.allclose(t, f)
    assert t.allclose(t) and t.isclose(f).tolist() == [False] and t.equal(t)
    with pytest.raises(RuntimeError, match="rtol must be greater than or equal to zero"):
        firesteel.isclose(firesteel.ones(1), firesteel.ones(1), rtol=-1)


def test_names_of_the_module() -> None:
    torch = pytest.importorskip("torch")
    for name in ("inf", "pi", "e", "newaxis"):
        assert getattr(firesteel, name) == getattr(torch, name)
    assert firesteel.nan != firesteel.nan
    assert repr(firesteel.iinfo(firesteel.int64)) == repr(torch.iinfo(torch.int64))
    for program in (
        "t.max(t.tensor([1., 2.]), 0)",
        "t.typename(t.ones(1))",
        "t.typename('x')",
        "t.round(input=t.tensor([1.25]), decimals=1)",
        "t.round(t.tensor([1.5]), out=t.zeros(1))",
        "t.result_type(t.ones(1, dtype=t.int32), 2.5)",
        "t.result_type(t.tensor(1., dtype=t.float64), t.ones(2))",
        "t.result_type(1, 2.0)",
        "t.result_type(t.ones(2, dtype=t.uint8), t.ones(2, dtype=t.float16))",
    ):
        ours, theirs = (repr(eval(program, {"t": framework})) for framework in (firesteel, torch))
        assert ours == theirs, program
    with pytest.raises(RuntimeError, match="decimals=-1 is not implemented for"):
        firesteel.round(firesteel.tensor([15]), decimals=-1)
    firesteel.cuda.manual_seed_all(0)
    firesteel.set_default_dtype(firesteel.float32)
    with pytest.raises(TypeError, match="the default is float32"):
        firesteel.set_default_dtype(firesteel.float64)


def test_sizes_and_devices() -> None:
    size = firesteel.ones(1, 2).shape
    assert type(size * 2) is type(2 * size) is firesteel.Size and size * 2 == (1, 2, 1, 2)
    with pytest.raises(TypeError, match="can only concatenate tuple"):
        size + [2]  # type: ignore[operator]
    assert firesteel.device("cpu:1").index == 1 and firesteel.device("cpu", 1).index == 1
    for wrong in (("cpu", -3), ("cpu:0", 1), ("cpu:x", None), ("cpu:", None), ("cuda", None)):
        with pytest.raises(RuntimeError):
            firesteel.device(*wrong)


def test_switches_of_backends() -> None:
    firesteel.backends.cudnn.deterministic = True
    assert not firesteel.backends.mps.is_available() and not firesteel.backends.cudnn.is_available()


def test_two_processes_draw_other_numbers() -> None:
    program = "import firesteel as t; print(t.initial_seed(), t.rand(1).item(), t.Generator().initial_seed())"
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] != runs[1]
    assert all(run.split()[2] == "67280421310721" for run in runs)


@pytest.mark.parametrize("owner", ["optimizer", "module"])
def test_a_gradient_filled_with_zeros_stays_the_same_object(owner: str) -> None:
    model = nn.Linear(2, 1)
    zeroing = optim.SGD(model.parameters(), lr=0.1) if owner == "optimizer" else model
    model(firesteel.ones(1, 2)).sum().backward()
    gradient = model.weight.grad
    gradient.note = "kept"
    zeroing.zero_grad(set_to_none=False)
    assert model.weight.grad is gradient and gradient.note == "kept"
    assert gradient.tolist() == [[0.0, 0.0]] and not gradient.requires_grad


def test_a_gradient_with_a_history_loses_it_when_filled_with_zeros() -> None:
    x = nn.Parameter(firesteel.ones(2))
    with pytest.warns(UserWarning, match="reference cycle"):
        (x**3).sum().backward(create_graph=True)
    kept = x.grad
    optim.SGD([x], lr=0.1).zero_grad(set_to_none=False)
    assert x.grad.grad_fn is None and x.grad.tolist() == [0.0, 0.0]
    kept.sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_slices_of_a_size_are_sizes() -> None:
    assert firesteel.Size() == () and type(firesteel.ones(2, 3).shape) is firesteel.Size
    assert repr(firesteel.ones(2, 3).shape[1:]) == "torch.Size([3])"


def test_a_warning_of_a_loss_is_at_the_line_of_the_call() -> None:
    with pytest.warns(UserWarning, match=r"\(torch.Size\(\[2\]\)\)") as caught:
        nn.functional.mse_loss(firesteel.ones(2, 1), firesteel.ones(2))
    line = inspect.stack()[0].lineno - 1
    assert caught[0].filename == __file__ and caught[0].lineno == line


def test_the_truth_of_many_and_of_no_values() -> None:
    for x, says in ((firesteel.ones(2), "more than one value is"), (firesteel.ones(0), "no values is")):
        with pytest.raises(RuntimeError, match=f"Boolean value of Tensor with {says} ambiguous"):
            bool(x)


def test_bernoulli_is_a_method() -> None:
    firesteel.manual_seed(3)
    expected = firesteel.bernoulli(firesteel.full((5,), 0.5)).tolist()
    firesteel.manual_seed(3)
    assert firesteel.full((5,), 0.5).bernoulli().tolist() == expected
    assert firesteel.ones(3).bernoulli(0.0).tolist() == [0.0] * 3
    assert firesteel.ones(3, 4).ndimension() == 2

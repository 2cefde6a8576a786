"""What `utils.checkpoint` can be told, and what its functions may be given."""

import contextlib
import re
import warnings
import weakref

import pytest

import firesteel
import firesteel.utils.checkpoint
from firesteel.utils._recompute import Frame
from libraries import both
from tensors import torch

if torch is not None:
    import torch.utils.checkpoint


def checkpoint(lib, *args, **kwargs):
    return lib.utils.checkpoint.checkpoint(*args, use_reentrant=False, **kwargs)


def leaf(lib):
    return lib.tensor([0.5, 1.0], requires_grad=True)


@both
def test_arguments_of_any_kind(lib):
    """Tensors by keyword and in containers, others beside them, and none that requires a gradient."""
    x, w = leaf(lib), lib.tensor([2.0, 3.0], requires_grad=True)
    calls = [
        lambda: checkpoint(lib, lambda a, *, b: (a * b).sin(), x, b=w),
        lambda: checkpoint(lib, lambda given: (given["x"] * given["w"][0]).sin(), {"x": x, "w": [w]}),
        lambda: checkpoint(lib, lambda a, text, none: (a * w).sin(), x, "text", None),
        lambda: checkpoint(lib, lambda a: {"y": (a * w).sin(), "n": 3}, x)["y"],
    ]
    plain = lib.autograd.grad((x * w).sin().sum(), (x, w))
    for call in calls:
        for found, expected in zip(lib.autograd.grad(call().sum(), (x, w)), plain, strict=True):
            assert lib.allclose(found, expected)
    y = checkpoint(lib, lambda a: (a * w).sin(), x.detach())
    assert lib.allclose(lib.autograd.grad(y.sum(), w)[0], plain[1])


class Noted:
    """A context that may be entered any number of times."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def __enter__(self):
        self.log.append(f"enter {self.name}")

    def __exit__(self, *exc):
        self.log.append(f"exit {self.name}")


@contextlib.contextmanager
def noted(log, name):
    with Noted(log, name):
        yield


@both
@pytest.mark.parametrize("make", [Noted, noted], ids=["class", "generator"])
def test_contexts_of_both_runs(lib, make):
    log, x = [], leaf(lib)
    y = checkpoint(
        lib, lambda x: x.exp().sin(), x, context_fn=lambda: (make(log, "first"), make(log, "second"))
    )
    log.append("backward")
    y.sum().backward(retain_graph=True)
    assert log == ["enter first", "exit first", "backward", "enter second", "exit second"]
    if make is Noted or lib is firesteel:  # PyTorch enters the generator's context once more, which fails
        y.sum().backward()
        assert log[5:] == ["enter second", "exit second"]
    with lib.no_grad():
        log.clear()
        checkpoint(lib, lambda x: x.exp(), x, context_fn=lambda: (make(log, "first"), make(log, "second")))
        assert log == []


@both
def test_a_context_that_suppresses_exceptions(lib):
    def fail(x):
        raise KeyError

    contexts = contextlib.suppress(KeyError), contextlib.nullcontext()
    with pytest.raises(RuntimeError, match="suppressed an exception"):
        checkpoint(lib, fail, leaf(lib), context_fn=lambda: contexts)


@both
def test_each_backward_through_a_retained_graph_computes_again(lib):
    runs, x = [], leaf(lib)

    def function(x):
        runs.append(1)
        return x.exp().sin().exp()

    y = checkpoint(lib, function, x)
    for count in (2, 3):
        lib.autograd.grad(y.sum(), x, retain_graph=True)
        assert len(runs) == count


def test_a_retained_graph_keeps_nothing_after_backward(monkeypatch):
    holders, pack = [], Frame.pack

    def noting(frame, tensor):
        holder = pack(frame, tensor)
        holders.append(weakref.ref(holder))
        return holder

    monkeypatch.setattr(Frame, "pack", noting)
    x = leaf(firesteel)
    y = checkpoint(firesteel, lambda x: x.exp().sin(), x)
    y.sum().backward(retain_graph=True)
    assert [holder().tensor for holder in holders] == [None, None]  # of exp and sin
    del y
    assert [holder() for holder in holders] == [None, None]


@both
def test_early_stop_can_be_set_for_all_calls(lib):
    ends, x = [], leaf(lib)

    def function(x):
        y = x.exp().sum()
        ends.append(1)
        return y

    early_stop = lib.utils.checkpoint.set_checkpoint_early_stop
    for enable, expected in ((True, 0), (False, 1)):
        with early_stop(not enable), early_stop(enable):
            y = checkpoint(lib, function, x, early_stop=not enable)
        ends.clear()
        y.backward()  # outside
        assert len(ends) == expected
    y = checkpoint(lib, function, x, early_stop=False)
    ends.clear()
    y.backward()
    assert len(ends) == 1


def test_early_stop_is_no_exception_of_the_function():
    """In PyTorch it is one, and a function that catches all of them runs on."""
    caught, x = [], leaf(firesteel)

    def function(x):
        try:
            return x.exp()
        except Exception as error:
            caught.append(error)
            raise

    checkpoint(firesteel, function, x).sum().backward()
    assert caught == [] and firesteel.allclose(x.grad, x.detach().exp())


@pytest.mark.parametrize("how", ["argument", "context"])
def test_errors_name_the_lines_that_saved_what_differs(how):
    x, runs = leaf(firesteel), []

    def other_shape(x):
        runs.append(1)
        if len(runs) % 2:
            return x.exp().sum()  # once
        return firesteel.cat([x, x]).exp().sum()  # again

    def other_count(x):
        runs.append(1)
        return x.exp().sum() if len(runs) % 2 else x.exp().sin().sum()

    def message(function, **options):
        runs.clear()
        y = checkpoint(firesteel, function, x, **options)
        with pytest.raises(firesteel.utils.checkpoint.CheckpointError) as error:
            y.backward()
        return str(error.value)

    context = contextlib.nullcontext()
    options = {"debug": True}
    if how == "context":
        context, options = firesteel.utils.checkpoint.set_checkpoint_debug_enabled(True), {}
    line = other_shape.__code__.co_firstlineno
    with context:
        text = message(other_shape, **options)
        places = re.findall(rf"saved at {re.escape(__file__)}:(\d+) in other_shape", text)
        assert [int(place) - line for place in places] == [3, 4], text
        text = message(other_count, early_stop=False, **options)
        assert re.search("1 and 2; tensor 1, .* in other_count, was saved in the second run only", text), text
    assert "saved at" not in message(other_shape)


@both
def test_the_reentrant_variant_takes_few_options(lib):
    x, contexts = leaf(lib), lambda: (contextlib.nullcontext(), contextlib.nullcontext())
    call = lib.utils.checkpoint.checkpoint
    for options in ({"debug": True}, {"context_fn": contexts}):
        with pytest.raises(ValueError, match="only supported when use_reentrant=False"):
            call(lib.exp, x, use_reentrant=True, **options)


@both
def test_the_reentrant_variant_warns_of_lost_gradients(lib):
    x, w = leaf(lib), leaf(lib)
    call = lib.utils.checkpoint.checkpoint
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad=True"):
        y = call(lambda x: x * w, x.detach(), use_reentrant=True)
    assert not y.requires_grad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(lambda x: x * w, x, use_reentrant=True).requires_grad


@both
def test_reentrant_checkpoints_refuse_passes_for_some_inputs(lib):
    checkpoint = lib.utils.checkpoint.checkpoint
    x, w = lib.ones(2, requires_grad=True), lib.ones(2, requires_grad=True)
    for ask in (lambda y: lib.autograd.grad(y, x), lambda y: y.backward(inputs=[x])):
        with pytest.raises(RuntimeError, match=r"When use_reentrant=True.* incompatible with .grad\(\)"):
            ask(checkpoint(lambda x: (x * w).sum(), x, use_reentrant=True))
        assert x.grad is None and w.grad is None


def test_a_pass_for_all_leaves_inside_one_for_some_is_none_of_these():
    """PyTorch refuses that, too."""
    checkpoint = firesteel.utils.checkpoint.checkpoint
    x, w = firesteel.ones(2, requires_grad=True), firesteel.ones(2, requires_grad=True)
    y = x * 2

    @firesteel.enable_grad()
    def hook(grad):
        checkpoint(lambda w: w.sum(), w, use_reentrant=True).backward()

    y.register_hook(hook)
    firesteel.autograd.grad(y.sum(), x)
    assert w.grad.tolist() == [1, 1] and x.grad is None

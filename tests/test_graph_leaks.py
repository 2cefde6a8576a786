"""Leaks of graphs in all the shapes in which programs keep results, and normal training, which has none."""

import gc
import re
import threading

import pytest

import firesteel
from firesteel import nn
from firesteel.graph import find_leaks, memory

STEPS = 30


def own(leaks, name):
    """The leaks that a variable of this name holds: other tests may have left something behind."""
    return [leak for leak in leaks if any(re.split(r"[ .[]", holder)[0] == name for holder in leak.holders)]


def losses(count=STEPS, width=2):
    """Losses of one model, whose graphs nobody has freed."""
    firesteel.manual_seed(0)
    model = nn.Linear(3, width)
    for _ in range(count):
        yield model(firesteel.randn(4, 3)).square().mean()


def outputs(count=STEPS):
    """Outputs of one model for as many batches."""
    firesteel.manual_seed(0)
    model = nn.Linear(3, 2)
    for _ in range(count):
        yield model(firesteel.randn(4, 3))


def trained(keep=None, regularise=False, steps=STEPS, batch=1):
    """Losses of a training loop: each is of its own step, after backward and an update."""
    firesteel.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = firesteel.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = 0.0
        for _ in range(batch):
            loss = loss + model(firesteel.randn(4, 3)).square().mean()
        if regularise:
            penalty = 0.0
            for parameter in model.parameters():
                penalty = penalty + parameter.abs().sum()
            loss = loss + penalty
        loss.backward()
        optimizer.step()
        yield loss


# --- containers -------------------------------------------------------------------------------------------


class Record:
    def __init__(self, loss):
        self.loss = loss


class Slotted:
    __slots__ = ("loss",)

    def __init__(self, loss):
        self.loss = loss


NESTED = {
    "dicts": lambda loss, i: {"loss": loss, "epoch": i},
    "tuples": lambda loss, i: (i, loss),
    "lists": lambda loss, i: [loss],
    "deeper": lambda loss, i: {"scores": [(i, {"loss": loss})]},
    "objects": lambda loss, i: Record(loss),
    "slots": lambda loss, i: Slotted(loss),
}


@pytest.mark.parametrize("kind", NESTED)
def test_losses_within_other_things_are_found(kind):
    history = [NESTED[kind](loss, i) for i, loss in enumerate(losses())]
    (leak,) = own(find_leaks(), "history")
    assert (leak.kind, leak.tensors) == ("collection", STEPS)
    assert leak.holders[0].startswith("history (a list, local of test_losses_within_other_things")
    history.clear()
    assert not own(find_leaks(), "history")


def test_the_innermost_container_is_told():
    history = {"train": list(losses(5)), "test": list(losses(6))}
    found = own(find_leaks(), "history")
    told = {leak.holders[0].partition(" ")[0]: leak.tensors for leak in found}
    assert told == {f"history[{name!r}]": len(kept) for name, kept in history.items()}
    assert len(found) == 2


def test_attributes_of_one_object_and_the_modules_of_a_model_are_no_collection():
    trainer = Record(None)
    trainer.a, trainer.b, trainer.c, trainer.d = losses(4)
    model = nn.Sequential(*[nn.Identity() for _ in range(6)])
    for module, loss in zip(model, losses(6), strict=True):
        module.kept = loss
    leaks = find_leaks()
    assert not own(leaks, "trainer") and not own(leaks, "model")


# --- tensors that grow ------------------------------------------------------------------------------------


def added(total, output, i):
    return total + output[:, 0]


def added_in_place(total, output, i):
    total += output[:, 0]
    return total


def averaged(total, output, i):
    return 0.9 * total + 0.1 * output[:, 0]


def mean_so_far(total, output, i):
    return (total * i + output[:, 0]) / (i + 1)


def largest(total, output, i):
    return firesteel.maximum(total, output[:, 0])


@pytest.mark.parametrize("step", [added, added_in_place, averaged, mean_so_far, largest])
def test_running_totals_of_vectors_are_found(step):
    total = firesteel.zeros(4)
    for i, output in enumerate(outputs()):
        total = step(total, output, i)
    (leak,) = own(find_leaks(), "total")
    assert (leak.kind, leak.results) == ("total", STEPS)
    assert f"a running total of {STEPS} results, (4,) float32" in str(leak)
    assert leak.nbytes > STEPS * 4 * 3 * 4 // 2  # the inputs of the batches
    total = total.detach()
    assert not own(find_leaks(), "total")


def test_what_is_joined_piece_by_piece_is_found():
    predictions = firesteel.zeros(0, 2)
    for output in outputs():
        predictions = firesteel.cat([predictions, output])
    (leak,) = own(find_leaks(), "predictions")
    assert (leak.kind, leak.results) == ("joined", STEPS)
    assert f"a tensor joined of {STEPS} results, ({4 * STEPS}, 2) float32" in str(leak)
    assert "detach()" in leak.advice


def test_what_is_written_piece_by_piece_is_found():
    buffer = firesteel.zeros(STEPS)
    for i, loss in enumerate(losses()):
        buffer[i] = loss
    (leak,) = own(find_leaks(), "buffer")
    assert (leak.kind, leak.results) == ("written", STEPS)
    assert f"a tensor into which {STEPS} results were written, ({STEPS},) float32" in str(leak)
    assert ".item()" in leak.advice


def test_a_state_that_is_never_detached_is_found_but_no_model_of_many_layers():
    firesteel.manual_seed(0)
    cell = nn.Linear(2, 2)
    state = firesteel.zeros(1, 2)
    for _ in range(600):
        state = cell(state).tanh()
    deep = nn.Sequential(*[nn.Sequential(nn.Linear(2, 2), nn.Tanh()) for _ in range(400)])
    result = deep(firesteel.zeros(1, 2))
    leaks = find_leaks()
    (leak,) = own(leaks, "state")
    assert leak.kind == "history" and leak.nodes == 1202
    assert not own(leaks, "result")
    assert result.grad_fn is not None


# --- normal training --------------------------------------------------------------------------------------


def test_a_regularised_loss_is_no_leak():
    for loss in trained(regularise=True, steps=2):
        leaks = find_leaks()
        assert not own(leaks, "loss") and not own(leaks, "penalty")
        assert loss.grad_fn is not None


def test_a_sum_over_one_batch_is_no_leak_after_backward():
    *_, loss = trained(batch=20, steps=3)
    assert not own(find_leaks(), "loss")
    results = list(losses(20))
    assert own(find_leaks(), "results")
    firesteel.stack(results).sum().backward()
    assert not own(find_leaks(), "results")
    assert loss.grad_fn is not None


def test_losses_that_are_kept_after_their_backward_passes_are_leaks_of_nodes():
    kept = list(trained(regularise=True))
    total = 0.0
    for loss in trained():
        total = total + loss
    leaks = find_leaks()
    (of_list,) = own(leaks, "kept")
    (of_total,) = own(leaks, "total")
    assert (of_list.tensors, of_total.results) == (STEPS, STEPS)
    for leak in (of_list, of_total):
        assert leak.is_freed and leak.nbytes == 0
        assert "nodes alive, whose saved tensors backward has freed" in str(leak)
    kept.clear()


def test_residual_networks_and_what_is_unrolled_are_no_totals():
    firesteel.manual_seed(0)
    layers = [nn.Linear(4, 4) for _ in range(12)]
    x = firesteel.randn(2, 4)
    shared = x
    for layer in layers:
        x = x + layer(x).relu()
        shared = shared + layers[0](shared).relu()
    state, unrolled = firesteel.zeros(2, 4), 0.0
    for _ in range(12):
        state = layers[0](state).tanh()
        unrolled = unrolled + state.square().mean()
    heads = sum(layer(x) for layer in layers)
    leaks = find_leaks()
    for name in ("x", "shared", "unrolled", "heads"):
        assert not own(leaks, name), name
    assert heads.grad_fn is not None


# --- holders ----------------------------------------------------------------------------------------------


class Log:
    entries: list = []


def test_holders_of_all_kinds_are_spelled_as_the_program_would():
    def generator():
        found = []
        for loss in losses(6):
            found.append(loss)
            yield

    def closure():
        collected = []
        return lambda loss: collected.append(loss)

    running = generator()
    for _ in range(6):
        next(running)
    collect = closure()
    for loss in losses(6):
        collect(loss)
    Log.entries[:] = losses(6)
    try:
        leaks = find_leaks()
        (of_generator,) = own(leaks, "found")
        (of_closure,) = own(leaks, "collected")
        (of_class,) = own(leaks, "Log")
    finally:
        Log.entries.clear()
    where = test_holders_of_all_kinds_are_spelled_as_the_program_would.__name__
    assert of_generator.holders[0].startswith(f"found (a list, local of {where}.<locals>.generator(), ")
    assert of_closure.holders[0] == (
        f"collected (a list, variable of the closure {where}.<locals>.closure.<locals>.<lambda>())"
    )
    assert of_class.holders[0] == f"Log.entries (a list, global of {__name__})"
    assert not any(", )" in str(leak) for leak in leaks)


# --- what nothing accounts for ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Using backward")
def test_memory_that_only_cycles_hold_is_told():
    gc.collect()
    seen = memory()
    before = seen.allocated_bytes - seen.seen_bytes
    weights = firesteel.ones(400_000, requires_grad=True)
    (weights**3).sum().backward(create_graph=True)
    node = weights.grad.grad_fn  # leads to the tensor when nothing else does
    del weights
    gc.collect()
    try:
        report = memory()
        assert report.allocated_bytes - report.seen_bytes >= before + 1_600_000
        assert "allocated, " in str(report) and "that Python can see" in str(report)
        leaks = find_leaks()
        assert leaks.unaccounted_bytes >= 1_600_000
        assert "more are allocated by what Python does not see" in str(leaks)
        assert "create_graph=True" in str(leaks)
    finally:
        waiting = [node]
        while waiting:  # ends the cycle
            one = waiting.pop()
            if one.name() == "AccumulateGrad":
                one.variable.grad = None
            waiting += [producer for producer, _ in one.next_functions if producer is not None]


def test_a_program_whose_memory_is_accounted_for_hears_nothing_of_it():
    kept = firesteel.ones(1_000_000, requires_grad=True)
    result = kept.exp().sin()
    report = memory()
    assert report.seen_bytes >= 3 * 4_000_000
    assert find_leaks().unaccounted_bytes < 4_000_000
    assert result.grad_fn is not None


def test_searches_of_two_threads_do_not_meet():
    x = firesteel.ones(3, requires_grad=True)
    losses = [(x * i).sum() for i in range(5)]
    found = []
    threads = [threading.Thread(target=lambda: found.append(find_leaks())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2 and all("losses" in str(leaks) for leaks in found) and len(losses) == 5


def test_results_whose_history_cannot_be_used_are_passed_over():
    class Same(firesteel.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, grad):
            return grad

    h = firesteel.ones(3, requires_grad=True) * 1
    y = Same.apply(h)
    h.mul_(2)
    assert y.detach().tolist() == [2.0] * 3
    find_leaks()
    firesteel.graph.memory()

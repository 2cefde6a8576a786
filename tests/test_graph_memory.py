"""What is alive and who keeps it: counts, bytes, and leaks of graphs."""

import gc
import sys
import threading

import pytest

import firesteel
from firesteel import nn
from firesteel.graph import find_leaks, memory, memory_summary


def own(leaks, name):
    """The leaks that a variable of this name holds: other tests may have left something behind."""
    return [leak for leak in leaks if any(holder.partition(" ")[0] == name for holder in leak.holders)]


def train(steps, keep):
    """A training loop that gives each loss to `keep`."""
    firesteel.manual_seed(0)
    model = nn.Linear(3, 1)
    for _ in range(steps):
        loss = (model(firesteel.randn(4, 3)) ** 2).mean()
        loss.backward(retain_graph=True)
        keep(loss)


# --- counts -----------------------------------------------------------------------------------------------


def test_tensors_nodes_and_bytes_are_counted():
    x = firesteel.ones(1000, requires_grad=True)
    y = x.exp()
    report = memory([x, y])
    assert (report.tensors, report.nodes, report.leaves) == (2, 2, 1)
    assert report.tensor_bytes == 8000
    assert (report.saved_bytes, report.graph_bytes) == (4000, 0)  # exp keeps y, which is alive anyway
    z = y.sin()
    del y
    report = memory([x, z])
    assert (report.saved_bytes, report.graph_bytes) == (4000, 4000)  # exp and sin keep the same memory
    assert report.held[0].shape == (1000,) and report.held[0].by_graph_alone
    z.sum().backward()
    assert memory([x, z]).saved_bytes == 0


def test_bytes_are_told_by_operation_largest_first():
    x = firesteel.ones(100, requires_grad=True)
    z = x.exp().sum() + firesteel.ones(50).mul(x[:50]).tanh().sum()
    report = memory([x, z])
    assert [held.operation for held in report.by_operation] == ["exp", "mul", "tanh"]
    assert [held.nbytes for held in report.by_operation] == [400, 200, 200]
    assert sum(held.nbytes for held in report.by_operation) == report.saved_bytes


def test_all_live_tensors_are_found():
    gc.collect()
    before = memory()
    kept = [firesteel.ones(10, requires_grad=True) * 2 for _ in range(3)]
    after = memory()
    assert after.tensors - before.tensors == 3  # the leaves are not held by Python any more
    assert after.nodes - before.nodes == 6
    del kept
    assert memory().nodes == before.nodes


def test_gradients_are_live_tensors():
    x = firesteel.ones(1000, requires_grad=True)
    before = memory()
    x.sum().backward()
    after = memory()
    assert (after.tensors - before.tensors, after.tensor_bytes - before.tensor_bytes) == (1, 4000)


def test_the_summary_says_it_in_words():
    x = firesteel.ones(1000, requires_grad=True)
    z = x.exp().sum()
    text = memory_summary()
    assert "saved by operation:" in text and "  exp " in text
    assert "1,000" not in str(memory([x, z])) and "3.9 KiB" in str(memory([x, z]))


def test_a_long_chain_is_walked_without_recursion():
    z = firesteel.ones(1, requires_grad=True)
    for _ in range(100_000):
        z = z.sin()
    assert memory([z]).nodes == 100_001


def test_a_view_counts_with_all_memory_that_it_keeps():
    w = firesteel.ones(1, requires_grad=True)
    big = firesteel.ones(1_000_000)
    y = big[:1] * w
    del big
    report = memory(y)
    assert (report.saved_bytes, report.graph_bytes) == (4_000_000, 4_000_000)
    assert report.held[0].shape == (1,) and report.held[0].nbytes == 4_000_000
    r = firesteel.ones(50, 1000, requires_grad=True)
    product = firesteel.ones(1000).expand(50, 1000) * r
    assert memory(product).saved_bytes == 4000
    view = firesteel.ones(1000)[:10]
    assert memory(view).tensor_bytes == 4000


def packed_by(pack, unpack):
    x = firesteel.ones(1000, requires_grad=True)
    with firesteel.autograd.graph.saved_tensors_hooks(pack, unpack):
        return (x * 2).exp().sin()


def test_what_hooks_have_packed_is_counted():
    z = packed_by(lambda tensor: tensor.half(), lambda packed: packed.float())
    report = memory(z)
    assert report.packed == 3
    assert report.saved_bytes == report.graph_bytes == 2000 + 2000 + 2
    assert "3 saved tensors packed by hooks" in str(report)
    assert "packed output of exp, (1000,) float32" in str(report)
    pair = packed_by(lambda tensor: (tensor.half(), tensor.double()), lambda packed: packed[0].float())
    assert memory(pair).saved_bytes == 2 * (2000 + 8000) + 2 + 8
    words = packed_by(lambda tensor: tensor.tolist(), firesteel.tensor)
    report = memory(words)
    assert (report.packed, report.saved_bytes) == (3, 0)
    assert "unknown  packed input 0 of sin, (1000,) float32" in str(report)
    assert "packed" not in str(memory(packed_by(lambda x: x, lambda x: x).detach()))


def test_what_is_packed_is_no_live_tensor():
    gc.collect()
    before = memory()
    z = packed_by(lambda tensor: tensor.half(), lambda packed: packed.float())
    after = memory()
    assert after.tensors - before.tensors == 1
    assert after.graph_bytes - before.graph_bytes == 4002
    assert z.grad_fn is not None


def test_saved_tensors_of_custom_functions_are_counted_also_packed():
    class Double(firesteel.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    x = firesteel.ones(1000, requires_grad=True)
    assert memory(Double.apply(x)).saved_bytes == 4000
    with firesteel.autograd.graph.saved_tensors_hooks(lambda t: t.half(), lambda t: t.float()):
        y = Double.apply(x)
    report = memory(y)
    assert (report.packed, report.saved_bytes, report.held[0].label) == (1, 2000, "packed input 0")
    with firesteel.autograd.graph.save_on_cpu():
        z = Double.apply(x)
    assert (memory(z).packed, memory(z).saved_bytes) == (1, 4000)


def test_one_tensor_is_counted_like_a_list_of_it():
    x = firesteel.ones(3, requires_grad=True)
    for tensor in (x, x.exp(), x.exp().sum()):
        assert str(memory(tensor)) == str(memory([tensor]))
    assert memory(x.exp()).tensors == 1
    assert "allocated" not in str(memory(x))  # of all tensors, not of these


@pytest.mark.parametrize(
    ("given", "said"),
    [(3, "int"), ("x", "str"), ([3], "list with int in it"), ({"a": 1}, "dict with str in it")],
)
def test_anything_else_than_tensors_is_refused(given, said):
    with pytest.raises(
        TypeError, match=f"^memory: expected a Tensor or a sequence of them, not {said}; pass"
    ):
        memory(given)


# --- leaks ------------------------------------------------------------------------------------------------


def test_a_running_total_is_found():
    total = 0.0

    def add(loss):
        nonlocal total
        total += loss

    train(20, add)
    (leak,) = own(find_leaks(), "total")
    assert leak.kind == "total"
    assert "20 results, () float32" in str(leak)
    assert leak.tensors == 1 and leak.nodes >= 20 * 3
    assert leak.nbytes > 20 * 4 * 3 * 4  # the inputs of 20 batches at least
    assert "test_a_running_total_is_found" in leak.holders[0] and "test_graph_memory.py" in leak.holders[0]
    assert "loss.item()" in leak.advice
    total = total.detach()
    assert not own(find_leaks(), "total")


def test_a_list_of_losses_is_found():
    losses = []
    train(20, losses.append)
    (leak,) = own(find_leaks(), "losses")
    assert (leak.kind, leak.tensors) == ("collection", 20)
    assert "20 tensors with graphs, () float32" in str(leak)
    assert leak.nodes == 20 * 3 + 2  # the layer, the power and the mean, and two parameters
    assert ".item()" in leak.advice
    losses[:] = [loss.item() for loss in losses]
    assert not own(find_leaks(), "losses")


class Trainer:
    def __init__(self):
        self.history = {"loss": []}
        self.state = None


TRAINER = Trainer()


def test_holders_are_named_as_the_program_would():
    try:
        train(5, TRAINER.history["loss"].append)
        (leak,) = own(find_leaks(), "TRAINER.history['loss']")
        assert f"global of {__name__}" in leak.holders[0]
        TRAINER.history["loss"].clear()
        TRAINER.state = firesteel.ones(2, requires_grad=True)
        for _ in range(30):
            TRAINER.state = TRAINER.state.sin()
        (leak,) = own(find_leaks(min_nodes=20), "TRAINER.state")
        assert leak.kind == "history" and leak.nodes == 31
        assert "detach()" in leak.advice
        assert not own(find_leaks(min_nodes=40), "TRAINER.state")
    finally:
        TRAINER.__init__()


def test_a_loop_without_leaks_has_none():
    total = 0.0

    def add(loss):
        nonlocal total
        total += loss.item()

    train(20, add)
    assert total > 0
    assert not own(find_leaks(), "total") and not own(find_leaks(), "loss")


def test_looking_for_leaks_keeps_nothing_alive():
    losses = []
    train(5, losses.append)
    node = losses[0].grad_fn
    assert own(find_leaks(), "losses")
    references = sys.getrefcount(losses[0])
    find_leaks()
    after = sys.getrefcount(losses[0])
    assert after == references
    count = memory().nodes
    losses = None
    assert memory().nodes < count
    assert node is not None


def test_variables_that_the_program_asked_for_stay_as_they_are():
    losses = [firesteel.ones(1, requires_grad=True) * 2 for _ in range(4)]
    namespace = locals()
    assert own(find_leaks(), "losses")
    assert namespace["losses"] is losses


def test_variables_of_other_threads_are_seen():
    ready, done = threading.Event(), threading.Event()

    def work():
        results = [firesteel.ones(1, requires_grad=True) * 2 for _ in range(6)]
        ready.set()
        done.wait(60)
        results.clear()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(60)
        (leak,) = own(find_leaks(), "results")
        assert leak.tensors == 6 and "work()" in leak.holders[0]
    finally:
        done.set()
        thread.join()


def test_no_leaks_are_said_in_words():
    assert str(type(find_leaks())()) == "no leaks found"


@pytest.mark.parametrize("call", [memory, memory_summary, find_leaks])
def test_freed_graphs_do_not_disturb(call):
    x = firesteel.ones(3, requires_grad=True)
    z = (x * x).sum()
    z.backward()
    assert str(call())
    assert z.grad_fn is not None


def test_variables_of_code_that_exec_runs_are_seen():
    code = """
losses = [firesteel.ones(1, requires_grad=True) * 2 for _ in range(5)]
found = own(find_leaks(), "losses")
"""
    namespace = {"firesteel": firesteel, "own": own, "find_leaks": find_leaks, "__name__": "made"}
    exec(code, namespace)
    (leak,) = namespace["found"]
    assert leak.holders == ("losses (a list, global of made)",)

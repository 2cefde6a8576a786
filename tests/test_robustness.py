"""What must never end the process or hang it: deep graphs, Ctrl-C, huge sizes, wrong arguments."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import firesteel
from firesteel.nn import functional

DEPTH = 1_000_000
SMALL_STACK = 256 * 1024
HUGE = 1 << 50


def _in_small_stack(function):
    """Runs `function` on a thread with a stack of 256 KiB and hands back its result or error."""
    outcome = []

    def run():
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    before = threading.stack_size(SMALL_STACK)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


class TestDeepGraphs:
    def test_forward_backward_and_free(self):
        def run():
            x = firesteel.ones(1, requires_grad=True)
            y = x
            for _ in range(DEPTH):
                y = y * 1.0
            y.backward()
            return x.grad.item()

        assert _in_small_stack(run) == 1.0

    def test_free_without_backward(self):
        def run():
            y = firesteel.ones(1, requires_grad=True)
            for _ in range(DEPTH):
                y = y + 1.0
            value = y.item()
            del y
            return value

        assert _in_small_stack(run) == DEPTH + 1

    def test_chain_of_in_place_writes(self):
        def run():
            x = firesteel.ones(1, requires_grad=True)
            y = x * 1.0
            for _ in range(DEPTH // 10):
                y.mul_(1.0)
            y.backward()
            return x.grad.item()

        assert _in_small_stack(run) == 1.0

    def test_chain_of_views(self):
        def run():
            x = firesteel.ones(1, requires_grad=True)
            y = x
            for _ in range(DEPTH // 20):
                y = y.unsqueeze(0).squeeze(0)
            y.backward()
            return x.grad.item()

        assert _in_small_stack(run) == 1.0


LOOPS = {
    "forward": """
        while True:
            x = x + 1
    """,
    "backward": """
        w = f.ones(1, requires_grad=True)
        y = w
        for _ in range(300_000):
            y = y * 1.0
        while True:
            y.backward(retain_graph=True)
    """,
    "loading": """
        data = f.utils.data.TensorDataset(f.rand(1_000_000, 4))
        while True:
            for batch in f.utils.data.DataLoader(data, batch_size=2, num_workers=2):
                pass
    """,
    "training": """
        model = f.nn.Sequential(f.nn.Linear(256, 256), f.nn.ReLU(), f.nn.Linear(256, 10))
        optimizer = f.optim.SGD(model.parameters(), lr=0.01)
        while True:
            optimizer.zero_grad()
            f.nn.functional.cross_entropy(model(f.rand(64, 256)), f.zeros(64).long()).backward()
            optimizer.step()
    """,
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_ends_a_long_computation(loop):
    # A shell's background jobs ignore the signal, and so would the program.
    head = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    head += "import firesteel as f\nx = f.ones(1)\nprint('ready', flush=True)\nif True:\n"
    command = [sys.executable, "-c", head + LOOPS[loop]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.7)
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    assert time.monotonic() - begin < 2


# Each asks for more memory than any machine has, by less than what overflows.
TOO_MUCH = {
    "empty": lambda: firesteel.empty(HUGE),
    "zeros": lambda: firesteel.zeros(HUGE, 4),
    "full": lambda: firesteel.full((HUGE,), 1.0),
    "rand": lambda: firesteel.rand(HUGE),
    "randint": lambda: firesteel.randint(0, 5, (HUGE,)),
    "randperm": lambda: firesteel.randperm(HUGE),
    "arange": lambda: firesteel.arange(HUGE),
    "clone": lambda: firesteel.ones(1).expand(HUGE).clone(),
    "add": lambda: firesteel.ones(1).expand(HUGE) + 1,
    "broadcast": lambda: firesteel.ones(1 << 25, 1) * firesteel.ones(1 << 25),
    "exp": lambda: firesteel.ones(1).expand(HUGE).exp(),
    "cat": lambda: firesteel.cat([firesteel.ones(1).expand(HUGE)] * 2),
    "stack": lambda: firesteel.stack([firesteel.ones(1).expand(HUGE)] * 2),
    "to": lambda: firesteel.ones(1).expand(HUGE).to(firesteel.float64),
    "tile": lambda: firesteel.ones(1).tile(HUGE),
    "outer": lambda: firesteel.ones(1).expand(1 << 25).outer(firesteel.ones(1).expand(1 << 25)),
    "matmul": lambda: firesteel.ones(1 << 10, 1) @ firesteel.ones(1, 1).expand(1, 1 << 45),
    "index": lambda: firesteel.ones(4)[firesteel.zeros(1).long().expand(HUGE)],
    "index_select": lambda: firesteel.ones(4).index_select(0, firesteel.zeros(1).long().expand(HUGE)),
    "one_hot": lambda: functional.one_hot(firesteel.tensor([1]), HUGE),
    "pad": lambda: functional.pad(firesteel.ones(1), (HUGE, 0)),
    "conv2d": lambda: functional.conv2d(
        firesteel.ones(1, 1, 4, 4), firesteel.ones(1, 1, 2, 2), padding=1 << 25
    ),
    "sort": lambda: firesteel.ones(1).expand(HUGE).sort(),
    "tolist": lambda: firesteel.ones(1).expand(HUGE).tolist(),
    "eye": lambda: firesteel.eye(1 << 25),
    "linspace": lambda: firesteel.linspace(0, 1, HUGE),
    "adaptive_avg_pool2d": lambda: functional.adaptive_avg_pool2d(firesteel.ones(1, 1, 4, 4), (HUGE, 1)),
    "multinomial": lambda: firesteel.ones(4).multinomial(HUGE, True),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much_memory_is_a_memory_error_that_names_the_bytes(name):
    with pytest.raises(MemoryError, match=r"\d{15,} bytes"):
        TOO_MUCH[name]()
    assert (firesteel.ones(3) + 1).tolist() == [2, 2, 2], "the next operation works"


def test_the_memory_limit_is_kept_and_named():
    firesteel.set_memory_limit(1 << 20)
    try:
        with pytest.raises(MemoryError, match=re.escape(str(1 << 22))):
            firesteel.empty(1 << 20)
        assert firesteel.ones(3).sum().item() == 3
    finally:
        firesteel.set_memory_limit(None)


OVERFLOW = {
    "empty": lambda: firesteel.empty(1 << 62),
    "two dims": lambda: firesteel.zeros(1 << 40, 1 << 40),
    "wraps to zero": lambda: firesteel.empty(1 << 32, 1 << 32),
    "wraps to one": lambda: firesteel.empty(7, 0x6DB6DB6DB6DB6DB7),
    "view": lambda: firesteel.ones(4).view(1 << 32, 1 << 32, 4),
    "reshape": lambda: firesteel.ones(4).reshape(1 << 62, 4, 4),
    "expand": lambda: firesteel.ones(1, 1).expand(1 << 40, 1 << 40),
    "expand that wraps to one": lambda: firesteel.ones(1, 1).expand(7, 0x6DB6DB6DB6DB6DB7),
    "tile": lambda: firesteel.ones(1 << 10).tile(1 << 60),
    "outer": lambda: firesteel.ones(1).expand(1 << 40).outer(firesteel.ones(1).expand(1 << 40)),
    "pad": lambda: functional.pad(firesteel.ones(1), (1 << 62, 1 << 62)),
    "conv2d": lambda: functional.conv2d(
        firesteel.ones(1, 1, 4, 4), firesteel.ones(1, 1, 2, 2), padding=1 << 62
    ),
    "stride": lambda: firesteel.ones(1).expand(1 << 62).to(firesteel.float64),
}


@pytest.mark.parametrize("name", OVERFLOW)
def test_a_product_of_sizes_that_overflows_is_refused(name):
    with pytest.raises(RuntimeError, match="overflow|too large"):
        OVERFLOW[name]()


# What is asked for, the class of the error, and words of its text.
WRONG = {
    "negative size": (lambda: firesteel.empty(-1), RuntimeError, "negative dimension -1"),
    "negative second size": (lambda: firesteel.zeros(2, -3), RuntimeError, "negative dimension -3"),
    "nan size": (lambda: firesteel.empty(float("nan")), TypeError, "int"),
    "nan in a tuple": (lambda: firesteel.full((float("nan"),), 1.0), TypeError, "int"),
    "float size": (lambda: firesteel.empty(2.5), TypeError, "int"),
    "size of 71 bits": (lambda: firesteel.empty(1 << 70), (RuntimeError, ValueError, TypeError), "64 bits"),
    "arange nan": (lambda: firesteel.arange(float("nan")), RuntimeError, "unsupported range"),
    "arange step": (lambda: firesteel.arange(0, 1, 0), RuntimeError, "nonzero"),
    "randperm": (lambda: firesteel.randperm(-1), RuntimeError, "non-negative"),
    "linspace": (lambda: firesteel.linspace(0, 1, -1), RuntimeError, "non-negative"),
    "randint": (lambda: firesteel.randint(5, 2, (3,)), RuntimeError, "from=5"),
    "view": (lambda: firesteel.ones(3).view(2, 2), RuntimeError, "invalid for input of size 3"),
    "two unknown sizes": (lambda: firesteel.ones(3).view(-1, -1), RuntimeError, "only one dimension"),
    "expand": (lambda: firesteel.ones(3).expand(4), RuntimeError, r"\[3\]"),
    "index": (lambda: firesteel.ones(2)[5], IndexError, "index 5 is out of bounds"),
    "dim": (lambda: firesteel.ones(2).sum(3), IndexError, "Dimension out of range"),
    "ragged rows": (lambda: firesteel.tensor([[1, 2], [3]]), ValueError, "length 2"),
    "shapes": (lambda: firesteel.ones(2) + firesteel.ones(3), RuntimeError, "2.*3"),
    "matmul": (lambda: firesteel.ones(2, 3) @ firesteel.ones(2, 3), RuntimeError, r"2, 3"),
    "threads": (lambda: firesteel.set_num_threads(0), RuntimeError, "expects a positive integer, got 0"),
    "conv2d stride": (
        lambda: functional.conv2d(firesteel.ones(1, 1, 4, 4), firesteel.ones(1, 1, 2, 2), stride=0),
        RuntimeError,
        "stride",
    ),
    "pool size": (
        lambda: functional.max_pool2d(firesteel.ones(1, 1, 4, 4), 0),
        RuntimeError,
        "greater than zero",
    ),
    "backward of many": (
        lambda: firesteel.ones(2, requires_grad=True).mul(2).backward(),
        RuntimeError,
        "scalar",
    ),
    "backward of a constant": (lambda: firesteel.ones(1).backward(), RuntimeError, "require"),
    "item of many": (lambda: firesteel.ones(2).item(), (RuntimeError, ValueError), "2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_raise_the_right_class(name):
    call, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        call()


SCORES = (2, 3)
LABELS = {
    "too large": ([0, 3], IndexError, "Target 3 is out of bounds"),
    "negative": ([0, -1], IndexError, "Target -1 is out of bounds"),
    "too few": ([0], RuntimeError, "batch_size"),
    "floats": ([0.0, 1.0], RuntimeError, "Long"),
}


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
def test_wrong_labels_are_refused_and_named(loss, name):
    labels, error, text = LABELS[name]
    scores = firesteel.ones(*SCORES, requires_grad=True)
    with pytest.raises(error, match=text):
        getattr(functional, loss)(scores, firesteel.tensor(labels))
    assert scores.grad is None


@pytest.mark.parametrize("index", [5, -1])
def test_wrong_words_are_refused(index):
    with pytest.raises(IndexError, match=str(index)):
        functional.embedding(firesteel.tensor([0, index]), firesteel.ones(5, 3))


# In-place operations on a tensor of shape (2, 3) that must fail, and the error.
BAD_WRITES = {
    "add_ shape": (lambda x: x.add_(firesteel.ones(4)), RuntimeError),
    "add_ larger": (lambda x: x.add_(firesteel.ones(5, 2, 3)), RuntimeError),
    "mul_ shape": (lambda x: x.mul_(firesteel.ones(3, 2)), RuntimeError),
    "copy_ shape": (lambda x: x.copy_(firesteel.ones(7)), RuntimeError),
    "set item shape": (lambda x: x.__setitem__(0, firesteel.ones(2)), RuntimeError),
    "set item index": (lambda x: x.__setitem__(2, 1.0), IndexError),
    "set item list": (lambda x: x.__setitem__([0, 5], 1.0), IndexError),
    "index_add_": (
        lambda x: x.index_add_(0, firesteel.tensor([0, 9]), firesteel.ones(2, 3)),
        (IndexError, RuntimeError),
    ),
    "scatter_": (
        lambda x: x.scatter_(1, firesteel.tensor([[0, 7], [1, 2]]), 1.0),
        (IndexError, RuntimeError),
    ),
    "masked_fill_": (lambda x: x.masked_fill_(firesteel.ones(4).bool(), 0.0), RuntimeError),
    "uniform_": (lambda x: x.uniform_(2.0, 1.0), RuntimeError),
    "normal_": (lambda x: x.normal_(0.0, -1.0), RuntimeError),
    "addmm_": (lambda x: x.addmm_(firesteel.ones(2, 4), firesteel.ones(5, 3)), RuntimeError),
}


@pytest.mark.parametrize("name", BAD_WRITES)
def test_a_failed_write_leaves_the_tensor_unchanged(name):
    write, error = BAD_WRITES[name]
    x = firesteel.arange(6.0).reshape(2, 3)
    version = x._version
    with pytest.raises(error):
        write(x)
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert x._version == version


def test_writing_floats_into_ints_is_refused_and_changes_nothing():
    x = firesteel.arange(3)
    with pytest.raises(RuntimeError, match="can't be cast"):
        x.add_(0.5)
    assert x.tolist() == [0, 1, 2]


def test_writing_a_leaf_is_refused_and_changes_nothing():
    x = firesteel.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        x.add_(1)
    assert x.tolist() == [1, 1, 1]
    assert x.is_leaf
    x.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]


def test_writing_overlapping_memory_is_refused_and_changes_nothing():
    x = firesteel.ones(1)
    with pytest.raises(RuntimeError, match=r"single memory location|overlap"):
        x.expand(3).add_(1)
    assert x.tolist() == [1]


def test_a_failed_backward_can_be_followed_by_another():
    x = firesteel.ones(3, requires_grad=True)
    y = (x * 2).exp()
    loss = y.sum()
    with firesteel.no_grad():
        y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert x.grad is None
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3, 3, 3]


def test_operations_on_two_threads_at_once():
    failures = []

    def train(seed):
        try:
            generator = firesteel.Generator().manual_seed(seed)
            x = firesteel.rand(64, 64, generator=generator)
            w = firesteel.rand(64, 64, generator=generator).requires_grad_()
            for _ in range(50):
                w.grad = None
                (x @ w).relu().sum().backward()
            error = w.grad - x.sum(0).unsqueeze(1)
            if error.abs().max().item() > 1e-4:
                failures.append(seed)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=train, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []

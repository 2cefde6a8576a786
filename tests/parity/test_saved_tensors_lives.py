"""What hooks keep of saved tensors: how often it is asked for, and when it goes."""

import gc
import threading
import weakref

import pytest

import firesteel
from libraries import both
from op_cases import CASES
from op_cases.table import FLOATS, draw
from tensors import build, is_float, leaves

SMALL_STACK = 512 * 1024


def hooks(lib, pack, unpack=lambda packed: packed):
    return lib.autograd.graph.saved_tensors_hooks(pack, unpack)


def in_a_small_thread(function):
    """Runs `function` where recursion over a long graph would overflow the stack."""
    results = []
    previous = threading.stack_size(SMALL_STACK)
    try:
        thread = threading.Thread(target=lambda: results.append(function()))
        thread.start()
    finally:
        threading.stack_size(previous)
    thread.join()
    return results[0]


@pytest.mark.parametrize("case", [case for case in CASES if case.grad], ids=lambda case: case.name)
def test_each_saved_tensor_is_asked_for_at_most_once(case):
    """A checkpoint computes again whenever it is asked."""
    for sample, _, layout in case.calls("contiguous", FLOATS):
        if not sample.grad:
            continue
        args, kwargs = build(firesteel, draw(sample, "float32", layout, case.name), requires_grad=True)
        inputs = [tensor for tensor in leaves((args, kwargs)) if tensor.requires_grad]
        counts = []

        def pack(tensor, counts=counts):
            counts.append(0)
            return len(counts) - 1, tensor

        def unpack(packed, counts=counts):
            counts[packed[0]] += 1
            return packed[1]

        with hooks(firesteel, pack, unpack):
            result = case.run(firesteel, args, kwargs)
        outputs = [out for out in leaves([result]) if is_float(out) and out.requires_grad]
        if outputs:
            grads = [firesteel.ones_like(out) for out in outputs]
            firesteel.autograd.grad(outputs, inputs, grads, allow_unused=True)
        assert max(counts, default=0) <= 1, (sample, counts)


def test_a_long_chain_of_packed_tensors_is_dropped_without_recursion():
    def chain():
        h = firesteel.ones(2, requires_grad=True) * 0.5
        with hooks(firesteel, lambda tensor: tensor):
            for _ in range(30_000):
                h = h * h
        last = weakref.ref(h)
        del h
        return last()

    assert in_a_small_thread(chain) is None


def test_a_long_chain_through_contexts_is_dropped_without_recursion():
    class Keeps(firesteel.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.x = x
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            return grad

    def chain():
        h = firesteel.ones(2, requires_grad=True)
        for _ in range(30_000):
            h = Keeps.apply(h)
        last = weakref.ref(h)
        del h
        return last()

    assert in_a_small_thread(chain) is None


def test_nested_passes_end_before_the_stack_does():
    depth = []

    def hook(grad):
        depth.append(0)
        with firesteel.enable_grad():
            y = firesteel.ones(1, requires_grad=True) * 2
        y.register_hook(hook)
        y.backward()

    def nest():
        y = firesteel.ones(1, requires_grad=True) * 2
        y.register_hook(hook)
        with pytest.raises(
            RuntimeError, match=r"\d+ backward passes run inside each other.*overflow the stack"
        ):
            y.backward()
        (firesteel.ones(1, requires_grad=True) * 2).backward()
        return True

    assert in_a_small_thread(nest)
    assert 20 < len(depth) < 1000


@both
def test_an_in_place_operation_whose_hook_fails_has_its_history(lib):
    """The values have changed, so the old history would be wrong."""

    def fail(tensor):
        raise ValueError("no room")

    x = lib.tensor([1.0, 2.0], requires_grad=True)
    h = x * 1
    with pytest.raises(ValueError, match="no room"), hooks(lib, fail):
        h.exp_()
    if lib is firesteel:  # PyTorch keeps the old one
        assert h.grad_fn.name() == "ExpBackward0"
        with pytest.raises(
            RuntimeError, match="exp: the output was not saved for backward: a pack hook failed"
        ):
            h.sum().backward()


@both
def test_a_save_of_a_custom_function_that_fails(lib):
    class Doubles(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            ctx.save_for_backward(x)
            return x

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 2 + 0 * x

    def fail(tensor):
        raise ValueError("no room")

    h = lib.ones(2, requires_grad=True) * 1
    with pytest.raises(ValueError, match="no room"), hooks(lib, fail):
        Doubles.apply(h)
    text = "Doubles.*: what save_for_backward was given is not there, because a pack hook .* raised"
    with pytest.raises((RuntimeError, ValueError), match=text if lib is firesteel else None):
        h.sum().backward()


def test_a_hook_that_keeps_what_it_is_given_makes_no_cycle():
    """In PyTorch it does."""

    class Exp(firesteel.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.note = Note()
            notes.append(weakref.ref(ctx.note))
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.saved_tensors[0]

    class Note:
        pass

    notes = []
    gc.disable()
    try:
        with hooks(firesteel, lambda tensor: tensor):
            y = Exp.apply(firesteel.ones(2, requires_grad=True))
        del y
        assert notes[0]() is None
    finally:
        gc.enable()


def test_a_cycle_through_hooks_is_collected():
    """PyTorch does not see what its hooks keep."""

    class Store:
        def __init__(self):
            self.results = []

        def pack(self, tensor):
            return self, tensor

        def unpack(self, packed):
            return packed[1]

    class Square(firesteel.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            return 2 * ctx.saved_tensors[0] * grad

    for operation in (firesteel.exp, firesteel.sin, lambda x: x.logsumexp(0), Square.apply):
        store = Store()
        x = firesteel.ones(2, requires_grad=True)
        with hooks(firesteel, store.pack, store.unpack):
            store.results.append(operation(x))
        (grad,) = firesteel.autograd.grad(store.results[0].sum(), x, retain_graph=True)
        assert grad.shape == (2,)
        gc.collect()
        assert firesteel.autograd.grad(store.results[0].sum(), x, retain_graph=True)[0].equal(grad)
        gone = weakref.ref(store)
        del store
        gc.collect()
        assert gone() is None, operation


@both
def test_saved_tensors_of_a_call_that_is_over(lib):
    """Only the node knows their history."""
    kept = []

    class Square(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            kept.append(ctx)
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            return 2 * ctx.saved_tensors[0] * grad

    y = Square.apply(lib.ones(2, requires_grad=True))
    assert y.grad_fn.saved_tensors[0].tolist() == [1.0, 1.0]
    if lib is firesteel:  # in PyTorch the ctx is the node
        with pytest.raises(RuntimeError, match="Square.*: saved_tensors can be read in backward, or through"):
            _ = kept[0].saved_tensors
    y.sum().backward()

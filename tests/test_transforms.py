"""Runs the table of operations through `vmap` and `jvp`: beside PyTorch's, a loop, and differences."""

import re

import numpy as np
import pytest

import firesteel
from op_cases import CASES
from op_cases.table import LARGE, Drawn, draw, walk
from sweep import PYTORCH_WARNS, Failures
from tensors import assert_same, build, from_numpy, is_float, is_tensor, leaves, to_numpy, torch

SAMPLES = 8  # of each row
LOOSER = 10.0  # products and sums in another order
STEP = 1e-6

pytestmark = [
    *PYTORCH_WARNS,
    # What PyTorch says of its own transforms.
    pytest.mark.filterwarnings("ignore:.*batching rule:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]
# PyTorch's `vmap` adds 0 * nan, which `addmm` itself leaves out. Its `jvp` moves the padding of an embedding,
# backward does not.
PYTORCH_DIFFERS = {("addmm", "beta0"), ("embedding", "padding"), ("embedding", "padding-negative")}
# Random draws, unless the transform is told how; results whose shape or value Python sees; forward mode of
# functions that are constant in pieces.
PYTORCH_CANNOT = (
    r"called random operation while in randomness error mode|operators that can \w+ dynamic shape|"
    r"masked_select\(self, mask\)|explicit positive num_classes|torch\.allclose isn't supported|"
    r"Batching rule not implemented for aten::(equal|nonzero_numpy|(rnn_tanh|rnn_relu|lstm|gru)(_cell)?\b)|"
    r"forward AD with (aten::(floor_divide|remainder)|_scaled_dot_product_flash_attention_for_cpu)\b|"
    r"Cannot access data pointer of Tensor that doesn't have storage"
)
# Upside down the sizes of batches grow.
NOT_REVERSED = ("rnn_tanh_packed", "rnn_relu_packed", "lstm_packed", "gru_packed")
rows = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


class Call:
    """A call of an operation as a function of some of its tensors."""

    def __init__(self, lib, case, drawn, chosen=lambda drawn: True, copies=True):
        self.lib, self.case, self.drawn, self.copies = lib, case, drawn, copies
        self.given = []
        walk(drawn, lambda leaf: self.given.append(leaf) if self.is_chosen(leaf, chosen) else None)

    @staticmethod
    def is_chosen(leaf, chosen):
        return isinstance(leaf, Drawn) and chosen(leaf)

    def __call__(self, *tensors):
        """The tensors that come out; with `copies` those given are copied, for operations in place."""
        given = {
            id(leaf): x.clone() if self.copies else x for leaf, x in zip(self.given, tensors, strict=True)
        }
        args, kwargs = build(self.lib, walk(self.drawn, lambda leaf: given.get(id(leaf), leaf)))
        return tuple(x for x in leaves([self.case.run(self.lib, args, kwargs)]) if is_tensor(x))


def drawn_samples(case):
    """Some samples of a row with their values."""
    for sample in [sample for sample in case.samples if sample.label != LARGE][:SAMPLES]:
        dtypes = sample.dtypes or case.dtypes
        dtype = "float64" if "float64" in dtypes else dtypes[0]
        yield sample, dtype, draw(sample, dtype, "contiguous", case.name)


def theirs(case, sample, run):
    """What PyTorch gives; None if it is not installed, is known to differ, or is known not to do it."""
    if torch is None or (case.id, sample.label) in PYTORCH_DIFFERS:
        return None
    try:
        return run()
    except (RuntimeError, NotImplementedError) as error:
        if not re.search(PYTORCH_CANNOT, str(error)):
            raise
        return None


# --- vmap --------------------------------------------------------------------------------------------------


def on_examples(lib, case, drawn):
    """The call as `vmap` runs it: it may write to its examples."""
    return Call(lib, case, drawn, copies=False)


def batches(lib, call):
    """Each tensor, and beside it the same upside down."""
    pairs = [(leaf.array, np.flip(leaf.array, 0) if leaf.array.ndim else leaf.array) for leaf in call.given]
    return [from_numpy(lib, np.stack(pair), leaf.dtype) for pair, leaf in zip(pairs, call.given, strict=True)]


def loop(lib, case, drawn):
    """The results for the examples, joined: without `vmap`."""
    call = on_examples(lib, case, drawn)
    lib.manual_seed(0)
    tensors = batches(lib, call)
    results = [call(*(x[i] for x in tensors)) for i in range(2)]
    return tuple(lib.stack(column) for column in zip(*results, strict=True))


def check_vmap(case, sample, dtype, layout, drawn):
    ours = on_examples(firesteel, case, drawn)
    firesteel.manual_seed(0)
    found = firesteel.func.vmap(ours, randomness="different")(*batches(firesteel, ours))
    expected = theirs(
        case, sample, lambda: torch.func.vmap(on_examples(torch, case, drawn))(*batches(torch, ours))
    )
    if expected is None:
        expected = loop(torch or firesteel, case, drawn)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other, LOOSER * case.tolerance(dtype), "vmap", case.compare)


@rows
def test_vmap(case):
    if case.id in NOT_REVERSED:
        pytest.skip("the sizes of its batches cannot be turned upside down")
    failures = Failures(case, "contiguous")
    for sample, dtype, drawn in drawn_samples(case):
        if Call(firesteel, case, drawn).given:
            failures.check(sample, dtype, "contiguous", check_vmap, drawn)
    failures.report()


# --- jvp ---------------------------------------------------------------------------------------------------


def product(lib, call):
    """The operation's Jacobian times a fixed direction."""
    rng = np.random.default_rng(1)
    primals = tuple(from_numpy(lib, leaf.array, leaf.dtype) for leaf in call.given)
    tangents = tuple(from_numpy(lib, rng.uniform(-1, 1, x.shape), "float64") for x in primals)

    def floats(*tensors):
        return tuple(x for x in call(*tensors) if is_float(x))

    return lib.func.jvp(floats, primals, tangents)[1]


def difference(call):
    """The same by central differences."""
    rng = np.random.default_rng(1)
    directions = [rng.uniform(-1, 1, leaf.array.shape) for leaf in call.given]

    def moved(step):
        inputs = [leaf.array + step * d for leaf, d in zip(call.given, directions, strict=True)]
        outputs = call(*(from_numpy(firesteel, x, "float64") for x in inputs))
        return [to_numpy(x) for x in outputs if is_float(x)]

    return [(after - before) / (2 * STEP) for after, before in zip(moved(STEP), moved(-STEP), strict=True)]


def check_jvp(case, sample, dtype, layout, drawn):
    ours = Call(firesteel, case, drawn, lambda leaf: leaf.grad)
    found = product(firesteel, ours)
    expected = theirs(case, sample, lambda: product(torch, Call(torch, case, drawn, lambda leaf: leaf.grad)))
    if expected is not None:
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, LOOSER * case.tolerance(dtype), "jvp")
    elif case.grad is True and sample.grad is True:
        for one, other in zip(found, difference(ours), strict=True):
            np.testing.assert_allclose(to_numpy(one), other, rtol=1e-4, atol=1e-6)


def differentiable_samples(case):
    for sample, dtype, drawn in drawn_samples(case) if case.grad else ():
        if sample.grad and dtype == "float64":
            call = Call(firesteel, case, drawn, lambda leaf: leaf.grad)
            if call.given and any(is_float(x) for x in call(*build(firesteel, call.given))):
                yield sample, dtype, drawn


@pytest.mark.parametrize("case", [case for case in CASES if case.grad], ids=lambda case: case.id)
def test_jvp(case):
    failures = Failures(case, "contiguous")
    for sample, dtype, drawn in differentiable_samples(case):
        failures.check(sample, dtype, "contiguous", check_jvp, drawn)
    failures.report()

"""Gradients under create_graph have a history where PyTorch's have one, over the whole table of operations."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
import pytest

import firesteel
from libraries import both, leaf, parity, same_in_both
from op_cases import CASES
from op_cases.table import draw
from sweep import PYTORCH_WARNS, Outcome
from tensors import assert_same, build, dtype_name, from_numpy, is_float, leaves, torch

pytestmark = PYTORCH_WARNS

# Operation, label of the sample, and why the two differ.
KNOWN = [
    ("hardsigmoid", "*", "PyTorch has no second derivative"),
    ("prod", "0-d", "PyTorch forgets the history of a product of one number"),
    ("layer_norm", "bias-only", "PyTorch's second derivative fails, or loses the gradient of the bias"),
    ("scaled_dot_product_attention", "*", "PyTorch's fused kernel has no second derivative"),
    ("conv_transpose2d", "first", "the bias is added by an operation of its own, which knows of no weight"),
    ("conv_transpose3d", "first", "the bias is added by an operation of its own, which knows of no weight"),
]

# PyTorch keeps some arguments in float32: times the tolerance of float64.
SINGLE = 1e3

ROWS = [case for case in CASES if case.grad is True]


def calls_of(case):
    """The row's differentiable calls in float64, each with the number of its tensors that have gradients."""
    for sample, dtype, layout in case.calls("contiguous", ("float64",)):
        if sample.grad is True:
            drawn = draw(sample, dtype, layout, case.name)
            count = sum(
                tensor.requires_grad for tensor in leaves(build(firesteel, drawn, requires_grad=True))
            )
            yield sample.label or "first", drawn, count


def derivatives(lib, case, drawn, asked, with_grad_output):
    """For each gradient whether it has a history, and the gradients of their sum by all that may be asked."""
    args, kwargs = build(lib, drawn, requires_grad=True)
    inputs = [tensor for tensor in leaves((args, kwargs)) if tensor.requires_grad]
    for index, tensor in enumerate(inputs):
        tensor.requires_grad_(asked is None or index == asked)
    inputs = [tensor for tensor in inputs if tensor.requires_grad]
    outputs = [out for out in leaves([case.run(lib, args, kwargs)]) if is_float(out) and out.requires_grad]
    if not outputs:
        return None
    rng = np.random.default_rng(3)
    given = [from_numpy(lib, rng.uniform(-1, 1, tuple(out.shape)), dtype_name(out.dtype)) for out in outputs]
    for tensor in given:
        tensor.requires_grad_(with_grad_output)
    grads = lib.autograd.grad(outputs, inputs, given, allow_unused=True, create_graph=True)
    recorded = [grad for grad in grads if grad is not None and grad.requires_grad]
    second = ()
    if recorded:
        ends = inputs + given if with_grad_output else inputs
        ones = [lib.ones_like(grad) for grad in recorded]
        second = lib.autograd.grad(recorded, ends, ones, allow_unused=True)
        # PyTorch's zeros are tensors of a kind of their own.
        second = [None if grad is None else lib.zeros_like(grad).add_(grad) for grad in second]
    return [None if grad is None else grad.requires_grad for grad in grads], list(second)


def differences(case):
    """The calls of a row in which the two libraries differ: the sample's label and what is wrong."""
    for label, drawn, count in calls_of(case):
        for asked in [None, *range(count)] if count > 1 else [None]:
            for with_grad_output in (False, True):
                run = [
                    Outcome(lambda lib=lib: derivatives(lib, case, drawn, asked, with_grad_output))
                    for lib in (firesteel, torch)
                ]
                try:
                    assert run[0].error is None and run[1].error is None, (run[0].error, run[1].error)
                    assert_same(run[0].result, run[1].result, SINGLE * case.tolerance("float64"))
                except AssertionError as error:
                    if run[0].error is None or run[1].error is None:
                        yield label, f"[{label}, input {asked}, {with_grad_output}]: {error}"


@parity
@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.id)
def test_histories_of_gradients(case):
    known = [pattern for row, pattern, _ in KNOWN if row == case.id]
    found = list(differences(case))
    wrong = [text for label, text in found if not any(fnmatchcase(label, pattern) for pattern in known)]
    assert not wrong, "\n".join(wrong)
    seen = {label for label, _ in found}
    for pattern in known:
        assert any(fnmatchcase(label, pattern) for label in seen), f"passes now: delete {pattern} in KNOWN"


@parity
@pytest.mark.parametrize(
    "run",
    [
        lambda f, x: f.max_pool1d(x[0], 2),
        lambda f, x: f.avg_pool1d(x[0], 2),
        lambda f, x: f.max_pool2d(x, 2),
        lambda f, x: f.avg_pool2d(x, 2),
        lambda f, x: f.adaptive_avg_pool2d(x, 1),
        lambda f, x: f.adaptive_avg_pool2d(x, 2),
        lambda f, x: f.adaptive_avg_pool2d(x, 3),
        lambda f, x: f.pad(x[0], (1, 2), mode="reflect"),
        lambda f, x: f.pad(x[0], (1, 2), mode="replicate"),
        lambda f, x: f.pad(x, (1, 2)),
    ],
)
def test_a_linear_operation_has_zeros_as_second_derivative_where_pytorch_does(run):
    def second(lib):
        x = lib.arange(32.0).reshape(1, 2, 4, 4).requires_grad_()
        (grad,) = lib.autograd.grad(run(lib.nn.functional, x).sum(), x, create_graph=True)
        if not grad.requires_grad:
            return False, grad
        return True, grad, lib.autograd.grad(grad.sum(), x)[0]

    same_in_both(second)


@parity
def test_names_of_nodes_that_only_carry_a_history():
    def names(lib):
        x = lib.ones(1, 2, 4, 4).requires_grad_()
        weight = lib.ones(3, 2, 2, 2)
        functional, found = lib.nn.functional, []
        for out in (
            functional.max_pool2d(x, 2),
            functional.avg_pool2d(x, 2),
            functional.conv2d(x, weight),
            functional.batch_norm(x, lib.zeros(2), lib.ones(2)),
        ):
            (grad,) = lib.autograd.grad(out.sum(), x, create_graph=True)
            found.append(grad.grad_fn.name())
        return found

    assert names(firesteel) == names(torch)


@both
def test_a_penalty_on_the_gradient_of_a_flat_network_can_be_trained(lib):
    """What a gradient penalty does to a network of pooling and prelu: zeros, and no error."""
    x = lib.linspace(-1.0, 1.0, 16).reshape(1, 1, 4, 4).requires_grad_()
    weight = lib.tensor([0.25])
    out = lib.nn.functional.max_pool2d(lib.nn.functional.prelu(x, weight), 2)
    (grad,) = lib.autograd.grad(out.sum(), x, create_graph=True)
    (grad**2).sum().backward()
    assert x.grad.tolist() == lib.zeros(1, 1, 4, 4).tolist()


@both
def test_without_create_graph_gradients_have_no_history(lib):
    x = leaf(lib, *map(float, range(16))).reshape(1, 1, 4, 4)
    for out in (lib.nn.functional.max_pool2d(x, 2), lib.nn.functional.prelu(x, lib.tensor([0.5]))):
        assert not lib.autograd.grad(out.sum(), x)[0].requires_grad

"""`autograd.functional`, and `gradcheck`."""

from __future__ import annotations

from typing import Any

from libraries import leaf
from misuse_cases.row import Misuse


def api(lib: Any) -> Any:
    """The module whose functions are called."""
    return lib.autograd.functional


FUNCTIONAL = [
    Misuse(
        "jacobian of a number",
        TypeError,
        (
            r"The inputs given to jacobian must be either a Tensor or a tuple of Tensors but the "
            r"given inputs has type <class 'float'>; make it a tensor, or a tuple of tensors"
        ),
        "functional",
        lambda lib: [lambda: api(lib).jacobian(lambda x: x, 1.0)],
    ),
    Misuse(
        "jacobian of a list",
        TypeError,
        (
            r"The inputs given to jacobian must be either a Tensor or a tuple of Tensors but the "
            r"given inputs has type <class 'list'>; make it a tensor, or a tuple of tensors"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).jacobian(lambda x: x, [x])],
    ),
    Misuse(
        "jacobian of a function that gives a number",
        TypeError,
        (
            r"The outputs of the user-provided function given to jacobian must be either a Tensor "
            r"or a tuple of Tensors but the given outputs of the user-provided function has type "
            r"<class 'float'>; make it a tensor, or a tuple of tensors"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).jacobian(lambda x: 3.0, x)],
    ),
    Misuse(
        "jacobian of a constant in strict mode",
        RuntimeError,
        (
            r"Output 0 of the user-provided function does not require gradients\. The outputs "
            r"must be computed in a differentiable manner from the input when running in strict "
            r"mode; leave strict out to get zeros"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).jacobian(lambda x: lib.ones(2), x, strict=True)],
    ),
    Misuse(
        "jacobian of an unused input in strict mode",
        RuntimeError,
        (
            r"Output 0 of the user-provided function is independent of input 1\. This is not "
            r"allowed in strict mode; leave strict out to get zeros"
        ),
        "functional",
        lambda lib: [
            x := lib.ones(3),
            lambda: api(lib).jacobian(lambda x, y: x, (x, x.clone()), strict=True),
        ],
    ),
    Misuse(
        "jacobian, constant and recorded, in strict mode",
        RuntimeError,
        (
            r"The jacobian of the user-provided function is independent of input 0\. This is not "
            r"allowed in strict mode when create_graph=True; leave strict out to get zeros"
        ),
        "functional",
        lambda lib: [
            x := leaf(lib),
            lambda: api(lib).jacobian(lambda x: x * 2, x, strict=True, create_graph=True),
        ],
    ),
    Misuse(
        "jacobian of integers",
        RuntimeError,
        (
            r"requires_grad_: only Tensors of floating point dtype can require gradients, not "
            r"int64 \(shape \[2\]\); convert with \.float\(\), or ask for no gradient"
        ),
        "functional",
        lambda lib: [x := lib.tensor([1, 2]), lambda: api(lib).jacobian(lambda x: x * 2, x)],
    ),
    Misuse(
        "jacobian in an unknown mode",
        AssertionError,
        (
            r'Expected strategy to be either "forward-mode" or "reverse-mode"\. Hint: If your '
            r'function has more outputs than inputs, "forward-mode" tends to be more performant\. '
            r"Otherwise, prefer to use .reverse-mode.\. jacobian: strategy is 'nope'; use one of "
            r"the two"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).jacobian(lambda x: x * 2, x, strategy="nope")],
    ),
    Misuse(
        "a strict jacobian in forward mode",
        RuntimeError,
        (
            r'torch\.autograd\.functional\.jacobian: `strict=True` and `strategy="forward-mode"` '
            r"are not supported together \(yet\)\. Please either set `strict=False` or "
            r'`strategy="reverse-mode"`\.'
        ),
        "functional",
        lambda lib: [
            x := lib.ones(3),
            lambda: api(lib).jacobian(lambda x: x * 2, x, strategy="forward-mode", strict=True),
        ],
    ),
    Misuse(
        "hessian of a vector",
        RuntimeError,
        (
            r"The Tensor returned by the function given to hessian should contain a single "
            r"element, not 3 \(shape \(3,\)\); reduce it with \.sum\(\) or \.mean\(\)"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).hessian(lambda x: x * 2, x)],
    ),
    Misuse(
        "hessian of a tuple",
        RuntimeError,
        (
            r"The function given to hessian should return a single Tensor, not a tuple of 1; "
            r"return the tensor itself"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).hessian(lambda x: (x.sum(),), x)],
    ),
    Misuse(
        "hessian of a linear function in strict mode",
        RuntimeError,
        (
            r"While computing the hessian, found that the jacobian of the user-provided function "
            r"with respect to input 0 is independent of the input\. This is not allowed in strict "
            r"mode\. You should ensure that your function is twice differentiable and that the "
            r"jacobian depends on the inputs \(this would be violated by a linear function for "
            r"example\); leave strict out to get zeros"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).hessian(lambda x: x.sum(), x, strict=True)],
    ),
    Misuse(
        "hessian in an unknown mode",
        AssertionError,
        (
            r'Expected strategy to be either "forward-mode" or "reverse-mode"\. hessian: '
            r"outer_jacobian_strategy is 'nope'; use one of the two"
        ),
        "functional",
        lambda lib: [
            x := lib.ones(3),
            lambda: api(lib).hessian(lambda x: x.sum(), x, outer_jacobian_strategy="nope"),
        ],
    ),
    Misuse(
        "vjp of a vector without v",
        RuntimeError,
        (
            r"The vector v can only be None if the user-provided function returns a single Tensor "
            r"with a single element\. vjp: pass v of shape \(3,\)"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).vjp(lambda x: x * 2, x)],
    ),
    Misuse(
        "vjp with v of another shape",
        RuntimeError,
        (
            r"v has invalid size: should be torch\.Size\(\[3\]\) but got torch\.Size\(\[2\]\)\. "
            r"vjp: give a tensor of the shape that it should have"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).vjp(lambda x: x * 2, x, lib.ones(2))],
    ),
    Misuse(
        "vjp with two v for one output",
        RuntimeError,
        r"The given v should contain a single Tensor\. vjp: it has 2; give one of shape \(3,\)",
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).vjp(lambda x: x * 2, x, (x, x))],
    ),
    Misuse(
        "vjp with one v for two outputs",
        RuntimeError,
        r"v is a tuple of invalid length: should be 2 but got 1\. vjp: give a tensor for each",
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).vjp(lambda x: (x * 2, x), x, (x,))],
    ),
    Misuse(
        "vjp with v a number",
        TypeError,
        (
            r"The v given to vjp must be either a Tensor or a tuple of Tensors but the given v "
            r"has type <class 'float'>; make it a tensor, or a tuple of tensors"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).vjp(lambda x: x * 2, x, 1.0)],
    ),
    Misuse(
        "jvp of a vector without v",
        RuntimeError,
        (
            r"The vector v can only be None if the input to the user-provided function is a "
            r"single Tensor with a single element\. jvp: pass v of shape \(3,\)"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).jvp(lambda x: x * 2, x)],
    ),
    Misuse(
        "jvp with the second of two v of another shape",
        RuntimeError,
        (
            r"Entry 1 in v has invalid size: should be torch\.Size\(\[3\]\) but got "
            r"torch\.Size\(\[2\]\)\. jvp: give a tensor of the shape that it should have"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).jvp(lambda x, y: x * y, (x, x), (x, lib.ones(2)))],
    ),
    Misuse(
        "jvp of a detached result in strict mode",
        RuntimeError,
        (
            r"Output 0 of the user-provided function does not require gradients\. The outputs "
            r"must be computed in a differentiable manner from the input when running in strict "
            r"mode; leave strict out to get zeros"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).jvp(lambda x: x.detach(), x, x, strict=True)],
    ),
    Misuse(
        "hvp of a vector",
        RuntimeError,
        (
            r"The Tensor returned by the function given to hvp should contain a single element, "
            r"not 3 \(shape \(3,\)\); reduce it with \.sum\(\) or \.mean\(\)"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).hvp(lambda x: x * 2, x, x)],
    ),
    Misuse(
        "vhp without v",
        RuntimeError,
        (
            r"The vector v can only be None if the input to the user-provided function is a "
            r"single Tensor with a single element\. vhp: pass v of shape \(3,\)"
        ),
        "functional",
        lambda lib: [x := lib.ones(3), lambda: api(lib).vhp(lambda x: x.sum(), x)],
    ),
    Misuse(
        "gradcheck without an input to check",
        ValueError,
        r"gradcheck: no input requires grad; call requires_grad_\(\) on the inputs to check",
        "gradcheck",
        lambda lib: [x := lib.ones(3).double(), lambda: lib.autograd.gradcheck(lambda x: x, x)],
    ),
]

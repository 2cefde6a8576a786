"""What goes into the functions of `autograd.functional`, and what comes out: forms, checks, strict mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from firesteel._core import Tensor, zeros_like

Tensors = tuple[Tensor, ...]
OUTPUTS = "outputs of the user-provided function"
_NO_STRICT = "leave strict out to get zeros"


def as_tuple(given: Any, what: str, api: str) -> tuple[bool, Tensors]:
    """Whether it was a tuple, and the tensors."""
    is_tuple = isinstance(given, tuple)
    tensors: tuple[Any, ...] = given if is_tuple else (given,)
    for i, x in enumerate(tensors):
        if not isinstance(x, Tensor):
            place = f"value at index {i}" if is_tuple else f"given {what}"
            raise TypeError(
                f"The {what} given to {api} must be either a Tensor or a tuple of Tensors but the {place} "
                f"has type {type(x)}; make it a tensor, or a tuple of tensors"
            )
    return is_tuple, tensors


def fresh_inputs(tensors: Tensors, create_graph: bool, need_graph: bool) -> Tensors:
    """New tensors, so that the same ones reached through a closure are constants."""
    return tuple(
        x.view_as(x) if create_graph and x.requires_grad else x.detach().requires_grad_(need_graph)
        for x in tensors
    )


def checked_vector(
    v: Any, like: Tensors, is_tuple: bool, create_graph: bool, api: str, optional: str
) -> Tensors | None:
    """The vector of a product, checked; None stands for 1 where there is a single element."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            shapes = [tuple(x.shape) for x in like]
            raise RuntimeError(
                f"The vector v can only be None if {optional} a single element. {api}: pass v of shape "
                f"{shapes[0] if len(shapes) == 1 else shapes}"
            )
        return None
    vectors = fresh_inputs(as_tuple(v, "v", api)[1], create_graph, need_graph=False)
    if len(vectors) != len(like):
        raise RuntimeError(
            f"v is a tuple of invalid length: should be {len(like)} but got {len(vectors)}. {api}: give a "
            "tensor for each"
            if is_tuple
            else f"The given v should contain a single Tensor. {api}: it has {len(vectors)}; give one of "
            f"shape {tuple(like[0].shape)}"
        )
    for i, (x, expected) in enumerate(zip(vectors, like, strict=True)):
        if x.shape != expected.shape:
            entry = f"Entry {i} in " if is_tuple else ""
            raise RuntimeError(
                f"{entry}v has invalid size: should be {expected.shape} but got {x.shape}. {api}: give a "
                "tensor of the shape that it should have"
            )
    return vectors


def expect_dependent(tensors: Sequence[Tensor | None], strict: bool, constant: str) -> None:
    """In strict mode, raises for the first that has no history: `constant`, about number `{i}`."""
    if not strict:
        return
    for i, x in enumerate(tensors):
        if x is None:
            raise RuntimeError(
                f"The output of the user-provided function is independent of input {i}. This is not allowed "
                f"in strict mode; {_NO_STRICT}"
            )
        if not x.requires_grad:
            raise RuntimeError(constant.format(i=i))


CONSTANT_OUTPUT = (
    "Output {i} of the user-provided function does not require gradients. The outputs must be computed in a "
    "differentiable manner from the input when running in strict mode; " + _NO_STRICT
)
CONSTANT_GRADIENT = (
    "The gradient with respect to input {i} is independent of the inputs of the user-provided function. This "
    "is not allowed in strict mode; " + _NO_STRICT
)
CONSTANT_JACOBIAN = (
    "While computing the hessian, found that the jacobian of the user-provided function with respect to "
    "input {i} is independent of the input. This is not allowed in strict mode. You should ensure that your "
    "function is twice differentiable and that the jacobian depends on the inputs (this would be violated by "
    "a linear function for example); " + _NO_STRICT
)
INDEPENDENT_OUTPUT = "The output of the user-provided function is independent of input {i}."
INDEPENDENT_TRICK = (
    "The gradient with respect to the input is independent of entry {i} in the grad_outputs when using the "
    "double backward trick to compute forward mode gradients."
)
INDEPENDENT_JACOBIAN = "The jacobian of the user-provided function is independent of input {i}."
INDEPENDENT_HESSIAN = (
    "The hessian of the user-provided function is independent of entry {i} in the grad_jacobian."
)


def checked_result(
    grads: Sequence[Tensor | None],
    like: Sequence[Tensor],
    strict: bool,
    create_graph: bool,
    what: str,
    independent: str,
) -> Tensors:
    """The gradients, zeros for None; errors in strict mode. `what` is the jacobian or the hessian."""
    result = []
    for i, (g, x) in enumerate(zip(grads, like, strict=True)):
        if strict and g is None:
            raise RuntimeError(f"{independent.format(i=i)} This is not allowed in strict mode; {_NO_STRICT}")
        if strict and create_graph and g is not None and not g.requires_grad:
            raise RuntimeError(
                f"The {what} of the user-provided function is independent of input {i}. This is not allowed "
                f"in strict mode when create_graph=True; {_NO_STRICT}"
            )
        g = zeros_like(x.detach()) if g is None else g
        result.append(g if create_graph else g.detach())
    return tuple(result)


def handed_back(tensors: Tensors, is_tuple: bool, create_graph: bool) -> Tensor | Tensors:
    """What is handed back: without history unless it was asked for, and a tuple only where one was given."""
    values = tensors if create_graph else tuple(x.detach() for x in tensors)
    return values if is_tuple else values[0]


def scalar_output(output: Any, strict: bool, api: str) -> Tensors:
    """The output of a function that must return one tensor with one element."""
    is_tuple, outputs = as_tuple(output, OUTPUTS, api)
    expect_dependent(outputs, strict, CONSTANT_OUTPUT)
    if is_tuple:
        raise RuntimeError(
            f"The function given to {api} should return a single Tensor, not a tuple of {len(outputs)}; "
            "return the tensor itself"
        )
    if outputs[0].numel() != 1:
        raise RuntimeError(
            f"The Tensor returned by the function given to {api} should contain a single element, not "
            f"{outputs[0].numel()} (shape {tuple(outputs[0].shape)}); reduce it with .sum() or .mean()"
        )
    return outputs


ONE_OUTPUT = "the user-provided function returns a single Tensor with"
ONE_INPUT = "the input to the user-provided function is a single Tensor with"

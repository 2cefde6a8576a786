"""Jacobians, Hessians and their products with vectors, for functions of tensors.

:mod:`firesteel.func` has the same as transforms that combine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from firesteel._core import Tensor, stack, zeros_like
from firesteel.autograd._functional_checks import (
    CONSTANT_GRADIENT,
    CONSTANT_JACOBIAN,
    CONSTANT_OUTPUT,
    INDEPENDENT_HESSIAN,
    INDEPENDENT_JACOBIAN,
    INDEPENDENT_OUTPUT,
    INDEPENDENT_TRICK,
    ONE_INPUT,
    ONE_OUTPUT,
    OUTPUTS,
    Tensors,
    as_tuple,
    checked_result,
    checked_vector,
    expect_dependent,
    fresh_inputs,
    handed_back,
    scalar_output,
)
from firesteel.autograd._recorded import gradients
from firesteel.autograd.grad_mode import enable_grad

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The value of `func` and the product of a vector with its Jacobian.

    Args:
        func: takes the inputs; returns a tensor or a tuple of tensors.
        inputs: a float tensor, or a tuple of them.
        v: tensors shaped as the output; may be None for an output of one element.
        create_graph: whether both results can be differentiated.
        strict: raise if an output does not depend on an input, instead of giving zeros.

    Returns:
        `(outputs, product)`; the product is shaped as the inputs.

    Raises:
        RuntimeError: if `v` does not fit, or for independent outputs with `strict`.

    Example:
        >>> import firesteel as torch
        >>> x = torch.tensor([1.0, 2.0])
        >>> torch.autograd.functional.vjp(lambda x: x**2, x, torch.tensor([1.0, 10.0]))
        (tensor([1., 4.]), tensor([ 2., 40.]))
    """
    with enable_grad():
        is_inputs_tuple, inputs = as_tuple(inputs, "inputs", "vjp")
        inputs = fresh_inputs(inputs, create_graph, need_graph=True)
        is_outputs_tuple, outputs = as_tuple(func(*inputs), OUTPUTS, "vjp")
        expect_dependent(outputs, strict, CONSTANT_OUTPUT)
        v = checked_vector(v, outputs, is_outputs_tuple, create_graph, "vjp", ONE_OUTPUT)
        grads = gradients(outputs, inputs, v, create_graph=create_graph)
        product = checked_result(grads, inputs, strict, create_graph, "jacobian", INDEPENDENT_OUTPUT)
    return (
        handed_back(outputs, is_outputs_tuple, create_graph),
        handed_back(product, is_inputs_tuple, create_graph),
    )


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The value of `func` and the product of its Jacobian with a vector, by two backward passes.

    Args:
        func: takes the inputs; returns a tensor or a tuple of tensors.
        inputs: a float tensor, or a tuple of them.
        v: tensors shaped as the inputs; may be None for an input of one element.
        create_graph: whether both results can be differentiated.
        strict: raise if an output does not depend on an input, instead of giving zeros.

    Returns:
        `(outputs, product)`; the product is shaped as the outputs.

    Raises:
        RuntimeError: if `v` does not fit, or for independent outputs with `strict`.

    Example:
        >>> import firesteel as torch
        >>> x = torch.tensor([1.0, 2.0])
        >>> torch.autograd.functional.jvp(lambda x: x.square().sum(), x, torch.tensor([1.0, 10.0]))
        (tensor(5.), tensor(42.))
    """
    with enable_grad():
        is_inputs_tuple, inputs = as_tuple(inputs, "inputs", "jvp")
        inputs = fresh_inputs(inputs, create_graph, need_graph=True)
        v = checked_vector(v, inputs, is_inputs_tuple, create_graph, "jvp", ONE_INPUT)
        is_outputs_tuple, outputs = as_tuple(func(*inputs), OUTPUTS, "jvp")
        expect_dependent(outputs, strict, CONSTANT_OUTPUT)
        # The backward pass is linear in these, so that their values do not matter.
        cotangents = tuple(zeros_like(out.detach()).requires_grad_(out.requires_grad) for out in outputs)
        backward = gradients(outputs, inputs, cotangents, create_graph=True)
        expect_dependent(backward, strict, CONSTANT_GRADIENT)
        product = _transposed(backward, outputs, cotangents, v, create_graph)
        product = checked_result(product, outputs, strict, create_graph, "jacobian", INDEPENDENT_TRICK)
    return (
        handed_back(outputs, is_outputs_tuple, create_graph),
        handed_back(product, is_outputs_tuple, create_graph),
    )


def _transposed(
    backward: Sequence[Tensor | None],
    outputs: Tensors,
    cotangents: Tensors,
    v: Tensors | None,
    create_graph: bool,
) -> tuple[Tensor | None, ...]:
    """The product of `v` with the transpose of a backward pass, as a function of its cotangents."""
    dependent = tuple(c for c in cotangents if c.requires_grad)
    if not dependent:
        return (None,) * len(outputs)
    products = iter(gradients(backward, dependent, v, create_graph=create_graph))
    return tuple(next(products) if c.requires_grad else None for c in cotangents)


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of `func`, by one backward pass per element of its output.

    Args:
        func: takes the inputs; returns a tensor or a tuple of tensors.
        inputs: a float tensor, or a tuple of them.
        create_graph: whether the Jacobian can be differentiated.
        strict: raise if an output does not depend on an input, instead of giving zeros.
        vectorize: accepted for compatibility; the passes run one by one.
        strategy: "reverse-mode", or "forward-mode": one pass per element of the inputs, without `strict`.

    Returns:
        A tensor shaped as the output followed by the input; a tuple of them for a tuple of outputs or of
        inputs, and a tuple of tuples, `result[output][input]`, for both.

    Raises:
        RuntimeError: for independent outputs with `strict`, or for options that exclude each other.

    Example:
        >>> import firesteel as torch
        >>> torch.autograd.functional.jacobian(lambda x: x**2, torch.tensor([1.0, 2.0]))
        tensor([[2., 0.],
                [0., 4.]])
    """
    _check_strategy(strategy, strict, vectorize)
    is_inputs_tuple, inputs = as_tuple(inputs, "inputs", "jacobian")
    with enable_grad():
        if strategy == "forward-mode":
            is_outputs_tuple, jacobians = _by_columns(func, inputs, create_graph)
        else:
            inputs = fresh_inputs(inputs, create_graph, need_graph=True)
            is_outputs_tuple, outputs = as_tuple(func(*inputs), OUTPUTS, "jacobian")
            expect_dependent(outputs, strict, CONSTANT_OUTPUT)
            jacobians = tuple(
                _jacobian_of(output, i, inputs, create_graph, strict) for i, output in enumerate(outputs)
            )
    rows = tuple(row if is_inputs_tuple else row[0] for row in jacobians)
    return rows if is_outputs_tuple else rows[0]


def _by_columns(
    func: Callable[..., Any], inputs: Tensors, create_graph: bool
) -> tuple[bool, tuple[Tensors, ...]]:
    """Whether the output is a tuple, and the Jacobian of each output with respect to each input."""
    from firesteel.func import jacfwd

    is_tuple = False

    def outputs(*args: Tensor) -> Tensors:
        nonlocal is_tuple
        is_tuple, result = as_tuple(func(*args), OUTPUTS, "jacobian")
        return result

    rows = jacfwd(outputs, tuple(range(len(inputs))))(*inputs)
    return is_tuple, rows if create_graph else tuple(tuple(x.detach() for x in row) for row in rows)


def _check_strategy(strategy: str, strict: bool, vectorize: bool) -> None:
    name = "torch.autograd.functional.jacobian"
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function has '
            'more outputs than inputs, "forward-mode" tends to be more performant. Otherwise, prefer to use '
            f'"reverse-mode". jacobian: strategy is {strategy!r}; use one of the two'
        )
    if strategy == "forward-mode":
        if strict:
            raise RuntimeError(
                f'{name}: `strict=True` and `strategy="forward-mode"` are not supported together (yet). '
                'Please either set `strict=False` or `strategy="reverse-mode"`.'
            )
    elif vectorize and strict:
        raise RuntimeError(
            f"{name}: `strict=True` and `vectorized=True` are not supported together. Please either set "
            "`strict=False` or `vectorize=False`."
        )


def _jacobian_of(output: Tensor, number: int, inputs: Tensors, create_graph: bool, strict: bool) -> Tensors:
    """The Jacobian of one output with respect to each input."""
    rows: list[Tensors] = []
    for element in output.reshape(-1).unbind():
        grads = gradients((element,), inputs, None, create_graph=create_graph, retain_graph=True)
        for i, g in enumerate(grads):
            if strict and g is None:
                raise RuntimeError(
                    f"Output {number} of the user-provided function is independent of input {i}. This is not "
                    "allowed in strict mode; leave strict out to get zeros"
                )
        rows.append(checked_result(grads, inputs, strict, create_graph, "jacobian", INDEPENDENT_JACOBIAN))
    if not rows:
        return tuple(x.new_zeros((*output.shape, *x.shape)) for x in inputs)
    return tuple(
        stack([row[i] for row in rows]).view((*output.shape, *x.shape)) for i, x in enumerate(inputs)
    )


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of a function that returns a single number: the Jacobian of its gradient.

    Args:
        func: takes the inputs; returns a tensor with one element.
        inputs: a float tensor, or a tuple of them.
        create_graph: whether the Hessian can be differentiated.
        strict: raise if the gradient does not depend on an input, instead of giving zeros.
        vectorize: accepted for compatibility; the passes run one by one.
        outer_jacobian_strategy: "reverse-mode", or "forward-mode", without `strict`.

    Returns:
        A tensor shaped as the input twice; for a tuple of inputs a tuple of tuples, `result[i][j]`.

    Raises:
        RuntimeError: if `func` returns anything else, or for constant gradients with `strict`.

    Example:
        >>> import firesteel as torch
        >>> torch.autograd.functional.hessian(lambda x: (x**3).sum(), torch.tensor([1.0, 2.0]))
        tensor([[ 6.,  0.],
                [ 0., 12.]])
    """
    is_inputs_tuple, inputs = as_tuple(inputs, "inputs", "hessian")
    if outer_jacobian_strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". hessian: '
            f"outer_jacobian_strategy is {outer_jacobian_strategy!r}; use one of the two"
        )

    def scalar(*args: Tensor) -> Tensor:
        return scalar_output(func(*args), strict, "hessian")[0].reshape(())

    def gradient(*args: Tensor) -> Any:
        jacobians = jacobian(scalar, args, create_graph=True)
        expect_dependent(jacobians, strict, CONSTANT_JACOBIAN)
        return jacobians

    result = jacobian(
        gradient,
        inputs,
        create_graph=create_graph,
        strict=strict,
        vectorize=vectorize,
        strategy=outer_jacobian_strategy,
    )
    return result if is_inputs_tuple else result[0][0]


def _hessian_product(
    func: Callable[..., Any],
    inputs: Any,
    v: Any,
    create_graph: bool,
    strict: bool,
    api: str,
    independent: str,
    product: Callable[[Sequence[Tensor | None], Tensors, Tensors | None], Sequence[Tensor | None]],
) -> tuple[Any, Any]:
    """The value of `func`, and what `product` makes of its recorded gradient, the inputs and the vector."""
    with enable_grad():
        is_inputs_tuple, inputs = as_tuple(inputs, "inputs", api)
        inputs = fresh_inputs(inputs, create_graph, need_graph=True)
        v = checked_vector(v, inputs, is_inputs_tuple, create_graph, api, ONE_INPUT)
        outputs = scalar_output(func(*inputs), strict, api)
        gradient = gradients(outputs, inputs, None, create_graph=True)
        expect_dependent(gradient, strict, CONSTANT_JACOBIAN)
        products = product(gradient, inputs, v)
        result = checked_result(products, inputs, strict, create_graph, "hessian", independent)
    return handed_back(outputs, False, create_graph), handed_back(result, is_inputs_tuple, create_graph)


def vhp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The value of `func` and the product of a vector with its Hessian, by two backward passes.

    Args:
        func: takes the inputs; returns a tensor with one element.
        inputs: a float tensor, or a tuple of them.
        v: tensors shaped as the inputs; may be None for an input of one element.
        create_graph: whether both results can be differentiated.
        strict: raise if the gradient does not depend on an input, instead of giving zeros.

    Returns:
        `(output, product)`; the product is shaped as the inputs.

    Raises:
        RuntimeError: if `func` returns anything else, or `v` does not fit.

    Example:
        >>> import firesteel as torch
        >>> x, v = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 10.0])
        >>> torch.autograd.functional.vhp(lambda x: (x**3).sum(), x, v)
        (tensor(9.), tensor([  6., 120.]))
    """

    def product(gradient: Any, inputs: Tensors, v: Tensors | None) -> Sequence[Tensor | None]:
        return gradients(gradient, inputs, v, create_graph=create_graph)

    return _hessian_product(func, inputs, v, create_graph, strict, "vhp", INDEPENDENT_JACOBIAN, product)


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The value of `func` and the product of its Hessian with a vector.

    It is `vhp` for functions whose second derivatives are continuous, and takes one backward pass more.

    Args:
        func: takes the inputs; returns a tensor with one element.
        inputs: a float tensor, or a tuple of them.
        v: tensors shaped as the inputs; may be None for an input of one element.
        create_graph: whether both results can be differentiated.
        strict: raise if the gradient does not depend on an input, instead of giving zeros.

    Returns:
        `(output, product)`; the product is shaped as the inputs.

    Raises:
        RuntimeError: if `func` returns anything else, or `v` does not fit.

    Example:
        >>> import firesteel as torch
        >>> x, v = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 10.0])
        >>> torch.autograd.functional.hvp(lambda x: (x**3).sum(), x, v)
        (tensor(9.), tensor([  6., 120.]))
    """

    def product(gradient: Any, inputs: Tensors, v: Tensors | None) -> Sequence[Tensor | None]:
        cotangents = tuple(zeros_like(x.detach()).requires_grad_() for x in inputs)
        backward = gradients(gradient, inputs, cotangents, create_graph=True)
        return gradients(backward, cotangents, v, create_graph=create_graph)

    return _hessian_product(func, inputs, v, create_graph, strict, "hvp", INDEPENDENT_HESSIAN, product)

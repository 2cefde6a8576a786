"""Jacobians, Hessians and their products with vectors, for functions of tensors.

:mod:`firesteel.func` has the same as transforms that combine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from firesteel._core import Tensor, stack, zeros_like
from firesteel.autograd import grad as autograd_grad
from firesteel.autograd.grad_mode import enable_grad

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

_Tensors = tuple[Tensor, ...]
_OUTPUTS = "outputs of the user-provided function"


def _as_tuple(given: Any, what: str, api: str) -> tuple[bool, _Tensors]:
    """Whether it was a tuple, and the tensors."""
    is_tuple = isinstance(given, tuple)
    tensors: tuple[Any, ...] = given if is_tuple else (given,)
    for i, x in enumerate(tensors):
        if not isinstance(x, Tensor):
            place = f"value at index {i}" if is_tuple else f"given {what}"
            raise TypeError(
                f"The {what} given to {api} must be either a Tensor or a tuple of Tensors but the {place} "
                f"has type {type(x)}."
            )
    return is_tuple, tensors


def _fresh(tensors: _Tensors, create_graph: bool, need_graph: bool) -> _Tensors:
    """New tensors, so that the same ones reached through a closure are constants."""
    return tuple(
        x.view_as(x) if create_graph and x.requires_grad else x.detach().requires_grad_(need_graph)
        for x in tensors
    )


def _vector(
    v: Any, like: _Tensors, is_tuple: bool, create_graph: bool, api: str, optional: str
) -> _Tensors | None:
    """The vector of a product, checked; None stands for 1 where there is a single element."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"The vector v can only be None if {optional} a single element.")
        return None
    vectors = _fresh(_as_tuple(v, "v", api)[1], create_graph, need_graph=False)
    if len(vectors) != len(like):
        raise RuntimeError(
            f"v is a tuple of invalid length: should be {len(like)} but got {len(vectors)}."
            if is_tuple
            else "The given v should contain a single Tensor."
        )
    for i, (x, expected) in enumerate(zip(vectors, like, strict=True)):
        if x.shape != expected.shape:
            entry = f"Entry {i} in " if is_tuple else ""
            raise RuntimeError(f"{entry}v has invalid size: should be {expected.shape} but got {x.shape}.")
    return vectors


def _grads(
    outputs: Sequence[Tensor | None],
    inputs: _Tensors,
    vectors: _Tensors | None,
    create_graph: bool,
    retain_graph: bool | None = None,
) -> tuple[Tensor | None, ...]:
    """As `autograd.grad`, leaving out what has no history."""
    given: Sequence[Tensor | None] = vectors or (None,) * len(outputs)
    pairs = [(x, v) for x, v in zip(outputs, given, strict=True) if x is not None and x.requires_grad]
    if not pairs:
        return (None,) * len(inputs)
    return autograd_grad(
        [x for x, _ in pairs],
        inputs,
        [v for _, v in pairs],
        retain_graph=retain_graph,
        create_graph=create_graph,
        allow_unused=True,
    )


def _expect_dependent(tensors: Sequence[Tensor | None], strict: bool, constant: str) -> None:
    """In strict mode, raises for the first that has no history: `constant`, about number `{i}`."""
    if not strict:
        return
    for i, x in enumerate(tensors):
        if x is None:
            raise RuntimeError(
                f"The output of the user-provided function is independent of input {i}. This is not allowed "
                "in strict mode."
            )
        if not x.requires_grad:
            raise RuntimeError(constant.format(i=i))


_CONSTANT_OUTPUT = (
    "Output {i} of the user-provided function does not require gradients. The outputs must be computed in a "
    "differentiable manner from the input when running in strict mode."
)
_CONSTANT_GRADIENT = (
    "The gradient with respect to input {i} is independent of the inputs of the user-provided function. This "
    "is not allowed in strict mode."
)
_CONSTANT_JACOBIAN = (
    "While computing the hessian, found that the jacobian of the user-provided function with respect to "
    "input {i} is independent of the input. This is not allowed in strict mode. You should ensure that your "
    "function is twice differentiable and that the jacobian depends on the inputs (this would be violated by "
    "a linear function for example)."
)
_INDEPENDENT_OUTPUT = "The output of the user-provided function is independent of input {i}."
_INDEPENDENT_TRICK = (
    "The gradient with respect to the input is independent of entry {i} in the grad_outputs when using the "
    "double backward trick to compute forward mode gradients."
)
_INDEPENDENT_JACOBIAN = "The jacobian of the user-provided function is independent of input {i}."
_INDEPENDENT_HESSIAN = (
    "The hessian of the user-provided function is independent of entry {i} in the grad_jacobian."
)


def _result(
    grads: Sequence[Tensor | None],
    like: Sequence[Tensor],
    strict: bool,
    create_graph: bool,
    what: str,
    independent: str,
) -> _Tensors:
    """The gradients, zeros for None; errors in strict mode. `what` is the jacobian or the hessian."""
    result = []
    for i, (g, x) in enumerate(zip(grads, like, strict=True)):
        if strict and g is None:
            raise RuntimeError(f"{independent.format(i=i)} This is not allowed in strict mode.")
        if strict and create_graph and g is not None and not g.requires_grad:
            raise RuntimeError(
                f"The {what} of the user-provided function is independent of input {i}. This is not allowed "
                "in strict mode when create_graph=True."
            )
        g = zeros_like(x.detach()) if g is None else g
        result.append(g if create_graph else g.detach())
    return tuple(result)


def _value(tensors: _Tensors, is_tuple: bool, create_graph: bool) -> Tensor | _Tensors:
    """What is handed back: without history unless it was asked for, and a tuple only where one was given."""
    values = tensors if create_graph else tuple(x.detach() for x in tensors)
    return values if is_tuple else values[0]


def _scalar(output: Any, strict: bool, api: str) -> _Tensors:
    """The output of a function that must return one tensor with one element."""
    is_tuple, outputs = _as_tuple(output, _OUTPUTS, api)
    _expect_dependent(outputs, strict, _CONSTANT_OUTPUT)
    if is_tuple:
        raise RuntimeError(f"The function given to {api} should return a single Tensor")
    if outputs[0].numel() != 1:
        raise RuntimeError(
            f"The Tensor returned by the function given to {api} should contain a single element"
        )
    return outputs


_ONE_OUTPUT = "the user-provided function returns a single Tensor with"
_ONE_INPUT = "the input to the user-provided function is a single Tensor with"


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
        is_inputs_tuple, inputs = _as_tuple(inputs, "inputs", "vjp")
        inputs = _fresh(inputs, create_graph, need_graph=True)
        is_outputs_tuple, outputs = _as_tuple(func(*inputs), _OUTPUTS, "vjp")
        _expect_dependent(outputs, strict, _CONSTANT_OUTPUT)
        v = _vector(v, outputs, is_outputs_tuple, create_graph, "vjp", _ONE_OUTPUT)
        grads = _grads(outputs, inputs, v, create_graph)
        product = _result(grads, inputs, strict, create_graph, "jacobian", _INDEPENDENT_OUTPUT)
    return (
        _value(outputs, is_outputs_tuple, create_graph),
        _value(product, is_inputs_tuple, create_graph),
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
        is_inputs_tuple, inputs = _as_tuple(inputs, "inputs", "jvp")
        inputs = _fresh(inputs, create_graph, need_graph=True)
        v = _vector(v, inputs, is_inputs_tuple, create_graph, "jvp", _ONE_INPUT)
        is_outputs_tuple, outputs = _as_tuple(func(*inputs), _OUTPUTS, "jvp")
        _expect_dependent(outputs, strict, _CONSTANT_OUTPUT)
        # The backward pass is linear in these, so that their values do not matter.
        cotangents = tuple(zeros_like(out.detach()).requires_grad_(out.requires_grad) for out in outputs)
        backward = _grads(outputs, inputs, cotangents, create_graph=True)
        _expect_dependent(backward, strict, _CONSTANT_GRADIENT)
        product = _transposed(backward, outputs, cotangents, v, create_graph)
        product = _result(product, outputs, strict, create_graph, "jacobian", _INDEPENDENT_TRICK)
    return (
        _value(outputs, is_outputs_tuple, create_graph),
        _value(product, is_outputs_tuple, create_graph),
    )


def _transposed(
    backward: Sequence[Tensor | None],
    outputs: _Tensors,
    cotangents: _Tensors,
    v: _Tensors | None,
    create_graph: bool,
) -> tuple[Tensor | None, ...]:
    """The product of `v` with the transpose of a backward pass, as a function of its cotangents."""
    dependent = tuple(c for c in cotangents if c.requires_grad)
    if not dependent:
        return (None,) * len(outputs)
    products = iter(_grads(backward, dependent, v, create_graph))
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
    is_inputs_tuple, inputs = _as_tuple(inputs, "inputs", "jacobian")
    with enable_grad():
        if strategy == "forward-mode":
            is_outputs_tuple, jacobians = _by_columns(func, inputs, create_graph)
        else:
            inputs = _fresh(inputs, create_graph, need_graph=True)
            is_outputs_tuple, outputs = _as_tuple(func(*inputs), _OUTPUTS, "jacobian")
            _expect_dependent(outputs, strict, _CONSTANT_OUTPUT)
            jacobians = tuple(
                _jacobian_of(output, i, inputs, create_graph, strict) for i, output in enumerate(outputs)
            )
    rows = tuple(row if is_inputs_tuple else row[0] for row in jacobians)
    return rows if is_outputs_tuple else rows[0]


def _by_columns(
    func: Callable[..., Any], inputs: _Tensors, create_graph: bool
) -> tuple[bool, tuple[_Tensors, ...]]:
    """Whether the output is a tuple, and the Jacobian of each output with respect to each input."""
    from firesteel.func import jacfwd

    is_tuple = False

    def outputs(*args: Tensor) -> _Tensors:
        nonlocal is_tuple
        is_tuple, result = _as_tuple(func(*args), _OUTPUTS, "jacobian")
        return result

    rows = jacfwd(outputs, tuple(range(len(inputs))))(*inputs)
    return is_tuple, rows if create_graph else tuple(tuple(x.detach() for x in row) for row in rows)


def _check_strategy(strategy: str, strict: bool, vectorize: bool) -> None:
    name = "torch.autograd.functional.jacobian"
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function has '
            'more outputs than inputs, "forward-mode" tends to be more performant. Otherwise, prefer to use '
            '"reverse-mode".'
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


def _jacobian_of(output: Tensor, number: int, inputs: _Tensors, create_graph: bool, strict: bool) -> _Tensors:
    """The Jacobian of one output with respect to each input."""
    rows: list[_Tensors] = []
    for element in output.reshape(-1).unbind():
        grads = _grads((element,), inputs, None, create_graph, retain_graph=True)
        for i, g in enumerate(grads):
            if strict and g is None:
                raise RuntimeError(
                    f"Output {number} of the user-provided function is independent of input {i}. This is not "
                    "allowed in strict mode."
                )
        rows.append(_result(grads, inputs, strict, create_graph, "jacobian", _INDEPENDENT_JACOBIAN))
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
    is_inputs_tuple, inputs = _as_tuple(inputs, "inputs", "hessian")
    if outer_jacobian_strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')

    def scalar(*args: Tensor) -> Tensor:
        return _scalar(func(*args), strict, "hessian")[0].reshape(())

    def gradient(*args: Tensor) -> Any:
        jacobians = jacobian(scalar, args, create_graph=True)
        _expect_dependent(jacobians, strict, _CONSTANT_JACOBIAN)
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


def _gradient(
    func: Callable[..., Any], inputs: Any, v: Any, create_graph: bool, strict: bool, api: str
) -> tuple[bool, _Tensors, Any, Any, Any]:
    """The gradient, recorded, that products with a Hessian begin with.

    Returns:
        Whether the inputs were a tuple; they and the vector as tensors of their own; the value; its gradient.
    """
    is_inputs_tuple, inputs = _as_tuple(inputs, "inputs", api)
    inputs = _fresh(inputs, create_graph, need_graph=True)
    v = _vector(v, inputs, is_inputs_tuple, create_graph, api, _ONE_INPUT)
    outputs = _scalar(func(*inputs), strict, api)
    gradient = _grads(outputs, inputs, None, create_graph=True)
    _expect_dependent(gradient, strict, _CONSTANT_JACOBIAN)
    return is_inputs_tuple, inputs, v, outputs, gradient


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
    with enable_grad():
        is_inputs_tuple, inputs, v, outputs, gradient = _gradient(
            func, inputs, v, create_graph, strict, "vhp"
        )
        product = _result(
            _grads(gradient, inputs, v, create_graph),
            inputs,
            strict,
            create_graph,
            "hessian",
            _INDEPENDENT_JACOBIAN,
        )
    return _value(outputs, False, create_graph), _value(product, is_inputs_tuple, create_graph)


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
    with enable_grad():
        is_inputs_tuple, inputs, v, outputs, gradient = _gradient(
            func, inputs, v, create_graph, strict, "hvp"
        )
        cotangents = tuple(zeros_like(x.detach()).requires_grad_() for x in inputs)
        backward = _grads(gradient, inputs, cotangents, create_graph=True)
        product = _result(
            _grads(backward, cotangents, v, create_graph),
            inputs,
            strict,
            create_graph,
            "hessian",
            _INDEPENDENT_HESSIAN,
        )
    return _value(outputs, False, create_graph), _value(product, is_inputs_tuple, create_graph)

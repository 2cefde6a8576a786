"""Transforms made of backward passes: `grad`, `grad_and_value`, `vjp`, `jacrev`, `hessian`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from firesteel import _core
from firesteel._core import Tensor, stack
from firesteel.autograd._recorded import gradients
from firesteel.utils._pytree import tree_flatten, tree_unflatten

from ._argnums import ALL, ArgNums, expect_tensor_outputs, replaced, selected, split_aux
from ._level import Level, or_zeros


def grad_and_value(
    func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns the gradient of `func` and its value.

    Args:
        func: returns a float tensor without dimensions, or `(that, aux)` with `has_aux`.
        argnums: which positional arguments to differentiate, trees of float tensors: one, or a tuple of them.
        has_aux: whether `func` returns something else beside.

    Returns:
        A function with the arguments of `func` that returns `(gradient, value)`, or
        `(gradient, (value, aux))`. The gradient is built as the argument, or a tuple for a tuple `argnums`.

    Raises:
        RuntimeError: when called, if `func` does not return such a tensor, or an argument is not a float.

    Example:
        >>> import firesteel as torch
        >>> torch.func.grad_and_value(lambda x: (x**2).sum())(torch.tensor([1.0, 2.0]))
        (tensor([2., 4.]), tensor(5.))
    """

    def wrapper(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        api = "grad_and_value(f)(*args)"
        with Level() as level:
            variables = level.track(selected(args, argnums))
            result = func(*replaced(args, argnums, variables), **kwargs)
            output, aux = split_aux(result, has_aux, api)
            if not isinstance(output, Tensor):
                raise RuntimeError(
                    f"{api}: Expected f(*args) to return a Tensor, got {type(output)}; compute it from the "
                    "arguments by tensor operations"
                )
            if output.ndim:
                raise RuntimeError(
                    f"{api}: Expected f(*args) to return a scalar Tensor, got tensor with {output.ndim} "
                    "dims. Maybe you wanted to use the vjp or jacrev APIs instead? Its shape is "
                    f"{tuple(output.shape)}; reduce it with .sum() or .mean()"
                )
            flat, spec = tree_flatten(variables)
            recorded = level.escapes((output, aux))
            grads = gradients([output], flat, None, create_graph=recorded, retain_graph=recorded)
            gradient = level.release(tree_unflatten(or_zeros(grads, flat), spec), recorded)
            output, aux = level.release(output, recorded), level.release(aux, recorded)
        return gradient, ((output, aux) if has_aux else output)

    return functools.update_wrapper(wrapper, func, updated=())


def grad(func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of `func`; applied twice, the second derivative, and so on.

    Tensors that `func` reaches otherwise than by the chosen arguments are constants. The gradient has a
    history only if it depends on other tensors that require grad, and no `.grad` is touched. A `no_grad`
    inside `func` is respected; around the call it means that the gradient has no history.

    Args:
        func: returns a float tensor without dimensions, or `(that, aux)` with `has_aux`.
        argnums: which positional arguments to differentiate, trees of float tensors: one, or a tuple of them.
        has_aux: whether `func` returns something else beside.

    Returns:
        A function with the arguments of `func` that returns the gradient, or `(gradient, aux)`.

    Raises:
        RuntimeError: when called, if `func` does not return such a tensor, or an argument is not a float.

    Example:
        >>> import firesteel as torch
        >>> cubed = lambda x: x**3
        >>> torch.func.grad(cubed)(torch.tensor(2.0))
        tensor(12.)
        >>> torch.func.grad(torch.func.grad(cubed))(torch.tensor(2.0))
        tensor(12.)
    """
    both = grad_and_value(func, argnums, has_aux)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return functools.update_wrapper(wrapper, func, updated=())


class _Pullback:
    """A function's outputs at a point with the history that leads to its differentiated arguments."""

    def __init__(
        self, func: Callable[..., Any], args: tuple[Any, ...], argnums: ArgNums, has_aux: bool
    ) -> None:
        api = "vjp(f, *primals)"
        self.level = Level()
        with self.level as level:
            variables = level.track(selected(args, argnums))
            output, aux = split_aux(func(*replaced(args, argnums, variables)), has_aux, api)
            self.outputs, self.output_spec = tree_flatten(output)
            expect_tensor_outputs(self.outputs, api)
            for out in self.outputs:
                if not out.is_floating_point():
                    raise RuntimeError(
                        "vjp(f, ...): All outputs of f must be floating-point or complex Tensors, got "
                        f"Tensor with dtype {out.dtype}; return integers beside them, with has_aux=True"
                    )
            self.inputs, self.input_spec = tree_flatten(variables)
            self.reaches_others = level.reaches_others(self.outputs)
            self.output, self.aux = level.release(output), level.release(aux)

    def __call__(self, cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        flat, spec = tree_flatten(cotangents)
        if spec != self.output_spec:
            raise RuntimeError(
                "Expected pytree structure of cotangents to be the same as pytree structure of outputs to "
                f"the function. cotangents: {spec}, primal output: {self.output_spec}; give a tensor for "
                "each output, in the same tuples, lists and dicts"
            )
        for cotangent in flat:
            if not isinstance(cotangent, Tensor):
                raise TypeError(
                    f"gradients can be either Tensors or None, but got {type(cotangent).__name__}; give "
                    "tensors shaped as the outputs"
                )
        if create_graph is None:
            given = any(c.requires_grad for c in flat)
            create_graph = _core.is_grad_enabled() and (self.reaches_others or given)
        grads = gradients(
            self.outputs, self.inputs, flat, create_graph=create_graph, retain_graph=retain_graph
        )
        return self.level.release(
            tree_unflatten(or_zeros(grads, self.inputs), self.input_spec), recording=create_graph
        )


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `func`, and the function that multiplies its transposed Jacobian with a vector.

    Args:
        func: takes the primals; returns float tensors in any tree.
        primals: trees of float tensors.
        has_aux: whether `func` returns `(output, aux)`.

    Returns:
        `(output, vjp_fn)`, or `(output, vjp_fn, aux)`. `vjp_fn` takes what is built as the output and
        returns a tuple with one entry for each primal; it may be called again.

    Raises:
        RuntimeError: for outputs that are not float tensors, or cotangents of another structure.
        TypeError: for cotangents that are not tensors.

    Example:
        >>> import firesteel as torch
        >>> output, vjp_fn = torch.func.vjp(lambda x: x**2, torch.tensor([1.0, 2.0]))
        >>> vjp_fn(torch.tensor([1.0, 10.0]))
        (tensor([ 2., 40.]),)
    """
    pullback = _Pullback(func, primals, ALL, has_aux)

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        return pullback(cotangents, retain_graph, create_graph)

    return (pullback.output, vjp_fn, pullback.aux) if has_aux else (pullback.output, vjp_fn)


def basis(like: Tensor) -> list[Tensor]:
    """The tensors of that shape that are 1 at one element and 0 elsewhere, in order.

    Example:
        >>> import firesteel as torch
        >>> from firesteel.func._reverse import basis
        >>> basis(torch.zeros(2))
        [tensor([1., 0.]), tensor([0., 1.])]
    """
    unit = _core.eye(like.numel(), dtype=like.dtype)
    return [row.view(like.shape) for row in unit.unbind()]


def _rows(pullback: _Pullback, output: Tensor) -> list[Tensor]:
    """The Jacobian of one output with respect to each input."""
    recorded = _core.is_grad_enabled() and pullback.reaches_others
    rows = [
        or_zeros(
            gradients([output], pullback.inputs, [unit], create_graph=recorded, retain_graph=True),
            pullback.inputs,
        )
        for unit in basis(output)
    ]
    jacobians = []
    for i, x in enumerate(pullback.inputs):
        shape = (*output.shape, *x.shape)
        jacobians.append(stack([row[i] for row in rows]).view(shape) if rows else x.new_zeros(shape))
    return jacobians


def jacrev(
    func: Callable[..., Any],
    argnums: ArgNums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
    _preallocate_and_copy: bool = False,
) -> Callable[..., Any]:
    """A function that returns the Jacobian of `func`, by one backward pass per element of the output.

    Args:
        func: returns float tensors in any tree, or `(those, aux)` with `has_aux`.
        argnums: which positional arguments to differentiate, trees of float tensors.
        has_aux: whether `func` returns something else beside.
        chunk_size: accepted for compatibility; the passes run one by one.

    Returns:
        A function that returns, in the place of each output, what is built as the argument (a tuple for a
        tuple `argnums`), with tensors of the output's shape followed by the input's. With `has_aux`, a tuple
        of that and `aux`.

    Raises:
        ValueError: for a `chunk_size` below 1.
        RuntimeError: when called, for outputs that are not float tensors.

    Example:
        >>> import firesteel as torch
        >>> torch.func.jacrev(lambda x: x**2)(torch.tensor([1.0, 2.0]))
        tensor([[2., 0.],
                [0., 4.]])
    """
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError(f"jacrev: `chunk_size` should be greater than 0; it is {chunk_size}, leave it out")

    def wrapper(*args: Any) -> Any:
        pullback = _Pullback(func, args, argnums, has_aux)
        jacobian = tree_unflatten(
            [tree_unflatten(_rows(pullback, out), pullback.input_spec) for out in pullback.outputs],
            pullback.output_spec,
        )
        jacobian = pullback.level.release(jacobian)
        return (jacobian, pullback.aux) if has_aux else jacobian

    return functools.update_wrapper(wrapper, func, updated=())


def hessian(func: Callable[..., Any], argnums: ArgNums = 0) -> Callable[..., Any]:
    """A function that returns the second derivatives of `func`: the Jacobian of its Jacobian.

    Args:
        func: returns float tensors in any tree.
        argnums: which positional arguments to differentiate, trees of float tensors.

    Returns:
        A function that returns, for each output, what is built as the argument twice over, with tensors of
        the output's shape followed by both inputs' shapes.

    Example:
        >>> import firesteel as torch
        >>> torch.func.hessian(lambda x: (x**3).sum())(torch.tensor([1.0, 2.0]))
        tensor([[ 6.,  0.],
                [ 0., 12.]])
    """
    # Forward over reverse would cost more here: it is made of two backward passes.
    return jacrev(jacrev(func, argnums), argnums)

"""Products of Jacobians with vectors: `jvp`, `linearize`, `jacfwd`.

There is no forward mode; the backward pass is linear in the cotangents, so that its own transpose, a
backward pass through the backward pass, multiplies with the Jacobian.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from firesteel import _core
from firesteel._core import Tensor, stack, zeros_like
from firesteel.autograd._recorded import gradients
from firesteel.autograd.function import rules_are_transposed
from firesteel.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from ._argnums import ALL, ArgNums, expect_tensor_outputs, replaced, selected, split_aux
from ._level import Level, or_zeros
from ._reverse import basis
from ._vmap import Draws

_JVP = "jvp(f, primals, tangents)"


class _Pushforward:
    """A function's outputs at a point with the backward pass as a function of the cotangents."""

    def __init__(
        self, func: Callable[..., Any], args: tuple[Any, ...], argnums: ArgNums, has_aux: bool
    ) -> None:
        primals = selected(args, argnums)
        for x in tree_leaves(primals):
            if isinstance(x, Tensor) and not x.is_floating_point():
                raise ValueError(
                    f"Expected primal to be floating point or complex, but got: {x.dtype} (shape "
                    f"{tuple(x.shape)}); convert it with .float()"
                )
        self.level = Level()
        with self.level as level:
            variables = level.track(primals)
            output, aux = split_aux(func(*replaced(args, argnums, variables)), has_aux, _JVP)
            self.outputs, self.output_spec = tree_flatten(output)
            expect_tensor_outputs(self.outputs, _JVP)
            self.inputs, self.input_spec = tree_flatten(variables)
            self.reaches_others = level.reaches_others(self.outputs)
            # The value does not matter, the pass is linear in it; zeros cannot overflow.
            self._dependent = [out for out in self.outputs if out.requires_grad]
            self._cotangents = [level.leaf(zeros_like(out)) for out in self._dependent]
            with rules_are_transposed():
                self._grads = gradients(
                    self._dependent, self.inputs, self._cotangents, create_graph=True, retain_graph=True
                )
            self.output, self.aux = level.release(output), level.release(aux)

    def __call__(self, tangents: Sequence[Tensor | None], strict: bool = False) -> list[Tensor]:
        """The tangents of the outputs, given those of the inputs; None stands for zeros."""
        pairs = [
            (g, t) for g, t in zip(self._grads, tangents, strict=True) if g is not None and t is not None
        ]
        recorded = _core.is_grad_enabled() and (self.reaches_others or any(t.requires_grad for _, t in pairs))
        products = iter(
            gradients(
                [g for g, _ in pairs],
                self._cotangents,
                [t for _, t in pairs],
                create_graph=recorded,
                retain_graph=True,
            )
        )
        found = [next(products) if out.requires_grad else None for out in self.outputs]
        if strict and any(product is None for product in found):
            raise RuntimeError(
                "jvp(f, primals, tangents, strict=True): The output of f is independent of the inputs. This "
                "is not allowed with strict=True; leave strict out to get zeros"
            )
        released: list[Tensor] = self.level.release(or_zeros(found, self.outputs), recorded)
        return released


def _check_tangents(primals: list[Any], tangents: list[Any], api: str) -> None:
    for i, (primal, tangent) in enumerate(zip(primals, tangents, strict=True)):
        for name, value in (("primals", primal), ("tangents", tangent)):
            if not isinstance(value, Tensor):
                raise RuntimeError(
                    f"{api}: Expected {name} to only contain Tensors, got {type(value)}; make it one with "
                    "torch.tensor(..)"
                )
        if primal.shape != tangent.shape or primal.dtype != tangent.dtype:
            raise RuntimeError(
                f"{api}: tangent {i} of shape {tuple(tangent.shape)} and dtype {tangent.dtype} doesn't match "
                f"its primal of shape {tuple(primal.shape)} and dtype {primal.dtype}; give one of the "
                "primal's shape and dtype"
            )


def jvp(
    func: Callable[..., Any], primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False
) -> tuple[Any, ...]:
    """The value of `func` and the product of its Jacobian with a vector.

    It is made of two backward passes, and so works for every operation; `linearize` shares the first of them
    among several vectors. What `func` computes in a `no_grad` block is constant for it, as it is for `grad`.

    Args:
        func: takes the primals; returns tensors in any tree.
        primals: a tuple of trees of float tensors.
        tangents: the vector, built as `primals` of tensors of the same shapes and dtypes.
        strict: raise if an output does not depend on the primals, instead of giving zeros.
        has_aux: whether `func` returns `(output, aux)`.

    Returns:
        `(output, product)`, or `(output, product, aux)`; the product is built as the output.

    Raises:
        RuntimeError: if primals and tangents differ in structure, or `func` returns anything but tensors.
        ValueError: for primals that are not floats.

    Example:
        >>> import firesteel as torch
        >>> torch.func.jvp(lambda x: x**2, (torch.tensor([1.0, 2.0]),), (torch.tensor([1.0, 10.0]),))
        (tensor([1., 4.]), tensor([ 2., 40.]))
    """
    if not isinstance(primals, tuple):
        raise RuntimeError(
            f"{_JVP}: Expected primals to be a tuple. E.g. it should be valid to call f(*primals). Got "
            f"{type(primals).__name__}; pass (primal,) and (tangent,)"
        )
    flat_primals, spec = tree_flatten(primals)
    flat_tangents, tangents_spec = tree_flatten(tangents)
    if spec != tangents_spec:
        raise RuntimeError(
            f"{_JVP}: Expected primals and tangents to have the same python structure. For example, if "
            f"primals is a tuple of 3 tensors, tangents also must be. Got primals with structure {spec} and "
            f"tangents with structure {tangents_spec}; give a tangent for each primal"
        )
    if not flat_primals:
        raise RuntimeError(f"{_JVP}: Expected primals to contain at least one Tensor; pass (primal,)")
    _check_tangents(flat_primals, flat_tangents, _JVP)
    push = _Pushforward(func, primals, ALL, has_aux)
    product = tree_unflatten(push(flat_tangents, strict), push.output_spec)
    return (push.output, product, push.aux) if has_aux else (push.output, product)


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """The value of `func`, and the function that multiplies its Jacobian with a vector.

    Args:
        func: takes the primals; returns tensors in any tree.
        primals: trees of float tensors.

    Returns:
        `(output, jvp_fn)`: `jvp_fn(*tangents)` takes what is built as the primals and returns what is built
        as the output, without running `func` again.

    Raises:
        RuntimeError: from `jvp_fn`, if tangents differ from the primals in structure, shape or dtype.
        ValueError: for primals that are not floats.

    Example:
        >>> import firesteel as torch
        >>> output, jvp_fn = torch.func.linearize(lambda x: x**2, torch.tensor([1.0, 2.0]))
        >>> jvp_fn(torch.tensor([1.0, 0.0])), jvp_fn(torch.tensor([0.0, 1.0]))
        (tensor([2., 0.]), tensor([0., 4.]))
    """
    push = _Pushforward(func, primals, ALL, False)

    def jvp_fn(*tangents: Any) -> Any:
        flat, spec = tree_flatten(tangents)
        if spec != push.input_spec:
            raise RuntimeError(
                f"Expected the tangents {spec} to have the same argspec as the primals {push.input_spec}; "
                "give jvp_fn a tangent for each argument of linearize"
            )
        _check_tangents(push.inputs, flat, "linearize")
        return tree_unflatten(push(flat), push.output_spec)

    return push.output, jvp_fn


def _columns(push: _Pushforward, i: int) -> list[Tensor]:
    """The Jacobian of each output with respect to input `i`."""
    x = push.inputs[i]
    others = len(push.inputs) - i - 1
    columns = [push([None] * i + [unit] + [None] * others) for unit in basis(x)]
    jacobians = []
    for k, out in enumerate(push.outputs):
        shape = (*out.shape, *x.shape)
        whole = (
            stack([column[k] for column in columns], -1).reshape(shape) if columns else out.new_zeros(shape)
        )
        jacobians.append(whole)
    return jacobians


def jacfwd(
    func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False, *, randomness: str = "error"
) -> Callable[..., Any]:
    """A function that returns the Jacobian of `func`, by one pass per element of the inputs.

    Preferable to `jacrev` where there are many more outputs than inputs.

    Args:
        func: returns tensors in any tree, or `(those, aux)` with `has_aux`.
        argnums: which positional arguments to differentiate, trees of float tensors.
        has_aux: whether `func` returns something else beside.
        randomness: "error" raises if `func` draws random numbers. `func` runs once, so that "same" and
            "different" alike give the Jacobian for one draw.

    Returns:
        A function that returns what that of `jacrev` does.

    Raises:
        RuntimeError: when called, for outputs that are not tensors, or for random draws.
        ValueError: when called, for arguments that are not floats.

    Example:
        >>> import firesteel as torch
        >>> torch.func.jacfwd(lambda x: torch.stack([x, x**2]))(torch.tensor(3.0))
        tensor([1., 6.])
    """

    def wrapper(*args: Any) -> Any:
        draws = Draws(randomness)
        push = _Pushforward(func, args, argnums, has_aux)
        draws.check()
        by_input = [_columns(push, i) for i in range(len(push.inputs))]
        jacobian = tree_unflatten(
            [tree_unflatten(of_output, push.input_spec) for of_output in zip(*by_input, strict=True)],
            push.output_spec,
        )
        return (jacobian, push.aux) if has_aux else jacobian

    return functools.update_wrapper(wrapper, func, updated=())

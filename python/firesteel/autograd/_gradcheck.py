"""Checks gradients against finite differences: first (`gradcheck`) and second (`gradgradcheck`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import firesteel
from firesteel.autograd._gradcheck_cause import Tolerance
from firesteel.autograd._gradcheck_run import (
    Check,
    GradcheckError,
    as_tuple,
    differentiable,
    expect_wanted,
    random_like,
    wants_grad,
)

if TYPE_CHECKING:
    from firesteel import Tensor

_SEED_OF_GRAD_OUTPUTS = 2

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | tuple[Any, ...] | list[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Checks the gradients of `func` against central differences.

    For every output, and every input that requires grad, the Jacobian that backward computes must be within
    `atol + rtol * |numeric|` of `(func(x + eps) - func(x - eps)) / (2 * eps)`. Zeros for all outputs must
    lead to zeros for all inputs. A tensor that is given in two places moves in both.

    Args:
        func: takes the inputs, returns a tensor or a tuple of tensors; must give the same result every time.
        inputs: a tensor, or a tuple of arguments; the tensors that require grad are checked. Use float64:
            float32 has too few digits for differences of `eps`.
        eps: step of the finite difference.
        atol, rtol: absolute and relative tolerance.
        raise_exception: raise `GradcheckError` with a report; if False, return False instead.
        nondet_tol: how much two runs of backward may differ.
        check_undefined_grad: also check that a missing gradient of one output counts as zero.
        check_grad_dtypes: also check that gradients have the dtype of their inputs.
        fast_mode: check one random projection of each Jacobian instead of every entry.
        check_batched_grad: also check that a batch of gradients (`is_grads_batched`) gives what each gives.
        check_forward_ad: also check the products with the Jacobian that `func.jvp` computes.
        check_batched_forward_grad: batches of these products are computed one by one: nothing more to check.
        check_backward_ad: whether the gradients themselves are checked.
        masked: must be False: there are no sparse tensors.

    Returns:
        True, or False if a check fails and `raise_exception` is False.

    Raises:
        GradcheckError: a check failed; the message names output, input and entry, both numbers, and what
            they suggest as the cause.
        ValueError: no input requires grad, an option is not available, or nothing is left to check.

    Example:
        >>> import firesteel
        >>> x = firesteel.randn(3, dtype=firesteel.float64, requires_grad=True)
        >>> gradcheck(lambda x: (x * x).sum(), (x,))
        True
    """
    _refuse("gradcheck", masked=bool(masked))
    if not (check_backward_ad or check_forward_ad):
        raise ValueError(
            "gradcheck: Expected at least one of check_forward_ad or check_backward_ad to be True; nothing "
            "is left to check"
        )
    if check_batched_grad and not check_backward_ad:
        raise ValueError("gradcheck: Setting check_batched_grad=True requires check_backward_ad to be True")
    if check_batched_forward_grad and not check_forward_ad:
        raise ValueError(
            "gradcheck: Setting check_batched_forward_grad=True requires check_forward_ad to be True"
        )
    check = Check("gradcheck", func, as_tuple(inputs), Tolerance(eps, atol, rtol))
    return check.run(
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batches=check_batched_grad,
        check_products=check_forward_ad,
        check_gradients=check_backward_ad,
        fast_mode=fast_mode,
    )


def _refuse(op: str, **options: bool) -> None:
    for name, wanted in options.items():
        if wanted:
            raise ValueError(f"{op}: {name}=True is not available; leave it False")


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | tuple[Any, ...] | list[Any],
    grad_outputs: Tensor | tuple[Tensor, ...] | list[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Checks second derivatives: `gradcheck` of the function that computes the gradients of `func`.

    Args:
        func, inputs: as in `gradcheck`.
        grad_outputs: gradients of the outputs to start from, a tensor or a tuple; drawn at random if None.
        gen_non_contig_grad_outputs: draw them with strides that are not contiguous.
        check_rev_over_rev: whether the gradients of the gradients are checked.
        check_fwd_over_rev: also check the products with their Jacobian that `func.jvp` computes.
        The other arguments are those of `gradcheck`.

    Returns:
        True, or False if a check fails and `raise_exception` is False.

    Raises:
        GradcheckError: a check failed; the message says which gradient, and with respect to what.

    Example:
        >>> import firesteel
        >>> x = firesteel.randn(3, dtype=firesteel.float64, requires_grad=True)
        >>> gradgradcheck(lambda x: x.exp(), (x,))
        True
    """
    _refuse("gradgradcheck", masked=masked)
    if not (check_rev_over_rev or check_fwd_over_rev):
        raise ValueError(
            "gradgradcheck: Expected at least one of check_fwd_over_rev or check_rev_over_rev to be True; "
            "nothing is left to check"
        )
    if check_batched_grad and not check_rev_over_rev:
        raise ValueError(
            "gradgradcheck: Setting check_batched_grad=True requires check_rev_over_rev to be True"
        )
    inputs = as_tuple(inputs)
    expect_wanted("gradgradcheck", inputs)
    if grad_outputs is None:
        outputs = differentiable(as_tuple(func(*inputs)))
        if not outputs:
            return gradcheck(func, inputs, eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)
        generator = firesteel.Generator().manual_seed(_SEED_OF_GRAD_OUTPUTS)
        grad_outputs = tuple(
            random_like(out, generator, gen_non_contig_grad_outputs).requires_grad_() for out in outputs
        )
    elif not isinstance(grad_outputs, (tuple, list)):
        grad_outputs = (grad_outputs,)
    count = len(inputs)

    def grad_func(*arguments: Any) -> tuple[Tensor, ...]:
        own, cotangents = arguments[:count], arguments[count:]
        own = tuple(x.detach().requires_grad_() if wants_grad(x) and not x.requires_grad else x for x in own)
        wanted = [own[i] for i in differentiated]
        outputs = differentiable(as_tuple(func(*own)))
        grads = firesteel.autograd.grad(outputs, wanted, cotangents, create_graph=True, allow_unused=True)
        # One without a history must be constant, which is checked like everything else.
        names[:] = [
            f"the gradient of input {i}"
            for i, g in zip(differentiated, grads, strict=True)
            if g is not None and g.requires_grad
        ]
        return tuple(g for g in grads if g is not None)

    differentiated = [i for i, x in enumerate(inputs) if wants_grad(x)]
    names: list[str] = []
    if not grad_func(*inputs, *grad_outputs):
        return True  # the outputs depend on no input
    check = Check("gradgradcheck", grad_func, (*inputs, *grad_outputs), Tolerance(eps, atol, rtol))
    check.output_names = names
    check.no_history_is_constant = True
    check.input_names = [
        f"input {i}" if i < count else f"grad_output {i - count}" for i in range(len(check.inputs))
    ]
    return check.run(
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batches=check_batched_grad,
        check_products=check_fwd_over_rev,
        check_gradients=check_rev_over_rev,
        fast_mode=fast_mode,
    )

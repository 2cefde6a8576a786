"""Functions on all parameters of a model at once."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from firesteel._core import Tensor, cat, stack, tensor
from firesteel.autograd.grad_mode import no_grad

from . import rnn as rnn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firesteel.nn.utils import stateless as stateless
else:

    def __getattr__(name: str) -> object:
        if name == "stateless":
            return importlib.import_module("firesteel.nn.utils.stateless")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in given if p.grad is not None]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scales the gradients down, in place, so that their common norm is at most `max_norm`.

    Args:
        parameters: whose gradients are taken as one vector.
        max_norm: the largest norm allowed.
        norm_type: the p of the norm; may be infinity.
        error_if_nonfinite: whether a norm that is infinite or not a number is an error.
        foreach: accepted for compatibility.

    Returns:
        The norm before clipping, without dimensions.

    Example:
        >>> import firesteel as torch
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3.0, 4.0])
        >>> torch.nn.utils.clip_grad_norm_([p], max_norm=10.0)
        tensor(5.)
    """
    max_norm, gradients = float(max_norm), _gradients(parameters)
    if not gradients:
        return tensor(0.0)
    with no_grad():
        total = stack([gradient.norm(norm_type) for gradient in gradients]).norm(norm_type)
        if error_if_nonfinite and not bool(total.isfinite()):
            raise RuntimeError(
                f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, "
                "so it cannot be clipped. To disable this error and scale the gradients by the "
                "non-finite norm anyway, set `error_if_nonfinite=False`"
            )
        scale = (max_norm / (total + 1e-6)).clamp(max=1.0)
        if scale.item() != 1.0:  # most steps of most programs: nothing to write
            for gradient in gradients:
                gradient.mul_(scale)
    return total


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Limits every element of the gradients, in place, to [-clip_value, clip_value]."""
    clip_value = float(clip_value)
    with no_grad():
        for gradient in _gradients(parameters):
            gradient.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """Returns all parameters, one after the other, as one vector."""
    return cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copies pieces of a vector into the parameters: the reverse of `parameters_to_vector`."""
    start = 0
    with no_grad():
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.copy_(vec[start:end].view(parameter.shape))
            start = end

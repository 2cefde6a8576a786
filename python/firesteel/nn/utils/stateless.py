"""The former place of `firesteel.func.functional_call`."""

from __future__ import annotations

import warnings
from typing import Any

from firesteel import func
from firesteel._core import Tensor
from firesteel.nn.module import Module

__all__ = ["functional_call"]


def functional_call(
    module: Module,
    parameters_and_buffers: dict[str, Tensor],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Deprecated: `firesteel.func.functional_call` by its former name, with a `FutureWarning`.

    Args:
        module: the module to call.
        parameters_and_buffers: tensors by the names of parameters and buffers.
        args: the argument, or a tuple of positional arguments.
        kwargs: keyword arguments.
        tie_weights: a tensor that the module has under several names is replaced under all of them.
        strict: raise unless all names are given, and no others.

    Returns:
        What the module returns.

    Example:
        >>> import warnings
        >>> import firesteel as torch
        >>> from firesteel.nn.utils.stateless import functional_call
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", FutureWarning)
        ...     functional_call(layer, {"weight": torch.ones(1, 2)}, torch.tensor([3.0, 4.0]))
        tensor([7.])
    """
    warnings.warn(
        "nn.utils.stateless.functional_call is deprecated; call func.functional_call, which takes the same "
        "arguments",
        FutureWarning,
        stacklevel=2,
    )
    return func.functional_call(
        module, parameters_and_buffers, args, kwargs, tie_weights=tie_weights, strict=strict
    )

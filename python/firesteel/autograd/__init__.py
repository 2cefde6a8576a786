"""Gradients: `grad`, `backward`, the grad modes, and numeric checks."""

from __future__ import annotations

import importlib

from firesteel import _core
from firesteel.autograd.grad_mode import enable_grad, inference_mode, no_grad, set_grad_enabled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeAlias, TypeVar, overload

    from firesteel import Tensor
    from firesteel.autograd import (
        anomaly_mode as anomaly_mode,
        function as function,
        functional as functional,
        graph as graph,
        variable as variable,
    )
    from firesteel.autograd._edge import GradientEdge
    from firesteel.autograd._gradcheck import (
        GradcheckError as GradcheckError,
        gradcheck as gradcheck,
        gradgradcheck as gradgradcheck,
    )
    from firesteel.autograd.anomaly_mode import (
        detect_anomaly as detect_anomaly,
        set_detect_anomaly as set_detect_anomaly,
    )
    from firesteel.autograd.function import Function as Function
    from firesteel.autograd.variable import Variable as Variable

__all__ = [
    "Function",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]


if TYPE_CHECKING:
    Ends: TypeAlias = Tensor | GradientEdge | Iterable[Tensor | GradientEdge]
    Key = TypeVar("Key")
else:

    def overload(function):
        """What `typing.overload` does, but for the error that it leaves."""
        return function


@overload
def grad(  # type: ignore[overload-overlap]  # a dict is an iterable, too
    outputs: Ends,
    inputs: dict[Key, Tensor],
    grad_outputs: Tensor | Iterable[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> dict[Key, Tensor | None]: ...


@overload
def grad(  # noqa: F811  # ruff does not know this `overload`: typing is not imported at run time
    outputs: Ends,
    inputs: Ends,
    grad_outputs: Tensor | Iterable[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]: ...


def grad(  # noqa: F811  # ruff does not know this `overload`: typing is not imported at run time
    outputs: Ends,
    inputs: Ends | dict[Key, Tensor],
    grad_outputs: Tensor | Iterable[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...] | dict[Key, Tensor | None]:
    """Gradients of `outputs` with respect to `inputs`, without touching any `.grad`.

    Args:
        outputs: tensors to differentiate, or edges that `graph.get_gradient_edge` gave.
        inputs: tensors to differentiate with respect to, or edges; or a dict of tensors.
        grad_outputs: a gradient to start from for each output; may be None for outputs of one element.
        retain_graph: keep what the graph saved; default: `create_graph`.
        create_graph: record this backward pass, for higher derivatives.
        only_inputs: deprecated and ignored.
        allow_unused: give None for an input that the outputs do not depend on, instead of raising.
        is_grads_batched: `grad_outputs` are batches along their first dimension: one backward pass runs for
            each entry, and the gradients are stacked.
        materialize_grads: give zeros for an input that the outputs do not depend on, and is no edge.

    Returns:
        A gradient for each input: a tuple, or for a dict of inputs a dict with the same keys.

    Raises:
        RuntimeError: if there are no inputs, an input was not used and that is not allowed, or the graph
            was freed.
        TypeError: if something is neither a tensor nor an edge.
        ValueError: if `materialize_grads` meets `allow_unused=False`.

    Example:
        >>> import firesteel as torch
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> torch.autograd.grad(x**2, x)
        (tensor(6.),)
    """
    if not only_inputs:
        import warnings

        warnings.warn(
            "grad: only_inputs argument is deprecated and is ignored now (defaults to True); use "
            "autograd.backward to accumulate gradients for other parts of the graph",
            FutureWarning,
            stacklevel=2,
        )
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
            "allow_unused=False. grad: leave allow_unused out"
        )
    keys = list(inputs) if isinstance(inputs, dict) else None
    given = _ends("grad", "inputs", inputs.values() if isinstance(inputs, dict) else inputs)
    if not given:
        raise RuntimeError(
            "grad: `inputs` argument to `grad()` cannot be empty; pass the tensors to differentiate with "
            "respect to"
        )
    sources, targets = _standing_for(_ends("grad", "outputs", outputs)), _standing_for(given)
    starts = None if grad_outputs is None else _ends("grad", "grad_outputs", grad_outputs, starts=True)
    retain = bool(create_graph) if retain_graph is None else retain_graph
    if is_grads_batched:
        grads = _batched(sources, targets, starts, retain, create_graph)
    else:
        grads = _core._grad(sources, targets, starts, retain, create_graph)
    if materialize_grads:
        grads = _materialized(given, grads, create_graph)
    elif not allow_unused and any(g is None for g in grads):
        index = next(i for i, g in enumerate(grads) if g is None)
        raise RuntimeError(
            f"grad: One of the differentiated Tensors appears to not have been used in the graph "
            f"(input {index}, shape {tuple(targets[index].shape)}). Set allow_unused=True "
            "if this is the desired behavior."
        )
    return grads if keys is None else dict(zip(keys, grads, strict=True))


def _materialized(
    inputs: tuple[Tensor | GradientEdge, ...], grads: tuple[Tensor | None, ...], create_graph: bool
) -> tuple[Tensor, ...]:
    """The gradients, zeros where there are none."""
    found = []
    for x, g in zip(inputs, grads, strict=True):
        if g is None:
            if not isinstance(x, _core.Tensor):
                raise RuntimeError(
                    "grad: materialize_grads cannot be used when the given input is a GradientEdge; pass the "
                    "tensor, or allow_unused=True"
                )
            g = _core.zeros_like(x.detach()).requires_grad_(create_graph)
        found.append(g)
    return tuple(found)


def _batched(
    outputs: tuple[Tensor, ...],
    inputs: tuple[Tensor, ...],
    batches: tuple[Tensor | None, ...] | None,
    retain_graph: bool,
    create_graph: bool,
) -> tuple[Tensor | None, ...]:
    """The gradients for each entry of the batches of `grad_outputs`, stacked."""
    batches = (None,) * len(outputs) if batches is None else batches
    if len(batches) != len(outputs):
        raise RuntimeError(
            f"grad: got {len(outputs)} tensors and {len(batches)} gradients; there must be one gradient per "
            "output"
        )
    for i, (output, batch) in enumerate(zip(outputs, batches, strict=True)):
        if batch is not None and batch.shape[1:] != output.shape:
            raise RuntimeError(
                "If `is_grads_batched=True`, we interpret the first dimension of each grad_output as the "
                "batch dimension. The sizes of the remaining dimensions are expected to match the shape of "
                f"corresponding output, but a mismatch was detected: grad_output[{i}] has a shape of "
                f"{batch.shape} and output[{i}] has a shape of {output.shape}. grad: give a batch of shape "
                f"{('batch', *output.shape)}"
            )
    sizes = {batch.shape[0] for batch in batches if batch is not None and batch.ndim}
    if len(sizes) != 1:
        raise ValueError(
            f"grad: is_grads_batched=True takes batches of one size in grad_outputs, not of {sorted(sizes)}; "
            "give as many gradients for each output"
        )
    size = sizes.pop()
    rows = []
    for i in range(size):
        chosen = tuple(batch if batch is None else batch[i] for batch in batches)
        rows.append(_core._grad(outputs, inputs, chosen, retain_graph or i < size - 1, create_graph))
    if not rows:
        return tuple(x.new_zeros((0, *x.shape)) for x in inputs)
    columns = [[g for g in column if g is not None] for column in zip(*rows, strict=True)]
    return tuple(_core.stack(column) if column else None for column in columns)


def _ends(op: str, role: str, given: object, starts: bool = False) -> tuple[Any, ...]:
    """One tensor or edge, or any iterable of them such as `model.parameters()`, as a tuple.

    Args:
        op: the function that was called.
        role: the name of its argument.
        given: what it got there.
        starts: whether gradients start from these: then each may be None, has the shape of an output, and is
            no edge.
    """
    if isinstance(given, _core.Tensor):
        return (given,)
    if not starts and _is_edge(given):
        return (given,)
    wanted = "a Tensor or None for each output" if starts else "a Tensor or a list of Tensors"
    way_out = "make it a tensor of the output's shape" if starts else "make it a tensor"
    try:
        items: tuple[Any, ...] = tuple(given)  # type: ignore[arg-type]  # refused if it is not iterable
    except TypeError:
        raise TypeError(f"{op}: {role} must be {wanted}, not {type(given).__name__}; {way_out}") from None
    for i, item in enumerate(items):
        if not (isinstance(item, _core.Tensor) or (item is None if starts else _is_edge(item))):
            raise TypeError(
                f"{op}: {role} must be {wanted}, but item {i} is {type(item).__name__}; {way_out}"
            )
    return items


def _is_edge(item: object) -> bool:
    """Whether it is a `GradientEdge`, whose class few programs load."""
    return isinstance(item, tuple) and len(item) > 1 and isinstance(item[0], _core.Node)


def _standing_for(ends: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """The tensors, and for each edge one that is at that place of the graph."""
    return tuple(x if isinstance(x, _core.Tensor) else x[0]._stand_in(x[1]) for x in ends)


def backward(
    tensors: Ends,
    grad_tensors: Tensor | Iterable[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Ends | dict[Any, Tensor] | None = None,
) -> None:
    """Adds the gradients of `tensors` to `.grad` of the leaves that they depend on.

    Args:
        tensors: tensors to differentiate, or edges that `graph.get_gradient_edge` gave.
        grad_tensors: a gradient to start from for each; may be None for tensors of one element.
        retain_graph: keep what the graph saved; default: `create_graph`.
        create_graph: record this backward pass, for higher derivatives.
        inputs: the only tensors whose `.grad` is wanted, also in a dict, or edges; default: all leaves.

    Example:
        >>> import firesteel as torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> torch.autograd.backward([x.sum(), (x * x).sum()])
        >>> x.grad
        tensor([3., 3.])
    """
    targets = None
    if inputs is not None:
        targets = _standing_for(
            _ends("backward", "inputs", inputs.values() if isinstance(inputs, dict) else inputs)
        )
        if not targets:
            raise RuntimeError(
                "backward: `inputs` argument to `backward()` cannot be empty; leave it out to reach "
                "every leaf"
            )
    sources = _standing_for(_ends("backward", "tensors", tensors))
    starts = None if grad_tensors is None else _ends("backward", "grad_tensors", grad_tensors, starts=True)
    retain = bool(create_graph) if retain_graph is None else retain_graph
    _core._backward(sources, starts, retain, create_graph, targets)


# Loaded when first used, as in the package itself.
_LAZY_NAMES = {
    "Function": "firesteel.autograd.function",
    "Variable": "firesteel.autograd.variable",
    "GradcheckError": "firesteel.autograd._gradcheck",
    "detect_anomaly": "firesteel.autograd.anomaly_mode",
    "gradcheck": "firesteel.autograd._gradcheck",
    "gradgradcheck": "firesteel.autograd._gradcheck",
    "set_detect_anomaly": "firesteel.autograd.anomaly_mode",
}


if not TYPE_CHECKING:  # type checkers read the imports above, and so notice names that do not exist

    def __getattr__(name: str) -> object:
        if name in ("anomaly_mode", "function", "functional", "graph", "variable"):
            return importlib.import_module(f"firesteel.autograd.{name}")
        if name in _LAZY_NAMES:
            value = getattr(importlib.import_module(_LAZY_NAMES[name]), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

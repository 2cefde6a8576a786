"""Modules as functions of their parameters and buffers, and several modules as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from firesteel._core import Tensor, stack
from firesteel.nn.batchnorm import _BatchNorm
from firesteel.nn.module import Module

_MISSING: Any = object()


def _merged(given: Any) -> dict[str, Tensor]:
    """The values by name, of one dictionary or several."""
    if isinstance(given, dict):
        return given
    if not isinstance(given, Sequence):
        raise ValueError(
            "Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got "
            f"{type(given)}; map names to tensors, as dict(module.named_parameters()) does"
        )
    if not all(isinstance(part, dict) for part in given):
        kinds = [type(part).__name__ for part in given]
        raise ValueError(
            f"Expected all elements of parameter_and_buffer_dicts to be dictionaries, not {kinds}; map names "
            "to tensors, as dict(module.named_parameters()) does"
        )
    names = [name for part in given for name in part]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise ValueError(
            f"{repeated} appeared in multiple dictionaries; behavior of functional call is ambiguous; "
            "give each name once"
        )
    return {name: value for part in given for name, value in part.items()}


def _named_state(module: Module) -> dict[str, Tensor]:
    """All parameters and buffers, also those that have another name, too."""
    modules = list(module.named_modules(remove_duplicate=False))
    return {
        f"{prefix}.{name}" if prefix else name: tensor
        for field in ("_parameters", "_buffers")
        for prefix, owner in modules
        for name, tensor in owner.__dict__[field].items()
        if tensor is not None
    }


def _with_tied(module: Module, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The values, given also to the other names of the tensors that they replace."""
    names_of: dict[int, list[str]] = {}
    for name, tensor in _named_state(module).items():
        names_of.setdefault(id(tensor), []).append(name)
    result = dict(values)
    for names in names_of.values():
        given = [name for name in names if name in values]
        if not given or len(names) == 1:
            continue
        if len({id(values[name]) for name in given}) > 1:
            raise ValueError(
                f"functional_call got multiple values for keys {sorted(names)}, which are tied. Consider "
                "using tie_weights=False"
            )
        result.update(dict.fromkeys(names, values[given[0]]))
    return result


def _check_names(module: Module, values: dict[str, Tensor]) -> None:
    own = _named_state(module)
    unexpected = [name for name in values if name not in own]
    missing = [name for name in own if name not in values]
    lines = [f"Unexpected key(s): {', '.join(map(repr, unexpected))}."] if unexpected else []
    if missing:
        lines.append(f"Missing key(s): {', '.join(map(repr, missing))}.")
    if lines:
        raise RuntimeError(
            f"Error(s) in reparametrizing for {type(module).__name__}:\n\t" + "\n\t".join(lines)
        )


def _swap(module: Module, path: str, value: Any) -> Any:
    """Puts a tensor in the place of the one of that name, which is returned."""
    *modules, name = path.split(".")
    owner: Any = module
    for part in modules:
        if not hasattr(owner, part):
            raise AttributeError(
                f"functional_call: {path!r} leads through {part!r}, but '{type(owner).__name__}' object has "
                f"no attribute {part!r}; use the names of named_parameters() and named_buffers()"
            )
        owner = getattr(owner, part)
        if not isinstance(owner, Module):
            raise TypeError(
                f"functional_call: {path!r} leads through {part!r}, which is not a module; use the names of "
                "named_parameters() and named_buffers()"
            )
    if not name:
        raise KeyError(
            f"functional_call: tensor name can't be empty string, in {path!r}; use the names of "
            "named_parameters() and named_buffers()"
        )
    state = owner.__dict__
    for field in ("_parameters", "_buffers"):
        if name in state[field]:
            old = state[field][name]
            state[field][name] = value
            return old
    old = state.get(name, _MISSING)
    if old is not _MISSING and not isinstance(old, Tensor):
        raise TypeError(
            f"functional_call: {path!r} is no tensor but {type(old).__name__}; use the names of "
            "named_parameters() and named_buffers()"
        )
    if value is _MISSING:
        del state[name]
    else:
        state[name] = value
    return old


@contextmanager
def _swapped(module: Module, values: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Puts the values in for the block. After it the dictionary holds what the block left in their places."""
    for name, value in values.items():
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"functional_call: {name!r} must be a Tensor or None, not {type(value).__name__}; make it "
                "one with torch.tensor(..)"
            )
    originals: dict[str, Any] = {}
    after: dict[str, Tensor] = {}
    try:
        for name, value in values.items():
            originals[name] = _swap(module, name, value)
        yield after
    finally:
        for name, original in reversed(originals.items()):
            after[name] = _swap(module, name, original)


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: dict[str, Tensor] | Sequence[dict[str, Tensor]],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Calls a module with other tensors in the places of its parameters and buffers.

    The module has its own back afterwards, also if the call fails. A buffer that the module replaces or
    overwrites in the call is changed in the given dictionary.

    Args:
        module: the module to call.
        parameter_and_buffer_dicts: tensors by the names of `named_parameters` and `named_buffers`: a
            dictionary, or several with different names. Others stay as they are. None takes one away.
        args: the argument, or a tuple of positional arguments.
        kwargs: keyword arguments.
        tie_weights: a tensor that the module has under several names is replaced under all of them.
        strict: raise unless all names are given, and no others.

    Returns:
        What the module returns.

    Raises:
        ValueError: for a name in several dictionaries, or different tensors for the names of a tied one.
        RuntimeError: with `strict`, for missing and unexpected names.

    Example:
        >>> import firesteel as torch
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> x = torch.tensor([3.0, 4.0])
        >>> torch.func.functional_call(layer, {"weight": torch.ones(1, 2)}, x)
        tensor([7.])
    """
    given = _merged(parameter_and_buffer_dicts)
    values = _with_tied(module, given) if tie_weights else dict(given)
    if strict:
        _check_names(module, values)
    positional = () if args is None else args if isinstance(args, tuple) else (args,)
    after: dict[str, Tensor] = {}
    try:
        with _swapped(module, values) as after:
            return module(*positional, **(kwargs or {}))
    finally:
        given.update({name: after[name] for name in given if name in after})


def _stacked(name: str, tensors: list[Tensor]) -> Tensor:
    needs = {tensor.requires_grad for tensor in tensors}
    if len(needs) > 1:
        raise RuntimeError(
            f"Expected {name} from each model to have the same .requires_grad; call requires_grad_() on "
            "those of all models"
        )
    return stack([tensor.detach() for tensor in tensors]).requires_grad_(needs.pop())


def stack_module_state(models: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters and buffers of several models of one class, stacked: an ensemble for `vmap`.

    Args:
        models: a sequence of modules that differ only in the values of their tensors.

    Returns:
        `(params, buffers)`: by name, tensors with the models as first dimension. Those of parameters that
        require grad are new leaves, which an optimizer can train.

    Raises:
        RuntimeError: without models, or if they differ in class or mode.

    Example:
        >>> import firesteel as torch
        >>> models = [torch.nn.Linear(3, 2) for _ in range(4)]
        >>> params, buffers = torch.func.stack_module_state(models)
        >>> call = lambda params, x: torch.func.functional_call(models[0], params, x)
        >>> torch.vmap(call, in_dims=(0, None))(params, torch.ones(5, 3)).shape
        torch.Size([4, 5, 2])
    """
    if len(models) == 0:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0; pass a list of them")
    if len({bool(model.training) for model in models}) > 1:
        raise RuntimeError(
            "stack_module_state: Expected all models to have the same training/eval mode; call .train() or "
            ".eval() on all"
        )
    if len({type(model) for model in models}) > 1:
        names = sorted({type(model).__name__ for model in models})
        raise RuntimeError(
            f"stack_module_state: Expected all models to be of the same class, not {names}; stack those of "
            "each class by themselves"
        )
    params = [dict(model.named_parameters()) for model in models]
    buffers = [dict(model.named_buffers()) for model in models]
    return (
        {name: _stacked(name, [of_model[name] for of_model in params]) for name in params[0]},
        {name: _stacked(name, [of_model[name] for of_model in buffers]) for name in buffers[0]},
    )


def replace_all_batch_norm_modules_(root: Module) -> Module:
    """Takes the running statistics from all batch norms of a module, in place: they use those of the batch.

    With them, examples and members of an ensemble would have to update one and the same buffer.

    Args:
        root: a module, itself a batch norm or not.

    Returns:
        The module.

    Example:
        >>> import firesteel as torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
        >>> torch.func.replace_all_batch_norm_modules_(net)[1].running_mean is None
        True
    """
    for module in root.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return root

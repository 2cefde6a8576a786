"""Saving and loading a module's state: the half of `Module` that deals in dictionaries of tensors."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from firesteel._core import Tensor
from firesteel._hooks import RemovableHandle, register
from firesteel.autograd.grad_mode import no_grad

from .parameter import Parameter
from .register import Register

if TYPE_CHECKING:
    from .module import Module

EXTRA_STATE = "_extra_state"
# Where `load_state_dict` puts the list of what is to be copied once everything has been checked.
_PENDING = "firesteel.pending"


class _IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What `load_state_dict` found no value for, and what it had no place for."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()

    __str__ = __repr__


def _nothing() -> None:
    """Puts no value anywhere: there is one that does not fit."""


def _below(state: OrderedDict[str, Any], prefix: str) -> OrderedDict[str, Any]:
    """The entries for a child, so that no module looks at all keys of the whole model."""
    part: OrderedDict[str, Any] = OrderedDict((k, v) for k, v in state.items() if k.startswith(prefix))
    part._metadata = state._metadata  # type: ignore[attr-defined]
    return part


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)


class StateDict:
    """What `Module` has for saving and loading its parameters and buffers by name."""

    _version: int = 1
    _parameters: Register
    _buffers: Register
    _modules: Register
    _non_persistent_buffers_set: set[str]
    _state_dict_hooks: dict[int, tuple[Callable[..., Any], bool]]
    _state_dict_pre_hooks: dict[int, Callable[..., Any]]
    _load_state_dict_pre_hooks: dict[int, Callable[..., Any]]
    _load_state_dict_post_hooks: dict[int, Callable[..., Any]]

    def get_extra_state(self) -> Any:
        """What is saved beside parameters and buffers; override it together with `set_extra_state`."""
        raise RuntimeError(
            f"{type(self).__name__}.get_extra_state is not defined; override it in your module"
        )

    def set_extra_state(self, state: Any) -> None:
        """Takes back what `get_extra_state` returned when the state was saved."""
        raise RuntimeError(
            f"{type(self).__name__}.set_extra_state is not defined; override it in your module"
        )

    def _has_extra_state(self) -> bool:
        return type(self).get_extra_state is not StateDict.get_extra_state

    def state_dict(
        self, *args: Any, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Returns the parameters and persistent buffers of this module and all below it, by dotted name.

        The tensors share memory with the module's and are detached from the graph.

        Args:
            destination: a dictionary to fill; None makes a new one.
            prefix: put in front of every name.
            keep_vars: whether to return the parameters themselves instead of detached tensors.

        Example:
            >>> import firesteel as torch
            >>> list(torch.nn.Linear(2, 3).state_dict())
            ['weight', 'bias']
        """
        if args:  # PyTorch's older positional form
            destination = args[0] if destination is None else destination
            prefix = args[1] if len(args) > 1 and not prefix else prefix
            keep_vars = args[2] if len(args) > 2 and not keep_vars else keep_vars
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()  # type: ignore[attr-defined]
        local_metadata = {"version": self._version}
        metadata = getattr(destination, "_metadata", None)
        if metadata is not None:
            metadata[prefix[:-1]] = local_metadata
        for hook in tuple(self._state_dict_pre_hooks.values()):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook, may_replace in tuple(self._state_dict_hooks.values()):
            result = hook(self, destination, prefix, local_metadata)
            if result is not None:
                if not may_replace:
                    raise RuntimeError("state_dict post-hook must return None")
                destination = result
        return destination

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Adds this module's own tensors, not those of its children; modules may override it."""
        for name, tensor in self._own_state().items():
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        if self._has_extra_state():
            destination[prefix + EXTRA_STATE] = self.get_extra_state()

    def _own_state(self) -> dict[str, Tensor]:
        """Returns the parameters and persistent buffers that belong to this very module."""
        own = dict(self._parameters)
        own.update((n, b) for n, b in self._buffers.items() if n not in self._non_persistent_buffers_set)
        return {name: tensor for name, tensor in own.items() if tensor is not None}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Copies values from `state_dict` into this module's parameters and buffers.

        Args:
            state_dict: tensors by name, as `state_dict()` returns them.
            strict: whether missing or unexpected names are an error.
            assign: whether to take over the given tensors instead of copying their values.

        Returns:
            A named tuple with `missing_keys` and `unexpected_keys`.

        Raises:
            RuntimeError: a shape differs, or, when `strict`, the names do.

        Example:
            >>> import firesteel as torch
            >>> torch.nn.Linear(2, 3).load_state_dict(torch.nn.Linear(2, 3).state_dict())
            <All keys matched successfully>
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []
        pending: list[Callable[[], None]] = []
        collected: list[StateDict] = []

        def collect(module: StateDict, state: OrderedDict[str, Any], prefix: str) -> None:
            local_metadata = dict(state._metadata.get(prefix[:-1], {}))  # type: ignore[attr-defined]
            local_metadata[_PENDING] = pending
            if assign:
                local_metadata["assign_to_params_buffers"] = True
            module._load_from_state_dict(state, prefix, local_metadata, True, missing, unexpected, errors)
            for name, child in module._modules.items():
                if child is not None:
                    collect(child, _below(state, f"{prefix}{name}."), f"{prefix}{name}.")
            collected.append(module)

        state: OrderedDict[str, Any] = OrderedDict(state_dict)
        state._metadata = getattr(state_dict, "_metadata", None) or {}  # type: ignore[attr-defined]
        collect(self, state, "")
        if not errors:  # what does not fit is said before anything is overwritten
            for load in pending:
                load()
        keys = _IncompatibleKeys(missing, unexpected)
        for module in collected:
            for hook in tuple(module._load_state_dict_post_hooks.values()):
                if hook(module, keys) is not None:
                    raise AssertionError(
                        "a load_state_dict post-hook must change the keys in place, not return"
                    )
        if strict:
            if unexpected:
                errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
            if missing:
                errors.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
        if errors:
            text = "\n\t".join(errors)
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{text}")
        return keys

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Loads this module's own tensors, not those of its children; modules may override it."""
        for hook in tuple(self._load_state_dict_pre_hooks.values()):
            hook(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        assign = local_metadata.get("assign_to_params_buffers", False)
        pending = local_metadata.get(_PENDING)
        own = self._own_state()
        for name, tensor in own.items():
            key = prefix + name
            if key in state_dict:
                load = self._loading(name, tensor, key, state_dict[key], assign, error_msgs)
                if pending is None:
                    load()
                else:
                    pending.append(load)
            elif strict:
                missing_keys.append(key)
        if self._has_extra_state():
            key = prefix + EXTRA_STATE
            if key in state_dict:
                self.set_extra_state(state_dict[key])
            elif strict:
                missing_keys.append(key)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and not self._has_place_for(key[len(prefix) :], own):
                    unexpected_keys.append(key)

    def _has_place_for(self, key: str, own: Mapping[str, Any]) -> bool:
        name, dot, _ = key.partition(".")
        if dot:
            return name in self._modules
        return name in own or (name == EXTRA_STATE and self._has_extra_state())

    def _loading(
        self, name: str, tensor: Tensor, key: str, value: Any, assign: bool, error_msgs: list[str]
    ) -> Callable[[], None]:
        """Checks a value for one of this module's tensors and returns what puts it there."""
        if not isinstance(value, Tensor):
            error_msgs.append(
                f'While copying the parameter named "{key}", expected firesteel.Tensor or Tensor-like object '
                f"from checkpoint but received {type(value)}"
            )
            return _nothing
        if tensor.ndim == 0 and value.ndim == 1 and value.shape[0] == 1:
            value = value[0]  # scalars of old checkpoints have shape (1,)
        if value.shape != tensor.shape:
            error_msgs.append(
                f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, "
                f"the shape in current model is {tensor.shape}."
            )
            return _nothing

        def load() -> None:
            try:
                if assign:
                    self._assign(name, tensor, value)
                else:
                    with no_grad():
                        tensor.copy_(value)
            except Exception as error:
                error_msgs.append(
                    f'While copying the parameter named "{key}", whose dimensions in the model are '
                    f"{tensor.size()} and whose dimensions in the checkpoint are {value.size()}, "
                    f"an exception occurred : {error.args}."
                )

        return load

    def _assign(self, name: str, tensor: Tensor, value: Tensor) -> None:
        """Takes over a tensor of a checkpoint; whether it is trained stays as it is in the model."""
        if name not in self._parameters:
            self._buffers[name] = value
        elif isinstance(value, Parameter):
            self._parameters[name] = value.requires_grad_(tensor.requires_grad)
        else:
            self._parameters[name] = Parameter(value, tensor.requires_grad)

    def register_state_dict_pre_hook(self, hook: Callable[[Any, str, bool], None]) -> RemovableHandle:
        """Calls `hook(module, prefix, keep_vars)` before the module's state is collected."""
        return register(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(module, state_dict, prefix, local_metadata)` after the state is collected.

        It may change the dictionary in place, and returns None.
        """
        return register(self._state_dict_hooks, (hook, False))  # type: ignore[arg-type]

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """As `register_state_dict_post_hook`; what the hook returns, unless None, replaces the dictionary."""
        return register(self._state_dict_hooks, (hook, True))  # type: ignore[arg-type]

    def register_load_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(module, state_dict, prefix, local_metadata, strict, missing, unexpected, errors)`."""
        return register(self._load_state_dict_pre_hooks, hook)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., None], with_module: bool = False
    ) -> RemovableHandle:
        """As `register_load_state_dict_pre_hook`, without the module unless `with_module`."""
        called = hook if with_module else lambda module, *args: hook(*args)
        return register(self._load_state_dict_pre_hooks, called)

    def register_load_state_dict_post_hook(self, hook: Callable[[Module, Any], None]) -> RemovableHandle:
        """Calls `hook(module, incompatible_keys)` after loading; it may change the two lists in place."""
        return register(self._load_state_dict_post_hooks, hook)

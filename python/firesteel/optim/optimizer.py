"""`Optimizer`, the base of all optimizers: groups of parameters, state, saving and loading."""

from __future__ import annotations

import copy
import functools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import firesteel
from firesteel._core import Tensor, float32, tensor
from firesteel._hooks import RemovableHandle, register
from firesteel._tensor import clear_gradient
from firesteel.autograd.grad_mode import enable_grad

Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a subclass's `step` call the hooks registered with the optimizer."""

    @functools.wraps(step)
    def wrapper(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if not self._step_hooks:
            return step(self, *args, **kwargs)
        for hook in tuple(self._optimizer_step_pre_hooks.values()):
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not isinstance(changed, tuple) or len(changed) != 2:
                    raise RuntimeError(
                        f"pre-hook must return None or a tuple (new_args, new_kwargs), but got {changed}."
                    )
                args, kwargs = changed
        result = step(self, *args, **kwargs)
        for hook in tuple(self._optimizer_step_post_hooks.values()):
            hook(self, args, kwargs)
        return result

    return wrapper


class Optimizer:
    """The base class of all optimizers; subclasses define `step`.

    Args:
        params: parameters, or dicts with "params" and options of their own, or (name, parameter) pairs.
        defaults: options for groups that do not give their own.
    """

    _step_hooks = False  # set once a hook is registered, so that a step without hooks costs one look

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor) or not isinstance(params, Iterable):
            found, way_out = type(params).__name__, "pass model.parameters()"
            if isinstance(params, Tensor):
                found, way_out = params.type(), "put it in a list"
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, "
                f"but got {found}; {way_out}"
            )
        self.defaults = defaults
        self.state: defaultdict[Any, Any] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._init_hooks()
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError(
                "optimizer got an empty parameter list; call model.parameters() again: a generator gives its "
                "tensors only once"
            )
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _init_hooks(self) -> None:
        self._optimizer_step_pre_hooks: dict[int, Callable[..., Any]] = {}
        self._optimizer_step_post_hooks: dict[int, Callable[..., Any]] = {}
        self._optimizer_state_dict_pre_hooks: dict[int, Callable[..., Any]] = {}
        self._optimizer_state_dict_post_hooks: dict[int, Callable[..., Any]] = {}
        self._optimizer_load_state_dict_pre_hooks: dict[int, Callable[..., Any]] = {}
        self._optimizer_load_state_dict_post_hooks: dict[int, Callable[..., Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_optimizer_step_pre_hooks" not in self.__dict__:
            self._init_hooks()
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)

    def __repr__(self) -> str:
        text = type(self).__name__ + " ("
        for index, group in enumerate(self.param_groups):
            text += f"\nParameter Group {index}\n"
            text += "".join(f"    {key}: {group[key]}\n" for key in sorted(group) if key != "params")
        return text + ")"

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Changes the parameters once, along their gradients.

        Args:
            closure: computes the loss anew, with its gradients, and returns it.

        Returns:
            what `closure` returns, or None.
        """
        raise NotImplementedError(f"{type(self).__name__}.step is not defined")

    @staticmethod
    def _loss(closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            return None
        with enable_grad():
            return closure()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters, or fills them with zeros."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    clear_gradient(parameter)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with options of their own: {"params": ..., "lr": ...}."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, Tensor):
            params = [params]
        elif isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of "
                "tensors in sets will change between runs. Please use a list instead."
            )
        params = list(params)
        names = [entry[0] for entry in params if isinstance(entry, tuple)]
        if names and len(names) != len(params):
            raise ValueError(
                "all optimizer params should be with/without names. Some param names are missing"
            )
        params = [entry[1] if isinstance(entry, tuple) else entry for entry in params]
        self._check_params(params)
        param_group["params"] = params
        if names:
            param_group["param_names"] = names
        if self.param_groups and ("param_names" in param_group) != ("param_names" in self.param_groups[0]):
            known, added = ("with", "without") if not names else ("without", "with")
            raise ValueError(
                f"all optimizer param groups should be with/without names. cannot add param group {added} "
                f"names to the optimizer with groups {known} names"
            )
        for name, default in self.defaults.items():
            param_group.setdefault(name, default)
        self.param_groups.append(param_group)

    def _check_params(self, params: list[Any]) -> None:
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for index, parameter in enumerate(params):
            if not isinstance(parameter, Tensor):
                raise TypeError(
                    "optimizer can only optimize Tensors, but one of the params is "
                    f"{firesteel.typename(parameter)}; make it an nn.Parameter"
                )
            if not parameter.is_leaf and not getattr(parameter, "retains_grad", False):
                made_by = "an operation" if parameter.grad_fn is None else parameter.grad_fn.name()
                raise ValueError(
                    f"can't optimize a non-leaf Tensor: parameter {index} (shape {tuple(parameter.shape)}) "
                    f"was made by {made_by}; pass the leaf that it was made of, or "
                    "parameter.detach().requires_grad_()"
                )
        if len({id(p) for p in params}) != len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; "
                "in future, this will cause an error",
                stacklevel=4,
            )
        if any(id(p) in known for p in params):
            raise ValueError(
                "some parameters appear in more than one parameter group; leave them in one of the groups"
            )

    def state_dict(self) -> dict[str, Any]:
        """Returns the options of the groups and the state by index of the parameter, ready to be saved."""
        for hook in tuple(self._optimizer_state_dict_pre_hooks.values()):
            hook(self)
        index: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for parameter in group["params"]:
                index.setdefault(id(parameter), len(index))
            packed = {name: value for name, value in group.items() if name != "params"}
            packed["params"] = [index[id(parameter)] for parameter in group["params"]]
            groups.append(packed)
        state = {index[id(k)] if isinstance(k, Tensor) else k: value for k, value in self.state.items()}
        packed_state: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in tuple(self._optimizer_state_dict_post_hooks.values()):
            changed = hook(self, packed_state)
            packed_state = packed_state if changed is None else changed
        return packed_state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over options and state from what `state_dict` returned; tensors are copied.

        Raises:
            ValueError: the groups do not have the same numbers of parameters.
        """
        state_dict = dict(state_dict)  # hooks may change it, but not the caller's
        for hook in tuple(self._optimizer_load_state_dict_pre_hooks.values()):
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(
                f"loaded state dict has a different number of parameter groups, {len(saved)} instead of "
                f"{len(self.param_groups)}; make the optimizer with the same groups"
            )
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(saved, self.param_groups, strict=True)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of "
                "optimizer's group; make the optimizer with the parameters of the same model"
            )
        own: dict[Any, Tensor] = {}
        groups = []
        for packed, group in zip(saved, self.param_groups, strict=True):
            own.update(zip(packed["params"], group["params"], strict=True))
            options = {name: copy.deepcopy(value) for name, value in packed.items() if name != "params"}
            groups.append({"params": group["params"], **options})
        state: defaultdict[Any, Any] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in own:
                state[own[key]] = {name: _fitted(own[key], name, v) for name, v in value.items()}
            else:
                state[key] = copy.deepcopy(value)
        self.__setstate__({"state": state, "param_groups": groups})
        for hook in tuple(self._optimizer_load_state_dict_post_hooks.values()):
            hook(self)

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` before every step; it may return new args and kwargs."""
        self._step_hooks = True
        return register(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` after every step."""
        self._step_hooks = True
        return register(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(
        self, hook: Callable[[Any], None], prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(optimizer)` before `state_dict` collects the state."""
        return register(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(optimizer, state_dict)` on what `state_dict` returns; it may return another."""
        return register(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(optimizer, state_dict)` before loading; it may return another state."""
        return register(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(
        self, hook: Callable[[Any], None], prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(optimizer)` after loading."""
        return register(self._optimizer_load_state_dict_post_hooks, hook, prepend)


def _step_tensors(state: defaultdict[Any, Any]) -> None:
    """Makes tensors of step counts that older checkpoints hold as numbers."""
    for own in state.values():
        if isinstance(own, dict) and "step" in own and not isinstance(own["step"], Tensor):
            own["step"] = tensor(float(own["step"]), dtype=float32)


def _fitted(parameter: Tensor, name: str, value: Any) -> Any:
    """Copies a piece of loaded state, in the parameter's dtype unless it counts steps."""
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    if name == "step" or not parameter.is_floating_point():
        return value.detach().clone()
    return value.detach().to(parameter.dtype).clone()


def _check_number(ok: bool | Tensor, name: str, value: Any) -> None:
    if not ok:
        limits = "at least 0 and below 1" if name.startswith("beta") else "0 or more"
        raise ValueError(f"Invalid {name}: {value}; it must be {limits}")


def _check_options(lr: Any, foreach: bool | None, fused: bool | None) -> None:
    """Refuses a learning rate of several elements, and two implementations at once."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if foreach and fused:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def _check_unsupported(optimizer: str, **options: bool) -> None:
    """Refuses options that cannot be honoured, so that they are not silently ignored."""
    for name, value in options.items():
        if value:
            raise NotImplementedError(f"{optimizer}: {name}=True is not supported; leave it False")

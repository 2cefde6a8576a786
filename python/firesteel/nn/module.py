"""`Module`, the base of all layers and models: registration, calling, traversal, conversion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

from firesteel._core import Tensor, empty_like, float32
from firesteel._tensor import clear_gradient
from firesteel._types import device as _device
from firesteel.autograd.grad_mode import no_grad

from .hooked import Hooked
from .parameter import Buffer, Parameter
from .register import Register
from .state_dict import StateDict

_DType = type(float32)
_REGISTERS = ("_parameters", "_buffers", "_modules")
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def _type_name(value: Any) -> str:
    cls = type(value)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")


def _check_device(device: Any) -> None:
    if device is not None:
        _device(device)


def _convert(parameter: Parameter, fn: Callable[[Tensor], Tensor]) -> None:
    """Replaces a parameter's value and gradient by `fn` of them; what `fn` returns unchanged stays."""
    with no_grad():
        old = parameter.data
        new = fn(old)
        if new is not old:
            gradient = parameter.grad
            if gradient is not None:
                gradient = fn(gradient).requires_grad_(gradient.requires_grad)
            parameter.grad = None  # it must fit the value at any time
            parameter.data = new
            parameter.grad = gradient


def _forward_unimplemented(self: Module, *args: Any) -> Any:
    """Computes the module's output; every subclass defines it."""
    raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')


class Module(Hooked, StateDict):
    """The base class of all layers and models.

    Parameters, buffers and modules assigned as attributes are registered, so that `parameters()`,
    `state_dict()`, `to()` and the like find them. Subclasses call `super().__init__()` first and define
    `forward`; users call the module itself.

    Example:
        >>> import firesteel as torch
        >>> class Net(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(2, 1)
        ...     def forward(self, x):
        ...         return self.layer(x).relu()
        >>> Net()
        Net(
          (layer): Linear(in_features=2, out_features=1, bias=True)
        )
        >>> Net()(torch.ones(3, 2)).shape
        torch.Size([3, 1])
    """

    training: bool

    def __init__(self) -> None:
        own = self.__dict__
        own["training"] = True
        for field in _REGISTERS:
            own[field] = Register(self)
        own["_non_persistent_buffers_set"] = set()
        for field in _HOOKS:
            own[field] = {}

    forward: Callable[..., Any] = _forward_unimplemented

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks:
            return self._call_with_hooks(args, kwargs)
        return self.forward(*args, **kwargs)

    # -- registration ------------------------------------------------------------------------------------

    def _check_name(self, kind: str, name: str, entries: Register) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {_type_name(name)}")
        if "." in name:
            raise KeyError(
                f'{kind} name can\'t contain ".", got: {name}'
                if kind == "module"
                else f'{kind} name can\'t contain "."'
            )
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if hasattr(self, name) and name not in entries:
            raise KeyError(f"attribute '{name}' already exists")

    def _registered(self, field: str, kind: str) -> Register:
        entries: Register | None = self.__dict__.get(field)
        if entries is None:
            raise AttributeError(
                f"cannot assign {kind} before Module.__init__() call; begin __init__ with super().__init__()"
            )
        return entries

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter under `name`; None keeps the name free of a value, and out of `state_dict`."""
        parameters = self._registered("_parameters", "parameter")
        self._check_name("parameter", name, parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{_type_name(param)}' object to parameter '{name}' "
                "(firesteel.nn.Parameter or None required); use register_buffer for what is not trained"
            )
        if param is not None and param.grad_fn is not None:
            raise ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created "
                f"explicitly. To express '{name}' as a function of another Tensor, compute the value in "
                "the forward() method."
            )
        parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that is state but not trained; only persistent ones are in `state_dict`."""
        buffers = self._registered("_buffers", "buffer")
        self._check_name("buffer", name, buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{_type_name(tensor)}' object to buffer '{name}' "
                "(firesteel.Tensor or None required); make it one with torch.tensor(..)"
            )
        buffers[name] = tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(
            name
        )

    def register_module(self, name: str, module: Module | None) -> None:
        """Adds a child module under `name`."""
        modules = self._registered("_modules", "module")
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{_type_name(module)} is not a Module subclass; give an instance of one")
        self._check_name("module", name, modules)
        modules[name] = module

    add_module = register_module

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self._registered("_parameters", "parameters")
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module | Buffer) and name in self.__dict__.get("_parameters", ()):
            self._replace_registered(name, value)  # refuses: a parameter would vanish unseen
        elif isinstance(value, Module):
            modules = self._registered("_modules", "module")
            self._forget(name, "_modules")
            modules[name] = value
        elif isinstance(value, Buffer):
            self._registered("_buffers", "buffer")
            if name in self.__dict__["_modules"]:
                self._replace_registered(name, value)  # refuses, likewise
            self._forget(name, "_buffers")
            self.register_buffer(name, value, value.persistent)
        elif not self._replace_registered(name, value):
            object.__setattr__(self, name, value)

    def _forget(self, name: str, keep: str) -> None:
        """Removes what `name` stood for, unless it is registered in `keep`, where it will be replaced."""
        own = self.__dict__
        if name in own[keep]:
            return
        for field in _REGISTERS:
            if name in own[field]:
                del own[field][name]
        self._non_persistent_buffers_set.discard(name)
        own.pop(name, None)

    def _replace_registered(self, name: str, value: Any) -> bool:
        """Stores a plain value under a registered name, if it is one and may hold the value."""
        own = self.__dict__
        if name in own.get("_parameters", ()):
            if value is not None:
                raise TypeError(
                    f"cannot assign '{_type_name(value)}' as parameter '{name}' "
                    "(firesteel.nn.Parameter or None expected); wrap it in one, or write into the present one"
                )
            own["_parameters"][name] = None
        elif name in own.get("_modules", ()):
            if value is not None:
                raise TypeError(
                    f"cannot assign '{_type_name(value)}' as child module '{name}' "
                    "(firesteel.nn.Module or None expected); delete it first to use the name otherwise"
                )
            own["_modules"][name] = None
        elif name in own.get("_buffers", ()):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"cannot assign '{_type_name(value)}' as buffer '{name}' "
                    "(firesteel.Tensor, firesteel.nn.Buffer or None expected); make it a tensor"
                )
            own["_buffers"][name] = value
        else:
            return False
        return True

    def __getattr__(self, name: str) -> Any:
        # Registered names are plain attributes (see Register), so only unknown names come here.
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'", name=name, obj=self)

    def __delattr__(self, name: str) -> None:
        own = self.__dict__
        for field in _REGISTERS:
            if name in own.get(field, ()):
                del own[field][name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted(name for name in super().__dir__() if not name[:1].isdigit())

    # -- copying and pickling ----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        registered = {name for field in _REGISTERS for name in self.__dict__.get(field, ())}
        state = {name: value for name, value in self.__dict__.items() if name not in registered}
        for field in _REGISTERS:
            state[field] = dict(self.__dict__.get(field, ()))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = self.__dict__
        own.update(state)
        for field in _HOOKS:
            own.setdefault(field, {})
        own.setdefault("_non_persistent_buffers_set", set())
        for field in _REGISTERS:
            own[field] = Register(self, state.get(field))

    # -- traversal ---------------------------------------------------------------------------------------

    def _named_members(
        self, field: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
        for module_prefix, module in modules if recurse else [(prefix, self)]:
            for name, member in module.__dict__[field].items():
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield (f"{module_prefix}.{name}" if module_prefix else name), member

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yields the parameters of this module and, with `recurse`, of all below it, each once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yields dotted names and parameters; a shared parameter comes once, under its first name."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yields the buffers of this module and, with `recurse`, of all below it, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yields dotted names and buffers."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def children(self) -> Iterator[Module]:
        """Yields the modules directly below this one, each once."""
        for _, module in self.named_children():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yields names and modules directly below this one."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """Yields this module and all below it, each once."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yields dotted names and modules, this one first under the name `prefix`."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                below = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, below, remove_duplicate)

    def get_submodule(self, target: str) -> Module:
        """Returns the module with the dotted name `target`; "" is this module."""
        module: Module = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            child = getattr(module, name)
            if not isinstance(child, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
            module = child
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Puts a module in the place with the dotted name `target`.

        Args:
            target: the name; all but its last part must exist.
            module: what comes there.
            strict: whether there must be a module of that name already.
        """
        path, _, name = target.rpartition(".")
        if not name:
            raise ValueError("Cannot set the submodule without a target name!")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{type(parent).__name__} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        if not isinstance(module, Module):
            raise ValueError(f'"module" is not an nn.Module, found {_type_name(module)}')
        setattr(parent, name, module)

    def _get_member(self, target: str, field: str, what: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        if name not in module.__dict__[field]:
            raise AttributeError(f"`{name}` is not {what}")
        return module.__dict__[field][name]

    def get_parameter(self, target: str) -> Parameter:
        """Returns the parameter with the dotted name `target`."""
        parameter: Parameter = self._get_member(target, "_parameters", "an nn.Parameter")
        return parameter

    def get_buffer(self, target: str) -> Tensor:
        """Returns the buffer with the dotted name `target`."""
        buffer: Tensor = self._get_member(target, "_buffers", "a buffer")
        return buffer

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Calls `fn` on every module below this one, then on this one; returns the module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # -- modes and conversion ----------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Sets training mode, which layers such as dropout and batch norm look at; returns the module."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Sets evaluation mode; the same as `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Sets whether gradients are computed for the parameters; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters, or fills them with zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                clear_gradient(parameter)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Replaces the values of all parameters, gradients and buffers by `fn` of them.

        The parameters stay the same objects, so that ties, hooks and optimizers keep hold of them.
        """
        if recurse:
            for module in self.children():
                module._apply(fn)
        for parameter in self._parameters.values():
            if parameter is not None:
                _convert(parameter, fn)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def to(
        self,
        *args: Any,
        device: Any = None,
        dtype: Any = None,
        tensor: Tensor | None = None,
        non_blocking: bool = False,
        copy: bool = False,
        memory_format: Any = None,
    ) -> Self:
        """Converts floating-point parameters and buffers to a dtype, in place; returns the module.

        Args:
            args: device, dtype or tensor by position, in PyTorch's orders.
            device: only "cpu" exists.
            dtype: a floating-point dtype; integer buffers keep theirs.
            tensor: a tensor whose dtype is taken.
            non_blocking, copy: accepted for compatibility; without effect.
            memory_format: the order in memory of parameters and buffers of 4 (or 5) dims, such as
                `channels_last`.

        Example:
            >>> import firesteel as torch
            >>> torch.nn.Linear(2, 2).to(torch.float64).weight.dtype
            torch.float64
        """
        _check_device(device)
        for value in (*args, tensor):
            if isinstance(value, _DType):
                dtype = value
            elif isinstance(value, Tensor):
                dtype = value.dtype
            elif value is not None and not isinstance(value, bool):
                _check_device(value)
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype}")
        if memory_format is not None:
            self._apply(lambda x: x.to(memory_format=memory_format) if x.dim() in (4, 5) else x)
        return self if dtype is None else self._to_float(dtype)

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """Replaces all parameters and buffers by tensors whose values are left to chance."""
        _check_device(device)
        return self._apply(empty_like, recurse=recurse)

    def _to_float(self, dtype: Any) -> Self:
        return self._apply(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)

    def type(self, dst_type: Any) -> Self:
        """Converts all parameters and buffers to the dtype, whatever theirs is."""
        return self._apply(lambda tensor: tensor.type(dst_type))

    def float(self) -> Self:
        """Converts floating-point parameters and buffers to float32."""
        return self._apply(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)

    def double(self) -> Self:
        """Converts floating-point parameters and buffers to float64."""
        return self._apply(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)

    def half(self) -> Self:
        """Converts floating-point parameters and buffers to float16."""
        return self._apply(lambda tensor: tensor.half() if tensor.is_floating_point() else tensor)

    def bfloat16(self) -> Self:
        """Converts floating-point parameters and buffers to bfloat16."""
        return self._apply(lambda tensor: tensor.bfloat16() if tensor.is_floating_point() else tensor)

    def cpu(self) -> Self:
        """Returns the module; its tensors are always in main memory."""
        return self

    def cuda(self, device: Any = None) -> Self:
        """Raises a `DeviceError`: tensors are always in main memory."""
        return self.to("cuda" if device is None else f"cuda:{device}")

    # -- printing ----------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """Returns what is printed between the parentheses; layers override it."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {_indented(repr(module))}" for name, module in self._modules.items()]
        if not children:
            lines = extra.split("\n") if extra else []
            body = extra if len(lines) <= 1 else "\n  " + "\n  ".join(lines) + "\n"
        else:
            body = "\n  " + "\n  ".join((extra.split("\n") if extra else []) + children) + "\n"
        return f"{self._get_name()}({body})"

"""Whether operations are recorded: context managers that also decorate functions."""

from __future__ import annotations

import functools

from firesteel import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, Self, TypeVar, cast, overload

    _F = TypeVar("_F", bound=Callable[..., Any])
else:

    def cast(_type, value):
        """What `typing.cast` does."""
        return value


# What `inspect.CO_GENERATOR` is: importing inspect would slow down every start.
_GENERATOR = 0x20


def _code(function: Any) -> Any:
    """The code of a function of Python, also of one with arguments filled in; else None."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__code__", None)


class _Mode:
    """A grad mode for a `with` block or, as a decorator, for every call of a function."""

    enabled: bool

    def __enter__(self) -> None:
        self._previous = _core._swap_grad_enabled(self.enabled)

    def __exit__(self, *exc: object) -> None:
        _core._swap_grad_enabled(self._previous)

    def clone(self) -> _Mode:
        """Another mode of the same kind, for another block."""
        return self.__class__()

    def __call__(self, function: _F) -> _F:
        if isinstance(function, type):
            return cast("_F", self._around_constructor(function))
        code = _code(function)
        if code is not None and code.co_flags & _GENERATOR:
            return cast("_F", self._around_generator(function))

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                return function(*args, **kwargs)

        return cast("_F", wrapper)

    def _around_constructor(self, cls: type) -> type:
        """Sets the mode while objects are made, as PyTorch does, and not in their methods."""
        import warnings

        warnings.warn(
            f"Decorating classes is deprecated: only the constructor of {cls.__name__} runs under "
            f"{type(self).__name__}; decorate __init__ or the methods themselves",
            FutureWarning,
            stacklevel=3,
        )
        cls.__init__ = self(cls.__init__)  # type: ignore[misc]
        make: Any = cls.__new__
        if make is not object.__new__:
            cls.__new__ = self(make)  # type: ignore[method-assign]
        return cls

    def _around_generator(
        self, function: Callable[..., Generator[Any, Any, Any]]
    ) -> Callable[..., Generator[Any, Any, Any]]:
        """Sets the mode whenever the generator runs; between its values the caller's mode holds."""

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with self.clone():
                generator = function(*args, **kwargs)
            resume: Callable[[Any], Any] = generator.send
            value: Any = None
            try:
                while True:
                    with self.clone():
                        result = resume(value)
                    try:
                        value = yield result
                        resume = generator.send
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        resume, value = generator.throw, error
            except StopIteration as end:
                return end.value
            finally:
                with self.clone():
                    generator.close()

        return wrapper


class _BareDecorator(_Mode):
    """Also decorates without parentheses: `@no_grad`."""

    if TYPE_CHECKING:

        @overload
        def __new__(cls, function: None = None) -> Self: ...
        @overload
        def __new__(cls, function: _F) -> _F: ...  # type: ignore[misc]  # returns no instance

    def __new__(cls, function: _F | None = None) -> Self | _F:  # type: ignore[misc]
        self = object.__new__(cls)
        return self if function is None else self(function)


class no_grad(_BareDecorator):
    """Operations are not recorded: their results need no memory for a backward pass.

    Example:
        >>> import firesteel as torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> with torch.no_grad():
        ...     y = x * 2
        >>> y.requires_grad
        False
    """

    enabled = False


class inference_mode(_Mode):
    """Operations are not recorded, and what they make is for inference alone: an inference tensor.

    Beyond `no_grad`, a graph cannot save an inference tensor for its backward pass, and outside of the mode
    it can neither be changed in place nor be asked to require a gradient. `enable_grad` inside records
    nothing. Views of other tensors are no inference tensors; a `clone()` made outside is an ordinary tensor.

    Args:
        mode: whether this is inference; `inference_mode(False)` records, also inside of another block.

    Example:
        >>> import firesteel as torch
        >>> weight = torch.ones(2, requires_grad=True)
        >>> with torch.inference_mode():
        ...     y = weight * 2
        >>> y.requires_grad, y.is_inference(), y.clone().is_inference()
        (False, True, False)
    """

    if TYPE_CHECKING:

        @overload
        def __new__(cls, mode: bool = True) -> Self: ...
        @overload
        def __new__(cls, mode: _F) -> _F: ...  # type: ignore[misc]  # returns no instance

    def __new__(cls, mode: bool | _F = True) -> Self | _F:  # type: ignore[misc]
        self = object.__new__(cls)
        if callable(mode):
            self.enabled = False
            return self(mode)
        self.enabled = not mode
        return self

    def __enter__(self) -> None:
        self._previous_modes = _core._swap_modes(self.enabled, not self.enabled)

    def __exit__(self, *exc: object) -> None:
        _core._swap_modes(*self._previous_modes)

    def clone(self) -> _Mode:
        return inference_mode(not self.enabled)


class enable_grad(_BareDecorator):
    """Operations are recorded, also inside a `no_grad` block.

    Example:
        >>> import firesteel as torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> with torch.no_grad(), torch.enable_grad():
        ...     y = x * 2
        >>> y.requires_grad
        True
    """

    enabled = True


class set_grad_enabled(_Mode):
    """Recording on or off: at once as a function, until the block's end as a context manager.

    Args:
        mode: whether operations are recorded.

    Example:
        >>> import firesteel as torch
        >>> with torch.set_grad_enabled(False):
        ...     torch.is_grad_enabled()
        False
    """

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError(
                f"set_grad_enabled(): argument 'mode' must be bool, not {type(mode).__name__}; use True or "
                "False"
            )
        self.enabled = mode
        self._previous = _core._swap_grad_enabled(self.enabled)

    def __enter__(self) -> None:
        _core._swap_grad_enabled(self.enabled)

    def clone(self) -> _Mode:
        return set_grad_enabled(self.enabled)

    def __call__(self, function: _F) -> _F:
        _core._swap_grad_enabled(self._previous)  # as a decorator it changes only the calls
        return super().__call__(function)

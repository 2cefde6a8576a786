"""Operations whose forward and gradient rule are written in Python: `Function`."""

from __future__ import annotations

import contextlib
import functools
import threading

from firesteel import _core
from firesteel.autograd.grad_mode import no_grad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from firesteel import Tensor

__all__ = ["Function", "FunctionCtx", "once_differentiable"]


def _first_other(values: tuple[Any, ...], *types: type) -> str | None:
    """Which of the values is of none of these types, for an error; None if all are fine."""
    for index, value in enumerate(values):
        if not isinstance(value, types):
            return f"argument {index} is of type {type(value).__name__}"
    return None


class _Transposed(threading.local):
    """Whether the backward pass of this thread is one that `jvp` will transpose."""

    is_on = False


_transposed = _Transposed()


@contextlib.contextmanager
def rules_are_transposed() -> Iterator[None]:
    """A block with a backward pass that is to be differentiated by its gradients."""
    previous, _transposed.is_on = _transposed.is_on, True
    try:
        yield
    finally:
        _transposed.is_on = previous


class FunctionCtx(_core._FunctionContext):
    """What a `Function` hands from its forward to its backward: the `ctx` of both.

    Any attribute may be set. Tensors that are inputs or outputs belong into `save_for_backward`: an output as
    an attribute would keep its own graph alive.

    Example:
        >>> import firesteel as torch
        >>> class Scale(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x, factor):
        ...         ctx.factor = factor
        ...         return x * factor
        ...
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         print(ctx.needs_input_grad)
        ...         return grad * ctx.factor, None
        >>> x = torch.ones(2, requires_grad=True)
        >>> Scale.apply(x, 3.0).sum().backward()
        (True, False)
        >>> x.grad
        tensor([3., 3.])
    """

    to_save: tuple[Tensor | None, ...] = ()
    dirty_tensors: tuple[Tensor, ...] = ()
    non_differentiable: tuple[Tensor, ...] = ()
    materialize_grads: bool = True
    _function: type[Function]
    needs_input_grad: tuple[bool, ...] = ()
    """For each argument of `forward`, whether its gradient is wanted."""

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors until backward has run; there `ctx.saved_tensors` gives them back with their history.

        To be called once, in `forward` or `setup_context`.

        Args:
            tensors: inputs, outputs or intermediate results of the function, or None.

        Raises:
            TypeError: if something else is given.

        Example:
            >>> import firesteel as torch
            >>> class Exp(torch.autograd.Function):
            ...     @staticmethod
            ...     def forward(ctx, x):
            ...         y = x.exp()
            ...         ctx.save_for_backward(y)
            ...         return y
            ...
            ...     @staticmethod
            ...     def backward(ctx, grad):
            ...         (y,) = ctx.saved_tensors
            ...         return grad * y
            >>> x = torch.zeros(2, requires_grad=True)
            >>> torch.autograd.grad(Exp.apply(x).sum(), x)
            (tensor([1., 1.]),)
        """
        refused = _first_other(tensors, _core.Tensor, type(None))
        if refused:
            raise TypeError(
                f"save_for_backward can only save variables, but {refused}; keep other values as "
                "attributes of ctx"
            )
        self.to_save = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Accepted for PyTorch's `jvp`, which is not called here: products with a Jacobian run `backward`.

        Raises:
            AssertionError: if something else than a tensor or None is given.
        """
        refused = _first_other(tensors, _core.Tensor, type(None))
        if refused:
            raise AssertionError(
                "save_for_forward expects all arguments to be tensors; you should save non-tensors as "
                f"attributes on ctx: {refused}"
            )

    def mark_dirty(self, *args: Tensor) -> None:
        """Names the inputs that `forward` has changed in place; they must be returned, too.

        Raises:
            RuntimeError: if something else than a tensor is given.

        Example:
            >>> import firesteel as torch
            >>> class Double(torch.autograd.Function):
            ...     @staticmethod
            ...     def forward(ctx, x):
            ...         x.mul_(2)
            ...         ctx.mark_dirty(x)
            ...         return x
            ...
            ...     @staticmethod
            ...     def backward(ctx, grad):
            ...         return grad * 2
            >>> x = torch.ones(2, requires_grad=True).clone()
            >>> Double.apply(x) is x
            True
            >>> x
            tensor([2., 2.], grad_fn=<DoubleBackward>)
        """
        refused = _first_other(args, _core.Tensor)
        if refused:
            raise RuntimeError(
                f"mark_dirty can only accept variables, but {refused}; name the inputs that were changed in "
                "place"
            )
        self.dirty_tensors = args

    def mark_non_differentiable(self, *args: Tensor) -> None:
        """Names the outputs through which no gradient flows. Outputs of integers are that anyway.

        Raises:
            RuntimeError: if something else than a tensor is given.

        Example:
            >>> import firesteel as torch
            >>> class Clip(torch.autograd.Function):
            ...     @staticmethod
            ...     def forward(ctx, x):
            ...         inside = (x < 1).float()
            ...         ctx.mark_non_differentiable(inside)
            ...         ctx.save_for_backward(inside)
            ...         return x.clamp(max=1), inside
            ...
            ...     @staticmethod
            ...     def backward(ctx, grad, _):
            ...         return grad * ctx.saved_tensors[0]
            >>> y, inside = Clip.apply(torch.tensor([0.5, 2.0], requires_grad=True))
            >>> y.requires_grad, inside.requires_grad
            (True, False)
        """
        refused = _first_other(args, _core.Tensor)
        if refused:
            raise RuntimeError(
                f"mark_non_differentiable only accepts variable arguments, but {refused}; name outputs of "
                "the function"
            )
        self.non_differentiable = args

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (the default) or None for outputs that no gradient has reached.

        Raises:
            TypeError: for anything but a bool.

        Example:
            >>> import firesteel as torch
            >>> class Both(torch.autograd.Function):
            ...     @staticmethod
            ...     def forward(ctx, x):
            ...         ctx.set_materialize_grads(False)
            ...         return x + 1, x + 2
            ...
            ...     @staticmethod
            ...     def backward(ctx, first, second):
            ...         print(first, second)
            ...         return first
            >>> one, two = Both.apply(torch.zeros(2, requires_grad=True))
            >>> one.sum().backward()
            tensor([1., 1.]) None
        """
        if not isinstance(value, bool):
            raise TypeError(
                f"set_materialize_grads: expected a bool, not {type(value).__name__}; use True or False"
            )
        self.materialize_grads = value

    def _rule(self, *grads: Tensor | None) -> Any:
        """What the engine calls: the rule of the function that this context belongs to."""
        result = self._gradients(grads)
        if _transposed.is_on and any(x is not None and x.requires_grad for x in grads):
            self._check_history(grads, result)
        return result

    def _check_history(self, grads: tuple[Tensor | None, ...], result: Any) -> None:
        """Raises if what the rule returned depends on the gradients, and has no history that says so."""

        def tensors(result: Any) -> list[Tensor]:
            values = result if isinstance(result, tuple) else (result,)
            return [x for x in values if isinstance(x, _core.Tensor)]

        if all(x.requires_grad for x in tensors(result)):
            return
        with no_grad():
            ones = self._gradients(tuple([None if x is None else _core.ones_like(x) for x in grads]))
        for value, of_ones in zip(tensors(result), tensors(ones), strict=True):
            if not value.requires_grad and bool(of_ones.any()):
                raise NotImplementedError(
                    f"{self._function.__name__}: products with a Jacobian (jvp, jacfwd, linearize) "
                    "differentiate its backward, whose result has no history; write it with tensor "
                    "operations, or use vjp or jacrev"
                )

    def _gradients(self, grads: tuple[Tensor | None, ...]) -> Any:
        function = self._function
        if function.backward is Function.backward:
            return function.vjp(self, *grads)
        if function.vjp is not Function.vjp:
            raise RuntimeError(
                f"{function.__name__}: Implementing both 'backward' and 'vjp' for a custom Function is not "
                "allowed. You should only implement one of them: they are two names of the gradient rule"
            )
        return function.backward(self, *grads)


class Function:
    """An operation of your own, with its gradient rule.

    A subclass has two static methods. `forward(ctx, *args)` computes, unrecorded; or `forward(*args)` does,
    and `setup_context(ctx, inputs, output)` saves what the rule needs. `backward(ctx, *grad_outputs)` takes
    the gradient of each output and returns one for each argument of `forward`, None where there is none.
    Written with tensor operations it can be differentiated again. The function is used by its `apply`.

    PyTorch's `jvp`, `vmap` and `generate_vmap_rule` may be defined and are not used: products with a Jacobian
    are made of backward passes, and `vmap` calls the function once per example.

    Example:
        >>> import firesteel as torch
        >>> class Cube(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x * x * x
        ...
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         (x,) = ctx.saved_tensors
        ...         return 3 * x * x * grad
        >>> x = torch.tensor(2.0, requires_grad=True)
        >>> y = Cube.apply(x)
        >>> y
        tensor(8., grad_fn=<CubeBackward>)
        >>> y.backward()
        >>> x.grad
        tensor(12.)
    """

    generate_vmap_rule = False
    _context_class: type[FunctionCtx]
    _parameters: int
    """How many arguments `forward` takes by position."""
    _keyword_only: tuple[str, ...]
    """The names of those that it takes by keyword only."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._context_class = type(f"{cls.__name__}Backward", (FunctionCtx,), {"_function": cls})
        code = getattr(cls.forward, "__code__", None)
        cls._parameters = count = 0 if code is None else code.co_argcount
        cls._keyword_only = () if code is None else code.co_varnames[count : count + code.co_kwonlyargcount]

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise RuntimeError(
            f"{type(self).__name__}: an autograd.Function is not made into an object, but called by "
            f"{type(self).__name__}.apply(...)"
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Computes the result; to be defined by the subclass.

        Args:
            args: `ctx` and the arguments of `apply`; without `ctx` if there is a `setup_context`.

        Returns:
            A tensor, or a tuple that may also hold other objects.
        """
        raise NotImplementedError(
            "You must implement the forward function for custom autograd.Function. Define the static method "
            "forward(ctx, ...), or forward(...) and setup_context(ctx, inputs, output)"
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Saves what `backward` needs, where `forward` takes no `ctx`.

        Args:
            inputs: the arguments of `apply`.
            output: what `forward` returned.
        """
        raise NotImplementedError(
            "setup_context is not implemented. Define the static method setup_context(ctx, inputs, output), "
            "or let forward take ctx"
        )

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Gradients of the arguments from those of the outputs; to be defined by the subclass."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use "
            "it with backward mode AD. Define the static method backward(ctx, *grad_outputs), or call the "
            "function under `with no_grad():`"
        )

    # PyTorch's other name of it.
    vjp = backward

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """PyTorch's rule of forward mode; nothing calls it here."""
        raise NotImplementedError(
            "You must implement the jvp function for custom autograd.Function to use it with forward mode AD."
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        """PyTorch's rule for batches; nothing calls it here."""
        raise NotImplementedError(
            "To use autograd.Function with vmap, you must either override the vmap staticmethod or set "
            "generate_vmap_rule=True."
        )

    @classmethod
    def _by_position(
        cls, args: tuple[Any, ...], kwargs: dict[str, Any], has_setup: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, those given by keyword in their places, where gradients reach them."""
        import inspect

        ctx = () if has_setup else (None,)
        try:
            bound = inspect.signature(cls.forward).bind(*ctx, *args, **kwargs)
        except TypeError:
            return args, kwargs  # the call will say it better
        if has_setup or bound.kwargs:
            bound.apply_defaults()
        for name, value in bound.kwargs.items():
            if isinstance(value, _core.Tensor) and value.requires_grad:
                raise TypeError(
                    f"{cls.__name__}: forward() takes {name!r} by keyword only, where no gradient reaches "
                    "it; make it a positional argument, or detach the tensor"
                )
        return bound.args[len(ctx) :], bound.kwargs

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Runs `forward` and records the operation.

        Args:
            args: the arguments of `forward`; gradients flow to those that are tensors. They may be given by
                keyword.

        Returns:
            What `forward` returned.

        Raises:
            NotImplementedError: without a `forward`.
            RuntimeError: if what the context marks does not fit what was given and returned.

        Example:
            >>> import firesteel as torch
            >>> class Sign(torch.autograd.Function):
            ...     @staticmethod
            ...     def forward(ctx, x):
            ...         return x.sign()
            ...
            ...     @staticmethod
            ...     def backward(ctx, grad):
            ...         return grad  # straight through
            >>> Sign.apply(torch.tensor([-2.0, 3.0], requires_grad=True))
            tensor([-1.,  1.], grad_fn=<SignBackward>)
        """
        has_setup = cls.setup_context is not Function.setup_context
        if has_setup and cls._keyword_only:
            raise TypeError(
                f"{cls.__name__}: forward() takes {cls._keyword_only[0]!r} by keyword only, where "
                "setup_context does not see it; make it a positional argument"
            )
        if kwargs or (has_setup and len(args) < cls._parameters):
            args, kwargs = cls._by_position(args, kwargs, has_setup)
        ctx = cls._context_class()
        # Of a list: `gc.get_objects` in another thread would find a tuple half built.
        ctx.needs_input_grad = tuple([isinstance(x, _core.Tensor) and x.requires_grad for x in args])
        previous = _core._swap_grad_enabled(False)
        try:
            if has_setup:
                result = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args, **kwargs)
        finally:
            _core._swap_grad_enabled(previous)
        outputs = result if isinstance(result, tuple) else (result,)
        name = cls._context_class.__name__
        recorded = _core._record_function(ctx, name, args, outputs)
        return recorded if isinstance(result, tuple) else recorded[0]


class _Twice(Function):
    """Passes values on, and refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, count: int, *values: Any) -> Any:
        # Inputs as they are would be views of them, which may not be written to. The first ones are what the
        # others were computed from: whoever asks for a derivative by them comes here, too.
        return tuple([x.detach() if isinstance(x, _core.Tensor) else x for x in values[count:]])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "trying to differentiate twice a function that was marked with @once_differentiable; remove the "
            "mark and write its backward with tensor operations"
        )


def once_differentiable(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a `backward` that cannot be differentiated again: it runs unrecorded, and doing so raises.

    Args:
        fn: the static method `backward` of a `Function`.

    Raises:
        RuntimeError: when its gradients are differentiated.

    Example:
        >>> import firesteel as torch
        >>> class Square(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x * x
        ...
        ...     @staticmethod
        ...     @torch.autograd.function.once_differentiable
        ...     def backward(ctx, grad):
        ...         (x,) = ctx.saved_tensors
        ...         return 2 * x * grad
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> (g,) = torch.autograd.grad(Square.apply(x).exp(), x, create_graph=True)
        >>> g.backward()
        Traceback (most recent call last):
        RuntimeError: trying to differentiate twice a function that was marked with @once_differentiable; ...
    """

    @functools.wraps(fn)
    def wrapper(ctx: Any, *args: Any) -> Any:
        with no_grad():
            result = fn(ctx, *args)
        given = [x for x in args if isinstance(x, _core.Tensor) and x.requires_grad]
        if not _core.is_grad_enabled() or not given:
            return result
        grads = result if isinstance(result, tuple) else (result,)
        grads = _Twice.apply(len(given), *given, *grads)
        return grads if isinstance(result, tuple) else grads[0]

    return wrapper

"""Which arguments of a function are differentiated, and what it must return."""

from __future__ import annotations

from typing import Any

from firesteel._core import Tensor

ArgNums = int | tuple[int, ...]

ALL: Any = object()
"""In the place of argnums: every argument."""

_COUNTING = "argnums count the positional arguments to differentiate, from 0: argnums=0, argnums=(0, 1)"


def _position(argnum: int, count: int) -> int:
    if not isinstance(argnum, int):
        raise RuntimeError(f"argnum must be int, got: {type(argnum)}; {_COUNTING}")
    if not -count <= argnum < count:
        raise RuntimeError(f"Got argnum={argnum}, but only {count} positional inputs; {_COUNTING}")
    return argnum % count


def positions(argnums: ArgNums, count: int) -> list[int]:
    """The places, from 0, of the arguments that are differentiated.

    Raises:
        RuntimeError: for anything but an int or a tuple of different ints, each below `count`.
    """
    if isinstance(argnums, int):
        return [_position(argnums, count)]
    if not isinstance(argnums, tuple):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}; {_COUNTING}")
    places = [_position(argnum, count) for argnum in argnums]
    if not places:
        raise RuntimeError(f"argnums must be non-empty, got (); {_COUNTING}")
    if len(set(places)) != len(places):
        raise RuntimeError(f"argnums elements must be unique, got {tuple(places)}; name each argument once")
    return places


def selected(args: tuple[Any, ...], argnums: ArgNums) -> Any:
    """The arguments of those numbers: one for an int, a tuple for a tuple or `ALL`."""
    if argnums is ALL:
        return args
    places = positions(argnums, len(args))
    return args[places[0]] if isinstance(argnums, int) else tuple(args[i] for i in places)


def replaced(args: tuple[Any, ...], argnums: ArgNums, new: Any) -> tuple[Any, ...]:
    """The arguments, those of the given numbers replaced by `new`, which is as `selected` returns them."""
    if argnums is ALL:
        return tuple(new)
    changed = list(args)
    places = positions(argnums, len(args))
    for place, value in zip(places, (new,) if isinstance(argnums, int) else new, strict=True):
        changed[place] = value
    return tuple(changed)


def split_aux(result: Any, has_aux: bool, api: str) -> tuple[Any, Any]:
    """A function's output, and what it returned beside."""
    if not has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RuntimeError(
            f"{api}: output of function f should be a tuple: (output, aux) if has_aux is True, not "
            f"{type(result).__name__}; return both, or leave has_aux out"
        )
    return result


def expect_tensor_outputs(outputs: list[Any], api: str) -> None:
    """Raises a RuntimeError unless the flat outputs of a function are tensors, at least one."""
    if not outputs or (len(outputs) == 1 and outputs[0] is None):
        raise RuntimeError(
            f"{api}: Expected f to be a function that has non-empty output (got output = {outputs}); return "
            "a tensor, or a tree of them"
        )
    for output in outputs:
        if not isinstance(output, Tensor):
            raise RuntimeError(
                f"{api}: expected f(*primals) to return only tensors, got unsupported type {type(output)}; "
                "return what is no tensor beside them, with has_aux=True"
            )

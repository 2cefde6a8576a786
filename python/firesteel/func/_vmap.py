"""`vmap`: a function of one example, applied to a batch of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from firesteel import _core, _mapping
from firesteel._core import Tensor, get_rng_state, set_rng_state, stack
from firesteel._tensor import allclose, equal
from firesteel.utils._pytree import TreeSpec, broadcast_prefix, tree_flatten, tree_leaves, tree_unflatten

InDims = int | tuple[Any, ...]
OutDims = int | None | tuple[Any, ...] | list[Any] | dict[Any, Any]


def _name(func: Callable[..., Any]) -> str:
    if isinstance(func, functools.partial):
        return f"functools.partial({_name(func.func)}, ...)"
    return getattr(func, "__name__", None) or repr(func)


class Draws:
    """What random draws of the default generator mean while a function runs once per example.

    Args:
        randomness: "error", "different" or "same".
    """

    def __init__(self, randomness: str) -> None:
        if randomness not in ("error", "different", "same"):
            raise RuntimeError(
                "Only allowed values for randomness are 'error', 'different', or 'same'. Got "
                f"{randomness!r}; pass one of them"
            )
        self._randomness = randomness
        self._before = None if randomness == "different" else get_rng_state()

    def next_example(self) -> None:
        """Lets an example draw what the first one drew, if all are to draw the same."""
        if self._randomness == "same" and self._before is not None:
            set_rng_state(self._before)

    def check(self) -> None:
        """Raises if there were draws and there must be none; they are undone."""
        if self._randomness != "error" or self._before is None:
            return
        if not equal(get_rng_state(), self._before):
            set_rng_state(self._before)
            raise RuntimeError(
                "vmap: called random operation while in randomness error mode. Please either use the "
                "'same' or 'different' randomness flags on vmap or perform the randomness operation out of "
                "vmap"
            )


def _batched_inputs(
    func: Callable[..., Any], in_dims: InDims, args: tuple[Any, ...]
) -> tuple[int, list[int | None], list[Any], TreeSpec]:
    """The batch's size, and for each leaf of the arguments the dimension that is mapped over."""
    name = _name(func)
    call = f"vmap({name}, in_dims={in_dims}, ...)(<inputs>)"
    if not isinstance(in_dims, int | tuple):
        raise ValueError(
            f"{call}: expected `in_dims` to be int or a (potentially nested) tuple matching the structure "
            f"of inputs, got: {type(in_dims)}; None stands for an argument that all examples share: "
            "in_dims=(0, None)"
        )
    if not args:
        raise ValueError(
            f"vmap({name})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to "
            "vmap over a function with no inputs. The latter is unsupported."
        )
    flat, spec = tree_flatten(args)
    dims = broadcast_prefix(in_dims, spec)
    if dims is None:
        raise ValueError(
            f"{call}: in_dims is not compatible with the structure of `inputs`. in_dims has structure "
            f"{tree_flatten(in_dims)[1]} but inputs has structure {spec}; give an int or None for each "
            "argument"
        )
    for i, (arg, dim) in enumerate(zip(flat, dims, strict=True)):
        if dim is None:
            continue
        if not isinstance(dim, int):
            raise ValueError(
                f"{call}: Got in_dim={dim} for an input but in_dim must be either an integer dimension or "
                "None; use None for an argument that all examples share"
            )
        if not isinstance(arg, Tensor):
            raise ValueError(
                f"{call}: Got in_dim={dim} for an input but the input is of type {type(arg)}. We cannot "
                "vmap over non-Tensor arguments, please use None as the respective in_dim"
            )
        if not -arg.ndim <= dim < arg.ndim:
            raise ValueError(
                f"{call}: Got in_dim={dim} for some input, but that input is a Tensor of dimensionality "
                f"{arg.ndim} so expected in_dim to satisfy -{arg.ndim} <= in_dim < {arg.ndim}; its shape is "
                f"{tuple(arg.shape)}; use a dim of it, or None if all examples share it"
            )
        dims[i] = dim % arg.ndim
    sizes = [arg.size(dim) for arg, dim in zip(flat, dims, strict=True) if dim is not None]
    if not sizes:
        raise ValueError(
            f"vmap: Expected at least one Tensor to vmap over, but in_dims={in_dims} has None for all; give "
            "the dim of the examples, or call the function without vmap"
        )
    if any(size != sizes[0] for size in sizes):
        raise ValueError(
            "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
            f"{sizes} for the mapped dimension; pass None in in_dims for what all examples share"
        )
    return sizes[0], dims, flat, spec


def _examples(tensor: Tensor, dim: int, size: int) -> Sequence[Tensor]:
    """The slices of a tensor; one of zeros stands for an empty batch, to learn the outputs' shapes."""
    if size == 0:
        return [tensor.new_zeros([n for i, n in enumerate(tensor.shape) if i != dim])]
    if tensor.requires_grad and _core.is_grad_enabled():
        return tensor.unbind(dim)  # one node for all: a backward pass through n selects takes n * n
    return [tensor.select(dim, i) for i in range(size)]


def _out_dims(func: Callable[..., Any], out_dims: OutDims, outputs: Any, spec: TreeSpec) -> list[Any]:
    """For each leaf of the outputs the dimension where the batch goes."""
    if isinstance(outputs, Tensor) and isinstance(out_dims, tuple) and len(out_dims) == 1:
        return list(out_dims)
    dims = broadcast_prefix(out_dims, spec)
    if dims is None:
        raise ValueError(
            f"vmap({_name(func)}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the "
            f"structure of `outputs`. out_dims has structure {tree_flatten(out_dims)[1]} but outputs has "
            f"structure {spec}; give an int or None for each output"
        )
    return dims


def _same(first: Any, other: Any) -> bool:
    if first is other or not isinstance(first, Tensor):
        return first is other or bool(first == other)
    if not isinstance(other, Tensor) or first.shape != other.shape or first.dtype != other.dtype:
        return False
    return allclose(first, other, rtol=0.0, atol=0.0, equal_nan=True)


class _Shared:
    """The arguments that all examples see, which none may change: it would be changed once per example."""

    def __init__(self, func: Callable[..., Any], tensors: list[Tensor]) -> None:
        self._func = func
        # Tensors of inference mode do not count the writes to them.
        self._tensors = [x for x in tensors if not x.is_inference()]
        self._versions = [x._version for x in self._tensors]

    def check(self) -> None:
        """Raises if an example has changed one."""
        if [x._version for x in self._tensors] != self._versions:
            name = _name(self._func)
            raise RuntimeError(
                f"vmap({name}, ...): `{name}` changed an argument in place that has no in_dim, and would do "
                "so for each example; copy it, or give each example its own"
            )


def _joined(func: Callable[..., Any], column: list[Any], dim: int | None, size: int) -> Any:
    """One leaf of the output from its values for all examples."""
    name = _name(func)
    first = column[0]
    if dim is None:
        if not all(_same(first, other) for other in column):
            raise ValueError(
                f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None: the "
                "examples give different results; give the dim where they go"
            )
        return first
    if not isinstance(first, Tensor):
        raise ValueError(
            f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(first)}. Did you mean to "
            "set out_dims= to None for output?"
        )
    whole = stack(column, dim)
    return whole if size else whole.narrow(dim, 0, 0)


def _check_out_dims(func: Callable[..., Any], out_dims: OutDims) -> None:
    for dim in tree_leaves(out_dims):
        if not (dim is None or isinstance(dim, int)):
            raise ValueError(
                f"vmap({_name(func)}, ..., out_dims={out_dims}): `out_dims` must be an int, None or a "
                "python collection of ints representing where in the outputs the vmapped dimension "
                "should appear; use None for what does not depend on the example"
            )


def _stacked(func: Callable[..., Any], outputs: list[Any], out_dims: OutDims, size: int) -> Any:
    """The outputs for all examples, which must have one structure, as one batch."""
    leaves, spec = tree_flatten(outputs[0])
    columns = [[leaf] for leaf in leaves]
    for i, output in enumerate(outputs[1:], 1):
        leaves, found = tree_flatten(output)
        if found != spec:
            raise ValueError(
                f"vmap({_name(func)}, ...): `{_name(func)}` returned {spec} for the first example and "
                f"{found} for example {i}; all must have the same structure"
            )
        for column, leaf in zip(columns, leaves, strict=True):
            column.append(leaf)
    places = _out_dims(func, out_dims, outputs[0], spec)
    return tree_unflatten(
        [_joined(func, column, dim, size) for column, dim in zip(columns, places, strict=True)], spec
    )


def vmap(
    func: Callable[..., Any],
    in_dims: InDims = 0,
    out_dims: OutDims = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that applies `func` to each example of a batch and stacks the results.

    It maps by running `func` once per example, so that it works for every operation, and costs as much; write
    batched operations where speed matters. Examples are slices of the arguments: gradients flow through them,
    and `.item()` and conditions on values work. What `func` overwrites must be no leaf that requires grad,
    nor an argument that all examples share. A tensor that it found outside is overwritten once per example;
    batch norms refuse to update running statistics that the examples share.

    Args:
        func: takes one example; returns tensors in any tree.
        in_dims: the dimension of the examples for each positional argument, None for what all share: an int
            for all, or a tuple as the arguments, in which an int stands for all tensors of a tree.
        out_dims: where the examples go in each result; None for what does not depend on the example.
        randomness: what draws from the default generator do in `func`: "error" raises, "different" draws
            anew for each example, "same" gives all the same numbers. Own generators always draw anew.
        chunk_size: accepted for compatibility; the examples run one by one.

    Returns:
        A function of batches. Keyword arguments are shared by all examples.

    Raises:
        ValueError: for dimensions that do not fit the arguments or outputs, or batches of different sizes.
        RuntimeError: for random draws with "error", or if `func` overwrites an argument that all share, or
            trains a batch norm with running statistics that all share.

    Example:
        >>> import firesteel as torch
        >>> x, w = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 10.0])
        >>> torch.vmap(torch.dot, in_dims=(0, None))(x, w)
        tensor([21., 43.])
    """
    Draws(randomness)
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError(
            f"vmap: chunk_size should be None or greater than 0. (got {chunk_size}); leave it out"
        )

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        _check_out_dims(func, out_dims)
        size, dims, flat, spec = _batched_inputs(func, in_dims, args)
        unmapped = [x for x, dim in zip(flat, dims, strict=True) if dim is None]
        seen_by_all = [x for x in unmapped + tree_leaves(kwargs) if isinstance(x, Tensor)]
        shared = _Shared(func, seen_by_all)
        batched = [x if d is None else _examples(x, d, size) for x, d in zip(flat, dims, strict=True)]
        draws, mapping = Draws(randomness), _mapping.Mapping(seen_by_all)
        outputs: list[Any] = []
        for i in range(max(size, 1)):
            draws.next_example()
            example = [x if d is None else x[i] for x, d in zip(batched, dims, strict=True)]
            own: list[Any] = [x for x, d in zip(example, dims, strict=True) if d is not None]
            with mapping.example(own):
                outputs.append(func(*tree_unflatten(example, spec), **kwargs))
            if i == 0:
                draws.check()
            shared.check()
        draws.check()
        if len(outputs) == 1:
            mapping.check([x for x in tree_leaves(outputs) if isinstance(x, Tensor)])
        return _stacked(func, outputs, out_dims, size)

    return functools.update_wrapper(wrapper, func, updated=())

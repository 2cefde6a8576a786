"""Trees of containers, taken apart and put together.

Tuples, lists, deques, dictionaries and named tuples are containers. All else, None included, is a leaf.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["TreeSpec", "tree_flatten", "tree_leaves", "tree_map", "tree_unflatten"]


_CONTAINERS = frozenset({tuple, list, deque, dict, OrderedDict, defaultdict})


def _is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def _is_container(value: Any) -> bool:
    cls = type(value)
    return cls in _CONTAINERS or _is_namedtuple(cls)


def _parts(container: Any) -> tuple[list[Any], tuple[Any, ...] | None]:
    """The children of a container, and a dictionary's keys."""
    if isinstance(container, dict):
        return list(container.values()), tuple(container)
    return list(container), None


def _extra(container: Any) -> Any:
    """What a container has beside its children: the default of a `defaultdict`, the bound of a `deque`."""
    if isinstance(container, defaultdict):
        return container.default_factory
    return container.maxlen if isinstance(container, deque) else None


class TreeSpec:
    """How a tree's containers are nested.

    Args:
        kind: the type of the container; None for a leaf.
        keys: a dictionary's keys, in order.
        children: the specs of what the container holds.
        extra: the default of a `defaultdict`, the bound of a `deque`.
    """

    __slots__ = ("children", "extra", "keys", "kind", "num_leaves")

    def __init__(
        self,
        kind: type | None,
        keys: tuple[Any, ...] | None,
        children: list[TreeSpec],
        extra: Any = None,
    ) -> None:
        self.kind = kind
        self.keys = keys
        self.children = children
        self.extra = extra
        self.num_leaves: int = sum(child.num_leaves for child in children) if kind is not None else 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TreeSpec):
            return NotImplemented
        same = self.kind is other.kind and self.keys == other.keys and self.extra == other.extra
        return same and self.children == other.children

    __hash__ = None  # type: ignore[assignment]  # keys may be anything, and no one looks specs up

    def __repr__(self) -> str:
        if self.kind is None:
            return "*"
        children = [repr(child) for child in self.children]
        if self.keys is not None:
            inner = ", ".join(f"{key!r}: {child}" for key, child in zip(self.keys, children, strict=True))
            return f"{{{inner}}}"
        inner = ", ".join(children)
        if self.kind is list:
            return f"[{inner}]"
        name = "" if self.kind is tuple else self.kind.__name__
        return f"{name}({inner},)" if len(children) == 1 else f"{name}({inner})"


_LEAF = TreeSpec(None, None, [])


def _collect(tree: Any, leaves: list[Any]) -> TreeSpec:
    """Appends the tree's leaves to the list. A closure that calls itself would keep them alive."""
    if not _is_container(tree):
        leaves.append(tree)
        return _LEAF
    children, keys = _parts(tree)
    return TreeSpec(type(tree), keys, [_collect(child, leaves) for child in children], _extra(tree))


def _container(kind: Any, keys: tuple[Any, ...] | None, extra: Any, children: list[Any]) -> Any:
    """A container of that kind and these children."""
    if kind is deque:
        return deque(children, extra)
    if keys is not None:
        pairs = zip(keys, children, strict=True)
        return defaultdict(extra, pairs) if kind is defaultdict else kind(pairs)
    return kind(*children) if _is_namedtuple(kind) else kind(children)


def _build(spec: TreeSpec, leaves: Iterator[Any]) -> Any:
    if spec.kind is None:
        return next(leaves)
    children = [_build(child, leaves) for child in spec.children]
    return _container(spec.kind, spec.keys, spec.extra, children)


def tree_flatten(tree: Any) -> tuple[list[Any], TreeSpec]:
    """The leaves of a tree, in order, and what is needed to rebuild it.

    Example:
        >>> from firesteel.utils._pytree import tree_flatten
        >>> tree_flatten((1, {"a": [2, 3]}))
        ([1, 2, 3], (*, {'a': [*, *]}))
    """
    leaves: list[Any] = []
    return leaves, _collect(tree, leaves)


def tree_unflatten(leaves: list[Any] | tuple[Any, ...], spec: TreeSpec) -> Any:
    """The tree that `tree_flatten` takes apart into these leaves and this spec.

    Raises:
        ValueError: if there are more or fewer leaves than places.

    Example:
        >>> from firesteel.utils._pytree import tree_flatten, tree_unflatten
        >>> _, spec = tree_flatten((1, {"a": 2}))
        >>> tree_unflatten([3, 4], spec)
        (3, {'a': 4})
    """
    if len(leaves) != spec.num_leaves:
        raise ValueError(f"tree_unflatten: {len(leaves)} leaves for {spec.num_leaves} places in {spec}")
    return _build(spec, iter(leaves))


def tree_leaves(tree: Any) -> list[Any]:
    """The leaves of a tree, in order.

    Example:
        >>> from firesteel.utils._pytree import tree_leaves
        >>> tree_leaves([1, (2, 3)])
        [1, 2, 3]
    """
    return tree_flatten(tree)[0]


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with `function` applied to each leaf.

    Example:
        >>> from firesteel.utils._pytree import tree_map
        >>> tree_map(lambda x: x + 1, {"a": 1, "b": (2, 3)})
        {'a': 2, 'b': (3, 4)}
    """
    if not _is_container(tree):
        return function(tree)
    children, keys = _parts(tree)
    return _container(type(tree), keys, _extra(tree), [tree_map(function, child) for child in children])


def broadcast_prefix(prefix: Any, spec: TreeSpec) -> list[Any] | None:
    """A leaf of `prefix` for each leaf of `spec`: one leaf stands for all of the subtree in its place.

    Dictionaries fit by their keys, whatever their order and kind. None if the two do not fit.

    Example:
        >>> from firesteel.utils._pytree import broadcast_prefix, tree_flatten
        >>> broadcast_prefix((0, None), tree_flatten(([1, 2], 3))[1])
        [0, 0, None]
    """
    if not _is_container(prefix):
        return [prefix] * spec.num_leaves
    if type(prefix) is not spec.kind and not (isinstance(prefix, dict) and spec.keys is not None):
        return None
    children, keys = _parts(prefix)
    if len(children) != len(spec.children):
        return None
    if spec.keys is not None:
        by_key = dict(zip(keys or (), children, strict=True))
        if set(by_key) != set(spec.keys):
            return None
        children = [by_key[key] for key in spec.keys]
    parts: list[Any] = []
    for child, child_spec in zip(children, spec.children, strict=True):
        part = broadcast_prefix(child, child_spec)
        if part is None:
            return None
        parts.extend(part)
    return parts

"""What a transform differentiates, and whether what it returns has a history of its own.

Each run of a transform is a level. It gives the function fresh tensors in place of those it differentiates,
so that the same tensor reached through a closure is a constant, and afterwards asks which leaves the outputs
come from. Only if some of them belong to others (an enclosing transform, a parameter of the user's) is the
backward pass recorded; else plain values are returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from firesteel import _core
from firesteel._core import Node, Tensor, zeros_like
from firesteel.autograd._edge import node_of
from firesteel.utils._pytree import tree_leaves, tree_map

_LEVEL = "firesteel.func"  # where the metadata of a leaf's node say whose variable it is


def or_zeros(grads: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Zeros where there is no gradient."""
    return [zeros_like(x.detach()) if g is None else g for g, x in zip(grads, like, strict=True)]


class Level:
    """One run of a transform: a `with` block in which operations are recorded.

    Whether gradients are recorded around the block decides only whether what comes out may have a history.
    Its variables may outlive it, in the closure of a `vjp_fn`: they are then no one's variables any more.
    """

    def __init__(self) -> None:
        self._running = False

    def __enter__(self) -> Level:
        self._running = True
        self._modes_outside = _core._swap_modes(True, False)
        self._recording_outside = self._modes_outside == (True, False)
        return self

    def __exit__(self, *exc: object) -> None:
        _core._swap_modes(*self._modes_outside)
        self._running = False

    def leaf(self, value: Tensor) -> Tensor:
        """A variable of this level with that value."""
        # What was made in inference mode cannot be saved for a backward pass.
        fresh = (value.clone() if value.is_inference() else value).detach().requires_grad_()
        node_of(fresh, "torch.func").metadata[_LEVEL] = self
        return fresh

    def _is_others(self, leaf: Node) -> bool:
        """Whether a leaf is a variable of the user's, or of another transform that still runs."""
        level: Level | None = leaf.metadata.get(_LEVEL)
        return level is None or (level is not self and level._running)

    def track(self, tree: Any) -> Any:
        """Fresh tensors to differentiate, connected to the histories of those given."""

        def fresh(x: Any) -> Tensor:
            if not isinstance(x, Tensor):
                raise ValueError(
                    f"Thing passed to transform API must be Tensor, got {type(x)}; make it one with "
                    "torch.tensor(..), or leave it out of argnums"
                )
            if x.requires_grad and self._recording_outside:
                return x.view_as(x)
            return self.leaf(x)

        return tree_map(fresh, tree)

    def _leading_to_others(self, tensors: Iterable[Any]) -> set[int]:
        """Numbers of those nodes of the tensors' histories that lead to variables of others."""
        roots = [node_of(x, "torch.func") for x in tensors if isinstance(x, Tensor) and x.requires_grad]
        if not roots:
            return set()
        graph = _core._Graph(roots)
        others = [leaf for leaf in graph.ends() if self._is_others(leaf)]
        return graph.leading_to(others) if others else set()

    def reaches_others(self, tree: Any) -> bool:
        """Whether the tensors of a tree depend on variables of others, that may be asked for later."""
        return bool(self._leading_to_others(tree_leaves(tree)))

    def escapes(self, tree: Any) -> bool:
        """Whether tensors of a tree must keep their history when they leave the block."""
        return self._recording_outside and self.reaches_others(tree)

    def release(self, tree: Any, recording: bool | None = None) -> Any:
        """The tree without histories that end in this level; leaves that are no tensors stay.

        Args:
            tree: what is handed out.
            recording: whether it may have a history; default: as around the block.
        """
        if recording is None:
            recording = self._recording_outside

        kept = self._leading_to_others(tree_leaves(tree)) if recording else set()

        def value(x: Any) -> Any:
            if (
                isinstance(x, Tensor)
                and x.requires_grad
                and not (kept and node_of(x, "torch.func")._sequence_nr() in kept)
            ):
                return x.detach()
            return x

        return tree_map(value, tree)

"""Where a tensor's gradient arrives in the graph, for those who do not hold the tensor."""

from __future__ import annotations

from typing import NamedTuple

from firesteel._core import Node, Tensor
from firesteel.autograd.grad_mode import enable_grad


class GradientEdge(NamedTuple):
    """An output of a node of the graph: `autograd.grad` and `backward` take it in the place of a tensor.

    It keeps the graph, and not the tensor's data.
    """

    node: Node
    """The node that made the tensor, or fills the leaf's `.grad`."""
    output_nr: int
    """Which of the node's outputs the tensor is."""
    ownership_token: Node | None = None
    """None: `node` keeps the graph."""


def node_of(tensor: Tensor, asked_by: str) -> Node:
    """The node to which the gradient of a tensor that requires grad is sent: a leaf's fills its `.grad`.

    Args:
        tensor: one that requires grad.
        asked_by: the function that an error names.

    Raises:
        RuntimeError: within `inference_mode`, for a leaf that was made there.

    Example:
        >>> import firesteel as torch
        >>> from firesteel.autograd._edge import node_of
        >>> node_of(torch.ones(2, requires_grad=True), "get_gradient_edge").name()
        'AccumulateGrad'
    """
    node = tensor.grad_fn
    if node is None:
        with enable_grad():
            view = tensor.view_as(tensor).grad_fn
        if view is None:
            raise RuntimeError(
                f"{asked_by}: a leaf of shape {tuple(tensor.shape)} that was made in inference_mode has no "
                "place in a graph there, as nothing is recorded; call this outside of the block, or make the "
                "leaf there"
            )
        node = view.next_functions[0][0]
        assert node is not None
    return node


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The place in the graph where the gradient of `tensor` arrives.

    Args:
        tensor: one that requires grad.

    Returns:
        What `autograd.grad` and `backward` take in its place. It does not keep the tensor's data.

    Raises:
        RuntimeError: if `tensor` does not require grad, or is a leaf that was made in the `inference_mode`
            that is on.

    Example:
        >>> import firesteel as torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> y = x * 2
        >>> edge = torch.autograd.graph.get_gradient_edge(y)
        >>> torch.autograd.grad(y.square().sum(), edge)
        (tensor([4., 8.]),)
    """
    if not tensor.requires_grad:
        raise RuntimeError(
            "get_gradient_edge: It is not possible to get the gradient edge for a Tensor that does not "
            f"require gradients (shape {tuple(tensor.shape)}); set requires_grad=True on an input"
        )
    return GradientEdge(node_of(tensor, "get_gradient_edge"), tensor.output_nr)

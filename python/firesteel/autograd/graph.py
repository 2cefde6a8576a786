"""The graph's nodes and edges, and hooks: on several gradients, and on what nodes save."""

from __future__ import annotations

from firesteel._core import Node as Node
from firesteel.autograd._edge import GradientEdge as GradientEdge, get_gradient_edge as get_gradient_edge
from firesteel.autograd._multi_grad_hook import register_multi_grad_hook as register_multi_grad_hook
from firesteel.autograd._mutation import (
    allow_mutation_on_saved_tensors as allow_mutation_on_saved_tensors,
    increment_version as increment_version,
)
from firesteel.autograd._saved_hooks import (
    disable_saved_tensors_hooks as disable_saved_tensors_hooks,
    save_on_cpu as save_on_cpu,
    saved_tensors_hooks as saved_tensors_hooks,
)

__all__ = [
    "GradientEdge",
    "Node",
    "allow_mutation_on_saved_tensors",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "increment_version",
    "register_multi_grad_hook",
    "save_on_cpu",
    "saved_tensors_hooks",
]

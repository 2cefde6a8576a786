"""What nodes saved, under PyTorch's names: `grad_fn._saved_self`."""

from __future__ import annotations

from firesteel._core import Node, Tensor
from firesteel.autograd.grad_mode import enable_grad

# The nodes that save the same parts, and PyTorch's names of these parts, which `Node._saved` counts. Nodes
# whose parts PyTorch divides otherwise are left out.
_LAYOUTS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "Abs Cos Elu Erf Gelu Hardsigmoid Hardswish Hardtanh LeakyRelu Log Log10 Log1p Log2 LogSigmoid Mish "
        "Nansum Pow0 Silu Sin Softplus Square Var ClampMin ClampMax Clamp1",
        {"self": "input 0"},
    ),
    (
        "Exp Expm1 LogSoftmax Reciprocal Relu Rsqrt Sigmoid Softmax Sqrt Tan Tanh",
        {"result": "output"},
    ),
    (
        "Amax Amin Cumprod LinalgVectorNorm Logsumexp Max1 Min1 Prod0 Prod1 Std",
        {"self": "input 0", "result": "output"},
    ),
    ("Div Fmod Maximum Minimum Mul Remainder", {"self": "input 0", "other": "input 1"}),
    ("Mm Bmm", {"self": "input 0", "mat2": "input 1"}),
    ("Mv", {"self": "input 0", "vec": "input 1"}),
    ("Dot", {"self": "input 0", "tensor": "input 1"}),
    ("Addmm", {"mat1": "input 1", "mat2": "input 2"}),
    ("Addmv", {"mat": "input 1", "vec": "input 2"}),
    ("Baddbmm", {"batch1": "input 1", "batch2": "input 2"}),
    (
        "BinaryCrossEntropy BinaryCrossEntropyWithLogits HuberLoss MseLoss SmoothL1Loss",
        {"self": "input 0", "target": "input 1"},
    ),
    ("Convolution", {"input": "input 0", "weight": "input 1"}),
    ("Clamp0", {"self": "input 0", "min": "input 1", "max": "input 2"}),
    ("Lerp1", {"self": "input 0", "end": "input 1", "weight": "input 2"}),
    ("Pow1", {"self": "input 0", "exponent": "input 1", "result": "output"}),
    ("MaskedFill0 MaskedFill1", {"mask": "input 1"}),
    ("Where", {"condition": "input 0"}),
    ("Gather Scatter ScatterAdd", {"index": "intermediate"}),
    ("Sort Topk", {"indices": "intermediate"}),
)
_PARTS = {
    f"{name[:-1]}Backward{name[-1]}" if name[-1] in "01" and name != "Log10" else f"{name}Backward0": parts
    for names, parts in _LAYOUTS
    for name in names.split()
}


def _parts(node: Node) -> dict[str, str]:
    """PyTorch's name of each part that the node can save; none if it has saved others, too."""
    parts = _PARTS.get(node.name(), {})
    if node._operation.startswith("ClampOne"):
        bound = "min" if "is_min: true" in node._operation else "max"
        parts = {"self": "input 0", bound: "input 1"}
    saved = {part.removeprefix("packed ") for part, *_ in node._saved}
    return parts if saved <= set(parts.values()) else {}


def names(node: Node) -> list[str]:
    """The attributes that show what a node saved.

    Example:
        >>> import firesteel as torch
        >>> from firesteel.autograd._saved import names
        >>> names((torch.ones(2, requires_grad=True) * 2).grad_fn)
        ['_saved_self', '_saved_other']
    """
    return [f"_saved_{name}" for name in _parts(node)]


def saved(node: Node, name: str) -> Tensor | None:
    """The tensor that `name`, such as "_saved_self", stands for: None if backward does not need it.

    Raises:
        AttributeError: if the operation saves nothing of that name.
        RuntimeError: if a backward pass has freed it, or somebody has written to it since.
    """
    part = _parts(node).get(name.removeprefix("_saved_"))
    if part is None:
        known = ", ".join(names(node)) or "none of these"
        raise AttributeError(
            f"'{node.name()}' object has no attribute '{name}'; of what it saved it has {known}: see "
            "torch.autograd.graph.saved_tensors_hooks for all of it"
        )
    kept = node._kept_part(part)
    if name == "_saved_mat2" and kept is not None and node._operation.startswith("Linear"):
        with enable_grad():  # PyTorch saves the product's factor, the transposed weight, with its history
            return kept.t()
    return kept

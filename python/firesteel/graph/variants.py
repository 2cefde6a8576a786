"""The formula of one recorded operation: the variant of the table that fits, with the numbers that are in it.

An exponent, a slope or a smoothing factor makes a step of the backward pass checkable. Nodes tell them as the
text of their operation: `PowScalar(Int(3))`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from firesteel.graph.formulas import FORMULAS, formula_of
from firesteel.graph.model import kind_of, operation_of

if TYPE_CHECKING:
    from firesteel._core import Node

# By the name of the node: the symbols of its formula, and what stands before their numbers in the operation.
NUMBERS: dict[str, dict[str, str]] = {
    "AddBackward0": {"alpha": "alpha: "},
    "AddmmBackward0": {"beta": "beta: ", "alpha": "alpha: "},
    "AddmvBackward0": {"beta": "beta: ", "alpha": "alpha: "},
    "BaddbmmBackward0": {"beta": "beta: ", "alpha": "alpha: "},
    "ClampBackward1": {"min": r"min: Some\(", "max": r"max: Some\("},
    "ClampMaxBackward0": {"max": r"max: Some\("},
    "ClampMinBackward0": {"min": r"min: Some\("},
    "EluBackward0": {"alpha": r"\balpha: ", "s": r"\bscale: ", "c": "input_scale: "},
    "HardtanhBackward0": {"min": "min: ", "max": "max: "},
    "HuberLossBackward0": {"delta": "reach: "},
    "HardshrinkBackward0": {"reach": "reach: "},
    "SoftshrinkBackward0": {"reach": "reach: "},
    "ThresholdBackward0": {"threshold": "threshold: ", "value": "value: "},
    "LeakyReluBackward0": {"slope": r"LeakyRelu\("},
    "LerpBackward0": {"w": r"LerpScalar\("},
    "LinalgVectorNormBackward0": {"p": r"\bp: "},
    "PowBackward0": {"n": r"PowScalar\("},
    "PowBackward2": {"c": r"PowBase\("},
    "ScaledDotProductFlashAttentionForCpuBackward0": {"scale": r"\bscale: "},
    "SmoothL1LossBackward0": {"beta": "reach: "},
    "SoftplusBackward0": {"beta": "beta: ", "threshold": "threshold: "},
    "StdBackward0": {"correction": "correction: "},
    "SubBackward0": {"alpha": "alpha: "},
    "VarBackward0": {"correction": "correction: "},
    "cross_entropy with label smoothing": {"e": "label_smoothing: "},
}
# A factor of 1 is left out.
FACTORS = frozenset({"alpha", "beta"}), frozenset({"AddmmBackward0", "AddmvBackward0", "BaddbmmBackward0"})
# What is left out of the formulas of a normalisation without parameters, and of attention without a mask.
WITHOUT = {
    "has_weight: false": {
        "w * n": "n",
        "grad w = sum of g * n, ": "",
        "g * w / std": "g / std",
        "w / std": "1 / std",
        "h = g * w": "h = g",
        "(g * w - n": "(g - n",
    },
    "is_causal: true": {"mask)": "mask of later keys)"},
    "has_mask: false": {" + mask)": ")"},
    "has_bias: false": {"n + b,": "n,", "grad b = sum of g, ": ""},
}
REDUCTIONS = {"Mean": ", mean", "Sum": ", sum: n = 1", "None": ", each by itself: n = 1"}


def formula_for(node: Node) -> tuple[str, str]:
    """What a node's operation computes and the gradients of its inputs, with its own numbers."""
    name, operation = node.name(), node._operation
    variant = _variant(node, operation)
    forward, backward = FORMULAS.get(variant) or formula_of(name, operation_of(node))
    numbers = _numbers(variant if variant in NUMBERS else name, operation)
    for has_none, changes in WITHOUT.items():
        if has_none in operation:
            for old, new in changes.items():
                forward, backward = forward.replace(old, new), backward.replace(old, new)
    if " + bias" in forward and len(node.next_functions) == 2:
        forward = forward.replace(" + bias", "")
        backward = ", ".join(part for part in backward.split(", ") if not part.startswith("grad bias"))
    if name in FACTORS[1]:
        for symbol in FACTORS[0]:
            if numbers.get(symbol) == "1":
                del numbers[symbol]
                forward, backward = (text.replace(f"{symbol} * ", "") for text in (forward, backward))
    if reduction := re.search(r"reduction: (\w+)", operation):
        forward = forward.replace(", mean or sum", REDUCTIONS[reduction[1]])
        if reduction[1] != "Mean":
            backward = backward.replace(" / n", "")
    told = ", ".join(f"{symbol} = {number}" for symbol, number in numbers.items())
    return f"{forward}, {told}" if told else forward, backward


def _numbers(name: str, operation: str) -> dict[str, str]:
    found = {}
    for symbol, before in NUMBERS.get(name, {}).items():
        # A float that is a whole number is short enough as such: `1`, not `1.0`.
        match = re.search(rf"{before}(?:Int|Float)?\(?(-?(?:inf|[\d.]+(?:e-?\d+)?))", operation)
        if match:
            found[symbol] = f"{float(match[1]):.6g}"
    return found


def _variant(node: Node, operation: str) -> str:
    """The key in the table of an operation that one name of a node does not tell, or nothing."""
    kind = kind_of(operation)
    if kind == "Matmul":
        return f"matmul of ranks {_product(node)}"
    if kind == "Linear":
        return {1: "linear of a vector", 2: "linear"}.get(len(node._outputs[0][0]), "linear of a batch")
    if kind == "ConvInput":
        return "transposed convolution"
    if kind == "BatchNorm" and "training: false" in operation:
        return "batch norm with running statistics"
    if kind == "CrossEntropy" and "label_smoothing: 0.0" not in operation:
        return "cross_entropy with label smoothing"
    if kind in ("Add", "Sub"):
        return kind
    if kind == "ClampOne" and node.name() == "ClampBackward0":
        return "ClampMinBackward1" if "is_min: true" in operation else "ClampMaxBackward1"
    if kind == "Norm" and "p: inf" in operation:
        return "largest norm"
    if kind == "IndexPut" and "accumulate: true" in operation:
        return "IndexPut, added"
    return ""


def _product(node: Node) -> str:
    """The ranks of two factors: "1 1", "2 1" and so on, "n" for more than 2."""
    ranks = [rank_of(node, index) for index in (0, 1)]
    return " ".join("n" if rank is None or rank > 2 else str(rank) for rank in ranks)


def rank_of(node: Node, index: int) -> int | None:
    """The number of dims of an input, if the graph knows it."""
    shape = shape_of(node, index)
    return None if shape is None else len(shape)


def shape_of(node: Node, index: int) -> tuple[int, ...] | None:
    """The shape of an input, as what made it or what was saved of it tells."""
    producer, output = node.next_functions[index]
    if producer is not None:
        return producer._outputs[output][0]
    for part, shape, *_ in node._saved:
        if part.removeprefix("packed ") == f"input {index}":
            return shape
    return None

"""Misuses of autograd that PyTorch's documentation and its forum name: what a row of the table is.

A row makes its tensors and ends with the misuse: `case(lib)` gives `[x, y, ..., misuse]`. Calling the last
must raise, and leave all tensors before it as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Misuse(NamedTuple):
    """One misuse: what PyTorch raises, and what our text must say."""

    id: str
    error: type[BaseException]
    text: str
    tags: str
    case: Callable[[Any], list[Any]]


# Tags say what a row is about. "ours": PyTorch raises another class here, or nothing. "python": Python itself
# speaks, or the user's own function, so that there is no way out in the text. "place": the
# text says where it happened, which is all that can be said.
# The texts that several rows share:
SCALAR = r"(backward|grad): grad can be .* only for scalar outputs, not for output 0 of shape \[3\]; pass"
FREED = r"Trying to backward through the graph a second time .* Specify retain_graph=True in the first"
NO_GRAPH = (
    r"(backward|grad): element \d of tensors does not require grad .*; set requires_grad=True on an input"
)
SHAPES = (
    r"(backward|grad): Mismatch in shape: grad_output\[0\] has a shape of \[2\] and output\[0\] has a shape "
    r"of \[3\]; give a gradient of the output's shape"
)
UNUSED = r"appears to not have been used in the graph \(input {}, shape .*\)\. Set allow_unused=True"
NO_GRAD = r"does not require grad: input {} of shape \[3\]; set requires_grad=True on it before it is used"
FLOATS = (
    r"requires_grad_: only Tensors of floating point dtype can require gradients, not {} \(shape .*\); "
    r"convert with \.float\(\)"
)
LEAVES = (
    r"requires_grad_: you can only change requires_grad flags of leaf variables, not of the result of "
    r"MulBackward0 \(shape \[3\]\); use \.detach\(\)"
)
LEAF = r"{}_?: a leaf Variable that requires grad is .*; wrap it in `with no_grad\(\):`, or use an operation"
VIEW = r"{}_?: a view of a leaf Variable that requires grad is .*; wrap it in `with no_grad\(\):`"
CHANGED = (
    r"{}: one of the variables .* modified by an inplace operation: {} of shape .* is at version {}; "
    r"expected version . instead; use an out-of-place operation, or change a \.clone\(\) of it"
)
OVERLAP = (
    r"{}_: unsupported operation: more than one element of .* \(shape \[3\], strides \[0\]\).*; clone\(\)"
)
NUMPY = r"Can't call numpy\(\) on Tensor that requires grad\. Use tensor\.detach\(\)\.numpy\(\) instead"
SINGLE = (
    r"item: a tensor with 3 elements \(shape \[3\]\) cannot be converted to Scalar; use \.tolist\(\), or "
    r"reduce"
)
SCALARS = (
    r"only one element tensors can be converted to Python scalars, not one with 3 elements \(shape \[3\]\); "
    r"use \.tolist\(\), or reduce it with \.sum\(\) or \.mean\(\)"
)
OUT = (
    r"{}\(\): functions with out=\.\.\. arguments don't support automatic differentiation, but one of the "
    r"arguments requires grad; leave out= away"
)


def under(mode: Any, make: Callable[[], Any]) -> Any:
    """What `make` gives inside of a grad mode."""
    with mode:
        return make()


def hooked(tensor: Any, hook: Any) -> Any:
    """The tensor, with a hook."""
    tensor.register_hook(hook)
    return tensor


def fail(*_: object) -> None:
    """A hook with an error of its own."""
    raise KeyError("the user's own error")

"""Leaves, flags, `.grad`, values, optimizers and modules."""

from __future__ import annotations

import copy

import numpy as np

from libraries import leaf
from misuse_cases.row import FLOATS, LEAVES, NUMPY, SCALARS, SINGLE, Misuse

LEAVES_AND_FLAGS = [
    Misuse(
        "integers that require grad",
        RuntimeError,
        FLOATS.format("int64"),
        "flag",
        lambda lib: [lambda: lib.tensor([1, 2], requires_grad=True)],
    ),
    Misuse(
        "bools that require grad",
        RuntimeError,
        FLOATS.format("bool"),
        "flag",
        lambda lib: [lambda: lib.tensor([True], requires_grad=True)],
    ),
    Misuse(
        "requires_grad_ of integers",
        RuntimeError,
        FLOATS.format("int64"),
        "flag",
        lambda lib: [x := lib.tensor([1, 2]), x.requires_grad_],
    ),
    Misuse(
        "requires_grad = True on integers",
        RuntimeError,
        FLOATS.format("int64"),
        "flag",
        lambda lib: [x := lib.tensor([1, 2]), lambda: setattr(x, "requires_grad", True)],
    ),
    Misuse(
        "a Parameter of integers",
        RuntimeError,
        FLOATS.format("int64"),
        "flag",
        lambda lib: [x := lib.tensor([1, 2]), lambda: lib.nn.Parameter(x)],
    ),
    Misuse(
        "a Parameter of a number",
        TypeError,
        r"Parameter: data must be a Tensor, not float; .*tensor\(",
        "flag ours",
        lambda lib: [lambda: lib.nn.Parameter(1.0)],
    ),
    Misuse(
        "requires_grad_(False) on a result",
        RuntimeError,
        LEAVES,
        "flag",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: y.requires_grad_(False)],
    ),
    Misuse(
        "requires_grad = False on a result",
        RuntimeError,
        LEAVES,
        "flag",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: setattr(y, "requires_grad", False)],
    ),
    Misuse(
        "requires_grad = a string",
        RuntimeError,
        r"requires_grad must be a bool, not str; use True or False",
        "flag",
        lambda lib: [x := lib.ones(3), lambda: setattr(x, "requires_grad", "yes")],
    ),
    Misuse(
        "requires_grad_ of a string",
        TypeError,
        r"argument 'requires_grad' must be bool, not str; use True or False",
        "flag",
        lambda lib: [x := lib.ones(3), lambda: x.requires_grad_("yes")],
    ),
    Misuse(
        "is_leaf assigned",
        AttributeError,
        r"attribute 'is_leaf' of 'firesteel.Tensor' objects is not writable",
        "flag python",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "is_leaf", False)],
    ),
    Misuse(
        "grad_fn assigned",
        AttributeError,
        r"attribute 'grad_fn' of 'firesteel.Tensor' objects is not writable",
        "flag python",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: setattr(y, "grad_fn", None)],
    ),
    Misuse(
        "retain_grad on a constant",
        RuntimeError,
        (
            r"retain_grad: can't retain_grad on Tensor that has requires_grad=False \(shape \[3\]\); call "
            r"requires_grad_"
        ),
        "flag",
        lambda lib: [x := lib.ones(3), x.retain_grad],
    ),
    Misuse(
        "grad of another shape assigned",
        RuntimeError,
        (
            r"grad: assigned grad has shape \[2\] and dtype float32, the tensor has shape \[3\] and dtype "
            r"float32; they must be equal: sum or expand it to the tensor's shape"
        ),
        "grad",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "grad", lib.ones(2))],
    ),
    Misuse(
        "grad that would broadcast assigned",
        RuntimeError,
        (
            r"grad: assigned grad has shape \[1\] and dtype float32, the tensor has shape \[3\] and dtype "
            r"float32; they must be equal: sum or expand it"
        ),
        "grad",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "grad", lib.ones(1))],
    ),
    Misuse(
        "grad of another dtype assigned",
        RuntimeError,
        (
            r"grad: assigned grad has shape \[3\] and dtype float64, the tensor has shape \[3\] and dtype "
            r"float32; they must be equal: convert it with \.to\(torch\.float32\)"
        ),
        "grad",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "grad", lib.ones(3).double())],
    ),
    Misuse(
        "grad of integers assigned",
        RuntimeError,
        (
            r"grad: assigned grad has shape \[3\] and dtype int64, the tensor has shape \[3\] and dtype "
            r"float32; they must be equal: convert it with \.to\(torch\.float32\)"
        ),
        "grad",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "grad", lib.tensor([1, 2, 3]))],
    ),
    Misuse(
        "grad = 0",
        TypeError,
        (
            r"grad: assigned grad expected to be a Tensor or None, but got grad of type int; make it a "
            r"tensor of shape \[3\]"
        ),
        "grad",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "grad", 0)],
    ),
    Misuse(
        "grad = itself",
        RuntimeError,
        (
            r"grad: can't assign Variable as its own grad \(shape \[3\]\); assign a \.detach\(\)\.clone\(\) "
            r"of it"
        ),
        "grad",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "grad", x)],
    ),
    Misuse(
        "grad.zero_() before any backward",
        AttributeError,
        r"'NoneType' object has no attribute 'zero_'",
        "grad python",
        lambda lib: [x := leaf(lib), lambda: x.grad.zero_()],
    ),
    Misuse(
        "data of integers for a float leaf",
        RuntimeError,
        r"data: .* must be floating point, not int64 \(shape \[3\]\); use requires_grad_\(False\) first",
        "data",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "data", lib.tensor([1, 2, 3]))],
    ),
    Misuse(
        "data = a list",
        TypeError,
        (
            r"data: Variable data has to be a tensor, but got list; make it one, or write into the memory "
            r"that there is"
        ),
        "data",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "data", [1.0])],
    ),
    Misuse(
        "numpy() of a leaf",
        RuntimeError,
        NUMPY,
        "values",
        lambda lib: [x := leaf(lib), x.numpy],
    ),
    Misuse(
        "numpy() of a result",
        RuntimeError,
        NUMPY,
        "values",
        lambda lib: [x := leaf(lib), y := x * 2, y.numpy],
    ),
    Misuse(
        "numpy.asarray of a leaf",
        RuntimeError,
        NUMPY,
        "values",
        lambda lib: [x := leaf(lib), lambda: np.asarray(x)],
    ),
    Misuse(
        "item() of a vector",
        RuntimeError,
        SINGLE,
        "values",
        lambda lib: [x := leaf(lib), x.item],
    ),
    Misuse(
        "float() of a vector",
        ValueError,
        SCALARS,
        "values",
        lambda lib: [x := leaf(lib), lambda: float(x)],
    ),
    Misuse(
        "a vector as a condition",
        RuntimeError,
        (
            r"Boolean value of Tensor with more than one value is ambiguous; use "
            r"\.any\(\) or \.all\(\)"
        ),
        "values",
        lambda lib: [x := leaf(lib), lambda: bool(x > 1)],
    ),
    Misuse(
        "deepcopy of a result",
        RuntimeError,
        r"Only Tensors created explicitly by the user .*; use \.detach\(\)\.clone\(\)",
        "values",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: copy.deepcopy(y)],
    ),
    Misuse(
        "set_grad_enabled of a string",
        TypeError,
        r"set_grad_enabled\(\): argument 'mode' must be bool, not str; use True or False",
        "mode",
        lambda lib: [lambda: lib.set_grad_enabled("no")],
    ),
    Misuse(
        "detach_ of a view",
        RuntimeError,
        r"detach_: Can't detach views in-place \(this is one of shape \[\]\); use detach\(\) instead",
        "leaf view",
        lambda lib: [x := leaf(lib), y := x * 2, v := y[0], v.detach_],
    ),
    Misuse(
        "requires_grad=1 of tensor()",
        TypeError,
        r"argument 'requires_grad' must be bool, not int; use True or False",
        "flag",
        lambda lib: [lambda: lib.tensor([1.0], requires_grad=1)],
    ),
    Misuse(
        "requires_grad=1 of ones()",
        TypeError,
        r"argument 'requires_grad' must be bool, not int; use True or False",
        "flag",
        lambda lib: [lambda: lib.ones(2, requires_grad=1)],
    ),
    Misuse(
        "requires_grad_(None)",
        TypeError,
        r"argument 'requires_grad' must be bool, not NoneType; use True or False",
        "flag",
        lambda lib: [x := lib.ones(3), lambda: x.requires_grad_(None)],
    ),
    Misuse(
        "a Parameter with requires_grad a string",
        TypeError,
        r"argument 'requires_grad' must be bool, not str; use True or False",
        "flag",
        lambda lib: [x := lib.ones(3), lambda: lib.nn.Parameter(x, "no")],
    ),
    Misuse(
        "data = 3",
        TypeError,
        (
            r"data: Variable data has to be a tensor, but got int; make it one, or write into the "
            r"memory that there is: x\.data\.fill_\(\.\.\), x\.data\.copy_\(\.\.\)"
        ),
        "data",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "data", 3)],
    ),
    Misuse(
        "data = None",
        TypeError,
        (
            r"data: Variable data has to be a tensor, but got NoneType; make it one, or write "
            r"into the memory that there is: x\.data\.fill_\(\.\.\), x\.data\.copy_\(\.\.\)"
        ),
        "data",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "data", None)],
    ),
    Misuse(
        "data deleted",
        RuntimeError,
        r"data: Deleting tensor data is not allowed\. Delete the tensor instead",
        "data",
        lambda lib: [x := leaf(lib), lambda: delattr(x, "data")],
    ),
    Misuse(
        "a loop over a number",
        TypeError,
        r"iteration over a 0-d tensor; use \.item\(\) for its number",
        "values",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: list(y)],
    ),
    Misuse(
        "len() of a loss",
        TypeError,
        r"len\(\) of a 0-d tensor; use \.numel\(\)",
        "values",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: len(y)],
    ),
    Misuse(
        "an index of a loss",
        IndexError,
        r"getitem: cannot be applied to a 0-dim tensor; use \.item\(\)",
        "values",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: y[0]],
    ),
    Misuse(
        "tensor() of a list of vectors",
        ValueError,
        (
            r"tensor: only one element tensors can be converted to Python scalars, got shape "
            r"\[3\]; use stack"
        ),
        "values",
        lambda lib: [x := leaf(lib), lambda: lib.tensor([x, x])],
    ),
    Misuse(
        "int() of a vector",
        ValueError,
        SCALARS,
        "values",
        lambda lib: [x := leaf(lib), lambda: int(x)],
    ),
]

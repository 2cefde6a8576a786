"""Leaves, flags, `.grad`, values, optimizers and modules."""

from __future__ import annotations

import copy

import numpy as np

from misuse_cases.row import FLOATS, LEAVES, NUMPY, SINGLE, Misuse, leaf

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
        r"requires_grad.*must be .*bool.*, not str|'str' object",
        "flag",
        lambda lib: [x := lib.ones(3), lambda: x.requires_grad_("yes")],
    ),
    Misuse(
        "is_leaf assigned",
        AttributeError,
        r"attribute 'is_leaf' of 'firesteel.Tensor' objects is not writable",
        "flag",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "is_leaf", False)],
    ),
    Misuse(
        "grad_fn assigned",
        AttributeError,
        r"attribute 'grad_fn' of 'firesteel.Tensor' objects is not writable",
        "flag",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: setattr(y, "grad_fn", None)],
    ),
    Misuse(
        "retain_grad on a constant",
        RuntimeError,
        r"retain_grad: can't retain_grad on Tensor that has requires_grad=False",
        "flag",
        lambda lib: [x := lib.ones(3), x.retain_grad],
    ),
    Misuse(
        "grad of another shape assigned",
        RuntimeError,
        r"grad: assigned grad has shape \[2\] and dtype float32, the tensor has shape \[3\]",
        "grad",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "grad", lib.ones(2))],
    ),
    Misuse(
        "grad that would broadcast assigned",
        RuntimeError,
        r"grad: assigned grad has shape \[1\]",
        "grad",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "grad", lib.ones(1))],
    ),
    Misuse(
        "grad of another dtype assigned",
        RuntimeError,
        (
            r"grad: assigned grad has .* dtype float64, the tensor has .* dtype "
            r"float32; they must be equal"
        ),
        "grad",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "grad", lib.ones(3).double())],
    ),
    Misuse(
        "grad of integers assigned",
        RuntimeError,
        r"grad: assigned grad has .* dtype int64",
        "grad",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "grad", lib.tensor([1, 2, 3]))],
    ),
    Misuse(
        "grad = 0",
        TypeError,
        r"assigned grad expected to be a Tensor or None.* got .*int",
        "grad",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "grad", 0)],
    ),
    Misuse(
        "grad = itself",
        RuntimeError,
        r"grad: can't assign Variable as its own grad",
        "grad",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "grad", x)],
    ),
    Misuse(
        "grad.zero_() before any backward",
        AttributeError,
        r"'NoneType' object has no attribute 'zero_'",
        "grad",
        lambda lib: [x := leaf(lib), lambda: x.grad.zero_()],
    ),
    Misuse(
        "data of integers for a float leaf",
        RuntimeError,
        r"data: .* must be floating point, not int64; use requires_grad_\(False\) first",
        "data",
        lambda lib: [x := leaf(lib), lambda: setattr(x, "data", lib.tensor([1, 2, 3]))],
    ),
    Misuse(
        "data = a list",
        TypeError,
        r"data.* has to be a tensor.*list|'list' object is not",
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
        SINGLE,
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
        "a result given to an optimizer",
        ValueError,
        (
            r"can't optimize a non-leaf Tensor: parameter 0 \(shape \(3,\)\) was "
            r"made by MulBackward0; pass the leaf"
        ),
        "optimizer",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: lib.optim.SGD([y], lr=0.1)],
    ),
    Misuse(
        "a number given to an optimizer",
        TypeError,
        r"optimizer can only optimize Tensors, but one of the params is float; ",
        "optimizer",
        lambda lib: [lambda: lib.optim.SGD([1.0], lr=0.1)],
    ),
    Misuse(
        "a tensor given to an optimizer",
        TypeError,
        r"params argument .* iterable of Tensors or dicts, but got .*; put it in a list",
        "optimizer",
        lambda lib: [x := leaf(lib), lambda: lib.optim.SGD(x, lr=0.1)],
    ),
    Misuse(
        "no parameters for an optimizer",
        ValueError,
        r"optimizer got an empty parameter list; ",
        "optimizer",
        lambda lib: [lambda: lib.optim.SGD([], lr=0.1)],
    ),
    Misuse(
        "a parameter in two groups",
        ValueError,
        r"some parameters appear in more than one parameter group; leave them in one",
        "optimizer",
        lambda lib: [x := leaf(lib), lambda: lib.optim.SGD([{"params": [x]}, {"params": [x]}], lr=0.1)],
    ),
    Misuse(
        "a tensor in place of a parameter",
        TypeError,
        (
            r"cannot assign 'firesteel.Tensor' as parameter 'weight' "
            r"\(firesteel.nn.Parameter or None expected\)"
        ),
        "module",
        lambda lib: [m := lib.nn.Linear(2, 2), m.weight, lambda: setattr(m, "weight", lib.ones(2, 2))],
    ),
    Misuse(
        "a result registered as a parameter",
        TypeError,
        r"cannot assign 'firesteel.Tensor' object to parameter 'twice'",
        "module",
        lambda lib: [m := lib.nn.Linear(2, 2), lambda: m.register_parameter("twice", m.weight * 2)],
    ),
    Misuse(
        "a loss of integers",
        NotImplementedError,
        r"mse_loss: .* not implemented for 'Long'; convert with \.float\(\)",
        "module",
        lambda lib: [x := lib.tensor([1, 2]), lambda: lib.nn.functional.mse_loss(x, x).backward()],
    ),
    Misuse(
        "set_grad_enabled of a string",
        TypeError,
        r"set_grad_enabled\(\): argument 'mode' must be bool, not str",
        "mode",
        lambda lib: [lambda: lib.set_grad_enabled("no")],
    ),
]

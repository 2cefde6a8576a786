"""`vmap`, and batches of gradients."""

from __future__ import annotations

from libraries import leaf
from misuse_cases.row import Misuse

BATCHES = [
    Misuse(
        "vmap with in_dims a name",
        ValueError,
        (
            r"vmap\(sin, in_dims=x, \.\.\.\)\(<inputs>\): expected `in_dims` to be int or a "
            r"\(potentially nested\) tuple matching the structure of inputs, got: <class 'str'>; "
            r"None stands for an argument that all examples share: in_dims=\(0, None\)"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lib.sin, in_dims="x")(x)],
    ),
    Misuse(
        "vmap with in_dims None",
        ValueError,
        (
            r"vmap\(sin, in_dims=None, \.\.\.\)\(<inputs>\): expected `in_dims` to be int or a "
            r"\(potentially nested\) tuple matching the structure of inputs, got: <class "
            r"'NoneType'>; None stands for an argument that all examples share: in_dims=\(0, "
            r"None\)"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lib.sin, in_dims=None)(x)],
    ),
    Misuse(
        "vmap with more in_dims than arguments",
        ValueError,
        (
            r"vmap\(sin, in_dims=\(0, 0\), \.\.\.\)\(<inputs>\): in_dims is not compatible with "
            r"the structure of `inputs`\. in_dims has structure \(\*, \*\) but inputs has "
            r"structure \(\*,\); give an int or None for each argument"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lib.sin, in_dims=(0, 0))(x)],
    ),
    Misuse(
        "vmap over a dim that is not there",
        ValueError,
        (
            r"vmap\(sin, in_dims=1, \.\.\.\)\(<inputs>\): Got in_dim=1 for some input, but that "
            r"input is a Tensor of dimensionality 1 so expected in_dim to satisfy -1 <= in_dim < "
            r"1; its shape is \(3,\); use a dim of it, or None if all examples share it"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lib.sin, in_dims=1)(x)],
    ),
    Misuse(
        "vmap over a number",
        ValueError,
        (
            r"vmap\(add, in_dims=0, \.\.\.\)\(<inputs>\): Got in_dim=0 for an input but the input "
            r"is of type <class 'float'>\. We cannot vmap over non-Tensor arguments, please use "
            r"None as the respective in_dim"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lib.add)(x, 1.0)],
    ),
    Misuse(
        "vmap over half a dim",
        ValueError,
        (
            r"vmap\(sin, in_dims=\(0\.5,\), \.\.\.\)\(<inputs>\): Got in_dim=0\.5 for an input "
            r"but in_dim must be either an integer dimension or None; use None for an argument "
            r"that all examples share"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lib.sin, in_dims=(0.5,))(x)],
    ),
    Misuse(
        "vmap over nothing",
        ValueError,
        (
            r"vmap: Expected at least one Tensor to vmap over, but in_dims=\(None,\) has None for "
            r"all; give the dim of the examples, or call the function without vmap"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lib.sin, in_dims=(None,))(x)],
    ),
    Misuse(
        "vmap without arguments",
        ValueError,
        (
            r"vmap\(<lambda>\)\(<inputs>\): got no inputs\. Maybe you forgot to add inputs, or "
            r"you are trying to vmap over a function with no inputs\. The latter is unsupported\."
        ),
        "vmap",
        lambda lib: [lambda: lib.vmap(lambda: 1)()],
    ),
    Misuse(
        "vmap of batches of two sizes",
        ValueError,
        (
            r"vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
            r"\[3, 2\] for the mapped dimension; pass None in in_dims for what all examples share"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), y := lib.ones(2), lambda: lib.vmap(lib.add)(x, y)],
    ),
    Misuse(
        "vmap with more out_dims than outputs",
        ValueError,
        (
            r"vmap\(sin, \.\.\., out_dims=\(0, 0\)\)\(<inputs>\): out_dims is not compatible with "
            r"the structure of `outputs`\. out_dims has structure \(\*, \*\) but outputs has "
            r"structure \*; give an int or None for each output"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lib.sin, out_dims=(0, 0))(x)],
    ),
    Misuse(
        "vmap with out_dims a name",
        ValueError,
        (
            r"vmap\(sin, \.\.\., out_dims=x\): `out_dims` must be an int, None or a python "
            r"collection of ints representing where in the outputs the vmapped dimension should "
            r"appear; use None for what does not depend on the example"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lib.sin, out_dims="x")(x)],
    ),
    Misuse(
        "vmap with an out_dim that is not there",
        IndexError,
        (
            r"stack: Dimension out of range \(expected to be in range of \[-1, 0\], but got 3\); "
            r"use a dim in that range"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lib.sin, out_dims=3)(x)],
    ),
    Misuse(
        "vmap of a function that gives a number",
        ValueError,
        (
            r"vmap\(<lambda>, \.\.\.\): `<lambda>` must only return Tensors, got type <class "
            r"'float'>\. Did you mean to set out_dims= to None for output\?"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lambda x: 1.0)(x)],
    ),
    Misuse(
        "vmap of results that differ, without an out_dim",
        ValueError,
        (
            r"vmap\(sin, \.\.\.\): `sin` can not return a BatchedTensor when out_dim is None: the "
            r"examples give different results; give the dim where they go"
        ),
        "vmap",
        lambda lib: [x := lib.arange(3.0), lambda: lib.vmap(lib.sin, out_dims=None)(x)],
    ),
    Misuse(
        "vmap of random numbers",
        RuntimeError,
        (
            r"vmap: called random operation while in randomness error mode\. Please either use "
            r"the 'same' or 'different' randomness flags on vmap or perform the randomness "
            r"operation out of vmap"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lambda x: x + lib.rand(1))(x)],
    ),
    Misuse(
        "vmap with an unknown randomness",
        RuntimeError,
        (
            r"Only allowed values for randomness are 'error', 'different', or 'same'\. Got 'yes'; "
            r"pass one of them"
        ),
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lib.sin, randomness="yes")(x)],
    ),
    Misuse(
        "vmap in chunks of nothing",
        ValueError,
        r"vmap: chunk_size should be None or greater than 0\. \(got 0\); leave it out",
        "vmap",
        lambda lib: [x := lib.ones(3), lambda: lib.vmap(lib.sin, chunk_size=0)(x)],
    ),
    Misuse(
        "vmap that writes to what all examples share",
        RuntimeError,
        (
            r"vmap\(<lambda>, \.\.\.\): `<lambda>` changed an argument in place that has no "
            r"in_dim, and would do so for each example; copy it, or give each example its own"
        ),
        "vmap",
        lambda lib: [
            x := lib.ones(3),
            lambda: lib.vmap(lambda x, y: y.add_(x), in_dims=(0, None))(x, lib.ones(())),
        ],
    ),
    Misuse(
        "batches of gradients without the batch",
        RuntimeError,
        (
            r"If `is_grads_batched=True`, we interpret the first dimension of each grad_output as "
            r"the batch dimension\. The sizes of the remaining dimensions are expected to match "
            r"the shape of corresponding output, but a mismatch was detected: grad_output\[0\] "
            r"has a shape of torch\.Size\(\[3\]\) and output\[0\] has a shape of "
            r"torch\.Size\(\[3\]\)\. grad: give a batch of shape \('batch', 3\)"
        ),
        "vmap",
        lambda lib: [
            x := leaf(lib),
            y := x * 2,
            lambda: lib.autograd.grad(y, x, lib.ones(3), is_grads_batched=True),
        ],
    ),
    Misuse(
        "batches of gradients of two sizes",
        ValueError,
        (
            r"grad: is_grads_batched=True takes batches of one size in grad_outputs, not of \[2, "
            r"4\]; give as many gradients for each output"
        ),
        "vmap",
        lambda lib: [
            x := leaf(lib),
            y := x * 2,
            lambda: lib.autograd.grad([y, y], x, [lib.ones(2, 3), lib.ones(4, 3)], is_grads_batched=True),
        ],
    ),
]

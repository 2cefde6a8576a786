"""`backward` and `grad`: roots, gradients to start from, inputs."""

from __future__ import annotations

import numpy as np

from libraries import leaf
from misuse_cases.row import FREED, NO_GRAD, NO_GRAPH, SCALAR, SHAPES, UNUSED, Misuse, under

BACKWARD = [
    Misuse(
        "backward of a vector",
        RuntimeError,
        SCALAR,
        "root",
        lambda lib: [x := leaf(lib), y := x * 2, y.backward],
    ),
    Misuse(
        "autograd.backward of a vector",
        RuntimeError,
        SCALAR,
        "root",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: lib.autograd.backward([y])],
    ),
    Misuse(
        "grad of a vector",
        RuntimeError,
        SCALAR,
        "root",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: lib.autograd.grad(y, x)],
    ),
    Misuse(
        "backward of a constant",
        RuntimeError,
        NO_GRAPH,
        "root",
        lambda lib: [x := lib.ones(()), x.backward],
    ),
    Misuse(
        "backward without any requires_grad",
        RuntimeError,
        NO_GRAPH,
        "root",
        lambda lib: [x := lib.ones(3), y := (x * 2).sum(), y.backward],
    ),
    Misuse(
        "backward of a no_grad result",
        RuntimeError,
        NO_GRAPH,
        "root",
        lambda lib: [x := leaf(lib), y := under(lib.no_grad(), lambda: x.sum()), y.backward],
    ),
    Misuse(
        "backward of an inference_mode result",
        RuntimeError,
        NO_GRAPH,
        "root",
        lambda lib: [x := leaf(lib), y := under(lib.inference_mode(), lambda: x.sum()), y.backward],
    ),
    Misuse(
        "backward inside of inference_mode",
        RuntimeError,
        NO_GRAPH,
        "root",
        lambda lib: [x := leaf(lib), lambda: under(lib.inference_mode(), lambda: x.sum().backward())],
    ),
    Misuse(
        "backward of a detached loss",
        RuntimeError,
        NO_GRAPH,
        "root",
        lambda lib: [x := leaf(lib), y := x.sum().detach(), y.backward],
    ),
    Misuse(
        "backward of a loss made again by tensor()",
        RuntimeError,
        NO_GRAPH,
        "root",
        lambda lib: [x := leaf(lib), y := lib.tensor(x.sum().item()), y.backward],
    ),
    Misuse(
        "backward of an argmax",
        RuntimeError,
        NO_GRAPH,
        "root",
        lambda lib: [x := leaf(lib), y := x.argmax(), y.backward],
    ),
    Misuse(
        "backward of an accuracy",
        RuntimeError,
        NO_GRAPH,
        "root",
        lambda lib: [x := leaf(lib), y := (x > 1).float().mean(), y.backward],
    ),
    Misuse(
        "second derivative without create_graph",
        RuntimeError,
        NO_GRAPH,
        "root",
        lambda lib: [
            x := leaf(lib),
            g := lib.autograd.grad((x**3).sum(), x)[0],
            lambda: lib.autograd.grad(g.sum(), x),
        ],
    ),
    Misuse(
        "second derivative of a linear function",
        RuntimeError,
        NO_GRAPH,
        "root",
        lambda lib: [
            x := leaf(lib),
            g := lib.autograd.grad((x * 2).sum(), x, create_graph=True)[0],
            lambda: lib.autograd.grad(g.sum(), x),
        ],
    ),
    Misuse(
        "backward of a number",
        TypeError,
        r"backward: tensors must be a Tensor or a list of Tensors, not float; make it a tensor",
        "arguments",
        lambda lib: [lambda: lib.autograd.backward(1.0)],
    ),
    Misuse(
        "backward of a list with a number",
        TypeError,
        r"backward: tensors must be a Tensor or a list of Tensors, but item 1 is float; make it a tensor",
        "arguments ours",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: lib.autograd.backward([y, 1.0])],
    ),
    Misuse(
        "grad of a name",
        TypeError,
        r"grad: outputs must be a Tensor or a list of Tensors, but item 0 is str; make it a tensor",
        "arguments ours",
        lambda lib: [x := leaf(lib), lambda: lib.autograd.grad("loss", x)],
    ),
    Misuse(
        "grad of nothing",
        RuntimeError,
        UNUSED.format(0),
        "arguments",
        lambda lib: [x := leaf(lib), lambda: lib.autograd.grad([], x)],
    ),
    Misuse(
        "backward twice",
        RuntimeError,
        FREED,
        "freed",
        lambda lib: [x := leaf(lib), y := (x * x).sum(), y.backward(), y.backward],
    ),
    Misuse(
        "grad twice",
        RuntimeError,
        FREED,
        "freed",
        lambda lib: [
            x := leaf(lib),
            y := (x * x).sum(),
            lib.autograd.grad(y, x)[0],
            lambda: lib.autograd.grad(y, x),
        ],
    ),
    Misuse(
        "two losses of one graph",
        RuntimeError,
        FREED,
        "freed",
        lambda lib: [x := leaf(lib), h := x.exp(), (h * 1).sum().backward(), y := (h * 2).sum(), y.backward],
    ),
    Misuse(
        "a state carried over without detach",
        RuntimeError,
        FREED,
        "freed",
        lambda lib: [x := leaf(lib), s := x * x, (s * s).sum().backward(), y := (s * x).sum(), y.backward],
    ),
    Misuse(
        "gradient of another shape",
        RuntimeError,
        SHAPES,
        "gradient",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: y.backward(lib.ones(2))],
    ),
    Misuse(
        "gradient that would broadcast",
        RuntimeError,
        (
            r"grad_output\[0\] has a shape of \[1\] and output\[0\] has a shape of \[3\]; give a gradient of "
            "the output's "
            r"shape"
        ),
        "gradient",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: y.backward(lib.ones(1))],
    ),
    Misuse(
        "gradient a number",
        TypeError,
        r"backward: gradient must be a Tensor or None, not float; make it a tensor of shape \[3\]",
        "gradient",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: y.backward(1.0)],
    ),
    Misuse(
        "gradient a list",
        TypeError,
        r"backward: gradient must be a Tensor or None, not list; make it a tensor of shape \[3\]",
        "gradient",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: y.backward([1.0, 1.0, 1.0])],
    ),
    Misuse(
        "grad_outputs of another shape",
        RuntimeError,
        SHAPES,
        "gradient",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: lib.autograd.grad(y, x, lib.ones(2))],
    ),
    Misuse(
        "fewer grad_outputs than outputs",
        RuntimeError,
        r"grad: got 2 tensors and 1 gradients; there must be one gradient per output",
        "gradient",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: lib.autograd.grad([y, y], x, [lib.ones(3)])],
    ),
    Misuse(
        "more grad_outputs than outputs",
        RuntimeError,
        r"grad: got 1 tensors and 2 gradients; there must be one gradient per output",
        "gradient ours",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: lib.autograd.grad([y], x, [lib.ones(3)] * 2)],
    ),
    Misuse(
        "fewer grad_tensors than tensors",
        RuntimeError,
        r"backward: got 2 tensors and 1 gradients; there must be one gradient per output",
        "gradient",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: lib.autograd.backward([y, y], [lib.ones(3)])],
    ),
    Misuse(
        "grad_outputs a number",
        TypeError,
        (
            r"grad: grad_outputs must be a Tensor or None for each output, not float; make it a tensor of "
            r"the output's shape"
        ),
        "gradient",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: lib.autograd.grad(y, x, 1.0)],
    ),
    Misuse(
        "no inputs for backward",
        RuntimeError,
        r"backward: `inputs` argument to `backward\(\)` cannot be empty; leave it out to reach every leaf",
        "inputs",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: y.backward(inputs=[])],
    ),
    Misuse(
        "no inputs for grad",
        RuntimeError,
        (
            r"grad: `inputs` argument to `grad\(\)` cannot be empty; pass the tensors to differentiate with "
            r"respect to"
        ),
        "inputs",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: lib.autograd.grad(y, [])],
    ),
    Misuse(
        "a number among the inputs of backward",
        TypeError,
        r"backward: expected a Tensor or a list of Tensors, not float; make it a tensor",
        "inputs",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: y.backward(inputs=1.0)],
    ),
    Misuse(
        "names as inputs of backward",
        RuntimeError,
        (r"backward: all inputs have to be Tensors, but got str at position 0; pass the leaves themselves"),
        "inputs",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: y.backward(inputs=["x"])],
    ),
    Misuse(
        "a number as input of grad",
        TypeError,
        r"grad: inputs must be a Tensor or a list of Tensors, not float; make it a tensor",
        "inputs",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: lib.autograd.grad(y, 1.0)],
    ),
    Misuse(
        "None as input of grad",
        TypeError,
        r"grad: inputs must be a Tensor or a list of Tensors, not NoneType; make it a tensor",
        "inputs",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: lib.autograd.grad(y, None)],
    ),
    Misuse(
        "input of backward that requires no grad",
        RuntimeError,
        NO_GRAD.format(1),
        "inputs",
        lambda lib: [x := leaf(lib), c := lib.ones(3), y := (x * c).sum(), lambda: y.backward(inputs=[x, c])],
    ),
    Misuse(
        "input of grad that requires no grad",
        RuntimeError,
        NO_GRAD.format(0),
        "inputs",
        lambda lib: [x := leaf(lib), c := lib.ones(3), y := (x * c).sum(), lambda: lib.autograd.grad(y, c)],
    ),
    Misuse(
        "unused input",
        RuntimeError,
        UNUSED.format(1),
        "inputs",
        lambda lib: [x := leaf(lib), z := leaf(lib), y := x.sum(), lambda: lib.autograd.grad(y, [x, z])],
    ),
    Misuse(
        "a copy made later as input",
        RuntimeError,
        UNUSED.format(0),
        "inputs",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: lib.autograd.grad(y, x * 1)],
    ),
    Misuse(
        "a view taken later as input",
        RuntimeError,
        UNUSED.format(0),
        "inputs",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: lib.autograd.grad(y, x[0])],
    ),
    Misuse(
        "zeros for unused inputs that are not allowed",
        ValueError,
        (
            r"Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
            r"allow_unused=False\. grad: leave allow_unused out"
        ),
        "inputs",
        lambda lib: [
            x := leaf(lib),
            y := x.sum(),
            lambda: lib.autograd.grad(y, x, allow_unused=False, materialize_grads=True),
        ],
    ),
    Misuse(
        "backward with retain_graph a string",
        TypeError,
        r"argument 'retain_graph' must be bool, not str; use True or False",
        "arguments",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: y.backward(retain_graph="yes")],
    ),
    Misuse(
        "backward with create_graph a string",
        TypeError,
        r"argument 'create_graph' must be bool, not str; use True or False",
        "arguments",
        lambda lib: [x := leaf(lib), y := x.sum(), lambda: y.backward(create_graph="yes")],
    ),
    Misuse(
        "gradient a NumPy array",
        TypeError,
        (
            r"backward: gradient must be a Tensor or None, not ndarray; make it a tensor of shape "
            r"\[3\]"
        ),
        "gradient",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: y.backward(np.ones(3))],
    ),
]

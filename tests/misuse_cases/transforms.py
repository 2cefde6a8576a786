"""`torch.func`: gradients, products and Jacobians as transforms of functions."""

from __future__ import annotations

from misuse_cases.row import SHAPES, Misuse

TRANSFORMS = [
    Misuse(
        "grad of a function that gives a vector",
        RuntimeError,
        (
            r"grad_and_value\(f\)\(\*args\): Expected f\(\*args\) to return a scalar Tensor, got "
            r"tensor with 1 dims\. Maybe you wanted to use the vjp or jacrev APIs instead\? Its "
            r"shape is \(3,\); reduce it with \.sum\(\) or \.mean\(\)"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.grad(lambda x: x * 2)(x)],
    ),
    Misuse(
        "grad of a function that gives a number",
        RuntimeError,
        (
            r"grad_and_value\(f\)\(\*args\): Expected f\(\*args\) to return a Tensor, got <class "
            r"'float'>; compute it from the arguments by tensor operations"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.grad(lambda x: 1.0)(x)],
    ),
    Misuse(
        "grad of a number by a transform",
        ValueError,
        (
            r"Thing passed to transform API must be Tensor, got <class 'float'>; make it one with "
            r"torch\.tensor\(\.\.\), or leave it out of argnums"
        ),
        "transform",
        lambda lib: [lambda: lib.func.grad(lambda x: x * 2)(1.0)],
    ),
    Misuse(
        "grad of integers by a transform",
        RuntimeError,
        (
            r"requires_grad_: only Tensors of floating point dtype can require gradients, not "
            r"int64 \(shape \[2\]\); convert with \.float\(\), or ask for no gradient"
        ),
        "transform",
        lambda lib: [x := lib.tensor([1, 2]), lambda: lib.func.grad(lambda x: x.sum())(x)],
    ),
    Misuse(
        "argnums beyond the arguments",
        RuntimeError,
        (
            r"Got argnum=1, but only 1 positional inputs; argnums count the positional arguments "
            r"to differentiate, from 0: argnums=0, argnums=\(0, 1\)"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.grad(lambda x: x.sum(), argnums=1)(x)],
    ),
    Misuse(
        "argnums a name",
        RuntimeError,
        (
            r"argnums must be int or Tuple\[int, \.\.\.\], got: <class 'str'>; argnums count the "
            r"positional arguments to differentiate, from 0: argnums=0, argnums=\(0, 1\)"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.grad(lambda x: x.sum(), argnums="x")(x)],
    ),
    Misuse(
        "argnums of floats",
        RuntimeError,
        (
            r"argnum must be int, got: <class 'float'>; argnums count the positional arguments to "
            r"differentiate, from 0: argnums=0, argnums=\(0, 1\)"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.grad(lambda x: x.sum(), argnums=(0.5,))(x)],
    ),
    Misuse(
        "argnums empty",
        RuntimeError,
        (
            r"argnums must be non-empty, got \(\); argnums count the positional arguments to "
            r"differentiate, from 0: argnums=0, argnums=\(0, 1\)"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.grad(lambda x: x.sum(), argnums=())(x)],
    ),
    Misuse(
        "argnums twice the same",
        RuntimeError,
        r"argnums elements must be unique, got \(0, 0\); name each argument once",
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.grad(lambda x: x.sum(), argnums=(0, 0))(x)],
    ),
    Misuse(
        "has_aux without aux",
        RuntimeError,
        (
            r"grad_and_value\(f\)\(\*args\): output of function f should be a tuple: \(output, "
            r"aux\) if has_aux is True, not Tensor; return both, or leave has_aux out"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.grad(lambda x: x.sum(), has_aux=True)(x)],
    ),
    Misuse(
        "vjp with a cotangent of another shape",
        RuntimeError,
        SHAPES,
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.vjp(lambda x: x * 2, x)[1](lib.ones(2))],
    ),
    Misuse(
        "vjp with cotangents of another structure",
        RuntimeError,
        (
            r"Expected pytree structure of cotangents to be the same as pytree structure of "
            r"outputs to the function\. cotangents: \(\*, \*\), primal output: \*; give a tensor "
            r"for each output, in the same tuples, lists and dicts"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.vjp(lambda x: x * 2, x)[1]((x, x))],
    ),
    Misuse(
        "vjp with a number as cotangent",
        TypeError,
        (
            r"gradients can be either Tensors or None, but got float; give tensors shaped as the "
            r"outputs"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.vjp(lambda x: x * 2, x)[1](1.0)],
    ),
    Misuse(
        "vjp of a function that gives integers",
        RuntimeError,
        (
            r"vjp\(f, \.\.\.\): All outputs of f must be floating-point or complex Tensors, got "
            r"Tensor with dtype torch\.int64; return integers beside them, with has_aux=True"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.vjp(lambda x: (x > 0).long(), x)],
    ),
    Misuse(
        "vjp of a function that gives a number",
        RuntimeError,
        (
            r"vjp\(f, \*primals\): expected f\(\*primals\) to return only tensors, got "
            r"unsupported type <class 'int'>; return what is no tensor beside them, with "
            r"has_aux=True"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.vjp(lambda x: 3, x)],
    ),
    Misuse(
        "vjp of a function that gives nothing",
        RuntimeError,
        (
            r"vjp\(f, \*primals\): Expected f to be a function that has non-empty output \(got "
            r"output = \[None\]\); return a tensor, or a tree of them"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.vjp(lambda x: None, x)],
    ),
    Misuse(
        "jvp with a tangent of another shape",
        RuntimeError,
        (
            r"jvp\(f, primals, tangents\): tangent 0 of shape \(2,\) and dtype torch\.float32 "
            r"doesn't match its primal of shape \(3,\) and dtype torch\.float32; give one of the "
            r"primal's shape and dtype"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.jvp(lambda x: x * 2, (x,), (lib.ones(2),))],
    ),
    Misuse(
        "jvp with a tangent of another dtype",
        RuntimeError,
        (
            r"jvp\(f, primals, tangents\): tangent 0 of shape \(3,\) and dtype torch\.float64 "
            r"doesn't match its primal of shape \(3,\) and dtype torch\.float32; give one of the "
            r"primal's shape and dtype"
        ),
        "transform ours",
        lambda lib: [x := lib.ones(3), lambda: lib.func.jvp(lambda x: x * 2, (x,), (x.double(),))],
    ),
    Misuse(
        "jvp with too many tangents",
        RuntimeError,
        (
            r"jvp\(f, primals, tangents\): Expected primals and tangents to have the same python "
            r"structure\. For example, if primals is a tuple of 3 tensors, tangents also must "
            r"be\. Got primals with structure \(\*,\) and tangents with structure \(\*, \*\); "
            r"give a tangent for each primal"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.jvp(lambda x: x * 2, (x,), (x, x))],
    ),
    Misuse(
        "jvp without a tuple",
        RuntimeError,
        (
            r"jvp\(f, primals, tangents\): Expected primals to be a tuple\. E\.g\. it should be "
            r"valid to call f\(\*primals\)\. Got Tensor; pass \(primal,\) and \(tangent,\)"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.jvp(lambda x: x * 2, x, x)],
    ),
    Misuse(
        "jvp of nothing",
        RuntimeError,
        (
            r"jvp\(f, primals, tangents\): Expected primals to contain at least one Tensor; pass "
            r"\(primal,\)"
        ),
        "transform",
        lambda lib: [lambda: lib.func.jvp(lambda: 2, (), ())],
    ),
    Misuse(
        "jvp of integers",
        ValueError,
        (
            r"Expected primal to be floating point or complex, but got: torch\.int64 \(shape "
            r"\(2,\)\); convert it with \.float\(\)"
        ),
        "transform",
        lambda lib: [x := lib.tensor([1, 2]), lambda: lib.func.jvp(lambda x: x * 2, (x,), (x,))],
    ),
    Misuse(
        "jvp of a number",
        RuntimeError,
        (
            r"jvp\(f, primals, tangents\): Expected primals to only contain Tensors, got <class "
            r"'float'>; make it one with torch\.tensor\(\.\.\)"
        ),
        "transform",
        lambda lib: [lambda: lib.func.jvp(lambda x: x * 2, (1.0,), (1.0,))],
    ),
    Misuse(
        "jvp of a constant in strict mode",
        RuntimeError,
        (
            r"jvp\(f, primals, tangents, strict=True\): The output of f is independent of the "
            r"inputs\. This is not allowed with strict=True; leave strict out to get zeros"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.jvp(lambda x: lib.ones(2), (x,), (x,), strict=True)],
    ),
    Misuse(
        "a linearized function with a tangent of another shape",
        RuntimeError,
        (
            r"linearize: tangent 0 of shape \(2,\) and dtype torch\.float32 doesn't match its "
            r"primal of shape \(3,\) and dtype torch\.float32; give one of the primal's shape and "
            r"dtype"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.linearize(lambda x: x * 2, x)[1](lib.ones(2))],
    ),
    Misuse(
        "a linearized function with too many tangents",
        RuntimeError,
        (
            r"Expected the tangents \(\*, \*\) to have the same argspec as the primals \(\*,\); "
            r"give jvp_fn a tangent for each argument of linearize"
        ),
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.linearize(lambda x: x * 2, x)[1](x, x)],
    ),
    Misuse(
        "jacrev in chunks of nothing",
        ValueError,
        r"jacrev: `chunk_size` should be greater than 0; it is 0, leave it out",
        "transform",
        lambda lib: [x := lib.ones(3), lambda: lib.func.jacrev(lambda x: x, chunk_size=0)(x)],
    ),
]

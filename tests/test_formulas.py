"""Every formula that `explain` shows is true: it is read as a program, and gives what autograd gives."""

import math
import re

import pytest

import firesteel
from firesteel.graph.formulas import FORMULAS
from firesteel.graph.variants import formula_for
from formula_cases import CASES, F64, LABELS, ROWS, WEIGHTS, T, X, normal_tanh, numbers, one

F = firesteel.nn.functional


def shared(x, largest):
    """1 where x is the largest, shared by ties."""
    same = one(x == largest)
    return same / same.sum()


def outer(a, b):
    """The outer product, for each pair of a batch."""
    return a.unsqueeze(-1) * b.unsqueeze(-2)


def times(a, g):
    """Each matrix of a batch times a matrix, or a vector, of the other."""
    return a @ g if g.dim() == a.dim() else (a @ g.unsqueeze(-1)).squeeze(-1)


def padded(g, x, place, dim=0):
    """`g` in its place among zeros of the shape of x."""
    full = firesteel.zeros_like(x)
    full.narrow(dim, place, g.shape[dim]).copy_(g)
    return full


NAMES = {
    **{name: getattr(firesteel, name) for name in ("sin", "cos", "exp", "sign", "tanh", "sigmoid", "where")},
    **{name: getattr(firesteel, name) for name in ("clamp", "trunc", "floor", "zeros_like")},
    "ln": lambda x: firesteel.log(x) if isinstance(x, firesteel.Tensor) else math.log(x),
    "sqrt": lambda x: x**0.5,
    "softplus": lambda x: (1 + firesteel.exp(x)).log(),
    "log_softmax": lambda x: firesteel.log_softmax(x, 1),
    "softmax": lambda x: firesteel.softmax(x, 1),
    "total": lambda x: x.sum(),
    "abs_": abs,
    "pi": math.pi,
    **{"one": one, "shared": shared, "outer": outer, "padded": padded, "times": times},
}

# What no rule of grammar turns into a program: words, and the program that they mean.
WORDS = {
    "0: a step function is flat": "0 * g",
    "0 for x < -3, g for x > 3, else g * (x / 3 + 1/2)": (
        "where(x < -3, 0 * g, where(x > 3, g, g * (x / 3 + 0.5)))"
    ),
    "g * (P(x) + x * P'(x))": "g * (P(x) + x * dP(x))",
    "g * [min <= x <= max]": "g * one((min <= x) & (x <= max))",
    "g * [min < x < max]": "g * one((min < x) & (x < max))",
    "g * [x < min < max]": "g * one((x < min) & (min < max))",
    "g * [x > max or min > max]": "g * one((x > max) | (min > max))",
    "g * [|x| > reach]": "g * one(abs_(x) > reach)",
    "g * [x > threshold]": "g * one(x > threshold)",
    "g / 6 * [-3 < x < 3]": "g / 6 * one((-3 < x) & (x < 3))",
    "g * [a > b]": "g * (one(a > b) + one(a == b) / 2)",
    "g * [b > a]; halves where they are equal": "g * (one(b > a) + one(a == b) / 2)",
    "g * [a < b]": "g * (one(a < b) + one(a == b) / 2)",
    "g * [b < a]; halves where they are equal": "g * (one(b < a) + one(a == b) / 2)",
    "g * [condition]": "g * one(condition)",
    "g * [not condition]": "g * one(~condition)",
    "g * [not masked]": "g * one(~masked)",
    "g * [x is not nan]": "g * one(x == x)",
    "sum of g where masked": "(g * one(masked)).sum()",
    "g where x is largest, shared equally by ties": "g * shared(x, y)",
    "g where x is smallest, shared equally by ties": "g * shared(x, y)",
    "g * sign(x) where |x| is largest, shared equally by ties": "g * sign(x) * shared(abs(x), y)",
    "sum over j >= i of g_j * y_j / x_i": "(g * y).flip(0).cumsum(0).flip(0) / x",
    "sum over j >= i of g_j": "g.flip(0).cumsum(0).flip(0)",
    "g at the place of the largest, 0 elsewhere": "g.unsqueeze(1) * one(x == y.unsqueeze(1))",
    "g at the place of the smallest, 0 elsewhere": "g.unsqueeze(1) * one(x == y.unsqueeze(1))",
    "g / n, for every element": "g / n * one(x == x)",
    "g / n, repeated along the dims": "g.unsqueeze(1) / n * one(x == x)",
    "g, for every element": "g * one(x == x)",
    "g, repeated along the dims": "g.unsqueeze(1) * one(x == x)",
    "g, repeated": "g.reshape(1, -1, 1, 1) * one(x == x)",
    "g * product of the others": "others(g)",
    "for each row the sum of g where it was chosen, 0 for padding": "added(w, g)",
    "g added up at the indices, 0 elsewhere": "added(x, g)",
    "g, 0 at the indices": "left(g)",
    "g at the indices": "chosen(g)",
    "g, back in the order of x": "back(g)",
    "g at their places, 0 elsewhere": "back(g)",
    "lower triangle of g": "g.tril()",
    "upper triangle of g": "g.triu()",
    "g in the region, 0 elsewhere": "within(g)",
    "its part of g": "list(g.split(2))",
    "its slice of g": "list(g.unbind())",
    "g on the diagonal, 0 elsewhere": "g * one(firesteel.eye(3) > 0)",
    "sum of g over the repeats": "g.sum(0, keepdim=True)",
    "g in reverse order": "g.flip(0)",
    "g with the dims back in order": "g.permute(1, 2, 0)",
    "g in that slice, 0 elsewhere": "padded(g.unsqueeze(0), x, 1)",
    "g in that range, 0 elsewhere": "padded(g, x, 1)",
    "the gradients of the pieces joined": "firesteel.cat(g)",
    "the gradients of the slices stacked": "firesteel.stack(g)",
    "g with these dims": "g.reshape(x.shape)",
    "g without it": "g.squeeze(1)",
    "g transposed": "g.t()",
    "g in the dtype of x": "g.to(x.dtype)",
    "g with these dims swapped": "g.transpose(0, 2)",
    "g in the shape of x": "g.reshape(x.shape)",
    "g, what the write makes of it in the region": "g * one(firesteel.tensor([[1.0], [0.0], [1.0]]) > 0)",
    "g in the region": "g[1]",
    "sum of g": "total(g)",
    "sum of g over rows": "g.reshape(-1, 2).sum(0)",
    "sum of outer(g, x) over rows": "outer(g, x).reshape(-1, 2, 4).sum(0)",
    "sum of a^T @ g over the batch": "times(a.mT, g).sum(0)",
    "sum of b @ g over the batch": "times(b, g).sum(0)",
    "sum of g @ b^T over the batch": "(g @ b.mT).sum(0)",
    "g / n, added up over the windows": "unpooled(g / n)",
    "g at the place of the largest, added up over the windows": "unpooled(g)",
    "sum of g over all but channels": "g.sum((0, 2, 3))",
    "g - exp(y) * sum of g": "g - exp(y) * g.sum(1, keepdim=True)",
    "y * (g - sum of g * y)": "y * (g - (g * y).sum(1, keepdim=True))",
    "(h - mean(h) - n * mean(h * n)) / std, h = g * w": "(g * w - mean(g * w) - n * mean(g * w * n)) / std",
    "-g * w / n at the target, 0 elsewhere": "-g * w * target / n",
    "g * w * (softmax(x) - target) / n, target being 1 at the class and 0 elsewhere": (
        "g * w * (softmax(x) - target) / n"
    ),
    "g * (softmax(x) * (sum of t) - t) / n, target being 1 at the class and 0 elsewhere": (
        "g * (softmax(x) * t.sum(1, keepdim=True) - t) / n"
    ),
    "g with zeros there": "left(g)",
    "scale * s^T @ q, s = p * (h - sum of h * p), h = g @ v^T": "scale * s.mT @ q",
    "diagonal of g": "g.diagonal()",
    "d^T @ h, d the gradient of p, last step first": "d.mT @ h",
    "e^T @ h, d, e the gradients of p, q, last step first": "e.mT @ h",
    "that range of g": "g[1:3]",
    "g without the ends": "g[1:3]",
    "that region of g": "chosen(g)",
}


def program(text):
    """A part of a formula as Python."""
    if text in WORDS:
        return WORDS[text]
    text = re.sub(r"grad (\w+)", r"grad_\1", text)
    text = re.sub(r"transposed conv\(", "transposed_conv(", text)
    text = re.sub(r"^(.*) for (.*), else (.*)$", r"where(\2, \1, \3)", text)
    text = re.sub(r"^sum of (.*)$", r"total(\1)", text)
    text = re.sub(r"\|([^|]+)\|", r"abs_(\1)", text)
    text = re.sub(r"\[([^\]]+)\]", r"one(\1)", text)
    text = re.sub(r"ln (\d+)", r"ln(\1)", text)
    text = text.replace("P'(", "dP(")
    return text.replace("^T", ".mT").replace("^", "**")


def numbers_in(forward):
    """The numbers that a formula tells by their letters: `y = x^n, n = 3`."""
    told = re.findall(r"(\w+) = (-?(?:[\d.]+(?:e-?\d+)?|inf))(?=,|$)", forward)
    return {name: float(number) for name, number in told}


def evaluated(formulas, values):
    """The gradients that the second of two formulas says, by input."""
    forward, backward = formulas
    known = NAMES | {"firesteel": firesteel} | numbers_in(forward) | values
    gradients = {}
    for part in re.split(r"[,;] (?=grad )", backward):
        name, _, text = part.partition(" = ")
        name = name.removeprefix("grad of ").removeprefix("grad ").removesuffix("_i")
        name = {"what was written": "w"}.get(name, name)
        gradients[name] = known[f"grad_{name}"] = eval(program(text), known)
    return gradients


def gradients(case):
    """The formulas of a case, the gradients that they say, and those of autograd."""
    inputs = {name: tensor.detach().clone().requires_grad_() for name, tensor in case.inputs.items()}
    y = case.run(*inputs.values())
    outputs = list(y) if isinstance(y, list | tuple) else [y]
    firesteel.manual_seed(99)
    gs = [firesteel.rand_like(out.detach()) + 0.5 for out in outputs]
    expected = firesteel.autograd.grad(
        outputs, list(inputs.values()), gs, retain_graph=True, allow_unused=True
    )
    values = {name: tensor.detach() for name, tensor in inputs.items()}
    values["y"] = outputs[0].detach()
    values["g"] = gs if len(gs) > 1 else gs[0]
    values |= case.facts(values)
    formulas = formula_for(outputs[0].grad_fn)
    return formulas, evaluated(formulas, values), dict(zip(inputs, expected, strict=True))


@pytest.mark.parametrize("key", CASES)
def test_a_formula_is_true(key):
    formulas, said, expected = gradients(CASES[key])
    assert formulas[1] == FORMULAS[key][1], "another formula than the one to test"
    if "each input" in said:
        said = dict(zip(expected, said["each input"], strict=True))
    assert said.keys() == expected.keys()
    for name, value in said.items():
        target = expected[name]
        target = firesteel.zeros_like(CASES[key].inputs[name]) if target is None else target
        assert firesteel.allclose(value + 0 * target, target, rtol=1e-9, atol=1e-12, equal_nan=True), name


# Those that say in words what the operation does have no program.
FORWARD = [
    *("AbsBackward0", "CosBackward0", "ExpBackward0", "Expm1Backward0", "FloorBackward0", "Log1pBackward0"),
    *("LogBackward0", "NegBackward0", "ReciprocalBackward0", "RsqrtBackward0", "SigmoidBackward0"),
    *("SignBackward0", "SinBackward0", "SqrtBackward0", "SquareBackward0", "TanhBackward0", "TruncBackward0"),
    *("EluBackward0", "GeluBackward0", "HardsigmoidBackward0", "HardswishBackward0", "HardtanhBackward0"),
    *("HardshrinkBackward0", "SoftshrinkBackward0", "ThresholdBackward0"),
    *("LeakyReluBackward0", "LogSigmoidBackward0", "MishBackward0", "SiluBackward0", "SoftplusBackward0"),
    *("Add", "AddBackward0", "DivBackward0", "FloorDivideBackward0", "FmodBackward0", "LerpBackward0"),
    *("LerpBackward1", "MulBackward0", "PowBackward0", "PowBackward1", "PowBackward2", "RemainderBackward0"),
    *("Sub", "SubBackward0", "TruncDivideBackward0", "MeanBackward0", "SumBackward0", "CloneBackward0"),
    *("AddmmBackward0", "AddmvBackward0", "BaddbmmBackward0", "BmmBackward0", "MmBackward0", "MvBackward0"),
    *("DotBackward0", *(key for key in CASES if key.startswith("matmul")), "linear", "linear of a vector"),
    *(
        "linear of a batch",
        "NativeGroupNormBackward0",
        "NativeLayerNormBackward0",
        "FusedRmsNormBackward0",
        "batch norm with running statistics",
    ),
    *("NativeBatchNormBackward0", "transposed convolution", "BinaryCrossEntropyBackward0"),
    *("BinaryCrossEntropyWithLogitsBackward0", "HuberLossBackward0", "MseLossBackward0"),
    *("SmoothL1LossBackward0", "ScaledDotProductFlashAttentionForCpuBackward0"),
]


@pytest.mark.parametrize("key", FORWARD)
def test_what_an_operation_computes_is_true(key):
    case = CASES[key]
    inputs = [tensor.detach().clone().requires_grad_() for tensor in case.inputs.values()]
    y = case.run(*inputs)
    values = {name: tensor.detach() for name, tensor in zip(case.inputs, inputs, strict=True)}
    values |= {"y": y.detach(), "g": firesteel.ones_like(y.detach())}
    values |= case.facts(values)
    forward, _ = formula_for(y.grad_fn)
    text = re.split(r", (?:[a-zPn]\w* = |P the|for each)| over ", forward.removeprefix("y = "))[0]
    text = text.removesuffix(", mean")
    said = eval(program(text), NAMES | numbers_in(forward) | values)
    assert firesteel.allclose(said.mean() if ", mean" in forward else said, y, rtol=1e-9, atol=1e-12)


def test_every_formula_is_tested():
    # A leaf has no inputs.
    assert FORMULAS.keys() - CASES.keys() == {"AccumulateGrad"}


BARE = {
    "y = n, n = (x - mean) / std over batch and places": lambda x: F.batch_norm(x, None, None, training=True),
    "y = n, n = (x - mean) / std, both of the running statistics": (
        lambda x: F.batch_norm(x, WEIGHTS, WEIGHTS)
    ),
    "y = n, n = (x - mean) / std over the last dims": lambda x: F.layer_norm(x, (4,)),
    "y = w * n, n = (x - mean) / std over the last dims": lambda x: F.layer_norm(x, (4,), WEIGHTS),
    "y = n, n = x / s, s the root mean square over the last dims": lambda x: F.rms_norm(x, (4,)),
    "y = p @ v, p = softmax(scale * q @ k^T), scale = 0.5": (
        lambda x: F.scaled_dot_product_attention(x, x, x)
    ),
    "y = p @ v, p = softmax(scale * q @ k^T + mask of later keys), scale = 0.5": (
        lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)
    ),
    "y = x @ w^T": lambda x: F.linear(x, numbers(2, 4)),
    "y = a + b": lambda x: x + 1,
    "y = a + alpha * b, alpha = 2": lambda x: firesteel.add(x, x, alpha=2),
    "y = x^n, n = 0.5": lambda x: (x * x) ** 0.5,
    "y = c + a @ b": lambda x: firesteel.addmm(x, numbers(3, 2), numbers(2, 4)),
    "y = x held between numbers, max = 0.5": lambda x: x.clamp(max=0.5),
    "y = (p - t)^2, sum: n = 1": lambda x: F.mse_loss(x, T, reduction="sum"),
    "y = (p - t)^2, each by itself: n = 1": lambda x: F.mse_loss(x, T, reduction="none"),
    "y = -w * log_softmax(x) at the target, mean": lambda x: F.cross_entropy(x, LABELS),
    "y = x * P(x), P the normal distribution (or its tanh approximation)": (
        lambda x: F.gelu(x, approximate="tanh")
    ),
}


@pytest.mark.parametrize("said", BARE)
def test_formulas_say_no_more_than_there_is(said):
    x = ROWS.clone().requires_grad_()
    y = BARE[said](x)
    forward, backward = formula_for(y.grad_fn)
    assert forward == said
    letters = {name for name in re.findall(r"grad (\w+)", backward) if name != "x"}
    words = re.sub(r"grad \w+", "", backward)
    if not re.search(r"\bw\b", said):
        assert "w" not in letters and not re.search(r"\bw\b", words)
    if "bias" not in said:
        assert "bias" not in backward
    if "n = 1" in said:
        assert "/ n" not in backward


def test_the_approximation_of_gelu_has_the_same_formula():
    x = X.clone().requires_grad_()
    y = F.gelu(x, approximate="tanh")
    (expected,) = firesteel.autograd.grad(y.sum(), x, retain_graph=True)
    values = {"x": X, "y": y.detach(), "g": firesteel.ones(7, dtype=F64)}
    said = evaluated(formula_for(y.grad_fn), values | normal_tanh(values))
    assert firesteel.allclose(said["x"], expected, rtol=1e-9)

"""The derivative of every operation as a formula, by the name of its node.

`x`, `a`, `b`, ... are inputs, `y` the result, `g` the gradient that arrives for `y`; products of tensors are
element by element, `@` is the matrix product, `[condition]` is 1 where it holds and 0 elsewhere. Where an
input was broadcast, its gradient is summed over the dims that were. A weight `w` of a loss is 1 where none is
given.

Some entries have no name of a node: variants.py says when they are meant.
"""

from __future__ import annotations

import re

# Name of the node, or of a variant: (what it computes, the gradients of its inputs).
FORMULAS: dict[str, tuple[str, str]] = {
    # Element by element, of one tensor.
    "AbsBackward0": ("y = |x|", "grad x = g * sign(x)"),
    "CeilBackward0": ("y = ceil(x)", "grad x = 0: a step function is flat"),
    "CosBackward0": ("y = cos(x)", "grad x = -g * sin(x)"),
    "ErfBackward0": ("y = erf(x)", "grad x = g * 2 / sqrt(pi) * exp(-x^2)"),
    "ExpBackward0": ("y = exp(x)", "grad x = g * y"),
    "Expm1Backward0": ("y = exp(x) - 1", "grad x = g * (y + 1)"),
    "FloorBackward0": ("y = floor(x)", "grad x = 0: a step function is flat"),
    "Log10Backward0": ("y = log10(x)", "grad x = g / (x * ln 10)"),
    "Log1pBackward0": ("y = ln(1 + x)", "grad x = g / (1 + x)"),
    "Log2Backward0": ("y = log2(x)", "grad x = g / (x * ln 2)"),
    "LogBackward0": ("y = ln(x)", "grad x = g / x"),
    "NegBackward0": ("y = -x", "grad x = -g"),
    "ReciprocalBackward0": ("y = 1 / x", "grad x = -g * y^2"),
    "RoundBackward0": ("y = round(x)", "grad x = 0: a step function is flat"),
    "RsqrtBackward0": ("y = 1 / sqrt(x)", "grad x = -g / 2 * y^3"),
    "SigmoidBackward0": ("y = 1 / (1 + exp(-x))", "grad x = g * y * (1 - y)"),
    "SignBackward0": ("y = sign(x)", "grad x = 0: a step function is flat"),
    "SinBackward0": ("y = sin(x)", "grad x = g * cos(x)"),
    "SqrtBackward0": ("y = sqrt(x)", "grad x = g / (2 * y)"),
    "SquareBackward0": ("y = x^2", "grad x = g * 2 * x"),
    "TanBackward0": ("y = tan(x)", "grad x = g * (1 + y^2)"),
    "TanhBackward0": ("y = tanh(x)", "grad x = g * (1 - y^2)"),
    "TruncBackward0": ("y = trunc(x)", "grad x = 0: a step function is flat"),
    # Activations.
    "EluBackward0": (
        "y = s * x for x > 0, else s * alpha * (exp(c * x) - 1)",
        "grad x = g * s for x > 0, else g * s * alpha * c * exp(c * x)",
    ),
    "GeluBackward0": (
        "y = x * P(x), P the normal distribution (or its tanh approximation)",
        "grad x = g * (P(x) + x * P'(x))",
    ),
    "HardsigmoidBackward0": ("y = clamp(x / 6 + 1/2, 0, 1)", "grad x = g / 6 * [-3 < x < 3]"),
    "HardswishBackward0": (
        "y = x * clamp(x + 3, 0, 6) / 6",
        "grad x = 0 for x < -3, g for x > 3, else g * (x / 3 + 1/2)",
    ),
    "HardtanhBackward0": ("y = clamp(x, min, max)", "grad x = g * [min < x < max]"),
    "HardshrinkBackward0": ("y = x for |x| > reach, else 0", "grad x = g * [|x| > reach]"),
    "SoftshrinkBackward0": ("y = x - reach * sign(x) for |x| > reach, else 0", "grad x = g * [|x| > reach]"),
    "ThresholdBackward0": ("y = x for x > threshold, else value", "grad x = g * [x > threshold]"),
    "LeakyReluBackward0": ("y = x for x > 0, else slope * x", "grad x = g for x > 0, else slope * g"),
    "LogSigmoidBackward0": ("y = -ln(1 + exp(-x))", "grad x = g * sigmoid(-x)"),
    "MishBackward0": (
        "y = x * tanh(s), s = softplus(x)",
        "grad x = g * (tanh(s) + x * sigmoid(x) * (1 - tanh(s)^2))",
    ),
    "ReluBackward0": ("y = max(x, 0)", "grad x = g * [x > 0]"),
    "SiluBackward0": ("y = x * s, s = sigmoid(x)", "grad x = g * s * (1 + x * (1 - s))"),
    "SoftplusBackward0": (
        "y = ln(1 + exp(beta * x)) / beta for beta * x <= threshold, else x",
        "grad x = g * sigmoid(beta * x) for beta * x <= threshold, else g",
    ),
    # Element by element, of several tensors.
    "Add": ("y = a + b", "grad a = g, grad b = g"),
    "AddBackward0": ("y = a + alpha * b", "grad a = g, grad b = alpha * g"),
    "ClampBackward0": (
        "y = x held between two tensors",
        "grad x = g * [min <= x <= max], grad min = g * [x < min < max], "
        "grad max = g * [x > max or min > max]",
    ),
    "ClampBackward1": ("y = x held between numbers", "grad x = g * [min <= x <= max]"),
    "ClampMaxBackward0": ("y = min(x, max)", "grad x = g * [x <= max]"),
    "ClampMaxBackward1": ("y = min(x, max)", "grad x = g * [x <= max], grad max = g * [x > max]"),
    "ClampMinBackward0": ("y = max(x, min)", "grad x = g * [x >= min]"),
    "ClampMinBackward1": ("y = max(x, min)", "grad x = g * [x >= min], grad min = g * [x < min]"),
    "DivBackward0": ("y = a / b", "grad a = g / b, grad b = -g * y / b"),
    "FloorDivideBackward0": ("y = floor(a / b)", "grad a = 0, grad b = 0: a step function is flat"),
    "FmodBackward0": ("y = a - b * trunc(a / b)", "grad a = g, grad b = -g * trunc(a / b)"),
    "LerpBackward0": ("y = a + w * (b - a)", "grad a = g * (1 - w), grad b = g * w"),
    "LerpBackward1": (
        "y = a + w * (b - a)",
        "grad a = g * (1 - w), grad b = g * w, grad w = g * (b - a)",
    ),
    "MaximumBackward0": (
        "y = max(a, b)",
        "grad a = g * [a > b], grad b = g * [b > a]; halves where they are equal",
    ),
    "MinimumBackward0": (
        "y = min(a, b)",
        "grad a = g * [a < b], grad b = g * [b < a]; halves where they are equal",
    ),
    "MulBackward0": ("y = a * b", "grad a = g * b, grad b = g * a"),
    "PowBackward0": ("y = x^n", "grad x = g * n * x^(n - 1)"),
    "PowBackward1": ("y = a^b", "grad a = g * b * a^(b - 1), grad b = g * y * ln(a)"),
    "PowBackward2": ("y = c^x", "grad x = g * y * ln(c)"),
    "RemainderBackward0": ("y = a - b * floor(a / b)", "grad a = g, grad b = -g * floor(a / b)"),
    "Sub": ("y = a - b", "grad a = g, grad b = -g"),
    "SubBackward0": ("y = a - alpha * b", "grad a = g, grad b = -alpha * g"),
    "TruncDivideBackward0": ("y = trunc(a / b)", "grad a = 0, grad b = 0: a step function is flat"),
    "WhereBackward0": (
        "y = a where the condition holds, else b",
        "grad a = g * [condition], grad b = g * [not condition]",
    ),
    # Sums and the like, over all elements or some dims.
    "AmaxBackward0": ("y = largest of x", "grad x = g where x is largest, shared equally by ties"),
    "AminBackward0": ("y = smallest of x", "grad x = g where x is smallest, shared equally by ties"),
    "CumprodBackward0": ("y_i = x_1 * ... * x_i", "grad x_i = sum over j >= i of g_j * y_j / x_i"),
    "CumsumBackward0": ("y_i = x_1 + ... + x_i", "grad x_i = sum over j >= i of g_j"),
    "LinalgVectorNormBackward0": (
        "y = (sum of |x|^p)^(1/p)",
        "grad x = g * sign(x) * (|x| / y)^(p - 1)",
    ),
    "largest norm": (
        "y = largest of |x|",
        "grad x = g * sign(x) where |x| is largest, shared equally by ties",
    ),
    "LogsumexpBackward0": ("y = ln(sum of exp(x))", "grad x = g * exp(x - y)"),
    "MaxBackward0": ("y = largest of x along a dim", "grad x = g at the place of the largest, 0 elsewhere"),
    "MaxBackward1": ("y = largest of x", "grad x = g where x is largest, shared equally by ties"),
    "MeanBackward0": ("y = sum of x / n", "grad x = g / n, for every element"),
    "MeanBackward1": ("y = sum of x along dims / n", "grad x = g / n, repeated along the dims"),
    "MinBackward0": ("y = smallest of x along a dim", "grad x = g at the place of the smallest, 0 elsewhere"),
    "MinBackward1": ("y = smallest of x", "grad x = g where x is smallest, shared equally by ties"),
    "NansumBackward0": ("y = sum of what is not nan", "grad x = g * [x is not nan]"),
    "NansumBackward1": ("y = sum along dims of what is not nan", "grad x = g * [x is not nan]"),
    "ProdBackward0": ("y = product of x", "grad x_i = g * product of the others"),
    "ProdBackward1": ("y = product of x along a dim", "grad x_i = g * product of the others"),
    "StdBackward0": ("y = sqrt(variance of x)", "grad x = g * (x - mean) / ((n - correction) * y)"),
    "SumBackward0": ("y = sum of x", "grad x = g, for every element"),
    "SumBackward1": ("y = sum of x along dims", "grad x = g, repeated along the dims"),
    "VarBackward0": (
        "y = sum of (x - mean)^2 / (n - correction)",
        "grad x = g * 2 * (x - mean) / (n - correction)",
    ),
    # Choosing and sorting.
    "EmbeddingBackward0": (
        "y = rows of w",
        "grad w = for each row the sum of g where it was chosen, 0 for padding",
    ),
    "GatherBackward0": (
        "y = x at the indices along a dim",
        "grad x = g added up at the indices, 0 elsewhere",
    ),
    "IndexBackward0": ("y = x[indices]", "grad x = g added up at the indices, 0 elsewhere"),
    "IndexPutBackward0": (
        "y = x with v put at the indices",
        "grad x = g, 0 at the indices; grad v = g at the indices",
    ),
    "IndexPut, added": ("y = x with v added at the indices", "grad x = g, grad v = g at the indices"),
    "IndexSelectBackward0": ("y = chosen slices of x", "grad x = g added up at the indices, 0 elsewhere"),
    "MaskedFillBackward0": ("y = x, a number where masked", "grad x = g * [not masked]"),
    "MaskedFillBackward1": (
        "y = x, v where masked",
        "grad x = g * [not masked], grad v = sum of g where masked",
    ),
    "ScatterAddBackward0": (
        "y = x with v added at the indices",
        "grad x = g, grad v = g at the indices",
    ),
    "ScatterBackward0": (
        "y = x with v written at the indices",
        "grad x = g, 0 at the indices; grad v = g at the indices",
    ),
    "SortBackward0": ("y = x sorted along a dim", "grad x = g, back in the order of x"),
    "TopkBackward0": ("y = the k largest of x", "grad x = g at their places, 0 elsewhere"),
    "TrilBackward0": ("y = lower triangle of x", "grad x = lower triangle of g"),
    "TriuBackward0": ("y = upper triangle of x", "grad x = upper triangle of g"),
    # Drawn at random.
    "BernoulliBackward0": ("y = 1 with probability p, else 0", "grad p = 0"),
    "NormalBackward1": ("y = normal numbers around mean", "grad mean = 0"),
    "NormalBackward2": ("y = normal numbers of deviation std", "grad std = 0"),
    "NormalBackward3": ("y = normal numbers of mean and std", "grad mean = 0, grad std = 0"),
    # Views and other shapes of the same elements.
    "AliasBackward0": ("y = x", "grad x = g"),
    "AsStridedBackward0": ("y = a region of x", "grad x = g in the region, 0 elsewhere"),
    "ConstantPadNdBackward0": ("y = x with equal elements at its ends", "grad x = g without the ends"),
    "CatBackward0": ("y = the inputs one after the other", "grad of each input = its part of g"),
    "CloneBackward0": ("y = x", "grad x = g"),
    "DiagonalBackward0": ("y = diagonal of x", "grad x = g on the diagonal, 0 elsewhere"),
    "ExpandBackward0": ("y = x repeated", "grad x = sum of g over the repeats"),
    "FlipBackward0": ("y = x in reverse order", "grad x = g in reverse order"),
    "PermuteBackward0": ("y = x with its dims in another order", "grad x = g with the dims back in order"),
    "SelectBackward0": ("y = one slice of x", "grad x = g in that slice, 0 elsewhere"),
    "SliceBackward0": ("y = a range of x", "grad x = g in that range, 0 elsewhere"),
    "SplitBackward0": ("y_1, y_2, ... = pieces of x", "grad x = the gradients of the pieces joined"),
    "SqueezeBackward0": ("y = x without dims of size 1", "grad x = g with these dims"),
    "SqueezeBackward1": ("y = x without some dims of size 1", "grad x = g with these dims"),
    "StackBackward0": ("y = the inputs along a new dim", "grad of each input = its slice of g"),
    "TBackward0": ("y = x transposed", "grad x = g transposed"),
    "ToCopyBackward0": ("y = x in another dtype", "grad x = g in the dtype of x"),
    "TransposeBackward0": ("y = x with two dims swapped", "grad x = g with these dims swapped"),
    "UnbindBackward0": ("y_1, y_2, ... = slices of x", "grad x = the gradients of the slices stacked"),
    "UnsqueezeBackward0": ("y = x with a dim of size 1 more", "grad x = g without it"),
    "ViewBackward0": ("y = x in another shape", "grad x = g in the shape of x"),
    # Written in place.
    "CopyBackwards": ("y = b, written over a", "grad a = 0, grad b = g"),
    "CopySlices": (
        "y = x with a region written over",
        "grad x = g, what the write makes of it in the region; grad of what was written = g in the region",
    ),
    "FillBackward0": ("y = a number, written over x", "grad x = 0"),
    # Products of matrices and vectors.
    "AddmmBackward0": (
        "y = beta * c + alpha * a @ b",
        "grad c = beta * g, grad a = alpha * g @ b^T, grad b = alpha * a^T @ g",
    ),
    "AddmvBackward0": (
        "y = beta * c + alpha * a @ v",
        "grad c = beta * g, grad a = alpha * outer(g, v), grad v = alpha * a^T @ g",
    ),
    "BaddbmmBackward0": (
        "y = beta * c + alpha * a @ b, for each matrix of a batch",
        "grad c = beta * g, grad a = alpha * g @ b^T, grad b = alpha * a^T @ g",
    ),
    "BmmBackward0": ("y = a @ b, for each matrix of a batch", "grad a = g @ b^T, grad b = a^T @ g"),
    "DotBackward0": ("y = sum of a * b", "grad a = g * b, grad b = g * a"),
    "MmBackward0": ("y = a @ b", "grad a = g @ b^T, grad b = a^T @ g"),
    "MvBackward0": ("y = a @ v", "grad a = outer(g, v), grad v = a^T @ g"),
    "matmul of ranks 1 1": ("y = sum of a * b", "grad a = g * b, grad b = g * a"),
    "matmul of ranks 2 1": ("y = a @ v", "grad a = outer(g, v), grad v = a^T @ g"),
    "matmul of ranks 1 2": ("y = v @ b", "grad v = b @ g, grad b = outer(v, g)"),
    "matmul of ranks n 1": (
        "y = a @ v, for each matrix of a batch",
        "grad a = outer(g, v), grad v = sum of a^T @ g over the batch",
    ),
    "matmul of ranks 1 n": (
        "y = v @ b, for each matrix of a batch",
        "grad v = sum of b @ g over the batch, grad b = outer(v, g)",
    ),
    "matmul of ranks 2 n": (
        "y = a @ b, for each matrix of a batch",
        "grad a = sum of g @ b^T over the batch, grad b = a^T @ g",
    ),
    "matmul of ranks n 2": (
        "y = a @ b, for each matrix of a batch",
        "grad a = g @ b^T, grad b = sum of a^T @ g over the batch",
    ),
    "linear": (
        "y = x @ w^T + bias",
        "grad bias = sum of g over rows, grad x = g @ w, grad w = g^T @ x",
    ),
    "linear of a vector": (
        "y = w @ x + bias",
        "grad bias = g, grad x = w^T @ g, grad w = outer(g, x)",
    ),
    "linear of a batch": (
        "y = x @ w^T + bias, for each row of a batch",
        "grad bias = sum of g over rows, grad x = g @ w, grad w = sum of outer(g, x) over rows",
    ),
    # Layers.
    "AvgPool2DBackward0": ("y = mean over each window", "grad x = g / n, added up over the windows"),
    "ConvolutionBackward0": (
        "y = conv(x, w) + bias",
        "grad x = transposed conv(g, w), grad w = conv(x, g), grad bias = sum of g over all but channels",
    ),
    "transposed convolution": ("y = transposed conv(x, w)", "grad x = conv(g, w), grad w = conv(g, x)"),
    "AdaptiveMaxPool2DBackward0": (
        "y = largest of each window",
        "grad x = g at the place of the largest, added up over the windows",
    ),
    "MaxPool2DWithIndicesBackward0": (
        "y = largest of each window",
        "grad x = g at the place of the largest, added up over the windows",
    ),
    "NativeBatchNormBackward0": (
        "y = w * n + b, n = (x - mean) / std over batch and places",
        "grad w = sum of g * n, grad b = sum of g, grad x = w / std * (g - mean(g) - n * mean(g * n))",
    ),
    "batch norm with running statistics": (
        "y = w * n + b, n = (x - mean) / std, both of the running statistics",
        "grad w = sum of g * n, grad b = sum of g, grad x = g * w / std",
    ),
    "NativeGroupNormBackward0": (
        "y = w * n + b, n = (x - mean) / std over the groups of each sample's channels",
        "grad w = sum of g * n, grad b = sum of g, grad x = (h - mean(h) - n * mean(h * n)) / std, h = g * w",
    ),
    "NativeLayerNormBackward0": (
        "y = w * n + b, n = (x - mean) / std over the last dims",
        "grad w = sum of g * n, grad b = sum of g, grad x = (h - mean(h) - n * mean(h * n)) / std, h = g * w",
    ),
    "FusedRmsNormBackward0": (
        "y = w * n, n = x / s, s the root mean square over the last dims",
        "grad w = sum of g * n, grad x = (g * w - n * mean(g * w * n)) / s",
    ),
    # Recurrent layers.
    "RnnTanhBackward0": (
        "y = tanh(p) of each step, which is h of the next; p = x @ w^T + h @ v^T, and biases",
        "grad x = d @ w, grad w = d^T @ x, grad v = d^T @ h, d the gradient of p, last step first",
    ),
    "RnnReluBackward0": (
        "y = max(p, 0) of each step, which is h of the next; p = x @ w^T + h @ v^T, and biases",
        "grad x = d @ w, grad w = d^T @ x, grad v = d^T @ h, d the gradient of p, last step first",
    ),
    "LstmBackward0": (
        "y = o * tanh(c) of each step, which is h of the next, c = f * c + i * u; i, f, u and o are "
        "functions of p = x @ w^T + h @ v^T, and biases",
        "grad x = d @ w, grad w = d^T @ x, grad v = d^T @ h, d the gradient of p, last step first",
    ),
    "GruBackward0": (
        "y = (1 - z) * n + z * h of each step, which is h of the next, n = tanh(p + r * q); r and z are "
        "functions of p + q; p = x @ w^T, q = h @ v^T, and biases",
        "grad x = d @ w, grad w = d^T @ x, grad v = e^T @ h, d, e the gradients of p, q, last step first",
    ),
    "ScaledDotProductFlashAttentionForCpuBackward0": (
        "y = p @ v, p = softmax(scale * q @ k^T + mask)",
        "grad q = scale * s @ k, grad v = p^T @ g, grad k = scale * s^T @ q, s = p * (h - sum of h * p), "
        "h = g @ v^T",
    ),
    "LogSoftmaxBackward0": ("y = x - ln(sum of exp(x))", "grad x = g - exp(y) * sum of g"),
    "SoftmaxBackward0": ("y = exp(x) / sum of exp(x)", "grad x = y * (g - sum of g * y)"),
    # Losses: p is the prediction, t the target, n what the sum is divided by.
    "BinaryCrossEntropyBackward0": (
        "y = -(t * ln(p) + (1 - t) * ln(1 - p)), mean or sum",
        "grad p = g * (p - t) / (p * (1 - p)) / n, grad t = g * (ln(1 - p) - ln(p)) / n",
    ),
    "BinaryCrossEntropyWithLogitsBackward0": (
        "y = softplus(x) - t * x, mean or sum",
        "grad x = g * (sigmoid(x) - t) / n, grad t = -g * x / n",
    ),
    "HuberLossBackward0": (
        "y = d^2 / 2 for |d| < delta, else delta * (|d| - delta / 2), mean or sum, d = p - t",
        "grad p = g * clamp(d, -delta, delta) / n, grad t = -grad p",
    ),
    "MseLossBackward0": ("y = (p - t)^2, mean or sum", "grad p = g * 2 * (p - t) / n, grad t = -grad p"),
    "NllLossBackward0": (
        "y = -w * x at the target, mean or sum",
        "grad x = -g * w / n at the target, 0 elsewhere",
    ),
    "cross_entropy": (
        "y = -w * log_softmax(x) at the target, mean or sum",
        "grad x = g * w * (softmax(x) - target) / n, target being 1 at the class and 0 elsewhere",
    ),
    "cross_entropy with label smoothing": (
        "y = -(sum of t * log_softmax(x)), mean or sum, t = w * ((1 - e) * target + e / classes)",
        "grad x = g * (softmax(x) * (sum of t) - t) / n, target being 1 at the class and 0 elsewhere",
    ),
    "SmoothL1LossBackward0": (
        "y = d^2 / (2 * beta) for |d| < beta, else |d| - beta / 2, mean or sum, d = p - t",
        "grad p = g * clamp(d / beta, -1, 1) / n, grad t = -grad p",
    ),
    # What the gradients of other operations are made of, under create_graph=True.
    "ClearRegionBackward0": ("y = x with zeros in a region", "grad x = g with zeros there"),
    "Conv2dBiasBackward0": ("y = sum of x over all but channels", "grad x = g, repeated"),
    "Conv2dWeightBackward0": (
        "y = gradient of a convolution's weight, from x and h",
        "grad x = transposed conv(h, g), grad h = conv(x, g)",
    ),
    "DiagonalScatterBackward0": ("y = zeros with x on the diagonal", "grad x = diagonal of g"),
    "IndexAddZerosBackward0": ("y = zeros with x added at the indices", "grad x = g at the indices"),
    "SliceScatterBackward0": ("y = zeros with x in a range", "grad x = that range of g"),
    "AsStridedScatterBackward0": ("y = zeros with x in a region", "grad x = that region of g"),
    # Leaves.
    "AccumulateGrad": ("y = x, a leaf", "x.grad += g"),
}


def formula_of(node: str, operation: str = "") -> tuple[str, str]:
    """What an operation computes and the gradients of its inputs, as formulas.

    Args:
        node: name of the node, as `node.name()` gives it.
        operation: name of the operation, where it is another than the node's: `linear`, `cross_entropy`.

    Example:
        >>> from firesteel.graph.formulas import formula_of
        >>> formula_of("TanhBackward0")
        ('y = tanh(x)', 'grad x = g * (1 - y^2)')
    """
    if operation in FORMULAS:
        return FORMULAS[operation]
    if node in FORMULAS:
        return FORMULAS[node]
    if of_rule := re.fullmatch(r"(\w+?)BackwardBackward\d*", node):
        rule = f"the gradient rule of {of_rule[1].lower()}"
        return f"y = {rule}", f"the derivatives of {rule}"
    function = node.removesuffix("Backward")
    return f"y = {function}.forward(...)", f"what {function}.backward(...) returns"

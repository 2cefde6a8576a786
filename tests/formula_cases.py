"""Operations with what their formulas name, for the test that the formulas are true."""

import math

import firesteel
from firesteel._core import _tied

F = firesteel.nn.functional
F64 = firesteel.float64


def numbers(*shape, low=-1.0, high=1.0, seed=0):
    """Numbers of float64, none of them alike."""
    firesteel.manual_seed(seed)
    return firesteel.rand(*shape, dtype=F64) * (high - low) + low


class Case:
    """An operation: its inputs by the letters of its formula, and what else the formula names."""

    def __init__(self, run, facts=None, **inputs):
        self.run, self.facts, self.inputs = run, facts or (lambda v: {}), inputs


def one(condition):
    """`[condition]`: 1 where it holds."""
    return condition.to(F64)


X = numbers(7, low=-2.0, high=2.0)
CHANCES = numbers(7, low=0.1, high=0.9)
ABOVE = numbers(7, low=0.2, high=2.0)
A, B = numbers(5, seed=1), numbers(5, low=0.3, high=1.0, seed=2)
ROWS = numbers(3, 4, seed=3)
FEW = firesteel.tensor([2, 0, 2])
LABELS = firesteel.tensor([1, 3, 0])
P, T = numbers(3, 4, low=0.1, high=0.9, seed=4), numbers(3, 4, low=0.1, high=0.9, seed=5)
WEIGHTS = numbers(4, low=0.5, high=1.5, seed=6)
IMAGE, KERNEL = numbers(2, 3, 4, 4, seed=7), numbers(2, 3, 2, 2, seed=8)


def places(index):
    """What writes and reads at rows of x do to g."""
    mask = firesteel.zeros(3, 1, dtype=F64)
    mask[index] = 1.0

    def added(x, g):
        return firesteel.zeros_like(x).index_add(0, index, g)

    return {"added": added, "chosen": lambda g: g[index], "left": lambda g: g * (1 - mask)}


def along(v, largest=None):
    """The order of elements that `sort` and `topk` undo."""
    count = v["g"].shape[0]
    order = v["x"].argsort(descending=largest is not None)[:count]
    return {"back": lambda g: firesteel.zeros_like(v["x"]).index_add(0, order, g)}


MASK = numbers(3, 5, seed=9)


def attention(v):
    """Weights, and the gradient of the scores."""
    p = (0.7 * v["q"] @ v["k"].mT + MASK).softmax(1)
    h = v["g"] @ v["v"].mT
    return {"p": p, "mask": MASK, "s": p * (h - (h * p).sum(1, keepdim=True))}


def others(v):
    """g times the product of the others, written out."""
    x, rows = v["x"], []
    for i in range(x.shape[-1]):
        rest = [j for j in range(x.shape[-1]) if j != i]
        rows.append(x[..., rest].prod(-1))
    return {"others": lambda g: firesteel.stack([g * row for row in rows], -1)}


def normal(v):
    cdf = lambda x: (1 + firesteel.erf(x / 2**0.5)) / 2  # noqa: E731
    return {"P": cdf, "dP": lambda x: firesteel.exp(-(x**2) / 2) / (2 * math.pi) ** 0.5}


def normal_tanh(v):
    inner = lambda x: (2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)  # noqa: E731
    slope = lambda x: (2 / math.pi) ** 0.5 * (1 + 3 * 0.044715 * x**2)  # noqa: E731
    return {
        "P": lambda x: (1 + firesteel.tanh(inner(x))) / 2,
        "dP": lambda x: (1 - firesteel.tanh(inner(x)) ** 2) / 2 * slope(x),
    }


def softened(v):
    return {"s": (1 + firesteel.exp(v["x"])).log()}


def gate(v):
    return {"s": firesteel.sigmoid(v["x"])}


def spread(v):
    return {"n": v["x"].numel() if v["y"].dim() == 0 else v["x"].shape[1], "mean": v["x"].mean()}


def convolutions(v):
    """The operations that the formulas of a convolution name, as gradients of the convolution itself."""

    def conv(x, w):
        if w.shape == v["g"].shape:  # with the gradient of the result as a kernel: that of the weight
            return gradient(lambda k: F.conv2d(x, k), v.get("w", KERNEL), w)
        if x.shape == v["g"].shape and v["transposed"] and w.shape == v["x"].shape:
            return gradient(lambda k: F.conv_transpose2d(w, k), v["w"], x)
        return F.conv2d(x, w)

    return {
        "conv": conv,
        "transposed_conv": lambda g, w: gradient(lambda x: F.conv2d(x, w), IMAGE, g),
        "transposed": v["x"].shape[1] == 2,
    }


def stepwise(name, gates):
    """A recurrent layer on one sequence, and what its formula names, from the steps one by one."""
    states = 2 if name == "lstm" else 1

    def run(x, w, v):
        zeros = [firesteel.zeros(1, 1, 2, dtype=F64)] * states
        hx = zeros if states == 2 else zeros[0]
        sizes = firesteel.ones(len(x), dtype=firesteel.int64)
        return getattr(firesteel, name)(x, sizes, hx, [w, v], False, 1, 0.0, True, False)[0]

    def step(p, q, h, c):
        if gates == 1:
            return (firesteel.tanh(p + q) if name == "rnn_tanh" else firesteel.relu(p + q)), c
        if name == "gru":
            (pr, pz, pn), (qr, qz, qn) = p.chunk(3), q.chunk(3)
            r, z = firesteel.sigmoid(pr + qr), firesteel.sigmoid(pz + qz)
            return (1 - z) * firesteel.tanh(pn + r * qn) + z * h, c
        i, f, u, o = (p + q).chunk(4)
        c = firesteel.sigmoid(f) * c + firesteel.sigmoid(i) * firesteel.tanh(u)
        return firesteel.sigmoid(o) * firesteel.tanh(c), c

    def facts(v):
        h = c = firesteel.zeros(2, dtype=F64)
        before, ps, qs, ys = [], [], [], []
        for x in v["x"]:
            before.append(h.detach())
            ps.append((v["w"] @ x).requires_grad_())
            qs.append(v["v"] @ h if h.requires_grad else (v["v"] @ h).requires_grad_())
            h, c = step(ps[-1], qs[-1], h, c)
            ys.append(h)
        grads = firesteel.autograd.grad(ys, ps + qs, list(v["g"]))
        d, e = grads[: len(ps)], grads[len(ps) :]
        return {"d": firesteel.stack(d), "e": firesteel.stack(e), "h": firesteel.stack(before)}

    return Case(run, facts, x=ROWS, w=numbers(gates * 2, 4, seed=1), v=numbers(gates * 2, 2, seed=2))


def gradient(function, at, g):
    """The gradient of a linear function."""
    at = at.detach().clone().requires_grad_()
    return firesteel.autograd.grad(function(at), at, g)[0]


def norm(dims, statistics=None, shape=None):
    """Mean, std and the normalised x of a normalisation over some dims; `statistics` were given."""

    def facts(v):
        x = v["x"]
        mean = x.mean(dims, keepdim=True) if statistics is None else statistics[0].reshape(shape)
        var = x.var(dims, correction=0, keepdim=True) if statistics is None else statistics[1].reshape(shape)
        std = (var + 1e-5) ** 0.5
        rest = tuple(range(x.dim() - 1)) if dims == -1 else dims
        w, b = (v[name].reshape(shape) if shape else v[name] for name in "wb")
        return {
            "n": (x - mean) / std,
            "std": std,
            "w": w,
            "b": b,
            "mean": lambda t: t.mean(dims, keepdim=True),
            "total": lambda t: t.sum(rest),
        }

    return facts


def rooted(v):
    """The root mean square of rows, and them over it."""
    root = ((v["x"] ** 2).mean(-1, keepdim=True) + 1e-5) ** 0.5
    mean = lambda t: t.mean(-1, keepdim=True)  # noqa: E731
    return {"s": root, "n": v["x"] / root, "mean": mean, "total": lambda t: t.sum(0)}


def grouped(v):
    """As `norm`, of two groups of two channels."""
    rows = v["x"].reshape(2, 2, 6)
    std = (rows.var(-1, correction=0, keepdim=True) + 1e-5) ** 0.5

    def wide(t):
        return t.expand(2, 2, 6).reshape(2, 4, 3)

    return {
        "n": ((rows - rows.mean(-1, keepdim=True)) / std).reshape(2, 4, 3),
        "std": wide(std),
        "w": v["w"].reshape(4, 1),
        "b": v["b"].reshape(4, 1),
        "mean": lambda t: wide(t.reshape(2, 2, 6).mean(-1, keepdim=True)),
        "total": lambda t: t.sum((0, 2)),
    }


def pooled(pool, spread_out):
    """A window of 2 by 2: what one of its elements, or all, get."""

    def facts(v):
        big = lambda t: t[:, :, [0, 0, 1, 1]][:, :, :, [0, 0, 1, 1]]  # noqa: E731
        chosen = one(v["x"] == big(v["y"])) if spread_out else 1.0
        return {"n": 4, "unpooled": lambda t: big(t) * chosen}

    return facts


def classes(weight=None, smoothing=0.0):
    """What the formulas of losses of classes name."""

    def facts(v):
        target = F.one_hot(LABELS, 4).to(F64)
        w = firesteel.ones(4, dtype=F64) if weight is None else weight
        own = w[LABELS].unsqueeze(1)
        t = w * ((1 - smoothing) * target + smoothing / 4)
        return {"target": target, "w": own, "n": own.sum(), "t": t}

    return facts


def pairs(v):
    return {"n": 12, "d": v["p"] - v["t"] if "p" in v else None}


def derivative(function, at):
    """The gradient of a function as a function of the gradient of its result."""

    def run(x):
        leaf = at.detach().clone().requires_grad_()
        return firesteel.autograd.grad(function(leaf), leaf, x, create_graph=True)[0]

    return run


def written(b):
    y = b.clone()
    y[1] = 2.0
    return y


def overwritten(x, w):
    y = x * 1.0
    y[1] = w
    return y


def cut(x):
    """Zeros in a region, as the gradient of what was there before a write makes them."""
    return derivative(written, numbers(3, 2))(x)


def weight_gradient(x, h):
    w = KERNEL.clone().requires_grad_()
    return firesteel.autograd.grad(F.conv2d(x, w), w, h, create_graph=True)[0]


def region(x):
    """A view of a tensor that was written in place afterwards."""
    base = x * 1.0
    view = base[:2, 1:3]
    base.mul_(1.0)
    return view


def region_gradient(x):
    base = ROWS.clone().requires_grad_() * 1.0
    view = base[:2, 1:3]
    base.mul_(1.0)
    return firesteel.autograd.grad(view, base, x, create_graph=True)[0]


def put(x, v, accumulate=False):
    return x.clone().index_put_((firesteel.tensor([2, 0]),), v, accumulate=accumulate)


def filled(x):
    return (x * 1.0).fill_(2.0)


def named(name, **options):
    """An operation of one tensor by its name."""
    return lambda x: getattr(firesteel, name)(x, **options)


CASES = {
    **{
        f"{name.capitalize()}Backward0": Case(named(name), x=ABOVE)
        for name in (
            "abs",
            "ceil",
            "cos",
            "erf",
            "exp",
            "expm1",
            "floor",
            "log10",
            "log1p",
            "log2",
            "log",
            "neg",
        )
    },
    **{
        f"{name.capitalize()}Backward0": Case(named(name), x=ABOVE)
        for name in (
            "reciprocal",
            "round",
            "rsqrt",
            "sigmoid",
            "sign",
            "sin",
            "sqrt",
            "square",
            "tan",
            "tanh",
        )
    },
    "TruncBackward0": Case(named("trunc"), x=ABOVE),
    "EluBackward0": Case(lambda x: F.celu(x, 0.5), x=X),
    "GeluBackward0": Case(F.gelu, normal, x=X),
    "HardsigmoidBackward0": Case(F.hardsigmoid, x=3 * X),
    "HardswishBackward0": Case(F.hardswish, x=3 * X),
    "HardtanhBackward0": Case(lambda x: F.hardtanh(x, -0.5, 0.7), x=X),
    "HardshrinkBackward0": Case(lambda x: F.hardshrink(x, 0.4), x=X),
    "SoftshrinkBackward0": Case(lambda x: F.softshrink(x, 0.4), x=X),
    "ThresholdBackward0": Case(lambda x: F.threshold(x, 0.3, -2.0), x=X),
    "LeakyReluBackward0": Case(lambda x: F.leaky_relu(x, 0.2), x=X),
    "LogSigmoidBackward0": Case(F.logsigmoid, x=X),
    "MishBackward0": Case(F.mish, softened, x=X),
    "ReluBackward0": Case(F.relu, x=X),
    "SiluBackward0": Case(F.silu, gate, x=X),
    "SoftplusBackward0": Case(lambda x: F.softplus(x, 2.0, 1.5), x=X),
    "Add": Case(lambda a, b: a + b, a=A, b=B),
    "AddBackward0": Case(lambda a, b: firesteel.add(a, b, alpha=3), a=A, b=B),
    "ClampBackward0": Case(
        lambda x, min, max: x.clamp(min, max), x=X, min=numbers(7, seed=9), max=numbers(7, seed=10)
    ),
    "ClampBackward1": Case(lambda x: x.clamp(-0.5, 0.6), x=X),
    "ClampMaxBackward0": Case(lambda x: x.clamp_max(0.2), x=X),
    "ClampMaxBackward1": Case(lambda x, max: x.clamp_max(max), x=X, max=numbers(7, seed=11)),
    "ClampMinBackward0": Case(lambda x: x.clamp_min(0.2), x=X),
    "ClampMinBackward1": Case(lambda x, min: x.clamp_min(min), x=X, min=numbers(7, seed=11)),
    "DivBackward0": Case(lambda a, b: a / b, a=A, b=B),
    "FloorDivideBackward0": Case(lambda a, b: firesteel.floor_divide(a, b), a=A, b=B),
    "FmodBackward0": Case(lambda a, b: firesteel.fmod(a, b), a=3 * A, b=B),
    "LerpBackward0": Case(lambda a, b: firesteel.lerp(a, b, 0.3), a=A, b=B),
    "LerpBackward1": Case(lambda a, b, w: firesteel.lerp(a, b, w), a=A, b=B, w=numbers(5, seed=12)),
    "MaximumBackward0": Case(lambda a, b: firesteel.maximum(a, b), a=A, b=firesteel.cat([A[:2], B[2:]])),
    "MinimumBackward0": Case(lambda a, b: firesteel.minimum(a, b), a=A, b=firesteel.cat([A[:2], B[2:]])),
    "MulBackward0": Case(lambda a, b: a * b, a=A, b=B),
    "PowBackward0": Case(lambda x: x**3, x=X),
    "PowBackward1": Case(lambda a, b: a**b, a=B, b=A),
    "PowBackward2": Case(lambda x: 2.5**x, x=X),
    "RemainderBackward0": Case(lambda a, b: firesteel.remainder(a, b), a=3 * A, b=B),
    "Sub": Case(lambda a, b: a - b, a=A, b=B),
    "SubBackward0": Case(lambda a, b: firesteel.sub(a, b, alpha=3), a=A, b=B),
    "TruncDivideBackward0": Case(lambda a, b: firesteel.div(a, b, rounding_mode="trunc"), a=A, b=B),
    "WhereBackward0": Case(
        lambda a, b: firesteel.where(A > 0, a, b), lambda v: {"condition": A > 0}, a=A, b=B
    ),
    "AmaxBackward0": Case(lambda x: x.amax(0), x=firesteel.cat([X, X])),
    "AminBackward0": Case(lambda x: x.amin(0), x=firesteel.cat([X, X])),
    "CumprodBackward0": Case(lambda x: x.cumprod(0), x=ABOVE),
    "CumsumBackward0": Case(lambda x: x.cumsum(0), x=X),
    "LinalgVectorNormBackward0": Case(lambda x: x.norm(p=3), x=X),
    "largest norm": Case(lambda x: x.norm(p=math.inf), x=firesteel.cat([X, -X])),
    "LogsumexpBackward0": Case(lambda x: x.logsumexp(0), x=X),
    "MaxBackward0": Case(lambda x: x.max(1)[0], x=ROWS),
    "MaxBackward1": Case(lambda x: x.max(), x=firesteel.cat([X, X])),
    "MeanBackward0": Case(lambda x: x.mean(), spread, x=X),
    "MeanBackward1": Case(lambda x: x.mean(1), spread, x=ROWS),
    "MinBackward0": Case(lambda x: x.min(1)[0], x=ROWS),
    "MinBackward1": Case(lambda x: x.min(), x=firesteel.cat([X, X])),
    "NansumBackward0": Case(lambda x: x.nansum(), x=firesteel.cat([X, X[:1] * math.nan])),
    "NansumBackward1": Case(lambda x: x.nansum(0), x=firesteel.cat([X, X[:1] * math.nan])),
    "ProdBackward0": Case(lambda x: x.prod(), others, x=X),
    "ProdBackward1": Case(lambda x: x.prod(1), others, x=ROWS),
    "StdBackward0": Case(lambda x: x.std(correction=2), spread, x=X),
    "SumBackward0": Case(lambda x: x.sum(), x=X),
    "SumBackward1": Case(lambda x: x.sum(1), x=ROWS),
    "VarBackward0": Case(lambda x: x.var(correction=2), spread, x=X),
    "EmbeddingBackward0": Case(lambda w: F.embedding(FEW, w, padding_idx=1), lambda v: places(FEW), w=ROWS),
    "GatherBackward0": Case(lambda x: x.gather(0, FEW[:, None].expand(3, 4)), lambda v: places(FEW), x=ROWS),
    "IndexBackward0": Case(lambda x: x[FEW], lambda v: places(FEW), x=ROWS),
    "IndexPutBackward0": Case(
        put, lambda v: places(firesteel.tensor([2, 0])), x=ROWS, v=numbers(2, 4, seed=13)
    ),
    "IndexPut, added": Case(
        lambda x, v: put(x, v, True),
        lambda v: places(firesteel.tensor([2, 0])),
        x=ROWS,
        v=numbers(2, 4, seed=13),
    ),
    "IndexSelectBackward0": Case(lambda x: x.index_select(0, FEW), lambda v: places(FEW), x=ROWS),
    "MaskedFillBackward0": Case(lambda x: x.masked_fill(X > 0, 2.0), lambda v: {"masked": X > 0}, x=X),
    "MaskedFillBackward1": Case(
        lambda x, v: x.masked_fill(X > 0, v),
        lambda v: {"masked": X > 0},
        x=X,
        v=firesteel.tensor(2.0, dtype=F64),
    ),
    "ScatterAddBackward0": Case(
        lambda x, v: x.scatter_add(0, firesteel.tensor([[2] * 4, [0] * 4]), v),
        lambda v: places(firesteel.tensor([2, 0])),
        x=ROWS,
        v=numbers(2, 4, seed=13),
    ),
    "ScatterBackward0": Case(
        lambda x, v: x.scatter(0, firesteel.tensor([[2] * 4, [0] * 4]), v),
        lambda v: places(firesteel.tensor([2, 0])),
        x=ROWS,
        v=numbers(2, 4, seed=13),
    ),
    "SortBackward0": Case(lambda x: x.sort()[0], along, x=X),
    "TopkBackward0": Case(lambda x: x.topk(3)[0], lambda v: along(v, True), x=X),
    "TrilBackward0": Case(lambda x: x.tril(), x=ROWS),
    "TriuBackward0": Case(lambda x: x.triu(), x=ROWS),
    "BernoulliBackward0": Case(lambda p: p.bernoulli(), p=CHANCES),
    "NormalBackward1": Case(lambda mean: firesteel.normal(mean, 1.0), mean=X),
    "NormalBackward2": Case(lambda std: firesteel.normal(0.0, std), std=CHANCES),
    "NormalBackward3": Case(lambda mean, std: firesteel.normal(mean, std), mean=X, std=CHANCES),
    "AliasBackward0": Case(_tied, x=X),
    "AsStridedBackward0": Case(
        region,
        lambda v: {"within": lambda g: F.pad(g, (1, 1, 0, 1))},
        x=ROWS,
    ),
    "ConstantPadNdBackward0": Case(lambda x: F.pad(x, (0, 0, 1, 2), value=3.0), x=ROWS[:2]),
    "CatBackward0": Case(lambda a, b: firesteel.cat([a, b]), a=ROWS[:2], b=ROWS[1:]),
    "CloneBackward0": Case(lambda x: x.clone(), x=X),
    "DiagonalBackward0": Case(lambda x: x.diagonal(), x=numbers(3, 3)),
    "ExpandBackward0": Case(lambda x: x.expand(3, 7), x=X[None]),
    "FlipBackward0": Case(lambda x: x.flip(0), x=X),
    "PermuteBackward0": Case(lambda x: x.permute(2, 0, 1), x=numbers(2, 3, 4)),
    "SelectBackward0": Case(lambda x: x[1], x=ROWS),
    "SliceBackward0": Case(lambda x: x[1:3], x=ROWS),
    "SplitBackward0": Case(lambda x: x.split(3), x=X),
    "SqueezeBackward0": Case(lambda x: x.squeeze(), x=X[None]),
    "SqueezeBackward1": Case(lambda x: x.squeeze(0), x=X[None]),
    "StackBackward0": Case(lambda a, b: firesteel.stack([a, b]), a=A, b=B),
    "TBackward0": Case(lambda x: x.t(), x=ROWS),
    "ToCopyBackward0": Case(lambda x: x.to(firesteel.float32), x=X),
    "TransposeBackward0": Case(lambda x: x.transpose(0, 2), x=numbers(2, 3, 4)),
    "UnbindBackward0": Case(lambda x: x.unbind(), x=ROWS),
    "UnsqueezeBackward0": Case(lambda x: x.unsqueeze(1), x=X),
    "ViewBackward0": Case(lambda x: x.view(2, 6), x=ROWS),
    "CopyBackwards": Case(lambda a, b: (a * 1.0).copy_(b), a=A, b=B),
    "CopySlices": Case(overwritten, x=numbers(3, 2), w=numbers(2, seed=1)),
    "FillBackward0": Case(filled, x=X),
    "AddmmBackward0": Case(
        lambda c, a, b: firesteel.addmm(c, a, b, alpha=2, beta=3),
        c=numbers(3, 2),
        a=numbers(3, 4, seed=1),
        b=numbers(4, 2, seed=2),
    ),
    "AddmvBackward0": Case(
        lambda c, a, v: firesteel.addmv(c, a, v, alpha=2, beta=3),
        c=numbers(3),
        a=numbers(3, 4, seed=1),
        v=numbers(4, seed=2),
    ),
    "BaddbmmBackward0": Case(
        lambda c, a, b: firesteel.baddbmm(c, a, b, alpha=2, beta=3),
        c=numbers(2, 3, 2),
        a=numbers(2, 3, 4, seed=1),
        b=numbers(2, 4, 2, seed=2),
    ),
    "BmmBackward0": Case(lambda a, b: a @ b, a=numbers(2, 3, 4), b=numbers(2, 4, 2, seed=1)),
    "MmBackward0": Case(lambda a, b: a @ b, a=numbers(3, 4), b=numbers(4, 2, seed=1)),
    "MvBackward0": Case(lambda a, v: a.mv(v), a=numbers(3, 4), v=numbers(4, seed=1)),
    "DotBackward0": Case(lambda a, b: a.dot(b), a=A, b=B),
    "matmul of ranks 1 1": Case(lambda a, b: a @ b, a=A, b=B),
    "matmul of ranks 2 1": Case(lambda a, v: a @ v, a=numbers(3, 4), v=numbers(4, seed=1)),
    "matmul of ranks 1 2": Case(lambda v, b: v @ b, v=numbers(4), b=numbers(4, 2, seed=1)),
    "matmul of ranks n 1": Case(lambda a, v: a @ v, a=numbers(2, 3, 4), v=numbers(4, seed=1)),
    "matmul of ranks 1 n": Case(lambda v, b: v @ b, v=numbers(4), b=numbers(2, 4, 3, seed=1)),
    "matmul of ranks 2 n": Case(lambda a, b: a @ b, a=numbers(3, 4), b=numbers(2, 4, 3, seed=1)),
    "matmul of ranks n 2": Case(lambda a, b: a @ b, a=numbers(2, 3, 4), b=numbers(4, 3, seed=1)),
    "linear": Case(
        lambda bias, x, w: F.linear(x, w, bias), bias=numbers(2), x=numbers(3, 4), w=numbers(2, 4, seed=1)
    ),
    "linear of a vector": Case(
        lambda bias, x, w: F.linear(x, w, bias), bias=numbers(2), x=numbers(4), w=numbers(2, 4, seed=1)
    ),
    "linear of a batch": Case(
        lambda bias, x, w: F.linear(x, w, bias),
        bias=numbers(2),
        x=numbers(2, 3, 4),
        w=numbers(2, 4, seed=1),
    ),
    "AvgPool2DBackward0": Case(lambda x: F.avg_pool2d(x, 2), pooled(F.avg_pool2d, False), x=IMAGE),
    "AdaptiveMaxPool2DBackward0": Case(
        lambda x: F.adaptive_max_pool2d(x, 2), pooled(F.max_pool2d, True), x=IMAGE
    ),
    "MaxPool2DWithIndicesBackward0": Case(lambda x: F.max_pool2d(x, 2), pooled(F.max_pool2d, True), x=IMAGE),
    "ConvolutionBackward0": Case(
        lambda x, w, bias: F.conv2d(x, w, bias), convolutions, x=IMAGE, w=KERNEL, bias=numbers(2)
    ),
    "transposed convolution": Case(
        lambda x, w: F.conv_transpose2d(x, w), convolutions, x=numbers(2, 2, 3, 3), w=KERNEL
    ),
    "NativeBatchNormBackward0": Case(
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        norm((0, 2, 3), None, (1, 3, 1, 1)),
        x=IMAGE,
        w=numbers(3, seed=1),
        b=numbers(3, seed=2),
    ),
    "batch norm with running statistics": Case(
        lambda x, w, b: F.batch_norm(x, WEIGHTS[:3] - 1, WEIGHTS[1:], w, b),
        norm((0, 2, 3), (WEIGHTS[:3] - 1, WEIGHTS[1:]), (1, 3, 1, 1)),
        x=IMAGE,
        w=numbers(3, seed=1),
        b=numbers(3, seed=2),
    ),
    "NativeGroupNormBackward0": Case(
        lambda x, w, b: F.group_norm(x, 2, w, b),
        grouped,
        x=numbers(2, 4, 3, seed=7),
        w=numbers(4, seed=1),
        b=numbers(4, seed=2),
    ),
    "NativeLayerNormBackward0": Case(
        lambda x, w, b: F.layer_norm(x, (4,), w, b), norm(-1), x=ROWS, w=numbers(4), b=numbers(4, seed=1)
    ),
    "FusedRmsNormBackward0": Case(lambda x, w: F.rms_norm(x, (4,), w, 1e-5), rooted, x=ROWS, w=numbers(4)),
    "RnnTanhBackward0": stepwise("rnn_tanh", 1),
    "RnnReluBackward0": stepwise("rnn_relu", 1),
    "LstmBackward0": stepwise("lstm", 4),
    "GruBackward0": stepwise("gru", 3),
    "ScaledDotProductFlashAttentionForCpuBackward0": Case(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, MASK, scale=0.7),
        attention,
        q=numbers(3, 4),
        k=numbers(5, 4, seed=1),
        v=numbers(5, 2, seed=2),
    ),
    "LogSoftmaxBackward0": Case(lambda x: x.log_softmax(1), x=ROWS),
    "SoftmaxBackward0": Case(lambda x: x.softmax(1), x=ROWS),
    "BinaryCrossEntropyBackward0": Case(lambda p, t: F.binary_cross_entropy(p, t), pairs, p=P, t=T),
    "BinaryCrossEntropyWithLogitsBackward0": Case(
        lambda x, t: F.binary_cross_entropy_with_logits(x, t), pairs, x=ROWS, t=T
    ),
    "HuberLossBackward0": Case(lambda p, t: F.huber_loss(p, t, delta=0.2), pairs, p=P, t=T),
    "MseLossBackward0": Case(lambda p, t: F.mse_loss(p, t), pairs, p=P, t=T),
    "NllLossBackward0": Case(lambda x: F.nll_loss(x, LABELS, WEIGHTS), classes(WEIGHTS), x=ROWS),
    "cross_entropy": Case(lambda x: F.cross_entropy(x, LABELS, WEIGHTS), classes(WEIGHTS), x=ROWS),
    "cross_entropy with label smoothing": Case(
        lambda x: F.cross_entropy(x, LABELS, WEIGHTS, label_smoothing=0.2), classes(WEIGHTS, 0.2), x=ROWS
    ),
    "SmoothL1LossBackward0": Case(lambda p, t: F.smooth_l1_loss(p, t, beta=0.2), pairs, p=P, t=T),
    "ClearRegionBackward0": Case(cut, lambda v: places(firesteel.tensor([1])), x=numbers(3, 2)),
    "Conv2dBiasBackward0": Case(
        derivative(lambda b: F.conv2d(IMAGE, KERNEL, b), numbers(2)), x=numbers(2, 2, 3, 3)
    ),
    "Conv2dWeightBackward0": Case(
        weight_gradient,
        lambda v: {"conv": F.conv2d, "transposed_conv": F.conv_transpose2d},
        x=IMAGE,
        h=numbers(2, 2, 3, 3),
    ),
    "DiagonalScatterBackward0": Case(derivative(lambda x: x.diagonal(), numbers(3, 3)), x=numbers(3)),
    "IndexAddZerosBackward0": Case(derivative(lambda x: x[FEW], ROWS), lambda v: places(FEW), x=ROWS),
    "SliceScatterBackward0": Case(derivative(lambda x: x[1:3], ROWS), x=ROWS[:2]),
    "AsStridedScatterBackward0": Case(
        region_gradient,
        lambda v: {"chosen": lambda g: g[:2, 1:3]},
        x=numbers(2, 2),
    ),
}

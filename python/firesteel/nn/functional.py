"""Layers as functions: what `firesteel._core` computes at once, and what is composed from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from firesteel._core import (
    Tensor,
    arange,
    avg_pool1d,
    avg_pool2d,
    batch_norm,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cat,
    celu,
    conv1d,
    conv2d,
    conv_transpose2d,
    cross_entropy,
    dropout as _dropout,
    embedding,
    gelu,
    group_norm,
    int64,
    l1_loss,
    layer_norm,
    linear,
    log_softmax,
    max_pool1d,
    max_pool2d,
    mse_loss,
    nll_loss,
    relu as _relu,
    rms_norm,
    sigmoid,
    silu as _silu,
    smooth_l1_loss,
    softmax,
    softplus,
    tanh,
    where,
    zeros,
)

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "elu",
    "embedding",
    "gelu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "prelu",
    "relu",
    "relu6",
    "rms_norm",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "softsign",
    "tanh",
    "tanhshrink",
]


def _result(input: Tensor, output: Tensor, inplace: bool) -> Tensor:
    return input.copy_(output) if inplace else output


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Returns max(0, x)."""
    return input.relu_() if inplace else _relu(input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """Returns x * sigmoid(x)."""
    return _result(input, _silu(input), inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """Returns min(max(0, x), 6)."""
    return hardtanh(input, 0.0, 6.0, inplace)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """Returns x, limited to [min_val, max_val]."""
    return _result(input, input.clamp(min_val, max_val), inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Returns x where positive and negative_slope * x elsewhere."""
    return _result(input, where(input > 0, input, input * negative_slope), inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Returns x where positive and alpha * (exp(x) - 1) elsewhere."""
    # expm1 sees no positive numbers, which could overflow and spoil the gradient.
    return _result(input, where(input > 0, input, input.clamp(max=0.0).expm1() * alpha), inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Returns the scaled `elu` whose outputs keep mean 0 and variance 1."""
    return _result(
        input, elu(input, 1.6732632423543772848170429916717) * 1.0507009873554804934193349852946, inplace
    )


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Returns x where positive and weight * x elsewhere, with one weight or one per channel (dim 1)."""
    if weight.numel() > 1:
        if input.ndim == 0 or input.shape[min(1, input.ndim - 1)] != weight.numel():
            raise RuntimeError(
                f"prelu: weight has {weight.numel()} values, which do not fit input {input.shape}"
            )
        weight = weight.reshape(-1, *[1] * (input.ndim - 2))
    return where(input > 0, input, input * weight)


def logsigmoid(input: Tensor) -> Tensor:
    """Returns log(sigmoid(x))."""
    return -softplus(-input)


def softsign(input: Tensor) -> Tensor:
    """Returns x / (1 + abs(x))."""
    return input / (input.abs() + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """Returns x - tanh(x)."""
    return input - input.tanh()


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """Returns x * tanh(softplus(x))."""
    return _result(input, input * softplus(input).tanh(), inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """Returns x / 6 + 1 / 2, limited to [0, 1]."""
    return _result(input, (input + 3).clamp(0, 6) / 6, inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """Returns x * hardsigmoid(x)."""
    return _result(input, input * (input + 3).clamp(0, 6) / 6, inplace)


def softmin(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """Returns softmax(-x) along `dim`."""
    return softmax(-input if dtype is None else -input.to(dtype), dim)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets elements to zero with probability `p` and divides the others by 1 - p, if `training`."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    return _result(input, _dropout(input, p, training), inplace)


def _channel_dropout(input: Tensor, batched: int, p: float, training: bool, inplace: bool) -> Tensor:
    if not training or p == 0:
        return input
    kept = input.shape[: 2 if input.ndim == batched else 1]
    mask = dropout(input.new_ones((*kept, *[1] * (input.ndim - len(kept)))), p, True)
    return _result(input, input * mask, inplace)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets whole channels of (N, C, L) or (C, L) to zero; otherwise like `dropout`."""
    return _channel_dropout(input, 3, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets whole channels of (N, C, H, W) or (C, H, W) to zero; otherwise like `dropout`."""
    return _channel_dropout(input, 4, p, training, inplace)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Returns vectors that are 1 at the given int64 index and 0 elsewhere, along a new last dimension."""
    if tensor.numel() == 0 and num_classes <= 0:
        raise RuntimeError("Can not infer total number of classes from empty tensor.")
    if tensor.numel() and int(tensor.min()) < 0:
        raise RuntimeError("Class values must be non-negative.")
    largest = int(tensor.max()) if tensor.numel() else -1
    if num_classes == -1:
        num_classes = largest + 1
    elif largest >= num_classes:
        raise RuntimeError("Class values must be smaller than num_classes.")
    return zeros((*tensor.shape, num_classes), dtype=int64).scatter_(-1, tensor.unsqueeze(-1), 1)


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Adds elements at the ends of the last dimensions; negative numbers cut off.

    Args:
        input: any tensor.
        pad: numbers before and after the last dimension, then before and after the one before, ...
        mode: "constant", "reflect" (without repeating the edge), "replicate" (the edge) or "circular".
        value: the constant, 0 unless given.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.functional.pad(torch.ones(2), (1, 2))
        tensor([0., 1., 1., 0., 0.])
    """
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise RuntimeError(f"pad: {tuple(pad)} must hold a pair for each of at most {input.ndim} dimensions")
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise NotImplementedError(
            f"pad: mode '{mode}' is unknown; use constant, reflect, replicate or circular"
        )
    for i in range(len(pad) // 2):
        before, after = pad[2 * i], pad[2 * i + 1]
        if before or after:
            dim = input.ndim - 1 - i
            if mode == "constant":
                input = _pad_constant(input, dim, before, after, value or 0)
            else:
                input = input.index_select(dim, _padded_index(input.shape[dim], before, after, mode))
    return input


def _pad_constant(input: Tensor, dim: int, before: int, after: int, value: float) -> Tensor:
    cut = max(-before, 0)
    length = input.shape[dim] - cut - max(-after, 0)
    if length < 0:
        raise RuntimeError(
            f"pad: cutting off {(before, after)} leaves nothing of dim {dim}, size {input.shape[dim]}"
        )
    if before < 0 or after < 0:
        input = input.narrow(dim, cut, length)
    parts = [input]
    for n, place in ((before, 0), (after, 2)):
        if n > 0:
            shape = [*input.shape[:dim], n, *input.shape[dim + 1 :]]
            parts.insert(place, input.new_full(shape, value))
    return cat(parts, dim) if len(parts) > 1 else input


def _padded_index(size: int, before: int, after: int, mode: str) -> Tensor:
    """Returns which element stands at every place of a dimension that was padded from itself."""
    limit = {"reflect": size - 1, "circular": size}.get(mode)
    if limit is not None and max(before, after) > limit:
        raise RuntimeError(f"pad: {mode} can add at most {limit} to size {size}, but got {(before, after)}")
    index = arange(-before, size + after)
    if mode == "replicate":
        return index.clamp(0, size - 1)
    if mode == "circular":
        return index % size
    return (size - 1) - ((size - 1) - index.abs()).abs()


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Takes means over windows chosen so that the output has height and width `output_size`.

    Window i covers the rows from floor(i * H / out) up to ceil((i + 1) * H / out), columns likewise.
    """
    pair = (output_size, output_size) if output_size is None or isinstance(output_size, int) else output_size
    sizes = [given if n is None else n for n, given in zip(pair, input.shape[-2:], strict=True)]
    height, width = input.shape[-2:]
    if sizes == [1, 1]:
        return input.mean((-2, -1), keepdim=True)
    if height % sizes[0] == 0 and width % sizes[1] == 0:
        kernel = (height // sizes[0], width // sizes[1])
        return avg_pool2d(input, kernel, kernel)
    for dim, out in ((-2, sizes[0]), (-1, sizes[1])):
        n = input.shape[dim]
        spans = [(i * n // out, -((i + 1) * n // -out)) for i in range(out)]
        input = cat([input.narrow(dim, a, b - a).mean(dim, keepdim=True) for a, b in spans], dim)
    return input


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divides by the p-norm along `dim`, or by `eps` where that is larger."""
    return input / input.norm(p, dim, keepdim=True).clamp(min=eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Returns the cosine of the angle between the vectors along `dim`."""
    norm1 = x1.norm(2, dim, keepdim=True).clamp(min=eps)
    norm2 = x2.norm(2, dim, keepdim=True).clamp(min=eps)
    return ((x1 / norm1) * (x2 / norm2)).sum(dim)


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ValueError(f"{reduction} is not a valid value for reduction")


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Returns d**2 / 2 where d = abs(input - target) is below `delta`, else delta * (d - delta / 2)."""
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    d = (input - target).abs()
    return _reduced(where(d < delta, d * d * 0.5, (d - 0.5 * delta) * delta), reduction)


def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """Returns target * (log(target) - input), where `input` holds log-probabilities.

    Args:
        input: log-probabilities.
        target: probabilities of the same shape, or their logarithms if `log_target`.
        reduction: "none", "sum", "mean" or "batchmean", the sum over the batch size, which is the divergence.
        log_target: see `target`.
    """
    if log_target:
        loss = target.exp() * (target - input)
    else:
        positive = target > 0
        safe = where(positive, target, target.new_ones(()))
        loss = where(positive, target * safe.log(), target.new_zeros(())) - target * input
    if reduction == "batchmean":
        return loss.sum() / input.shape[0] if input.ndim else loss.sum()
    return _reduced(loss, reduction)

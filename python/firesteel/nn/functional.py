"""Layers as functions: what `firesteel._core` computes at once, and what is composed from it."""

from __future__ import annotations

import warnings
from typing import Any

from firesteel import _mapping
from firesteel._core import (
    Tensor,
    _one_hot,
    _write_out,
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    batch_norm as _batch_norm,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    celu,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    cross_entropy,
    dropout,
    elu,
    embedding as _embedding,
    float64,
    gelu,
    group_norm,
    hardshrink as _hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh as _hardtanh,
    huber_loss,
    int64,
    l1_loss,
    layer_norm,
    leaky_relu,
    linear,
    log_softmax,
    logsigmoid,
    max_pool1d,
    max_pool2d,
    mish,
    mse_loss,
    nll_loss,
    ones,
    relu as _relu,
    relu6,
    relu_,
    rms_norm,
    scaled_dot_product_attention,
    selu,
    sigmoid,
    silu as _silu,
    smooth_l1_loss,
    softmax,
    softplus,
    softshrink as _softshrink,
    tanh,
    threshold as _core_threshold,
    where,
    zeros,
)
from firesteel._tensor import expect_tensors as _expect_tensors
from firesteel.autograd.grad_mode import no_grad
from firesteel.nn import _formulas
from firesteel.nn._attention import multi_head_attention_forward
from firesteel.nn._padding import pad
from firesteel.nn._pooling import adaptive_max_pool1d

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "celu_",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "elu",
    "elu_",
    "embedding",
    "gelu",
    "glu",
    "group_norm",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardtanh_",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "leaky_relu_",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "mse_loss",
    "multi_head_attention_forward",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "prelu",
    "relu",
    "relu6",
    "relu_",
    "rms_norm",
    "scaled_dot_product_attention",
    "selu",
    "selu_",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
    "threshold_",
]


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Returns max(0, x)."""
    return input.relu_() if inplace else _relu(input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """Returns x * sigmoid(x)."""
    return input.silu_() if inplace else _silu(input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """Returns x, limited to [min_val, max_val]."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    return _hardtanh(input, min_val, max_val, inplace)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """In-place `leaky_relu`."""
    return leaky_relu(input, negative_slope, True)


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """In-place `elu`."""
    return elu(input, alpha, True)


def selu_(input: Tensor) -> Tensor:
    """In-place `selu`."""
    return selu(input, True)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """In-place `celu`."""
    return celu(input, alpha, True)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """In-place `hardtanh`."""
    return hardtanh(input, min_val, max_val, True)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """Returns x where it is above `threshold`, `value` elsewhere."""
    _expect_tensors("threshold", input=input)
    if input.is_floating_point():
        return _core_threshold(input, threshold, value, inplace)
    output = where(input <= threshold, input.new_full((), value), input)
    return input.copy_(output) if inplace else output


_threshold = threshold  # under a name that is no argument's


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """In-place `threshold`."""
    return _threshold(input, threshold, value, True)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Returns x where positive and weight * x elsewhere, with one weight or one per channel (dim 1)."""
    _expect_tensors("prelu", input=input, weight=weight)
    if input.dtype != weight.dtype:
        raise RuntimeError(
            f"prelu: Type promoting not supported. Got {input.dtype} and {weight.dtype}; "
            "convert one with .to()"
        )
    if weight.ndim > 1:
        raise RuntimeError(
            f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}"
        )
    if weight.numel() == 1:
        weight = weight.reshape(())
    else:
        if input.ndim == 0:
            raise RuntimeError(f"prelu: Not allow zero-dim input tensor with {weight.numel()} weights")
        channels = input.shape[1] if input.ndim > 1 else 1
        if channels != weight.numel():
            raise RuntimeError(
                "prelu: Mismatch of parameter numbers and input channel size. "
                f"Found parameter numbers = {weight.numel()} and channel size = {channels}; "
                "give one weight, or one per channel"
            )
        weight = weight.reshape(-1, *[1] * (input.ndim - 2))
    return _formulas.prelu(input, weight)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Brings each channel of (N, C, *) to mean 0 and variance 1, times `weight` (C,), plus `bias` (C,).

    Args:
        input: floats.
        running_mean, running_var: statistics (C,), used without `training`, else moved towards the batch's.
        weight, bias: both may be missing.
        training: whether to use the batch's mean and variance.
        momentum: how far the running statistics move.
        eps: keeps the division finite.

    Raises:
        RuntimeError: if shapes do not fit, or examples of `vmap` would all move the same statistics.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.functional.batch_norm(torch.tensor([[1.0], [3.0]]), None, None, training=True, eps=1e-9)
        tensor([[-1.],
                [ 1.]])
    """
    if training:
        _mapping.write(running_mean, running_var)
    return _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def softsign(input: Tensor) -> Tensor:
    """Returns x / (1 + abs(x))."""
    return input / (input.abs() + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """Returns x - tanh(x)."""
    return input - input.tanh()


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Returns x, and 0 where abs(x) is at most `lambd`."""
    _expect_tensors("hardshrink", input=input)
    return _hardshrink(input, lambd)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Returns x moved by `lambd` towards 0, and 0 where abs(x) is at most `lambd`."""
    _expect_tensors("softshrink", input=input)
    return _softshrink(input, lambd)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """Returns the first half of `dim` times the sigmoid of the second half."""
    size = input.size(dim)
    if size % 2:
        raise RuntimeError(f"glu: Halving dimension must be even, but dimension {dim} is size {size}")
    value, gate = input.chunk(2, dim)
    return value * gate.sigmoid()


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """Returns softmax(-x) along `dim`."""
    if dim is None:
        warnings.warn(
            "Implicit dimension choice for softmin has been deprecated. "
            "Change the call to include dim=X as an argument.",
            stacklevel=_stacklevel,
        )
        dim = 0 if input.ndim in (0, 1, 3) else 1
    return softmax(-input, dim, dtype=dtype)


def _channel_dropout(input: Tensor, channels: int, p: float, training: bool, inplace: bool) -> Tensor:
    """Zeroes what lies behind single indices of the first `channels` dimensions."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0 or input.numel() == 0:
        return input
    kept = input.shape[:channels]
    mask = dropout(input.new_ones((*kept, *[1] * (input.ndim - len(kept)))), p, True)
    return input.mul_(mask) if inplace else input * mask


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets whole channels of (N, C, L) or (C, L) to zero; otherwise like `dropout`."""
    if input.ndim not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {input.ndim}D input. Note that dropout1d "
            "exists to provide channel-wise dropout on inputs with 1 spatial dimension, a channel "
            "dimension, and an optional batch dimension (i.e. 2D or 3D inputs)."
        )
    return _channel_dropout(input, input.ndim - 1, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets whole channels of (N, C, H, W), or of (N, C, L), to zero; otherwise like `dropout`.

    As in PyTorch an input of three dimensions is a batch of sequences, not an image without a batch.
    """
    if input.ndim == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior "
            "is desired - input is interpreted as shape (N, C, L), where C is the channel dim. This "
            "behavior will change in a future release to interpret the input as one without a batch "
            "dimension, i.e. shape (C, H, W). To maintain the 1D channel-wise dropout behavior, please "
            "switch to using dropout1d instead.",
            stacklevel=2,
        )
    elif input.ndim != 4:
        warnings.warn(
            f"dropout2d: Received a {input.ndim}-D input to dropout2d, which is deprecated and will result "
            "in an error in a future release. To retain the behavior and silence this warning, please use "
            "dropout instead. Note that dropout2d exists to provide channel-wise dropout on inputs with 2 "
            "spatial dimensions, a channel dimension, and an optional batch dimension (i.e. 3D or 4D "
            "inputs).",
            stacklevel=2,
        )
    if input.ndim < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    return _channel_dropout(input, 2, p, training, inplace)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Returns the rows of `weight` at the indices in `input`.

    Args:
        input: int64 or int32 indices of any shape.
        weight: a table (rows, length).
        padding_idx: a row that gets no gradient.
        max_norm: rows that are looked up and have a larger norm are first scaled down to it, in place.
        norm_type: the p of that norm.
        scale_grad_by_freq: whether a row's gradient is divided by how often the row is looked up.
        sparse: must be False: gradients are dense.
    """
    if sparse:
        raise RuntimeError("embedding: sparse=True is not supported, gradients are dense; leave it False")
    if max_norm is not None:
        _limit_rows(weight, input, max_norm, norm_type)
    found = _embedding(input, weight, padding_idx)
    if not (scale_grad_by_freq and found.requires_grad):
        return found
    flat = input.reshape(-1).to(int64)
    counts = zeros(weight.shape[0], dtype=float64).index_add_(0, flat, ones(flat.shape, dtype=float64))
    share = (1 / counts[flat]).to(weight.dtype).reshape(*input.shape, 1)
    found.register_hook(lambda gradient: gradient * share)
    return found.view_as(found)  # hooks and `retain_grad` of the user see the gradient before the division


def _limit_rows(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    with no_grad():
        rows = input.reshape(-1)
        found = _embedding(rows, weight.detach())
        norms = found.norm(norm_type, -1)
        over = norms > max_norm
        if bool(over.any()):
            scale = (max_norm / (norms[over].double() + 1e-7)).to(weight.dtype)
            weight[rows[over]] = found[over] * scale.unsqueeze(-1)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns sum over i, j of x1[..., i] * weight[k, i, j] * x2[..., j], plus bias[k], for every k."""
    _expect_tensors("bilinear", input1=input1, input2=input2, weight=weight)
    if input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError(
            f"bilinear(): input batch dimensions do not match: got {tuple(input1.shape)} and "
            f"{tuple(input2.shape)}; all sizes but the last must be equal"
        )
    out, in1, in2 = weight.shape
    for name, given, wanted in (("input1", input1.shape[-1], in1), ("input2", input2.shape[-1], in2)):
        if given != wanted:
            raise RuntimeError(
                f"bilinear(): {name} size does not match weight size: got {given} but expected {wanted}"
            )
    # One product for all k: (*, in1) @ (in1, out * in2), then a sum over in2.
    left = input1 @ weight.permute(1, 0, 2).reshape(in1, out * in2)
    result = (left.reshape(*input1.shape[:-1], out, in2) * input2.unsqueeze(-2)).sum(-1)
    return result if bias is None else result + bias


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Returns vectors that are 1 at the given int64 index and 0 elsewhere, along a new last dimension."""
    _expect_tensors("one_hot", tensor=tensor)
    return _one_hot(tensor, num_classes)


def normalize(
    input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """Divides by the p-norm along `dim`, or by `eps` where that is larger."""
    result = _formulas.normalize(input, p, dim, eps)
    return result if out is None else _write_out("normalize", result, out)


def _broadcast(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
    """Expands both to their common shape."""
    if x1.shape == x2.shape:
        return x1, x2
    rank = max(x1.ndim, x2.ndim)
    left, right = ((1,) * (rank - x.ndim) + tuple(x.shape) for x in (x1, x2))
    shape = [b if a == 1 else a for a, b in zip(left, right, strict=True)]
    return x1.expand(shape), x2.expand(shape)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Returns the cosine of the angle between the vectors along `dim` of the common, broadcast shape."""
    _expect_tensors("cosine_similarity", x1=x1, x2=x2)
    return _formulas.cosine_similarity(*_broadcast(x1, x2), dim, eps)


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ValueError(f"{reduction} is not a valid value for reduction")


def _legacy_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """What the older `size_average` and `reduce` ask for, if they are given."""
    if size_average is None and reduce is None:
        return reduction
    name = "none" if reduce is False else "sum" if size_average is False else "mean"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction='{name}' instead.",
        stacklevel=3,
    )
    return name


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Returns target * (log(target) - input), where `input` holds log-probabilities.

    Args:
        input: log-probabilities.
        target: probabilities of the same shape, or their logarithms if `log_target`.
        size_average, reduce: older ways to say `reduction`.
        reduction: "none", "sum", "mean", or "batchmean": the sum divided by the batch size, which is the
            divergence by its definition.
        log_target: see `target`.
    """
    _expect_tensors("kl_div", input=input, target=target)
    if size_average is None and reduce is None and reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math definition."
            "'mean' will be changed to behave the same as 'batchmean' in the next major release.",
            stacklevel=2,
        )
    reduction = _legacy_reduction(size_average, reduce, reduction)
    loss = _formulas.kl_div(input, target, log_target)
    if reduction == "batchmean":
        return loss.sum() / input.shape[0] if input.ndim else loss.sum()
    return _reduced(loss, reduction)

"""Multi-head attention as a function: masks, projections, and attention of all heads at once."""

from __future__ import annotations

import math
import warnings
from typing import Any

from firesteel._core import (
    Tensor,
    bool as bool_,
    cat,
    dropout,
    linear,
    scaled_dot_product_attention,
    softmax,
    zeros_like,
)


def canonical_mask(
    mask: Tensor | None, name: str, dtype: Any, other: Tensor | None = None, other_name: str = "attn_mask"
) -> Tensor | None:
    """Returns a mask as numbers to be added to the scores: of a bool one, -inf where it is True.

    Raises:
        AssertionError: if the mask is neither bool nor floating-point.
    """
    if mask is None:
        return None
    if mask.dtype != bool_ and not mask.is_floating_point():
        raise AssertionError(
            f"only bool and floating types of {name} are supported, but got {mask.dtype}; "
            "convert it with .bool()"
        )
    if other is not None and mask.dtype != other.dtype:
        warnings.warn(
            f"Support for mismatched {name} and {other_name} is deprecated. Use same type for both instead.",
            stacklevel=3,
        )
    if mask.dtype == bool_:
        return zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
    return mask


def _check_ranks(
    query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None
) -> bool:
    """Returns whether the inputs are batches."""
    if query.ndim not in (2, 3):
        raise AssertionError(
            f"query should be unbatched 2D or batched 3D tensor but received {query.ndim}-D query tensor"
        )
    batched = query.ndim == 3
    kind = f"For {'batched' if batched else 'unbatched'} ({query.ndim}-D) `query`, expected"
    if key.ndim != query.ndim or value.ndim != query.ndim:
        raise AssertionError(
            f"{kind} `key` and `value` to be {query.ndim}-D but found {key.ndim}-D and {value.ndim}-D "
            "tensors respectively"
        )
    if key_padding_mask is not None and key_padding_mask.ndim != query.ndim - 1:
        raise AssertionError(
            f"{kind} `key_padding_mask` to be `None` or {query.ndim - 1}-D but found "
            f"{key_padding_mask.ndim}-D tensor instead"
        )
    if attn_mask is not None and attn_mask.ndim not in (2, 3):
        raise AssertionError(
            f"{kind} `attn_mask` to be `None`, 2-D or 3-D but found {attn_mask.ndim}-D tensor instead"
        )
    return batched


def _checked_mask(mask: Tensor, batch: int, heads: int, queries: int, keys: int) -> Tensor:
    """Returns a mask (1, L, S) or (N * heads, L, S)."""
    wanted = (queries, keys) if mask.ndim == 2 else (batch * heads, queries, keys)
    if tuple(mask.shape) != wanted:
        raise RuntimeError(
            f"The shape of the {mask.ndim}D attn_mask is {tuple(mask.shape)}, but should be {wanted}."
        )
    return mask.unsqueeze(0) if mask.ndim == 2 else mask


def _projected(
    inputs: tuple[Tensor, Tensor, Tensor], weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, ...]:
    """Returns the projections of query, key and value by one weight; equal inputs are multiplied once."""
    query, key, value = inputs
    if query is key is value:
        return linear(query, weight, bias).chunk(3, -1)
    weights = weight.chunk(3)
    biases = (None, None, None) if bias is None else bias.chunk(3)
    return tuple(linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True))


def _appended(sequence: Tensor, row: Tensor | None) -> Tensor:
    """Returns (S + 1, N, E): one more element, zeros unless given, at the end of every sequence."""
    _, batch, width = sequence.shape
    last = sequence.new_zeros((1, batch, width)) if row is None else row.expand(1, batch, width)
    return cat([sequence, last])


def _longer(mask: Tensor | None) -> Tensor | None:
    """Returns the mask for one more key, which all see."""
    return None if mask is None else cat([mask, mask.new_zeros((*mask.shape[:-1], 1))], -1)


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Computes what `nn.MultiheadAttention` does, from its parameters; sequences come first, batches second.

    See `nn.MultiheadAttention` for shapes and errors.

    Args:
        query, key, value: (L, N, E), (S, N, kdim) and (S, N, vdim), or without N.
        embed_dim_to_check: what E must be.
        num_heads: heads that share E.
        in_proj_weight, in_proj_bias: (3 * E, E) and (3 * E,), the three projections one after the other.
        bias_k, bias_v: (1, 1, E), appended to keys and values, or None.
        add_zero_attn: whether zeros are appended to keys and values.
        dropout_p: share of the weights set to zero, if `training`.
        out_proj_weight, out_proj_bias: (E, E) and (E,).
        training: whether `dropout_p` applies.
        key_padding_mask, need_weights, attn_mask: see `nn.MultiheadAttention`.
        average_attn_weights, is_causal: see there.
        use_separate_proj_weight: whether the next three are used instead of `in_proj_weight`.
        q_proj_weight, k_proj_weight, v_proj_weight: (E, E), (E, kdim) and (E, vdim).
    """
    batched = _check_ranks(query, key, value, key_padding_mask, attn_mask)
    given = (query, key, value)
    if not batched:
        first = query.unsqueeze(1)
        second = first if key is query else key.unsqueeze(1)
        query, key, value = first, second, second if value is given[1] else value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, width = query.shape
    keys = key.shape[0]
    key_padding_mask = canonical_mask(key_padding_mask, "key_padding_mask", query.dtype, attn_mask)
    if is_causal and attn_mask is None:
        raise RuntimeError(
            "Need attn_mask if specifying the is_causal hint. You may use the Transformer module method "
            "`generate_square_subsequent_mask` to create this mask."
        )
    if is_causal and key_padding_mask is None and not need_weights:
        attn_mask = None
    else:
        attn_mask = canonical_mask(attn_mask, "attn_mask", query.dtype)
        is_causal = is_causal and key_padding_mask is None
    if width != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {width}")
    head = width // num_heads
    if head * num_heads != width:
        raise AssertionError(f"embed_dim {width} not divisible by num_heads {num_heads}")
    if use_separate_proj_weight:
        if key.shape[:2] != value.shape[:2]:
            raise AssertionError(
                f"key's sequence and batch dims {tuple(key.shape[:2])} do not match value's "
                f"{tuple(value.shape[:2])}"
            )
        if q_proj_weight is None or k_proj_weight is None or v_proj_weight is None:
            raise AssertionError(
                "use_separate_proj_weight is True but a projection's weight is None; give all three"
            )
        biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
        q, k, v = (
            linear(x, w, b)
            for x, w, b in zip(
                (query, key, value), (q_proj_weight, k_proj_weight, v_proj_weight), biases, strict=True
            )
        )
    else:
        if key.shape != value.shape:
            raise AssertionError(
                f"key shape {tuple(key.shape)} does not match value shape {tuple(value.shape)}"
            )
        if in_proj_weight is None:
            raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None; give it")
        q, k, v = _projected((query, key, value), in_proj_weight, in_proj_bias)
    if attn_mask is not None:
        attn_mask = _checked_mask(attn_mask, batch, num_heads, length, keys)
    if (bias_k is None) != (bias_v is None):
        raise AssertionError("bias_k and bias_v must both be given or both be None")
    for row_k, row_v, wanted in ((bias_k, bias_v, bias_k is not None), (None, None, add_zero_attn)):
        if wanted:
            k, v = _appended(k, row_k), _appended(v, row_v)
            attn_mask, key_padding_mask, keys = _longer(attn_mask), _longer(key_padding_mask), keys + 1

    # (L, N, E) -> (N, heads, L, head): views all.
    q = q.unflatten(-1, (num_heads, head)).permute(1, 2, 0, 3)
    k = k.unflatten(-1, (num_heads, head)).permute(1, 2, 0, 3)
    v = v.unflatten(-1, (num_heads, head)).permute(1, 2, 0, 3)
    if attn_mask is not None:
        attn_mask = attn_mask.reshape(-1, num_heads if attn_mask.shape[0] > 1 else 1, length, keys)
    if key_padding_mask is not None:
        if tuple(key_padding_mask.shape) != (batch, keys):
            raise AssertionError(
                f"key_padding_mask must have shape {(batch, keys)}, but got {tuple(key_padding_mask.shape)}"
            )
        padding = key_padding_mask.reshape(batch, 1, 1, keys)
        attn_mask = padding if attn_mask is None else attn_mask + padding
    p = dropout_p if training else 0.0
    weights = None
    if need_weights:
        scores = (q * math.sqrt(1.0 / head)) @ k.transpose(-2, -1)
        weights = softmax(scores if attn_mask is None else scores + attn_mask, -1)
        if p > 0.0:
            weights = dropout(weights, p)
        output = weights @ v
    else:
        output = scaled_dot_product_attention(q, k, v, attn_mask, p, is_causal)
    output = linear(output.permute(2, 0, 1, 3).reshape(length, batch, width), out_proj_weight, out_proj_bias)
    if weights is not None and average_attn_weights:
        weights = weights.mean(1)
    if batched:
        return output, weights
    return output.squeeze(1), None if weights is None else weights.squeeze(0)

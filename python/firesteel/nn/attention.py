"""Multi-head attention."""

from __future__ import annotations

from typing import Any

from firesteel._core import Tensor, empty

from . import init
from ._attention import canonical_mask, multi_head_attention_forward
from .linear import Linear
from .module import Module
from .parameter import Parameter


class NonDynamicallyQuantizableLinear(Linear):
    """The output projection of attention: a `Linear`, under PyTorch's name for printouts."""


class MultiheadAttention(Module):
    """Lets every element of a sequence attend to those of another, in several subspaces at once.

    MultiHead(Q, K, V) = concat(head_1, ..., head_h) @ W_o.T, head_i = softmax(Q_i @ K_i.T / sqrt(d)) @ V_i,
    where Q_i, K_i and V_i are the i-th parts, d wide, of the projections of query, key and value.

    Args:
        embed_dim: width of the queries and of the output.
        num_heads: how many subspaces; they share `embed_dim` equally.
        dropout: share of the attention weights that are set to zero while training.
        bias: whether the projections add vectors.
        add_bias_kv: whether a trained key and value is appended to every sequence.
        add_zero_attn: whether a key and value of zeros is appended to every sequence.
        kdim, vdim: widths of keys and values, `embed_dim` unless given.
        batch_first: whether sequences are (N, L, E) instead of (L, N, E).
        device: only "cpu" exists.
        dtype: of the parameters.

    Source: Vaswani et al., Attention is all you need, 2017.

    Example:
        >>> import firesteel as torch
        >>> x = torch.ones(2, 5, 8)
        >>> output, weights = torch.nn.MultiheadAttention(8, 4, batch_first=True)(x, x, x)
        >>> output.shape, weights.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 5, 5]))
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                "embed_dim and num_heads must be greater than 0, "
                f"got embed_dim={embed_dim} and num_heads={num_heads} instead"
            )
        super().__init__()
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        if self.head_dim * num_heads != embed_dim:
            raise AssertionError(
                f"embed_dim must be divisible by num_heads, but got {embed_dim} and {num_heads}"
            )

        def parameter(wanted: bool, *size: int) -> Parameter | None:
            return Parameter(empty(size, device=device, dtype=dtype)) if wanted else None

        same = self._qkv_same_embed_dim
        if not same:
            self.q_proj_weight = parameter(True, embed_dim, embed_dim)
            self.k_proj_weight = parameter(True, embed_dim, self.kdim)
            self.v_proj_weight = parameter(True, embed_dim, self.vdim)
        self.register_parameter("in_proj_weight", parameter(same, 3 * embed_dim, embed_dim))
        if same:
            for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
                self.register_parameter(name, None)
        self.register_parameter("in_proj_bias", parameter(bias, 3 * embed_dim))
        self.out_proj = NonDynamicallyQuantizableLinear(
            embed_dim, embed_dim, bias=bias, device=device, dtype=dtype
        )
        self.register_parameter("bias_k", parameter(add_bias_kv, 1, 1, embed_dim))
        self.register_parameter("bias_v", parameter(add_bias_kv, 1, 1, embed_dim))
        self.add_zero_attn = add_zero_attn
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None and self.out_proj.bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for vector in (self.bias_k, self.bias_v):
            if vector is not None:
                init.xavier_normal_(vector)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attends from each element of `query` to those of `key` and returns sums of `value`.

        Args:
            query: (L, N, E), (N, L, E) if `batch_first`, or (L, E).
            key, value: (S, N, kdim) and (S, N, vdim), likewise.
            key_padding_mask: (N, S) or (S,): True where a key is to be ignored, or numbers that are added.
            need_weights: whether to return the weights; without them attention is faster.
            attn_mask: (L, S) or (N * num_heads, L, S): True where a key is hidden, or numbers that are added.
            average_attn_weights: whether the weights returned are the mean over the heads.
            is_causal: says that `attn_mask` hides what comes later, so that it need not be read.

        Returns:
            The output, shaped like `query`, and None or the weights: (N, L, S), or (N, num_heads, L, S).

        Raises:
            AssertionError: if ranks or widths do not fit.
            RuntimeError: if the shape of `attn_mask` does not fit, or `is_causal` comes without it.
        """
        key_padding_mask = canonical_mask(key_padding_mask, "key_padding_mask", query.dtype, attn_mask)
        attn_mask = canonical_mask(attn_mask, "attn_mask", query.dtype)
        swapped = self.batch_first and query.ndim == 3
        if swapped:
            # `key is value` chooses a faster projection: it must hold afterwards, too.
            first = query.transpose(0, 1)
            second = first if key is query else key.transpose(0, 1)
            third = second if value is key else value.transpose(0, 1)
            query, key, value = first, second, third
        output, weights = multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return (output.transpose(0, 1) if swapped else output), weights

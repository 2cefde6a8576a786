"""The encoder of the transformer."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

from firesteel._core import Tensor, full

from . import functional as F
from ._attention import canonical_mask
from .activation import GELU, ReLU
from .attention import MultiheadAttention
from .containers import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .normalization import LayerNorm

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class TransformerEncoderLayer(Module):
    """Self-attention and two linear layers, each part with dropout, a sum with its input, and normalisation.

    x = norm1(x + attention(x)), y = norm2(x + linear2(activation(linear1(x)))); with `norm_first`
    x = x + attention(norm1(x)), y = x + linear2(activation(linear1(norm2(x)))).

    Args:
        d_model: width E of the sequences.
        nhead: heads of the attention.
        dim_feedforward: width between the two linear layers.
        dropout: share set to zero while training: of attention weights, between the linear layers, and of
            what both parts give.
        activation: "relu", "gelu" or a function of a tensor.
        layer_norm_eps: keeps the normalisation finite.
        batch_first: whether sequences are (N, L, E) instead of (L, N, E).
        norm_first: whether normalisation comes before attention and linear layers instead of behind the sums.
        bias: whether linear layers and normalisations add vectors.
        device: only "cpu" exists.
        dtype: of the parameters.

    Source: Vaswani et al., Attention is all you need, 2017.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.TransformerEncoderLayer(8, 2, 16)(torch.ones(5, 3, 8)).shape
        torch.Size([5, 3, 8])
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, device=device, dtype=dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, device, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device, dtype)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        if isinstance(activation, str):
            if activation not in _ACTIVATIONS:
                raise RuntimeError(f"activation should be relu/gelu, not {activation}")
            activation = _ACTIVATIONS[activation]
        self.activation = activation

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Passes (L, N, E), (N, L, E) if `batch_first`, or (L, E) through the layer.

        Args:
            src: the sequences.
            src_mask: (L, L) or (N * nhead, L, L), as `attn_mask` of `MultiheadAttention`.
            src_key_padding_mask: (N, L) or (L,), as its `key_padding_mask`.
            is_causal: says that `src_mask` hides what comes later, so that it need not be read.
        """
        padding = canonical_mask(
            src_key_padding_mask, "src_key_padding_mask", src.dtype, src_mask, "src_mask"
        )
        mask = canonical_mask(src_mask, "src_mask", src.dtype)
        if self.norm_first:
            src = src + self._attend(self.norm1(src), mask, padding, is_causal)
            return src + self._feed(self.norm2(src))
        src = self.norm1(src + self._attend(src, mask, padding, is_causal))
        result: Tensor = self.norm2(src + self._feed(src))
        return result

    def _attend(self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool) -> Tensor:
        output, _ = self.self_attn(
            x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False, is_causal=is_causal
        )
        result: Tensor = self.dropout1(output)
        return result

    def _feed(self, x: Tensor) -> Tensor:
        result: Tensor = self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))
        return result


def _why_not_nested(layer: Module) -> str:
    """What PyTorch's warning says of a layer for which it has no fast path for padded batches, or nothing."""
    if not isinstance(layer, TransformerEncoderLayer):
        return "encoder_layer was not TransformerEncoderLayer"
    if layer.norm_first:
        return "encoder_layer.norm_first was True"
    if not layer.self_attn.batch_first:
        return (
            "encoder_layer.self_attn.batch_first was not True"
            "(use batch_first for better inference performance)"
        )
    if layer.self_attn.in_proj_bias is None:
        return "encoder_layer.self_attn was passed bias=False"
    activation = layer.activation
    if not (activation is F.relu or activation is F.gelu or isinstance(activation, ReLU | GELU)):
        return "encoder_layer.activation_relu_or_gelu was not True"
    if layer.norm1.eps != layer.norm2.eps:
        return "encoder_layer.norm1.eps was not equal to encoder_layer.norm2.eps"
    if layer.self_attn.num_heads % 2:
        return "encoder_layer.self_attn.num_heads is odd"
    return ""


class TransformerEncoder(Module):
    """A stack of equal encoder layers.

    Args:
        encoder_layer: the layer; every layer of the stack is a copy, with the same weights at first.
        num_layers: how many.
        norm: applied to the output, if given.
        enable_nested_tensor: without effect beside PyTorch's warning: there are no nested tensors here.
        mask_check: without effect.

    Example:
        >>> import firesteel as torch
        >>> layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> torch.nn.TransformerEncoder(layer, 3)(torch.ones(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm
        self.enable_nested_tensor = enable_nested_tensor
        self.mask_check = mask_check
        reason = _why_not_nested(encoder_layer)
        self.use_nested_tensor = enable_nested_tensor and not reason
        if enable_nested_tensor and reason:
            warnings.warn(
                f"enable_nested_tensor is True, but self.use_nested_tensor is False because {reason}",
                stacklevel=2,
            )

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Passes sequences through the layers, one after the other.

        Args:
            src: (L, N, E), (N, L, E) if the layers are `batch_first`, or (L, E).
            mask: (L, L) or (N * nhead, L, L), as `attn_mask` of `MultiheadAttention`.
            src_key_padding_mask: (N, L) or (L,), as its `key_padding_mask`.
            is_causal: whether `mask` hides what comes later; None looks.
        """
        padding = canonical_mask(src_key_padding_mask, "src_key_padding_mask", src.dtype, mask, "mask")
        mask = canonical_mask(mask, "mask", src.dtype)
        if is_causal is None:
            is_causal = mask is not None and _is_causal(mask)
        output = src
        for layer in self.layers:
            output = layer(output, src_mask=mask, is_causal=is_causal, src_key_padding_mask=padding)
        return output if self.norm is None else self.norm(output)


def _is_causal(mask: Tensor) -> bool:
    """Whether a mask (L, L) that is added hides what comes later, and nothing else."""
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1]:
        return False
    return bool((mask == full(mask.shape, -math.inf, dtype=mask.dtype).triu(1)).all())

"""Attention, the layers made of it, and recurrent ones: forward, and forward with all gradients."""

from __future__ import annotations

from calls import both_ways, layers_both_ways
from report import Group

GROUP = Group("attention, recurrence", 2.0)

BATCH, HEADS, WIDTH = 4, 4, 64


def _fused(causal: bool):
    return lambda lib, q, k, v: lib.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


def _masked(lib, q, k, v, mask):
    return lib.nn.functional.scaled_dot_product_attention(q, k, v, mask)


def _mask(lib):
    return lib.rand(4, 1, 128, 128) > 0.3


def _encoder_layer(nn):
    return nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)


def by_hand(lib, q, k, v):
    """Causal attention as tutorials write it."""
    length = q.shape[-2]
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    later = lib.tril(lib.ones(length, length)) == 0
    return scores.masked_fill(later, float("-inf")).softmax(-1) @ v


def _qkv(length: int) -> list[tuple[int, ...]]:
    return [(BATCH, HEADS, length, WIDTH)] * 3


class _Output:
    """A recurrent layer that returns the results of its steps, without the last state."""

    def __init__(self, module):
        self.module, self.parameters = module, module.parameters

    def __call__(self, x):
        return self.module(x)[0]


CASES = both_ways(
    {
        f"{name} {length}": (compute, *_qkv(length))
        for name, compute in (
            ("sdpa", _fused(False)),
            ("sdpa causal", _fused(True)),
            ("by hand, causal", by_hand),
        )
        for length in (64, 256, 1024)
    }
    | {
        "sdpa causal 64, 48 heads": (_fused(True), *[(6, 8, 64, WIDTH)] * 3),
        "sdpa 128, mask": (_masked, *[(4, 8, 128, WIDTH)] * 3, _mask),
        "sdpa, 1 query, 1024 keys": (_fused(False), (4, 8, 1, WIDTH), *[(4, 8, 1024, WIDTH)] * 2),
    }
) | layers_both_ways(
    {
        "encoder layer 128, 16x64": (_encoder_layer, (16, 64, 128)),
        "LSTM 128, 64 steps, batch 32": (lambda nn: _Output(nn.LSTM(128, 128)), (64, 32, 128)),
        "LSTM 32, 50 steps, batch 1": (lambda nn: _Output(nn.LSTM(32, 32)), (50, 1, 32)),
        "LSTM 128, 2 layers": (lambda nn: _Output(nn.LSTM(128, 128, 2)), (64, 32, 128)),
        "GRU 128, 64 steps, batch 32": (lambda nn: _Output(nn.GRU(128, 128)), (64, 32, 128)),
        "RNN 128, 64 steps, batch 32": (lambda nn: _Output(nn.RNN(128, 128)), (64, 32, 128)),
    }
)


def test_race(race, case, threads):
    race(CASES[case], threads)

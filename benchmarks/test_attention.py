"""Scaled dot-product attention: of lengths, with and without the gradients, causal and not."""

from __future__ import annotations

import pytest

SIZES = [(48, 16, 64), (48, 64, 64), (48, 256, 64), (8, 16, 32), (8, 64, 32), (8, 256, 32), (8, 1024, 32)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("is_causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("trains", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize("heads, length, width", SIZES)
def test_attention(race, heads, length, width, trains, is_causal, threads):
    def make(lib):
        lib.manual_seed(0)
        query, key, value, gradient = (lib.randn(heads // 8, 8, length, width) for _ in range(4))
        attention = lib.nn.functional.scaled_dot_product_attention
        if not trains:
            return lambda: attention(query, key, value, is_causal=is_causal)
        inputs = [x.requires_grad_() for x in (query, key, value)]

        def step():
            attention(*inputs, is_causal=is_causal).backward(gradient)
            for x in inputs:
                x.grad = None

        return step

    race(make, threads, ratio=1.0)


@pytest.mark.parametrize("keys", [128, 1024])
def test_one_query(race, keys):
    """As when a text is continued word by word."""

    def make(lib):
        lib.manual_seed(0)
        query, key, value = (lib.randn(4, 8, n, 64) for n in (1, keys, keys))
        return lambda: lib.nn.functional.scaled_dot_product_attention(query, key, value)

    race(make, ratio=1.0)


@pytest.mark.parametrize("kind", ["mask", "dropout"])
def test_attention_with(race, kind):
    def make(lib):
        lib.manual_seed(0)
        inputs = [lib.randn(4, 8, 128, 64, requires_grad=True) for _ in range(3)]
        gradient = lib.randn(4, 8, 128, 64)
        mask = lib.rand(4, 1, 128, 128) > 0.3 if kind == "mask" else None
        p = 0.1 if kind == "dropout" else 0.0

        def step():
            lib.nn.functional.scaled_dot_product_attention(*inputs, mask, p).backward(gradient)
            for x in inputs:
                x.grad = None

        return step

    race(make, ratio=1.0)


def test_encoder_layer(race):
    def make(lib):
        lib.manual_seed(0)
        layer = lib.nn.TransformerEncoderLayer(128, 4, 512, batch_first=True)
        x, gradient = lib.randn(16, 64, 128), lib.randn(16, 64, 128)

        def step():
            layer(x).backward(gradient)
            layer.zero_grad()

        return step

    race(make, ratio=1.0)

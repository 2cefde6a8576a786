"""Networks that read sequences, written once for either library: a model and what computes its loss."""

from __future__ import annotations

VOCABULARY = 65
BLOCK = 64


def char_gpt(by_hand: bool):
    """A GPT of characters: 4 layers, 4 heads, width 128, 64 characters, batch 12."""

    def build(lib):
        nn, functional = lib.nn, lib.nn.functional
        batch, layers, heads, width = 12, 4, 4, 128
        later = lib.tril(lib.ones(BLOCK, BLOCK)) == 0

        class Attention(nn.Module):
            def __init__(self):
                super().__init__()
                self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

            def forward(self, x):
                size = x.shape[:-1]
                q, k, v = (
                    part.view(*size, heads, width // heads).transpose(1, 2)
                    for part in self.qkv(x).split(width, dim=2)
                )
                if by_hand:
                    scores = q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5
                    y = scores.masked_fill(later, float("-inf")).softmax(-1) @ v
                else:
                    y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
                return self.out(y.transpose(1, 2).contiguous().view(*size, width))

        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm1, self.attention = nn.LayerNorm(width), Attention()
                self.norm2 = nn.LayerNorm(width)
                self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

            def forward(self, x):
                x = x + self.attention(self.norm1(x))
                return x + self.mlp(self.norm2(x))

        class Gpt(nn.Module):
            def __init__(self):
                super().__init__()
                self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(BLOCK, width)
                self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
                self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY, bias=False)

            def forward(self, x):
                x = self.tokens(x) + self.places(lib.arange(x.shape[1]))
                return self.head(self.norm(self.blocks(x)))

        model = Gpt()
        text = lib.randint(0, VOCABULARY, (batch, BLOCK + 1))
        x, y = text[:, :-1].contiguous(), text[:, 1:].contiguous()
        return model, lambda: functional.cross_entropy(model(x).view(-1, VOCABULARY), y.view(-1))

    return build


def lstm_language_model(lib):
    """Embedding, LSTM and head of width 128: 64 characters, batch 32."""
    nn = lib.nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.lstm = nn.Embedding(VOCABULARY, 128), nn.LSTM(128, 128, batch_first=True)
            self.head = nn.Linear(128, VOCABULARY)

        def forward(self, x):
            return self.head(self.lstm(self.tokens(x))[0])

    model = Model()
    text = lib.randint(0, VOCABULARY, (32, BLOCK + 1))
    x, y = text[:, :-1].contiguous(), text[:, 1:].contiguous()
    return model, lambda: nn.functional.cross_entropy(model(x).view(-1, VOCABULARY), y.view(-1))


def rnn_by_hand(batch: int):
    """A loop in Python over 50 steps at width 32: a product of the input, one of the state, and tanh."""

    def build(lib):
        nn = lib.nn
        steps, width = 50, 32

        class Rnn(nn.Module):
            def __init__(self):
                super().__init__()
                self.input, self.state = nn.Linear(width, width), nn.Linear(width, width)
                self.out = nn.Linear(width, 1)

            def forward(self, x):
                state = lib.zeros(batch, width)
                for i in range(steps):
                    state = lib.tanh(self.input(x[i]) + self.state(state))
                return self.out(state)

        model, x, y = Rnn(), lib.randn(steps, batch, width), lib.randn(batch, 1)
        return model, lambda: nn.functional.mse_loss(model(x), y)

    return build

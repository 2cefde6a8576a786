"""Networks and a step of their training, written once for either library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from models_sequence import char_gpt, lstm_language_model, rnn_by_hand


@dataclass
class Step:
    """A call trains `model` once with `optimizer`, and returns the loss."""

    library: ModuleType
    model: Any
    optimizer: Any
    loss: Callable[[], Any]

    def __call__(self):
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def from_numpy(self, array):
        """The array as a tensor of the step's library."""
        return self.library.from_numpy(array)


def moons_mlp(lib):
    """2-16-16-1 on points of two classes, batch 100."""
    nn = lib.nn
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    x = lib.randn(100, 2)
    y = (x[:, :1] * x[:, 1:] > 0).float()
    return model, lambda: nn.functional.binary_cross_entropy_with_logits(model(x), y)


def mnist_mlp(batch: int):
    """784-256-128-10, the network that beginners train on MNIST."""

    def build(lib):
        nn = lib.nn
        model = nn.Sequential(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
        )
        x, y = lib.rand(batch, 784), lib.randint(0, 10, (batch,))
        return model, lambda: nn.functional.cross_entropy(model(x), y)

    return build


def lenet(lib):
    """LeNet-5 on images of 28 x 28, batch 64."""
    nn = lib.nn
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )
    x, y = lib.rand(64, 1, 28, 28), lib.randint(0, 10, (64,))
    return model, lambda: nn.functional.cross_entropy(model(x), y)


def resnet20(lib):
    """The residual network of 20 layers for CIFAR, batch 32."""
    nn = lib.nn

    class Block(nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
            self.shortcut = nn.Identity()
            if stride > 1:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
                )

        def forward(self, x):
            y = self.norm1(self.conv1(x)).relu()
            return (self.norm2(self.conv2(y)) + self.shortcut(x)).relu()

    widths = [16] * 4 + [32] * 3 + [64] * 3
    blocks = [Block(a, b, 1 if a == b else 2) for a, b in zip(widths, widths[1:], strict=False)]
    first = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    x, y = lib.randn(32, 3, 32, 32), lib.randint(0, 10, (32,))
    return model, lambda: nn.functional.cross_entropy(model(x), y)


def vae(lib):
    """An auto-encoder 784-400-20 that draws its code, batch 128."""
    nn, functional = lib.nn, lib.nn.functional

    class Vae(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.mean, self.logvar = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
            self.up, self.out = nn.Linear(20, 400), nn.Linear(400, 784)

        def forward(self, x):
            hidden = self.hidden(x).relu()
            mean, logvar = self.mean(hidden), self.logvar(hidden)
            code = mean + lib.randn_like(mean) * (0.5 * logvar).exp()
            return self.out(self.up(code).relu()).sigmoid(), mean, logvar

    model, x = Vae(), lib.rand(128, 784)

    def loss():
        image, mean, logvar = model(x)
        missed = functional.binary_cross_entropy(image, x, reduction="sum")
        return missed - 0.5 * (1 + logvar - mean**2 - logvar.exp()).sum()

    return model, loss


def _trained(build, optimizer: str, **options):
    def make(lib):
        model, loss = build(lib)
        return Step(lib, model, getattr(lib.optim, optimizer)(model.parameters(), **options), loss)

    return make


STEPS = {
    "moons MLP, batch 100": _trained(moons_mlp, "SGD", lr=0.1),
    "MNIST MLP, batch 64": _trained(mnist_mlp(64), "SGD", lr=0.01),
    "MNIST MLP, batch 512": _trained(mnist_mlp(512), "SGD", lr=0.01),
    "MNIST MLP, batch 64, Adam": _trained(mnist_mlp(64), "Adam", lr=1e-3),
    "LeNet, batch 64": _trained(lenet, "SGD", lr=0.01, momentum=0.9),
    "ResNet-20, batch 32": _trained(resnet20, "SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
    "char GPT, attention by hand": _trained(char_gpt(by_hand=True), "AdamW", lr=3e-4),
    "char GPT, sdpa": _trained(char_gpt(by_hand=False), "AdamW", lr=3e-4),
    "LSTM language model": _trained(lstm_language_model, "Adam", lr=1e-3),
    "VAE, batch 128": _trained(vae, "Adam", lr=1e-3),
    "RNN by hand, batch 1": _trained(rnn_by_hand(1), "SGD", lr=0.01),
    "RNN by hand, batch 16": _trained(rnn_by_hand(16), "SGD", lr=0.01),
}

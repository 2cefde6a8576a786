"""Layers of well-known networks: forward, and forward with all gradients."""

from __future__ import annotations

from calls import layers_both_ways
from report import Group

GROUP = Group("convolution", 1.3)


def _channels_last(*shape: int):
    return lambda lib: lib.randn(*shape).to(memory_format=lib.channels_last)


CASES = layers_both_ways(
    {
        "MNIST first, 5x5, 1 to 6": (lambda nn: nn.Conv2d(1, 6, 5, padding=2), (64, 1, 28, 28)),
        "MNIST second, 5x5, 6 to 16": (lambda nn: nn.Conv2d(6, 16, 5), (64, 6, 14, 14)),
        "MNIST 3x3, 32 to 64": (lambda nn: nn.Conv2d(32, 64, 3), (64, 32, 26, 26)),
        "CIFAR first, 3x3, 3 to 16": (lambda nn: nn.Conv2d(3, 16, 3, padding=1), (32, 3, 32, 32)),
        "CIFAR 3x3, 16 to 16": (lambda nn: nn.Conv2d(16, 16, 3, padding=1), (32, 16, 32, 32)),
        "CIFAR 3x3, 64 to 64": (lambda nn: nn.Conv2d(64, 64, 3, padding=1), (32, 64, 8, 8)),
        "ImageNet first, 7x7, stride 2": (lambda nn: nn.Conv2d(3, 64, 7, 2, 3), (4, 3, 224, 224)),
        "ImageNet 3x3, 64 to 64": (lambda nn: nn.Conv2d(64, 64, 3, padding=1), (8, 64, 56, 56)),
        "3x3, stride 2, 16 to 32": (lambda nn: nn.Conv2d(16, 32, 3, 2, 1), (32, 16, 32, 32)),
        "1x1, 256 to 64": (lambda nn: nn.Conv2d(256, 64, 1), (8, 256, 28, 28)),
        "1x1, stride 2, 64 to 128": (lambda nn: nn.Conv2d(64, 128, 1, 2), (8, 64, 56, 56)),
        "depthwise 3x3, 64": (lambda nn: nn.Conv2d(64, 64, 3, padding=1, groups=64), (32, 64, 32, 32)),
        "4 groups 3x3, 64": (lambda nn: nn.Conv2d(64, 64, 3, padding=1, groups=4), (32, 64, 16, 16)),
        "dilated 3x3, 32": (lambda nn: nn.Conv2d(32, 32, 3, padding=2, dilation=2), (16, 32, 32, 32)),
        "3x3, channels last": (
            lambda nn: nn.Conv2d(64, 64, 3, padding=1),
            _channels_last(8, 64, 28, 28),
        ),
        "one image, 3x3, 16 to 32": (lambda nn: nn.Conv2d(16, 32, 3, padding=1), (1, 16, 28, 28)),
        "1d, 3, 64 to 64": (lambda nn: nn.Conv1d(64, 64, 3, padding=1), (32, 64, 256)),
        "1d first, 80, stride 4": (lambda nn: nn.Conv1d(1, 32, 80, 4), (16, 1, 8000)),
        "transposed 4x4, stride 2": (lambda nn: nn.ConvTranspose2d(64, 32, 4, 2, 1), (16, 64, 16, 16)),
        "transposed 1d, 4, stride 2": (lambda nn: nn.ConvTranspose1d(64, 32, 4, 2, 1), (16, 64, 256)),
        "3d 3x3x3, 8 to 16": (lambda nn: nn.Conv3d(8, 16, 3, padding=1), (4, 8, 16, 16, 16)),
    }
)


def test_race(race, case, threads):
    race(CASES[case], threads)

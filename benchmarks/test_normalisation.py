"""Softmax, normalisations, losses and pooling: forward, and forward with backward."""

from __future__ import annotations

from calls import both_ways, forward, integers, layers_both_ways
from report import Group

GROUP = Group("normalisation, losses, pooling", 2.0)

IMAGES = (32, 64, 32, 32)
FUNCTIONS = {
    "softmax 128x1000": (lambda lib, x: x.softmax(1), (128, 1000)),
    "softmax first, 1000x128": (lambda lib, x: x.softmax(0), (1000, 128)),
    "softmax 2048x4096": (lambda lib, x: x.softmax(1), (2048, 4096)),
    "log_softmax 128x1000": (lambda lib, x: x.log_softmax(1), (128, 1000)),
    "softmax 4x8x256x256": (lambda lib, x: x.softmax(-1), (4, 8, 256, 256)),
    "cross_entropy 64x10": (
        lambda lib, x, y: lib.nn.functional.cross_entropy(x, y),
        (64, 10),
        integers(10, 64),
    ),
    "cross_entropy 128x1000": (
        lambda lib, x, y: lib.nn.functional.cross_entropy(x, y),
        *((128, 1000), integers(1000, 128)),
    ),
    "mse_loss 1e5": (lambda lib, x, y: lib.nn.functional.mse_loss(x, y), (100_000,), (100_000,)),
    "binary_cross_entropy_with_logits 1e5": (
        lambda lib, x, y: lib.nn.functional.binary_cross_entropy_with_logits(x, y.sigmoid().detach()),
        *((100_000,), (100_000,)),
    ),
    "smooth_l1_loss 1e5": (lambda lib, x, y: lib.nn.functional.smooth_l1_loss(x, y), (100_000,), (100_000,)),
    "nll_loss 128x1000": (
        lambda lib, x, y: lib.nn.functional.nll_loss(x, y),
        *((128, 1000), integers(1000, 128)),
    ),
}
LAYERS = {
    "LayerNorm 768x128": (lambda nn: nn.LayerNorm(128), (768, 128)),
    "LayerNorm 4096x1024": (lambda nn: nn.LayerNorm(1024), (4096, 1024)),
    "RMSNorm 768x128": (lambda nn: nn.RMSNorm(128), (768, 128)),
    "BatchNorm1d 512x256": (lambda nn: nn.BatchNorm1d(256), (512, 256)),
    "BatchNorm2d 32x64x32x32": (lambda nn: nn.BatchNorm2d(64), IMAGES),
    "BatchNorm2d in evaluation": (lambda nn: nn.BatchNorm2d(64).eval(), IMAGES),
    "GroupNorm 32x64x32x32": (lambda nn: nn.GroupNorm(8, 64), IMAGES),
    "MaxPool2d 2": (lambda nn: nn.MaxPool2d(2), IMAGES),
    "MaxPool2d 3, stride 2": (lambda nn: nn.MaxPool2d(3, 2, 1), IMAGES),
    "AvgPool2d 2": (lambda nn: nn.AvgPool2d(2), IMAGES),
    "AdaptiveAvgPool2d 1": (lambda nn: nn.AdaptiveAvgPool2d(1), IMAGES),
    "AdaptiveMaxPool2d 4": (lambda nn: nn.AdaptiveMaxPool2d(4), IMAGES),
    "MaxPool1d 2": (lambda nn: nn.MaxPool1d(2), (32, 64, 1024)),
}

CASES = (
    both_ways(FUNCTIONS)
    | layers_both_ways(LAYERS)
    | {
        "cross_entropy 2048x32000": forward(
            lambda lib, x, y: lib.nn.functional.cross_entropy(x, y), (2048, 32000), integers(32000, 2048)
        )
    }
)


def test_race(race, case, threads):
    race(CASES[case], threads)

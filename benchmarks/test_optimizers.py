"""Updates of parameters, beside PyTorch's default and beside its `fused=True`, and clipping of gradients."""

from __future__ import annotations

import pytest

from report import Group

DEFAULT, FUSED = Group("optimizers", 3.0), Group("optimizers beside fused", 1.0)

KINDS = {
    "SGD": ("SGD", {}),
    "SGD with momentum": ("SGD", {"momentum": 0.9}),
    "Adam": ("Adam", {}),
    "AdamW": ("AdamW", {"weight_decay": 0.01}),
}
# Number and shape of the parameters: a large one, those of a small network, those of a deep one.
PARAMETERS = {
    "1 of 1000x1000": (1, (1000, 1000)),
    "10 of 128x256": (10, (128, 256)),
    "200 of 64x64": (200, (64, 64)),
}
CLIP = "clip_grad_norm_"
CASES = {f"{kind}, {parameters}": (kind, parameters) for kind in [*KINDS, CLIP] for parameters in PARAMETERS}


@pytest.mark.parametrize("group", [DEFAULT, FUSED], ids=lambda group: group.name)
def test_race(race, case, threads, group):
    kind, parameters = CASES[case]
    if kind == CLIP and group is FUSED:
        pytest.skip("PyTorch has no fused clipping")
    name, options = KINDS.get(kind, ("SGD", {}))
    count, shape = PARAMETERS[parameters]

    def make(lib):
        leaves = [lib.randn(shape, requires_grad=True) for _ in range(count)]
        for leaf in leaves:
            leaf.grad = lib.randn(shape)
        fused = {"fused": True} if group is FUSED and lib.__name__ == "torch" else {}
        optimizer = getattr(lib.optim, name)(leaves, lr=1e-3, **options, **fused)

        def call():
            if kind == CLIP:
                return lib.nn.utils.clip_grad_norm_(leaves, 1.0)
            optimizer.step()
            return leaves

        return call

    race(make, threads, group=group)

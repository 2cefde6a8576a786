"""Updates of parameters, beside PyTorch's default and beside its `fused=True`."""

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
CASES = {f"{kind}, {parameters}": (kind, parameters) for kind in KINDS for parameters in PARAMETERS}


@pytest.mark.parametrize("group", [DEFAULT, FUSED], ids=lambda group: group.name)
def test_race(race, case, threads, group):
    kind, parameters = CASES[case]
    name, options = KINDS[kind]
    count, shape = PARAMETERS[parameters]

    def make(lib):
        leaves = [lib.randn(shape, requires_grad=True) for _ in range(count)]
        for leaf in leaves:
            leaf.grad = lib.randn(shape)
        fused = {"fused": True} if group is FUSED and lib.__name__ == "torch" else {}
        optimizer = getattr(lib.optim, name)(leaves, lr=1e-3, **options, **fused)

        def call():
            optimizer.step()
            return leaves

        return call

    race(make, threads, group=group)

"""A step of training: forward, backward and update of the network that beginners train on MNIST."""

from __future__ import annotations

import pytest

BATCH = 64


@pytest.mark.parametrize("threads", [1, 2])
def test_mnist_mlp_sgd_step(race, threads):
    def make(lib):
        lib.manual_seed(0)
        nn = lib.nn
        model = nn.Sequential(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
        )
        optimizer = lib.optim.SGD(model.parameters(), lr=0.01)
        x, y = lib.rand(BATCH, 784), lib.randint(0, 10, (BATCH,))

        def call():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()

        return call

    race(make, threads, ratio=1.0)

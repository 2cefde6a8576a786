"""The same seed gives the same training run, bit for bit, on any number of threads.

The networks are large enough that products, convolutions, reductions and optimizer steps are really split.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import firesteel
from libraries import parity
from tensors import torch

STEPS = 5
CLASSES = 10


def _mlp(nn):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.Tanh(), nn.Linear(128, CLASSES)
    )


def _cnn(nn):
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(32 * 6 * 6, CLASSES),
    )


def _transformer(nn):
    return nn.Sequential(
        nn.Flatten(1, 2),
        nn.TransformerEncoderLayer(28, 4, 64, batch_first=True),
        nn.Flatten(),
        nn.Linear(784, CLASSES),
    )


MODELS = {"mlp": _mlp, "cnn": _cnn, "transformer": _transformer}
OPTIMIZERS = {
    "sgd": lambda lib, parameters: lib.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "adam": lambda lib, parameters: lib.optim.Adam(parameters, lr=1e-3),
}


def _train(lib, model: str, optimizer: str, steps: int = STEPS):
    """Trains on random images from seed 0 and returns the losses and the model."""
    lib.manual_seed(0)
    network = MODELS[model](lib.nn)
    step = OPTIMIZERS[optimizer](lib, network.parameters())
    losses = []
    for _ in range(steps):
        x, y = lib.rand(32, 1, 28, 28), lib.randint(0, CLASSES, (32,))
        step.zero_grad()
        loss = lib.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        step.step()
        losses.append(loss.item())
    return losses, network


def _fingerprint(model: str, optimizer: str) -> str:
    """A hash of every bit of the losses, the gradients, the parameters and the buffers."""
    losses, network = _train(firesteel, model, optimizer)
    digest = hashlib.sha256(np.array(losses).tobytes())
    for value in network.state_dict().values():
        digest.update(value.numpy().tobytes())
    for parameter in network.parameters():
        digest.update(parameter.grad.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture
def restored_threads():
    """Gives the process its number of threads back after the test."""
    before = firesteel.get_num_threads()
    yield
    firesteel.set_num_threads(before)


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_any_number_of_threads_gives_the_same_bits(model, optimizer):
    prints = []
    for threads in (1, 2, 4, 2):  # 2 again: nor does what ran before matter
        firesteel.set_num_threads(threads)
        assert firesteel.get_num_threads() == threads
        prints.append(_fingerprint(model, optimizer))
    assert prints == prints[:1] * 4


def test_fresh_processes_give_the_same_bits():
    program = (
        "import test_determinism as t; print(t._fingerprint('mlp', 'adam'), t._fingerprint('cnn', 'sgd'))"
    )
    prints = []
    for threads in ("1", "3"):
        environment = {
            **os.environ,
            "FIRESTEEL_NUM_THREADS": threads,
            "PYTHONHASHSEED": threads,
            "PYTHONPATH": str(Path(__file__).parent),
        }
        command = [sys.executable, "-c", program]
        prints.append(
            subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        )
    assert prints[0] == prints[1]


def test_another_seed_gives_another_run():
    losses, _ = _train(firesteel, "mlp", "sgd", steps=1)
    firesteel.manual_seed(1)
    other = MODELS["mlp"](firesteel.nn)
    loss = firesteel.nn.functional.cross_entropy(
        other(firesteel.rand(32, 1, 28, 28)), firesteel.zeros(32).long()
    )
    assert loss.item() != losses[0]


@parity
@pytest.mark.parametrize("model", MODELS)
def test_the_first_loss_is_pytorchs_to_the_printed_digits(model):
    (ours,), _ = _train(firesteel, model, "sgd", steps=1)
    (theirs,), _ = _train(torch, model, "sgd", steps=1)
    assert f"{ours:.4f}" == f"{theirs:.4f}"
    assert ours == pytest.approx(theirs, rel=1e-6)

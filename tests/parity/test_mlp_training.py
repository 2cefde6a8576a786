"""A small network from the same seed: the same start bit for bit, then the same path."""

import pytest

import firesteel
from tensors import assert_same

torch = pytest.importorskip("torch")


def network(lib):
    lib.manual_seed(0)
    nn = lib.nn
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 5))


def batch(lib):
    lib.manual_seed(1)
    return lib.randn(64, 20), lib.randint(0, 5, (64,))


def train(lib, make_optimizer, steps):
    model, (x, y) = network(lib), batch(lib)
    optimizer = make_optimizer(lib, model.parameters())
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = lib.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, list(model.parameters())


OPTIMIZERS = {
    "sgd": lambda lib, p: lib.optim.SGD(p, lr=0.1),
    "momentum": lambda lib, p: lib.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True),
    "adam": lambda lib, p: lib.optim.Adam(p, lr=0.01),
    "adamw": lambda lib, p: lib.optim.AdamW(p, lr=0.01, weight_decay=0.05),
}


def test_initial_parameters_and_data():
    assert list(network(firesteel).state_dict()) == list(network(torch).state_dict())
    assert_same(list(network(firesteel).parameters()), list(network(torch).parameters()), compare="exact")
    assert_same(batch(firesteel), batch(torch), compare="exact")


def test_first_loss_in_printed_digits():
    first = [train(lib, OPTIMIZERS["sgd"], 1)[0][0] for lib in (firesteel, torch)]
    assert f"{first[0]:.4f}" == f"{first[1]:.4f}"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps(name):
    losses, parameters = train(firesteel, OPTIMIZERS[name], 20)
    expected, wanted = train(torch, OPTIMIZERS[name], 20)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert losses[-1] < losses[0]
    assert_same(parameters, wanted, tol=100.0, where="parameters")

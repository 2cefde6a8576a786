"""Layers and losses as they are trained: gradients, running statistics and options, beside PyTorch's."""

import numpy as np
import pytest

import firesteel
from tensors import assert_same, from_numpy

torch = pytest.importorskip("torch")


def draw(*shape, seed=0):
    """Random numbers in float32."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


LAYERS = {
    "Linear": (lambda nn: nn.Linear(6, 4), (5, 6)),
    "Linear-no-bias": (lambda nn: nn.Linear(6, 4, bias=False), (5, 6)),
    "Conv1d": (lambda nn: nn.Conv1d(3, 4, 3, padding=1), (2, 3, 7)),
    "Conv2d": (lambda nn: nn.Conv2d(2, 4, 3, stride=2), (2, 2, 7, 6)),
    "Conv2d-groups": (lambda nn: nn.Conv2d(4, 4, 3, groups=2, dilation=2), (2, 4, 7, 6)),
    "Conv3d": (lambda nn: nn.Conv3d(2, 3, 2, stride=(1, 2, 1), padding=1), (2, 2, 3, 5, 4)),
    "ConvTranspose1d": (lambda nn: nn.ConvTranspose1d(3, 4, 4, 2, 1), (2, 3, 7)),
    "ConvTranspose2d": (lambda nn: nn.ConvTranspose2d(4, 2, 3, 2, 1, 1, groups=2), (2, 4, 5, 6)),
    "ConvTranspose3d": (lambda nn: nn.ConvTranspose3d(2, 3, 3, 2, 1), (2, 2, 3, 4, 2)),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(4), (5, 4)),
    "BatchNorm2d": (lambda nn: nn.BatchNorm2d(4), (3, 4, 2, 2)),
    "LayerNorm": (lambda nn: nn.LayerNorm(6), (3, 6)),
    "MaxPool2d": (lambda nn: nn.MaxPool2d(2), (1, 2, 6, 6)),
    "AvgPool2d": (lambda nn: nn.AvgPool2d(2), (1, 2, 6, 6)),
    "Dropout": (lambda nn: nn.Dropout(0.4), (5, 6)),
    "GELU": (lambda nn: nn.GELU(), (5, 6)),
}


def train_step(lib, make, shape):
    """The layer, its output and its input's gradient after a step in training mode and one in eval mode."""
    lib.manual_seed(3)
    layer = make(lib.nn)
    x = from_numpy(lib, draw(*shape)).requires_grad_()
    out = layer(x)
    out.backward(from_numpy(lib, draw(*out.shape, seed=1)))
    return layer, out, x.grad, layer.eval()(x)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_pytorchs_gradients_and_statistics(name):
    make, shape = LAYERS[name]
    (ours, *results), (theirs, *expected) = (train_step(lib, make, shape) for lib in (firesteel, torch))
    assert_same(results, expected, tol=4)
    gradients = {key: value.grad for key, value in theirs.named_parameters()}
    assert {key for key, _ in ours.named_parameters()} == set(gradients)
    for key, value in ours.named_parameters():
        assert_same(value.grad, gradients[key], 4, key)
    buffers = dict(theirs.named_buffers())
    assert [key for key, _ in ours.named_buffers()] == [*buffers]
    for key, value in ours.named_buffers():
        assert_same(value, buffers[key], 4, key)


def test_embedding_gives_pytorchs_rows_and_gradient():
    def run(lib):
        lib.manual_seed(0)
        layer = lib.nn.Embedding(5, 3, padding_idx=1)
        out = layer(lib.tensor([[0, 1, 4], [4, 2, 1]]))
        out.sum().backward()
        return layer.weight.detach(), out, layer.weight.grad

    assert_same(run(firesteel), run(torch))


LABELS = [1, 0, 3]
LOSSES = {
    "NLLLoss": lambda lib, x: lib.nn.NLLLoss(ignore_index=0)(x.log_softmax(1), lib.tensor(LABELS)),
    "NLLLoss-weight": lambda lib, x: lib.nn.NLLLoss(weight=lib.tensor([1.0, 2.0, 3.0, 4.0]))(
        x.log_softmax(1), lib.tensor(LABELS)
    ),
    "CrossEntropyLoss": lambda lib, x: lib.nn.CrossEntropyLoss(
        weight=lib.tensor([1.0, 2.0, 3.0, 4.0]), ignore_index=3, label_smoothing=0.1
    )(x, lib.tensor(LABELS)),
    "BCEWithLogitsLoss": lambda lib, x: lib.nn.BCEWithLogitsLoss(pos_weight=lib.tensor([1.0, 2.0, 3.0, 4.0]))(
        x, lib.ones(3, 4) * 0.25
    ),
    "BCELoss": lambda lib, x: lib.nn.BCELoss()(x.sigmoid(), lib.ones(3, 4) * 0.25),
    "MSELoss": lambda lib, x: lib.nn.MSELoss(reduction="sum")(x, lib.ones(3, 4)),
    "L1Loss": lambda lib, x: lib.nn.L1Loss()(x, lib.ones(3, 4)),
    "SmoothL1Loss": lambda lib, x: lib.nn.SmoothL1Loss(beta=0.5)(x, lib.ones(3, 4)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_gives_pytorchs_value_and_gradient(name):
    def run(lib):
        x = from_numpy(lib, draw(3, 4)).requires_grad_()
        loss = LOSSES[name](lib, x)
        loss.backward()
        return loss, x.grad

    assert_same(run(firesteel), run(torch), tol=4)


def model(nn):
    """A network with every kind of part."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Embedding(5, 3, padding_idx=0),
        nn.LayerNorm((3, 4), elementwise_affine=False),
        nn.Linear(8, 4, bias=False),
    )


def test_the_tree_of_modules_is_pytorchs():
    ours, theirs = model(firesteel.nn), model(torch.nn)
    assert repr(ours) == repr(theirs)
    assert [m.extra_repr() for m in ours.modules()] == [m.extra_repr() for m in theirs.modules()]
    assert [name for name, _ in ours.named_children()] == [name for name, _ in theirs.named_children()]
    seen = []
    assert ours.apply(lambda module: seen.append(type(module).__name__)) is ours
    wanted = []
    theirs.apply(lambda module: wanted.append(type(module).__name__))
    assert seen == wanted
    assert ours.requires_grad_(False) is ours
    assert not any(parameter.requires_grad for parameter in ours.parameters())

"""The encoder of the transformer beside PyTorch's."""

import math

import numpy as np
import pytest

import firesteel as ft

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")

LAYERS = [
    "TransformerEncoderLayer(8, 2, 16)",
    "TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)",
    "TransformerEncoderLayer(8, 4, 12, dropout=0.0, activation='gelu', layer_norm_eps=1e-3)",
    "TransformerEncoderLayer(8, 1, 16, bias=False, activation=nn.SiLU())",
]
STACKS = [
    "TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 3)",
    "TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, nn.LayerNorm(8))",
]


def make(lib, source):
    lib.manual_seed(7)
    return eval(f"nn.{source}", {"nn": lib.nn})


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def run(lib, source, training, mask, padding):
    """The output and all gradients."""
    model = make(lib, source).train(training)
    x = lib.tensor(data(5, 5, 8), requires_grad=True)
    lib.manual_seed(3)

    def wrap(array):
        return None if array is None else lib.tensor(array)

    output = model(x, wrap(mask), src_key_padding_mask=wrap(padding))
    (output * lib.tensor(data(5, 5, 8, seed=1))).sum().backward()
    return [output.detach().numpy(), x.grad.numpy(), *(p.grad.numpy() for p in model.parameters())]


PADDING = np.zeros((5, 5), bool)
PADDING[2, 3:] = True
CAUSAL = np.triu(np.full((5, 5), -math.inf, dtype="float32"), 1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("masks", [(None, None), (CAUSAL, None), (None, PADDING), (CAUSAL == 0, PADDING)])
@pytest.mark.parametrize("source", [*LAYERS, *STACKS])
def test_outputs_and_gradients_are_pytorchs(source, masks, training):
    mask, padding = masks
    mask = ~mask if mask is not None and mask.dtype == bool else mask
    ours, theirs = (run(lib, source, training, mask, padding) for lib in (ft, torch))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-4, atol=5e-5)


@pytest.mark.parametrize("source", [*LAYERS, *STACKS])
def test_parameters_are_pytorchs(source):
    ours, theirs = make(ft, source), make(torch, source)
    assert repr(ours) == repr(theirs)
    state, reference = ours.state_dict(), theirs.state_dict()
    assert list(state) == list(reference)
    for name, tensor in state.items():
        assert tensor.tolist() == reference[name].tolist(), name
    ours.load_state_dict({name: ft.tensor(tensor.numpy()) for name, tensor in reference.items()})


def test_a_causal_mask_is_seen():
    """The stack finds out that the mask is causal; without a hint the layer reads it."""
    mask = ft.tensor(CAUSAL)
    stack = make(ft, STACKS[0]).eval()
    x = ft.tensor(data(5, 5, 8))
    hinted, plain = stack(x, mask), stack(x, mask, is_causal=False)
    np.testing.assert_allclose(hinted.detach().numpy(), plain.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_without_a_batch():
    outputs = []
    for lib in (ft, torch):
        layer = make(lib, LAYERS[0]).eval()
        outputs.append(layer(lib.tensor(data(5, 8))).detach().numpy())
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)


def test_an_unknown_activation():
    for lib in (ft, torch):
        with pytest.raises(RuntimeError, match="activation should be relu/gelu, not tanh"):
            lib.nn.TransformerEncoderLayer(8, 2, activation="tanh")


@pytest.mark.filterwarnings("default:enable_nested_tensor:UserWarning")
def test_the_warning_about_nested_tensors():
    texts = []
    for lib in (ft, torch):
        with pytest.warns(UserWarning, match="enable_nested_tensor is True") as caught:
            lib.nn.TransformerEncoder(lib.nn.TransformerEncoderLayer(8, 2, 16), 1)
        texts.append(str(caught[0].message))
    assert texts[0] == texts[1]

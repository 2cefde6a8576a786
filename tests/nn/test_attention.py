"""Attention beside PyTorch's: layers' parameters, outputs, weights, masks and errors."""

import math

import numpy as np
import pytest

import firesteel as ft

torch = pytest.importorskip("torch")

MAKES = [
    "MultiheadAttention(8, 2)",
    "MultiheadAttention(8, 4, batch_first=True)",
    "MultiheadAttention(8, 2, bias=False)",
    "MultiheadAttention(8, 2, add_bias_kv=True)",
    "MultiheadAttention(8, 2, add_zero_attn=True, batch_first=True)",
    "MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True)",
    "MultiheadAttention(8, 2, kdim=6, vdim=5)",
    "MultiheadAttention(8, 2, kdim=6, vdim=5, bias=False, add_bias_kv=True)",
    "MultiheadAttention(8, 2, dropout=0.4)",
]
BATCH, QUERIES, KEYS = 3, 4, 5


def make(lib, source, **more):
    """A layer with the weights of seed 7, biases that are not 0 included."""
    lib.manual_seed(7)
    layer = eval(f"nn.{source}", {"nn": lib.nn})
    for name, parameter in layer.named_parameters():
        if name.endswith("proj_bias") or name.endswith("out_proj.bias"):
            parameter.data.copy_(lib.arange(parameter.numel()) / 10)
    return layer


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def masks(kind, heads):
    """`attn_mask` and `key_padding_mask`."""
    hidden = data(QUERIES, KEYS, seed=5) > 0.6
    hidden[:, 1] = False
    padding = np.zeros((BATCH, KEYS), bool)
    padding[1, 3:] = True
    return {
        "none": (None, None),
        "bool": (hidden, None),
        "float": (data(QUERIES, KEYS, seed=6), None),
        "per head": (np.stack([np.roll(hidden, i, 0) for i in range(BATCH * heads)]), None),
        "padding": (None, padding),
        "both": (hidden, padding),
    }[kind]


def run(lib, layer, arrays, mask, padding, **more):
    """Output, weights, and the gradients of inputs and parameters."""
    inputs = [lib.tensor(array, requires_grad=True) for array in arrays]

    def wrap(array):
        return None if array is None else lib.tensor(array)

    lib.manual_seed(3)
    output, weights = layer(*inputs, attn_mask=wrap(mask), key_padding_mask=wrap(padding), **more)
    scale = lib.arange(output.numel()).reshape(output.shape) / 100
    (output * scale).sum().backward()
    grads = [x.grad for x in [*inputs, *layer.parameters()]]
    return [output.detach(), weights if weights is None else weights.detach(), *grads]


def assert_close(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert tuple(a.shape) == tuple(b.shape)
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("source", MAKES)
def test_parameters_are_pytorchs(source):
    ours, theirs = make(ft, source), make(torch, source)
    assert repr(ours) == repr(theirs)
    state, reference = ours.state_dict(), theirs.state_dict()
    assert list(state) == list(reference)
    for name, tensor in state.items():
        assert tensor.tolist() == reference[name].tolist(), name
    theirs.load_state_dict({name: torch.tensor(tensor.numpy()) for name, tensor in state.items()})
    ours.load_state_dict({name: ft.tensor(tensor.numpy()) for name, tensor in reference.items()})


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("kind", ["none", "bool", "float", "per head", "padding", "both"])
@pytest.mark.parametrize("source", MAKES)
def test_outputs_and_gradients_are_pytorchs(source, kind, need_weights):
    ours, theirs = make(ft, source), make(torch, source)
    shape = (BATCH, QUERIES) if ours.batch_first else (QUERIES, BATCH)
    others = (BATCH, KEYS) if ours.batch_first else (KEYS, BATCH)
    arrays = [data(*shape, 8), data(*others, ours.kdim, seed=1), data(*others, ours.vdim, seed=2)]
    mask, padding = masks(kind, ours.num_heads)
    results = [
        run(lib, layer, arrays, mask, padding, need_weights=need_weights)
        for lib, layer in ((ft, ours), (torch, theirs))
    ]
    assert_close(*results)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_self_attention(batch_first, need_weights):
    """One tensor in three places is projected at once."""
    results = []
    for lib in (ft, torch):
        layer = make(lib, f"MultiheadAttention(8, 2, batch_first={batch_first})")
        x = lib.tensor(data(4, 4, 8), requires_grad=True)
        output, weights = layer(x, x, x, need_weights=need_weights, average_attn_weights=False)
        (output * output).sum().backward()
        results.append([output.detach(), weights if weights is None else weights.detach(), x.grad])
    assert_close(*results)


@pytest.mark.parametrize("need_weights", [True, False])
def test_without_a_batch(need_weights):
    results = []
    for lib in (ft, torch):
        layer = make(lib, "MultiheadAttention(8, 2, batch_first=True)")
        q, k = lib.tensor(data(4, 8)), lib.tensor(data(5, 8, seed=1))
        padding = lib.tensor([False, False, True, False, False])
        output, weights = layer(q, k, k, key_padding_mask=padding, need_weights=need_weights)
        results.append([output.detach(), weights if weights is None else weights.detach()])
    assert_close(*results)


@pytest.mark.parametrize("need_weights", [True, False])
def test_the_hint_that_a_mask_is_causal(need_weights):
    results = []
    for lib in (ft, torch):
        layer = make(lib, "MultiheadAttention(8, 2)")
        x = lib.tensor(data(4, 3, 8))
        mask = lib.full((4, 4), -math.inf).triu(1)
        output, weights = layer(x, x, x, attn_mask=mask, is_causal=True, need_weights=need_weights)
        results.append([output.detach(), weights if weights is None else weights.detach()])
    assert_close(*results)


def test_dropout_follows_training():
    layer = make(ft, "MultiheadAttention(8, 2, dropout=0.5)").eval()
    x = ft.tensor(data(4, 3, 8))
    first, second = (layer(x, x, x, need_weights=False)[0] for _ in range(2))
    assert ft.equal(first, second)


ERRORS = {
    "rank": lambda lib, layer: layer(*[lib.ones(1, 2, 3, 8)] * 3),
    "key rank": lambda lib, layer: layer(lib.ones(2, 3, 8), lib.ones(2, 8), lib.ones(2, 8)),
    "width": lambda lib, layer: layer(*[lib.ones(2, 3, 6)] * 3),
    "key shape": lambda lib, layer: layer(lib.ones(2, 3, 8), lib.ones(4, 3, 8), lib.ones(5, 3, 8)),
    "mask shape": lambda lib, layer: layer(*[lib.ones(2, 3, 8)] * 3, attn_mask=lib.zeros(3, 2)),
    "mask rank": lambda lib, layer: layer(*[lib.ones(2, 3, 8)] * 3, attn_mask=lib.zeros(2)),
    "mask dtype": lambda lib, layer: layer(*[lib.ones(2, 3, 8)] * 3, attn_mask=lib.zeros(2, 2).long()),
    "padding rank": lambda lib, layer: layer(*[lib.ones(2, 3, 8)] * 3, key_padding_mask=lib.zeros(2)),
    "padding shape": lambda lib, layer: layer(*[lib.ones(2, 3, 8)] * 3, key_padding_mask=lib.zeros(3, 4)),
    "causal alone": lambda lib, layer: layer(*[lib.ones(2, 3, 8)] * 3, is_causal=True),
    "heads": lambda lib, layer: lib.nn.MultiheadAttention(8, 3),
    "no heads": lambda lib, layer: lib.nn.MultiheadAttention(8, 0),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_of_pytorchs_classes(name):
    raised = []
    for lib in (ft, torch):
        with pytest.raises(Exception) as error:
            ERRORS[name](lib, make(lib, "MultiheadAttention(8, 2)"))
        raised.append(error.type)
    assert issubclass(raised[0], raised[1])


def test_masks_of_two_kinds_warn():
    for lib in (ft, torch):
        layer = make(lib, "MultiheadAttention(8, 2)")
        x = lib.ones(4, 3, 8)
        with pytest.warns(UserWarning, match="mismatched key_padding_mask and attn_mask"):
            layer(x, x, x, key_padding_mask=lib.zeros(3, 4).bool(), attn_mask=lib.zeros(4, 4))

"""Recurrent layers and cells beside PyTorch's: outputs, states, gradients, printouts, state names, errors."""

import itertools

import numpy as np
import pytest

import firesteel as ft
from firesteel.autograd import gradcheck, gradgradcheck

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # PyTorch's own advice

LAYERS = ["RNN", "LSTM", "GRU"]
OPTIONS = [
    {},
    {"bias": False},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 3, "batch_first": True},
    {"bidirectional": True, "batch_first": True, "bias": False},
    {"num_layers": 2, "dropout": 1.0, "bidirectional": True},
]
SPECIAL = [
    ("RNN", {"nonlinearity": "relu"}),
    ("RNN", {"nonlinearity": "relu", "num_layers": 2, "bidirectional": True}),
    ("LSTM", {"proj_size": 3}),
    ("LSTM", {"proj_size": 2, "num_layers": 2, "bidirectional": True, "batch_first": True}),
]
CASES = [*itertools.product(LAYERS, OPTIONS), *SPECIAL]
IDS = [f"{name}-{'-'.join(f'{k}={v}' for k, v in options.items()) or 'plain'}" for name, options in CASES]
CELLS = [
    ("RNNCell", {}),
    ("RNNCell", {"nonlinearity": "relu"}),
    ("LSTMCell", {}),
    ("GRUCell", {}),
    ("GRUCell", {"bias": False}),
]


def numbers(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def made(name, *sizes, dtype=None, **options):
    """The same layer of both libraries."""
    layers = []
    for lib in (ft, torch):
        lib.manual_seed(7)
        layers.append(getattr(lib.nn, name)(*sizes, dtype=dtype and getattr(lib, dtype), **options))
    return layers


def flat(values):
    """All tensors of a nested result, in order."""
    if isinstance(values, (tuple, list)):
        return [tensor for value in values for tensor in flat(value)]
    return [] if values is None else [values]


def close(ours, theirs, tolerance=2e-5):
    ours, theirs = flat(ours), flat(theirs)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert tuple(mine.shape) == tuple(other.shape)
        assert str(mine.dtype).split(".")[-1] == str(other.dtype).split(".")[-1]
        np.testing.assert_allclose(
            np.array(mine.detach().tolist()),
            np.array(other.detach().tolist()),
            atol=tolerance,
            rtol=tolerance,
        )


def run(lib, layer, arrays, packed=None, wide=False):
    """Outputs of a layer, and gradients of inputs and parameters under a weighing of all outputs."""
    inputs = [
        lib.tensor(array.tolist(), dtype=getattr(lib, str(array.dtype)), requires_grad=True)
        for array in arrays
    ]
    x, states = inputs[0], tuple(inputs[1:])
    given = x
    if packed is not None:
        given = lib.nn.utils.rnn.pack_padded_sequence(
            x, packed, batch_first=getattr(layer, "batch_first", False), enforce_sorted=False
        )
    hx = () if not states else (states if len(states) == 2 else states[0],)
    results = flat(layer(given, *hx))
    floats = [result for result in results if result.dtype in (lib.float32, lib.float64)]
    loss = sum(
        (out * lib.tensor(numbers(*out.shape, seed=i).tolist(), dtype=out.dtype)).sum()
        for i, out in enumerate(floats)
    )
    loss.backward()
    return results, [x.grad for x in [*inputs, *layer.parameters()]]


def states_of(name, options, batch, hidden=4):
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    lead = (count,) if batch is None else (count, batch)
    states = [numbers(*lead, options.get("proj_size") or hidden, seed=5)]
    if name == "LSTM":
        states.append(numbers(*lead, hidden, seed=6))
    return states


@pytest.mark.parametrize("form", ["batch", "no-state", "unbatched", "packed", "packed-state", "one-step"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_layers_match(name, options, form):
    ours, theirs = made(name, 5, 4, **options)
    assert repr(ours) == repr(theirs)
    reference = theirs.state_dict()
    assert {k: v.tolist() for k, v in ours.state_dict().items()} == {
        k: v.tolist() for k, v in reference.items()
    }
    shape = [1 if form == "one-step" else 6, 3, 5]
    if options.get("batch_first"):
        shape[:2] = shape[1::-1]
    if form == "unbatched":
        del shape[0 if options.get("batch_first") else 1]
    with_states = form in ("batch", "unbatched", "packed-state")
    arrays = [
        numbers(*shape),
        *(states_of(name, options, None if form == "unbatched" else 3) if with_states else []),
    ]
    lengths = [2, 6, 4] if "packed" in form else None
    close(run(ft, ours, arrays, lengths), run(torch, theirs, arrays, lengths))


@pytest.mark.parametrize("width", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("name", LAYERS)
def test_sizes_around_those_of_registers_and_tiles(name, batch, width):
    arrays = [numbers(7, batch, 3)]
    close(
        *(run(lib, layer, arrays) for lib, layer in zip((ft, torch), made(name, 3, width), strict=True)), 5e-5
    )


@pytest.mark.parametrize("name", LAYERS)
def test_wide_layers_match(name):
    """Wider than the blocks that products are computed in."""
    layers = made(name, 8, 400, dtype="float64")
    arrays = [numbers(5, 5, 8, dtype="float64")]
    close(*(run(lib, layer, arrays) for lib, layer in zip((ft, torch), layers, strict=True)), 1e-9)


@pytest.mark.parametrize(("name", "options"), CELLS)
@pytest.mark.parametrize("form", ["batch", "no-state", "unbatched"])
def test_cells_match(name, options, form):
    ours, theirs = made(name, 5, 4, **options)
    assert repr(ours) == repr(theirs)
    lead = () if form == "unbatched" else (3,)
    states = (
        [] if form == "no-state" else [numbers(*lead, 4, seed=i) for i in (1, 2)[: 1 + (name == "LSTMCell")]]
    )
    arrays = [numbers(*lead, 5), *states]
    close(run(ft, ours, arrays), run(torch, theirs, arrays))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_other_dtypes(name, dtype):
    layer = getattr(ft.nn, name)(5, 4, dtype=getattr(ft, dtype))
    wide = getattr(ft.nn, name)(5, 4, dtype=ft.float64)
    wide.load_state_dict(layer.state_dict())
    x = ft.tensor(numbers(6, 3, 5).tolist(), dtype=getattr(ft, dtype))
    (output, _), (expected, _) = layer(x), wide(x.double())
    assert output.dtype is getattr(ft, dtype)
    assert (output.double() - expected).abs().max() < 0.02
    output.sum().backward()
    expected.sum().backward()
    for mine, other in zip(layer.parameters(), wide.parameters(), strict=True):
        assert mine.grad.dtype is getattr(ft, dtype)
        assert (mine.grad.double() - other.grad).abs().max() < 0.05 * other.grad.abs().max()


@pytest.mark.parametrize("name", LAYERS)
def test_state_dicts_go_both_ways(name):
    options = {"num_layers": 2, "bidirectional": True}
    ours, theirs = getattr(ft.nn, name)(3, 4, **options), getattr(torch.nn, name)(3, 4, **options)
    ours.load_state_dict({k: ft.tensor(v.tolist()) for k, v in theirs.state_dict().items()})
    x = numbers(5, 2, 3)
    close(ours(ft.tensor(x.tolist())), theirs(torch.tensor(x)))
    other = getattr(torch.nn, name)(3, 4, **options)
    other.load_state_dict({k: torch.tensor(v.tolist()) for k, v in ours.state_dict().items()})
    close(ours(ft.tensor(x.tolist())), other(torch.tensor(x)))
    assert [[tuple(w.shape) for w in row] for row in ours.all_weights] == [
        [tuple(w.shape) for w in row] for row in other.all_weights
    ]
    assert ours.flatten_parameters() is None


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_is_between_layers_and_in_training_alone(name):
    layer = getattr(ft.nn, name)(3, 64, num_layers=2, dropout=0.5)
    x = ft.tensor(numbers(5, 8, 3).tolist())
    assert layer(x)[0].tolist() != layer(x)[0].tolist()
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        single = getattr(ft.nn, name)(3, 4, dropout=0.5)
    assert single(x)[0].tolist() == single(x)[0].tolist()
    layer.eval()
    assert layer(x)[0].tolist() == layer(x)[0].tolist()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("function", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_gradients_and_their_gradients(function, reverse):
    """Of all inputs, on sequences of different lengths; both ways to the first derivatives agree."""
    gates, states = {"lstm": (4, 2), "gru": (3, 1)}.get(function, (1, 1))
    sizes = ft.tensor([3, 2, 1])
    shapes = [(6, 2), *[(1, 3, 2)] * states, *[(gates * 2, 2)] * 2, *[(gates * 2,)] * 2]
    inputs = [
        ft.tensor(numbers(*s, seed=i).tolist(), dtype=ft.float64, requires_grad=True)
        for i, s in enumerate(shapes)
    ]

    def call(x, *rest):
        hx, params = list(rest[:states]), list(rest[states:])
        if not reverse:
            return getattr(ft, function)(
                x, sizes, hx if states == 2 else hx[0], params, True, 1, 0.0, True, False
            )
        both = [ft.cat([state, state]) for state in hx]
        return getattr(ft, function)(
            x, sizes, both if states == 2 else both[0], params + params, True, 1, 0.0, True, True
        )

    assert gradcheck(call, inputs)
    assert gradgradcheck(call, inputs)
    loss = sum((out * out).sum() for out in call(*inputs))
    fused = ft.autograd.grad(loss, inputs, retain_graph=True)
    recorded = ft.autograd.grad(loss, inputs, create_graph=True)
    for mine, other in zip(fused, recorded, strict=True):
        assert not mine.requires_grad
        assert other.requires_grad
        assert ft.allclose(mine, other, rtol=1e-12, atol=1e-12)


def test_inputs_that_depend_on_each_other_get_their_own_second_derivatives():
    def run(lib):
        x = lib.tensor(numbers(4, 2, 3).tolist(), dtype=lib.float64, requires_grad=True)
        weight = lib.tensor(numbers(9, 3, seed=1).tolist(), dtype=lib.float64, requires_grad=True)
        state = (x * x).sum(0, keepdim=True)
        output, last = lib.gru(x, state, [weight, weight], False, 1, 0.0, True, False, False)
        (first,) = lib.autograd.grad((output * output).sum() + last.sum(), weight, create_graph=True)
        return lib.autograd.grad((first * first).sum(), [x, weight])

    close(run(ft), run(torch), 1e-8)


def test_only_what_is_asked_for_is_computed():
    layer = ft.nn.LSTM(3, 4)
    x, h = ft.randn(5, 2, 3, requires_grad=True), ft.zeros(1, 2, 4)
    output, (last, cell) = layer(x, (h, h))
    (by_x,) = ft.autograd.grad(output.sum(), x, retain_graph=True)
    assert all(p.grad is None for p in layer.parameters())
    (again,) = ft.autograd.grad([output.sum(), cell.sum() * 0, last.sum() * 0], x)
    assert by_x.tolist() == again.tolist()
    with pytest.raises(RuntimeError, match="second time"):
        output.sum().backward()


def test_a_weight_changed_before_backward_is_an_error():
    layer = ft.nn.GRU(3, 4)
    output, _ = layer(ft.randn(5, 2, 3))
    with ft.no_grad():
        layer.weight_hh_l0.add_(1.0)
    with pytest.raises(RuntimeError, match="gru: .*modified by an inplace operation: input 3"):
        output.sum().backward()


@pytest.mark.parametrize("name", LAYERS)
def test_results_may_be_written_before_backward(name):
    def run(lib, layer):
        output, _ = layer(lib.tensor(numbers(5, 2, 3).tolist()))
        (output * 1).mul_(2.0).sum().backward()
        return [p.grad for p in layer.parameters()]

    ours, theirs = made(name, 3, 4)
    output, _ = ours(ft.tensor(numbers(5, 2, 3).tolist()))
    output.mul_(2.0).sum().backward()
    close([p.grad for p in ours.parameters()], run(torch, theirs))


@pytest.mark.parametrize("name", LAYERS)
def test_bits_do_not_depend_on_threads(name):
    ft.manual_seed(0)
    layer = getattr(ft.nn, name)(24, 48, bidirectional=True, num_layers=2)
    x = ft.randn(20, 37, 24)
    before, results = ft.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            ft.set_num_threads(threads)
            layer.zero_grad()
            output, _ = layer(x)
            (output * output).sum().backward()
            results.append([output.tolist(), *(p.grad.tolist() for p in layer.parameters())])
    finally:
        ft.set_num_threads(before)
    assert all(result == results[0] for result in results)


ERRORS = {
    "input-size": ((4, 2, 6), None, RuntimeError, "Expected 5, got 6"),
    "rank": ((1, 4, 2, 5), None, ValueError, "Expected input to be 2D or 3D, got 4D"),
    "state-size": ((4, 2, 5), (1, 2, 5), RuntimeError, "Expected hidden"),
    "state-rank": ((4, 2, 5), (2, 4), RuntimeError, "should also be 3-D"),
    "state-rank-unbatched": ((4, 5), (1, 2, 4), RuntimeError, "should also be 2-D"),
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("name", LAYERS)
def test_errors_are_pytorchs(name, case):
    shape, state, kind, text = ERRORS[case]
    for lib, layer in zip((ft, torch), made(name, 5, 4), strict=True):
        hx = None if state is None else lib.zeros(state)
        with pytest.raises(kind, match=text):
            layer(lib.zeros(shape), (hx, hx) if name == "LSTM" and state else hx)


BAD_ARGUMENTS = [
    ({"hidden_size": 0}, ValueError, "hidden_size must be greater than zero"),
    ({"input_size": 0}, ValueError, "input_size must be greater than zero"),
    ({"num_layers": 0}, ValueError, "num_layers must be greater than zero"),
    ({"bias": 1}, TypeError, "bias should be of type bool, got: int"),
    ({"batch_first": 1}, TypeError, "batch_first should be of type bool, got: int"),
    ({"hidden_size": 2.0}, TypeError, "hidden_size should be of type int, got: float"),
    ({"dropout": 1.5}, ValueError, r"dropout should be a number in range \[0, 1\]"),
    ({"proj_size": -1}, ValueError, "proj_size should be a positive integer"),
    ({"proj_size": 4}, ValueError, "proj_size has to be smaller than hidden_size"),
]


@pytest.mark.parametrize(("arguments", "kind", "text"), BAD_ARGUMENTS)
def test_arguments_of_layers_are_checked(arguments, kind, text):
    for lib in (ft, torch):
        with pytest.raises(kind, match=text):
            lib.nn.LSTM(**{"input_size": 3, "hidden_size": 4, **arguments})


def test_wrong_modes_are_named():
    for lib in (ft, torch):
        with pytest.raises(ValueError, match="Unknown nonlinearity 'sin'"):
            lib.nn.RNN(3, 4, nonlinearity="sin")
        with pytest.raises(ValueError, match="Unrecognized RNN mode: QRNN"):
            lib.nn.RNNBase("QRNN", 3, 4)
        with pytest.raises(ValueError, match="does not match weight dtype"):
            lib.nn.GRU(3, 4)(lib.zeros(2, 1, 3, dtype=lib.float64))
        with pytest.raises(ValueError, match="LSTMCell: Expected input to be 1D or 2D, got 3D"):
            lib.nn.LSTMCell(3, 4)(lib.zeros(2, 1, 3))
        with pytest.raises(RuntimeError):
            lib.nn.GRUCell(3, 4)(lib.zeros(2, 3), lib.zeros(2, 5))
        with pytest.raises(RuntimeError):
            lib.nn.GRUCell(3, 4)(lib.zeros(2, 5))


def test_errors_of_the_functions_name_them():
    x, h, weight = ft.zeros(4, 2, 3), ft.zeros(1, 2, 3), ft.zeros(9, 3)
    rest = (False, 1, 0.0, False, False, False)
    with pytest.raises(RuntimeError, match=r"gru: Expected weight_ih of size \[9, 3\], got \[6, 3\]"):
        ft.gru(x, h, [weight[:6], weight], *rest)
    with pytest.raises(RuntimeError, match="gru: got an incorrect number of RNN parameters: 1"):
        ft.gru(x, h, [weight], *rest)
    with pytest.raises(RuntimeError, match="must have the same dtype"):
        ft.gru(x, h, [weight, weight.double()], *rest)
    with pytest.raises(RuntimeError, match="batch_sizes must be positive, must not grow"):
        ft.gru(x[:, 0], ft.tensor([1, 3]), h, [weight, weight], *rest[:5])
    with pytest.raises(RuntimeError, match="sequence length to be larger than 0"):
        ft.gru(x[:0], h, [weight, weight], *rest)
    with pytest.raises(RuntimeError, match="lstm expects 2 initial states, got 1"):
        ft.lstm(x, [h], [weight, weight], *rest)
    with pytest.raises(TypeError, match="'train' must be bool"):
        ft.gru(x, h, [weight, weight], False, 1, 0.0, None, False, False)
    with pytest.raises(RuntimeError, match="gru_cell: give both biases or none"):
        ft.gru_cell(x[0], h[0], weight, weight, weight[:, 0])


def test_an_empty_batch_gives_an_empty_result():
    layer = ft.nn.LSTM(3, 4, num_layers=2)
    output, (h, c) = layer(ft.zeros(5, 0, 3))
    assert (tuple(output.shape), tuple(h.shape), tuple(c.shape)) == ((5, 0, 4), (2, 0, 4), (2, 0, 4))
    output.sum().backward()
    assert all(float(p.grad.abs().sum()) == 0 for p in layer.parameters())

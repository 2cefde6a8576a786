"""Layers beside PyTorch's: the same printout, state names, seeded weights and outputs."""

import pytest

import firesteel as ft

torch = pytest.importorskip("torch")

LAYERS = [
    ("Linear(3, 4)", (2, 3)),
    ("Linear(3, 4, bias=False)", (2, 3)),
    ("Bilinear(3, 3, 2)", None),
    ("Conv1d(2, 4, 3, padding=1)", (2, 2, 7)),
    ("Conv2d(2, 4, 3, stride=2, padding=(1, 0), dilation=2, groups=2)", (2, 2, 9, 9)),
    ("Conv2d(2, 4, (2, 3), padding='same', bias=False)", (2, 2, 6, 6)),
    ("Conv2d(2, 4, 3, padding=1, padding_mode='reflect')", (2, 2, 6, 6)),
    ("Conv2d(2, 4, 3, padding=1, padding_mode='circular')", (2, 2, 6, 6)),
    ("Conv2d(2, 4, 3, padding=2, padding_mode='replicate')", (2, 2, 6, 6)),
    ("Conv3d(2, 4, 3, padding=1)", (2, 2, 4, 5, 6)),
    ("Conv3d(2, 4, (1, 2, 3), stride=(1, 2, 1), padding='valid', groups=2, bias=False)", (2, 2, 4, 5, 6)),
    ("Conv3d(2, 4, 2, padding='same', padding_mode='circular')", (2, 2, 3, 4, 5)),
    ("ConvTranspose1d(4, 6, 4, stride=2, padding=1, groups=2)", (2, 4, 7)),
    ("ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1)", (2, 4, 5, 6)),
    ("ConvTranspose2d(4, 2, (2, 3), bias=False, dilation=(1, 2))", (4, 5, 6)),
    ("ConvTranspose3d(2, 3, 3, stride=(1, 2, 2), padding=1, output_padding=(0, 1, 0))", (2, 2, 3, 4, 5)),
    ("MaxPool2d(2)", (1, 2, 6, 6)),
    ("AvgPool2d(2, stride=1)", (1, 2, 6, 6)),
    ("AdaptiveAvgPool2d((2, 3))", (1, 2, 5, 6)),
    ("AdaptiveAvgPool2d(1)", (1, 2, 5, 6)),
    ("AdaptiveMaxPool1d(3)", (2, 2, 7)),
    ("AdaptiveMaxPool2d((2, None))", (1, 2, 5, 6)),
    ("AdaptiveMaxPool2d(1)", (1, 2, 5, 6)),
    ("GroupNorm(2, 4)", (2, 4, 5, 3)),
    ("BatchNorm1d(3)", (5, 3)),
    ("BatchNorm2d(3, momentum=None)", (2, 3, 4, 4)),
    ("BatchNorm2d(3, affine=False, track_running_stats=False)", (2, 3, 4, 4)),
    ("LayerNorm((4, 5))", (2, 4, 5)),
    ("LayerNorm(5, bias=False)", (2, 4, 5)),
    ("Embedding(10, 3, padding_idx=-1)", None),
    ("Dropout(0.3)", (4, 4)),
    ("Flatten()", (2, 3, 4)),
    ("Unflatten(1, (2, 3))", (2, 6)),
    ("Identity()", (2, 3)),
    ("PReLU(3)", (2, 3)),
    ("Softmax(dim=1)", (2, 3)),
    ("LogSoftmax(dim=-1)", (2, 3)),
    ("Softmin(dim=1)", (2, 3)),
    ("GELU(approximate='tanh')", (2, 3)),
    ("LeakyReLU(0.2)", (2, 3)),
    ("ELU(0.5)", (2, 3)),
    ("Hardtanh(-2.0, 0.5)", (2, 3)),
    ("Softplus(2.0)", (2, 3)),
    *(
        (f"{name}()", (2, 3))
        for name in "ReLU ReLU6 SELU GELU SiLU Mish Hardswish Hardsigmoid Sigmoid Tanh "
        "LogSigmoid Softsign Tanhshrink".split()
    ),
]
IDS = [source for source, _ in LAYERS]


def make(lib, source):
    lib.manual_seed(7)
    return eval(f"nn.{source}", {"nn": lib.nn})


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's own advice
@pytest.mark.parametrize(("source", "shape"), LAYERS, ids=IDS)
def test_layer_matches(source, shape):
    ours, theirs = make(ft, source), make(torch, source)
    assert repr(ours) == repr(theirs)
    state, reference = ours.state_dict(), theirs.state_dict()
    assert list(state) == list(reference)
    for name, tensor in state.items():
        assert tensor.tolist() == reference[name].tolist(), name
    if shape is None:
        return
    torch.manual_seed(1)
    data = torch.randn(shape)
    ft.manual_seed(3)
    result = ours(ft.tensor(data.tolist()))
    torch.manual_seed(3)
    expected = theirs(data)
    torch.testing.assert_close(torch.tensor(result.tolist()), expected.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(9, 11), (10, 12), (2, 3, 10, 11), (11, 12), (9,)])
def test_output_sizes_of_transposed_convolutions_match(size):
    found = []
    for lib in (ft, torch):
        layer = make(lib, "ConvTranspose2d(2, 3, 3, stride=2, padding=1)")
        try:
            found.append(tuple(layer(lib.ones(2, 2, 5, 6), output_size=size).shape))
        except ValueError as error:
            found.append(type(error))
    assert found[0] == found[1]


def test_transposed_convolutions_refuse_other_paddings():
    for lib in (ft, torch):
        with pytest.raises(ValueError, match='Only "zeros" padding mode is supported for ConvTranspose1d'):
            lib.nn.ConvTranspose1d(2, 2, 3, padding_mode="reflect")


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's own advice
@pytest.mark.parametrize(
    "source",
    ["uniform_(w, -1, 2)", "normal_(w, 1, 3)", "trunc_normal_(w)", "trunc_normal_(w, std=0.1, a=0.3, b=0.5)",
     "xavier_uniform_(w, 2.0)", "xavier_normal_(w)", "kaiming_uniform_(w, mode='fan_out')",
     "kaiming_normal_(w, nonlinearity='relu')", "eye_(w)", "sparse_(w, 0.5)", "constant_(w, 3)"],
)  # fmt: skip
def test_init_matches(source):
    values = []
    for lib in (ft, torch):
        lib.manual_seed(5)
        w = lib.empty((20, 17))
        eval(f"init.{source}", {"init": lib.nn.init, "w": w})
        values.append(w.tolist())
    assert values[0] == values[1]


def test_dirac_matches():
    values = []
    for lib in (ft, torch):
        values.append(lib.nn.init.dirac_(lib.empty((4, 2, 3, 3)), 2).tolist())
    assert values[0] == values[1]


def net(nn):
    return nn.Sequential(
        nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.BatchNorm1d(3)}),
        nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Linear(1, 1)]),
        nn.Sequential(),
    )


def test_nested_repr_and_names():
    ours, theirs = net(ft.nn), net(torch.nn)
    assert repr(ours) == repr(theirs)
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_buffers()] == [n for n, _ in theirs.named_buffers()]


@pytest.mark.parametrize("change", [
    lambda state, lib: state.pop("0.a.weight"),
    lambda state, lib: state.update({"extra": lib.ones(1), "1.2.other": lib.ones(1)}),
    lambda state, lib: state.update({"0.a.weight": lib.ones(3, 2)}),
])  # fmt: skip
def test_load_state_dict_errors(change):
    texts = []
    for lib in (ft, torch):
        model = net(lib.nn)
        state = model.state_dict()
        change(state, lib)
        with pytest.raises(RuntimeError) as error:
            model.load_state_dict(state)
        texts.append(str(error.value))
    assert texts[0] == texts[1]


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's own advice
def test_losses_match():
    torch.manual_seed(0)
    x, y = torch.rand(4, 3), torch.rand(4, 3)
    for source in ["MSELoss()", "L1Loss(reduction='sum')", "SmoothL1Loss(beta=0.3)", "HuberLoss(delta=0.2)",
                   "BCELoss()", "BCEWithLogitsLoss(reduction='none')", "KLDivLoss(reduction='batchmean')",
                   "KLDivLoss(log_target=True)", "CrossEntropyLoss(label_smoothing=0.1)"]:  # fmt: skip
        ours, theirs = make(ft, source), make(torch, source)
        assert repr(ours) == repr(theirs)
        result = ours(ft.tensor(x.tolist()), ft.tensor(y.tolist()))
        torch.testing.assert_close(torch.tensor(result.tolist()), theirs(x, y), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("call", [
    "pad(x, (1, 2))", "pad(x, (-1, 2, 0, 1), value=3.0)", "normalize(x)", "cosine_similarity(x, x + 1)",
    "one_hot((x > 0).long(), 3)", "hardtanh(x, 0.0, 0.5)", "softmin(x, 0)", "huber_loss(x, x * 2)",
])  # fmt: skip
def test_functional_matches(call):
    data = torch.linspace(-1.5, 2, 12).view(3, 4)
    ours = eval(call, {**vars(ft.nn.functional), "x": ft.tensor(data.tolist())})
    theirs = eval(call, {**vars(torch.nn.functional), "x": data})
    torch.testing.assert_close(torch.tensor(ours.tolist()), theirs, atol=1e-6, rtol=1e-5)

"""The text of tensors: fixed strings, and hundreds of generated tensors against PyTorch's own text."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

import firesteel
from firesteel._tensor_str import set_printoptions, tensor_format, tensor_repr

FLOATS = ["float32", "float64", "float16", "bfloat16"]
DTYPES = [*FLOATS, "int64", "int32", "uint8", "bool"]
SPECIALS = [math.nan, math.inf, -math.inf, 0.0, -0.0]

FIXED = [
    ([1.0, 2.0, 3.0], "tensor([1., 2., 3.])"),
    ([1.5, -2.0], "tensor([ 1.5000, -2.0000])"),
    (3.14159265, "tensor(3.1416)"),
    (7, "tensor(7)"),
    (True, "tensor(True)"),
    ([], "tensor([])"),
    ([[]], "tensor([], size=(1, 0))"),
    ([1, -20, 300], "tensor([  1, -20, 300])"),
    ([True, False], "tensor([ True, False])"),
    ([1e-5, 1.0], "tensor([1.0000e-05, 1.0000e+00])"),
    ([1.0, 1001.0], "tensor([1.0000e+00, 1.0010e+03])"),
    ([1.0, 1000.0], "tensor([   1., 1000.])"),
    ([2e8], "tensor([2.0000e+08])"),
    ([math.nan, 1.5], "tensor([   nan, 1.5000])"),
    ([math.inf, -math.inf, 2.0], "tensor([inf, -inf, 2.])"),
    ([math.nan, 0.0], "tensor([nan, 0.])"),
    ([[1.0, 2.5], [3.0, -4.0]], "tensor([[ 1.0000,  2.5000],\n        [ 3.0000, -4.0000]])"),
    ([[[1], [2]], [[3], [4]]], "tensor([[[1],\n         [2]],\n\n        [[3],\n         [4]]])"),
]


@pytest.fixture(autouse=True)
def _default_printoptions() -> Iterator[None]:
    yield
    set_printoptions(profile="default")


@pytest.mark.parametrize(("data", "text"), FIXED, ids=[text.replace("\n", " ") for _, text in FIXED])
def test_fixed_text(data: object, text: str) -> None:
    assert tensor_repr(firesteel.tensor(data)) == text


def test_long_lines_are_wrapped_under_the_first_element() -> None:
    text = tensor_repr(firesteel.arange(30))
    assert text == (
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
        "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])"
    )


def test_more_than_a_thousand_elements_are_summarised() -> None:
    assert tensor_repr(firesteel.arange(1001)) == "tensor([   0,    1,    2,  ...,  998,  999, 1000])"
    assert "..." not in tensor_repr(firesteel.arange(1000))


def test_notes_behind_the_elements() -> None:
    x = firesteel.ones(2, requires_grad=True)
    assert tensor_repr(x) == "tensor([1., 1.], requires_grad=True)"
    assert tensor_repr((x * 2).mean()) == "tensor(2., grad_fn=<MeanBackward0>)"
    assert tensor_repr(x.detach().double()).startswith("tensor([1., 1.], dtype=")
    assert tensor_repr(x.detach().double()).endswith("float64)")


def test_a_note_that_does_not_fit_starts_a_line() -> None:
    x = firesteel.full((9,), 0.5, requires_grad=True)
    row = ", ".join(["0.5000"] * 9)
    assert tensor_repr(x) == f"tensor([{row}],\n       requires_grad=True)"


def test_parameter_is_announced() -> None:
    from firesteel import nn

    text = repr(nn.Parameter(firesteel.tensor([1.0])))
    assert text == "Parameter containing:\ntensor([1.], requires_grad=True)"


def test_printoptions() -> None:
    x = firesteel.tensor([1.23456, 20.5])
    set_printoptions(precision=2)
    assert tensor_repr(x) == "tensor([ 1.23, 20.50])"
    set_printoptions(sci_mode=True)
    assert tensor_repr(x) == "tensor([1.23e+00, 2.05e+01])"
    set_printoptions(threshold=3, edgeitems=1)
    assert tensor_repr(firesteel.arange(5)) == "tensor([0,  ..., 4])"
    set_printoptions(profile="default")
    assert tensor_repr(x) == "tensor([ 1.2346, 20.5000])"
    with pytest.raises(ValueError, match="profile 'long' is not one of default, short, full"):
        set_printoptions(profile="long")


def test_format() -> None:
    assert tensor_format(firesteel.tensor(3.14159), ".2f") == "3.14"
    assert tensor_format(firesteel.tensor(42), "05d") == "00042"
    assert tensor_format(firesteel.tensor([1, 2]), "") == "tensor([1, 2])"
    with pytest.raises(TypeError, match="unsupported format string"):
        tensor_format(firesteel.tensor([1.0]), ".2f")


def _random_values(rng: random.Random, count: int) -> list[float]:
    kind = rng.choice(["normal", "small", "large", "wide", "whole", "zeros", "special"])
    scale = {"small": 10 ** rng.uniform(-8, -3), "large": 10 ** rng.uniform(3, 9)}.get(kind, 1.0)
    values = [rng.gauss(0, 1) * scale for _ in range(count)]
    if kind == "wide":
        values = [value * 10 ** rng.uniform(-4, 4) for value in values]
    elif kind == "whole":
        spread = 10 ** rng.uniform(0, 10)
        values = [float(round(value * spread)) for value in values]
    elif kind == "zeros":
        values = [0.0] * count
    elif kind == "special":
        values = [rng.choice(SPECIALS) if rng.random() < 0.4 else value for value in values]
    return values


def _random_data(rng: random.Random, dtype: str, count: int) -> list[float] | list[int] | list[bool]:
    if dtype in FLOATS:
        return _random_values(rng, count)
    if dtype == "bool":
        return [rng.random() < 0.5 for _ in range(count)]
    top = 10 ** rng.randint(0, 2) if dtype == "uint8" else 10 ** rng.randint(0, 9)
    return [rng.randint(0 if dtype == "uint8" else -top, top) for _ in range(count)]


def _random_shape(rng: random.Random) -> list[int]:
    big = rng.random() < 0.2
    sizes = (
        [1, 2, 3, 5, 7, 8, 12, 40] if big else [0, 1, 1, 2, 3, 4, 6] if rng.random() < 0.2 else [1, 2, 3, 5]
    )
    return [rng.choice(sizes) for _ in range(rng.randint(0, 4))]


def _pair(torch: object, rng: random.Random) -> tuple[object, object]:
    """Makes the same tensor, often a view that is not contiguous, in both frameworks."""
    shape, dtype = _random_shape(rng), rng.choice(DTYPES)
    data = _random_data(rng, dtype, math.prod(shape))
    view = rng.choice(["none", "transpose", "step", "expand"]) if shape else "none"
    grad = dtype in FLOATS and rng.random() < 0.3

    def build(framework: object) -> object:
        x = framework.tensor(data, dtype=getattr(framework, dtype)).reshape(shape)  # type: ignore[attr-defined]
        if view == "transpose":
            x = x.transpose(0, -1)
        elif view == "step":
            x = x[..., ::2]
        elif view == "expand":
            x = x.unsqueeze(0).expand(2, *x.shape)
        return x.detach().requires_grad_(grad)

    return build(torch), build(firesteel)


def _torch_text(tensor: object) -> str:
    """PyTorch's text, with the module of the dtype taken from ours."""
    module = str(firesteel.float32).split(".")[0]
    return repr(tensor).replace("dtype=torch.", f"dtype={module}.")


@pytest.mark.parametrize("seed", range(600))
def test_generated_tensors_print_as_in_pytorch(seed: int) -> None:
    torch = pytest.importorskip("torch")
    theirs, ours = _pair(torch, random.Random(seed))
    assert tensor_repr(ours) == _torch_text(theirs)


@pytest.mark.parametrize("seed", range(200))
def test_generated_options_print_as_in_pytorch(seed: int) -> None:
    torch = pytest.importorskip("torch")
    rng = random.Random(1000 + seed)
    options = {
        "precision": rng.choice([None, 0, 2, 8]),
        "threshold": rng.choice([None, 0, 10, 1e9]),
        "edgeitems": rng.choice([None, 0, 1, 2, 5]),
        "linewidth": rng.choice([None, 20, 120]),
        "profile": rng.choice([None, "default", "short", "full"]),
        "sci_mode": rng.choice([None, True, False]),
    }
    theirs, ours = _pair(torch, rng)
    torch.set_printoptions(**options)
    set_printoptions(**options)
    try:
        assert tensor_repr(ours) == _torch_text(theirs)
    finally:
        torch.set_printoptions(profile="default")


def test_gradient_functions_are_named_as_in_pytorch() -> None:
    torch = pytest.importorskip("torch")

    def texts(framework: object, show: object) -> list[str]:
        x = framework.arange(6.0).reshape(2, 3).requires_grad_()  # type: ignore[attr-defined]
        results = [x.mean(), x.sum(), x * 2, x + 1, x.sqrt(), x.reshape(6), x.t(), x @ x.t(), x[0], x.relu()]
        return [show(result) for result in results]  # type: ignore[operator]

    assert texts(firesteel, tensor_repr) == texts(torch, _torch_text)

"""Python numbers on their way into tensors: what a dtype cannot hold is refused where PyTorch refuses it."""

import pytest

import firesteel
from tensors import assert_same

torch = pytest.importorskip("torch")

DTYPES = ["bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
NUMBERS = [
    *(300, -1, -255, -256, 2**31 - 1, 2**31, 2**40, 2**63 - 1, 65504, 65510, 100000, 1.5, -0.5, 255.9, 256.0),
    *(65504.0, 65510.0, 65520.0, 1e5, 3.3e38, 3.4e38, 3.5e38, 1e300, float("inf"), float("nan"), True),
]


def assign(x, key, number):
    x[key] = number
    return x


WRITES = {
    "list": lambda lib, x, v: assign(x, [0], v),
    "mask": lambda lib, x, v: assign(x, lib.tensor([True, False]), v),
    "int": lambda lib, x, v: assign(x, 0, v),
    "slice": lambda lib, x, v: assign(x, slice(0, 2), v),
    "scatter": lambda lib, x, v: x.scatter(0, lib.tensor([0]), v),
    "scatter_": lambda lib, x, v: x.scatter_(0, lib.tensor([1]), value=v),
    "fill_": lambda lib, x, v: x.fill_(v),
    "fill_-one": lambda lib, x, v: x[:1].fill_(v),
    "full": lambda lib, x, v: lib.full((2,), v, dtype=x.dtype),
    "full-one": lambda lib, x, v: lib.full((1, 1), v, dtype=x.dtype),
    "full_like": lambda lib, x, v: lib.full_like(x, v),
    "masked_fill": lambda lib, x, v: x.masked_fill(x == 0, v),
    "where": lambda lib, x, v: lib.where(lib.tensor([True, False]), x, v),
    "where-first": lambda lib, x, v: lib.where(lib.tensor([True, False]), v, x),
    "add": lambda lib, x, v: lib.add(x, x + 1, alpha=v),
    "sub": lambda lib, x, v: lib.sub(x, x + 1, alpha=v),
    "sub_": lambda lib, x, v: x.sub_(x.clone(), alpha=v),
    "index_add": lambda lib, x, v: x.index_add(0, lib.tensor([0]), x[1:], alpha=v),
    "pow": lambda lib, x, v: (x + 1) ** v,
    "linspace": lambda lib, x, v: lib.linspace(0, v, 5, dtype=x.dtype),
    "linspace-one": lambda lib, x, v: lib.linspace(v, 2, 1, dtype=x.dtype),
}


def outcome(lib, name, dtype, number):
    x = lib.tensor([0, 1], dtype=getattr(lib, dtype))
    try:
        result = WRITES[name](lib, x, number)
    except (RuntimeError, NotImplementedError):
        assert x.tolist() == [0, 1]
        return "error"
    return str(result.dtype).split(".")[-1], str(result.tolist())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WRITES)
def test_number_that_may_not_fit(name, dtype):
    for number in NUMBERS:
        assert outcome(firesteel, name, dtype, number) == outcome(torch, name, dtype, number), number


def test_the_gradient_of_sub_has_its_factor():
    a, b = (firesteel.ones(2, requires_grad=True) for _ in range(2))
    firesteel.sub(a, b, alpha=3).sum().backward()
    assert a.grad.tolist() == [1, 1]
    assert b.grad.tolist() == [-3, -3]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32", "float64"])
def test_linspace_has_pytorchs_values(dtype):
    for start, end in [(0, 200), (164.3, 248.18), (14, 105.41701), (200, 0.7), (1.566, 65.04)]:
        for steps in (0, 1, 2, 7, 10, 100, 255, 256, 257, 1000):
            ours = firesteel.linspace(start, end, steps, dtype=getattr(firesteel, dtype))
            theirs = torch.linspace(start, end, steps, dtype=getattr(torch, dtype))
            assert ours.tolist() == theirs.tolist(), (start, end, steps)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("name", ["__lshift__", "__rshift__"])
def test_shifts_by_the_width_and_more(name, dtype):
    values = [0, 1, 3, 127, 128, 200, 255]
    if dtype != "uint8":
        values += [-1, -9, -(2**31), 2**31 - 1]
    for by in (0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 200):
        ours, theirs = (
            getattr(lib.tensor(values, dtype=getattr(lib, dtype)), name)(
                lib.tensor(by, dtype=getattr(lib, dtype))
            )
            for lib in (firesteel, torch)
        )
        assert ours.tolist() == theirs.tolist(), by


def test_truth_values_are_not_shifted():
    for shift, kernel in ((lambda x: x << x, "lshift_cpu"), (lambda x: x >> x, "rshift_cpu")):
        with pytest.raises(firesteel.DTypeError, match=f'"{kernel}" not implemented for .Bool.; convert'):
            shift(firesteel.tensor([True]))
        with pytest.raises(RuntimeError):
            shift(torch.tensor([True]))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32"])
def test_remainders_and_quotients(dtype):
    """Exact, whatever the signs and the size of the quotient."""
    values = [1, -1, 2, -3, 7, -7, 100, 12345, -12345, 2**31 - 1, 16777217]
    if dtype.startswith("float"):
        values += [0.1, -0.3, 1e5, 0.0, -0.0, float("inf"), float("-inf"), float("nan")]
    for name in ("remainder", "fmod", "floor_divide"):
        ours, theirs = (
            getattr(lib, name)(x[:, None], x[None, :])
            for lib in (firesteel, torch)
            for x in (lib.tensor(values, dtype=getattr(lib, dtype)),)
        )
        assert str(ours.tolist()) == str(theirs.tolist()), name


@pytest.mark.parametrize("op", ["sum", "prod", "cumsum"])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float64", "bool"])
def test_the_dtype_of_a_sum_is_that_of_its_result(op, dtype):
    if (op, dtype) == ("cumsum", "bool"):
        return  # PyTorch has none
    args = (0,) if op == "cumsum" else ()
    for values in ([200, 200], [2**31 - 1, 2], [1.5, 0.0]):
        actual, expected = (
            getattr(lib.tensor(values), op)(*args, dtype=getattr(lib, dtype)) for lib in (firesteel, torch)
        )
        if dtype == "uint8" and values[0] > 255:
            continue  # the values themselves do not fit
        assert_same(actual, expected, where=f"{values}", compare="exact")

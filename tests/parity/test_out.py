"""`out=`: every function that takes it in PyTorch takes it here, and writes what it would return."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

import firesteel
from libraries import both, parity
from op_cases import CASES
from op_cases.table import Case, S, draw
from tensors import assert_same, build, dtype_name, is_tensor, torch

# The functions of the module that PyTorch gives `out=`; with PyTorch installed the list is compared with it.
FUNCTIONS = """abs absolute add addcdiv addcmul addmm addmv all amax amin any arange argmax argmin baddbmm
    bitwise_and bitwise_not bitwise_or bitwise_xor bmm cat ceil clamp clamp_max clamp_min clip concat concatenate
    cos cumprod cumsum div divide dot empty eq erf exp expm1 eye floor floor_divide fmod full gather ge greater
    greater_equal gt index_add index_select le lerp less less_equal linspace log log10 log1p log2 log_softmax
    logical_and logical_not logical_or logical_xor logsumexp lt masked_select matmul max maximum mean min minimum
    mm mul multiply mv nansum ne neg negative nonzero norm not_equal ones outer pow prod reciprocal remainder
    round rsqrt scatter scatter_add sigmoid sign sin softmax sort sqrt square stack std sub subtract sum
    take_along_dim tan tanh tensordot topk tril triu true_divide trunc var where zeros""".split()
UNSET = {"empty"}  # its values are whatever the memory held


def samples(name: str) -> list[tuple[Case, S]]:
    """The table's calls of the module function `name`."""
    return [
        (case, sample)
        for case in CASES
        if name in case.spellings()
        for sample in case.samples
        if sample.forms is None or "f" in sample.forms
    ]


def arguments(lib: Any, case: Case, sample: S, requires_grad: bool = False) -> tuple[Any, Any]:
    """The same positional and keyword arguments for either library."""
    dtype = (sample.dtypes or case.dtypes)[0]
    args, kwargs = build(lib, draw(sample, dtype, "contiguous", case.name), requires_grad)
    return args, kwargs


def tensors(result: Any) -> list[Any]:
    """The tensors of a result; none if it is something else too."""
    found = [result] if is_tensor(result) else list(result) if isinstance(result, tuple) else []
    return found if all(map(is_tensor, found)) else []


def targets(lib: Any, result: Any) -> Any:
    """Tensors to be overwritten, of the shapes and dtypes of `result`."""
    made = [lib.zeros(tuple(t.shape), dtype=getattr(lib, dtype_name(t.dtype))) for t in tensors(result)]
    return made[0] if is_tensor(result) else tuple(made)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_result_is_written_and_returned(name: str) -> None:
    calls = 0
    for case, sample in samples(name):
        args, kwargs = arguments(firesteel, case, sample)
        function = getattr(firesteel, name)
        expected = function(*args, **kwargs)
        if not tensors(expected) or "as_tuple" in kwargs:
            continue
        if name == "where" and len(args) + len(kwargs) == 1:
            continue  # indices: as many tensors as dims
        out = targets(firesteel, expected)
        before = [t._version for t in tensors(out)]
        returned = function(*args, **kwargs, out=out)
        assert all(a is b for a, b in zip(tensors(returned), tensors(out), strict=True))
        assert type(returned) is type(expected)
        if name not in UNSET:
            assert_same(out, tuple(expected) if isinstance(expected, tuple) else expected, where=sample.label)
        assert [t._version for t in tensors(out)] > before
        calls += 1
    assert calls


@parity
@pytest.mark.filterwarnings("ignore")
def test_pytorch_writes_the_same_and_no_more_functions_take_out() -> None:
    taking = set()
    for name in {name for case in CASES for name in case.spellings() if "." not in name}:
        if not hasattr(torch, name) or not hasattr(firesteel, name):
            continue
        for case, sample in samples(name):
            args, kwargs = arguments(torch, case, sample)
            try:
                result = getattr(torch, name)(*args, **kwargs)
                if not tensors(result):
                    continue
                theirs = targets(torch, result)
                getattr(torch, name)(*args, **kwargs, out=theirs)
            except (TypeError, RuntimeError):
                continue  # PyTorch has no `out=` for this form of the call
            taking.add(name)
            args, kwargs = arguments(firesteel, case, sample)
            ours = targets(firesteel, result)
            getattr(firesteel, name)(*args, **kwargs, out=ours)
            if name not in UNSET:
                assert_same(ours, theirs, tol=10, where=f"{name} {sample.label}")
    assert taking == set(FUNCTIONS)


@both
@pytest.mark.parametrize(
    "name, results",
    [("std_mean", 2), ("var_mean", 2), *((f"{kind}_like", 1) for kind in ("zeros", "ones", "empty", "rand"))],
)
def test_some_take_no_out(lib: Any, name: str, results: int) -> None:
    """Neither those whose results are a pair, nor those that look like a tensor."""
    out = tuple(lib.empty(3) for _ in range(results))
    with pytest.raises(TypeError, match="out"):
        getattr(lib, name)(lib.ones(3), out=out if results > 1 else out[0])


@both
def test_shapes_dtypes_and_versions(lib: Any) -> None:
    x = lib.tensor([1.0, 4.0, 9.0])
    out = lib.empty(0)
    assert lib.sqrt(x, out=out) is out and out.tolist() == [1, 2, 3] and out.shape == (3,)
    small = lib.zeros(2)
    with pytest.warns(UserWarning, match=r"resized since it had shape \[2\].*required output shape \[3\]"):
        lib.sqrt(x, out=small)
    assert small.tolist() == [1, 2, 3]
    # Into a view: the base sees it, strided memory as well.
    base = lib.zeros(3, 2)
    lib.sqrt(x, out=base[:, 1])
    assert base.tolist() == [[0, 1], [0, 2], [0, 3]] and base._version == 1
    # Converted, if no kind of number is lost.
    wide, count = lib.zeros(3, dtype=lib.float64), lib.zeros(3)
    lib.sqrt(x, out=wide)
    lib.add(lib.tensor([1, 2, 3]), 1, out=count)
    assert wide.tolist() == [1, 2, 3] and count.tolist() == [2, 3, 4]
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        lib.sqrt(x, out=lib.zeros(3, dtype=lib.int64))
    # One of the inputs.
    assert lib.mul(x, x, out=x) is x and x.tolist() == [1, 16, 81]
    assert lib.exp(x, out=None) is not None
    square = lib.tensor([[1.0, 2.0], [3.0, 4.0]])
    values, indices = lib.zeros(2), lib.zeros(2, dtype=lib.int64)
    named = lib.max(square, 1, out=(values, indices))
    assert named.values is values and named.indices is indices and values.tolist() == [2, 4]


@both
def test_history_is_refused_and_no_grad_is_the_way_out(lib: Any) -> None:
    x, plain = lib.tensor([1.0, 4.0], requires_grad=True), lib.tensor([1.0, 4.0])
    refusals = [
        lambda: lib.sqrt(x, out=lib.zeros(2)),
        lambda: lib.add(plain, x, out=lib.zeros(2)),
        lambda: lib.sqrt(plain, out=x),
        lambda: lib.cat([plain, x], out=lib.zeros(4)),
        lambda: lib.stack([x, x], out=lib.zeros(2, 2)),
        lambda: lib.pow(x, 2, out=lib.zeros(2)),
    ]
    for refused in refusals:
        with pytest.raises(
            RuntimeError,
            match=r"\(\): functions with out=... arguments don't support automatic differentiation, but one of "
            "the arguments requires grad",
        ):
            refused()
    assert x.tolist() == [1, 4] and x._version == 0
    out = lib.zeros(2)
    with lib.no_grad():
        lib.sqrt(x, out=out)
        lib.sqrt(plain, out=x)
    assert out.tolist() == [1, 2] == x.tolist() and x.is_leaf and not out.requires_grad
    found = lib.zeros(2, dtype=lib.bool)
    assert lib.gt(x, 1.5, out=found).tolist() == [False, True]  # truth values have no history


def test_nothing_is_written_when_a_check_fails() -> None:
    x = firesteel.tensor([[3.0, 1.0]])
    values, wrong = firesteel.zeros(1, 2), firesteel.zeros(1, 2, dtype=firesteel.bool)
    with pytest.raises(
        RuntimeError, match=r"sort: result type Long can't be cast .* give out= of dtype int64"
    ):
        firesteel.sort(x, out=(values, wrong))
    small = firesteel.zeros(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="sort: An output with one or more elements was resized"):
            firesteel.sort(x, out=(values, small.long()))
    with pytest.raises(TypeError, match=r"sort\(\): argument 'out' must be a tuple of 2 Tensors, not Tensor"):
        firesteel.sort(x, out=values)
    with pytest.raises(
        TypeError, match=r"sort\(\): argument 'out' must be a tuple of 2 Tensors, not 1 of them"
    ):
        firesteel.sort(x, out=(values,))
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        firesteel.sort(x, out=(values, firesteel.zeros(1, 1, dtype=firesteel.int64).expand(1, 2)))
    assert values.tolist() == [[0, 0]] and values._version == 0
    with pytest.raises(TypeError, match=r"relu\(\) got an unexpected keyword argument 'out'; .*out\.copy_"):
        firesteel.relu(x, out=values)
    with pytest.raises(TypeError, match=r"exp\(\): argument 'out' must be Tensor, not int; "):
        firesteel.exp(x, out=3)


def test_what_was_saved_notices_the_write() -> None:
    x = firesteel.ones(2, requires_grad=True)
    other = firesteel.tensor([2.0, 3.0])
    y = (x * other).sum()
    firesteel.exp(firesteel.ones(2), out=other)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_functions_written_in_python() -> None:
    x, out = firesteel.tensor([[3.0, 4.0]]), firesteel.empty(0)
    assert firesteel.nn.functional.normalize(x, out=out) is out
    assert_same(out, firesteel.tensor([[0.6, 0.8]]))
    assert firesteel.round(
        firesteel.tensor([1.26]), decimals=1, out=firesteel.zeros(1)
    ).item() == pytest.approx(1.3)


RANDOM: dict[str, tuple[Any, str]] = {
    "rand": (lambda lib, **out: lib.rand(3, 4, **out), "float32"),
    "rand of doubles": (lambda lib, **out: lib.rand((3, 4), **out), "float64"),
    "randn": (lambda lib, **out: lib.randn(size=(3, 4), **out), "float32"),
    "randint": (lambda lib, **out: lib.randint(2, 9, (3, 4), **out), "int64"),
    "randint of floats": (lambda lib, **out: lib.randint(9, (3, 4), **out), "float32"),
    "randperm": (lambda lib, **out: lib.randperm(12, **out), "int64"),
    "bernoulli": (lambda lib, **out: lib.bernoulli(lib.full((3, 4), 0.5), **out), "float32"),
    "bernoulli of integers": (lambda lib, **out: lib.bernoulli(lib.full((3, 4), 0.5), **out), "int64"),
    "normal of numbers": (lambda lib, **out: lib.normal(1.0, 2.0, (3, 4), **out), "float64"),
    "normal of tensors": (lambda lib, **out: lib.normal(lib.ones(3, 4), lib.ones(3, 4), **out), "float32"),
    "normal of means": (lambda lib, **out: lib.normal(lib.ones(3, 4), 2.0, **out), "float32"),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers(name: str) -> None:
    draw_numbers, dtype = RANDOM[name]
    results = []
    for lib in filter(None, (firesteel, torch)):
        out = lib.zeros(12 if name == "randperm" else (3, 4), dtype=getattr(lib, dtype))
        lib.manual_seed(3)
        assert draw_numbers(lib, out=out) is out
        results.append(out)
        lib.manual_seed(3)
        again = draw_numbers(lib, out=lib.zeros(out.shape, dtype=out.dtype))
        assert_same(again, out, where=lib.__name__)
    assert_same(results[0], results[-1], tol=10, where=name)


@both
def test_new_values_have_the_dtype_of_out(lib: Any) -> None:
    out = lib.zeros(3)
    for make in (lib.rand, lib.randn, lib.zeros, lib.ones, lib.empty, lib.arange, lib.randperm):
        with pytest.raises(RuntimeError, match="does not match dtype of out parameter"):
            make(3, out=out, dtype=lib.float64)
        assert out.tolist() == [0.0, 0.0, 0.0]
    asks = lib.ones(3, requires_grad=True)
    for draw_numbers in (
        lambda: lib.rand(3, out=asks),
        lambda: lib.bernoulli(asks, out=out),
        lambda: lib.normal(asks, 1.0, out=out),
    ):
        with pytest.raises(
            RuntimeError, match=r"out=\.\.\. arguments don't support automatic differentiation"
        ):
            draw_numbers()

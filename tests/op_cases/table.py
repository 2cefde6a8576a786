"""What a row of the table of operations is made of, and how its inputs are drawn.

A row never names a library: its call is given the module under test or the reference, so that one row
describes both sides of a comparison.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

FLOATS = ("float32", "float64", "bfloat16", "float16")
INTS = ("int64", "int32", "uint8")
BOOL = ("bool",)
NUMBERS = FLOATS + INTS
ALL = NUMBERS + BOOL
WIDE = ("float32", "float64")

LAYOUTS = ("contiguous", "transposed", "strided", "broadcast", "offset", "mixed")
# Each sample once more on tensors with no elements, and on tensors of one.
SHRUNK = ("empty-first", "empty-last", "0-d")
KINDS = LAYOUTS + SHRUNK
LARGE = "large"


@dataclass(frozen=True)
class T:
    """A tensor to be drawn: uniform in [low, high), whole numbers if the dtype is an integer.

    `dtype=None` follows the sweep; `away` lists kinks to keep 0.1 away from ("integers": all of them);
    `distinct` gives all elements different values, so that the largest one is unique.
    """

    shape: tuple[int, ...] = (3, 4)
    low: float = -2.0
    high: float = 2.0
    dtype: str | None = None
    grad: bool = True
    distinct: bool = False
    away: tuple[float, ...] | str = ()
    values: Any = None


@dataclass(frozen=True)
class D:
    """A dtype argument, by name; each library gets its own object."""

    name: str


@dataclass(frozen=True)
class Drawn:
    """A tensor's values with the dtype and memory layout it shall have."""

    array: np.ndarray
    dtype: str
    layout: str
    grad: bool


class S:
    """A sample call: arguments, with `T` and `D` where tensors and dtypes stand (lists may hold them).

    `forms` limits the spellings it is valid for (first letters as in `Case.forms`). `grad=False` keeps it out
    of the gradient tests, `grad="formula"` of the numeric ones (ties, kinks: compared with PyTorch alone).
    `dtypes` replaces the row's. `reference=False`: the row's NumPy function does not take these arguments.
    """

    def __init__(self, *args, label="", forms=None, grad=True, dtypes=None, reference=True, **kwargs):
        self.args, self.kwargs = args, kwargs
        self.label, self.forms, self.grad, self.dtypes = label, forms, grad, dtypes
        self.reference = reference

    def with_args(self, args, kwargs, grad) -> S:
        """The same sample with other arguments."""
        copy = S(*args, forms=self.forms, grad=grad, dtypes=self.dtypes, **kwargs)
        copy.label, copy.reference = self.label, self.reference
        return copy


class E:
    """A call that must fail: `raises` is PyTorch's class, `says` are patterns our message must contain."""

    def __init__(self, *args, raises=RuntimeError, says=(), label="", form=None, dtype="float32", **kwargs):
        assert not isinstance(raises, tuple), "PyTorch raises one class"
        self.args, self.kwargs, self.raises = args, kwargs, raises
        self.says = (says,) if isinstance(says, str) else tuple(says)
        self.label, self.form, self.dtype = label, form, dtype


@dataclass
class Case:
    """One operation.

    `forms` says where it is public: f = module function, m = Tensor method, n = nn.functional; the first is
    the one that the full sweep uses. `call(lib, *args, **kwargs)` replaces them for operations that are
    spelled otherwise (operators, indexing). `also` are further spellings: ("clip", "Tensor.clip", "F.relu").
    `tol` multiplies the tolerances of float32 and float64 (sums of many terms), `tol16` those of the 16-bit
    dtypes: it is 1 unless a formula rounds between its steps there. `grad` and `twice`: first and second
    derivatives are checked; `grad="formula"` as in `S`.
    """

    name: str
    forms: str
    samples: list[S]
    dtypes: tuple[str, ...] = FLOATS
    call: Callable | None = None
    also: tuple[str, ...] = ()
    operators: dict[str, Callable] = field(default_factory=dict)
    grad: bool | str = False
    twice: bool | None = None
    inplace: str | None = None
    errors: list[E] = field(default_factory=list)
    tol: float = 1.0
    tol16: float = 1.0
    compare: str = "close"
    layouts: tuple[str, ...] = LAYOUTS
    elementwise: bool = False
    np: Callable | None = None
    title: str = ""
    covers: tuple[str, ...] = ()

    def __post_init__(self):
        if self.twice is None:
            self.twice = self.grad is True
        for index, sample in enumerate(self.samples):
            sample.label = sample.label or ("" if index == 0 else f"s{index}")
        if self.elementwise:
            # More elements than a vector register, a chunk and a thread take.
            self.samples = self.samples + [_of_shape(self.samples[0], (37, 131), LARGE)]

    @property
    def id(self) -> str:
        """Name in test ids: unique, though an operation may have several rows."""
        return self.title or self.name

    def spellings(self) -> list[str]:
        """Every public name of this operation, qualified: "exp", "Tensor.exp", "F.relu"."""
        prefixes = {"f": "", "m": "Tensor.", "n": "F."}
        return [prefixes[form] + self.name for form in self.forms] + list(self.also)

    def names(self) -> set[str]:
        """Every public name that the tests of this row run."""
        twin = {f"Tensor.{self.inplace}"} if self.inplace else set()
        return set(self.spellings()) | twin | set(self.covers)

    def run(self, lib, args, kwargs, spelling: str | None = None):
        """The result of this operation, as `lib` spells it."""
        if spelling is None and self.call is not None:
            return self.call(lib, *args, **kwargs)
        spelling = spelling or self.spellings()[0]
        if spelling in self.operators:
            return self.operators[spelling](*args, **kwargs)
        if spelling.startswith("Tensor."):
            return getattr(args[0], spelling[7:])(*args[1:], **kwargs)
        if spelling.startswith("F."):
            return getattr(lib.nn.functional, spelling[2:])(*args, **kwargs)
        return getattr(lib, spelling)(*args, **kwargs)

    def tolerance(self, dtype: str) -> float:
        """What multiplies the tolerances of `dtype`."""
        return self.tol16 if dtype in ("float16", "bfloat16") else self.tol

    def calls(self, kind: str, dtypes: tuple[str, ...] | None = None) -> Iterator[tuple[S, str, str]]:
        """(sample, dtype, layout) of every call of this row in one of `KINDS`, of the `dtypes` given."""
        for sample in self.samples:
            if kind in SHRUNK:
                sample, layout = _shrunk(sample, kind), "contiguous"
            else:
                layout = kind
            if sample is None or layout not in self.layouts or not layout_applies(sample, layout):
                continue
            if sample.label == LARGE and self.elementwise and kind not in ("contiguous", "strided"):
                continue
            for dtype in sample.dtypes or self.dtypes:
                if (dtypes is None or dtype in dtypes) and _representable(sample, dtype):
                    yield sample, dtype, layout


def _of_shape(sample: S, shape: tuple[int, ...], label: str) -> S:
    args = tuple(replace(arg, shape=shape) if isinstance(arg, T) else arg for arg in sample.args)
    copy = sample.with_args(args, sample.kwargs, grad=False)
    copy.label = label
    return copy


def _shrunk(sample: S, kind: str) -> S | None:
    """The sample with its tensors' first or last dim of size 0, or 0-d ones; None if that is no change."""
    changed = False

    def one(leaf):
        nonlocal changed
        if not isinstance(leaf, T):
            return leaf
        shape = leaf.shape if leaf.values is None else np.shape(leaf.values)
        if not shape:
            return leaf
        changed = True
        if kind == "0-d":
            values = None if leaf.values is None else np.ravel(leaf.values)[0] if math.prod(shape) else 0
            return replace(leaf, shape=(), values=values)
        shape = (0, *shape[1:]) if kind == "empty-first" else (*shape[:-1], 0)
        return replace(leaf, shape=shape, values=None if leaf.values is None else np.zeros(shape))

    args, kwargs = walk((sample.args, sample.kwargs), one)
    return sample.with_args(args, kwargs, sample.grad) if changed else None


def _representable(sample: S, dtype: str) -> bool:
    """Whether the sample's given values fit `dtype`: no NaN in integers, no sign in uint8."""
    if dtype in FLOATS or dtype == "bool":
        return True
    given = [
        np.asarray(spec.values)
        for spec in tensors_in(sample)
        if spec.values is not None and spec.dtype is None
    ]
    return all(np.isfinite(values).all() and (dtype != "uint8" or not (values < 0).any()) for values in given)


def tensors_in(sample: S) -> list[T]:
    """The tensors among a sample's arguments, in order."""
    found: list[T] = []
    walk((sample.args, sample.kwargs), lambda leaf: found.append(leaf) if isinstance(leaf, T) else None)
    return found


def layout_applies(sample: S, layout: str) -> bool:
    """Whether `layout` makes a difference to the sample's tensors, and leaves its meaning as it is."""
    specs = tensors_in(sample)
    deep = any(len(spec.shape) >= 2 and spec.values is None for spec in specs)
    flat = any(len(spec.shape) >= 1 for spec in specs)
    if layout == "mixed":
        return deep and len(specs) > 1
    if layout == "broadcast":
        return flat and not any(spec.distinct for spec in specs)
    return {"transposed": deep, "strided": flat, "offset": bool(specs)}.get(layout, True)


def walk(tree, function):
    """`tree` with `function` applied to every leaf of its tuples, lists and dicts."""
    if isinstance(tree, dict):
        return {key: walk(value, function) for key, value in tree.items()}
    if type(tree).__module__ == "firesteel.return_types":
        return tuple(walk(value, function) for value in tree)
    if isinstance(tree, (tuple, list)) and not hasattr(tree, "_fields"):
        return type(tree)(walk(value, function) for value in tree)
    return function(tree)


def draw(sample: S | E, dtype: str, layout: str, name: str):
    """(args, kwargs) with `Drawn` in place of `T`: the same values each time it is asked for."""
    count = itertools.count()

    def one(leaf):
        if not isinstance(leaf, T):
            return leaf
        index = next(count)
        rng = np.random.default_rng(zlib.crc32(f"{name}/{sample.label}/{index}".encode()))
        own = layout if layout != "mixed" else ("transposed" if index == 0 else "contiguous")
        return _draw_one(leaf, leaf.dtype or dtype, own, rng)

    return walk((sample.args, sample.kwargs), one)


def _draw_one(spec: T, dtype: str, layout: str, rng: np.random.Generator) -> Drawn:
    array = np.asarray(_draw_values(spec, dtype, rng))
    if len(array.shape) < (2 if layout == "transposed" else 1) and layout != "offset":
        layout = "contiguous"
    if layout == "broadcast" and array.shape[0] and spec.values is None:
        array = np.ascontiguousarray(np.broadcast_to(array[:1], array.shape))
    elif layout == "broadcast":
        layout = "contiguous"
    return Drawn(array, dtype, layout, spec.grad and dtype in FLOATS)


def _draw_values(spec: T, dtype: str, rng: np.random.Generator):
    if spec.values is not None:
        return np.array(spec.values)
    numel = math.prod(spec.shape)
    if dtype == "bool":
        return rng.random(spec.shape) < 0.5
    if spec.distinct:
        order = rng.permutation(numel).reshape(spec.shape)
        if dtype in FLOATS:
            return spec.low + (spec.high - spec.low) * (order + 0.5) / max(numel, 1)
        return order if dtype == "uint8" else order - numel // 2
    if dtype in FLOATS:
        if spec.away == "integers":
            whole = rng.integers(math.ceil(spec.low), math.floor(spec.high), spec.shape)
            return whole + 0.2 + 0.25 * rng.random(spec.shape)
        return _keep_away(lambda: rng.uniform(spec.low, spec.high, spec.shape), spec.away)
    low = max(0, math.ceil(spec.low)) if dtype == "uint8" else math.ceil(spec.low)
    kinks = () if spec.away == "integers" else spec.away
    return _keep_away(lambda: rng.integers(low, max(low, math.floor(spec.high)) + 1, spec.shape), kinks)


def _keep_away(sample: Callable[[], np.ndarray], kinks) -> np.ndarray:
    array = np.asarray(sample())
    while kinks:
        near = np.zeros(array.shape, bool)
        for kink in kinks:
            near |= np.abs(array - kink) < 0.1
        if not near.any():
            break
        array = np.where(near, sample(), array)
    return array

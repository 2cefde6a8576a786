"""Whether both libraries compute the same: a wrong result must not win a race."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np

# How far two results may lie apart, as a part of the largest number in them.
TOLERANCES = {"float64": 1e-9, "float32": 2e-4, "float16": 1e-2, "bfloat16": 3e-2}
LOSS_TOLERANCE = 1e-3
STEPS = 3


def made(make: Callable, library: ModuleType) -> Callable:
    """The call in this library, which draws the same random numbers in either."""
    library.manual_seed(0)
    return make(library)


def missing_name(make: Callable, ours: ModuleType, theirs: ModuleType | None = None) -> str | None:
    """The name that a first call did not find in our library; None where it found all.

    Raises:
        AttributeError: where theirs does not have it either.
    """
    try:
        made(make, ours)()
    except AttributeError as error:
        if theirs is not None:
            made(make, theirs)()
        owner = getattr(error.obj, "__name__", type(error.obj).__name__)
        return f"{owner}.{error.name}".removeprefix(f"{ours.__name__}.")
    return None


def results_agree(ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    """Calls both once; the tensors that they return, alone or in tuples and lists, must be the same.

    Raises:
        AssertionError: with both results, where they differ in number, dtype, shape or values.
    """
    pair = list(_arrays(ours())), list(_arrays(theirs()))
    assert len(pair[0]) == len(pair[1]), f"{len(pair[0])} tensors, PyTorch returns {len(pair[1])}"
    for (our_dtype, us), (dtype, them) in zip(*pair, strict=True):
        assert (our_dtype, us.shape) == (dtype, them.shape), f"{our_dtype} {us.shape}; {dtype} {them.shape}"
        rtol = TOLERANCES.get(dtype, 0.0)
        finite = them[np.isfinite(them)] if rtol else them
        atol = rtol * float(np.abs(finite).max()) if rtol and finite.size else 0.0
        same = np.isclose(us, them, rtol=rtol, atol=atol, equal_nan=bool(rtol))
        assert same.all(), (
            f"{(~same).sum()} of {same.size} differ: {us[~same][:5]}, PyTorch: {them[~same][:5]}"
        )


def _arrays(result: object) -> Iterator[tuple[str, np.ndarray]]:
    """Dtype and values of every tensor in a result; bfloat16 comes as float32."""
    if isinstance(result, list | tuple):
        for item in result:
            yield from _arrays(item)
    elif hasattr(result, "detach"):
        tensor = result.detach()
        dtype = str(tensor.dtype).rpartition(".")[2]
        tensor = tensor.float() if dtype == "bfloat16" else tensor
        yield dtype, tensor.contiguous().numpy()


def losses_agree(ours, theirs) -> None:
    """Gives both models the same weights and trains them for some steps: the losses must be the same.

    Raises:
        AssertionError: with the losses of both.
    """
    weights = {name: tensor.detach().numpy() for name, tensor in ours.model.state_dict().items()}
    tensor = theirs.from_numpy
    theirs.model.load_state_dict({name: tensor(array.copy()) for name, array in weights.items()})
    losses = [[step().item() for _ in range(STEPS)] for step in (ours, theirs)]
    assert np.allclose(*losses, rtol=LOSS_TOLERANCE, atol=0), f"losses {losses[0]}, PyTorch: {losses[1]}"

"""Optimizers and modules: what they may be given."""

from __future__ import annotations

from libraries import leaf
from misuse_cases.row import Misuse

MODULES = [
    Misuse(
        "a result given to an optimizer",
        ValueError,
        (
            r"can't optimize a non-leaf Tensor: parameter 0 \(shape \(3,\)\) was "
            r"made by MulBackward0; pass the leaf"
        ),
        "optimizer",
        lambda lib: [x := leaf(lib), y := x * 2, lambda: lib.optim.SGD([y], lr=0.1)],
    ),
    Misuse(
        "a number given to an optimizer",
        TypeError,
        r"optimizer can only optimize Tensors, but one of the params is float; make it an nn\.Parameter",
        "optimizer",
        lambda lib: [lambda: lib.optim.SGD([1.0], lr=0.1)],
    ),
    Misuse(
        "a tensor given to an optimizer",
        TypeError,
        r"params argument .* iterable of Tensors or dicts, but got .*; put it in a list",
        "optimizer",
        lambda lib: [x := leaf(lib), lambda: lib.optim.SGD(x, lr=0.1)],
    ),
    Misuse(
        "no parameters for an optimizer",
        ValueError,
        (
            r"optimizer got an empty parameter list; call model\.parameters\(\) again: a generator gives its "
            r"tensors only once"
        ),
        "optimizer",
        lambda lib: [lambda: lib.optim.SGD([], lr=0.1)],
    ),
    Misuse(
        "a parameter in two groups",
        ValueError,
        r"some parameters appear in more than one parameter group; leave them in one",
        "optimizer",
        lambda lib: [x := leaf(lib), lambda: lib.optim.SGD([{"params": [x]}, {"params": [x]}], lr=0.1)],
    ),
    Misuse(
        "a tensor in place of a parameter",
        TypeError,
        (
            r"cannot assign 'firesteel\.Tensor' as parameter 'weight' \(firesteel\.nn\.Parameter or None "
            r"expected\); wrap it in one"
        ),
        "module",
        lambda lib: [m := lib.nn.Linear(2, 2), m.weight, lambda: setattr(m, "weight", lib.ones(2, 2))],
    ),
    Misuse(
        "a result registered as a parameter",
        TypeError,
        (
            r"cannot assign 'firesteel\.Tensor' object to parameter 'twice' \(firesteel\.nn\.Parameter or "
            r"None required\); use register_buffer"
        ),
        "module",
        lambda lib: [m := lib.nn.Linear(2, 2), lambda: m.register_parameter("twice", m.weight * 2)],
    ),
    Misuse(
        "a loss of integers",
        NotImplementedError,
        r"mse_loss: .* not implemented for 'Long'; convert with \.float\(\)",
        "module",
        lambda lib: [x := lib.tensor([1, 2]), lambda: lib.nn.functional.mse_loss(x, x).backward()],
    ),
    Misuse(
        "a parameter before __init__ of Module",
        AttributeError,
        (
            r"cannot assign parameters before Module\.__init__\(\) call; begin __init__ with "
            r"super\(\)\.__init__\(\)"
        ),
        "module",
        lambda lib: [
            m := object.__new__(type("Mine", (lib.nn.Module,), {})),
            lambda: setattr(m, "w", lib.nn.Parameter(lib.ones(1))),
        ],
    ),
    Misuse(
        "a list of parameters in a Module's place",
        TypeError,
        r"int is not a Module subclass; give an instance of one",
        "module",
        lambda lib: [m := lib.nn.Module(), lambda: m.register_module("part", 3)],
    ),
    Misuse(
        "a negative learning rate",
        ValueError,
        r"Invalid learning rate: -1\.0; it must be 0 or more",
        "optimizer",
        lambda lib: [x := leaf(lib), lambda: lib.optim.SGD([x], lr=-1.0)],
    ),
    Misuse(
        "Nesterov without momentum",
        ValueError,
        (
            r"Nesterov momentum requires a momentum and zero dampening, not momentum=0 and "
            r"dampening=0; pass momentum=0\.9$"
        ),
        "optimizer",
        lambda lib: [x := leaf(lib), lambda: lib.optim.SGD([x], lr=0.1, nesterov=True)],
    ),
    Misuse(
        "Nesterov with dampening",
        ValueError,
        r"zero dampening, not momentum=0\.9 and dampening=0\.5; pass dampening=0$",
        "optimizer",
        lambda lib: [
            x := leaf(lib),
            lambda: lib.optim.SGD([x], lr=0.1, momentum=0.9, dampening=0.5, nesterov=True),
        ],
    ),
    Misuse(
        "parameters without the call",
        TypeError,
        (
            r"params argument given to the optimizer should be an iterable of Tensors or dicts, "
            r"but got method; pass model\.parameters\(\)"
        ),
        "optimizer",
        lambda lib: [m := lib.nn.Linear(2, 2), lambda: lib.optim.SGD(m.parameters, lr=0.1)],
    ),
    Misuse(
        "state of another optimizer",
        ValueError,
        (
            r"loaded state dict contains a parameter group that doesn't match the size of "
            r"optimizer's group; make the optimizer with the parameters of the same model"
        ),
        "optimizer",
        lambda lib: [
            x := leaf(lib),
            o := lib.optim.SGD([x, leaf(lib)], lr=0.1).state_dict(),
            lambda: lib.optim.SGD([x], lr=0.1).load_state_dict(o),
        ],
    ),
    Misuse(
        "an unknown reduction of a loss",
        ValueError,
        r"mse_loss: all is not a valid value for reduction; use 'none', 'mean' or 'sum'",
        "module",
        lambda lib: [x := leaf(lib), lambda: lib.nn.functional.mse_loss(x, lib.ones(3), reduction="all")],
    ),
]

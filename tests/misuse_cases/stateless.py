"""`functional_call` and ensembles."""

from __future__ import annotations

from misuse_cases.row import Misuse

STATELESS = [
    Misuse(
        "functional_call with an unknown name",
        AttributeError,
        (
            r"functional_call: 'nope\.weight' leads through 'nope', but 'Linear' object has no "
            r"attribute 'nope'; use the names of named_parameters\(\) and named_buffers\(\)"
        ),
        "module",
        lambda lib: [
            m := lib.nn.Linear(2, 2),
            lambda: lib.func.functional_call(m, {"nope.weight": lib.ones(2)}, (lib.ones(2),)),
        ],
    ),
    Misuse(
        "functional_call with a number",
        TypeError,
        (
            r"functional_call: 'weight' must be a Tensor or None, not int; make it one with "
            r"torch\.tensor\(\.\.\)"
        ),
        "module",
        lambda lib: [
            m := lib.nn.Linear(2, 2),
            lambda: lib.func.functional_call(m, {"weight": 3}, (lib.ones(2),)),
        ],
    ),
    Misuse(
        "functional_call with a list of tensors",
        ValueError,
        (
            r"Expected all elements of parameter_and_buffer_dicts to be dictionaries, not "
            r"\['Parameter'\]; map names to tensors, as dict\(module\.named_parameters\(\)\) does"
        ),
        "module",
        lambda lib: [
            m := lib.nn.Linear(2, 2),
            lambda: lib.func.functional_call(m, [m.weight], (lib.ones(2),)),
        ],
    ),
    Misuse(
        "functional_call without names",
        ValueError,
        (
            r"Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got "
            r"<class 'int'>; map names to tensors, as dict\(module\.named_parameters\(\)\) does"
        ),
        "module",
        lambda lib: [m := lib.nn.Linear(2, 2), lambda: lib.func.functional_call(m, 3, (lib.ones(2),))],
    ),
    Misuse(
        "functional_call with a name twice",
        ValueError,
        (
            r"\['weight'\] appeared in multiple dictionaries; behavior of functional call is "
            r"ambiguous; give each name once"
        ),
        "module",
        lambda lib: [
            m := lib.nn.Linear(2, 2),
            lambda: lib.func.functional_call(m, [{"weight": m.weight}] * 2, (lib.ones(2),)),
        ],
    ),
    Misuse(
        "functional_call with a name inside of a parameter",
        TypeError,
        (
            r"functional_call: 'weight\.x' leads through 'weight', which is not a module; use the "
            r"names of named_parameters\(\) and named_buffers\(\)"
        ),
        "module",
        lambda lib: [
            m := lib.nn.Linear(2, 2),
            lambda: lib.func.functional_call(m, {"weight.x": m.weight}, (lib.ones(2),)),
        ],
    ),
    Misuse(
        "an ensemble of no models",
        RuntimeError,
        r"stack_module_state: Expected at least one model, got 0; pass a list of them",
        "module",
        lambda lib: [lambda: lib.func.stack_module_state([])],
    ),
    Misuse(
        "an ensemble of two classes",
        RuntimeError,
        (
            r"stack_module_state: Expected all models to be of the same class, not \['Linear', "
            r"'ReLU'\]; stack those of each class by themselves"
        ),
        "module",
        lambda lib: [lambda: lib.func.stack_module_state([lib.nn.Linear(2, 2), lib.nn.ReLU()])],
    ),
    Misuse(
        "an ensemble in two modes",
        RuntimeError,
        (
            r"stack_module_state: Expected all models to have the same training/eval mode; call "
            r"\.train\(\) or \.eval\(\) on all"
        ),
        "module",
        lambda lib: [lambda: lib.func.stack_module_state([lib.nn.Linear(2, 2), lib.nn.Linear(2, 2).eval()])],
    ),
    Misuse(
        "an ensemble, one of it frozen",
        RuntimeError,
        (
            r"Expected weight from each model to have the same \.requires_grad; call "
            r"requires_grad_\(\) on those of all models"
        ),
        "module",
        lambda lib: [
            lambda: lib.func.stack_module_state(
                [lib.nn.Linear(2, 2), lib.nn.Linear(2, 2).requires_grad_(False)]
            )
        ],
    ),
]

"""The backward pass in words: its formulas are those of the operations, its numbers those of the engine."""

import contextlib
import math
import re

import pytest

import firesteel
from firesteel import nn
from firesteel.graph import explain
from firesteel.graph.formulas import FORMULAS, formula_of
from firesteel.graph.model import operation_of, reachable
from firesteel.graph.values import value_text
from firesteel.utils.checkpoint import checkpoint
from op_cases import CASES
from op_cases.table import draw as draw_inputs
from tensors import build, is_float, leaves


def model_and_loss():
    firesteel.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    x = firesteel.randn(2, 3)
    return model, (model(x) ** 2).mean()


# --- formulas ---------------------------------------------------------------------------------------------


def recorded_nodes():
    """(name, operation) of every node that the table of operations records, in two derivatives."""
    found = set()

    def note(tensors):
        roots = [tensor.grad_fn for tensor in tensors if tensor is not None and tensor.grad_fn is not None]
        found.update((node.name(), operation_of(node)) for node in reachable(roots).values())

    def results(case, sample, inplace):
        args, kwargs = build(firesteel, draw_inputs(sample, "float64", "contiguous", case.name), True)
        if inplace:
            result = getattr(args[0] * 1, case.inplace)(*args[1:], **kwargs)
        else:
            result = case.run(firesteel, args, kwargs)
        outputs = [out for out in leaves([result]) if is_float(out) and out.requires_grad]
        note(outputs)
        inputs = [tensor for tensor in leaves((args, kwargs)) if tensor.requires_grad]
        if outputs and case.twice:
            ones = [firesteel.ones_like(out.detach()).requires_grad_() for out in outputs]
            note(firesteel.autograd.grad(outputs, inputs, ones, create_graph=True, allow_unused=True))

    for case in CASES:
        for sample in case.samples:
            if case.grad and sample.grad and sample.label != "large":
                results(case, sample, inplace=False)
                if case.inplace and (sample.forms is None or "m" in sample.forms):
                    with contextlib.suppress(RuntimeError):  # a result of another shape or dtype
                        results(case, sample, inplace=True)
    return found


def test_every_recorded_operation_has_a_formula():
    found = recorded_nodes()
    assert len(found) > 100
    missing = {
        name
        for name, operation in found
        if name not in FORMULAS
        and operation not in FORMULAS
        and not re.fullmatch(r"\w+?BackwardBackward\d*", name)  # told as the derivative of a rule
    }
    assert not missing
    assert {operation for _, operation in found} >= {"linear", "cross_entropy"}


def test_every_registered_operation_that_is_a_node_of_its_own_has_a_formula():
    known = {name.lower() for name in FORMULAS}
    # Differentiable operations that are made of others, or go by another name in the graph.
    others = {
        *("contiguous", "copy_", "zero_", "reshape", "narrow", "chunk", "getitem", "setitem", "index_add"),
        *("masked_select", "roll", "repeat", "norm", "celu", "selu", "relu6", "l1_loss", "fill_", "matmul"),
        *(
            "einsum",
            "conv1d",
            "conv2d",
            "conv3d",
            "max_pool2d",
            "dropout",
            "layer_norm",
            "rms_norm",
            "group_norm",
        ),
        *("batch_norm", "index_put_", "avg_pool2d", "pad", "scaled_dot_product_attention"),
        *("rnn_tanh_cell", "rnn_relu_cell", "lstm_cell", "gru_cell"),
    }
    missing = [
        name
        for name, differentiable in firesteel._core._registered_ops()
        if differentiable
        and name not in known | others
        and not any(f"{name.replace('_', '')}backward{n}" in known for n in range(3))
    ]
    assert not missing


def evaluated(formula, **values):
    """The gradients that a formula of the table says, by input."""
    functions = {
        name: getattr(firesteel, name) for name in ("sin", "cos", "exp", "log", "sign", "tanh", "sigmoid")
    }
    functions |= {"sqrt": lambda value: value**0.5, "pi": firesteel.pi, "l10": 10.0**0.0}
    gradients = {}
    for part in re.split(r", (?=grad )", formula):
        name, _, text = part.removeprefix("grad ").partition(" = ")
        text = text.replace("^", "**").replace("ln(", "log(")
        text = re.sub(r"ln (\d+)", lambda match: f"log(number({match[1]}))", text)
        functions["number"] = lambda value: firesteel.tensor(float(value), dtype=firesteel.float64)
        gradients[name] = eval(text, functions, values)
    return gradients


ONE_INPUT = [
    *("abs", "cos", "erf", "exp", "expm1", "log10", "log1p", "log2", "log", "neg", "reciprocal", "rsqrt"),
    *("sigmoid", "sin", "sqrt", "square", "tan", "tanh"),
]
TWO_INPUTS = {
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "dot": lambda a, b: a.dot(b),
}


@pytest.mark.parametrize("name", ONE_INPUT)
def test_formulas_of_one_input_are_true(name):
    x = firesteel.tensor([0.3, 0.8, 1.7], dtype=firesteel.float64, requires_grad=True)
    y = getattr(firesteel, name)(x)
    g = firesteel.tensor([1.0, -2.0, 0.5], dtype=firesteel.float64)
    (expected,) = firesteel.autograd.grad(y, x, g, retain_graph=True)
    values = {"x": x.detach(), "y": y.detach(), "g": g}
    said = evaluated(formula_of(y.grad_fn.name())[1], **values)["x"]
    assert firesteel.allclose(said, expected, rtol=1e-12)


@pytest.mark.parametrize("name", TWO_INPUTS)
def test_formulas_of_two_inputs_are_true(name):
    a = firesteel.tensor([0.3, 0.8, 1.7], dtype=firesteel.float64, requires_grad=True)
    b = firesteel.tensor([1.3, -0.8, 0.4], dtype=firesteel.float64, requires_grad=True)
    y = TWO_INPUTS[name](a, b)
    g = firesteel.ones_like(y.detach()) * 0.7
    expected = dict(zip("ab", firesteel.autograd.grad(y, (a, b), g), strict=True))
    values = {"a": a.detach(), "b": b.detach(), "y": y.detach(), "g": g}
    said = evaluated(formula_of(y.grad_fn.name())[1], **values)
    assert said.keys() == expected.keys()
    assert all(firesteel.allclose(said[name], expected[name], rtol=1e-12) for name in said)


def test_other_nodes_are_told_by_their_names():
    assert formula_of("SiluBackwardBackward0")[0] == "y = the gradient rule of silu"
    assert formula_of("MyScaleBackward") == ("y = MyScale.forward(...)", "what MyScale.backward(...) returns")


# --- the pass ---------------------------------------------------------------------------------------------


def test_steps_follow_the_engine_and_end_at_the_parameters():
    model, loss = model_and_loss()
    explanation = explain(loss, model)
    assert [step.operation for step in explanation.steps] == ["mean", "pow", "linear", "tanh", "linear"]
    assert [step.number for step in explanation.steps] == [1, 2, 3, 4, 5]
    targets = [[arrival.target for arrival in step.outgoing] for step in explanation.steps]
    assert targets[:2] == [["to step 2 (pow):"], ["to step 3 (linear):"]]
    assert targets[2] == ["2.bias.grad +=", "to step 4 (tanh):", "2.weight.grad +="]
    assert targets[4] == ["0.bias.grad +=", "0.weight.grad +="]
    assert "linear: (4,), constant (2, 3), (4, 3) -> (2, 4)   [AddmmBackward0]" in str(explanation)
    assert repr(explanation) == str(explanation)


def test_numbers_are_those_of_backward():
    x = firesteel.tensor([1.0, 2.0], requires_grad=True)
    w = firesteel.tensor([3.0, -1.0], requires_grad=True)
    z = (x * w).exp().sum()
    explanation = explain(z, names={"x": x, "w": w})
    z.backward()
    assert explanation.results == [
        f"x.grad += [{x.grad[0].item():.4g}, {x.grad[1].item():.4g}]",
        f"w.grad += [{w.grad[0].item():.4g}, {w.grad[1].item():.4g}]",
    ]
    assert explanation.steps[1].incoming == ["g = [1.0, 1.0]"]


def test_contributions_of_a_leaf_that_is_used_twice_are_told_apart():
    x = firesteel.tensor([1.0, 2.0], requires_grad=True)
    explanation = explain((x * 2 + x.square()).sum(), names={"x": x})
    values = [
        arrival.value for step in explanation.steps for arrival in step.outgoing if "x.grad" in arrival.target
    ]
    assert sorted(values) == ["[2.0, 2.0]", "[2.0, 4.0]"]
    assert explanation.results == ["x.grad += [4.0, 6.0]"]


def test_a_large_gradient_is_abbreviated():
    x = firesteel.ones(100, 100, requires_grad=True)
    (result,) = explain(x.sum()).results
    assert result == "leaf1.grad += (100, 100), norm 100: [1.0, 1.0, 1.0, 1.0, ...]"


def test_outputs_without_a_gradient_are_told():
    x = firesteel.ones(4, requires_grad=True)
    first, _ = x.split(2)
    step = explain(first.sum(), names={"x": x}).steps[-1]
    assert step.incoming == ["g1 = [1.0, 1.0]", "g2 = nothing"]
    assert step.outgoing[0].value == "[1.0, 1.0, 0.0, 0.0]"


def test_several_results_start_with_ones():
    x = firesteel.ones(2, requires_grad=True)
    explanation = explain([x * 2, x.sum()], names={"x": x})
    assert (
        explanation.start[0] == "Result 1 (2,) float32 = [2.0, 2.0]; its own gradient is 1 for each element."
    )
    assert explanation.results == ["x.grad += [3.0, 3.0]"]


def test_long_passes_are_abbreviated():
    z = firesteel.ones(1, requires_grad=True)
    for _ in range(10):
        z = z.sin()
    explanation = explain(z, max_steps=3)
    assert len(explanation.steps) == 3
    assert explanation.steps[-1].outgoing[0].target == "to an older sin:"
    assert "... 7 older nodes not shown; max_steps= shows more" in str(explanation)


def test_numbers_of_an_operation_and_small_constants_are_told():
    x = firesteel.tensor([1.0, 2.0], requires_grad=True)
    text = str(explain(((x * 2.5) ** 3 * firesteel.ones(3, 2)).sum()))
    assert "mul: (2,), constant 2.5 -> (2,)   [MulBackward0]" in text
    assert "mul: (2,), constant (3, 2) -> (3, 2)   [MulBackward0]" in text
    assert "     y = x^n, n = 3\n" in text
    assert "mul: (2,), constant [3.0, 4.0] -> (2,)" in str(explain(x * firesteel.tensor([3.0, 4.0])))
    plain, scaled = str(explain(x + x.sin())), str(explain(firesteel.add(x, x.sin(), alpha=2)))
    assert "y = a + b\n     grad a = g, grad b = g\n" in plain
    assert "y = a + alpha * b, alpha = 2\n     grad a = g, grad b = alpha * g\n" in scaled


def test_a_hook_that_changes_a_gradient_is_told():
    x = firesteel.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    z = y.sin().sum() + y.sum()
    assert "hook" not in str(explain(z))
    y.register_hook(lambda grad: grad * 100)
    step = explain(z).steps[-1]
    before = firesteel.tensor([1 + math.cos(3), 1 + math.cos(6)])
    assert step.notes == [f"a hook changed g: it was {value_text(before)}"]
    assert step.incoming == [f"g = {value_text(before * 100)}"]
    assert step.notes[0] in str(step)


def test_other_hooks_are_told():
    x = firesteel.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    z = y.sum()
    z.register_hook(lambda grad: grad * 2)
    y.register_hook(lambda grad: None)
    y.retain_grad()
    y.grad_fn.register_prehook(lambda grads: None)
    y.grad_fn.register_hook(lambda grads, outputs: None)
    x.register_hook(lambda grad: grad * 5)
    last, first = explain(z, names={"x": x}).steps
    assert last.notes == ["a hook changed g: it was 1.0"]
    assert first.notes[0] == "a hook saw g"
    assert [note.partition(",")[0] for note in first.notes[1:]] == [
        "a hook of the node saw g first",
        "a hook of the node saw what it sends",
    ]
    assert explain(z, names={"x": x}).results == ["x.grad += [30.0, 30.0], as its hook left it"]
    z.backward()
    assert x.grad.tolist() == [30.0, 30.0]


def test_an_operation_of_very_many_inputs_is_told_in_few_lines():
    pieces = [firesteel.ones((), requires_grad=True) for _ in range(3000)]
    explanation = explain(firesteel.stack(pieces).sum(), max_steps=5)
    step = explanation.steps[-1]
    assert step.shapes == f"{', '.join(['()'] * 6)}, ... 2,994 more -> (3000,)"
    assert len(step.outgoing) == 6 and step.left_out == 2994
    assert "   -> ... 2,994 more" in str(step)
    assert len(explanation.results) == 10
    assert "... and so for 2,990 more leaves; max_steps= shows more" in str(explanation)
    assert len(str(explanation)) < 2000
    (split,) = explain(list(firesteel.ones(40, requires_grad=True).unbind())).steps
    assert split.shapes == f"(40,) -> {', '.join(['()'] * 6)}, ... 34 more"
    assert split.incoming[-1] == "... 34 more"


# --- what it leaves behind --------------------------------------------------------------------------------


def test_it_changes_no_gradient_and_keeps_the_graph():
    model, loss = model_and_loss()
    first = str(explain(loss, model))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert str(explain(loss, model)) == first
    loss.backward()
    before = [parameter.grad.clone() for parameter in model.parameters()]
    _, again = model_and_loss()
    explain(again)
    assert all(
        firesteel.equal(parameter.grad, old)
        for parameter, old in zip(model.parameters(), before, strict=True)
    )


class Watched:
    """A stand-in for a node that counts the hooks that are registered and removed."""

    def __init__(self, node):
        self.node, self.hooks = node, 0

    def register_hook(self, function):
        handle, watched = self.node.register_hook(function), self
        watched.hooks += 1

        class Handle:
            def remove(self):
                handle.remove()
                watched.hooks -= 1

        return Handle()


def test_hooks_are_removed_also_after_an_error():
    from firesteel.graph import _explain

    x = firesteel.ones(2, requires_grad=True)
    y = x * 2
    z = y.sum()
    watched = Watched(z.grad_fn)

    def fail(grad):
        assert watched.hooks == 1
        raise KeyError("from a hook")

    handle = y.register_hook(fail)
    with pytest.raises(KeyError, match="from a hook"):
        _explain._run([z], {1: watched}, {2: x})
    assert watched.hooks == 0
    handle.remove()
    seen, _ = _explain._run([z], {1: watched}, {2: x})
    assert seen == {1: (["1.0"], ["[1.0, 1.0]"])}
    assert watched.hooks == 0


def test_a_freed_graph_and_tensors_without_one_are_refused():
    model, loss = model_and_loss()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        explain(loss, model)
    with pytest.raises(RuntimeError, match="explain: .* does not require grad"):
        explain(firesteel.ones(2))
    with pytest.raises(RuntimeError, match="explain: .* is a leaf"):
        explain(firesteel.ones(2, requires_grad=True))
    with pytest.raises(TypeError, match="explain: expected a Tensor"):
        explain("z")


def test_a_reentrant_checkpoint_is_refused_as_it_would_write_gradients():
    layer = nn.Linear(3, 1)
    x = firesteel.ones(2, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="reentrant checkpoint, whose backward pass writes .grad"):
        explain(checkpoint(layer, x, use_reentrant=True).sum(), layer)
    assert layer.weight.grad is None
    assert len(explain(checkpoint(layer, x, use_reentrant=False).sum(), layer).steps) == 2
    assert layer.weight.grad is None

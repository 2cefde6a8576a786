"""Modules: what becomes of parameters when they are converted, what may replace them, and loading."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import firesteel
from firesteel import nn
from libraries import both


def _tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    return model


def test_ties_stay_when_a_module_changes_its_dtype() -> None:
    model = _tied()
    before = list(model.parameters())
    model.double()
    assert model[0].weight is model[1].weight is before[0]
    assert [id(p) for p in model.parameters()] == [id(p) for p in before]
    assert {p.dtype for p in model.parameters()} == {firesteel.float64}


def test_an_optimizer_made_before_the_conversion_trains_the_module() -> None:
    model = nn.Linear(2, 1)
    optimizer = firesteel.optim.SGD(model.parameters(), lr=0.5)
    model.double()
    before = model.weight.detach().clone()
    model(firesteel.ones(1, 2, dtype=firesteel.float64)).sum().backward()
    optimizer.step()
    assert (before - model.weight.detach()).tolist() == [[0.5, 0.5]]


def test_gradients_hooks_and_attributes_stay() -> None:
    model = nn.Linear(2, 1)
    model.weight.note = "kept"
    seen: list[Any] = []
    model.weight.register_hook(lambda gradient: seen.append(gradient.dtype))
    model(firesteel.ones(1, 2)).sum().backward()
    model.double()
    assert model.weight.grad is not None and model.weight.grad.dtype == firesteel.float64
    assert model.weight.note == "kept"
    model(firesteel.ones(1, 2, dtype=firesteel.float64)).sum().backward()
    assert seen == [firesteel.float32, firesteel.float64]


def test_a_conversion_to_the_same_dtype_touches_nothing() -> None:
    model = nn.Linear(2, 1)
    versions = [(p._version, p.data_ptr()) for p in model.parameters()]
    assert model.float().to(firesteel.float32).to("cpu") is model
    assert [(p._version, p.data_ptr()) for p in model.parameters()] == versions


def test_to_refuses_unknown_arguments() -> None:
    with pytest.raises(TypeError, match="dtyep"):
        nn.Linear(1, 1).to(dtyep=firesteel.float64)
    nn.Linear(1, 1).to(device="cpu", non_blocking=True, memory_format=firesteel.preserve_format)


def test_a_parameter_does_not_vanish_behind_a_module_or_a_buffer() -> None:
    layer = nn.Linear(1, 1)
    with pytest.raises(TypeError, match="as parameter 'weight'"):
        layer.weight = nn.ReLU()
    with pytest.raises(TypeError, match="as parameter 'weight'"):
        layer.weight = nn.Buffer(firesteel.ones(1))
    model = nn.Module()
    model.child = nn.ReLU()
    with pytest.raises(TypeError, match="as child module 'child'"):
        model.child = nn.Buffer(firesteel.ones(1))
    assert len(list(layer.parameters())) == 2 and isinstance(model.child, nn.ReLU)


def test_set_submodule() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(1, 1)))
    new = nn.ReLU()
    model.set_submodule("0.0", new)
    assert model[0][0] is new
    with pytest.raises(AttributeError, match="has no attribute `9`"):
        model.set_submodule("0.9", new, strict=True)
    with pytest.raises(ValueError, match="target name"):
        model.set_submodule("", new)
    with pytest.raises(ValueError, match="not an nn.Module"):
        model.set_submodule("0.0", 3)  # type: ignore[arg-type]


def test_a_hook_that_is_always_called() -> None:
    class Failing(nn.Module):
        def forward(self, x: Any) -> Any:
            raise LookupError("no")

    seen: list[Any] = []
    module = Failing()
    module.register_forward_hook(lambda m, args, out: seen.append("never"))
    module.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    with pytest.raises(LookupError):
        module(1)
    assert seen == [None]
    module.register_forward_hook(lambda m, args, out: 1 / 0, always_call=True)
    with pytest.warns(UserWarning, match="silenced"), pytest.raises(LookupError):
        module(1)


# ---- loading


def test_nothing_is_copied_when_a_shape_does_not_fit() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    state["1.weight"] = firesteel.ones(3, 3)
    with pytest.raises(RuntimeError, match="size mismatch for 1.weight"):
        model.load_state_dict(state)
    assert all(firesteel.equal(before[name], value) for name, value in model.state_dict().items())


def test_assigned_parameters_stay_frozen() -> None:
    model = nn.Linear(1, 1).requires_grad_(False)
    state = {name: nn.Parameter(value.clone()) for name, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    assert model.weight is state["weight"] and not model.weight.requires_grad


def test_all_failures_of_assigning_are_reported() -> None:
    model = nn.Linear(1, 1)
    state = {"weight": firesteel.ones(1, 1, dtype=firesteel.int64), "bias": firesteel.ones(1).long()}
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(state, assign=True)
    for name in state:
        assert f'While copying the parameter named "{name}", whose dimensions in the model' in str(
            caught.value
        )
    with pytest.raises(RuntimeError, match="Tensor-like object from checkpoint but received <class 'int'>"):
        model.load_state_dict({"weight": 1, "bias": firesteel.ones(1)})


def test_hooks_of_state_dicts() -> None:
    model = nn.Linear(1, 1)
    model.register_state_dict_post_hook(lambda *args: {})
    with pytest.raises(RuntimeError, match="post-hook must return None"):
        model.state_dict()
    model = nn.Sequential(nn.Linear(1, 1))
    model._register_state_dict_hook(lambda module, state, prefix, meta: {**state, "more": 1})
    assert model.state_dict()["more"] == 1
    seen: list[str] = []
    model[0]._register_load_state_dict_pre_hook(lambda state, prefix, *rest: seen.append(prefix))
    model.load_state_dict({"0.weight": firesteel.ones(1, 1), "0.bias": firesteel.ones(1)})
    assert seen == ["0."]


def test_a_pre_hook_may_rename_the_keys_of_a_child() -> None:
    model = nn.Sequential(nn.Linear(1, 1))

    def rename(module: Any, state: Any, prefix: str, *rest: Any) -> None:
        state[prefix + "0.weight"] = state.pop(prefix + "0.old")

    model.register_load_state_dict_pre_hook(rename)
    model.load_state_dict({"0.old": firesteel.full((1, 1), 7.0), "0.bias": firesteel.ones(1)})
    assert model[0].weight.item() == 7.0


# ---- containers and copies


def test_a_list_keeps_its_modules_when_one_is_refused() -> None:
    layers = nn.ModuleList([nn.ReLU(), nn.Tanh()])
    with pytest.raises(TypeError, match="int is not a Module subclass"):
        layers.insert(0, 3)  # type: ignore[arg-type]
    assert [type(layer) for layer in layers] == [nn.ReLU, nn.Tanh]


def test_parameter_dictionaries_are_dictionaries() -> None:
    first = nn.ParameterDict({"a": firesteel.ones(1)})
    with pytest.raises(KeyError):
        first["a.b"] = firesteel.ones(1)
    assert list(first) == ["a"]
    second = first | nn.ParameterDict({"b": firesteel.zeros(1)})
    assert list(reversed(second)) == ["b", "a"] and second["a"] is first["a"]
    assert second.popitem()[0] == "b" and list(second.copy()) == ["a"]
    assert second.setdefault("c", firesteel.ones(1)).requires_grad
    second |= first.fromkeys(["d"], firesteel.ones(1))
    assert list(second) == ["a", "c", "d"]


def test_copies_of_tensors() -> None:
    x = firesteel.ones(2, requires_grad=True)
    x.note = [1]
    shallow = copy.copy(x)
    assert shallow.data_ptr() == x.data_ptr() and shallow.requires_grad and shallow.note is x.note
    deep = copy.deepcopy(x)
    assert deep.data_ptr() != x.data_ptr() and deep.note == [1] and deep.note is not x.note
    for kind in (nn.Parameter, nn.Buffer):
        y = kind(firesteel.ones(2))
        y.note = "kept"
        for copied in (copy.copy(y), copy.deepcopy(y), pickle.loads(pickle.dumps(y))):
            assert type(copied) is kind and copied.note == "kept" and copied.tolist() == [1.0, 1.0]


def test_generators_can_be_copied_and_pickled() -> None:
    generator = firesteel.Generator().manual_seed(5)
    firesteel.randn(3, generator=generator)
    copies = [copy.deepcopy(generator), pickle.loads(pickle.dumps(generator))]
    expected = firesteel.randn(4, generator=generator).tolist()
    for copied in copies:
        assert copied.initial_seed() == 5
        assert firesteel.randn(4, generator=copied).tolist() == expected


def test_to_empty_keeps_parameters_and_ties() -> None:
    model = _tied()
    weight = model[0].weight
    assert model.to_empty(device="cpu") is model
    assert model[0].weight is model[1].weight is weight
    assert weight.shape == (2, 2) and weight.requires_grad and weight.is_leaf
    with pytest.raises(RuntimeError, match="cuda"):
        model.to_empty(device="cuda")


def test_parameters_make_a_vector_and_come_back() -> None:
    model = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(model.parameters())
    assert vector.shape == (9,) and vector.requires_grad
    nn.utils.vector_to_parameters(firesteel.arange(9.0), model.parameters())
    assert model.weight.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert model.bias.tolist() == [6.0, 7.0, 8.0] and model.bias.is_leaf


def test_programs_that_ask_for_cuda_find_none() -> None:
    assert not firesteel.cuda.is_available() and firesteel.cuda.device_count() == 0
    firesteel.cuda.synchronize()
    firesteel.cuda.empty_cache()


@both
def test_a_wrapper_looks_further_for_attributes(lib):
    class Wrapper(lib.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError as error:
                assert str(error) == f"'Wrapper' object has no attribute '{name}'"
                return getattr(self.inner, name)

    linear = lib.nn.Linear(2, 3)
    wrapper = Wrapper(linear)
    assert wrapper.weight is linear.weight
    assert wrapper.out_features == 3
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'nothing'"):
        print(wrapper.nothing)

"""`functional_call`: other tensors in the places of a module's own, which come back in any case."""

import importlib

import pytest

from libraries import both


def state(module):
    return {name: id(x) for name, x in (*module.named_parameters(), *module.named_buffers())}


def tied(lib):
    class Tied(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = lib.nn.Linear(2, 2, bias=False)
            self.second = lib.nn.Linear(2, 2, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x, scale=1.0):
            return self.second(self.first(x)) * scale

    return Tied()


def counting(lib):
    class Counting(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = lib.nn.Module()
            self.inner.register_buffer("calls", lib.zeros(()))
            self.weight = lib.nn.Parameter(lib.ones(2))

        def forward(self, x, fail=False):
            self.inner.calls = self.inner.calls + 1
            if fail:
                raise KeyError("mine")
            return x * self.weight

    return Counting()


@both
def test_nested_names_and_gradients(lib):
    net = lib.nn.Sequential(lib.nn.Linear(2, 3), lib.nn.Linear(3, 1, bias=False))
    before = state(net)
    w = lib.ones(3, 2, requires_grad=True)
    given = {"0.weight": w, "0.bias": lib.zeros(3), "1.weight": lib.ones(1, 3)}
    output = lib.func.functional_call(net, given, (lib.tensor([1.0, 2.0]),), strict=True)
    assert output.tolist() == [9.0]
    output.sum().backward()
    assert w.grad.tolist() == [[1.0, 2.0]] * 3
    assert state(net) == before and all(p.grad is None for p in net.parameters())


@both
def test_some_names_and_keywords(lib):
    net = tied(lib)
    given = {"first.weight": lib.eye(2)}
    x = lib.tensor([1.0, 2.0])
    output = lib.func.functional_call(net, given, x, {"scale": 3.0})
    assert output.tolist() == [3.0, 6.0], "the tied weight is replaced too"
    alone = lib.func.functional_call(net, given, x, tie_weights=False)
    assert lib.allclose(alone, net.second(x))
    assert net.first.weight is net.second.weight
    assert lib.allclose(lib.func.functional_call(net, {}, kwargs={"x": x}), net(x))


@both
def test_tied_weights_with_two_values(lib):
    net = tied(lib)
    before = state(net)
    given = {"first.weight": lib.eye(2), "second.weight": 2 * lib.eye(2)}
    x = lib.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="functional_call got multiple values for keys .* which are tied"):
        lib.func.functional_call(net, given, x)
    assert lib.func.functional_call(net, given, x, tie_weights=False).tolist() == [2.0, 4.0]
    same = dict.fromkeys(given, lib.eye(2))
    assert lib.func.functional_call(net, same, x).tolist() == [1.0, 2.0]
    assert state(net) == before


@both
def test_what_the_call_changes_is_in_the_dictionary(lib):
    net = counting(lib)
    given = {"inner.calls": lib.tensor(5.0), "weight": lib.full((2,), 3.0)}
    assert lib.func.functional_call(net, given, lib.ones(2)).tolist() == [3.0, 3.0]
    assert given["inner.calls"].item() == 6.0 and net.inner.calls.item() == 0.0
    assert isinstance(net.weight, lib.nn.Parameter) and net.weight.tolist() == [1.0, 1.0]


@both
def test_a_failing_call_restores_the_module(lib):
    net = counting(lib)
    before = state(net)
    with pytest.raises(KeyError, match="mine"):
        lib.func.functional_call(net, {"inner.calls": lib.tensor(5.0)}, lib.ones(2), {"fail": True})
    assert state(net) == before
    with pytest.raises(AttributeError):
        lib.func.functional_call(net, {"weight": lib.zeros(2), "no.such": lib.zeros(2)}, lib.ones(2))
    assert state(net) == before
    with pytest.raises(TypeError):
        lib.func.functional_call(net, {"weight": 3.0}, lib.ones(2))
    assert state(net) == before


@both
def test_several_dictionaries(lib):
    net = counting(lib)
    params, buffers = {"weight": lib.zeros(2)}, {"inner.calls": lib.tensor(1.0)}
    assert lib.func.functional_call(net, (params, buffers), lib.ones(2)).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="appeared in multiple dictionaries"):
        lib.func.functional_call(net, (params, params), lib.ones(2))
    with pytest.raises(ValueError, match="to be dictionaries"):
        lib.func.functional_call(net, (params, 3), lib.ones(2))
    with pytest.raises(ValueError, match="to be a dict, or a list/tuple of dicts"):
        lib.func.functional_call(net, 3, lib.ones(2))


@both
def test_strict_names(lib):
    net = counting(lib)
    with pytest.raises(RuntimeError) as error:
        lib.func.functional_call(
            net, {"weight": lib.zeros(2), "other": lib.zeros(2)}, lib.ones(2), strict=True
        )
    assert str(error.value) == (
        "Error(s) in reparametrizing for Counting:\n\tUnexpected key(s): 'other'.\n\t"
        "Missing key(s): 'inner.calls'."
    )


@both
def test_running_statistics_of_batch_norm(lib):
    layer = lib.nn.BatchNorm1d(2)
    given = {name: x.detach().clone() for name, x in (*layer.named_parameters(), *layer.named_buffers())}
    x = lib.tensor([[1.0, 2.0], [3.0, 6.0]])
    lib.func.functional_call(layer, given, x)
    assert layer.running_mean.tolist() == [0.0, 0.0] and layer.num_batches_tracked.item() == 0
    assert lib.allclose(given["running_mean"], lib.tensor([0.2, 0.4]))
    assert given["num_batches_tracked"].item() == 1


@both
def test_stacked_state(lib):
    models = [lib.nn.BatchNorm1d(2) for _ in range(3)]
    params, buffers = lib.func.stack_module_state(models)
    assert list(params) == ["weight", "bias"] and params["weight"].shape == (3, 2)
    assert params["weight"].is_leaf and params["weight"].requires_grad
    assert buffers["running_mean"].shape == (3, 2) and not buffers["running_mean"].requires_grad
    with pytest.raises(RuntimeError, match="same class"):
        lib.func.stack_module_state([models[0], lib.nn.Linear(2, 2)])
    models[0].eval()
    with pytest.raises(RuntimeError, match="same training/eval mode"):
        lib.func.stack_module_state(models)
    models[0].train()
    models[0].weight.requires_grad_(False)
    with pytest.raises(RuntimeError, match="Expected weight from each model to have the same .requires_grad"):
        lib.func.stack_module_state(models)


@both
def test_none_takes_a_parameter_away(lib):
    layer = lib.nn.Linear(2, 2)
    before = state(layer)
    given = {"weight": lib.ones(2, 2), "bias": None}
    output = lib.func.functional_call(layer, given, lib.ones(2))
    assert output.tolist() == [2.0, 2.0] and state(layer) == before


@both
def test_batch_norms_without_running_statistics(lib):
    net = lib.nn.Sequential(lib.nn.Linear(2, 3), lib.nn.Sequential(lib.nn.BatchNorm1d(3)))
    assert lib.func.replace_all_batch_norm_modules_(net) is net
    norm = net[1][0]
    assert (norm.running_mean, norm.running_var, norm.num_batches_tracked) == (None, None, None)
    assert norm.track_running_stats is False and "1.0.running_mean" not in net.state_dict()
    params = {name: p.detach() for name, p in net.named_parameters()}
    call = lib.func.grad(lambda p, x: lib.func.functional_call(net, p, (x,)).square().sum())
    assert lib.vmap(call, in_dims=(None, 0))(params, lib.randn(4, 5, 2))["0.weight"].shape == (4, 3, 2)
    single = lib.nn.BatchNorm1d(3)
    assert lib.func.replace_all_batch_norm_modules_(single).running_mean is None


@both
def test_the_former_name(lib):
    stateless = importlib.import_module(f"{lib.__name__}.nn.utils.stateless")
    assert lib.nn.utils.stateless is stateless
    layer, given = lib.nn.Linear(2, 1), {"weight": lib.ones(1, 2), "bias": lib.zeros(1)}
    with pytest.warns(FutureWarning, match="deprecated"):
        output = stateless.functional_call(layer, given, (lib.ones(2),), strict=True)
    assert output.tolist() == [2.0]

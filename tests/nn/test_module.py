"""`Module`: registration, calling, hooks, state, copying."""

import copy
import pickle

import pytest

import firesteel as torch
from firesteel import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 3)
        self.w = nn.Parameter(torch.ones(3))
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)
        self.note = "plain"

    def forward(self, x, add=0.0):
        return self.fc(x) * self.w * self.scale + add


def test_registration_and_order():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == ["w", "fc.weight", "fc.bias"]
    assert [name for name, _ in net.named_buffers()] == ["scale", "scratch"]
    assert list(net.state_dict()) == ["w", "scale", "fc.weight", "fc.bias"]
    assert net.get_parameter("fc.weight") is net.fc.weight
    assert net.get_submodule("fc") is net.fc and net.get_buffer("scale") is net.scale


def test_attributes_follow_the_registers():
    net = Net()
    other = nn.Linear(2, 3)
    net._modules["fc"] = other
    assert net.fc is other
    net._parameters["w"] = new = nn.Parameter(torch.zeros(3))
    assert net.w is new
    del net.w
    assert not hasattr(net, "w") and "w" not in net._parameters
    net.fc = None
    assert net.fc is None and list(net.children()) == []
    net.scale = nn.Parameter(torch.ones(1))
    assert "scale" in net._parameters and "scale" not in net._buffers


def test_assignment_errors():
    class Early(nn.Module):
        def __init__(self, value):
            self.value = value

    with pytest.raises(AttributeError, match=r"cannot assign module before Module.__init__\(\) call"):
        Early(nn.ReLU())
    with pytest.raises(AttributeError, match=r"cannot assign parameters before Module.__init__\(\) call"):
        Early(nn.Parameter(torch.ones(1)))
    net = Net()
    with pytest.raises(
        TypeError, match=r"cannot assign 'str' as parameter 'w' \(firesteel.nn.Parameter or None"
    ):
        net.w = "no"
    with pytest.raises(TypeError, match="cannot assign 'int' as child module 'fc'"):
        net.fc = 3
    with pytest.raises(KeyError, match="attribute 'note' already exists"):
        net.register_buffer("note", None)
    with pytest.raises(KeyError, match="can.*t contain"):
        net.register_parameter("a.b", None)
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'nothing'"):
        _ = net.nothing
    with pytest.raises(NotImplementedError, match='missing the required "forward"'):
        nn.Module()(1)


def test_hooks():
    net, seen = Net(), []
    x = torch.ones(1, 2)
    plain = net(x)
    handle = net.register_forward_pre_hook(lambda m, args, kwargs: (args, {"add": 1.0}), with_kwargs=True)
    assert torch.allclose(net(x), plain + 1)
    handle.remove()
    with net.register_forward_hook(lambda m, args, out: seen.append(out.shape)):
        net(x)
    net(x)
    assert len(seen) == 1


def test_copies_are_independent():
    net = Net()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.fc.weight is not net.fc.weight and twin.fc.weight is twin.fc._parameters["weight"]
        assert torch.equal(twin.fc.weight, net.fc.weight)
        assert isinstance(twin.w, nn.Parameter) and twin.note == "plain"
        twin._modules["fc"] = nn.Identity()
        assert isinstance(twin.fc, nn.Identity) and isinstance(net.fc, nn.Linear)


def test_shared_parameter_is_listed_once():
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    both = nn.Sequential(a, b)
    assert len(list(both.parameters())) == 3
    assert list(both.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_conversion_and_modes():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert net.double() is net and net[0].weight.dtype == torch.float64
    assert net[1].num_batches_tracked.dtype == torch.int64
    assert net.to("cpu", torch.float32)[1].running_mean.dtype == torch.float32
    with pytest.raises(RuntimeError, match="pass 'cpu'"):
        net.to("cuda")
    with pytest.raises(TypeError, match="floating point"):
        net.to(torch.int64)
    assert not net.eval()[1].training and net.train()[1].training
    net(torch.ones(3, 2)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert float(net[0].weight.grad.abs().sum()) == 0
    net.zero_grad()
    assert net[0].weight.grad is None


def test_load_state_dict():
    a, b = Net(), Net()
    assert repr(b.load_state_dict(a.state_dict())) == "<All keys matched successfully>"
    assert torch.equal(a.fc.weight, b.fc.weight)
    result = b.load_state_dict({"w": torch.zeros(3), "new": torch.ones(1)}, strict=False)
    assert result.unexpected_keys == ["new"] and result.missing_keys == ["scale", "fc.weight", "fc.bias"]
    b.load_state_dict({"w": torch.ones(3)}, strict=False, assign=True)
    assert isinstance(b.w, nn.Parameter) and float(b.w.sum()) == 3


def test_containers():
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    model.append(nn.Tanh()).insert(0, nn.Identity()).extend([nn.Sigmoid()])
    assert [type(m).__name__ for m in model] == ["Identity", "Linear", "ReLU", "Tanh", "Sigmoid"]
    assert len(model[1:3]) == 2 and isinstance(model[-1], nn.Sigmoid)
    del model[0]
    assert list(model._modules) == ["0", "1", "2", "3"] and len(model + model) == 8
    with pytest.raises(IndexError, match="out of range"):
        model[9]
    layers = nn.ModuleList([nn.ReLU()])
    layers += [nn.Tanh()]
    assert isinstance(layers.pop(0), nn.ReLU) and len(layers) == 1
    params = nn.ParameterList([torch.ones(1), torch.ones(2)])
    assert len(list(params.parameters())) == 2 and params[-1].shape[0] == 2
    table = nn.ParameterDict({"a": torch.ones(1)})
    assert table.pop("a").requires_grad and len(table) == 0


def test_clip_grad():
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3.0, 4.0])
    assert float(nn.utils.clip_grad_norm_(p, 1.0)) == 5.0
    assert torch.allclose(p.grad, torch.tensor([0.6, 0.8]))
    nn.utils.clip_grad_value_(p, 0.7)
    assert torch.allclose(p.grad, torch.tensor([0.6, 0.7]))

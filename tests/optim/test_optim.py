"""Optimizers beside PyTorch's: twenty steps, printouts, saved state."""

import pickle

import pytest

import firesteel as ft

torch = pytest.importorskip("torch")

CASES = [
    "SGD(p, lr=0.1)",
    "SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)",
    "SGD(p, lr=0.1, momentum=0.9, nesterov=True)",
    "SGD(p, lr=0.1, momentum=0.9, dampening=0.5, maximize=True)",
    "Adam(p, lr=0.05)",
    "Adam(p, lr=0.05, weight_decay=0.1, amsgrad=True)",
    "Adam(p, lr=0.05, betas=(0.8, 0.9), maximize=True)",
    "AdamW(p, lr=0.05, weight_decay=0.1)",
    "Adam([{'params': p[:1], 'lr': 0.2}, {'params': p[1:]}], lr=0.05)",
]
START = [[[0.5, -1.0], [2.0, 0.1]], [0.3, -0.2]]


def train(lib, source, steps, state=None):
    params = [lib.nn.Parameter(lib.tensor(values)) for values in START]
    optimizer = eval(f"optim.{source}", {"optim": lib.optim, "p": params})
    if state is not None:
        optimizer.load_state_dict(state)
    for _ in range(steps):
        optimizer.zero_grad()
        ((params[0] * params[1]).tanh() ** 2).sum().backward()
        optimizer.step()
    return params, optimizer


@pytest.mark.parametrize("source", CASES)
def test_twenty_steps(source):
    ours, optimizer = train(ft, source, 20)
    theirs, reference = train(torch, source, 20)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(torch.tensor(a.tolist()), b.detach(), atol=1e-6, rtol=1e-5)
    assert repr(optimizer) == repr(reference)
    a, b = optimizer.state_dict(), reference.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert list(a["state"]) == list(b["state"])
    for index, state in a["state"].items():
        names = {name for name, value in b["state"][index].items() if value is not None}
        assert set(state) == names


@pytest.mark.parametrize("source", CASES)
def test_state_continues(source):
    _, optimizer = train(ft, source, 3)
    state = pickle.loads(pickle.dumps(optimizer.state_dict()))
    a, _ = train(ft, source, 2, optimizer.state_dict())
    b, _ = train(ft, source, 2, state)
    assert [p.tolist() for p in a] == [p.tolist() for p in b]


def test_parameters_without_gradient_stay():
    used, unused = ft.nn.Parameter(ft.ones(1)), ft.nn.Parameter(ft.ones(1))
    optimizer = ft.optim.Adam([used, unused])
    used.sum().backward()
    optimizer.step()
    assert float(unused) == 1 and float(used) != 1 and unused not in optimizer.state


def test_closure_and_hooks():
    p, seen = ft.nn.Parameter(ft.ones(1)), []
    optimizer = ft.optim.SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    optimizer.register_step_pre_hook(lambda *args: seen.append("before"))
    handle = optimizer.register_step_post_hook(lambda *args: seen.append("after"))
    assert float(optimizer.step(closure)) == 1 and float(p) == 0
    handle.remove()
    optimizer.step(closure)
    assert seen == ["before", "after", "before"]


@pytest.mark.parametrize(("source", "kind", "text"), [
    ("SGD([], lr=0.1)", ValueError, "optimizer got an empty parameter list"),
    ("SGD(p[0], lr=0.1)", TypeError, "params argument given to the optimizer should be an iterable"),
    ("SGD(p, lr=-1.0)", ValueError, "Invalid learning rate: -1.0"),
    ("SGD(p, nesterov=True)", ValueError, "Nesterov momentum requires"),
    ("SGD(p + p)", UserWarning, "duplicate parameters"),
    ("SGD([{'params': p}, {'params': p}])", ValueError, "more than one parameter group"),
    ("SGD([1])", TypeError, "can only optimize Tensors"),
    ("SGD([p[0] * 2])", ValueError, "can't optimize a non-leaf Tensor"),
    ("Adam(p, betas=(1.0, 0.9))", ValueError, "Invalid beta parameter at index 0: 1.0"),
    ("Adam(p, capturable=True)", NotImplementedError, "capturable=True is not supported"),
])  # fmt: skip
def test_errors(source, kind, text):
    params = [ft.nn.Parameter(ft.ones(1)) for _ in range(2)]
    with pytest.raises(kind, match=text):
        eval(f"optim.{source}", {"optim": ft.optim, "p": params})

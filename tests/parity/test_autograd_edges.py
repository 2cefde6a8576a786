"""Corners of autograd: hooks on leaves, writes in place whose operands overlap, views, threads, `.data`."""

import copy
import gc
import os
import threading
import weakref

import pytest

import firesteel
from libraries import both


@both
def test_a_hook_on_a_leaf_needs_no_handle(lib):
    x = lib.ones(2, requires_grad=True)
    x.register_hook(lambda grad: grad * 10)
    for _ in range(2):
        x.grad = None
        (x * 1).sum().backward()
        assert x.grad.tolist() == [10, 10]


@both
def test_a_hook_runs_though_its_tensor_is_gone(lib):
    seen = []

    def make():
        w = lib.ones(2, requires_grad=True)
        w.register_hook(lambda grad: seen.append(grad.tolist()))
        return (w * 2).sum()

    make().backward()
    assert seen == [[2, 2]]


@both
def test_a_removed_hook_is_silent(lib):
    x = lib.ones(2, requires_grad=True)
    handle = x.register_hook(lambda grad: grad * 10)
    y = x * 1
    handle.remove()
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]


@both
def test_a_hook_must_keep_the_dtype(lib):
    x = lib.ones(2, requires_grad=True)
    x.register_hook(lambda grad: grad.double())
    with pytest.raises(RuntimeError, match="changed the type of value"):
        (x * 1).sum().backward()


def test_a_finalizer_may_touch_the_hooks_that_it_was_removed_from():
    y = firesteel.ones(2, requires_grad=True) * 1

    class Hook:
        def __call__(self, grad):
            return None

        def __del__(self):
            y.register_hook(lambda grad: None)

    handle = y.register_hook(Hook())
    handle.remove()
    gc.collect()


# An operation, and its operand as a part of the target. PyTorch refuses these in the backward pass, or later.
OVERLAPPING = {
    "itself": ("mul", lambda y: y),
    "detached": ("mul", lambda y: y.detach()),
    "item": ("mul", lambda y: y[0]),
    "slice": ("mul", lambda y: y[0:1]),
    "div": ("div", lambda y: y),
    "pow": ("pow", lambda y: y),
}


@pytest.mark.parametrize("case", OVERLAPPING)
def test_writes_with_an_operand_in_the_target_keep_the_old_values(case):
    name, operand = OVERLAPPING[case]
    start = firesteel.tensor([2.0, 3.0], dtype=firesteel.float64, requires_grad=True)
    y = start * 1
    expected = getattr(y, name)(operand(y))
    (expected_grad,) = firesteel.autograd.grad(expected.sum(), start)
    y = start * 1
    getattr(y, name + "_")(operand(y))
    assert y.tolist() == expected.tolist()
    (grad,) = firesteel.autograd.grad(y.sum(), start)
    assert grad.tolist() == expected_grad.tolist()


@both
def test_a_view_made_without_recording_is_not_written_with_it(lib):
    w = lib.full((1,), 3.0, requires_grad=True)
    y = lib.ones(2, requires_grad=True) * 2
    with lib.no_grad():
        view = y[0:1]
        view.add_(1)  # still not recorded: allowed
    with pytest.raises(RuntimeError, match="A view was created in no_grad mode"):
        view.mul_(w)
    assert y.tolist() == [3, 2]


@both
def test_a_view_older_than_requires_grad_does_not_turn_the_leaf_into_a_result(lib):
    base, w = lib.zeros(3), lib.ones(2, requires_grad=True)
    view = base[:2]
    base.requires_grad_()
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        view.add_(w)
    assert base.is_leaf


@both
def test_grad_of_an_inner_tensor_leaves_its_own_node_alone(lib):
    x = lib.tensor([2.0], requires_grad=True)
    y = x * x
    (grad,) = lib.autograd.grad((y * y).sum(), y)
    assert grad.tolist() == [8]
    y.sum().backward()
    assert x.grad.tolist() == [4]


@both
def test_indices_that_were_changed_are_noticed(lib):
    x = lib.tensor([[1.0, 3.0, 2.0]], requires_grad=True)
    values, indices = x.max(1)
    indices.fill_(0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        values.sum().backward()


@both
def test_indices_that_were_changed_after_the_first_derivative_are_noticed(lib):
    x = lib.arange(16.0).reshape(1, 1, 4, 4).requires_grad_()
    out, indices = lib.nn.functional.max_pool2d(x, 2, return_indices=True)
    (grad,) = lib.autograd.grad((out * out).sum(), x, create_graph=True)
    indices.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (grad * grad).sum().backward()


@both
def test_second_derivatives_of_max_pool(lib):
    x = lib.arange(36.0, dtype=lib.float64).sin().reshape(1, 1, 6, 6).requires_grad_()
    v = lib.arange(36.0, dtype=lib.float64).cos().reshape(1, 1, 6, 6)
    out = lib.nn.functional.max_pool2d(x, 3, stride=2, padding=1)
    (first,) = lib.autograd.grad((out**3).sum(), x, create_graph=True)
    (second,) = lib.autograd.grad((first * v).sum(), x, create_graph=True)
    (third,) = lib.autograd.grad((second * v).sum(), x)
    # Each window's largest element, where it stands, as often as it is that.
    best, places = lib.nn.functional.max_pool2d(x.detach(), 3, stride=2, padding=1, return_indices=True)
    factor = v.flatten()[places.flatten()]
    for grad, values in [
        (first, 3 * best.flatten() ** 2),
        (second, 6 * best.flatten() * factor),
        (third, 6 * factor**2),
    ]:
        expected = lib.zeros(36, dtype=lib.float64).scatter_add(0, places.flatten(), values)
        assert lib.allclose(grad.detach().flatten(), expected)


@both
def test_inputs_of_backward(lib):
    a, b = lib.ones(2, requires_grad=True), lib.ones(2, requires_grad=True)
    (a + b).sum().backward(inputs=[a, b])
    a.grad.mul_(2)
    assert (a.grad.tolist(), b.grad.tolist()) == ([2, 2], [1, 1])
    before = a.grad.data_ptr()
    (a * 3).sum().backward(inputs=[a, a])
    assert a.grad.tolist() == [5, 5] and a.grad.data_ptr() == before
    with pytest.raises(RuntimeError, match="cannot be empty"):
        (a * 3).sum().backward(inputs=[])


def test_gradients_of_a_recorded_pass_share_no_memory():
    a, b = firesteel.ones(2, requires_grad=True), firesteel.ones(2, requires_grad=True)
    start = firesteel.ones(2)
    with pytest.warns(UserWarning, match="reference cycle"):
        (a + b).backward(start, create_graph=True)
    a.grad.detach().mul_(2)
    assert b.grad.tolist() == [1, 1] and start.tolist() == [1, 1]
    a.grad = b.grad = None


@both
def test_retained_gradients(lib):
    x = lib.ones(2, requires_grad=True)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda grad: grad * 10)
    y.sum().backward(retain_graph=True)
    first = y.grad
    y.sum().backward()
    assert first.tolist() == [10, 10] and y.grad.tolist() == [20, 20]
    z = x * 2
    z.retain_grad()
    z.mul_(3)
    z.sum().backward()
    assert z.grad.tolist() == [1, 1]


def test_threads_add_up_in_one_leaf():
    p = firesteel.zeros(1000, requires_grad=True)

    def work():
        for _ in range(200):
            (p * 1.0).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert p.grad.min() == p.grad.max() == 800


def test_a_long_chain_of_gradients_is_freed():
    chain = None
    for _ in range(200_000):
        link = firesteel.ones(1)
        link.grad = chain
        chain = link
    del chain, link


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_fork_while_another_thread_draws():
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            firesteel.rand(200_000)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                import signal

                signal.alarm(20)
                firesteel.rand(3)
                os._exit(7)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 7
    finally:
        stop.set()
        thread.join()


@both
def test_reads_of_data_do_not_count_as_writes(lib):
    x = lib.tensor([3.0], requires_grad=True)
    y = (x * x).sum()
    x.data.mul_(2)
    y.backward()
    assert x.grad.tolist() == [12]  # of the memory as it is now, as in PyTorch


@both
def test_data_takes_the_memory_over(lib):
    p = lib.ones(2, requires_grad=True)
    old, alias = p.data, p.detach()
    p.data = p.data * 3
    assert p.tolist() == [3, 3] and alias.tolist() == [1, 1]
    p.data = old
    assert p.tolist() == [1, 1]
    new = lib.zeros(4, dtype=lib.float64)
    p.data = new
    new[0] = 5
    assert p.tolist() == [5, 0, 0, 0] and p.dtype == lib.float64 and p.requires_grad and p.is_leaf
    with pytest.raises(RuntimeError, match="floating point"):
        p.data = lib.zeros(2, dtype=lib.int64)


@both
def test_gradients_arrive_after_the_data_was_replaced(lib):
    p = lib.ones(2, requires_grad=True)
    p.register_hook(lambda grad: grad * 10)
    loss = (p * 2).sum()
    p.data = lib.zeros(2)
    loss.backward()
    assert p.grad.tolist() == [20, 20]
    p.grad.data = lib.ones(2)
    assert p.grad.tolist() == [1, 1]


@both
def test_one_object_per_tensor(lib):
    x = lib.ones(2, requires_grad=True)
    y = x * 2
    assert y.grad_fn.next_functions[0][0].variable is x
    y.sum().backward()
    assert x.grad is x.grad
    x.grad.note = "kept"
    gc.collect()
    assert x.grad.note == "kept"
    given = lib.zeros(2)
    x.grad = given
    assert x.grad is given
    assert x.view(2)._base is x
    old = lib.Tensor([1.0, 2.0])
    assert old[0]._base is old
    view = given[0]
    given.data = lib.ones(3)
    assert view._base is given and given[0]._base is given
    assert x.contiguous() is x and x.to(lib.float32) is x and x.float() is x
    layer = lib.nn.Linear(2, 2)
    out = layer(lib.ones(1, 2))
    variables = [node.variable for node, _ in out.grad_fn.next_functions if hasattr(node, "variable")]
    assert any(variable is layer.bias for variable in variables)


def test_objects_are_freed():
    x = firesteel.ones(2, requires_grad=True)
    (x * 1).sum().backward()
    x.grad.owner = x  # a cycle through the gradient's attributes
    gone = weakref.ref(x)
    del x
    gc.collect()
    assert gone() is None


@both
def test_shallow_copies_share_memory(lib):
    x = lib.ones(2)
    copy.copy(x).mul_(2)
    assert x.tolist() == [2, 2]


def test_data_that_is_replaced_often_keeps_no_old_memory():
    p = firesteel.ones(1000)
    view = p.view(-1)
    before = firesteel.memory_stats()["allocated_bytes"]
    for _ in range(1000):
        p.data = p.data * 1.0
    assert firesteel.memory_stats()["allocated_bytes"] < before + 20_000
    del view, p
    x = firesteel.ones(2, requires_grad=True)
    x.sum().backward()
    grad = x.grad
    for _ in range(100_000):
        grad.data = grad.data + 0
    assert x.grad is grad


@both
def test_a_retained_gradient_survives_new_data(lib):
    x = lib.ones(2, requires_grad=True)
    y = x * 2
    y.retain_grad()
    y.data = lib.zeros(2)
    assert y.retains_grad
    y.sum().backward()
    assert y.grad.tolist() == [1, 1]


def test_writes_see_that_data_shares_memory():
    x = firesteel.arange(9.0).view(3, 3)
    expected = (x + x.t()).tolist()
    x.add_(x.data.t())
    assert x.tolist() == expected
    x = firesteel.arange(5.0)
    x[1:].add_(x.data[:4])
    assert x.tolist() == [0, 1, 3, 5, 7]
    x = firesteel.arange(5.0)
    x[firesteel.tensor([1, 2, 3, 4])] = x.data[:4]
    assert x.tolist() == [0, 0, 1, 2, 3]


def test_a_seed_may_draw_random_numbers():
    class Seed:
        def __index__(self):
            return int(firesteel.randint(10, (1,)))

    firesteel.manual_seed(Seed())

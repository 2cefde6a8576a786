"""channels_last and its like: what becomes of strides and histories, beside PyTorch."""

from __future__ import annotations

import io
import pickle

import pytest

import firesteel
from libraries import both, drawn, parity, same_in_both
from tensors import assert_same, torch


def images(lib, *shape: int):
    return drawn(lib, *(shape or (2, 3, 8, 6))).to(memory_format=lib.channels_last)


@both
def test_conversions(lib):
    x = drawn(lib, 2, 3, 4, 5)
    last = x.to(memory_format=lib.channels_last)
    assert last.stride() == (60, 1, 15, 3)
    assert last.is_contiguous(memory_format=lib.channels_last) and not last.is_contiguous()
    assert x.is_contiguous(memory_format=lib.contiguous_format)
    assert lib.equal(last, x)
    assert last.to(memory_format=lib.channels_last) is last
    assert last.contiguous(memory_format=lib.channels_last) is last
    assert last.contiguous().stride() == x.stride()
    assert last.clone().stride() == last.stride()
    assert last.clone(memory_format=lib.contiguous_format).stride() == x.stride()
    assert x.clone(memory_format=lib.channels_last).stride() == last.stride()
    assert x.to(lib.float32, memory_format=lib.channels_last).stride() == last.stride()
    assert last.to(lib.float32).stride() == last.stride()
    copied = last.to(copy=True, memory_format=lib.channels_last)
    assert copied.data_ptr() != last.data_ptr() and copied.stride() == last.stride()
    volume = drawn(lib, 2, 3, 2, 4, 5).contiguous(memory_format=lib.channels_last_3d)
    assert volume.stride() == (120, 1, 60, 15, 3)


@both
def test_extents_of_one_leave_no_doubt(lib):
    plane = drawn(lib, 2, 1, 7, 8).to(memory_format=lib.channels_last)
    assert plane.stride() == (56, 1, 8, 1)
    assert lib.empty_like(plane).stride() == plane.clone().stride() == plane.stride()
    assert plane.to(memory_format=lib.contiguous_format).stride() == (56, 56, 8, 1)
    pixel = drawn(lib, 2, 3, 1, 1)
    assert pixel.to(memory_format=lib.channels_last).stride() == (3, 1, 3, 3)
    assert pixel.contiguous(memory_format=lib.channels_last).stride() == (3, 1, 1, 1)
    conv = lib.nn.functional.conv2d
    once = conv(plane, drawn(lib, 1, 1, 3, 3, seed=1))
    assert conv(once, drawn(lib, 4, 1, 3, 3, seed=1)).stride() == (48, 1, 16, 4)
    layer = lib.nn.Conv2d(1, 8, 3).to(memory_format=lib.channels_last)
    assert layer.weight.stride() == (9, 1, 3, 1)


@both
def test_a_gradient_takes_the_format_of_the_input(lib):
    x, weight = drawn(lib, 2, 6, 7, 8).requires_grad_(), drawn(lib, 8, 6, 3, 3, seed=1).requires_grad_()
    y = lib.nn.functional.conv2d(x, weight)
    (by_x,) = lib.autograd.grad(y, x, lib.ones_like(y).to(memory_format=lib.channels_last), retain_graph=True)
    assert by_x.stride() == x.stride()
    last = x.detach().to(memory_format=lib.channels_last)
    y = lib.nn.functional.conv2d(last, weight)
    (by_weight,) = lib.autograd.grad(y, weight, lib.ones_like(y))
    assert by_weight.is_contiguous(memory_format=lib.channels_last)


@both
def test_new_tensors(lib):
    assert lib.empty(2, 3, 4, 5, memory_format=lib.channels_last).stride() == (60, 1, 15, 3)
    x = drawn(lib, 2, 3, 4, 5)
    for like in (lib.zeros_like, lib.ones_like, lib.empty_like, lib.randn_like):
        assert like(x, memory_format=lib.channels_last).stride() == (60, 1, 15, 3)
        assert like(images(lib, 2, 3, 4, 5)).stride() == (60, 1, 15, 3)
        assert like(images(lib, 2, 3, 4, 5), memory_format=lib.contiguous_format).stride() == x.stride()
    assert lib.zeros_like(x, memory_format=lib.channels_last).abs().sum().item() == 0


@both
def test_formats_are_values(lib):
    assert repr(lib.channels_last) == "torch.channels_last"
    assert isinstance(lib.preserve_format, lib.memory_format)
    assert pickle.loads(pickle.dumps(lib.channels_last)) == lib.channels_last
    assert lib.channels_last != lib.contiguous_format
    assert {lib.channels_last: 1}[lib.channels_last] == 1


@both
def test_wrong_formats(lib):
    x = drawn(lib, 3, 4, 5)
    assert not x.is_contiguous(memory_format=lib.channels_last)
    with pytest.raises(RuntimeError, match="required rank 4 tensor to use channels_last format"):
        x.to(memory_format=lib.channels_last)
    with pytest.raises(RuntimeError, match="required rank 4 tensor to use channels_last format"):
        x.contiguous(memory_format=lib.channels_last)
    for call in (x.to, x.clone, x.contiguous, x.is_contiguous):
        with pytest.raises(TypeError, match="memory_format"):
            call(memory_format="channels_last")
    with pytest.raises(TypeError):
        lib.memory_format()


@both
def test_history(lib):
    x = drawn(lib, 1, 2, 2, 2).requires_grad_()
    last = x.contiguous(memory_format=lib.channels_last)
    assert type(last.grad_fn).__name__ == "CloneBackward0"
    assert type(x.to(memory_format=lib.channels_last).grad_fn).__name__ == "ToCopyBackward0"
    assert type(x.clone(memory_format=lib.channels_last).grad_fn).__name__ == "CloneBackward0"
    (last * last).sum().backward()
    assert lib.allclose(x.grad, 2 * x.detach())
    assert x.grad.stride() == x.stride()


LAYERS = {
    "conv": lambda lib, x: lib.nn.functional.conv2d(x, drawn(lib, 6, 3, 3, 3, seed=1), padding=1),
    "conv 1x1": lambda lib, x: lib.nn.functional.conv2d(x, drawn(lib, 6, 3, 1, 1, seed=1)),
    "conv of one plane": lambda lib, x: lib.nn.functional.conv2d(x[:, :1], drawn(lib, 6, 1, 3, 3, seed=1)),
    "conv to one plane": lambda lib, x: lib.nn.functional.conv2d(x, drawn(lib, 1, 3, 3, 3, seed=1)),
    "weight": lambda lib, x: lib.nn.functional.conv2d(
        x.contiguous(), drawn(lib, 6, 3, 3, 3, seed=1).to(memory_format=lib.channels_last)
    ),
    "neither": lambda lib, x: lib.nn.functional.conv2d(x.contiguous(), drawn(lib, 6, 3, 3, 3, seed=1)),
    "transposed": lambda lib, x: lib.nn.functional.conv_transpose2d(
        x, drawn(lib, 3, 6, 3, 3, seed=1), stride=2
    ),
    "max pool": lambda lib, x: lib.nn.functional.max_pool2d(x, 2),
    "average pool": lambda lib, x: lib.nn.functional.avg_pool2d(x, 2),
    "adaptive average": lambda lib, x: lib.nn.functional.adaptive_avg_pool2d(x, (1, 3)),
    "adaptive maximum": lambda lib, x: lib.nn.functional.adaptive_max_pool2d(x, 2),
    "batch norm": lambda lib, x: lib.nn.functional.batch_norm(x, None, None, training=True),
    "group norm": lambda lib, x: lib.nn.functional.group_norm(x, 3),
    "relu": lambda lib, x: lib.nn.functional.relu(x),
    "dropout": lambda lib, x: lib.nn.functional.dropout(x, 0.0),
    "sum": lambda lib, x: x + x * 2,
}


@parity
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_layers_keep_the_format(layer):
    for shape in ((2, 3, 8, 6), (1, 3, 8, 6), (2, 3, 8, 3), (1, 3, 3, 3)):
        ours, theirs = (layer(lib, images(lib, *shape)) for lib in (firesteel, torch))
        assert_same(ours, theirs)
        significant = [dim for dim, extent in enumerate(theirs.shape) if extent > 1]
        assert [ours.stride(dim) for dim in significant] == [theirs.stride(dim) for dim in significant], shape


@both
def test_a_network_in_channels_last(lib):
    """Modules are converted, train, and give what they give in the usual order."""
    lib.manual_seed(0)
    nn = lib.nn
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    plain = plain.double()
    buffer = io.BytesIO()
    lib.save(plain.state_dict(), buffer)
    buffer.seek(0)
    last = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    last = last.double().to(memory_format=lib.channels_last)
    last.load_state_dict(lib.load(buffer))
    assert last[0].weight.is_contiguous(memory_format=lib.channels_last)
    losses = []
    for net, x in ((plain, images(lib).contiguous()), (last, images(lib))):
        opt = lib.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            opt.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            opt.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert last[0].weight.is_contiguous(memory_format=lib.channels_last)


@parity
def test_gradients_are_those_of_the_usual_order():
    def gradients(lib):
        x = images(lib).requires_grad_()
        weight = drawn(lib, 4, 3, 3, 3, seed=2).requires_grad_()
        y = lib.nn.functional.max_pool2d(lib.nn.functional.conv2d(x, weight, padding=1), 2)
        (y * y).sum().backward()
        return x.grad, weight.grad

    for index in range(2):
        same_in_both(lambda lib, index=index: gradients(lib)[index])


# Enough channels to be computed as they lie, without a copy in row-major order.
MANY_CHANNELS = {
    "3x3": lambda F, x, w: F.conv2d(x, w, padding=1),
    "stride": lambda F, x, w: F.conv2d(x, w, stride=2, padding=1),
    "dilation": lambda F, x, w: F.conv2d(x, w, dilation=2, padding=(2, 3)),
    "groups": lambda F, x, w: F.conv2d(x, w[:, : x.shape[1] // 2], padding=1, groups=2),
    "1x1, stride": lambda F, x, w: F.conv2d(x, w[:, :, 1:2, 1:2], stride=2),
    "to few": lambda F, x, w: F.conv2d(x, w[:3], padding=1),
    "transposed": lambda F, x, w: F.conv_transpose2d(x, w.transpose(0, 1), stride=2, padding=1),
}


@parity
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", MANY_CHANNELS.values(), ids=MANY_CHANNELS)
def test_many_channels(layer, dtype):
    def run(lib, channels_last):
        shape = {"float32": (3, 24, 9, 7), "float64": (3, 12, 9, 7)}[dtype]
        x = drawn(lib, *shape).to(getattr(lib, dtype))
        if channels_last:
            x = x.to(memory_format=lib.channels_last)
        x.requires_grad_()
        weight = drawn(lib, 2 * shape[1], shape[1], 3, 3, seed=1).to(getattr(lib, dtype)).requires_grad_()
        y = layer(lib.nn.functional, x, weight)
        y.backward(lib.cos(lib.arange(y.numel(), dtype=y.dtype)).reshape(y.shape))
        return y, x.grad, weight.grad

    ours, plain, theirs = run(firesteel, True), run(firesteel, False), run(torch, True)
    for mine, other, reference in zip(ours, plain, theirs, strict=True):
        assert_same(mine, reference, tol=20)  # sums of hundreds
        assert_same(mine, other, tol=20)
    assert ours[0].is_contiguous(memory_format=firesteel.channels_last)
    assert ours[0].stride() == theirs[0].stride()

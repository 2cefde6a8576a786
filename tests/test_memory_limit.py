"""Operations that run out of memory, at any point of them: a MemoryError, and operands as they were."""

from collections.abc import Callable

import pytest

import firesteel
import firesteel.nn.functional as F
from firesteel import Tensor

SIDE = 64
# Limits are raised by this many bytes, a fourth of an operand, until the operation has enough.
STEP = SIDE * SIDE
STEPS = 128


def _index(x: Tensor) -> Tensor:
    return firesteel.zeros(SIDE, SIDE, dtype=firesteel.int64)


def _classes() -> Tensor:
    return firesteel.arange(SIDE)


def _image(x: Tensor) -> Tensor:
    return x.view(1, 4, 32, 32)


def _filters(x: Tensor) -> Tensor:
    return x[:4, :36].reshape(4, 4, 3, 3)


def _set(x: Tensor) -> Tensor:
    y = x * 1
    y[y.detach() > 0.5] = 0.0
    return y


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "std": lambda x: x.std(),
    "var": lambda x: x.var(1),
    "half std": lambda x: x.half().std(0),
    "logsumexp": lambda x: x.logsumexp(1),
    "norm": lambda x: x.norm(3),
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(0),
    "arithmetic": lambda x: x * x / (x + 1) - 2,
    "matmul": lambda x: x.t() @ x,
    "addmm": lambda x: firesteel.addmm(x, x, x),
    "einsum": lambda x: firesteel.einsum("ij,jk->ik", x, x),
    "linear": lambda x: F.linear(x, x, x[0]),
    "cumsum": lambda x: x.cumsum(1),
    "cumprod": lambda x: x.cumprod(0),
    "prod": lambda x: x.prod(1),
    "sort": lambda x: x.sort(1)[0],
    "topk": lambda x: x.topk(5, 0)[0],
    "max": lambda x: x.max(1)[0],
    "amax": lambda x: x.amax(0),
    "layer_norm": lambda x: F.layer_norm(x, (SIDE,), x[0], x[1]),
    "batch_norm": lambda x: F.batch_norm(x, x[0].detach() * 1, x[1].detach() * 1, x[0], x[1], True),
    "group_norm": lambda x: F.group_norm(x, 4, x[0], x[1]),
    "rms_norm": lambda x: F.rms_norm(x, (SIDE,), x[0]),
    "cross_entropy": lambda x: F.cross_entropy(x, _classes()),
    "cross_entropy of probabilities": lambda x: F.cross_entropy(
        x, x.detach().softmax(1), weight=x[0].detach(), label_smoothing=0.1
    ),
    "nll_loss": lambda x: F.nll_loss(x, _classes()),
    "mse_loss": lambda x: F.mse_loss(x, x.detach() * 2),
    "smooth_l1_loss": lambda x: F.smooth_l1_loss(x, x.detach() * 3),
    "huber_loss": lambda x: F.huber_loss(x, x.detach() * 3),
    "binary_cross_entropy": lambda x: F.binary_cross_entropy(x.sigmoid(), x.detach()),
    "binary_cross_entropy_with_logits": lambda x: F.binary_cross_entropy_with_logits(
        x, x.detach(), pos_weight=x[0].detach()
    ),
    "conv2d": lambda x: F.conv2d(_image(x), _filters(x), x[0, :4], padding=1),
    "conv_transpose2d": lambda x: F.conv_transpose2d(_image(x), _filters(x), x[0, :4], 2, 0, 1),
    "max_pool2d": lambda x: F.max_pool2d(_image(x), 2),
    "avg_pool2d": lambda x: F.avg_pool2d(_image(x), 2),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(_image(x), 5),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(_image(x), 5),
    "index": lambda x: x[_classes()],
    "mask": lambda x: x[x.detach() > 0.5],
    "set": _set,
    "gather": lambda x: x.gather(1, _index(x)),
    "scatter_add": lambda x: x.scatter_add(1, _index(x), x),
    "half scatter_add": lambda x: x.half().scatter_add(1, _index(x), x.half()),
    "embedding": lambda x: F.embedding(_classes(), x),
    "where": lambda x: firesteel.where(x.detach() > 0.5, x, 0.0),
    "lerp": lambda x: firesteel.lerp(x, x * 2, x),
    "maximum": lambda x: firesteel.maximum(x, x * 0.5),
    "clamp": lambda x: x.clamp(0.2, 0.7),
    "pow": lambda x: x.pow(x) + x**1.5,
    "addcmul": lambda x: firesteel.addcmul(x, x, x),
    "remainder": lambda x: x % 0.3,
    "cat": lambda x: firesteel.cat([x, x]),
    "stack": lambda x: firesteel.stack([x, x], 1),
    "roll": lambda x: x.flip(0).roll(3, 0).tril(),
    "repeat": lambda x: x.repeat(2, 1),
    "activations": lambda x: F.gelu(x) + F.silu(x) + F.softplus(x) + x.tanh() + F.elu(x),
    "dropout": lambda x: F.dropout(x, 0.5),
    "in place": lambda x: (x * 1).mul_(x).exp_(),
    "write to a view": lambda x: (lambda y: (y[1:].mul_(2), y)[1])(x * 1),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_without_memory_raise_a_memory_error(name: str) -> None:
    x = firesteel.rand(SIDE, SIDE).requires_grad_()
    before, failures = x.tolist(), 0
    for step in range(STEPS):
        x.grad = None
        firesteel.empty_cache()
        firesteel.set_memory_limit(firesteel.memory_stats()["allocated_bytes"] + step * STEP)
        try:
            OPERATIONS[name](x).sum().backward()
        except MemoryError:
            failures += 1
        else:
            break
        finally:
            firesteel.set_memory_limit(None)
            assert x.tolist() == before
    else:
        pytest.fail(f"{name} needs more than {STEPS * STEP} bytes")
    assert failures > 0


def test_statistics_of_a_repeated_element_need_no_memory() -> None:
    x = firesteel.tensor([2.0, 3.0]).unsqueeze(1).expand(2, 10**12)
    assert x.var().item() == pytest.approx(0.25)
    assert x.std(1).tolist() == [0.0, 0.0]
    assert x.logsumexp(1).tolist() == pytest.approx([2 + 27.631021, 3 + 27.631021])
    wide = firesteel.tensor([1.0, 3.0]).half().expand(3, 2)
    assert wide.var(0).tolist() == [0.0, 0.0]
    assert wide.var(1).tolist() == [2.0, 2.0, 2.0]
    assert wide.logsumexp(0).tolist() == pytest.approx([2.0986, 4.0986], abs=2e-3)
    assert wide.std(()).item() == pytest.approx(1.0954, abs=1e-3)


def test_an_error_of_a_huge_result_is_no_panic() -> None:
    x = firesteel.ones(1).expand(10**12)
    with pytest.raises(MemoryError):
        F.rms_norm(x, x.shape)

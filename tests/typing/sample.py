"""A program as users write it, with the types that a type checker must find in it.

`tests/test_typing.py` checks it with mypy and runs it.
"""

from __future__ import annotations

from typing import Any, assert_type

import firesteel as torch
import firesteel.nn.functional as F
from firesteel import Tensor, nn
from firesteel.datasets import Digits
from firesteel.utils.data import DataLoader, Subset


class Network(nn.Module):
    """Reads digits of 8 x 8 pixels."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(64, hidden)
        self.last = nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        features = F.relu(self.first(images.flatten(1)))
        return assert_type(F.linear(features, self.last.weight, self.last.bias), Tensor)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the images that are read as their labels."""
    model.eval()
    read = model(images).argmax(1)
    return float((read == labels).float().mean())


@torch.no_grad
def largest(x: Tensor) -> tuple[Tensor, Tensor]:
    """The largest elements of the rows and where they are."""
    values, indices = x.max(dim=1)
    return values, indices


def train() -> float:
    """The training loop of the README, on a few digits."""
    torch.manual_seed(0)
    digits = Digits()
    assert_type(digits[0], tuple[Tensor, ...])
    loader = DataLoader(Subset(digits, range(256)), batch_size=64, shuffle=True)
    model = Network(32)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        for images, labels in loader:
            optimizer.zero_grad()
            loss: Tensor = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            assert_type(loss.item(), int | float | bool)
    assert_type(model.train(), Network)
    assert_type(model.state_dict(), dict[str, Any])
    assert_type(nn.utils.clip_grad_norm_(model.parameters(), 1.0), Tensor)
    return assert_type(accuracy(model, digits.images, digits.labels), float)


def tensors() -> None:
    """What is asked of tensors every day."""
    x = assert_type(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True), Tensor)
    assert_type(x.shape, torch.Size)
    assert_type(x.shape[0], int)
    assert_type(x.shape[1:], torch.Size)
    assert_type(x.size(), torch.Size)
    assert_type(x.size(0), int)
    assert_type(x.dtype, torch.dtype)
    assert_type(x.device, torch.device)
    assert_type(x.requires_grad, bool)
    assert_type(x.grad, Tensor | None)

    assert_type(2 * x + x**2 - 1 / x, Tensor)
    assert_type(x @ x.T, Tensor)
    assert_type(x == 1, Tensor)
    assert_type(x[0, 1:], Tensor)
    assert_type(x[x > 2], Tensor)
    assert_type([row for row in x], list[Tensor])

    assert_type(x.view(3, -1), Tensor)
    assert_type(x.view((3, 2)), Tensor)
    assert_type(x.sum(), Tensor)
    assert_type(x.mean(dim=(0, 1), keepdim=True), Tensor)
    assert_type(x.max(), Tensor)
    assert_type(x.max(0).indices, Tensor)
    assert_type(torch.max(x, x), Tensor)
    assert_type(torch.topk(x, 2).values, Tensor)
    assert_type(largest(x), tuple[Tensor, Tensor])
    assert_type(x.split(1), tuple[Tensor, ...])
    assert_type(torch.where(x > 2, x, 0.0), Tensor)
    assert_type(torch.where(x > 2), tuple[Tensor, ...])
    assert_type(x.nonzero(), Tensor)
    assert_type(x.nonzero(as_tuple=True), tuple[Tensor, ...])
    assert_type(torch.equal(x, x), bool)
    assert_type(torch.allclose(x, x.round(decimals=1)), bool)
    assert_type(torch.round(x.detach(), out=torch.zeros(2, 3)), Tensor)
    assert_type(torch.exp(x.detach(), out=torch.zeros(2, 3)), Tensor)
    assert_type(torch.sort(x.detach(), out=(torch.empty(0), torch.empty(0).long())).indices, Tensor)
    assert_type(torch.absolute(x), Tensor)
    assert_type(torch.greater(x, 1), Tensor)
    assert_type(torch.result_type(x, 1), torch.dtype)

    assert_type(torch.zeros(2, 3, dtype=torch.int64), Tensor)
    assert_type(torch.zeros((2, 3)), Tensor)
    assert_type(torch.arange(0, 1, 0.25), Tensor)
    assert_type(torch.randint(10, (3,), generator=torch.Generator().manual_seed(0)), Tensor)
    assert_type(torch.cat([x, x], dim=1), Tensor)

    with torch.no_grad():
        parameter = assert_type(nn.Parameter(x).add_(1), nn.Parameter)
        parameter -= 1
        assert_type(parameter, nn.Parameter)
        assert_type(parameter + 1, Tensor)
    assert_type(torch.autograd.grad(x.sum(), x), tuple[Tensor | None, ...])


def mistakes(x: Tensor) -> None:
    """What a type checker must refuse: an ignored error that does not arise is an error."""
    x + "1"  # type: ignore[operator]
    x["rows"]  # type: ignore[index]
    x.shape = (2, 3)  # type: ignore[assignment, misc]
    x.view("2, 3")  # type: ignore[arg-type]
    x.no_such_method()  # type: ignore[attr-defined]
    torch.no_such_function()  # type: ignore[attr-defined]
    torch.zeros(2, 3, dtype="float32")  # type: ignore[call-overload]
    torch.cat(x)  # type: ignore[arg-type]
    largest(1)  # type: ignore[arg-type]


if __name__ == "__main__":
    tensors()
    print(f"accuracy {train():.0%}")

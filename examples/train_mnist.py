"""Trains on MNIST: a network of dense layers (mlp) or one with two convolutions (cnn).

    python examples/train_mnist.py --data data/mnist --model cnn

The directory holds the four original files (train-images-idx3-ubyte and so on, with or without .gz). After
every epoch the official test set measures the model; runs/mnist-<model>.safetensors keeps the final weights.
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

import firesteel as torch
from firesteel import nn
from firesteel.datasets import MNIST
from firesteel.utils.data import DataLoader

# Mean and standard deviation of the training pixels: centred inputs learn faster.
MEAN, STD = 0.1307, 0.3081


def make_model(name: str) -> nn.Module:
    """Returns an untrained network: images (batch, 1, 28, 28) -> scores (batch, 10)."""
    if name == "mlp":
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, 256),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=5),  # 28 -> 24
        nn.ReLU(),
        nn.MaxPool2d(2),  # 24 -> 12
        nn.Conv2d(16, 32, kernel_size=5),  # 12 -> 8
        nn.ReLU(),
        nn.MaxPool2d(2),  # 8 -> 4
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * 4 * 4, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def cosine_rates(highest: float, steps: int) -> Iterator[float]:
    """Learning rates that fall from `highest` to 0 along half a cosine wave."""
    return (highest * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps))


def train_epoch(
    model: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    rates: Iterator[float],
    title: str,
) -> float:
    """Goes through the training set once and returns the mean loss."""
    model.train()
    total, seen = 0.0, 0
    progress = tqdm(loader, desc=title, leave=False)
    for images, labels in progress:
        loss = nn.functional.cross_entropy(model((images - MEAN) / STD), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = next(rates)
        optimizer.step()

        total += loss.item() * len(labels)
        seen += len(labels)
        progress.set_postfix(loss=f"{total / seen:.3f}")
    return total / seen


@torch.no_grad()
def measure_accuracy(model: nn.Module, loader: DataLoader) -> float:
    """Returns the part of the images that the model reads right."""
    model.eval()
    correct, seen = 0, 0
    for images, labels in loader:
        correct += (model((images - MEAN) / STD).argmax(1) == labels).sum().item()
        seen += len(labels)
    return correct / seen


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a network on MNIST.")
    parser.add_argument("--data", type=Path, required=True, help="directory with the four MNIST files")
    parser.add_argument("--model", choices=["mlp", "cnn"], default="cnn")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3, help="highest learning rate of Adam")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    args = parser.parse_args()
    if args.epochs < 1:
        parser.error(f"--epochs is {args.epochs}; it must be 1 or more")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {args.out} cannot be a folder: {error}")

    torch.manual_seed(args.seed)
    try:
        train, test = MNIST(args.data, train=True), MNIST(args.data, train=False)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    train_loader = DataLoader(train, batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(test, batch_size=500)
    model = make_model(args.model)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    # The learning rate falls to zero along half a cosine: large steps first, fine ones at the end.
    steps = args.epochs * len(train_loader)
    rates = cosine_rates(args.lr, steps)
    numel = sum(parameter.numel() for parameter in model.parameters())
    print(f"{args.model}: {numel:,} parameters, {len(train):,} images to learn from, {len(test):,} to test")

    for epoch in range(1, args.epochs + 1):
        start = time.perf_counter()
        loss = train_epoch(model, train_loader, optimizer, rates, f"epoch {epoch}/{args.epochs}")
        seconds = time.perf_counter() - start
        accuracy = measure_accuracy(model, test_loader)
        print(f"epoch {epoch:2}: loss {loss:.4f}, test accuracy {accuracy:.2%}, {seconds:.1f} s")

    path = args.out / f"mnist-{args.model}.safetensors"
    torch.save({"name": args.model, "model": model.state_dict(), "epoch": args.epochs}, path)
    print(f"saved {path}")


if __name__ == "__main__":
    main()

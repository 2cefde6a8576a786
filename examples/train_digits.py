"""Trains a small network to read handwritten digits (8x8 pixels, shipped with Firesteel).

    python examples/train_digits.py
    python examples/train_digits.py --model mlp --epochs 30

Four fifths of the 1,797 digits are learned from, one fifth only measures how well unseen digits are read. At
the end runs/digits/ holds the model (checkpoint.safetensors) and its learning curve (curve.png).
"""

import argparse
import time
from pathlib import Path

from tqdm import tqdm

import firesteel as torch
from firesteel import nn
from firesteel.datasets import Digits
from firesteel.utils.data import DataLoader, Subset, random_split


def make_model(name: str) -> nn.Module:
    """Returns an untrained network: images (batch, 1, 8, 8) -> scores (batch, 10)."""
    if name == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def split_digits(seed: int) -> tuple[Subset, Subset]:
    """Returns the digits to learn from and those held out; the same seed gives the same split."""
    train, test = random_split(Digits(), [0.8, 0.2], generator=torch.Generator().manual_seed(seed))
    return train, test


def train_epoch(model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer, title: str) -> float:
    """Goes through the digits once, changing the model after every batch; returns the mean loss."""
    model.train()
    total, seen, correct = 0.0, 0, 0
    progress = tqdm(loader, desc=title, leave=False, mininterval=0, miniters=1)
    for images, labels in progress:
        scores = model(images)
        loss = nn.functional.cross_entropy(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        total += loss.item() * len(labels)
        seen += len(labels)
        correct += (scores.argmax(1) == labels).sum().item()
        progress.set_postfix(loss=f"{total / seen:.3f}", accuracy=f"{correct / seen:.1%}", refresh=False)
    return total / seen


@torch.no_grad()
def measure_accuracy(model: nn.Module, loader: DataLoader) -> float:
    """Returns the part of the digits that the model reads right."""
    model.eval()
    correct, seen = 0, 0
    for images, labels in loader:
        correct += (model(images).argmax(1) == labels).sum().item()
        seen += len(labels)
    return correct / seen


def draw_curve(losses: list[float], accuracies: list[float], path: Path) -> None:
    """Draws the loss and the held-out accuracy of every epoch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    epochs = range(1, len(losses) + 1)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.plot(epochs, losses)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.plot(epochs, [100 * accuracy for accuracy in accuracies], color="tab:green")
    right.set(xlabel="epoch", ylabel="held-out accuracy (%)")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a network to read handwritten digits.")
    parser.add_argument("--model", choices=["mlp", "cnn"], default="cnn")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate of Adam")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/digits"))
    args = parser.parse_args()
    if args.epochs < 1:
        parser.error(f"--epochs is {args.epochs}; it must be 1 or more")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {args.out} cannot be a folder: {error}")

    torch.manual_seed(args.seed)
    train, test = split_digits(args.seed)
    train_loader = DataLoader(train, batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(test, batch_size=256)
    model = make_model(args.model)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)

    losses, accuracies = [], []
    start = time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        losses.append(train_epoch(model, train_loader, optimizer, f"epoch {epoch}/{args.epochs}"))
        accuracies.append(measure_accuracy(model, test_loader))
        print(f"epoch {epoch:2}: loss {losses[-1]:.4f}, held-out accuracy {accuracies[-1]:.2%}")
    seconds = time.perf_counter() - start
    print(f"{len(test)} held-out digits read with accuracy {accuracies[-1]:.2%} after {seconds:.1f} s")

    checkpoint = {
        "name": args.model,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": args.epochs,
        "seed": args.seed,
    }
    torch.save(checkpoint, args.out / "checkpoint.safetensors")
    draw_curve(losses, accuracies, args.out / "curve.png")
    print(f"saved {args.out / 'checkpoint.safetensors'} and {args.out / 'curve.png'}")


if __name__ == "__main__":
    main()

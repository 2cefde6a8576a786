"""Backpropagation written out: a network that reads digits, trained with gradients derived by hand.

Every line of `backward` is the chain rule for one line of `forward`, read from the last to the first. The
program compares each gradient with the one that `loss.backward()` finds (equal to the last bit: the engine
computes the same products), draws the graph, and trains with the gradients by hand alone.

    python examples/backprop_by_hand.py
"""

import argparse
from pathlib import Path

import firesteel as torch
from firesteel.datasets import load_digits

# What each line of `forward` gives, newest first, and how its gradient follows from those above it.
RULES = {
    "log_p": "-1 / n at the label of each row, 0 elsewhere",
    "scores": "d_log_p - softmax(scores) * row sums of d_log_p",
    "b2": "column sums of d_scores",
    "w2": "h.T @ d_scores",
    "h": "d_scores @ w2.T",
    "a": "d_h where a > 0, 0 elsewhere",
    "b1": "column sums of d_a",
    "w1": "x.T @ d_a",
}
PARAMETERS = ("w1", "b1", "w2", "b2")


def make_parameters(hidden):
    """Weights and biases of two layers, 64 pixels -> `hidden` -> 10 digits."""
    sizes = {"w1": (64, hidden), "b1": (hidden,), "w2": (hidden, 10), "b2": (10,)}
    scale = {"w1": (2 / 64) ** 0.5, "b1": 0.0, "w2": (1 / hidden) ** 0.5, "b2": 0.0}
    return {name: scale[name] * torch.randn(size, dtype=torch.float64) for name, size in sizes.items()}


def forward(x, labels, w1, b1, w2, b2):
    """The loss, and every intermediate result that the way back needs."""
    a = x @ w1 + b1  # a row per image, a column per hidden unit
    h = torch.relu(a)
    scores = h @ w2 + b2
    log_p = scores - scores.logsumexp(1, keepdim=True)  # logarithms of probabilities
    loss = -log_p[torch.arange(len(labels)), labels].mean()  # small if the right digits are probable
    return loss, {"a": a, "h": h, "scores": scores, "log_p": log_p}


def backward(x, labels, middle, w2):
    """The derivative of the loss by everything, from the end to the beginning, without autograd."""
    d = {}
    n = len(labels)
    d["log_p"] = torch.zeros_like(middle["log_p"])
    d["log_p"][torch.arange(n), labels] = -1 / n
    # log_p = scores - logsumexp(scores), and the derivative of logsumexp is softmax.
    d["scores"] = d["log_p"] - middle["log_p"].exp() * d["log_p"].sum(1, keepdim=True)
    # scores = h @ w2 + b2: b2 is in every row, and h[i, j] * w2[j, k] is a part of scores[i, k].
    d["b2"] = d["scores"].sum(0)
    d["w2"] = middle["h"].T @ d["scores"]
    d["h"] = d["scores"] @ w2.T
    d["a"] = d["h"] * (middle["a"] > 0)
    d["b1"] = d["a"].sum(0)
    d["w1"] = x.T @ d["a"]
    return d


def compare(x, labels, parameters):
    """The largest difference to autograd's gradients, by name, and the loss with its graph."""
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    loss, middle = forward(x, labels, **leaves)
    for tensor in middle.values():
        tensor.retain_grad()  # else only leaves keep their gradients
    loss.backward(retain_graph=True)
    with torch.no_grad():
        by_hand = backward(x, labels, middle, leaves["w2"])
    known = {**leaves, **middle}
    differences = {name: (by_hand[name] - known[name].grad).abs().max().item() for name in RULES}
    return differences, loss, {"x": x, **known}


def accuracy(x, labels, parameters):
    """The part of the images that are read right."""
    _, middle = forward(x, labels, **parameters)
    return (middle["scores"].argmax(1) == labels).double().mean().item()


def main():
    parser = argparse.ArgumentParser(description="Train on digits with gradients derived by hand.")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/backprop"))
    args = parser.parse_args()
    if args.epochs < 1:
        parser.error(f"--epochs is {args.epochs}; it must be 1 or more")

    torch.manual_seed(0)
    images, labels = load_digits()
    x = images.flatten(1).double()
    order = torch.randperm(len(x))
    train, test = order[:1437], order[1437:]
    parameters = make_parameters(hidden=32)

    first = train[:8]
    differences, loss, known = compare(x[first], labels[first], parameters)
    print(f"one batch of {len(first)} digits, loss {loss.item():.4f}; backwards through the network:\n")
    print(f"{'gradient':<9} {'shape':<9} {'by hand':<48} difference to backward()")
    for name, rule in RULES.items():
        print(f"d_{name:<7} {tuple(known[name].shape)!s:<9} {rule:<48} {differences[name]:.1e}")

    args.out.mkdir(parents=True, exist_ok=True)
    drawing = torch.graph.draw(loss, names={**known, "loss": loss})
    drawing.save(args.out / "graph.svg")
    (args.out / "steps.txt").write_text(f"{torch.graph.explain(loss, names=known)}\n")

    print("\ntraining with the gradients by hand:")
    largest = 0.0
    for epoch in range(1, args.epochs + 1):
        shuffled = train[torch.randperm(len(train))]
        for batch in shuffled.split(32):
            value, middle = forward(x[batch], labels[batch], **parameters)
            d = backward(x[batch], labels[batch], middle, parameters["w2"])
            for name in PARAMETERS:
                parameters[name] -= 0.2 * d[name]  # downhill
        differences, _, _ = compare(x[batch], labels[batch], parameters)
        largest = max(largest, *differences.values())
        if epoch == 1 or epoch % 5 == 0:
            right = accuracy(x[test], labels[test], parameters)
            print(f"epoch {epoch:2}: loss {value.item():.4f}, held-out accuracy {right:.1%}")
    print(f"largest difference to backward(), checked once per epoch: {largest:.1e}")
    print(f"saved {args.out / 'graph.svg'} (the graph) and {args.out / 'steps.txt'} (backward, step by step)")


if __name__ == "__main__":
    main()

"""Shows held-out digits and how the network trained by train_digits.py reads them.

python examples/predict_digits.py --count 6
"""

import argparse
from pathlib import Path

from train_digits import make_model, split_digits

import firesteel as torch

SHADES = " .:-=+*#%@"


def draw(image: torch.Tensor) -> list[str]:
    """Returns an image (1, 8, 8) as eight lines of text, two characters per pixel."""
    darkest = len(SHADES) - 1
    return ["".join(SHADES[round(pixel * darkest)] * 2 for pixel in row) for row in image[0].tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Read held-out digits with a trained network.")
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/digits/checkpoint.safetensors"))
    parser.add_argument("--count", type=int, default=6, help="how many digits to show")
    args = parser.parse_args()
    if args.count < 1:
        parser.error(f"--count is {args.count}; it must be 1 or more")
    if not args.checkpoint.is_file():
        parser.error(f"there is no {args.checkpoint}; run `make train` or examples/train_digits.py first")

    checkpoint = torch.load(args.checkpoint)
    model = make_model(checkpoint["name"])
    model.load_state_dict(checkpoint["model"])
    model.eval()

    _, test = split_digits(checkpoint["seed"])
    for i in range(min(args.count, len(test))):
        image, label = test[i]
        with torch.no_grad():
            chances = model(image.unsqueeze(0)).softmax(1)[0]
        predicted = chances.argmax().item()
        verdict = "right" if predicted == label.item() else "WRONG"
        print("\n".join(draw(image)))
        print(
            f"read as {predicted} ({chances[predicted].item():.1%} sure), it is {label.item()}: {verdict}\n"
        )


if __name__ == "__main__":
    main()

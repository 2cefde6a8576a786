"""A loss with a gradient rule of its own, used to fit a line through points with outliers.

log(cosh(error)) is a parabola for small errors and grows linearly for large ones, so that a few wild points
do not bend the line. Its derivative is tanh(error): the rule below says so, instead of leaving it to the
chain rule, which would keep more than one intermediate result for it. rust/core/examples/custom_op.rs is the
same operation in Rust.

    python examples/custom_function.py
"""

import math

import firesteel as torch


class LogCosh(torch.autograd.Function):
    """ln(cosh(x)), element-wise."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        size = x.abs()
        return size + (-2 * size).exp().log1p() - math.log(2)  # cosh itself would overflow

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.tanh()


def fit(loss, x, y, steps=400):
    """Slope and intercept that minimise `loss` of the errors."""
    slope = torch.zeros((), requires_grad=True)
    intercept = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([slope, intercept], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(slope * x + intercept - y).mean().backward()
        optimizer.step()
    return slope.item(), intercept.item()


def main():
    torch.manual_seed(0)
    check = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LogCosh.apply, (check,))
    assert torch.autograd.gradgradcheck(LogCosh.apply, (check,))
    print("gradcheck: the rule agrees with finite differences, to the second order")

    x = torch.linspace(-1, 1, 100)
    y = 2 * x + 1 + 0.1 * torch.randn(100)
    y[::10] -= 8  # every tenth point is wrong
    print("the points lie on y = 2.00 x + 1.00, but for every tenth")
    for name, loss in [("squares", torch.square), ("log cosh", LogCosh.apply)]:
        slope, intercept = fit(loss, x, y)
        print(f"{name:>9}: y = {slope:.2f} x + {intercept:.2f}")


if __name__ == "__main__":
    main()

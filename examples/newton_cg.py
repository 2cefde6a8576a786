"""Newton's method on a small network, with Hessian-vector products instead of a Hessian.

Gradient descent knows the slope; Newton's method also knows how the slope changes, the Hessian H. Its step p
solves H p = -g. H has n * n elements for n parameters, but conjugate gradients (CG) solve the equation with
products H v alone, and such a product is one more backward pass: the gradient of (g . v).

    python examples/newton_cg.py

Source: Nocedal and Wright, Numerical Optimization, chapters 3 (line search) and 7 (Newton-CG).
"""

import firesteel as torch

SIZES = (2, 10, 10, 1)
PENALTY = 1e-3  # on the squares of the parameters


def make_points(side=20):
    """Points on a square and the height of a wavy surface there."""
    line = torch.linspace(-1, 1, side, dtype=torch.float64)
    x = torch.stack([line.repeat(side), line.view(-1, 1).repeat(1, side).flatten()], 1)
    return x, torch.sin(3 * x[:, 0]) * torch.cos(2 * x[:, 1])


class Problem:
    """The loss as a function of all parameters in one vector, and what its evaluations have cost.

    The cost is counted in gradients. A Hessian-vector product goes through twice as many operations, those of
    the gradient and their own backward pass, and counts as two.
    """

    def __init__(self):
        self.x, self.y = make_points()
        self.shapes = [shape for pair in zip(SIZES, SIZES[1:], strict=False) for shape in (pair, pair[1:])]
        self.lengths = [torch.Size(shape).numel() for shape in self.shapes]
        self.cost = 0

    def loss(self, theta):
        """Mean squared error of a network with tanh, and the penalty."""
        parts = theta.split(self.lengths)
        tensors = [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        h = self.x
        for w, b in zip(tensors[0:-2:2], tensors[1:-2:2], strict=True):
            h = torch.tanh(h @ w + b)
        p = (h @ tensors[-2] + tensors[-1]).squeeze(1)
        return (p - self.y).square().mean() + PENALTY * theta.square().sum()

    def gradient(self, theta):
        """Loss and gradient."""
        self.cost += 1
        theta = theta.detach().requires_grad_()
        loss = self.loss(theta)
        return loss.item(), torch.autograd.grad(loss, theta)[0]

    def curvature(self, theta):
        """Loss, gradient, and the function v -> H v. One recorded backward pass serves all products."""
        self.cost += 1
        theta = theta.detach().requires_grad_()
        loss = self.loss(theta)
        (g,) = torch.autograd.grad(loss, theta, create_graph=True)

        def times_hessian(v):
            self.cost += 2
            return torch.autograd.grad(g, theta, v, retain_graph=True)[0]

        return loss.item(), g.detach(), times_hessian


def solve(times_hessian, g, most=50):
    """A step p with H p = -g, nearly: conjugate gradients, and how many products they took."""
    p = torch.zeros_like(g)
    residual, direction = -g, -g
    enough = min(0.5, g.norm().item() ** 0.5) * g.norm()  # far from the minimum, a rough step will do
    for number in range(1, most + 1):
        h_direction = times_hessian(direction)
        bend = direction @ h_direction
        if bend <= 0:  # the loss bends down along it: no minimum there, so take what there is
            return (direction if number == 1 else p), number
        old = residual @ residual
        length = old / bend
        p = p + length * direction
        residual = residual - length * h_direction
        if residual.norm() <= enough:
            break
        direction = residual + (residual @ residual) / old * direction
    return p, number


@torch.no_grad()
def line_search(problem, theta, loss, g, p, length):
    """The first of length, length / 2, ... that lowers the loss in proportion to the slope (Armijo)."""
    slope = (g @ p).item()
    while length > 1e-10:
        if problem.loss(theta + length * p).item() <= loss + 1e-4 * length * slope:
            return length
        length /= 2
    return 0.0


def newton(problem, theta, steps=150):
    """Newton-CG until the gradient vanishes; prints every tenth step, and all of them near the end."""
    for step in range(1, steps + 1):
        loss, g, times_hessian = problem.curvature(theta)
        p, products = solve(times_hessian, g)
        length = line_search(problem, theta, loss, g, p, 1.0)
        size = g.norm().item()
        if step % 10 == 1 or size < 1e-5:
            print(f"{step:4}  {loss:.6f}  {size:.1e}  {products:11}  {length:6.4f}")
        if size < 1e-8:
            break
        theta = theta + length * p
    return theta


def descend(problem, theta, cost):
    """Gradient descent until it has cost as much; each line search begins at twice the last length."""
    length = 1.0
    while problem.cost < cost:
        loss, g = problem.gradient(theta)
        length = line_search(problem, theta, loss, g, -g, 2 * length)
        theta = theta - length * g
    return theta


def main():
    torch.manual_seed(0)
    problem = Problem()
    start = 0.4 * torch.randn(sum(problem.lengths), dtype=torch.float64)
    v = torch.randn_like(start)
    _, _, times_hessian = problem.curvature(start)
    _, expected = torch.autograd.functional.hvp(problem.loss, start, v)
    error = (times_hessian(v) - expected).abs().max().item()
    print(f"{len(start)} parameters; H v differs from autograd.functional.hvp by {error:.1e}\n")

    print("step      loss  |gradient|  H v products  length")
    problem.cost = 0
    newtons = newton(problem, start)
    cost, problem.cost = problem.cost, 0
    descended = descend(problem, start, cost)
    print(f"\nfor the cost of {cost} gradients, line searches aside:")
    for name, theta in [("gradient descent", descended), ("Newton-CG", newtons)]:
        loss, g = problem.gradient(theta)
        print(f"{name:>16}: loss {loss:.6f}, |gradient| {g.norm().item():.1e}")


if __name__ == "__main__":
    main()

"""What `gradcheck` checks on request: products with the Jacobian, and batches of gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import firesteel
from firesteel.autograd._gradcheck_run import Check, GradcheckError, flat, one_hot, random_like
from firesteel.autograd._recorded import gradients

if TYPE_CHECKING:
    from firesteel import Tensor


class _Products:
    """The Jacobian as `func.jvp` multiplies with it: by the transpose of the backward pass."""

    def __init__(self, check: Check) -> None:
        self._check = check
        wanted = [check.inputs[index] for index in check.wanted]
        self._cotangents = [firesteel.zeros_like(out.detach()).requires_grad_() for out in check.outputs]
        self._grads = gradients(check.outputs, wanted, self._cotangents, create_graph=True, retain_graph=True)

    def along(self, index: int, direction: Tensor) -> list[list[float]]:
        """How each output moves when input number `index` moves in a direction."""
        grad = self._grads[self._check.wanted.index(index)]
        products = gradients([grad], self._cotangents, [direction], create_graph=False, retain_graph=True)
        pairs = zip(products, self._check.outputs, strict=True)
        return [[0.0] * out.numel() if product is None else flat(product) for product, out in pairs]


def check_products(check: Check, fast_mode: bool) -> None:
    """Raises unless products with the Jacobian are what differences say; in fast mode along one direction."""
    products = _Products(check)
    for index in check.wanted:
        x = check.inputs[index]
        if fast_mode:
            direction = random_like(x, check.generator)
            found = products.along(index, direction)
            differences = check.difference(index, direction * check.tolerance.eps)
            for name, one, other in zip(check.output_names, found, differences, strict=True):
                if any(check.tolerance.exceeded(a, n) for a, n in zip(one, other, strict=True)):
                    raise GradcheckError(
                        f"{check.op}: the product (jvp) of the Jacobian of {name} with a random direction of "
                        f"{check.input_names[index]} is {one}, its difference {other}; pass fast_mode=False "
                        "to see which entries are wrong"
                    )
            continue
        columns = [products.along(index, one_hot(x, entry)) for entry in range(x.numel())]
        numeric = check.numeric(index)
        for o, output in enumerate(check.outputs):
            analytic = [[column[o][entry] for column in columns] for entry in range(output.numel())]
            check.compare(o, index, analytic, numeric[o], "product (jvp)")


def check_batches(check: Check) -> None:
    """Raises unless a batch of gradients of an output gives what its entries give one by one."""
    wanted = [check.inputs[index] for index in check.wanted]
    for output, name in zip(check.outputs, check.output_names, strict=True):
        cotangents = [random_like(output, check.generator) for _ in range(2)]
        batch = firesteel.autograd.grad(
            output,
            wanted,
            firesteel.stack(cotangents),
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=True,
        )
        for i, cotangent in enumerate(cotangents):
            for index, alone, together in zip(
                check.wanted, check.grads([output], [cotangent]), batch, strict=True
            ):
                entry = firesteel.zeros_like(alone) if together is None else together[i]
                if any(check.tolerance.exceeded(a, b) for a, b in zip(flat(entry), flat(alone), strict=True)):
                    raise GradcheckError(
                        f"{check.op}: While testing batched gradients: entry {i} of a batch for {name} gives "
                        f"another gradient of {check.input_names[index]} than it gives alone; backward must "
                        "not depend on what ran before it"
                    )

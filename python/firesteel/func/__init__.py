"""Transforms of functions: derivatives (`grad`, `vjp`, `jvp`, `jacrev`, ...), and `vmap` over batches.

They take a function and return another, and so combine: `vmap(grad(loss), (None, 0))` gives a gradient per
example. `functional_call` makes a module such a function.
"""

from ._forward import jacfwd, jvp, linearize
from ._reverse import grad, grad_and_value, hessian, jacrev, vjp
from ._stateless import functional_call, replace_all_batch_norm_modules_, stack_module_state
from ._vmap import vmap

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "replace_all_batch_norm_modules_",
    "stack_module_state",
    "vjp",
    "vmap",
]

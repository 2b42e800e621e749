"""Find the parameter and the input whose gradient is not finite, for the error message of a kernel that is not finite.

A root at zero has an infinite derivative, and 0 times infinity is NaN. So norms of zero vectors, standard deviations of
constants and logarithms of zero may leave outputs finite and gradients not. The search costs one backward pass over all
inputs, and a bisection over fewer and fewer of them.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.blame import nonfinite_reason
>>> from ntkbias.kernels.gradients import Gradients
>>> length = lambda w, x: jnp.linalg.norm(x @ w, axis=-1, keepdims=True)
>>> print(nonfinite_reason(Gradients.of(length, jnp.eye(2)), jnp.array([[1.0, 2.0], [0.0, 0.0]])))
f(params, x) is finite there, but its gradient by params is not, at input 1: ...
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.function import is_differentiated
from ntkbias.kernels.gradients import Gradients

__all__ = ["nonfinite_reason"]

CHECK_SCALE = "Check the scale of inputs and parameters."
ROOTS = (
    "a root, a norm or a logarithm at zero has no finite derivative. Add a small number to its argument, or guard the "
    "argument as well as the result with jnp.where."
)


def nonfinite_reason(gradients: Gradients, *sides: Any) -> str:
    """Say in one or two sentences what is not finite on these inputs, and what to do."""
    for side in sides:
        function, chosen = gradients.outputs_by_params(side)
        finite = np.isfinite(np.asarray(function(chosen).astype(float))).all(1)
        if not finite.all():
            return f"f(params, x) itself is not finite at input {int(np.argmin(finite))}. {CHECK_SCALE}"
        if broken := _broken(gradients, side):
            low, high = 0, len(finite)  # side[low:high] holds the first input with such a gradient
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if _broken(gradients, _rows(side, low, middle)) else (middle, high)
            where = " and ".join(broken)
            return f"f(params, x) is finite there, but its gradient by {where} is not, at input {low}: {ROOTS}"
    return "Check the scale of inputs and parameters, and that ids lie within their tables."


def _broken(gradients: Gradients, x: Any) -> list[str]:
    """The differentiated parameters by which the gradient of the summed outputs is not finite."""
    function, chosen = gradients.outputs_by_params(x)
    found = jax.grad(lambda chosen: jnp.sum(function(chosen)))(chosen)
    names = [
        path
        for path, leaf in zip(gradients.paths, jax.tree.leaves(gradients.params), strict=True)
        if is_differentiated(leaf) and (gradients.only is None or path in gradients.only)
    ]
    return [f"params{name}" for name, leaf in zip(names, found, strict=True) if not bool(jnp.all(jnp.isfinite(leaf)))]


def _rows(x: Any, start: int, stop: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[start:stop], x)

"""Alignment: how much of a kernel lies along given functions.

For a function phi by its values on the n inputs, and weights w (1/n each unless given),

    alignment = phi^T W K W phi / phi^T W phi, and without weights phi^T K phi / (n phi^T phi)

is the Rayleigh quotient of the operator whose eigenvalues a `Spectrum` holds: of an eigenfunction it is the eigenvalue,
of any function a mean of eigenvalues, weighted with the power in each mode. The functions' scale drops out. For an
empirical NTK it is ||sum_i w_i phi(x_i) grad f(x_i)||^2 / sum_i w_i phi(x_i)^2: the rate at which gradient flow on the
targets phi begins (Ortiz-Jimenez, Moosavi-Dezfooli and Frossard 2021, arXiv 2106.06770, whose alpha is n times this).

>>> import jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.alignments import alignment, relative_alignment
>>> kernel, (x, _) = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), nb.domains.Circle().quadrature(64)
>>> spectrum, operator = nb.spectrum(kernel, x), kernel.operator(x)
>>> bool(jnp.allclose(alignment(operator, spectrum.eigenfunctions[:, :5]), spectrum.eigenvalues[:5], rtol=1e-3))
True
>>> float(relative_alignment(operator, spectrum.eigenfunctions).sum())    # shares of the trace
1.00
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import require_finite, require_weights, require_wide
from ntkbias.errors import InputError
from ntkbias.kernels import KernelOperator, as_operator

__all__ = ["alignment", "relative_alignment"]


def alignment(operator: Any, functions: ArrayLike, weights: ArrayLike | None = None) -> Float[Array, "*t"]:
    """phi^T K phi / (n phi^T phi) of each function; with weights w phi^T W K W phi / phi^T W phi.

    `operator` is `kernel.operator(x)`, or what `as_operator` takes: a matrix, also one on disk. `functions` are values
    on the inputs, `(n,)` or `(n, t)`, and for `outputs="all"` `(n, o)` or `(n, o, t)`. n times the result is
    phi^T K phi / phi^T phi.

    All functions share one product, which costs far less than t. Of an empirical NTK's operator it takes the half of
    one, ||J^T phi||^2, and t numbers a parameter, for as many functions at once as a quarter of the kernel's
    `memory_budget` holds.

    Raises `InputError` on functions of another shape, not finite, or zero everywhere.
    """
    op = as_operator(operator)
    phi, shape = _checked_functions(op, functions)
    measure = _measure(op, weights)
    power = np.sum(measure * phi.astype(np.float64) ** 2, 0)
    if not np.all(power > 0):
        raise InputError("Expected functions that are not zero everywhere; got one of zeros. Leave it out.")
    units = phi / np.sqrt(power)  # of power one, which keeps squares within range
    forms = op.quadratic_forms(measure * units)
    if not np.isfinite(forms).all():
        raise InputError(
            "Expected an operator with finite products; got NaN or infinity. Check the scale of inputs and parameters."
        )
    return jnp.asarray(forms, jnp.result_type(float)).reshape(shape)


def relative_alignment(operator: Any, functions: ArrayLike, weights: ArrayLike | None = None) -> Float[Array, "*t"]:
    """`alignment` over the trace, phi^T K phi / (phi^T phi tr K): the share of the kernel along a function.

    From 0 to 1, which a kernel of rank one has along its own mode; over functions that are orthogonal and span all, it
    sums to one. Comparable between kernels of different scale, as along training. Costs the diagonal in addition.
    """
    op = as_operator(operator)
    quotients = alignment(op, functions, weights)
    trace = float(np.sum(_measure(op, weights)[:, 0] * op.diagonal().astype(np.float64)))
    if not trace > 0:
        raise InputError(f"Expected a kernel with a trace above zero; got {trace:.3g}.")
    return quotients / trace


def _checked_functions(op: KernelOperator, functions: ArrayLike) -> tuple[np.ndarray, tuple[int, ...]]:
    """The functions as `(rows, t)`, and the shape of what is asked for."""
    values = require_wide(functions, "the functions")
    inner = (op.num_examples,) if op.num_outputs == 1 else (op.num_examples, op.num_outputs)
    if values.shape[: len(inner)] != inner or values.ndim > len(inner) + 1 or values.size == 0:
        one = f"{inner}, one value {'an input' if len(inner) == 1 else 'an input and output'}"
        raise InputError(f"Expected functions of shape {one}, or with one more axis; got {values.shape}.")
    require_finite(values, "the functions")
    shape = values.shape[len(inner) :]
    return np.asarray(values).astype(op.dtype).reshape(op.shape[0], -1), shape


def _measure(op: KernelOperator, weights: ArrayLike | None) -> Float[np.ndarray, "rows 1"]:
    n = op.num_examples
    measure = np.full(n, 1 / n) if weights is None else np.asarray(require_weights(weights, n), np.float64)
    return np.repeat(measure, op.num_outputs)[:, None]

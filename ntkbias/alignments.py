"""How a kernel is aligned with targets, or with another kernel.

The alignment of two kernels on n inputs is the cosine of the angle between their Gram matrices,

    alignment = <K, L> / (||K|| ||L||),    <K, L> = tr K L,    from 0 to 1 for positive semi-definite ones

which is kernel-target alignment for L = Y Y^T (Cristianini et al. 2001). Centered, it is that of features, and of
targets, less their means over the inputs (Cortes, Mohri and Rostamizadeh 2012, arXiv 1203.0550), known as CKA
(Kornblith et al. 2019, arXiv 1905.00414).

The Rayleigh quotient of a target y, by its values on the inputs with weights w (1/n each unless given),

    y^T W K W y / y^T W y,    and without weights y^T K y / (n y^T y)

is that of the operator whose eigenvalues a `Spectrum` holds: of an eigenfunction it is the eigenvalue, of any function
a mean of eigenvalues, weighted with the power in each mode. For an empirical NTK it is ||sum_i w_i y(x_i) grad
f(x_i)||^2 / sum_i w_i y(x_i)^2: the rate at which gradient flow on the targets y begins (Ortiz-Jimenez,
Moosavi-Dezfooli and Frossard 2021, arXiv 2106.06770, whose alpha is n times this). It does not depend on the scale
of the targets.

>>> import jax.numpy as jnp, ntkbias as nb
>>> kernel, (x, _) = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), nb.domains.Circle().quadrature(64)
>>> [round(float(nb.alignment(kernel, x, wave)), 2) for wave in (x[:, 0], x[:, 0] ** 2 - x[:, 1] ** 2)]
[0.66, 0.24]
>>> round(float(nb.alignment(kernel, x, nb.infinite_ntk(nb.nets.mlp(depth=5, b_std=0.1)))), 2)
0.98
>>> spectrum = nb.spectrum(kernel, x)
>>> quotients = nb.rayleigh_quotient(kernel, x, spectrum.eigenfunctions[:, :5])
>>> bool(jnp.allclose(quotients, spectrum.eigenvalues[:5], rtol=1e-3))
True
>>> float(nb.rayleigh_quotient(kernel, x, spectrum.eigenfunctions, relative=True).sum())    # shares of the trace
1.00
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import (
    key_or_default,
    require_finite,
    require_known,
    require_positive,
    require_weights,
    require_wide,
)
from ntkbias.eigen import Estimate
from ntkbias.eigen.vectors import require_symmetric_products
from ntkbias.errors import InputError
from ntkbias.kernels import Kernel, KernelOperator
from ntkbias.kernels.on_inputs import on_inputs, operator_on, symmetric_matrix
from ntkbias.kernels.operators import Matrix
from ntkbias.types import Inputs

__all__ = ["alignment", "cosine_with_targets", "rayleigh_quotient"]

EXACT_ROWS = 5_000  # up to which the matrix of an operator is formed
NUM_PROBES = 16
ROUNDING = 1e-12  # of targets: far above that of a float64 mean, far below any difference of labels


@on_inputs
def alignment(
    kernel: Any,
    x: Inputs,
    other: Any,
    *,
    centered: bool = True,
    num_probes: int | None = None,
    key: PRNGKeyArray | None = None,
) -> Estimate:
    """<K, L> / (||K|| ||L||) of a kernel with targets, L = Y Y^T, or with another kernel: kernel-target alignment, CKA.

    `kernel` comes with its inputs `x`; an operator, a Gram matrix or one on disk stands in the place of both. `other`
    is one of

        targets        Y `(n,)` or `(n, t)`, for outputs="all" `(n, o)` or `(n, o, t)`, as they stand: one-hot for
        classes a kernel       on the same x another        operator or Gram matrix, `(n, n)` or `(n, o, n, o)`; an
        array `(n, n)` is one, not n targets

    `centered` takes the mean over inputs off the features and the targets, output by output, as in CKA. Without it the
    alignment of most networks is that of their kernel's constant part.

    The result converts by `float()`. Of arrays, and of operators of up to 5,000 rows, it is exact, and its
    `standard_error` zero: that costs the matrix. With `num_probes` p, by default 16 for more rows, the norm of the
    kernel comes from products alone: exactly in the span of p random products with it (and of the targets), and beyond
    by p random vectors orthogonal to these (Meyer et al. 2021, arXiv 2010.09649), drawn by `key` (default: a fixed
    one). That costs products with 4 p vectors, and t for targets; the alignment with targets has an exact numerator.
    The standard error is that over the probes, to first order: two of them hold the alignment in 93 to 95 of 100 cases,
    and in 87 where few eigenvalues outweigh all others beyond the span, so that it is tiny. `numerical_error` bounds
    what rounding of K does, to first order: it is large where centering leaves little of a kernel.

    Raises `InputError` on targets of another shape, not finite, or constant if `centered`, kernels on different numbers
    of inputs, matrices that are not symmetric, and a kernel that is zero, or constant if `centered`.
    """
    require_known((kernel, x, other), "alignment")
    if num_probes is not None:
        require_positive("num_probes", num_probes)
        if num_probes < 2:
            raise InputError("Expected at least 2 probes, whose differences tell the standard error; got 1.")
    key = key_or_default(key)
    known = operator_on(kernel, x)
    second = _second(known, other, x)
    given = all(isinstance(each, Matrix | np.ndarray) for each in (known, second))
    if num_probes is None and (given or known.shape[0] <= EXACT_ROWS):
        return _exact(known, second, centered)
    return _by_probes(known, second, centered, NUM_PROBES if num_probes is None else num_probes, key)


@on_inputs
def rayleigh_quotient(
    kernel: Any,
    x: Inputs,
    targets: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    relative: bool = False,
) -> Float[Array, "*t"]:
    """y^T K y / (n y^T y) of each target; with weights w y^T W K W y / y^T W y.

    `kernel` comes with its inputs `x`; an operator, a Gram matrix or one on disk stands in the place of both. `targets`
    are values on the inputs, `(n,)` or `(n, t)`, and for `outputs="all"` `(n, o)` or `(n, o, t)`. n times the result is
    y^T K y / y^T y. `relative` divides by the trace: the share of the kernel along a target, from 0 to 1, which sums to
    one over targets that are orthogonal and span all, and is comparable between kernels of different scale.

    All targets share one product, which costs far less than t. Of an empirical NTK's operator it takes the half of
    one, ||J^T y||^2, and t numbers a parameter, for as many targets at once as a quarter of the kernel's
    `memory_budget` holds. `relative` costs the diagonal in addition.

    Raises `InputError` on targets of another shape, not finite, or zero everywhere.
    """
    op = operator_on(kernel, x)
    columns, shape = _checked_targets(op, targets)
    measure = _measure(op, weights)
    power = np.sum(measure * columns.astype(np.float64) ** 2, 0)
    if not np.all(power > 0):
        raise InputError("Expected targets that are not zero everywhere; got one of zeros. Leave it out.")
    units = columns / np.sqrt(power)  # of power one, which keeps squares within range
    forms = op.quadratic_forms(measure * units)
    if not np.isfinite(forms).all():
        raise InputError(
            "Expected an operator with finite products; got NaN or infinity. Check the scale of inputs and parameters."
        )
    if relative:
        trace = float(np.sum(measure[:, 0] * op.diagonal().astype(np.float64)))
        if not trace > 0:
            raise InputError(f"Expected a kernel with a trace above zero; got {trace:.3g}.")
        forms = forms / trace
    return jnp.asarray(forms, jnp.result_type(float)).reshape(shape)


def cosine_with_targets(matrix: np.ndarray, norm: float, targets: Float[np.ndarray, "rows t"]) -> float:
    """<K, Y Y^T> / (||K|| ||Y Y^T||) for a matrix of this norm, by ||Y Y^T|| = ||Y^T Y||; NaN where either is zero."""
    power = float(np.linalg.norm(targets.T @ targets))
    if not power * norm > 0:
        return float("nan")
    return float(np.sum(targets * (matrix @ targets))) / (norm * power)


def _second(first: KernelOperator, other: Any, x: Any) -> KernelOperator | np.ndarray:
    """The other kernel's operator on the rows of the first, or the targets `(rows, t)`."""
    n, o = first.num_examples, first.num_outputs
    if isinstance(other, Kernel):
        if x is None:
            raise InputError(
                "Expected alignment(kernel, x, other) of two kernels; got a kernel beside one that knows its inputs. "
                "Give other.operator(x)."
            )
        second = other.operator(x)
    elif isinstance(other, KernelOperator) or hasattr(other, "to_scipy") or hasattr(other, "matmat"):
        second = operator_on(other, None)
    else:
        values = require_wide(other, "targets")
        if values.shape != (n, o, n, o) and (o > 1 or values.shape != (n, n)):
            return _checked_targets(first, values)[0].astype(np.float64)
        second = operator_on(values, None)
    if (second.num_examples, second.num_outputs) != (n, o):
        sizes = [f"{op.num_examples} inputs with {op.num_outputs} outputs" for op in (first, second)]
        raise InputError(f"Expected two kernels on the same inputs and outputs; got {sizes[0]} and {sizes[1]}.")
    return second


def _exact(first: KernelOperator, second: KernelOperator | np.ndarray, centered: bool) -> Estimate:
    matrix, norm, rounding = _measured_matrix(first, centered)
    if isinstance(second, np.ndarray):
        value = cosine_with_targets(matrix, norm, _checked_columns(second, first.num_examples, centered))
    else:
        other, other_norm, more = _measured_matrix(second, centered)
        value, rounding = float(np.vdot(matrix, other)) / (norm * other_norm), rounding + more
    return _estimate(value, 0.0, rounding)


def _measured_matrix(op: KernelOperator, centered: bool) -> tuple[np.ndarray, float, float]:
    """The matrix in float64, centered if asked for, its norm, and what rounding does to a cosine with it."""
    matrix = symmetric_matrix(op)
    whole = norm = float(np.linalg.norm(matrix))
    if centered:
        blocks = matrix.reshape(op.num_examples, op.num_outputs, op.num_examples, op.num_outputs)
        blocks -= blocks.mean(0, keepdims=True)
        blocks -= blocks.mean(2, keepdims=True)
        norm = float(np.linalg.norm(matrix))
    return matrix, norm, _checked_rounding(op, whole, norm, centered)


def _by_probes(
    first: KernelOperator, second: KernelOperator | np.ndarray, centered: bool, num_probes: int, key: PRNGKeyArray
) -> Estimate:
    """Norms and inner products, exactly in the span of what random vectors and targets tell, by probes beyond it."""
    n, rows = first.num_examples, first.shape[0]
    kernels = [first] if isinstance(second, np.ndarray) else [first, second]
    products: list[Any] = [(op.centered() if centered else op).__matmul__ for op in kernels]
    starts, probes = (
        np.asarray(jax.random.normal(one, (rows, num_probes)), np.float64) for one in jax.random.split(key)
    )
    spanning = [times(starts) for times in products]
    if isinstance(second, np.ndarray):
        targets = _checked_columns(second, n, centered)
        spanning.append(targets)
        products.append(lambda block: targets @ (targets.T @ block))
    basis = np.linalg.qr(np.concatenate([block.astype(np.float64) for block in spanning], 1))[0]
    for _ in range(2):  # once leaves rounding of what was taken off
        probes = probes - basis @ (basis.T @ probes)
    inside = [np.asarray(times(basis), np.float64) for times in products]
    beyond = [np.asarray(times(probes), np.float64) for times in products]
    for op, block in zip(kernels, inside, strict=False):
        inner = basis.T @ block
        require_symmetric_products(inner - inner.T, np.linalg.norm(block, axis=0), op.dtype)

    def of_each(left: int, right: int) -> np.ndarray:
        """<K, L> as each probe tells it."""
        return np.vdot(inside[left], inside[right]) + np.sum(beyond[left] * beyond[right], 0)

    both, squares, other_squares = of_each(0, 1), of_each(0, 0), of_each(1, 1)
    norms = np.sqrt([squares.mean(), other_squares.mean()])
    rounding = 0.0
    for op, norm in zip(kernels, norms, strict=False):
        constants = np.tile(np.eye(op.num_outputs), (n, 1)) / n**0.5
        whole = np.sqrt(norm**2 + 2 * np.sum((op @ constants).astype(np.float64) ** 2)) if centered else norm
        rounding += _checked_rounding(op, float(whole), float(norm), centered)
    value = both.mean() / np.prod(norms)
    changes = both / np.prod(norms) - value / 2 * (squares / norms[0] ** 2 + other_squares / norms[1] ** 2)
    return _estimate(value, np.std(changes, ddof=1) / num_probes**0.5, rounding)


def _checked_rounding(op: KernelOperator, whole: float, norm: float, centered: bool) -> float:
    """How far rounding of K may turn it: eps ||K|| over the norm that is left. An `InputError` if that is all."""
    if not whole > 0:
        raise InputError("Expected a kernel that is not zero; got one of zeros.")
    rounding = op.epsilon * whole / norm if norm > 0 else np.inf
    if rounding >= 1:
        assert centered
        raise InputError(
            "Expected a kernel that is not constant over the inputs to within rounding; got one of which centering "
            "leaves nothing. Use centered=False, or float64."
        )
    return rounding


def _checked_columns(columns: np.ndarray, n: int, centered: bool) -> np.ndarray:
    """The targets in units of the largest, less their means over inputs if asked for; an `InputError` on zeros."""
    scale = np.max(np.abs(columns))
    if not scale > 0:
        raise InputError("Expected targets that are not zero everywhere; got zeros alone.")
    columns = columns / scale
    if centered:
        by_input = columns.reshape(n, -1)
        columns = (by_input - by_input.mean(0)).reshape(columns.shape)
        if not np.max(np.abs(columns)) > ROUNDING:
            raise InputError(
                "Expected targets that are not constant over the inputs; got constants alone, of which centering "
                "leaves nothing. Use centered=False."
            )
    return columns


def _estimate(value: float, standard_error: float, rounding: float) -> Estimate:
    """A cosine with its errors: at most one, which rounding may exceed."""
    dtype = jnp.result_type(float)
    return Estimate(*(jnp.asarray(part, dtype) for part in (min(value, 1.0), standard_error, rounding)))


def _checked_targets(op: KernelOperator, targets: ArrayLike) -> tuple[np.ndarray, tuple[int, ...]]:
    """The targets as `(rows, t)`, and the shape of what is asked for."""
    values = require_wide(targets, "targets")
    inner = (op.num_examples,) if op.num_outputs == 1 else (op.num_examples, op.num_outputs)
    if values.shape[: len(inner)] != inner or values.ndim > len(inner) + 1 or values.size == 0:
        one = f"{inner}, one value {'an input' if len(inner) == 1 else 'an input and output'}"
        raise InputError(f"Expected targets of shape {one}, or with one more axis; got {values.shape}.")
    require_finite(values, "targets")
    shape = values.shape[len(inner) :]
    return np.asarray(values).astype(op.dtype).reshape(op.shape[0], -1), shape


def _measure(op: KernelOperator, weights: ArrayLike | None) -> Float[np.ndarray, "rows 1"]:
    n = op.num_examples
    measure = np.full(n, 1 / n) if weights is None else np.asarray(require_weights(weights, n), np.float64)
    return np.repeat(measure, op.num_outputs)[:, None]

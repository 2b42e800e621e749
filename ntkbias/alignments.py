"""The alignment of a kernel with targets or with another kernel, and Rayleigh quotients of targets.

The alignment of two kernels on n inputs is the cosine of the angle between their Gram matrices,

    alignment = <K, L> / (||K|| ||L||),    <K, L> = tr K L,    from 0 to 1 for positive semi-definite ones

For L = Y Y^T this is kernel-target alignment (Cristianini et al. 2001). The centered alignment first subtracts the
means over the inputs from the features and the targets (Cortes, Mohri and Rostamizadeh 2012, arXiv 1203.0550). It is
also known as CKA (Kornblith et al. 2019, arXiv 1905.00414).

The Rayleigh quotient of a target with values y on the inputs and weights w (by default 1/n each) is

    y^T W K W y / y^T W y,    and without weights y^T K y / (n y^T y)

It belongs to the operator whose eigenvalues a `Spectrum` holds. The quotient of an eigenfunction is its eigenvalue. The
quotient of any other function is a mean of eigenvalues, weighted by the function's power in each mode. For an empirical
NTK it equals ||sum_i w_i y(x_i) grad f(x_i)||^2 / sum_i w_i y(x_i)^2, the initial rate of gradient flow on the targets
y (Ortiz-Jimenez, Moosavi-Dezfooli and Frossard 2021, arXiv 2106.06770, whose alpha is n times this). It does not depend
on the scale of the targets.

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
    require_host,
    require_known,
    require_positive,
    require_weights,
)
from ntkbias.eigen import Estimate
from ntkbias.eigen.vectors import require_symmetric_products
from ntkbias.errors import InputError
from ntkbias.kernels import Kernel, KernelOperator
from ntkbias.kernels.on_inputs import on_inputs, operator_on, symmetric_matrix
from ntkbias.kernels.operators import Matrix
from ntkbias.mistaken import require_flag, require_no_labels
from ntkbias.types import Inputs

__all__ = ["alignment", "cosine_with_targets", "rayleigh_quotient"]

EXACT_ROWS = 5_000  # the largest operator whose matrix `alignment` forms
NUM_PROBES = 16
ROUNDING = 1e-12  # relative to the targets: far above the rounding of a float64 mean, far below differences of labels


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
    """The alignment <K, L> / (||K|| ||L||) of a kernel with targets (L = Y Y^T), or with another kernel (CKA).

    `kernel` comes with its inputs `x`. An operator or a Gram matrix, in memory or on disk, replaces both. `other` is
    one of

    - targets Y, `(n,)` or `(n, t)`; for outputs="all", `(n, o)` or `(n, o, t)`. They are used as they are: give classes
      one-hot.
    - a kernel, on the same inputs `x`.
    - an operator, or a Gram matrix `(n, n)` or `(n, o, n, o)`. An array `(n, n)` counts as a Gram matrix, not as n
      targets.

    `centered` subtracts the mean over inputs from the features and the targets, separately for each output, as in CKA.
    Without centering, the constant part of the kernel dominates the alignment of most networks.

    The result converts by `float()`. For arrays, and for operators of up to 5,000 rows, the result is exact and
    `standard_error` is zero; this costs the full matrix. Larger operators use random probes, and so does every call
    that gives `num_probes` p (default: 16). The norm of the kernel then comes from products alone. It is exact in the
    span of p random products with the kernel (and of the targets). Outside that span, p random vectors orthogonal to it
    estimate the norm (Meyer et al. 2021, arXiv 2010.09649). `key` draws all of them (default: a fixed one). The probes
    cost products with 4 p vectors, and with t more for targets. The numerator of an alignment with targets is exact.

    The standard error is computed over the probes, to first order. The alignment lies within two standard errors in 93
    to 95 of 100 cases. The rate falls to 87 if a few eigenvalues outside the span outweigh all others, but the standard
    error is then tiny. `numerical_error` bounds the effect of rounding in K, to first order. It is large if centering
    leaves little of a kernel.

    Raises `InputError` if targets have another shape, are labels, not finite, or constant while `centered`; if kernels
    are on different numbers of inputs; if a matrix is not symmetric; and if a kernel is zero, or constant while
    `centered`.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))
    >>> low, high = circle.harmonics(x, 5)[:, [1, 9]].T
    >>> float(nb.alignment(kernel, x, low)) > 10 * float(nb.alignment(kernel, x, high))
    True
    >>> float(nb.alignment(kernel, x, kernel))  # CKA of two kernels
    1.0
    """
    require_known((kernel, x, other), "alignment")
    require_flag("centered", centered)
    if num_probes is not None:
        require_positive("num_probes", num_probes)
        if num_probes < 2:
            raise InputError("Expected at least 2 probes, whose differences give the standard error; got 1.")
    key = key_or_default(key)
    known = operator_on(kernel, x)
    second = _operator_or_targets(known, other, x)
    given = all(isinstance(each, Matrix | np.ndarray) for each in (known, second))
    if num_probes is None and (given or known.shape[0] <= EXACT_ROWS):
        return _exact_alignment(known, second, centered)
    return _alignment_from_probes(known, second, centered, NUM_PROBES if num_probes is None else num_probes, key)


@on_inputs
def rayleigh_quotient(
    kernel: Any,
    x: Inputs,
    targets: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    relative: bool = False,
) -> Float[Array, "*t"]:
    """The Rayleigh quotient y^T K y / (n y^T y) of each target; with weights w, y^T W K W y / y^T W y.

    `kernel` comes with its inputs `x`. An operator or a Gram matrix, in memory or on disk, replaces both. `targets` are
    values on the inputs, `(n,)` or `(n, t)`; for `outputs="all"`, `(n, o)` or `(n, o, t)`. The result has the shape of
    the target axis, `()` or `(t,)`. n times the unweighted result is y^T K y / y^T y. `relative` divides by the trace.
    The result is then the share of the kernel along a target, from 0 to 1. These shares sum to one over an orthogonal
    basis of targets, and they are comparable between kernels of different scale.

    All targets share one product, which costs far less than t separate ones. The operator of an empirical NTK needs
    only half a product, ||J^T y||^2. That half stores t numbers per parameter, for as many targets at a time as fit in
    a quarter of the kernel's `memory_budget`. `relative` also costs the diagonal.

    Raises `InputError` on targets of another shape, not finite, or zero everywhere.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x)
    >>> quotient = nb.rayleigh_quotient(spectrum.kernel, x, spectrum.eigenfunctions[:, 0])
    >>> bool(abs(quotient / spectrum.eigenvalues[0] - 1) < 1e-4)  # that of an eigenfunction is its eigenvalue
    True
    """
    require_known((kernel, x, targets, weights), "rayleigh_quotient")
    require_flag("relative", relative)
    op = operator_on(kernel, x)
    columns, shape = _checked_targets(op, targets)
    measure = _row_weights(op, weights)
    power = np.sum(measure * columns.astype(np.float64) ** 2, 0)
    if not np.all(power > 0):
        raise InputError("Expected targets that are not zero everywhere; got one of zeros. Leave it out.")
    units = columns / np.sqrt(power)  # power one keeps the squares within range
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
    """<K, Y Y^T> / (||K|| ||Y Y^T||), given ||K||; NaN if either norm is zero. It uses ||Y Y^T|| = ||Y^T Y||."""
    power = float(np.linalg.norm(targets.T @ targets))
    if not power * norm > 0:
        return float("nan")
    return float(np.sum(targets * (matrix @ targets))) / (norm * power)


def _operator_or_targets(first: KernelOperator, other: Any, x: Any) -> KernelOperator | np.ndarray:
    """The operator of the other kernel, checked to match the first, or the targets as `(rows, t)`."""
    n, o = first.num_examples, first.num_outputs
    if isinstance(other, Kernel):
        if x is None:
            raise InputError(
                "Expected alignment(kernel, x, other) of two kernels; got a kernel together with an operator or matrix "
                "that knows its inputs. Give other.operator(x)."
            )
        second = other.operator(x)
    elif isinstance(other, KernelOperator) or hasattr(other, "to_scipy") or hasattr(other, "matmat"):
        second = operator_on(other, None)
    else:
        values = require_host(other, "targets")
        if values.shape != (n, o, n, o) and (o > 1 or values.shape != (n, n)):
            return _checked_targets(first, values)[0].astype(np.float64)
        second = operator_on(values, None)
    if (second.num_examples, second.num_outputs) != (n, o):
        sizes = [f"{op.num_examples} inputs with {op.num_outputs} outputs" for op in (first, second)]
        raise InputError(f"Expected two kernels on the same inputs and outputs; got {sizes[0]} and {sizes[1]}.")
    return second


def _exact_alignment(first: KernelOperator, second: KernelOperator | np.ndarray, centered: bool) -> Estimate:
    matrix, norm, rounding = _matrix_and_norm(first, centered)
    if isinstance(second, np.ndarray):
        value = cosine_with_targets(matrix, norm, _checked_columns(second, first.num_examples, centered))
    else:
        other, other_norm, more = _matrix_and_norm(second, centered)
        value, rounding = float(np.vdot(matrix, other)) / (norm * other_norm), rounding + more
    return _estimate(value, 0.0, rounding)


def _matrix_and_norm(op: KernelOperator, centered: bool) -> tuple[np.ndarray, float, float]:
    """The matrix in float64, centered if asked for; its norm; and the rounding error of a cosine with it."""
    matrix = symmetric_matrix(op)
    uncentered_norm = norm = float(np.linalg.norm(matrix))
    if centered:
        blocks = matrix.reshape(op.num_examples, op.num_outputs, op.num_examples, op.num_outputs)
        blocks -= blocks.mean(0, keepdims=True)
        blocks -= blocks.mean(2, keepdims=True)
        norm = float(np.linalg.norm(matrix))
    return matrix, norm, _checked_rounding(op, uncentered_norm, norm, centered)


def _alignment_from_probes(
    first: KernelOperator, second: KernelOperator | np.ndarray, centered: bool, num_probes: int, key: PRNGKeyArray
) -> Estimate:
    """The alignment from products: exact in the span of random products and targets, estimated by probes outside it."""
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
    for _ in range(2):  # a single pass leaves the rounding of the subtracted part
        probes = probes - basis @ (basis.T @ probes)
    inside = [np.asarray(times(basis), np.float64) for times in products]
    outside = [np.asarray(times(probes), np.float64) for times in products]
    for op, block in zip(kernels, inside, strict=False):
        inner = basis.T @ block
        require_symmetric_products(inner - inner.T, np.linalg.norm(block, axis=0), op.dtype)

    def inner_products(left: int, right: int) -> np.ndarray:
        """The estimate of <K, L> from each probe."""
        return np.vdot(inside[left], inside[right]) + np.sum(outside[left] * outside[right], 0)

    mixed, squares, other_squares = inner_products(0, 1), inner_products(0, 0), inner_products(1, 1)
    norms = np.sqrt([squares.mean(), other_squares.mean()])
    rounding = 0.0
    for op, norm in zip(kernels, norms, strict=False):
        constants = np.tile(np.eye(op.num_outputs), (n, 1)) / n**0.5
        full = np.sqrt(norm**2 + 2 * np.sum((op @ constants).astype(np.float64) ** 2)) if centered else norm
        rounding += _checked_rounding(op, float(full), float(norm), centered)
    value = mixed.mean() / np.prod(norms)
    changes = mixed / np.prod(norms) - value / 2 * (squares / norms[0] ** 2 + other_squares / norms[1] ** 2)
    return _estimate(value, np.std(changes, ddof=1) / num_probes**0.5, rounding)


def _checked_rounding(op: KernelOperator, uncentered_norm: float, norm: float, centered: bool) -> float:
    """How much rounding of K can change a cosine: eps ||K|| over the norm after centering.

    Raises `InputError` if rounding accounts for everything that centering leaves.
    """
    if not uncentered_norm > 0:
        raise InputError("Expected a kernel that is not zero; got one of zeros.")
    rounding = op.epsilon * uncentered_norm / norm if norm > 0 else np.inf
    if rounding >= 1:
        assert centered
        raise InputError(
            "Expected a kernel that varies over the inputs by more than rounding; got one that is zero after "
            "centering. Use centered=False, or float64."
        )
    return rounding


def _checked_columns(columns: np.ndarray, n: int, centered: bool) -> np.ndarray:
    """The targets, divided by their largest value and centered if asked for. Raises `InputError` if nothing is left."""
    scale = np.max(np.abs(columns))
    if not scale > 0:
        raise InputError("Expected targets that are not zero everywhere; got only zeros.")
    columns = columns / scale
    if centered:
        by_input = columns.reshape(n, -1)
        columns = (by_input - by_input.mean(0)).reshape(columns.shape)
        if not np.max(np.abs(columns)) > ROUNDING:
            raise InputError(
                "Expected targets that vary over the inputs; got only constants, which are zero after centering. Use "
                "centered=False."
            )
    return columns


def _estimate(value: float, standard_error: float, rounding: float) -> Estimate:
    """A cosine with its errors. Rounding may push a cosine above one, so it is clipped."""
    dtype = jnp.result_type(float)
    return Estimate(*(jnp.asarray(part, dtype) for part in (min(value, 1.0), standard_error, rounding)))


def _checked_targets(op: KernelOperator, targets: ArrayLike) -> tuple[np.ndarray, tuple[int, ...]]:
    """The targets as `(rows, t)`, and the shape of the result."""
    values = require_host(targets, "targets")
    inner = (op.num_examples,) if op.num_outputs == 1 else (op.num_examples, op.num_outputs)
    if values.shape[: len(inner)] != inner or values.ndim > len(inner) + 1 or values.size == 0:
        one = f"{inner}, one value per {'input' if len(inner) == 1 else 'input and output'}"
        raise InputError(f"Expected targets of shape {one}, or with one more axis; got {values.shape}.")
    require_finite(values, "targets")
    require_no_labels(values)
    shape = values.shape[len(inner) :]
    return values.astype(np.float64).reshape(op.shape[0], -1), shape


def _row_weights(op: KernelOperator, weights: ArrayLike | None) -> Float[np.ndarray, "rows 1"]:
    n = op.num_examples
    measure = np.full(n, 1 / n) if weights is None else np.asarray(require_weights(weights, n), np.float64)
    return np.repeat(measure, op.num_outputs)[:, None]

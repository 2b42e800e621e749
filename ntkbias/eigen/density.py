"""The distribution of a kernel's eigenvalues, and sums over all of them, from products alone.

For an N x N matrix K and a random vector v, uniform on the sphere of squared radius N, E v^T f(K) v = tr f(K). After s
Lanczos steps, Gauss quadrature estimates v^T f(K) v. Its nodes are the eigenvalues of a tridiagonal s x s matrix, and
its weights are N times the squared first entries of the eigenvectors. This method is stochastic Lanczos quadrature
(Ubaru, Chen and Saad 2017). Every number comes with two errors:

    probes            v^T f(K) v varies with v: the standard error of the mean over probes
    steps, rounding   the difference between two rules that bracket the value. No eigenvalue is below zero, so for
                      log(x + r) and x / (x + r) the Gauss rule and the Gauss-Radau rule with a node at zero err on
                      opposite sides (Golub and Meurant 1994).

>>> import ntkbias as nb
>>> from ntkbias.eigen.density import spectral_density
>>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))
>>> x, _ = nb.domains.Circle().quadrature(500)
>>> density = spectral_density(kernel, x, num_steps=20)
>>> count = density.cumulative(1e-2)                     # the constant, and a pair each of frequencies 1 and 2
>>> bool(abs(count.value - 5) < 3 * count.standard_error + count.numerical_error)
True
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray

from ntkbias.checks import (
    key_or_default,
    require_positive,
    require_weights,
)
from ntkbias.eigen.distribution import SpectralDensity, checked_ridge, require_definite
from ntkbias.eigen.estimate import Estimate
from ntkbias.eigen.lanczos import (
    GROUP,
    gauss_rule,
    known_modes,
    probes_at_once,
    probes_of,
    require_nonnegative,
    tridiagonal,
)
from ntkbias.errors import InputError
from ntkbias.kernels.on_inputs import on_inputs, operator_on
from ntkbias.progress import progress
from ntkbias.spectra import Spectrum
from ntkbias.types import Inputs

__all__ = ["SpectralDensity", "effective_dimension", "log_determinant", "spectral_density"]

NUM_PROBES, NUM_STEPS = 16, 64


@on_inputs
def spectral_density(
    kernel: Any,
    x: Inputs,
    *,
    num_probes: int = NUM_PROBES,
    num_steps: int = NUM_STEPS,
    modes: Spectrum | None = None,
    weights: ArrayLike | None = None,
    memory_budget: int | None = None,
    key: PRNGKeyArray | None = None,
) -> SpectralDensity:
    """The distribution of the eigenvalues of K / n, or with `weights` of W^1/2 K W^1/2, from products alone.

    `kernel` comes with its inputs `x`. An operator, or any value that `as_operator` takes, replaces both. The operator
    must be symmetric. All kernels are `definite`, without negative eigenvalues; the Hessian of a loss, made by
    `complexity.hessian_operator`, and `as_operator(matrix, definite=False)` are not. `modes` are its first modes, from
    `top_modes` or `eigh`. They count exactly, and the probes estimate only the rest, which removes most of the variance
    of moments and traces. The function recomputes their residuals, and uses the modes before the first one with a
    residual above 1 % of its eigenvalue. `key` (default: a fixed one) and i determine probe i, so a run with more
    probes repeats the probes of a run with fewer.

    Costs `num_steps` products with a block of `num_probes` vectors, and one product with the modes. `num_steps` is
    clipped to the number of rows. All Lanczos vectors are kept, which takes rows * `num_steps` numbers per probe, and
    each new one is orthogonalized against them twice. `memory_budget` in bytes (default: a quarter of the device's
    memory) limits how many probes share a round of products, but at least one does. A progress bar counts the steps.

    Raises `InputError` for a single probe, for an operator that is not symmetric, has NaN products, or has a negative
    eigenvalue although it is `definite`, and for modes of another operator.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> density = nb.spectral_density(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, num_steps=8, num_probes=4)
    >>> density.nodes.shape  # of each probe
    (4, 8)
    """
    op = operator_on(kernel, x)
    _require_probes(num_probes)
    require_positive("num_steps", num_steps)
    if memory_budget is not None:
        require_positive("memory_budget", memory_budget)
    key = key_or_default(key)
    n, rows = op.num_examples, op.shape[0]
    measure = np.full(n, 1 / n, op.dtype) if weights is None else np.asarray(require_weights(weights, n), op.dtype)
    scaled = op.conjugated(np.sqrt(measure))
    locked, eigenvalues = known_modes(scaled, modes)
    largest = float(np.max(eigenvalues, initial=0))
    num_steps = min(num_steps, rows)
    at_once = probes_at_once(num_probes, rows * (num_steps + GROUP) * op.dtype.itemsize, memory_budget)
    rounds = [range(start, min(start + at_once, num_probes)) for start in range(0, num_probes, at_once)]
    with progress(None, "Lanczos steps", total=len(rounds) * num_steps) as bar:
        parts = [
            tridiagonal(scaled, probes_of(scaled, key, share), num_steps, locked, largest, bar) for share in rounds
        ]
    diagonals, off_diagonals = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not (np.isfinite(diagonals).all() and np.isfinite(off_diagonals).all()):
        raise InputError(
            "Expected an operator whose squared products do not overflow; got overflow. Divide it by its scale first."
        )
    nodes, shares = gauss_rule(diagonals, off_diagonals[:, :-1])
    if op.definite:
        require_nonnegative(nodes, largest, op.dtype)
    squares = np.sum(eigenvalues**2) + (rows - len(eigenvalues)) * np.mean(np.sum(shares * nodes**2, -1))
    dtype = jnp.result_type(float)
    return SpectralDensity(
        diagonals=jnp.asarray(diagonals, dtype),
        off_diagonals=jnp.asarray(off_diagonals, dtype),
        eigenvalues=jnp.asarray(eigenvalues, dtype),
        noise_floor=jnp.asarray(op.epsilon * np.sqrt(squares), dtype),
        num_examples=n,
        num_rows=rows,
        definite=op.definite,
    )


@on_inputs
def log_determinant(
    kernel: Any,
    x: Inputs,
    ridge: ArrayLike,
    *,
    num_probes: int = NUM_PROBES,
    num_steps: int = NUM_STEPS,
    modes: Spectrum | None = None,
    memory_budget: int | None = None,
    key: PRNGKeyArray | None = None,
) -> Estimate:
    """log det(K + ridge I) from products alone, as in the evidence of a Gaussian process. The ridge is added to K.

    `ridge` is a number or an array `(q,)`, and the result has its shape. The other arguments, costs and errors are
    those of `spectral_density`. One density serves any number of ridges: call `density.log_determinant(ridge)`. Raises
    `InputError` unless the ridge is above zero.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> operator = nb.kernels.as_operator(jnp.eye(8))
    >>> round(float(nb.eigen.log_determinant(operator, ridge=1.0, num_probes=2)), 3)  # 8 log 2
    5.545
    """
    checked_ridge(ridge)
    op = operator_on(kernel, x)
    require_definite(op.definite, "log determinant")
    density = spectral_density(
        op, num_probes=num_probes, num_steps=num_steps, modes=modes, memory_budget=memory_budget, key=key
    )
    return density.log_determinant(ridge)


@on_inputs
def effective_dimension(
    kernel: Any,
    x: Inputs,
    ridge: ArrayLike,
    *,
    num_probes: int = NUM_PROBES,
    num_steps: int = NUM_STEPS,
    modes: Spectrum | None = None,
    memory_budget: int | None = None,
    key: PRNGKeyArray | None = None,
) -> Estimate:
    """tr K (K + ridge I)^-1 from products alone: the number of modes that ridge regression learns.

    The arguments, costs and errors are those of `log_determinant`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> round(float(nb.eigen.effective_dimension(nb.kernels.as_operator(jnp.eye(8)), ridge=1.0, num_probes=2)), 3)
    4.0
    """
    checked_ridge(ridge)
    op = operator_on(kernel, x)
    require_definite(op.definite, "effective dimension")
    density = spectral_density(
        op, num_probes=num_probes, num_steps=num_steps, modes=modes, memory_budget=memory_budget, key=key
    )
    return density.effective_dimension(ridge)


def _require_probes(num_probes: Any) -> None:
    require_positive("num_probes", num_probes)
    if num_probes < 2:
        raise InputError("Expected at least 2 probes, whose differences give the standard error; got 1.")

"""Where the eigenvalues of a kernel lie, how many there are of each size, and sums over all of them, by products alone.

A random vector v, uniform on the sphere of squared radius N, has E v^T f(K) v = tr f(K) for an N x N matrix. After s
steps of Lanczos' iteration v^T f(K) v follows by Gauss' rule, whose nodes are the eigenvalues of a tridiagonal s x s
matrix, and whose weights are N times the squared first entries of its eigenvectors: stochastic Lanczos quadrature
(Ubaru, Chen and Saad 2017). Every number has two errors, which come with it:

    probes            how v^T f(K) v differs from v to v: the standard error of the mean over probes
    steps, rounding   no eigenvalue is below zero; so the rule of Gauss and Radau, with one node at zero, errs to the
                      other side than Gauss' own for log(x + r) and x / (x + r) (Golub and Meurant 1994): a bracket

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
from ntkbias.eigen.distribution import SpectralDensity, checked_ridge
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

    `kernel` comes with its inputs `x`; an operator, `kernel.operator(x)`, or what `as_operator` takes, stands in the
    place of both. It is symmetric and has no eigenvalues below zero. `modes` are its first modes, by `top_modes` or
    `eigh`: they count exactly, and the probes see the rest alone. That takes what varies most out of moments and
    traces; they are used up to the first whose residual, computed again, exceeds 1 % of its eigenvalue. Probe i is
    drawn by `key` (default: a fixed one) and i: more probes go on where fewer end.

    Costs `num_steps` products with a block of `num_probes` vectors, and one with the modes. `num_steps` is taken to be
    the number of rows at most. All Lanczos vectors are kept, and each new one is made orthogonal to them twice: rows *
    `num_steps` numbers a probe. Probes beyond those that fit `memory_budget` bytes (by default a quarter of the
    device's memory), but one at least, wait for another round of products. A progress bar counts the steps.

    Raises `InputError` for a single probe, an operator that is not symmetric, has a negative eigenvalue or products
    that are NaN, and modes of another operator.
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
            "Expected an operator whose products have squares within range; got overflow. Divide it by its scale first."
        )
    nodes, shares = gauss_rule(diagonals, off_diagonals[:, :-1])
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
    """log det(K + ridge I) from products alone, as in a Gaussian process's evidence: the ridge is added to K.

    Arguments, costs and errors are those of `spectral_density`. Of one density any number of ridges can be read off:
    `density.log_determinant(ridge)`. Raises `InputError` unless the ridge is above zero.
    """
    checked_ridge(ridge)
    op = operator_on(kernel, x)
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
    """tr K (K + ridge I)^-1 from products alone, the number of modes that ridge regression learns.

    See `log_determinant`, whose arguments, costs and errors it has.
    """
    checked_ridge(ridge)
    op = operator_on(kernel, x)
    density = spectral_density(
        op, num_probes=num_probes, num_steps=num_steps, modes=modes, memory_budget=memory_budget, key=key
    )
    return density.effective_dimension(ridge)


def _require_probes(num_probes: Any) -> None:
    require_positive("num_probes", num_probes)
    if num_probes < 2:
        raise InputError("Expected at least 2 probes, whose differences tell the standard error; got 1.")

"""The whole spectrum of a matrix that fits in memory.

With W = diag(w), the eigenvalues are those of the symmetric problem W^1/2 K W^1/2 v = eigenvalue v, and the
eigenfunctions are phi = W^-1/2 v.

>>> import jax.numpy as jnp, ntkbias as nb
>>> spectrum = nb.eigen.eigh(jnp.diag(jnp.array([4.0, 4.0, 2.0, 0.0])))
>>> spectrum.eigenvalues.tolist(), spectrum.eigenspace.tolist(), spectrum.num_above_noise
([1.0, 1.0, 0.5, 0.0], [0, 0, 1, 2], 3)
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import is_known, require_array, require_finite, require_positive, require_weights, widened
from ntkbias.errors import InputError
from ntkbias.spectra import Spectrum

__all__ = ["CHEAP", "checked_num_modes", "eigenspaces", "eigh", "require_positive_definite", "signed"]

CHEAP = 5_000  # up to this many rows, a float32 matrix is decomposed in float64; beyond, that takes minutes


def eigh(K: ArrayLike, *, weights: ArrayLike | None = None, num_modes: int | None = None) -> Spectrum:
    """The spectrum of a Gram matrix `(n, n)`, or `(n, o, n, o)` for all pairs of outputs.

    Conventions, `weights` and `num_modes` are those of `spectrum`. A float32 matrix of up to 5,000 rows is decomposed
    in float64. The noise floor, eps ||K||_F / n, is the change that rounding can make to an eigenvalue; eps is the
    machine epsilon of K's type plus that of the decomposition's. Neighboring eigenvalues share an `eigenspace` if they
    differ by less than the noise floor plus sqrt(eps) of their size. The sign of each eigenfunction makes its third
    moment positive.

    Costs about 10 N^3 operations for N = n o rows. Raises `InputError` if K is not square, symmetric, finite and
    positive semi-definite to within rounding.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.eigen.eigh(jnp.diag(jnp.array([4.0, 2.0]))).eigenvalues.round(4).tolist()  # of K / n
    [2.0, 1.0]
    """
    gram = _checked_gram(require_array(K, "K"))
    n, o = len(gram), gram.shape[1] if gram.ndim == 4 else 1
    kept = checked_num_modes(num_modes, n * o)
    epsilon, gram = float(jnp.finfo(gram.dtype).eps), widened(gram)
    measure = jnp.asarray(np.full(n, 1 / n, gram.dtype)) if weights is None else require_weights(weights, n)
    matrix, roots, norm, trace = _weighted(gram, measure)
    values, vectors, residuals = _decompose(matrix)

    solver = epsilon if n * o > CHEAP else min(epsilon, float(np.finfo(np.float64).eps))
    require_positive_definite(values, epsilon, None if weights is not None else n)
    modes = _modes(values, vectors, residuals, roots, norm, epsilon + solver, epsilon**0.5, kept)
    functions = modes["eigenfunctions"].reshape(*gram.shape[: gram.ndim // 2], -1)
    return Spectrum(**{**modes, "eigenfunctions": functions}, trace=trace, weights=measure)


@jax.jit
def _weighted(gram: Array, measure: Array) -> tuple[Array, Array, Array, Array]:
    """W^1/2 K W^1/2, the square root of each row's weight, and the norm and trace of the matrix."""
    rows = round(gram.size**0.5)
    roots = jnp.repeat(jnp.sqrt(measure.astype(gram.dtype)), rows // len(gram))
    matrix = roots[:, None] * gram.reshape(rows, rows) * roots
    return (matrix + matrix.T) / 2, roots, _norm(matrix), jnp.trace(matrix)


@partial(jax.jit, static_argnums=(5, 6, 7))
def _modes(
    values: Array,
    vectors: Array,
    residuals: Array,
    roots: Array,
    norm: Array,
    rounding: float,
    relative_gap: float,
    kept: int,
) -> dict[str, Array]:
    """The fields of a `Spectrum` for the first `kept` eigenpairs."""
    noise_floor = rounding * norm
    functions = signed(vectors[:, :kept] / roots[:, None], roots[:, None])
    return {
        "eigenvalues": values[:kept],
        "eigenfunctions": functions,
        "eigenspace": eigenspaces(values[:kept], noise_floor, relative_gap),
        "residuals": residuals[:kept],
        "noise_floor": noise_floor,
    }


def _norm(matrix: Float[Array, "rows rows"]) -> Float[Array, ""]:
    """||K||_F, computed so that squares of the entries do not overflow."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(matrix)))
    scale = jnp.where(largest > 0, largest, 1.0)
    return scale * jnp.linalg.norm(matrix / scale)


@jax.jit
def signed(functions: Float[Array, "rows k"], roots: Float[Array, "rows 1"]) -> Float[Array, "rows k"]:
    """The eigenfunctions with the sign that gives a positive third moment; `roots` are square roots of the weights."""
    skewness = jnp.sum(roots**2 * functions**3, axis=0)
    return jnp.where(skewness < 0, -functions, functions)


def _decompose(matrix: Array) -> tuple[Array, Array, Array]:
    """Eigenvalues (descending), eigenvectors and residual norms of a symmetric matrix, in float64 if that is cheap."""
    try:
        host = np.asarray(matrix)
    except jax.errors.TracerArrayConversionError:  # inside jit, vmap or grad: use JAX, in the matrix's own type
        values, vectors = jnp.linalg.eigh(matrix)
        residuals = jnp.linalg.norm(matrix @ vectors - vectors * values, axis=0)
        return values[::-1], vectors[:, ::-1], residuals[::-1]
    if len(host) <= CHEAP:
        host = host.astype(np.float64)
    values, vectors = np.linalg.eigh(host)
    values, vectors = values[::-1], vectors[:, ::-1]
    residuals = np.linalg.norm(host @ vectors - vectors * values, axis=0)
    return tuple(jnp.asarray(each.astype(matrix.dtype)) for each in (values, vectors, residuals))  # type: ignore[return-value]


@jax.jit
def eigenspaces(values: Float[Array, " k"], noise_floor: Array, relative_gap: float | Array) -> Array:
    """One number per mode; neighbors whose eigenvalues cannot be distinguished have the same number."""
    gaps = values[:-1] - values[1:]
    apart = gaps > noise_floor + relative_gap * jnp.abs(values[:-1])
    return jnp.concatenate([jnp.zeros(1, int), jnp.cumsum(apart)])


def _checked_gram(K: Array) -> Array:
    if K.ndim not in (2, 4) or K.shape[: K.ndim // 2] != K.shape[K.ndim // 2 :] or K.size == 0:
        raise InputError(f"Expected a square matrix (n, n), or (n, o, n, o) for all outputs; got shape {K.shape}.")
    if not jnp.issubdtype(K.dtype, jnp.floating):
        K = K.astype(float)
    require_finite(K, "the kernel's Gram matrix")
    largest, difference = _extremes(K)
    try:
        symmetric = float(difference) <= float(jnp.finfo(K.dtype).eps) ** 0.5 * float(largest)
    except jax.errors.ConcretizationTypeError:
        return K
    if not symmetric:
        raise InputError(
            f"Expected a symmetric matrix; got entries that differ from their mirror image by up to {difference:.2g}, "
            f"compared with a largest entry of {largest:.2g}. Evaluate the kernel on one set of inputs, kernel(x)."
        )
    return K


@jax.jit
def _extremes(gram: Array) -> tuple[Array, Array]:
    """The largest entry, and the largest difference between an entry and its mirror image."""
    rows = round(gram.size**0.5)
    matrix = gram.reshape(rows, rows)
    return jnp.max(jnp.abs(matrix)), jnp.max(jnp.abs(matrix - matrix.T))


def checked_num_modes(num_modes: int | None, rows: int) -> int:
    """The number of modes to keep, by default all; an `InputError` if it exceeds the number of rows."""
    if num_modes is None:
        return rows
    require_positive("num_modes", num_modes)
    if num_modes > rows:
        raise InputError(f"Expected num_modes to be at most the number of rows, {rows}; got {num_modes}.")
    return num_modes


def require_positive_definite(values: Array, epsilon: float, n: int | None = None) -> None:
    """Raise an `InputError` if an eigenvalue is more negative than rounding can make it.

    Rounding makes eigenvalues negative by multiples of the noise floor, but not by sqrt(eps) of the largest one.
    `values` are eigenvalues of K / n, descending. If `n` is given, the message quotes those of K.
    """
    if not is_known(values):
        return
    least, largest = (float(value) for value in np.asarray(values)[[-1, 0]])
    largest = abs(largest)
    if least < -(epsilon**0.5) * max(largest, -least):
        raise InputError(
            f"Expected a positive semi-definite kernel; got an eigenvalue of {(n or 1) * least:.3g}, with a largest "
            f"of {(n or 1) * largest:.3g}{'' if n else ' (both of K / n)'}. A kernel of inner products has no negative "
            "eigenvalues: check how K was made."
        )

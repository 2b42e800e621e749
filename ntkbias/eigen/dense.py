"""Ways to the spectrum of a kernel.

`spectrum(kernel, x)` evaluates the kernel and decomposes its Gram matrix; `eigh(K)` serves a matrix from elsewhere.
With W = diag(w) they solve the symmetric problem W^1/2 K W^1/2 v = eigenvalue v, and phi = W^-1/2 v.

>>> import jax.numpy as jnp, ntkbias as nb
>>> spectrum = nb.eigh(jnp.diag(jnp.array([4.0, 4.0, 2.0, 0.0])))
>>> spectrum.eigenvalues.tolist(), spectrum.eigenspace.tolist(), spectrum.num_resolved
([1.0, 1.0, 0.5, 0.0], [0, 0, 1, 2], 3)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.kernels import Kernel
from ntkbias.spectrum import Spectrum
from ntkbias.types import InputError, InputTypeError, require_array, require_finite, require_positive, require_weights

__all__ = ["eigh", "spectrum"]

CHEAP = 5_000  # rows up to which a float32 matrix is decomposed in float64: minutes beyond


def spectrum(
    kernel: Kernel, x: ArrayLike, weights: ArrayLike | None = None, *, num_modes: int | None = None
) -> Spectrum:
    """The eigenvalues and eigenfunctions of `kernel` on the inputs `x` `(n, ...)`.

    `weights` `(n,)` are positive and sum to one: quadrature weights, or none for a sample of the distribution. The
    result keeps x and the kernel, so that its eigenfunctions extend to new inputs. `num_modes` keeps the first ones
    alone. Costs the kernel, then about 10 n^3 operations and 3 n^2 numbers of memory (n o instead of n for
    `outputs="all"`).

    Raises `InputError` on what the kernel or `eigh` refuses, and on a kernel with `outputs="each"`: take one output.
    """
    if not isinstance(kernel, Kernel):
        raise InputTypeError(
            f"Expected a kernel, e.g. empirical_ntk(f, params); got {type(kernel).__name__}. For a matrix use eigh(K)."
        )
    if kernel.outputs == "each":
        raise InputError(
            "Expected a kernel with one value or one matrix a pair of inputs; got outputs='each'. "
            "Use outputs='mean', 'sum' or 'all', or eigh(kernel(x)[i]) for output i."
        )
    x = require_array(x, "x")
    if weights is not None:
        weights = require_weights(weights, len(x) if x.ndim else 0)
    modes = eigh(kernel(x), weights, num_modes=num_modes)
    return Spectrum(**{**vars(modes), "x": x, "kernel": kernel})


def eigh(K: ArrayLike, weights: ArrayLike | None = None, *, num_modes: int | None = None) -> Spectrum:
    """The spectrum of a Gram matrix `(n, n)`, or `(n, o, n, o)` for all pairs of outputs; see `spectrum`.

    A float32 matrix of up to 5,000 rows is decomposed in float64. The noise floor is eps ||K||_F / n, with eps the
    sum of those of the type of K and of the decomposition: what rounding can do to an eigenvalue. Eigenvalues nearer to
    each other than that, or than sqrt(eps) of their size, share an `eigenspace`. Of the two signs an eigenfunction has
    the one with a positive third moment.

    Raises `InputError` if K is not square, symmetric, finite and positive semi-definite to within rounding.
    """
    gram = _checked_gram(require_array(K, "K"))
    n, o = len(gram), gram.shape[1] if gram.ndim == 4 else 1
    measure = jnp.full(n, 1 / n, gram.dtype) if weights is None else require_weights(weights, n)
    roots = jnp.repeat(jnp.sqrt(measure.astype(gram.dtype)), o)
    matrix = roots[:, None] * gram.reshape(n * o, n * o) * roots
    values, vectors, residuals = _decompose((matrix + matrix.T) / 2)

    epsilon = float(jnp.finfo(gram.dtype).eps)
    solver = epsilon if n * o > CHEAP else min(epsilon, float(np.finfo(np.float64).eps))
    noise_floor = (epsilon + solver) * jnp.linalg.norm(matrix)
    _require_positive_definite(values, epsilon)
    functions = vectors / roots[:, None]
    skewness = jnp.sum(roots[:, None] ** 2 * functions**3, axis=0)
    functions = jnp.where(skewness < 0, -functions, functions)  # of the two signs the one with the long positive tail
    functions = functions.reshape(*gram.shape[: gram.ndim // 2], -1)
    keep = slice(_checked_num_modes(num_modes, n * o))
    return Spectrum(
        eigenvalues=values[keep],
        eigenfunctions=functions[..., keep],
        eigenspace=_eigenspaces(values[keep], noise_floor, epsilon**0.5),
        trace=jnp.trace(matrix),
        residuals=residuals[keep],
        noise_floor=noise_floor,
        weights=measure,
    )


def _decompose(matrix: Array) -> tuple[Array, Array, Array]:
    """Eigenvalues, descending, eigenvectors and residual norms of a symmetric matrix; float64 where that is cheap."""
    try:
        host = np.asarray(matrix)
    except jax.errors.TracerArrayConversionError:  # inside jit, vmap or grad: with JAX, in the type at hand
        values, vectors = jnp.linalg.eigh(matrix)
        residuals = jnp.linalg.norm(matrix @ vectors - vectors * values, axis=0)
        return values[::-1], vectors[:, ::-1], residuals[::-1]
    if len(host) <= CHEAP:
        host = host.astype(np.float64)
    values, vectors = np.linalg.eigh(host)
    values, vectors = values[::-1], vectors[:, ::-1]
    residuals = np.linalg.norm(host @ vectors - vectors * values, axis=0)
    return jnp.asarray(values, matrix.dtype), jnp.asarray(vectors, matrix.dtype), jnp.asarray(residuals, matrix.dtype)


def _eigenspaces(values: Float[Array, " k"], noise_floor: Array, relative_gap: float) -> Array:
    """A number a mode, the same for neighbours whose eigenvalues cannot be told apart."""
    gaps = values[:-1] - values[1:]
    apart = gaps > noise_floor + relative_gap * jnp.abs(values[:-1])
    return jnp.concatenate([jnp.zeros(1, int), jnp.cumsum(apart)])


def _checked_gram(K: Array) -> Array:
    if K.ndim not in (2, 4) or K.shape[: K.ndim // 2] != K.shape[K.ndim // 2 :] or K.size == 0:
        raise InputError(f"Expected a square matrix (n, n), or (n, o, n, o) for all outputs; got shape {K.shape}.")
    if not jnp.issubdtype(K.dtype, jnp.floating):
        K = K.astype(float)
    require_finite(K, "the kernel's Gram matrix")
    rows = round(K.size**0.5)
    matrix = K.reshape(rows, rows)
    largest, difference = jnp.max(jnp.abs(matrix)), jnp.max(jnp.abs(matrix - matrix.T))
    try:
        symmetric = bool(difference <= jnp.finfo(K.dtype).eps ** 0.5 * largest)
    except jax.errors.ConcretizationTypeError:
        return K
    if not symmetric:
        raise InputError(
            f"Expected a symmetric matrix; got entries that differ from their mirror image by up to {difference:.2g}, "
            f"beside a largest entry of {largest:.2g}. Evaluate the kernel on one set of inputs, kernel(x)."
        )
    return K


def _checked_num_modes(num_modes: int | None, rows: int) -> int:
    if num_modes is None:
        return rows
    require_positive("num_modes", num_modes)
    if num_modes > rows:
        raise InputError(f"Expected num_modes to be at most the number of rows, {rows}; got {num_modes}.")
    return num_modes


def _require_positive_definite(values: Array, epsilon: float) -> None:
    """Rounding makes eigenvalues negative by multiples of the noise floor, not by sqrt(eps) of the largest."""
    try:
        least, largest = float(values[-1]), float(jnp.abs(values[0]))
    except jax.errors.ConcretizationTypeError:
        return
    if least < -(epsilon**0.5) * max(largest, -least):
        raise InputError(
            f"Expected a positive semi-definite kernel; got an eigenvalue of {least:.3g} beside a largest of "
            f"{largest:.3g}. A kernel of inner products has none below zero: check how K was made."
        )

"""Weights that make a sample represent a domain: the density of the sample drops out of every mean over inputs.

Inputs that crowd in one place count too much. The spectrum, its frequencies and the training loss then describe the
sample, not the domain. Quadrature weights c correct this exactly for harmonics up to a degree:

    sum_i c_i Y(x_i) = mean of Y over the domain,    c >= 0,    sum_i c_i^2 least.

The solution is c = max(A^T nu, 0) with A = Y^T, where nu comes from a semismooth Newton iteration (Yu, Yang and
Townsend 2022, arXiv 2205.14300). Without harmonics, an estimate of the density gives rough weights. All weights sum to
one.

>>> import jax, jax.numpy as jnp
>>> from ntkbias.domains import Circle, quadrature_weights
>>> circle = Circle()
>>> x = circle.point(jnp.concatenate([jnp.arange(12) * jnp.pi / 6, jnp.linspace(0.1, 0.4, 20)]))    # crowded
>>> weights = quadrature_weights(circle, x, 4)
>>> moments = weights @ circle.harmonics(x, 4)
>>> float(moments[0]), bool(jnp.abs(moments[1:]).max() < 1e-6), bool(weights.min() >= 0)
(1.0, True, True)
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_finite, require_known, require_positive, require_wide
from ntkbias.domains.domain import HarmonicDomain, whole_number
from ntkbias.domains.point_cloud import PointCloud
from ntkbias.errors import InputError, InputTypeError

__all__ = ["Merged", "density_weights", "merge_coinciding", "minimum_norm_weights", "quadrature_weights"]

_MAX_NEWTON_STEPS = 100  # about ten are usual
_TOLERANCE = 1e-12  # of the moments in float64; each is a sum of n terms with mean one


def quadrature_weights(domain: HarmonicDomain, x: ArrayLike, max_degree: int) -> Float[Array, " n"]:
    """Weights `(n,)`, zero or more, that give the exact mean of every harmonic up to `max_degree`. They sum to one.

    Among all such weights these have the least sum of squares. A product of two harmonics has the sum of their degrees,
    so take `max_degree` = 2 l for a spectrum or a loss on degrees up to l. `spectrum` requires positive weights: leave
    out the inputs with weight zero. The weights are solved for in float64. Their moments are exact to 1e-12, for
    harmonics evaluated in JAX's float type. With h harmonics a Newton step costs n h^2 multiplications, and there are
    about ten steps.

    Raises `InputError` if no such weights exist, which happens if a gap among the inputs is wider than about half a
    wavelength. Raises it also if inputs coincide: `merge_coinciding` merges them.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> weights = nb.domains.quadrature_weights(circle, x, 3)
    >>> bool(weights.min() >= 0), bool(abs(weights @ circle.harmonics(x, 3)[:, 1:]).max() < 1e-5)
    (True, True)
    """
    points, moments = _moments(domain, x, max_degree)
    weights, residual, exist = _dual_newton(moments, _means(domain, max_degree))
    if residual > 1e3 * _TOLERANCE:
        why = f"were found only to a residual of {residual:.2g}" if exist else "do not exist"
        raise InputError(
            f"Expected inputs with nonnegative weights that are exact to degree {max_degree}; got {len(points)} inputs "
            f"on which they {why}. Choose a smaller max_degree, fill the gaps among the inputs, or use "
            "density_weights(x)."
        )
    return jnp.asarray(weights, _float_type(points))


def minimum_norm_weights(domain: HarmonicDomain, x: ArrayLike, max_degree: int) -> Float[Array, " n"]:
    """Exact weights `(n,)` with the least sum of squares. Some may be negative, so they serve for comparison only.

    If all are positive, they equal `quadrature_weights`. Raises `InputError` if the inputs are too few or too crowded
    for exact weights.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> weights = nb.domains.minimum_norm_weights(circle, x, 3)
    >>> round(float(weights.sum()), 4)
    1.0
    """
    points, moments = _moments(domain, x, max_degree)
    means = _means(domain, max_degree)
    weights = scipy.linalg.lstsq(moments, means)[0]
    residual = float(np.abs(moments @ weights - means).max())
    if residual > 1e3 * _TOLERANCE:
        raise InputError(
            f"Expected inputs with weights that are exact to degree {max_degree}; got {len(points)} inputs on which "
            f"they leave a residual of {residual:.2g}. Choose a smaller max_degree."
        )
    return jnp.asarray(weights, _float_type(points))


def density_weights(
    x: ArrayLike, *, dimension: int | None = None, num_neighbors: int | None = None
) -> Float[Array, " n"]:
    """Weights `(n,)` proportional to 1 / density at each input. They sum to one.

    The weight of an input is proportional to r^m, where r is the distance to its q-th nearest neighbor. q is
    `num_neighbors` (default: sqrt n, at least 5). m is `dimension`, that of the manifold on which the inputs lie; by
    default it is estimated as in `PointCloud`. `x` is `(n, ...)` and is flattened.

    The relative error of one weight is about 1 / sqrt(q). Where the density changes or ends within r, the weights are
    biased towards its mean. They suffice for a ranking and are too rough for an exact spectrum. Costs one neighbor
    search.

    Raises `InputError` if q other inputs coincide with an input, or if q is n or more.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> x = jnp.concatenate([jnp.linspace(0, 1, 16), jnp.linspace(2, 9, 8)])[:, None]
    >>> weights = nb.domains.density_weights(x)
    >>> bool(weights[-2] > 3 * weights[2])  # sparse points count more
    True
    """
    from sklearn.neighbors import NearestNeighbors  # it takes long to load

    points = _checked_points(x)
    count = max(5, round(len(points) ** 0.5)) if num_neighbors is None else num_neighbors
    require_positive("num_neighbors", count)
    if count >= len(points):
        raise InputError(f"Expected more inputs than neighbors; got {len(points)} for {count} neighbors.")
    cloud = PointCloud(count, dimension)
    m = cloud.dimension if cloud.dimension is not None else cloud.intrinsic_dimension(points)
    flat = np.asarray(points, float).reshape(len(points), -1)
    radius = NearestNeighbors(n_neighbors=count).fit(flat).kneighbors()[0][:, -1]
    if not radius.min() > 0:
        raise InputError(
            f"Expected at most {count} inputs in one place; got {int(np.sum(radius == 0))} with {count} others at "
            "distance zero. Use merge_coinciding first, or more neighbors."
        )
    volume = np.exp(m * (np.log(radius) - np.log(radius).max()))  # a power of the distances themselves may overflow
    return jnp.asarray(volume / volume.sum(), _float_type(points))


class Merged(NamedTuple):
    """Distinct inputs `x` `(m, ...)`, in the order of their first appearance among n original inputs.

    `weights` `(m,)` is the share of the original inputs that each one stands for. `inverse` `(n,)` is the index in `x`
    of each original input. `first` `(m,)` is the index of the first original of each, so `y[first]` are the targets.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> merged = nb.domains.merge_coinciding(jnp.array([[0.0], [1.0], [0.0]]))
    >>> merged.inverse.tolist(), merged.first.tolist()
    ([0, 1, 0], [0, 1])
    """

    x: Array
    weights: Array
    inverse: Int[np.ndarray, " n"]
    first: Int[np.ndarray, " m"]


def merge_coinciding(x: ArrayLike, tolerance: float | None = None) -> Merged:
    """The inputs, with those closer than `tolerance` merged. On coinciding inputs a kernel's Gram matrix is singular.

    With their `weights` the merged inputs have the same spectrum, without its zeros. `tolerance` is a Euclidean
    distance. It defaults to the rounding error of the largest input, 16 eps max|x|. Chains of close inputs merge into
    one input.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> merged = nb.domains.merge_coinciding(jnp.array([[0.0], [1.0], [0.0]]))
    >>> merged.x.tolist(), merged.weights.round(3).tolist()
    ([[0.0], [1.0]], [0.667, 0.333])
    """
    import scipy.sparse.csgraph  # these take long to load
    from sklearn.neighbors import NearestNeighbors

    points = _checked_points(x)
    flat = np.asarray(points).reshape(len(points), -1)
    if tolerance is None:
        tolerance = 16 * float(np.finfo(flat.dtype).eps) * float(np.abs(flat).max())
    if not tolerance >= 0:
        raise InputError(f"Expected a tolerance of zero or more; got {tolerance!r}.")
    graph = NearestNeighbors(radius=tolerance).fit(flat).radius_neighbors_graph()
    _, labels = scipy.sparse.csgraph.connected_components(graph, directed=False)
    _, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    return Merged(points[first], jnp.asarray(counts / len(points), _float_type(points)), inverse, first)


def _moments(domain: HarmonicDomain, x: ArrayLike, max_degree: int) -> tuple[Array, Float[np.ndarray, "h n"]]:
    """The inputs, and one row per harmonic with its values at the inputs."""
    require_known(x, "the inputs of quadrature weights")
    if not isinstance(domain, HarmonicDomain):
        raise InputTypeError(f"Expected a domain with harmonics; got {type(domain).__name__}. Use density_weights(x).")
    max_degree = whole_number("max_degree", max_degree)
    points = _checked_points(x)
    domain.check(points)
    num_coinciding = len(points) - len(merge_coinciding(points).x)
    if num_coinciding:
        raise InputError(
            f"Expected inputs that differ; got {num_coinciding} of {len(points)} that coincide with others. "
            "Use merge_coinciding(x)."
        )
    return points, np.asarray(domain.harmonics(points, max_degree), float).T


def _means(domain: HarmonicDomain, max_degree: int) -> Float[np.ndarray, " h"]:
    """The mean of each harmonic over the domain: one for the constant, which comes first, and zero for the others."""
    degrees = domain.degrees(max_degree)
    return (np.arange(len(degrees)) == 0).astype(float)


def _dual_newton(
    moments: Float[np.ndarray, "h n"], means: Float[np.ndarray, " h"]
) -> tuple[Float[np.ndarray, " n"], float, bool]:
    """The weights, the residual of their moments, and whether such weights may exist.

    This maximizes means.nu - |max(A^T nu, 0)|^2 / 2 over nu. The gradient is the residual. The objective is concave and
    piecewise quadratic, so Newton's method with a line search ends exactly once it has found the set of positive
    weights. For any solution c the objective is at most sum c^2 / 2, which is at most 1/2 because c sums to one. If it
    exceeds 1/2, there is no solution. The moments of a crowded sample are nearly dependent, so their rows are made
    orthonormal first.
    """
    left, sizes, rows = np.linalg.svd(moments, full_matrices=False)
    kept = sizes > max(moments.shape) * np.finfo(float).eps * sizes[0]
    rows, targets = rows[kept], (left[:, kept].T @ means) / sizes[kept]

    def objective(nu: np.ndarray) -> float:
        return float(targets @ nu - np.sum(np.maximum(rows.T @ nu, 0) ** 2) / 2)

    nu, best, least = targets, np.zeros(moments.shape[1]), np.inf
    for _ in range(_MAX_NEWTON_STEPS):
        weights = np.maximum(rows.T @ nu, 0)
        if (size := float(np.abs(means - moments @ weights).max())) < least:
            best, least = weights, size
        value, residual = objective(nu), targets - rows @ weights
        if size < _TOLERANCE or value > 0.5 + 1e-9:
            break
        active = rows[:, weights > 0]
        curvature = active @ active.T + 1e-13 * np.eye(len(nu))  # its eigenvalues lie in [0, 1] and may be zero
        step, length = scipy.linalg.solve(curvature, residual, assume_a="pos"), 1.0
        while objective(nu + length * step) < value + 1e-4 * length * (residual @ step) and length > 1e-10:
            length /= 2
        if length <= 1e-10:  # rounding prevents any further improvement
            break
        nu = nu + length * step
    return best, least, value <= 0.5 + 1e-9


def _checked_points(x: ArrayLike) -> Array:
    points = require_wide(x, "x")
    if points.ndim < 2 or len(points) == 0:
        raise InputError(f"Expected inputs (n, ...), one row each; got shape {points.shape}.")
    require_finite(points, "x")
    return points


def _float_type(points: Array) -> np.dtype:
    return (
        jnp.result_type(points.dtype, float) if jnp.issubdtype(points.dtype, jnp.floating) else jnp.result_type(float)
    )

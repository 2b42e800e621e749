"""Weights that make a sample stand for a domain: its own density drops out of every mean over inputs.

Inputs that crowd in one place count too much there: the spectrum, its frequencies and the loss of training are then
those of the sample. Quadrature weights c undo it exactly for harmonics up to a degree,

    sum_i c_i Y(x_i) = mean of Y over the domain,    c >= 0,    sum_i c_i^2 least,

so that c = max(A^T nu, 0) with A = Y^T, and nu from a semismooth Newton iteration (Yu, Yang and Townsend 2022, arXiv
2205.14300). Without harmonics an estimate of the density does it roughly. Both sum to one.

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
from ntkbias.domains.domain import HarmonicDomain, whole
from ntkbias.domains.point_cloud import PointCloud
from ntkbias.errors import InputError, InputTypeError

__all__ = ["Merged", "density_weights", "merge_coinciding", "minimum_norm_weights", "quadrature_weights"]

_NUM_NEWTON_STEPS = 100  # some ten are usual
_RESIDUAL = 1e-12  # of the moments, in float64, of which each is a sum of n terms of mean one


def quadrature_weights(domain: HarmonicDomain, x: ArrayLike, max_degree: int) -> Float[Array, " n"]:
    """Weights of zero or more, exact for the mean of every harmonic up to `max_degree`, of the least sum of squares.

    They sum to one. Products of two harmonics have the sum of their degrees: for a spectrum or a loss on degrees up to
    l take `max_degree` = 2 l.
    `spectrum` wants positive weights: leave the others out. Solved in float64: moments are exact to 1e-12 for the
    harmonics as JAX's type gives them. Costs n h^2 multiplications a Newton step, of some ten, for h harmonics.

    Raises `InputError` where no such weights exist (a gap among the inputs wider than about half a wavelength), and on
    inputs that coincide: `merge_coinciding` makes one of them.
    """
    points, moments = _moments(domain, x, max_degree)
    weights, residual, exist = _dual_newton(moments, _means(domain, max_degree))
    if residual > 1e3 * _RESIDUAL:
        why = f"are not found to better than {residual:.2g}" if exist else "do not exist"
        raise InputError(
            f"Expected inputs that carry positive weights exact to degree {max_degree}; those on these {len(points)} "
            f"{why}. Choose a smaller max_degree, fill the gaps among the inputs, or use density_weights(x)."
        )
    return jnp.asarray(weights, _float_type(points))


def minimum_norm_weights(domain: HarmonicDomain, x: ArrayLike, max_degree: int) -> Float[Array, " n"]:
    """The least sum of squares without the condition c >= 0: for comparison, as some may be negative.

    `quadrature_weights` are these where all are positive. Raises `InputError` where the inputs are too few, or too
    crowded, to be exact.
    """
    points, moments = _moments(domain, x, max_degree)
    means = _means(domain, max_degree)
    weights = scipy.linalg.lstsq(moments, means)[0]
    residual = float(np.abs(moments @ weights - means).max())
    if residual > 1e3 * _RESIDUAL:
        raise InputError(
            f"Expected inputs that carry weights exact to degree {max_degree}; those on these {len(points)} leave a "
            f"residual of {residual:.2g}. Choose a smaller max_degree."
        )
    return jnp.asarray(weights, _float_type(points))


def density_weights(
    x: ArrayLike, *, dimension: int | None = None, num_neighbors: int | None = None
) -> Float[Array, " n"]:
    """1 / density at each input by its distance r to the q-th nearest neighbor: proportional to r^m, summing to one.

    `x` is `(n, ...)`, flattened; m is `dimension`, that of the manifold it lies on, by default estimated as
    `PointCloud` does. The relative error of one weight is about 1 / sqrt(q), q = `num_neighbors` (default: sqrt n, at
    least 5), and where the density changes, or ends, within r the weights are biased to its mean: good for a ranking,
    too rough for an exact spectrum. Costs a neighbor search.

    Raises `InputError` where q inputs or more coincide, and on q of n or more.
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
            f"Expected fewer than {count} inputs in one place; got {int(np.sum(radius == 0))} with {count} others at "
            "distance zero. Use merge_coinciding first, or more neighbors."
        )
    volume = np.exp(m * (np.log(radius) - np.log(radius).max()))  # a power of distances alone may overflow
    return jnp.asarray(volume / volume.sum(), _float_type(points))


class Merged(NamedTuple):
    """Inputs of which no two coincide, in the order of their first appearance.

    `weights` `(m,)` are the share of the original inputs at each; `inverse` `(n,)` says which of them an input became,
    and `first` `(m,)` at which input it stood first: `y[first]` are the targets.
    """

    x: Array
    weights: Array
    inverse: Int[np.ndarray, " n"]
    first: Int[np.ndarray, " m"]


def merge_coinciding(x: ArrayLike, tolerance: float | None = None) -> Merged:
    """The inputs, those closer than `tolerance` made one: a kernel's matrix on coinciding inputs is singular.

    With `weights` the merged inputs have the same spectrum but for its zeros. `tolerance` is a Euclidean distance, by
    default the rounding of the largest input, 16 eps max|x|. Chains of close inputs become one.
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
    """The inputs, and the harmonics at them as rows."""
    require_known(x, "the inputs of quadrature weights")
    if not isinstance(domain, HarmonicDomain):
        raise InputTypeError(f"Expected a domain with harmonics; got {type(domain).__name__}. Use density_weights(x).")
    max_degree = whole("max_degree", max_degree)
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
    """The mean of each harmonic over the domain: one for the constant, the first, and zero for all others."""
    degrees = domain.degrees(max_degree)
    return (np.arange(len(degrees)) == 0).astype(float)


def _dual_newton(
    moments: Float[np.ndarray, "h n"], means: Float[np.ndarray, " h"]
) -> tuple[Float[np.ndarray, " n"], float, bool]:
    """max over nu of means.nu - |max(A^T nu, 0)|^2 / 2, whose gradient is the residual.

    The weights, the residual of their moments, and whether there may be any. The objective is concave and piecewise
    quadratic: Newton's steps with a line search end exactly, once the set of positive weights is found. It never
    exceeds sum c^2 / 2, at most 1/2 for weights c that sum to one: where it does, there are none. The moments are made
    orthonormal rows first, as those of a crowded sample are nearly dependent.
    """
    left, sizes, rows = np.linalg.svd(moments, full_matrices=False)
    kept = sizes > max(moments.shape) * np.finfo(float).eps * sizes[0]
    rows, targets = rows[kept], (left[:, kept].T @ means) / sizes[kept]

    def objective(nu: np.ndarray) -> float:
        return float(targets @ nu - np.sum(np.maximum(rows.T @ nu, 0) ** 2) / 2)

    nu, best, least = targets, np.zeros(moments.shape[1]), np.inf
    for _ in range(_NUM_NEWTON_STEPS):
        weights = np.maximum(rows.T @ nu, 0)
        if (size := float(np.abs(means - moments @ weights).max())) < least:
            best, least = weights, size
        value, residual = objective(nu), targets - rows @ weights
        if size < _RESIDUAL or value > 0.5 + 1e-9:
            break
        active = rows[:, weights > 0]
        curvature = active @ active.T + 1e-13 * np.eye(len(nu))  # of eigenvalues up to 1: the active may be too few
        step, length = scipy.linalg.solve(curvature, residual, assume_a="pos"), 1.0
        while objective(nu + length * step) < value + 1e-4 * length * (residual @ step) and length > 1e-10:
            length /= 2
        if length <= 1e-10:  # of rounding: where it stands is the best there is
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

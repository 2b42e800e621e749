"""The sphere of a given radius. Its harmonics of degree k are the homogeneous harmonic polynomials of degree k.

The N(d, k) harmonics of degree k on S^{d-1} have frequency sqrt(k (k + d - 2)) / radius. By the addition theorem

    sum_i Y_ki(x) Y_ki(y) = N(d, k) P_k(<x, y> / radius^2),     N(d, k) = C(k + d - 1, d - 1) - C(k + d - 3, d - 1)

where P_k is the Gegenbauer polynomial C_k^{(d - 2) / 2} scaled to P_k(1) = 1. The power of a function in degree k is
therefore a double sum over inputs and needs no basis.

>>> from ntkbias.domains import Sphere
>>> sphere = Sphere(3)
>>> x, weights = sphere.quadrature(50)
>>> x.shape, [sphere.multiplicity(k) for k in range(4)]
((50, 3), [1, 3, 5, 7])
>>> sphere.energy(x[:, :1] * x[:, 1:2], x, weights, 3)[0].round(4).tolist()       # x y is of degree 2
[0.0, 0.0, 0.0667, 0.0]
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import require_finite, require_key, require_positive
from ntkbias.domains.domain import (
    MAX_PRODUCT_DIMENSIONS,
    ON_SPHERE,
    Edges,
    HarmonicDomain,
    in_one_program,
    nodes_per_dimension,
    random_steps,
    require_harmonics,
    whole_number,
)
from ntkbias.domains.gegenbauer import gegenbauer, solid_harmonics
from ntkbias.domains.point_cloud import PointCloud
from ntkbias.errors import InputError, InputTypeError

__all__ = ["Sphere"]

_NUM_NEIGHBORS = 10  # the default of PointCloud
_NUM_RIDGES = 256  # most terms of `Sphere.harmonic`: enough to span all harmonics of degree 2 in up to 22 dimensions


class Sphere(HarmonicDomain):
    """Inputs `(n, dimension)` at distance `radius` from the origin. Distances are lengths of arcs.

    `dimension` is that of the surrounding space, as in papers on kernels: the sphere is S^{dimension - 1}, and 2 gives
    the circle.

    >>> import jax, ntkbias as nb
    >>> sphere = nb.domains.Sphere(3)
    >>> x = sphere.sample(16, key=jax.random.key(0))
    >>> x.shape, sphere.harmonics(x, 2).shape  # 1 + 3 + 5 harmonics
    ((16, 3), (16, 9))
    """

    dimension: int = eqx.field(static=True)
    radius: float = 1.0

    def __check_init__(self):
        require_positive("dimension", self.dimension)
        if self.dimension < 2:
            raise InputError(f"Expected a sphere in at least 2 dimensions; got {self.dimension}.")
        require_radius("radius", self.radius)

    def check(self, x: Array) -> None:
        if x.ndim != 2 or x.shape[1] != self.dimension or len(x) == 0:
            raise InputError(f"Expected inputs (n, {self.dimension}) on the sphere; got shape {x.shape}.")
        require_on_spheres(x[:, None], self.radius, "Give Sphere(radius=...), or normalize the inputs.")

    def sample(self, num_inputs: int, *, key: PRNGKeyArray) -> Float[Array, "n d"]:
        """Independent points, uniform on the sphere."""
        require_positive("num_inputs", num_inputs)
        x = jax.random.normal(require_key(key), (num_inputs, self.dimension))
        return self.radius * x / jnp.linalg.norm(x, axis=1, keepdims=True)

    def grid(self, num_inputs: int) -> Float[Array, "n d"]:
        """At most `num_inputs` regular points: equally spaced on a circle, on a Fibonacci spiral in three dimensions.

        In more dimensions the points are random orthonormal frames and their opposites.
        """
        require_positive("num_inputs", num_inputs)
        if self.dimension == 2:
            x = _circle(num_inputs)
        elif self.dimension == 3:
            x = _spiral(num_inputs)
        else:
            x = random_frames(num_inputs, self.dimension)
        return self.radius * jnp.asarray(x)

    def quadrature(self, num_inputs: int) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """At most `num_inputs` nodes, and their weights.

        On the circle the nodes are equally spaced. In up to five dimensions the rule is a product of Gauss-Gegenbauer
        rules of m nodes per polar angle and 2 m equally spaced azimuths, with the largest m such that
        2 m^(dimension - 1) <= `num_inputs`. It is exact for polynomials of degree 2 m - 1, so harmonics below degree m
        are orthonormal.

        In more dimensions the rule has equal weights on random orthonormal frames and their opposites, which are the
        same in every call. One frame and its opposite have 2 `dimension` nodes. The rule is exact for polynomials of
        degree 3 and for all odd ones. The mean of another function with mean square one has a random error of about
        1 / sqrt(n), and so have the products of harmonics of degree 2. Raises `InputError` if `num_inputs` is too small
        for one frame.
        """
        require_positive("num_inputs", num_inputs)
        if not 2 < self.dimension <= MAX_PRODUCT_DIMENSIONS + 1:
            x = self.grid(num_inputs)
            return x, jnp.full(len(x), 1 / len(x))
        m = self._polar_nodes(num_inputs)
        if m == 0:
            raise InputError(f"Expected at least 2 nodes for a sphere; got {num_inputs}.")
        points, weights = _circle(2 * m), np.full(2 * m, 1 / (2 * m))
        for dimension in range(3, self.dimension + 1):
            height, mass = scipy.special.roots_gegenbauer(m, dimension / 2 - 1)
            ring = np.sqrt(1 - height**2)[:, None, None] * points
            lifted = np.broadcast_to(height[:, None, None], (m, len(points), 1))
            points = np.concatenate([ring, lifted], 2).reshape(-1, dimension)
            weights = np.outer(mass / mass.sum(), weights).ravel()
        return self.radius * jnp.asarray(points), jnp.asarray(weights)

    def harmonics(self, x: Float[Array, "n d"], max_degree: int) -> Float[Array, "n h"]:
        """Cosines or sines of the azimuth, times Gegenbauer polynomials of the other coordinates.

        Let r_j be the length of the first j coordinates. For degrees l_d >= l_{d-1} >= ... >= l_2 >= 0,

            Y = cos or sin(l_2 angle) r_2^{l_2} prod_{j = 3}^d r_j^{l_j - l_{j-1}} C_{l_j - l_{j-1}}(x_j / r_j)

        where C has the parameter l_{j-1} + j / 2 - 1. These are polynomials in x, also off the sphere. Costs n h d.
        """
        degree = whole_number("max_degree", max_degree)
        return in_one_program(solid_harmonics, x / self.radius, self.dimension, degree)

    def degrees(self, max_degree: int) -> Int[np.ndarray, " h"]:
        """Each degree, repeated by its number of harmonics."""
        return np.repeat(np.arange(max_degree + 1), [self.multiplicity(k) for k in range(max_degree + 1)])

    def multiplicity(self, degree: int) -> int:
        """C(k + d - 1, d - 1) - C(k + d - 3, d - 1)."""
        d = self.dimension
        return math.comb(degree + d - 1, d - 1) - (math.comb(degree + d - 3, d - 1) if degree >= 2 else 0)

    def frequency(self, degree: Array | np.ndarray) -> Array:
        """sqrt(degree (degree + dimension - 2)) / radius."""
        return jnp.sqrt(degree * (degree + self.dimension - 2.0)) / self.radius

    def max_degree(self, num_inputs: int) -> int:
        """The largest degree up to which the harmonics are orthonormal on the product rule of `quadrature`.

        In more than five dimensions: the largest one up to which there are at most half as many harmonics as inputs.
        """
        if self.dimension == 2:
            return (num_inputs - 1) // 2
        if self.dimension <= MAX_PRODUCT_DIMENSIONS + 1:
            return max(self._polar_nodes(num_inputs) - 1, 0)
        return self._degree_by_count(num_inputs)

    def zonal(self, cosine: Array, max_degree: int) -> Float[Array, "degrees ..."]:
        """P_0, ..., P_max_degree at these cosines, scaled to P_k(1) = 1. The recurrence is stable within [-1, 1]."""
        return jnp.stack(gegenbauer(jnp.asarray(cosine), self.dimension, max_degree))

    def projectors(self, x1: Array, x2: Array, max_degree: int) -> Float[Array, "levels n m"]:
        """N(d, k) P_k(<x1, x2> / radius^2), by the addition theorem."""
        return in_one_program(self._projectors, x1, x2, whole_number("max_degree", max_degree))

    def _projectors(self, x1: Array, x2: Array, max_degree: int) -> Float[Array, "levels n m"]:
        cosine = jnp.clip(jnp.matmul(x1, x2.T, precision="highest") / self.radius**2, -1, 1)
        counts = jnp.asarray([self.multiplicity(k) for k in range(max_degree + 1)], cosine.dtype)
        return counts[:, None, None] * self.zonal(cosine, max_degree)

    def harmonic(self, degree: int, x: Array, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        """sum_i c_i P_degree(<x, a_i>) of up to 256 random directions a_i, scaled to mean square one exactly."""
        return in_one_program(self._harmonic, require_harmonics(self, degree), x, require_key(key))

    def _harmonic(self, degree: int, x: Array, key: PRNGKeyArray) -> Float[Array, " n"]:
        direction_key, coefficient_key = jax.random.split(key)
        count = min(self.multiplicity(degree), _NUM_RIDGES)
        directions = self.sample(count, key=direction_key)
        coefficients = jax.random.normal(coefficient_key, (count,))
        variance = coefficients @ self._ridges(directions, directions, degree) @ coefficients
        scale = jnp.sqrt(self.multiplicity(degree) / variance)
        return scale * self._ridges(x, directions, degree) @ coefficients

    def correlation(
        self, frequency: Float[np.ndarray, " f"], distance: Float[np.ndarray, " e"], dimension: int
    ) -> Float[np.ndarray, "f e"]:
        """P_k(cos(distance / radius)), interpolated in frequency^2 between the degrees k."""
        squares = (frequency * self.radius) ** 2
        half = self.dimension / 2 - 1
        top = math.ceil(np.sqrt(half**2 + squares.max()) - half) + 1
        degrees = np.arange(top + 1)
        table = np.stack(gegenbauer(np.cos(distance / self.radius), self.dimension, top))
        known = degrees * (degrees + self.dimension - 2.0)
        return np.stack([np.interp(squares, known, column) for column in table.T], 1)

    def intrinsic_dimension(self, x: Array) -> int:
        return self.dimension - 1

    def distance(self, x1: Float[Array, "n d"], x2: Float[Array, "n d"]) -> Float[np.ndarray, " n"]:
        """The length of the arc between each pair."""
        return arc_length(x1[:, None], x2[:, None], self.radius)

    def neighbors(self, x: Array) -> Edges:
        """Edges from each point to its ten nearest neighbors."""
        first, second = nearest_pairs(x)
        return Edges(first, second, self.distance(x[first], x[second]))

    def walk(self, x: Array, lengths: Float[Array, " n"], *, key: PRNGKeyArray) -> Array:
        """Each point, moved by its length along a great circle in a random direction."""
        return walk_on_spheres(x[:, None], lengths, self.radius, key)[:, 0]

    def steps(self, x: Array, scale: float, num_steps: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """Arcs of length `scale` in random directions, which start within one spacing of a node."""
        return random_steps(self, self.walk, x, scale, num_steps, key)

    def chart(self, x: Array) -> Float[np.ndarray, "n c"]:
        """The angle on a circle, longitude and latitude in three dimensions, else the first principal components."""
        host = np.asarray(x, float)
        angle = np.arctan2(host[:, 1], host[:, 0])
        if self.dimension == 2:
            return angle[:, None] % (2 * np.pi)
        if self.dimension == 3:
            return np.stack([angle, np.arcsin(np.clip(host[:, 2] / self.radius, -1, 1))], 1)
        return PointCloud().chart(x)

    def _polar_nodes(self, num_inputs: int) -> int:
        return nodes_per_dimension(num_inputs // 2, self.dimension - 1)

    def _ridges(self, x: Array, directions: Array, degree: int) -> Float[Array, "n a"]:
        cosine = jnp.matmul(x, directions.T, precision="highest") / self.radius**2
        return gegenbauer(jnp.clip(cosine, -1, 1), self.dimension, degree)[degree]


def require_radius(name: str, radius: float) -> None:
    """Raise an `InputError` unless a radius or a scale is a number above zero. Traced values pass."""
    if isinstance(radius, str) or not hasattr(radius, "__gt__"):
        raise InputTypeError(f"Expected {name} to be a number above zero; got {radius!r}.")
    try:
        positive = bool(radius > 0) and math.isfinite(radius)
    except jax.errors.ConcretizationTypeError:
        return
    if not positive:
        raise InputError(f"Expected a {name} above zero; got {radius!r}.")


def require_on_spheres(x: Float[Array, "n leaves d"], radius: float, remedy: str) -> None:
    """Raise an `InputError` unless every leaf of every input is at distance `radius` from the origin."""
    require_finite(x, "x")
    off = float(jnp.max(jnp.abs(jnp.linalg.norm(x, axis=-1) - radius)))
    if off > ON_SPHERE * radius:
        raise InputError(f"Expected inputs at distance {radius:g} from the origin; got some off by {off:.3g}. {remedy}")


def arc_length(x1: Array, x2: Array, radius: float) -> Float[np.ndarray, " n"]:
    """The geodesic distance of each pair of points `(n, leaves, d)` on a product of spheres."""
    chords = np.linalg.norm(np.asarray(x1, float) - np.asarray(x2, float), axis=-1)
    return 2 * radius * np.linalg.norm(np.arcsin(np.clip(chords / (2 * radius), 0, 1)), axis=-1)


def nearest_pairs(x: Array, num_neighbors: int = _NUM_NEIGHBORS) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"]]:
    """The indices of each input and of its nearest neighbors by Euclidean distance, with each pair once."""
    if len(x) < 2:
        raise InputError(f"Expected at least two inputs for a neighborhood graph; got {len(x)}.")
    first, second, _ = PointCloud(min(num_neighbors, len(x) - 1)).neighbors(x)
    return first, second


def walk_on_spheres(
    x: Float[Array, "n leaves d"], lengths: Float[Array, " n"], radius: float, key: PRNGKeyArray
) -> Float[Array, "n leaves d"]:
    """Points of a product of spheres moved by these lengths along geodesics of uniform random direction."""
    return in_one_program(_walk_on_spheres, x, lengths, radius, require_key(key))


def _walk_on_spheres(x: Array, lengths: Array, radius: float, key: PRNGKeyArray) -> Array:
    velocity = jax.random.normal(key, x.shape, x.dtype)
    velocity = velocity - jnp.sum(velocity * x, -1, keepdims=True) * x / radius**2
    speed = jnp.linalg.norm(velocity, axis=-1, keepdims=True)
    angle = lengths[:, None, None] / radius * speed / jnp.linalg.norm(speed, axis=1, keepdims=True)
    return jnp.cos(angle) * x + jnp.sin(angle) * radius * velocity / speed


def _circle(num_points: int) -> Float[np.ndarray, "n 2"]:
    angle = 2 * np.pi * np.arange(num_points) / num_points
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def _spiral(num_points: int) -> Float[np.ndarray, "n 3"]:
    """The Fibonacci spiral: equally spaced heights, and the golden angle between neighbors."""
    height = 1 - (2 * np.arange(num_points) + 1) / num_points
    angle = np.pi * (3 - 5**0.5) * np.arange(num_points)
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), height], 1)


def random_frames(num_points: int, dimension: int) -> Float[np.ndarray, "n d"]:
    """Random orthonormal frames and their opposites. Each set of 2 d points is a spherical 3-design."""
    count = num_points // (2 * dimension)
    if count == 0:
        raise InputError(
            f"Expected at least {2 * dimension} nodes for a sphere in {dimension} dimensions; got {num_points}."
        )
    frames, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(count, dimension, dimension)))
    return np.concatenate([frames, -frames], 1).reshape(-1, dimension)

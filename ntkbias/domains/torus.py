"""The flat torus, a product of circles. Multi-indices label its harmonics.

A mode is a multi-index k in Z^d. Its function is the product of sqrt 2 cos(k_i angle_i) for k_i > 0 and
sqrt 2 sin(|k_i| angle_i) for k_i < 0, and its frequency is |k| / radius. The degree is |k|^2 = k_1^2 + ... + k_d^2.
Degrees are whole numbers, order the modes by frequency, and name the eigenspaces of the Laplacian. Not every whole
number is a degree. In one dimension the degree is the square of the circle's degree.

>>> from ntkbias.domains import Torus
>>> torus = Torus(2)
>>> torus.modes(2).tolist()
[[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [1, -1], [-1, 1], [-1, -1]]
>>> torus.levels(8).tolist(), [torus.multiplicity(k) for k in (4, 5)]
([0, 1, 2, 4, 5, 8], [4, 8])
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import require_key, require_positive
from ntkbias.domains.domain import MAX_PRODUCT_DIMENSIONS, Edges, nodes_per_dimension, random_steps
from ntkbias.domains.sphere import arc_length, nearest_pairs, require_on_spheres, require_radius, walk_on_spheres
from ntkbias.domains.tensor_domain import TensorDomain
from ntkbias.errors import InputError

__all__ = ["Torus"]


class Torus(TensorDomain):
    """Inputs `(n, 2 * dimension)`: `radius` times (cos, sin) of each of `dimension` angles, circle by circle.

    >>> import jax, ntkbias as nb
    >>> torus = nb.domains.Torus(2)
    >>> x = torus.sample(16, key=jax.random.key(0))
    >>> x.shape, torus.harmonics(x, 1).shape
    ((16, 4), (16, 5))
    """

    dimension: int = eqx.field(static=True)
    radius: float = 1.0

    def __check_init__(self):
        require_positive("dimension", self.dimension)
        require_radius("radius", self.radius)

    def check(self, x: Array) -> None:
        if x.ndim != 2 or x.shape[1] != 2 * self.dimension or len(x) == 0:
            raise InputError(f"Expected inputs (n, {2 * self.dimension}) on the torus; got shape {x.shape}.")
        require_on_spheres(self._circles(x), self.radius, "Give Torus(radius=...), or normalize each pair (cos, sin).")

    def point(self, angle: Float[Array, "n d"]) -> Float[Array, "n c"]:
        """The points at these angles (radians)."""
        return self.radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1).reshape(len(angle), -1)

    def angle(self, x: Float[Array, "n c"]) -> Float[Array, "n d"]:
        """The angles of these points, between 0 and 2 pi."""
        circles = self._circles(x)
        return jnp.arctan2(circles[..., 1], circles[..., 0]) % (2 * jnp.pi)

    def sample(self, num_inputs: int, *, key: PRNGKeyArray) -> Float[Array, "n c"]:
        """Independent points, uniform on the torus."""
        require_positive("num_inputs", num_inputs)
        return self.point(jax.random.uniform(require_key(key), (num_inputs, self.dimension), maxval=2 * jnp.pi))

    def grid(self, num_inputs: int) -> Float[Array, "n c"]:
        """At most `num_inputs` points: a regular grid, or a Kronecker sequence in more than four dimensions.

        The grid has m equally spaced angles per circle, with the largest m such that m^dimension <= `num_inputs`. In
        the sequence of `num_inputs` points, angle i of circle j is 2 pi i a_j. Here a_j is the j-th power of 1 / t for
        the root of t^{dimension + 1} = t + 1 (Roberts's generalized golden ratio).
        """
        require_positive("num_inputs", num_inputs)
        if self.dimension <= MAX_PRODUCT_DIMENSIONS:
            m = nodes_per_dimension(num_inputs, self.dimension)
            turns = np.stack(np.meshgrid(*[np.arange(m) / m] * self.dimension, indexing="ij"), -1)
        else:
            turns = np.outer(np.arange(num_inputs), _kronecker(self.dimension)) % 1
        return self.point(jnp.asarray(2 * np.pi * turns.reshape(-1, self.dimension)))

    def quadrature(self, num_inputs: int) -> tuple[Float[Array, "n c"], Float[Array, " n"]]:
        """The grid with equal weights.

        In up to four dimensions it is exact for modes with all |k_i| < m. In more, the mean of exp(i k.angle), which
        should be 0, is at most 1 / (n |sin(pi k.a)|).
        """
        x = self.grid(num_inputs)
        return x, jnp.full(len(x), 1 / len(x))

    @property
    def num_factors(self) -> int:
        return self.dimension

    def labels(self, max_degree: int) -> Int[np.ndarray, " s"]:
        """0, 1, -1, 2, -2, ...: positive for cosines, negative for sines."""
        waves = np.arange(1, math.isqrt(max_degree) + 1)
        return np.concatenate([[0], np.stack([waves, -waves], 1).ravel()])

    def label_degrees(self, labels: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        return labels**2

    def factor_functions(self, x: Array, labels: Int[np.ndarray, " s"]) -> Float[Array, "n c s"]:
        angles = self.angle(x)[..., None] * np.abs(labels)
        waves = jnp.sqrt(2.0) * jnp.where(labels > 0, jnp.cos(angles), jnp.sin(angles))
        return jnp.where(labels == 0, 1.0, waves)

    def frequency(self, degree: Array | np.ndarray) -> Array:
        """sqrt(degree) / radius."""
        return jnp.sqrt(jnp.asarray(degree, float)) / self.radius

    def max_degree(self, num_inputs: int) -> int:
        """K^2, where K is the largest whole number below half the number of nodes per circle.

        The grid also distinguishes modes of higher degree with all |k_i| <= K, but not all modes of that degree. In
        more than four dimensions: the largest degree up to which there are at most half as many modes as inputs.
        """
        if self.dimension > MAX_PRODUCT_DIMENSIONS:
            return self._degree_by_count(num_inputs)
        return ((nodes_per_dimension(num_inputs, self.dimension) - 1) // 2) ** 2

    def intrinsic_dimension(self, x: Array) -> int:
        return self.dimension

    def distance(self, x1: Array, x2: Array) -> Float[np.ndarray, " n"]:
        """The geodesic distance of each pair: radius times the length of the vector of angle differences."""
        return arc_length(self._circles(x1), self._circles(x2), self.radius)

    def neighbors(self, x: Array) -> Edges:
        """Edges from each point to its 2 `dimension` nearest neighbors; on a grid, the next ones on each circle."""
        first, second = nearest_pairs(x, 2 * self.dimension)
        return Edges(first, second, self.distance(x[first], x[second]))

    def walk(self, x: Array, lengths: Float[Array, " n"], *, key: PRNGKeyArray) -> Array:
        """Each point, moved by its length along a straight line in a random direction."""
        return walk_on_spheres(self._circles(x), lengths, self.radius, key).reshape(x.shape)

    def steps(self, x: Array, scale: float, num_steps: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """Straight lines of length `scale` in random directions, which start within one spacing of a node."""
        return random_steps(self, self.walk, x, scale, num_steps, key)

    def chart(self, x: Array) -> Float[np.ndarray, "n c"]:
        """The first two angles."""
        return np.asarray(self.angle(x))[:, :2]

    def _circles(self, x: Array) -> Float[Array, "n d 2"]:
        return x.reshape(len(x), self.dimension, 2)


def _kronecker(dimension: int) -> Float[np.ndarray, " d"]:
    """The powers 1 .. d of 1 / t for the root of t^{d + 1} = t + 1."""
    root = 2.0
    for _ in range(64):  # the fixed point contracts by 1 / (d + 1) at least
        root = (1 + root) ** (1 / (dimension + 1))
    return root ** -np.arange(1.0, dimension + 1)

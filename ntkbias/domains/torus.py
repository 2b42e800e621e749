"""The flat torus, a product of circles, whose harmonics are labeled by multi-indices.

A mode is a multi-index k in Z^d; its function is the product of sqrt 2 cos(k_i angle_i) for k_i > 0 and
sqrt 2 sin(|k_i| angle_i) for k_i < 0, of frequency |k| / radius. The degree is |k|^2 = k_1^2 + ... + k_d^2, so that
degrees are whole numbers, order the modes by frequency, and name the eigenspaces of the Laplacian; not every whole
number is one. In one dimension it is the square of the circle's degree.

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
from ntkbias.domains.domain import MAX_PRODUCT_DIMENSIONS, Edges, nodes_a_dimension, random_steps
from ntkbias.domains.sphere import arc_length, nearest_pairs, require_on_spheres, require_radius, walk_on_spheres
from ntkbias.domains.tensor_domain import TensorDomain
from ntkbias.errors import InputError

__all__ = ["Torus"]


class Torus(TensorDomain):
    """Inputs `(n, 2 * dimension)`: `radius` times (cos, sin) of each of `dimension` angles, circle after circle."""

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
        """The angles of points, between 0 and 2 pi."""
        circles = self._circles(x)
        return jnp.arctan2(circles[..., 1], circles[..., 0]) % (2 * jnp.pi)

    def sample(self, num_inputs: int, *, key: PRNGKeyArray) -> Float[Array, "n c"]:
        """Independent points, uniform on the torus."""
        require_positive("num_inputs", num_inputs)
        return self.point(jax.random.uniform(require_key(key), (num_inputs, self.dimension), maxval=2 * jnp.pi))

    def grid(self, num_inputs: int) -> Float[Array, "n c"]:
        """Up to four dimensions m equally spaced angles a circle, m the largest with m^dimension <= `num_inputs`.

        Beyond, `num_inputs` points of a Kronecker sequence: angle i of circle j is 2 pi i a_j, with a_j powers of the
        root of t^{dimension + 1} = t + 1 (Roberts's generalized golden ratio).
        """
        require_positive("num_inputs", num_inputs)
        if self.dimension <= MAX_PRODUCT_DIMENSIONS:
            m = nodes_a_dimension(num_inputs, self.dimension)
            turns = np.stack(np.meshgrid(*[np.arange(m) / m] * self.dimension, indexing="ij"), -1)
        else:
            turns = np.outer(np.arange(num_inputs), _kronecker(self.dimension)) % 1
        return self.point(jnp.asarray(2 * np.pi * turns.reshape(-1, self.dimension)))

    def quadrature(self, num_inputs: int) -> tuple[Float[Array, "n c"], Float[Array, " n"]]:
        """The grid with equal weights.

        Up to four dimensions exact for modes with all |k_i| < m. Beyond, the mean of exp(i k.angle) is at most
        1 / (n |sin(pi k.a)|) where it should be 0.
        """
        x = self.grid(num_inputs)
        return x, jnp.full(len(x), 1 / len(x))

    @property
    def num_factors(self) -> int:
        return self.dimension

    def labels(self, max_degree: int) -> Int[np.ndarray, " s"]:
        """0, 1, -1, 2, -2, ...: cosines, and sines as negative."""
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
        """K^2 for waves up to K a circle, below half its nodes.

        Modes of higher degree with all |k_i| <= K are told apart too, but not the whole of their degree. In more than
        four dimensions up to which there are at most half as many modes as inputs.
        """
        if self.dimension > MAX_PRODUCT_DIMENSIONS:
            return self._counted_degree(num_inputs)
        return ((nodes_a_dimension(num_inputs, self.dimension) - 1) // 2) ** 2

    def intrinsic_dimension(self, x: Array) -> int:
        return self.dimension

    def distance(self, x1: Array, x2: Array) -> Float[np.ndarray, " n"]:
        """The geodesic distance of each pair: radius times the length of the difference of angles."""
        return arc_length(self._circles(x1), self._circles(x2), self.radius)

    def neighbors(self, x: Array) -> Edges:
        """Each point and its two nearest a dimension: on a grid, the next ones along each circle."""
        first, second = nearest_pairs(x, 2 * self.dimension)
        return Edges(first, second, self.distance(x[first], x[second]))

    def walk(self, x: Array, lengths: Float[Array, " n"], *, key: PRNGKeyArray) -> Array:
        """Each point moved by this length along a straight line of random direction."""
        return walk_on_spheres(self._circles(x), lengths, self.radius, key).reshape(x.shape)

    def steps(self, x: Array, scale: float, num_steps: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """Straight lines of length `scale` in random directions that start within one spacing of a node."""
        return random_steps(self, self.walk, x, scale, num_steps, key)

    def chart(self, x: Array) -> Float[np.ndarray, "n c"]:
        """The first two angles."""
        return np.asarray(self.angle(x))[:, :2]

    def _circles(self, x: Array) -> Float[Array, "n d 2"]:
        return x.reshape(len(x), self.dimension, 2)


def _kronecker(dimension: int) -> Float[np.ndarray, " d"]:
    """The powers 1 .. d of the inverse of the root of t^{d + 1} = t + 1."""
    root = 2.0
    for _ in range(64):  # the fixed point contracts by 1 / (d + 1) at least
        root = (1 + root) ** (1 / (dimension + 1))
    return root ** -np.arange(1.0, dimension + 1)

"""Normal inputs. Their harmonics are products of orthonormal Hermite polynomials.

For x ~ N(0, scale^2 I) the polynomials He_a(x / scale) / sqrt(a!) = prod_i He_{a_i}(x_i / scale) / sqrt(a_i!) are
orthonormal. They are eigenfunctions of the Ornstein-Uhlenbeck operator, with E |grad phi|^2 = |a| / scale^2 at total
degree |a|.

The Hermite degree labels the modes of Mehler's kernel, sum_a r^|a| h_a(x) h_a(y), and those of other functions of this
operator. A mode of any other rotation-invariant kernel is an angular harmonic of one degree times a radial function. It
mixes Hermite degrees of one parity. Its power in each degree is still well defined, and its frequency is that of the
Hermite degree with the largest power.

>>> from ntkbias.domains import Gaussian
>>> gaussian = Gaussian(2, scale=2.0)
>>> x, weights = gaussian.quadrature(16)
>>> gaussian.modes(2).tolist()
[[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]]
>>> gaussian.energy(x[:, :1] ** 2, x, weights, 3).round(3).tolist()     # x^2 = scale^2 (1 + sqrt 2 h_2)
[[16.0, 0.0, 32.0, 0.0]]
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import require_finite, require_key, require_positive
from ntkbias.domains.domain import MAX_PRODUCT_DIMENSIONS, Edges, nodes_per_dimension, random_steps
from ntkbias.domains.sphere import Sphere, nearest_pairs, require_radius
from ntkbias.domains.tensor_domain import TensorDomain
from ntkbias.errors import InputError

__all__ = ["Gaussian"]

_NUM_RADII = 3  # of the rule in more than four dimensions, in which the length varies little


class Gaussian(TensorDomain):
    """Inputs `(n, dimension)` from N(0, scale^2 I). Distances are Euclidean.

    >>> import jax, ntkbias as nb
    >>> plane = nb.domains.Gaussian(2)
    >>> x = plane.sample(16, key=jax.random.key(0))
    >>> x.shape, plane.harmonics(x, 1).shape
    ((16, 2), (16, 3))
    """

    dimension: int = eqx.field(static=True)
    scale: float = 1.0

    def __check_init__(self):
        require_positive("dimension", self.dimension)
        require_radius("scale", self.scale)

    def check(self, x: Array) -> None:
        """Raise an `InputError` unless the shape fits and all entries are finite; any such input is possible."""
        if x.ndim != 2 or x.shape[1] != self.dimension or len(x) == 0:
            raise InputError(f"Expected inputs (n, {self.dimension}) of a Gaussian; got shape {x.shape}.")
        require_finite(x, "x")

    def sample(self, num_inputs: int, *, key: PRNGKeyArray) -> Float[Array, "n d"]:
        """Independent normal inputs."""
        require_positive("num_inputs", num_inputs)
        return self.scale * jax.random.normal(require_key(key), (num_inputs, self.dimension))

    def quadrature(self, num_inputs: int) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """At most `num_inputs` nodes, and their weights.

        In up to four dimensions this is a product of Gauss-Hermite rules of m nodes, with the largest m such that
        m^dimension <= `num_inputs`. It is exact for polynomials of degree 2 m - 1 in each coordinate.

        In more dimensions this is a Gauss-Laguerre rule of three lengths times `Sphere.quadrature`. It is exact for
        polynomials of degree 3 and for all odd ones. The mean of another function with mean square one has a random
        error of about 1 / sqrt(n / 3). Raises `InputError` if `num_inputs` is too small for this rule.
        """
        require_positive("num_inputs", num_inputs)
        if self.dimension > MAX_PRODUCT_DIMENSIONS:
            return self._radial_rule(num_inputs)
        m = nodes_per_dimension(num_inputs, self.dimension)
        nodes, mass = scipy.special.roots_hermitenorm(m)
        points = np.stack(np.meshgrid(*[nodes] * self.dimension, indexing="ij"), -1).reshape(-1, self.dimension)
        masses = np.stack(np.meshgrid(*[mass / mass.sum()] * self.dimension, indexing="ij"), -1)
        return self.scale * jnp.asarray(points), jnp.asarray(masses.reshape(-1, self.dimension).prod(1))

    @property
    def num_factors(self) -> int:
        return self.dimension

    def labels(self, max_degree: int) -> Int[np.ndarray, " s"]:
        """The degrees in one coordinate."""
        return np.arange(max_degree + 1)

    def label_degrees(self, labels: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        return np.asarray(labels)

    def factor_functions(self, x: Array, labels: Int[np.ndarray, " s"]) -> Float[Array, "n c s"]:
        """Orthonormal Hermite polynomials, by the recurrence sqrt(a + 1) h_{a+1} = t h_a - sqrt(a) h_{a-1}."""
        t = x / self.scale
        values = [jnp.ones_like(t), t]
        for a in range(1, int(labels.max(initial=0))):
            values.append((t * values[a] - a**0.5 * values[a - 1]) / (a + 1) ** 0.5)
        return jnp.stack(values, -1)[..., labels]

    def multiplicity(self, degree: int) -> int:
        """C(dimension + degree - 1, degree)."""
        return math.comb(self.dimension + degree - 1, degree)

    def frequency(self, degree: Array | np.ndarray) -> Array:
        """sqrt(degree) / scale."""
        return jnp.sqrt(jnp.asarray(degree, float)) / self.scale

    def max_degree(self, num_inputs: int) -> int:
        """The largest degree up to which the harmonics are orthonormal on the product rule of `quadrature`.

        In more than four dimensions: the largest one up to which there are at most half as many harmonics as inputs.
        """
        if self.dimension > MAX_PRODUCT_DIMENSIONS:
            return self._degree_by_count(num_inputs)
        return max(nodes_per_dimension(num_inputs, self.dimension) - 1, 0)

    def intrinsic_dimension(self, x: Array) -> int:
        return self.dimension

    def distance(self, x1: Float[Array, "n d"], x2: Float[Array, "n d"]) -> Float[np.ndarray, " n"]:
        """The Euclidean distance of each pair."""
        return np.linalg.norm(np.asarray(x1, float) - np.asarray(x2, float), axis=1)

    def neighbors(self, x: Array) -> Edges:
        """Edges from each point to its ten nearest neighbors."""
        first, second = nearest_pairs(x)
        return Edges(first, second, self.distance(x[first], x[second]))

    def walk(self, x: Array, lengths: Float[Array, " n"], *, key: PRNGKeyArray) -> Array:
        """Each point moved by this length in a random direction."""
        direction = jax.random.normal(require_key(key), x.shape, x.dtype)
        return x + lengths[:, None] * direction / jnp.linalg.norm(direction, axis=1, keepdims=True)

    def steps(self, x: Array, scale: float, num_steps: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """Segments of length `scale` in random directions, which start within one spacing of a node."""
        return random_steps(self, self.walk, x, scale, num_steps, key)

    def chart(self, x: Array) -> Float[np.ndarray, "n c"]:
        """The first two coordinates."""
        return np.asarray(x, float)[:, :2]

    def _radial_rule(self, num_inputs: int) -> tuple[Array, Array]:
        """A Gauss-Laguerre rule for the length times a rule for the direction."""
        if num_inputs < 2 * _NUM_RADII * self.dimension:
            least = 2 * _NUM_RADII * self.dimension
            raise InputError(f"Expected at least {least} nodes in {self.dimension} dimensions; got {num_inputs}.")
        half_squares, mass = scipy.special.roots_genlaguerre(_NUM_RADII, self.dimension / 2 - 1)  # of |x|^2 / 2
        directions, weights = Sphere(self.dimension).quadrature(num_inputs // _NUM_RADII)
        points = jnp.sqrt(2 * jnp.asarray(half_squares))[:, None, None] * directions
        masses = jnp.asarray(mass / mass.sum())[:, None] * weights
        return self.scale * points.reshape(-1, self.dimension), masses.ravel()

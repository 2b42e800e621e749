"""The Boolean cube {+1, -1}^d. Its harmonics are the Walsh functions, products of coordinates.

The Walsh function of a set S is prod_{i in S} x_i, of degree |S|. The Laplacian is that of single flips: a function phi
of degree |S| has (1/4) sum_i E (phi(x) - phi(flip_i x))^2 = |S|. Its frequency is therefore sqrt |S|, with edges of
length 2, as in R^d.

>>> from ntkbias.domains import Hypercube
>>> cube = Hypercube(3)
>>> x, weights = cube.quadrature(8)
>>> cube.modes(2).tolist()                                       # 1 for each coordinate in the product
[[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]
>>> cube.energy(x[:, :1] * x[:, 1:2], x, weights, 3).tolist()
[[0.0, 0.0, 1.0, 0.0]]
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import require_finite, require_key, require_positive
from ntkbias.domains.domain import Edges
from ntkbias.domains.point_cloud import PointCloud
from ntkbias.domains.tensor_domain import TensorDomain
from ntkbias.errors import InputError

__all__ = ["Hypercube"]

_EDGE = 2.0  # the distance between neighboring corners


class Hypercube(TensorDomain):
    """Inputs `(n, dimension)` of +1 and -1. The distance of two corners is Euclidean: 2 sqrt(number of flips).

    >>> import ntkbias as nb
    >>> cube = nb.domains.Hypercube(3)
    >>> corners, weights = cube.quadrature(8)
    >>> corners.shape, cube.harmonics(corners, 1).shape
    ((8, 3), (8, 4))
    """

    dimension: int = eqx.field(static=True)

    def __check_init__(self):
        require_positive("dimension", self.dimension)

    def check(self, x: Array) -> None:
        if x.ndim != 2 or x.shape[1] != self.dimension or len(x) == 0:
            raise InputError(f"Expected inputs (n, {self.dimension}) on the cube; got shape {x.shape}.")
        require_finite(x, "x")
        off = np.abs(np.abs(np.asarray(x, float)) - 1)
        if off.max() > 1e-3:  # well above rounding
            wrong = float(np.asarray(x).ravel()[off.argmax()])
            raise InputError(f"Expected entries +1 and -1; got {wrong:g}. Turn bits b into 2 b - 1.")

    def sample(self, num_inputs: int, *, key: PRNGKeyArray) -> Float[Array, "n d"]:
        """Independent, uniform corners. Some may coincide."""
        require_positive("num_inputs", num_inputs)
        return jax.random.rademacher(require_key(key), (num_inputs, self.dimension), float)

    def quadrature(self, num_inputs: int) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """All corners if `num_inputs` suffices, else a regular fraction of 2^m <= `num_inputs` corners; equal weights.

        The fraction is a linear code, the same in every call. Its corners are distinct, and on them every Walsh
        function of degree 2 or of odd degree has mean 0. Among the even degrees from 4 on, about 1 function in
        2^(m - 1) is constant on them, and counts as degree 0. Raises `InputError` if `num_inputs` is too small for such
        a fraction.
        """
        require_positive("num_inputs", num_inputs)
        m = min(num_inputs.bit_length() - 1, self.dimension)
        bits = np.arange(2**m)[:, None] >> np.arange(m)[::-1] & 1
        corners = 1.0 - 2 * (bits @ self._generator(m) % 2)
        return jnp.asarray(corners), jnp.full(2**m, 0.5**m)

    @property
    def num_factors(self) -> int:
        return self.dimension

    def labels(self, max_degree: int) -> Int[np.ndarray, " s"]:
        """0 and 1: the product leaves the coordinate out, or contains it."""
        return np.arange(min(max_degree, 1) + 1)

    def label_degrees(self, labels: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        return np.asarray(labels)

    def factor_functions(self, x: Array, labels: Int[np.ndarray, " s"]) -> Float[Array, "n c s"]:
        return jnp.where(labels == 0, 1.0, x[..., None])

    def multiplicity(self, degree: int) -> int:
        """C(dimension, degree)."""
        return math.comb(self.dimension, degree)

    def frequency(self, degree: Array | np.ndarray) -> Array:
        """sqrt(degree)."""
        return jnp.sqrt(jnp.asarray(degree, float))

    def max_degree(self, num_inputs: int) -> int:
        """`dimension` if all corners are inputs, else the largest with at most half as many harmonics as inputs."""
        if num_inputs.bit_length() > self.dimension:
            return self.dimension
        return self._degree_by_count(num_inputs)

    def correlation(
        self, frequency: Float[np.ndarray, " f"], distance: Float[np.ndarray, " e"], dimension: int
    ) -> Float[np.ndarray, "f e"]:
        """The Krawtchouk polynomials sum_j (-1)^j C(h, j) C(d - h, k - j) / C(d, k) at h flips.

        Between the degrees k = frequency^2 the values are interpolated linearly. For one flip the result is
        1 - 2 frequency^2 / d.
        """
        d = self.dimension
        degrees = np.arange(d + 1)
        flips, group = np.unique(np.rint((distance / _EDGE) ** 2).astype(int), return_inverse=True)
        tables = [
            [
                sum((-1) ** j * math.comb(h, j) * math.comb(d - h, k - j) for j in range(min(h, k) + 1))
                / math.comb(d, k)
                for k in range(d + 1)
            ]
            for h in flips.tolist()
        ]
        columns = np.stack([np.interp(frequency**2, degrees, table) for table in tables], 1)
        return columns[:, group]

    def intrinsic_dimension(self, x: Array) -> int:
        return self.dimension

    def neighbors(self, x: Array) -> Edges:
        """Edges from each corner to all its nearest inputs, one flip away if there are such inputs. Costs n^2 d."""
        corners = np.sign(np.asarray(x, np.float32))
        pairs, flips = [], []
        for part in np.array_split(np.arange(len(x)), -(-len(x) // 1_024)):  # bounds the memory
            distance = (self.dimension - corners[part] @ corners.T) / 2
            distance[distance == 0] = np.inf  # including each corner to itself
            nearest = distance.min(1, keepdims=True)
            row, column = np.nonzero((distance == nearest) & np.isfinite(distance))
            pairs.append(np.sort(np.stack([part[row], column]), 0))
            flips.append(distance[row, column])
        (first, second), once = np.unique(np.concatenate(pairs, 1), axis=1, return_index=True)
        if len(once) == 0:
            raise InputError("Expected at least two different inputs for a neighborhood graph; got only one corner.")
        return Edges(first, second, _EDGE * np.sqrt(np.concatenate(flips)[once].astype(float)))

    def step_length(self, x: Array) -> float:
        """The length of one edge."""
        return _EDGE

    def steps(self, x: Array, scale: float, num_steps: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """Steps from inputs to corners that differ in (scale / 2)^2 random coordinates, a whole number."""
        flips = round((scale / _EDGE) ** 2)
        if not 1 <= flips <= self.dimension or not math.isclose(_EDGE * flips**0.5, scale, rel_tol=1e-6):
            raise InputError(
                f"Expected a scale of 2 sqrt(h) for h flips, h = 1 .. {self.dimension}; got {scale!r}. "
                "Leave it out for one flip."
            )
        node_key, flip_key = jax.random.split(require_key(key))
        nodes = jax.random.permutation(node_key, len(x))[:num_steps]
        rank = jnp.argsort(jax.random.uniform(flip_key, (len(nodes), self.dimension)), 1)
        return nodes, x[nodes], jnp.where(rank < flips, -x[nodes], x[nodes])

    def chart(self, x: Array) -> Float[np.ndarray, "n 2"]:
        """The first two principal components."""
        return PointCloud().chart(x)

    def _generator(self, num_bits: int) -> Int[np.ndarray, "m d"]:
        """The generator of the linear code: columns (1, b) with distinct b that span.

        Then no single column, no two columns and no odd number of columns sum to 0.
        """
        if num_bits == self.dimension:
            return np.eye(num_bits, dtype=int)
        count = self.dimension
        if 2 ** (num_bits - 1) < count:
            least = 2 ** ((count - 1).bit_length() + 1)
            raise InputError(f"Expected at least {least} nodes for a cube of dimension {count}; got {2**num_bits}.")
        chosen = [0, *(2**i for i in range(num_bits - 1))]
        rng = np.random.default_rng(0)
        while len(chosen) < count:
            column = int(rng.integers(2 ** (num_bits - 1)))
            if column not in chosen:
                chosen.append(column)
        below = np.array(chosen[:count]) >> np.arange(num_bits - 1)[:, None] & 1
        return np.concatenate([np.ones((1, count), int), below])

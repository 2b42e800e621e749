"""Inputs that are known only by their distances: a sample from an unknown manifold.

>>> import jax
>>> from ntkbias.domains import PointCloud
>>> x = jax.random.normal(jax.random.key(0), (500, 2)) @ jax.numpy.ones((2, 6))
>>> PointCloud().intrinsic_dimension(x)                # a line in six dimensions
1
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_finite, require_key, require_positive
from ntkbias.domains.domain import Domain, Edges
from ntkbias.errors import InputError

__all__ = ["PointCloud"]


class PointCloud(Domain):
    """Inputs `(n, ...)` with Euclidean distances between their flattened values.

    The neighborhood graph joins each input to its `num_neighbors` nearest ones. `dimension` is that of the manifold on
    which the inputs lie; by default it is estimated from the distances to these neighbors. Steps follow the segments
    between neighbors, so frequencies are measured along the data, not across it. They are per unit of distance.

    >>> import jax, ntkbias as nb
    >>> x = jax.random.normal(jax.random.key(0), (16, 2))
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x)
    >>> nb.rank_by_frequency(spectrum, nb.domains.PointCloud()).measure
    'graph'
    """

    num_neighbors: int = 10
    dimension: int | None = None

    def __check_init__(self):
        require_positive("num_neighbors", self.num_neighbors)
        if self.dimension is not None:
            require_positive("dimension", self.dimension)

    def check(self, x: Array) -> None:
        if x.ndim < 2 or len(x) <= self.num_neighbors + 1:
            raise InputError(
                f"Expected more than {self.num_neighbors + 1} inputs for {self.num_neighbors} neighbors each; got "
                f"shape {x.shape}. Give more inputs, or a smaller num_neighbors."
            )
        require_finite(x, "x")

    def intrinsic_dimension(self, x: Array) -> int:
        """`dimension` if given, else the estimate of Levina and Bickel (2004), rounded.

        The estimate averages the inverse of the local dimension over inputs. It is too low in high dimensions, in which
        most inputs lie near the edge of the data: for a cube of dimension 4 it is 3.
        """
        if self.dimension is not None:
            return self.dimension
        distances, _ = self._nearest(x)
        distances = distances[distances[:, 0] > 0]
        if self.num_neighbors < 3 or len(distances) == 0:
            return 1
        inverse = np.log(distances[:, -1:] / distances[:, :-1]).sum(1) / (self.num_neighbors - 2)
        return max(1, round(1 / float(inverse.mean())))

    def neighbors(self, x: Array) -> Edges:
        distances, indices = self._nearest(x)
        first = np.repeat(np.arange(len(indices)), indices.shape[1])
        pairs = np.stack([first, indices.ravel()])
        pairs.sort(0)
        _, once = np.unique(pairs, axis=1, return_index=True)
        once = once[distances.ravel()[once] > 0]
        if len(once) == 0:
            raise InputError("Expected inputs that differ from their neighbors; got inputs that all coincide.")
        return Edges(pairs[0, once], pairs[1, once], distances.ravel()[once])

    def steps(self, x: Array, scale: float, num_steps: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """Steps centered on a random point of the segment from a random node to one of its neighbors, and along it."""
        node_key, neighbor_key, offset_key = jax.random.split(require_key(key), 3)
        first, second, distance = (jnp.asarray(part) for part in self.neighbors(x))
        edges = jax.random.choice(node_key, len(first), (min(num_steps, len(first)),), replace=False)
        swap = jax.random.bernoulli(neighbor_key, shape=edges.shape)
        nodes = jnp.where(swap, second[edges], first[edges])
        other = jnp.where(swap, first[edges], second[edges])
        along = (-1, *(1,) * (x.ndim - 1))
        direction = (x[other] - x[nodes]) / distance[edges].reshape(along)
        middle = x[nodes] + direction * (distance[edges] * jax.random.uniform(offset_key, edges.shape)).reshape(along)
        return nodes, middle - scale / 2 * direction, middle + scale / 2 * direction

    def chart(self, x: Array) -> Float[np.ndarray, "n 2"]:
        """The first two principal components."""
        from sklearn.decomposition import PCA  # it takes long to load

        flat = np.asarray(x, float).reshape(len(x), -1)
        components = PCA(min(2, flat.shape[1])).fit_transform(flat)
        return components if components.shape[1] == 2 else np.pad(components, ((0, 0), (0, 1)))

    def _nearest(self, x: Array) -> tuple[Float[np.ndarray, "n q"], np.ndarray]:
        """Ascending distances to the nearest neighbors, and their indices. An input is no neighbor of itself."""
        from sklearn.neighbors import NearestNeighbors  # it takes long to load

        flat = np.asarray(x, float).reshape(len(x), -1)
        return NearestNeighbors(n_neighbors=self.num_neighbors).fit(flat).kneighbors()

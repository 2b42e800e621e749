"""The circle of a given radius in the plane, whose harmonics are sines and cosines.

>>> from ntkbias.domains import Circle
>>> circle = Circle()
>>> x, weights = circle.quadrature(8)
>>> x.shape, circle.degrees(2).tolist()
((8, 2), [0, 1, 1, 2, 2])
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import require_finite, require_key, require_positive
from ntkbias.domains.domain import ON_SPHERE, Edges, HarmonicDomain
from ntkbias.errors import InputError

__all__ = ["Circle"]


class Circle(HarmonicDomain):
    """Inputs `(n, 2)` at distance `radius` from the origin. Distances are lengths of arcs.

    The harmonics of degree k are sqrt(2) cos(k angle) and sqrt(2) sin(k angle). Their frequency is k / radius, in
    radians per unit of length.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> x.shape, circle.harmonics(x, 2).shape  # 1, then cos and sin of degree 1 and of degree 2
    ((16, 2), (16, 5))
    """

    radius: float = 1.0

    def __check_init__(self):
        try:
            positive = bool(self.radius > 0)
        except jax.errors.ConcretizationTypeError:
            return
        if not positive:
            raise InputError(f"Expected a radius above zero; got {self.radius!r}.")

    def check(self, x: Array) -> None:
        if x.ndim != 2 or x.shape[1] != 2 or len(x) == 0:
            raise InputError(f"Expected inputs (n, 2) on the circle; got shape {x.shape}.")
        require_finite(x, "x")
        off = float(np.max(np.abs(np.linalg.norm(np.asarray(x), axis=1) - self.radius)))
        if off > ON_SPHERE * self.radius:
            raise InputError(
                f"Expected inputs at distance {self.radius:g} from the origin; got some off by {off:.3g}. "
                "Give Circle(radius=...), or normalize the inputs."
            )

    def point(self, angle: Float[Array, " n"]) -> Float[Array, "n 2"]:
        """The points at these angles (radians)."""
        return self.radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)

    def angle(self, x: Float[Array, "n 2"]) -> Float[Array, " n"]:
        """The angles of these points, between 0 and 2 pi."""
        return _angle(x)

    def sample(self, num_inputs: int, *, key: PRNGKeyArray) -> Float[Array, "n 2"]:
        """Independent points, uniform on the circle."""
        require_positive("num_inputs", num_inputs)
        return self.point(jax.random.uniform(require_key(key), (num_inputs,), maxval=2 * jnp.pi))

    def grid(self, num_inputs: int) -> Float[Array, "n 2"]:
        """Equally spaced points, the first at angle zero."""
        require_positive("num_inputs", num_inputs)
        angles = 2 * np.pi * np.arange(num_inputs) / num_inputs
        points = self.radius * np.stack([np.cos(angles), np.sin(angles)], -1)
        return jnp.asarray(points.astype(jnp.result_type(float)))

    def quadrature(self, num_inputs: int) -> tuple[Float[Array, "n 2"], Float[Array, " n"]]:
        """The grid with equal weights: exact for harmonics of degree below `num_inputs`."""
        return self.grid(num_inputs), jnp.asarray(np.full(num_inputs, 1 / num_inputs, jnp.result_type(float)))

    def harmonics(self, x: Float[Array, "n 2"], max_degree: int) -> Float[Array, "n h"]:
        """1, sqrt 2 cos(angle), sqrt 2 sin(angle), sqrt 2 cos(2 angle), ...: 2 `max_degree` + 1 functions."""
        return _waves(x, max_degree)

    def degrees(self, max_degree: int) -> Int[np.ndarray, " h"]:
        """0, 1, 1, 2, 2, ..."""
        return (np.arange(2 * max_degree + 1) + 1) // 2

    def frequency(self, degree: Array | np.ndarray) -> Array:
        """degree / radius."""
        return jnp.asarray(degree) / self.radius

    def max_degree(self, num_inputs: int) -> int:
        """The largest degree below half of `num_inputs`. From there on waves coincide on the grid."""
        return (num_inputs - 1) // 2

    def intrinsic_dimension(self, x: Array) -> int:
        return 1

    def neighbors(self, x: Array) -> Edges:
        """One edge from each point to the next one counterclockwise. Its distance is the arc between them."""
        angles = np.asarray(self.angle(x), float)
        order = np.argsort(angles)
        following = np.roll(order, -1)
        arcs = self.radius * ((angles[following] - angles[order]) % (2 * np.pi))
        apart = arcs > 0
        return Edges(order[apart], following[apart], arcs[apart])

    def steps(self, x: Array, scale: float, num_steps: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """Arcs of length `scale` that start within one spacing after a node."""
        node_key, offset_key = jax.random.split(require_key(key))
        nodes = jax.random.permutation(node_key, len(x))[:num_steps]
        offsets = jax.random.uniform(offset_key, nodes.shape, maxval=self.spacing(x) / self.radius)
        starts = self.angle(x)[nodes] + offsets
        return nodes, self.point(starts), self.point(starts + scale / self.radius)

    def chart(self, x: Array) -> Float[np.ndarray, "n 1"]:
        """The angle."""
        return np.asarray(self.angle(x))[:, None]


@jax.jit
def _angle(x: Float[Array, "n 2"]) -> Float[Array, " n"]:
    return jnp.arctan2(x[:, 1], x[:, 0]) % (2 * jnp.pi)


@partial(jax.jit, static_argnums=1)
def _waves(x: Float[Array, "n 2"], max_degree: int) -> Float[Array, "n h"]:
    angles = _angle(x)[:, None] * jnp.arange(1, max_degree + 1)
    waves = jnp.sqrt(2.0) * jnp.stack([jnp.cos(angles), jnp.sin(angles)], -1).reshape(len(x), -1)
    return jnp.concatenate([jnp.ones((len(x), 1), waves.dtype), waves], 1)

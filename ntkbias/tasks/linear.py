"""A linear task on whitened inputs: all directions are alike, but for the one that the targets choose.

>>> import jax
>>> from ntkbias.tasks import whitened
>>> whitened(50, 4, key=jax.random.key(0)).x.shape
(50, 4)
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_key, require_positive, require_wide
from ntkbias.errors import InputError
from ntkbias.tasks.task import Task

__all__ = ["Direction", "whitened"]


class Direction(eqx.Module):
    """The truth of `whitened`: the coordinate of an input along a direction of length one."""

    direction: Float[Array, " d"]

    def __call__(self, x: ArrayLike) -> Float[Array, " m"]:
        """The targets of the inputs."""
        rows = require_wide(x, "x")
        if rows.ndim != 2 or rows.shape[1] != len(self.direction):
            raise InputError(f"Expected inputs (m, {len(self.direction)}); got shape {rows.shape}.")
        return jnp.matmul(rows, self.direction, precision="highest")


def whitened(num_examples: int, num_coordinates: int, *, key: PRNGKeyArray) -> Task:
    """Random inputs `(n, d)` whose second moments are exactly those of white noise, x^T x / n = 1, and y = x . v.

    The direction v is random, of length one, so the targets have mean square one. Linear networks on such inputs follow
    a known path in training (Atanasov, Bordelon and Pehlevan 2021, arXiv 2111.00034). Costs n d^2 operations.

    Raises `InputError` if there are fewer examples than coordinates.

    >>> import jax, jax.numpy as jnp, ntkbias as nb
    >>> task = nb.tasks.whitened(50, 4, key=jax.random.key(0))
    >>> bool(jnp.allclose(task.x.T @ task.x / 50, jnp.eye(4), atol=1e-5)), round(float((task.y**2).mean()), 4)
    (True, 1.0)
    """
    for name, value in (("num_examples", num_examples), ("num_coordinates", num_coordinates)):
        require_positive(name, value)
    if num_examples < num_coordinates:
        raise InputError(f"Expected as many examples as coordinates, {num_coordinates}, or more; got {num_examples}.")
    first, second = jax.random.split(require_key(key))
    x = jnp.linalg.qr(jax.random.normal(first, (num_examples, num_coordinates)))[0] * num_examples**0.5
    direction = jax.random.normal(second, (num_coordinates,))
    truth = Direction(direction / jnp.linalg.norm(direction))
    return Task(x, truth(x), truth)

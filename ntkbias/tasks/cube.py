"""Tasks in a cube: the staircase on its corners, and slabs inside it.

>>> import jax
>>> from ntkbias.tasks import slabs, staircase
>>> key = jax.random.key(0)
>>> staircase(50, 20, key=key).x.shape, slabs(50, 10, key=key).x.shape
((50, 20), (50, 10))
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_key, require_positive, require_wide
from ntkbias.errors import InputError
from ntkbias.tasks.task import Task

__all__ = ["SignOfFirst", "Steps", "slabs", "staircase"]


class Steps(eqx.Module):
    """The truth of `staircase`: (x_1 + x_1 x_2 + ... + x_1 ... x_k) / sqrt(k)."""

    degree: int = eqx.field(static=True)

    def __call__(self, x: ArrayLike) -> Float[Array, " m"]:
        """The targets of the inputs."""
        leading = _rows(x, self.degree)[:, : self.degree]
        return jnp.sum(jnp.cumprod(leading, 1), 1) / self.degree**0.5


class SignOfFirst(eqx.Module):
    """The truth of `slabs`: the sign of the first coordinate."""

    def __call__(self, x: ArrayLike) -> Float[Array, " m"]:
        """The targets of the inputs."""
        return jnp.where(_rows(x, 1)[:, 0] >= 0, 1.0, -1.0)


def staircase(num_examples: int, num_coordinates: int, *, degree: int = 3, key: PRNGKeyArray) -> Task:
    """Random corners of the cube {-1, 1}^d, with y = (x_1 + x_1 x_2 + ... + x_1 ... x_k) / sqrt(k) for k = `degree`.

    A kernel without features needs more examples for each further step. A network that has learned one step finds the
    next one sooner. The targets have variance one over the cube. Raises `InputError` if the degree exceeds the number
    of coordinates.

    >>> import jax, ntkbias as nb
    >>> task = nb.tasks.staircase(2_000, 20, key=jax.random.key(0))
    >>> task.x.shape, bool(abs(task.y.std() - 1) < 0.1)
    ((2000, 20), True)
    """
    for name, value in (("num_examples", num_examples), ("num_coordinates", num_coordinates), ("degree", degree)):
        require_positive(name, value)
    if degree > num_coordinates:
        raise InputError(f"Expected a degree of at most the number of coordinates, {num_coordinates}; got {degree}.")
    x = jax.random.rademacher(require_key(key), (num_examples, num_coordinates), dtype=jnp.result_type(float))
    truth = Steps(degree)
    return Task(x, truth(x), truth)


def slabs(
    num_examples: int, num_coordinates: int, *, num_slabs: int = 5, margin: float = 0.1, key: PRNGKeyArray
) -> Task:
    """Inputs `(n, d)` with one simple coordinate; each of the others predicts the class as well (LMS-k).

    The construction is from Shah et al. 2020 (arXiv 2006.07710). Labels y are -1 and 1. Coordinate 0 is y times a
    number from `margin` to 1, so a threshold on it separates the classes. Every other coordinate lies in one of
    `num_slabs` slabs of alternating class, so no threshold on it does. An inner slab of the positive class holds twice
    as many examples as an outer one. Coordinates are independent given the class and lie in [-1, 1]. Each one alone
    determines the class without error. The truth is the sign of coordinate 0.

    Raises `InputError` for an even number of slabs, or for a margin that is not between 0 and 1.

    >>> import jax, ntkbias as nb
    >>> x, labels = nb.tasks.slabs(16, 3, key=jax.random.key(0)).data
    >>> x.shape, sorted(set(labels.tolist()))
    ((16, 3), [-1.0, 1.0])
    """
    for name, value in (("num_examples", num_examples), ("num_coordinates", num_coordinates), ("num_slabs", num_slabs)):
        require_positive(name, value)
    if num_slabs < 3 or num_slabs % 2 == 0:
        raise InputError(f"Expected an odd number of slabs, 3 or more; got {num_slabs}.")
    if not 0 < margin < 1:
        raise InputError(f"Expected a margin between 0 and 1; got {margin}.")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(require_key(key))))
    y = rng.permutation(np.where(np.arange(num_examples) % 2, 1.0, -1.0))
    x = np.empty((num_examples, num_coordinates))
    x[:, 0] = y * rng.uniform(margin, 1, num_examples)
    gap = 2 * margin / (num_slabs - 1)
    width = (2 - gap * (num_slabs - 1)) / num_slabs
    positive, negative = np.arange(0, num_slabs, 2), np.arange(1, num_slabs, 2)  # the outer slabs are positive
    shares = np.where((positive == 0) | (positive == num_slabs - 1), 1, 2) / (num_slabs - 1)
    for column in range(1, num_coordinates):
        slab = np.where(y > 0, rng.choice(positive, num_examples, p=shares), rng.choice(negative, num_examples))
        x[:, column] = -1 + slab * (width + gap) + rng.uniform(0, width, num_examples)
    kind = jnp.result_type(float)
    return Task(jnp.asarray(x, kind), jnp.asarray(y, kind), SignOfFirst())


def _rows(x: ArrayLike, least: int) -> Array:
    rows = require_wide(x, "x")
    if rows.ndim != 2 or rows.shape[1] < least:
        raise InputError(f"Expected inputs (m, d) with at least {least} coordinates; got shape {rows.shape}.")
    return rows

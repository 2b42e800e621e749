"""Tasks in the plane: a disk, and two spiral arms.

>>> import jax
>>> from ntkbias.tasks import disk, spiral
>>> key = jax.random.key(0)
>>> disk(50, key=key).x.shape, spiral(50, key=key).x.shape
((50, 2), (50, 2))
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_key, require_positive, require_scale, require_wide
from ntkbias.errors import InputError
from ntkbias.tasks.task import Task

__all__ = ["InDisk", "OnSpiral", "disk", "polar", "spiral"]

INNER_RADIUS = 0.1  # at the center the arms meet, and labels mean nothing


class InDisk(eqx.Module):
    """The truth of `disk`: 1 inside a disk around the origin, -1 outside."""

    squared_radius: float

    def __call__(self, x: ArrayLike) -> Float[Array, " m"]:
        """The targets of the inputs."""
        return jnp.where(jnp.sum(_in_plane(x) ** 2, 1) < self.squared_radius, 1.0, -1.0)


class OnSpiral(eqx.Module):
    """The truth of `spiral`: 1 where the first arm is nearer at the same radius, -1 where the second one is."""

    turns: float

    def unrolled(self, x: ArrayLike) -> Float[Array, "m 2"]:
        """The cosine and sine of the angle from the first arm at the same radius. The cosine's sign is the label."""
        radius, angle = polar(x).T
        phase = angle - 2 * jnp.pi * self.turns * radius
        return jnp.stack([jnp.cos(phase), jnp.sin(phase)], 1)

    def __call__(self, x: ArrayLike) -> Float[Array, " m"]:
        """The targets of the inputs."""
        return jnp.where(self.unrolled(x)[:, 0] >= 0, 1.0, -1.0)


def disk(num_points: int, *, key: PRNGKeyArray) -> Task:
    """Uniform points of the square [-1, 1]^2, with label 1 inside a disk of half its area and -1 outside.

    The disk around the origin has the squared radius 2 / pi. (Baratin et al. 2020, arXiv 2008.00938.)

    >>> import jax, ntkbias as nb
    >>> x, y = nb.tasks.disk(4_000, key=jax.random.key(0)).data
    >>> x.shape, bool(abs(y.mean()) < 0.1)
    ((4000, 2), True)
    """
    require_positive("num_points", num_points)
    x = jax.random.uniform(require_key(key), (num_points, 2), minval=-1, maxval=1)
    truth = InDisk(2 / math.pi)
    return Task(x, truth(x), truth)


def spiral(
    num_points: int,
    *,
    turns: float = 2.0,
    unevenness: float = 0.0,
    scatter: float = 0.0,
    key: PRNGKeyArray,
) -> Task:
    """Points on two spiral arms in the unit disk, labeled 1 and -1 by their arm.

    At radius r, from 0.1 to 1, the first arm has the angle 2 pi `turns` r, and the second one lies opposite. Radii have
    the density exp(-`unevenness` r): with 0 they are uniform, and with 5 the outer ends of the arms are rare. Each
    coordinate has normal noise of standard deviation `scatter`. Labels are those of the arms. The truth is the arm
    nearer in angle at the same radius, so it differs from some labels if the noise is large. `truth.unrolled(x)` are
    the features that make the task linear, and `polar(x)` are polar coordinates.

    >>> import jax, ntkbias as nb
    >>> task = nb.tasks.spiral(100, turns=3.0, key=jax.random.key(0))
    >>> bool((task.truth(task.x) == task.y).all()), task.truth.unrolled(task.x).shape
    (True, (100, 2))
    """
    require_positive("num_points", num_points)
    for name, value in (("turns", turns), ("unevenness", unevenness), ("scatter", scatter)):
        require_scale(name, value)
    places, arms, noise = jax.random.split(require_key(key), 3)
    share, length = jax.random.uniform(places, (num_points,)), 1 - INNER_RADIUS
    if unevenness > 0:
        share = -jnp.log1p(share * jnp.expm1(-unevenness * length)) / (unevenness * length)
    radius = INNER_RADIUS + length * share
    y = jnp.where(jax.random.bernoulli(arms, shape=(num_points,)), 1.0, -1.0)
    angle = 2 * jnp.pi * turns * radius
    x = (y * radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])).T
    return Task(x + scatter * jax.random.normal(noise, x.shape), y, OnSpiral(turns))


def polar(x: ArrayLike) -> Float[Array, "m 2"]:
    """The radius and the angle, from -pi to pi, of points `(m, 2)`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.tasks.polar(jnp.array([[0.0, 2.0]])).round(3).tolist()
    [[2.0, 1.571]]
    """
    x = _in_plane(x)
    return jnp.stack([jnp.hypot(x[:, 0], x[:, 1]), jnp.arctan2(x[:, 1], x[:, 0])], 1)


def _in_plane(x: ArrayLike) -> Array:
    points = require_wide(x, "x")
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"Expected points (m, 2) of the plane; got shape {points.shape}.")
    return points

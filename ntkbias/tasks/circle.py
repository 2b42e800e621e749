"""A task on the circle: a sum of sines at points of uneven density.

>>> import math
>>> from ntkbias.tasks import uneven_circle
>>> uneven_circle([(0, 2 * math.pi, 101), (0, 0.5 * math.pi, 51)], [1, 2]).x.shape
(125, 2)
"""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import require_positive, require_whole_numbers, require_wide
from ntkbias.domains import Circle, merge_coinciding
from ntkbias.errors import InputError
from ntkbias.tasks.task import Task

__all__ = ["Sines", "uneven_circle"]


class Sines(eqx.Module):
    """The truth of `uneven_circle`: the sum over its degrees l of sin(l angle)."""

    degrees: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, x: ArrayLike) -> Float[Array, " m"]:
        """The targets of the inputs."""
        points = require_wide(x, "x")
        Circle().check(points)
        return jnp.sum(jnp.sin(Circle().angle(points)[:, None] * jnp.asarray(self.degrees)), 1)


def uneven_circle(arcs: Sequence[tuple[float, float, int]], degrees: Sequence[int]) -> Task:
    """Points of the unit circle that crowd in some arcs, with the sum over `degrees` l of sin(l angle) as targets.

    Each arc (start, end, number of points) is covered by equally spaced angles in radians, both ends included. A whole
    turn has one point fewer, since its ends coincide. Coinciding points of all arcs are merged, because a kernel's Gram
    matrix would be singular. `domains.quadrature_weights` weights the points such that the density drops out.

    Raises `InputError` on an arc that is empty or longer than a turn.

    >>> import math, ntkbias as nb
    >>> turn = 2 * math.pi
    >>> arcs = [(0, turn, 101), (0, 0.15 * turn, 40), (0.7 * turn, 0.9 * turn, 1_000)]  # Yu et al. 2022
    >>> nb.tasks.uneven_circle(arcs, range(1, 10)).x.shape
    (1134, 2)
    """
    if not len(arcs):
        raise InputError("Expected at least one arc (start, end, number of points); got none.")
    for start, end, count in arcs:
        require_positive("the number of points of an arc", count)
        if not (math.isfinite(start) and 0 < end - start <= 2 * math.pi + 1e-6):  # 2 pi may be rounded to float32
            raise InputError(f"Expected an arc from start to a larger end, at most a turn; got {start} to {end}.")
    chosen = require_whole_numbers(list(degrees), "Expected degrees (l,) of one or more", 1)
    angles = np.concatenate([np.linspace(start, end, count) for start, end, count in arcs])
    points = np.stack([np.cos(angles), np.sin(angles)], 1)
    x = merge_coinciding(jnp.asarray(points, jnp.result_type(float))).x
    truth = Sines(tuple(chosen.tolist()))
    return Task(x, truth(x), truth)

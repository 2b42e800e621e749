"""A task on the line: a random signal whose amplitudes fall as a power of frequency.

>>> import jax
>>> from ntkbias.tasks import power_law_signal
>>> power_law_signal(64, key=jax.random.key(0)).x.shape
(64, 1)
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_key, require_positive, require_scale, require_wide
from ntkbias.errors import InputError
from ntkbias.tasks.task import Task

__all__ = ["Waves", "power_law_signal"]


class Waves(eqx.Module):
    """The truth of `power_law_signal`: the sum over k = 1, 2, ... of a_k cos(2 pi k z) + b_k sin(2 pi k z)."""

    cosines: Float[Array, " k"]
    sines: Float[Array, " k"]

    def __call__(self, x: ArrayLike) -> Float[Array, " m"]:
        """The targets of the inputs."""
        z = require_wide(x, "x")
        if z.ndim != 2 or z.shape[1] != 1:
            raise InputError(f"Expected positions (m, 1) on the line; got shape {z.shape}.")
        turns = z * jnp.arange(1, len(self.cosines) + 1)
        angles = 2 * jnp.pi * (turns - jnp.round(turns))  # float32 has few digits left for many turns
        return jnp.cos(angles) @ self.cosines + jnp.sin(angles) @ self.sines


def power_law_signal(
    num_points: int, *, exponent: float = 1.0, max_frequency: int | None = None, key: PRNGKeyArray
) -> Task:
    """A random periodic signal whose amplitude at frequency k falls as k^-`exponent`, at equally spaced z in [0, 1).

    Both amplitudes at frequency k = 1, 2, ... are normal with standard deviation k^-`exponent`. All are then scaled so
    that the signal has mean square one over a period. `exponent` 1 is a 1/f signal (power 1/f^2); 0 is white noise.
    `max_frequency` defaults to the largest one that the points resolve, (`num_points` - 1) // 2. The inputs are
    `(n, 1)`. The truth is the signal anywhere: test between the points with `truth(x + 0.5 / n)`. (Tancik et al. 2020,
    arXiv 2006.10739, who draw signals so.)

    Raises `InputError` if `max_frequency` exceeds what the points resolve.

    >>> import jax, ntkbias as nb
    >>> task = nb.tasks.power_law_signal(64, key=jax.random.key(0))
    >>> round(float((task.y**2).mean()), 3), task.truth(task.x + 0.5 / 64).shape
    (1.0, (64,))
    """
    require_positive("num_points", num_points)
    require_scale("exponent", exponent)
    most = (num_points - 1) // 2
    count = most if max_frequency is None else max_frequency
    require_positive("max_frequency", count)
    if count > most:
        raise InputError(f"Expected max_frequency of at most {most} for {num_points} points; got {count}.")
    amplitudes = jax.random.normal(require_key(key), (2, count)) * jnp.arange(1.0, count + 1) ** -exponent
    cosines, sines = amplitudes * jnp.sqrt(2 / jnp.sum(amplitudes**2))
    truth = Waves(cosines, sines)
    x = jnp.arange(num_points)[:, None] / num_points
    return Task(x, truth(x), truth)

"""Addition modulo p of two numbers that are written one-hot: every pair of them, and their sum.

>>> from ntkbias.tasks import modular_addition
>>> task = modular_addition(5)
>>> task.x.shape, task.y[:6].tolist()
((25, 10), [0.0, 1.0, 2.0, 3.0, 4.0, 1.0])
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_positive, require_wide
from ntkbias.errors import InputError
from ntkbias.tasks.task import Task

__all__ = ["ModularSum", "modular_addition"]


class ModularSum(eqx.Module):
    """The truth of `modular_addition`: (a + b) mod p."""

    modulus: int = eqx.field(static=True)

    def __call__(self, x: ArrayLike) -> Float[Array, " m"]:
        """The targets of the inputs: whole numbers from 0 to p - 1."""
        a, b = self.numbers(x)
        return ((a + b) % self.modulus).astype(jnp.result_type(float))

    def numbers(self, x: ArrayLike) -> tuple[Int[Array, " m"], Int[Array, " m"]]:
        """The two numbers that inputs `(m, 2 p)` write one-hot. Each half's largest coordinate says its number."""
        rows = require_wide(x, "x")
        if rows.ndim != 2 or rows.shape[1] != 2 * self.modulus:
            raise InputError(f"Expected two numbers written one-hot, (m, {2 * self.modulus}); got shape {rows.shape}.")
        halves = jnp.argmax(rows.reshape(-1, 2, self.modulus), 2)
        return halves[:, 0], halves[:, 1]

    def features(self, x: ArrayLike) -> dict[str, Float[Array, "m k"]]:
        """The four families of Fourier features, each `(m, p - 1)`: of a, of b, of their sum and of their difference.

        The columns are sqrt(2) cos(2 pi k t / p) and sqrt(2) sin(2 pi k t / p) for k = 1, ..., (p - 1) / 2, where t is
        a, b, a + b or a - b. Over all pairs, the columns of all families and the constant are orthonormal: the mean of
        the product of two is 1 or 0.
        """
        a, b = self.numbers(x)
        frequencies = jnp.arange(1, (self.modulus + 1) // 2)

        def waves(t: Array) -> Array:
            angles = 2 * jnp.pi * (t[:, None] * frequencies % self.modulus) / self.modulus
            return 2**0.5 * jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], 1)

        return {"first": waves(a), "second": waves(b), "sum": waves(a + b), "difference": waves(a - b)}


def modular_addition(modulus: int) -> Task:
    """All p^2 pairs (a, b), one-hot `(p^2, 2 p)`, with (a + b) mod p as targets `(p^2,)`, for an odd `modulus` p.

    Networks with weight decay first learn the training pairs by heart and much later all others, which is grokking
    (Power et al. 2022, arXiv 2201.02177; one hidden layer of quadratic units: Gromov 2023, arXiv 2301.02679). The
    truth's `features` are the Fourier features of the solution that they find. For a network with p outputs take
    `datasets.one_hot(task.y)`. Memory is 8 p^3 bytes.

    Raises `InputError` if the modulus is not odd, or below 3: of an even p, the sum and the difference share a feature.

    >>> import ntkbias as nb
    >>> task = nb.tasks.modular_addition(5)
    >>> {family: columns.shape for family, columns in task.truth.features(task.x).items()}
    {'first': (25, 4), 'second': (25, 4), 'sum': (25, 4), 'difference': (25, 4)}
    """
    require_positive("modulus", modulus)
    if modulus < 3 or modulus % 2 == 0:
        raise InputError(f"Expected an odd modulus of 3 or more; got {modulus}.")
    one_hot = np.eye(modulus)
    x = np.concatenate([np.repeat(one_hot, modulus, 0), np.tile(one_hot, (modulus, 1))], 1)
    truth = ModularSum(modulus)
    inputs = jnp.asarray(x, jnp.result_type(float))
    return Task(inputs, truth(inputs), truth)

"""Numbers estimated from random probes, with their standard error and their numerical error.

>>> import numpy as np
>>> from ntkbias.eigen.estimate import mean_over_probes
>>> print(mean_over_probes(np.array([1.0, 2.0, 3.0]), 0.1))
2 ± 0.58 (probes) ± 0.1 (steps, rounding)
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.scaling.as_number import AsNumber
from ntkbias.tables import Axes, Printed, Table, spaced

__all__ = ["Estimate"]


class Estimate(AsNumber, Printed):
    """Numbers estimated from random probes, with their errors. A single number converts by `float()`.

    `standard_error` is that of the mean over probes, which is printed as ± (probes): one standard error. With 16
    probes, the exact value lies within two standard errors in about 94 of 100 cases, apart from the numerical error.
    For sums over eigenvalues it is the larger of the scatter and the one that theory gives: if few eigenvalues
    dominate, the scatter of few probes is often too small.
    `numerical_error` comes from the finite number of Lanczos steps and from rounding. It is a bound unless the method
    that made the estimate says otherwise. More probes do not reduce it. More steps reduce it until only rounding is
    left.

    >>> import jax, ntkbias as nb
    >>> kernel = nb.infinite_ntk(nb.nets.mlp())
    >>> density = nb.eigen.spectral_density(kernel.operator(jax.random.normal(jax.random.key(0), (64, 3))))
    >>> rank = density.effective_dimension(0.1)
    >>> float(rank) > 0, rank.standard_error.shape, bool(rank.numerical_error >= 0)
    (True, (), True)
    """

    named_axes = Axes("number", q="number")

    value: Float[Array, "*q"]
    standard_error: Float[Array, "*q"]
    numerical_error: Float[Array, "*q"]

    def _table(self, num_rows: int) -> Table:
        parts = [np.ravel(part) for part in (self.value, self.standard_error, self.numerical_error)]
        if not np.ndim(self.value):
            return Table(
                "{:.6g} ± {:.2g} (probes) ± {:.2g} (steps, rounding)".format(*(float(part[0]) for part in parts))
            )
        shown = spaced(len(parts[0]), num_rows)
        columns = {
            "value": [f"{parts[0][row]:.6g}" for row in shown],
            "± (probes)": [f"{parts[1][row]:.2g}" for row in shown],
            "± (steps, rounding)": [f"{parts[2][row]:.2g}" for row in shown],
        }
        return Table(f"Estimate: {len(parts[0]):,} numbers", columns)


def at_each(at_point: Callable[[float], tuple[np.ndarray, Any]], points: Float[np.ndarray, "*q"]) -> Estimate:
    """The estimates at `points`, where `at_point` returns one value per probe and the numerical error."""
    found = [at_point(float(point)) for point in points.ravel()]
    values = np.array([values for values, _ in found]).reshape(*points.shape, -1)
    return mean_over_probes(values, np.array([error for _, error in found], float).reshape(points.shape))


def mean_over_probes(
    values: Float[np.ndarray, "*q p"], numerical_error: ArrayLike, variance: ArrayLike = 0.0
) -> Estimate:
    """The mean over the last axis, that of probes, with its errors. One value has at least the given `variance`."""
    error = np.sqrt(np.maximum(np.var(values, -1, ddof=1), variance) / values.shape[-1])
    return Estimate(*(jnp.asarray(part) for part in (np.mean(values, -1), error, np.maximum(numerical_error, 0))))

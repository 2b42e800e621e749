"""The errors that a law predicts, with their intervals.

>>> import jax.numpy as jnp
>>> from ntkbias.scaling.band import ErrorBand
>>> print(ErrorBand(*(jnp.array([value]) for value in (64.0, 0.1, 0.09, 0.12))))
ErrorBand: 1 size
size                     error
  64  0.1000 (0.0900 to 0.1200)
In brackets, intervals of 95 %.
"""

from jaxtyping import Array, Float

from ntkbias.tables import Axes, Printed, Table, counted, interval, spaced

__all__ = ["ErrorBand"]


class ErrorBand(Printed):
    """The errors that a law predicts at `sizes`, with 95 % intervals: the result of `ScalingLaw.extrapolate`.

    >>> import numpy as np, ntkbias as nb
    >>> sizes = 2 ** np.arange(4, 10)
    >>> errors = 3 * sizes**-0.5 * np.random.default_rng(0).uniform(0.9, 1.1, (5, 6))
    >>> law = nb.scaling_law(sizes, errors, num_resamples=50)
    >>> band = law.extrapolate([4096])
    >>> bool(band.low[0] < band.errors[0] < band.high[0])
    True
    """

    named_axes = Axes("size", index={"size": "sizes"}, m="size")

    sizes: Float[Array, " m"]
    errors: Float[Array, " m"]
    low: Float[Array, " m"]
    high: Float[Array, " m"]

    def _table(self, num_rows: int) -> Table:
        shown = spaced(len(self.sizes), num_rows)
        columns = {
            "size": [f"{float(self.sizes[row]):,.6g}" for row in shown],
            "error": [interval(self.errors[row], self.low[row], self.high[row]) for row in shown],
        }
        return Table(f"ErrorBand: {counted(len(self.sizes), 'size')}", columns, ["In brackets, intervals of 95 %."])

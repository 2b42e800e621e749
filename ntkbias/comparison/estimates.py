"""Estimates with 95 % intervals: one number per row, of one thing, quantity and target or frequency.

>>> from ntkbias.comparison.estimates import Estimates, estimate_of
>>> from ntkbias.comparison.evidence import Contrast
>>> row = estimate_of("samples needed", Contrast(3.0, 0.1, 7.0))   # on a logarithmic scale
>>> print(row)
20.1 (15.9 to 25.4)
"""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.comparison.evidence import LEVEL, Contrast
from ntkbias.comparison.quantities import QUANTITIES
from ntkbias.scaling import Interval
from ntkbias.tables import Labeled, Printed, Table, interval, spread

__all__ = ["Estimates", "estimate_of", "estimates_of", "exactly"]


class Estimates(Printed):
    """Numbers with their 95 % intervals, one per row, each interval on its own (not simultaneous).

    `names`, `quantities` and `of` say what each row is: the thing, the quantity, and its target, degree or number of
    examples, if any. An exact number has an interval of zero width. A number that is not defined is NaN.

    >>> import ntkbias as nb
    >>> things = {"narrow": nb.nets.mlp(width=16, depth=2), "wide": nb.nets.mlp(width=64, depth=2)}
    >>> found = nb.compare(things, nb.domains.Circle(), seeds=3)
    >>> rows = found.by_frequency()
    >>> rows.names[0], rows.quantities[0], rows.of[0], bool(rows.low[0] <= rows.value[0] <= rows.high[0])
    ('narrow', 'energy', 'degree 0', True)
    """

    title: str = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    quantities: tuple[str, ...] = eqx.field(static=True)
    of: tuple[str, ...] = eqx.field(static=True)
    value: Float[Array, " p"]
    low: Float[Array, " p"]
    high: Float[Array, " p"]
    notes: tuple[str, ...] = eqx.field(static=True, default=())

    def _labeled(self) -> Labeled:
        """The numbers by name, quantity and what they are of."""
        labels = {"name": self.names, "quantity": self.quantities, "of": self.of}
        return spread(labels, {"value": self.value, "low": self.low, "high": self.high})

    def _table(self, num_rows: int) -> Table:
        """One row per thing and target, one column per quantity."""
        rows = list(dict.fromkeys(zip(self.names, self.of, strict=True)))
        heads = list(dict.fromkeys(self.quantities))
        cells = {
            (name, of, head): exactly(float(value), float(low), float(high))
            for name, of, head, value, low, high in zip(
                self.names, self.of, self.quantities, self.value, self.low, self.high, strict=True
            )
        }
        shown = rows[:num_rows]
        columns = {"kernel": [name for name, _ in shown]}
        if any(self.of):
            columns["of"] = [of for _, of in shown]
        columns |= {head: [cells.get((*row, head), "-") for row in shown] for head in heads}
        return Table(self.title, columns, list(self.notes), len(rows) - len(shown))


def estimates_of(title: str, rows: Sequence[tuple[str, str, str, Interval]], notes: tuple[str, ...] = ()) -> Estimates:
    """The estimates of these rows: name, quantity, its target or number, and the interval."""
    names, quantities, of, found = zip(*rows, strict=True)
    dtype = jnp.result_type(float)
    with jax.debug_nans(False), jax.debug_infs(False):  # a number that is not defined is NaN
        value, low, high = (
            jnp.asarray(np.array([getattr(each, end) for each in found]).astype(dtype))
            for end in ("value", "low", "high")
        )
    return Estimates(title, names, quantities, of, value, low, high, notes)


def estimate_of(quantity: str, found: Contrast, level: float = LEVEL) -> Interval:
    """The number on its own scale, with its interval."""
    low, high = found.ends(level)
    if QUANTITIES[quantity].is_log:
        return Interval(*(float(np.exp(each)) for each in (found.value, low, high)))
    if quantity == "Spearman's rho":  # which has these limits
        low, high = max(low, -1.0), min(high, 1.0)
    return Interval(found.value, low, high)


def exactly(value: float, low: float, high: float) -> str:
    """The number with its interval as text, and alone if the interval has no width."""
    if math.isnan(value):
        return "not defined"
    return interval(value, low, high)

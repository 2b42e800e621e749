"""A number with its 95 % interval.

>>> from ntkbias.scaling import Interval
>>> str(Interval(-0.5, -0.53, -0.48)), 0 in Interval(-0.5, -0.53, -0.48)
('-0.5 (-0.53 to -0.48)', False)
"""

import equinox as eqx

__all__ = ["Interval"]


class Interval(eqx.Module):
    """An estimate with the ends of its 95 % interval. `number in interval` is true between the ends, inclusive."""

    value: float
    low: float
    high: float

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"

"""A number with its 95 % interval.

>>> from ntkbias.scaling import Interval
>>> str(Interval(-0.5, -0.53, -0.48)), 0 in Interval(-0.5, -0.53, -0.48)
('-0.500 (-0.530 to -0.480)', False)
"""

from ntkbias.scaling.as_number import AsNumber
from ntkbias.tables import Printed, Table, interval

__all__ = ["Interval"]


class Interval(AsNumber, Printed):
    """An estimate with the ends of its 95 % interval. `number in interval` is true between the ends, inclusive.

    >>> import ntkbias as nb
    >>> 0.5 in nb.scaling.Interval(0.4, 0.3, 0.6)
    True
    """

    value: float
    low: float
    high: float

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high

    def _table(self, num_rows: int) -> Table:
        return Table(interval(self.value, self.low, self.high))

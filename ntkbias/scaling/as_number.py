"""A result that is one number and its errors: it converts, formats and compares as the number.

>>> from ntkbias.scaling import Interval
>>> slope = Interval(-1.234, -1.3, -1.1)
>>> float(slope), f"{slope:.1f}", slope < -1, str(slope)
(-1.234, '-1.2', True, '-1.23 (-1.30 to -1.10)')
"""

from typing import Any

import numpy as np

from ntkbias.errors import InputTypeError
from ntkbias.tables import Printed

__all__ = ["AsNumber"]


class AsNumber(Printed):
    """A value whose field `value` is the number. `float(v)`, `f"{v:.3f}"`, `v < 1` and `v >= 1` use it."""

    def __float__(self) -> float:
        value: Any = getattr(self, "value")  # noqa: B009  # a field of the subclasses
        if np.ndim(value):
            raise InputTypeError(
                f"Expected one number to convert by float(); got {type(self).__name__} of shape {np.shape(value)}. Use "
                "its field value."
            )
        return float(value)

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec else str(self)

    def __lt__(self, other: Any) -> bool:
        return float(self) < float(other)

    def __le__(self, other: Any) -> bool:
        return float(self) <= float(other)

    def __gt__(self, other: Any) -> bool:
        return float(self) > float(other)

    def __ge__(self, other: Any) -> bool:
        return float(self) >= float(other)

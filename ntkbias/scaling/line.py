"""A straight line of log y against log x: y = exp(intercept) x^exponent.

It gives no interval. Take intervals from refits to resampled data (bootstrap, seeds), and never from the scatter about
the line: sorted eigenvalues are not independent, so their least-squares errors mean nothing.

>>> import numpy as np
>>> from ntkbias.scaling import power_law
>>> exponent, intercept = power_law(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.25, 0.0625]))
>>> round(exponent, 6)
-2.0
"""

from typing import NamedTuple

import numpy as np

from ntkbias.errors import InputError

__all__ = ["PowerLaw", "power_law"]


class PowerLaw(NamedTuple):
    """The parameters of y = exp(intercept) x^exponent.

    >>> import ntkbias as nb
    >>> nb.scaling.PowerLaw(exponent=-1.0, intercept=0.0)
    PowerLaw(exponent=-1.0, intercept=0.0)
    """

    exponent: float
    intercept: float


def power_law(x: np.ndarray, y: np.ndarray) -> PowerLaw:
    """The least-squares line of log y against log x, for positive x and y `(n,)`.

    Raises `InputError` if the shapes differ, if a number is not positive, or if x has fewer than two different values.

    >>> import ntkbias as nb, numpy as np
    >>> nb.scaling.power_law(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.5, 0.25])).exponent
    -1.0
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"Expected x and y of one length; got shapes {x.shape} and {y.shape}.")
    if not (np.all(x > 0) and np.all(y > 0)):
        raise InputError("Expected positive numbers to fit a power law; got zero or less. Leave those points out.")
    if len(np.unique(x)) < 2:
        raise InputError(f"Expected two different x or more to fit a power law; got {len(np.unique(x))}.")
    exponent, intercept = np.polyfit(np.log(x), np.log(y), 1)
    return PowerLaw(float(exponent), float(intercept))

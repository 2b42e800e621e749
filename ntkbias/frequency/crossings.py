"""Local frequency: how often a function on a curve changes its sign, on each stretch of the curve.

A wave sin(k s) changes its sign k / pi times per unit of length s. So pi times the number of sign changes, divided by
the length of a stretch, is the function's frequency there. It is a frequency in one place, while the others are means
over all inputs.

>>> import numpy as np
>>> from ntkbias.frequency import local_frequency
>>> s = np.linspace(0, 2 * np.pi, 1_000)
>>> wave = np.where(s < np.pi, np.sin(20 * s), np.sin(10 * s))
>>> local_frequency(wave, s, [0.1, np.pi - 0.1, np.pi + 0.1, 2 * np.pi - 0.1]).round(0).tolist()[::2]
[20.0, 10.0]
"""

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from ntkbias.checks import require_host
from ntkbias.errors import InputError

__all__ = ["local_frequency"]


def local_frequency(
    functions: ArrayLike, positions: ArrayLike, edges: ArrayLike | Sequence[float]
) -> Float[np.ndarray, "stretches *k"]:
    """pi times the number of sign changes per unit of length, on each stretch of a curve, in radians.

    `functions` `(n,)` or `(n, k)` are values at `positions` `(n,)`, which ascend along the curve, such as the angles of
    points on the unit circle. `edges` `(m + 1,)` ascend too, and bound m stretches. The result is `(m,)` or `(m, k)`. A
    sign change belongs to the stretch in which a line between the two neighboring values is zero. Values that are zero
    themselves are left out.

    A count is off by up to one, so the frequency is off by up to pi / length. Modes of one eigenspace have no local
    frequency of their own: average over many modes. Two inputs per half wave are needed, or sign changes are missed.

    Raises `InputError` on values that are not finite, on another number of positions, and if positions or edges do not
    ascend.

    >>> import numpy as np, ntkbias as nb
    >>> s = np.linspace(0, 2 * np.pi, 400)
    >>> nb.frequency.local_frequency(np.cos(8 * s), s, [0, np.pi, 2 * np.pi]).tolist()
    [8.0, 8.0]
    """
    values, s, ends = (require_host(part, "values, positions and edges") for part in (functions, positions, edges))
    values, s, ends = (np.asarray(part, float) for part in (values, s, ends))
    if values.ndim not in (1, 2) or s.shape != values.shape[:1] or len(s) < 2:
        raise InputError(
            f"Expected functions (n,) or (n, k) at positions (n,), two or more; got shapes {values.shape} and "
            f"{s.shape}."
        )
    for name, part in (("positions", s), ("edges", ends)):
        if part.ndim != 1 or len(part) < 2 or not np.all(np.diff(part) > 0):
            raise InputError(f"Expected {name} (n,) that ascend, two or more; got shape {part.shape}. Sort them.")
    if not np.isfinite(values).all():
        raise InputError("Expected functions with finite values; got NaN or infinity.")
    columns = values.reshape(len(s), -1)
    counts = np.stack([np.histogram(_zeros(column, s), ends)[0] for column in columns.T], 1)
    return (np.pi * counts / np.diff(ends)[:, None]).reshape(-1, *values.shape[1:])


def _zeros(values: Float[np.ndarray, " n"], positions: Float[np.ndarray, " n"]) -> Float[np.ndarray, " z"]:
    """The positions at which the lines between neighboring values are zero."""
    values, positions = values[values != 0], positions[values != 0]
    at = np.flatnonzero(np.sign(values[:-1]) != np.sign(values[1:]))
    left, right = values[at], values[at + 1]
    return positions[at] + (positions[at + 1] - positions[at]) * left / (left - right)

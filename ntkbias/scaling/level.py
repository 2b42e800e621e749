"""The size at which a curve falls through a level: how many examples an error needs, or where two curves cross.

Between two sizes the curve is a straight line of log value against log size, as a power law is.

>>> import numpy as np
>>> from ntkbias.scaling import crossing
>>> n = np.array([10.0, 100.0, 1000.0])
>>> round(float(crossing(n, 100 / n, 0.5)), 6)                          # the error falls through 1/2
200.0
>>> round(float(crossing(n, 100 / n / n**-0.5, 1.0)), 6)                # 100 / n falls below n^-1/2
nan

`first_passage` is the first of given positions at which a curve of any sign lies beyond a level: the step of
training, among those that were looked at, from which on an accuracy is above 0.9.

>>> from ntkbias.scaling import first_passage
>>> float(first_passage([0, 10, 20], [-0.2, 0.5, 0.95], 0.9))
20.0
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from ntkbias.checks import require_finite, require_host, require_scale
from ntkbias.errors import InputError
from ntkbias.mistaken import require_flag
from ntkbias.scaling.curve import checked_sizes

__all__ = ["crossing", "first_passage"]


def crossing(
    sizes: ArrayLike | Sequence[float], values: ArrayLike | Sequence[float], level: float
) -> Float[np.ndarray, "*t"]:
    """The first size at which `values` fall from above `level` to `level` or below.

    `sizes` `(s,)` ascend, and `values` are `(s,)`, or `(s, t)` for t curves: the result has shape `()` or `(t,)`. It is
    interpolated between the logarithms of neighboring sizes. It is NaN for a curve that never falls through the level,
    as one that is below it from the start. For the size from which on one error is below another, give their ratio and
    level 1.

    Raises `InputError` if sizes do not ascend, or if a value or the level is not a number above zero.

    >>> import ntkbias as nb, numpy as np
    >>> round(float(nb.scaling.crossing([16, 64], [4.0, 1.0], 2.0)), 6)
    32.0
    """
    n = checked_sizes(require_host(sizes, "sizes"))
    curves = np.asarray(require_host(values, "values"), float)
    require_scale("level", level)
    if curves.ndim not in (1, 2) or curves.shape[:1] != n.shape:
        raise InputError(f"Expected values ({len(n)},) or ({len(n)}, t), one row per size; got shape {curves.shape}.")
    if np.any(np.diff(n) <= 0):
        raise InputError("Expected sizes that ascend; got some that do not. Sort both by size.")
    if not (np.all(curves > 0) and np.isfinite(curves).all() and level > 0):
        raise InputError(
            "Expected values and a level above zero; got zero, less, or NaN. Their logarithms are compared."
        )
    rows, log_n = np.log(curves.reshape(len(n), -1) / level), np.log(n)
    falls = (rows[:-1] > 0) & (rows[1:] <= 0)
    found = np.full(rows.shape[1], np.nan)
    for column in np.flatnonzero(falls.any(0)):
        at = int(falls[:, column].argmax())
        above, below = rows[at : at + 2, column]
        found[column] = np.exp(log_n[at] + (log_n[at + 1] - log_n[at]) * above / (above - below))
    return found.reshape(curves.shape[1:])


def first_passage(
    at: ArrayLike | Sequence[float],
    values: ArrayLike | Sequence[Any],
    level: ArrayLike | Sequence[float],
    *,
    falling: bool = False,
    interpolated: bool = False,
) -> Float[np.ndarray, "*t"]:
    """The first of the positions `at` `(s,)` at which `values` lie above `level`; with `falling`, below it.

    `at` ascends, such as the steps of a history's snapshots. `values` are `(s,)`, or `(s, t)` for t curves: the result
    has shape `()` or `(t,)`. `level` is one number, or one per curve `(t,)`. The result is late by up to the distance
    of two positions. With `interpolated`, it is where the line from the position before meets the level. It is NaN for
    a curve that never passes the level. Values may have any sign; NaN does not pass. `crossing` interpolates between
    logarithms, for errors that fall.

    Raises `InputError` if positions do not ascend, or if shapes do not fit.

    >>> import ntkbias as nb
    >>> nb.scaling.first_passage([0, 10, 20], [[0.1, 3.0], [0.7, 2.0], [0.9, 1.0]], [0.5, 5.0]).tolist()
    [10.0, nan]
    >>> float(nb.scaling.first_passage([0, 10, 20], [3.0, 2.0, 1.0], 1.5, falling=True))
    20.0
    >>> float(nb.scaling.first_passage([0, 10, 20], [3.0, 2.0, 1.0], 1.5, falling=True, interpolated=True))
    15.0
    """
    positions, curves, levels = (
        np.asarray(require_host(part, name), float) for part, name in ((at, "at"), (values, "values"), (level, "level"))
    )
    if positions.ndim != 1 or not positions.size or np.any(np.diff(positions) <= 0):
        raise InputError(f"Expected positions at (s,) that ascend; got shape {positions.shape}. Sort both by position.")
    require_finite(positions, "at")
    require_finite(levels, "level")
    if curves.ndim not in (1, 2) or curves.shape[:1] != positions.shape:
        raise InputError(
            f"Expected values ({len(positions)},) or ({len(positions)}, t), one row per position; got shape "
            f"{curves.shape}."
        )
    if levels.shape not in ((), curves.shape[1:]):
        raise InputError(f"Expected one level, or one per curve, {curves.shape[1:]}; got shape {levels.shape}.")
    require_flag("falling", falling)
    require_flag("interpolated", interpolated)
    beyond = levels - curves if falling else curves - levels
    passed = beyond > 0
    place = passed.argmax(0)
    found = np.where(passed.any(0), positions[place], np.nan)
    if interpolated:
        before = np.maximum(place - 1, 0)
        short, far = (np.take_along_axis(beyond, rows[None], 0)[0] for rows in (before, place))
        with np.errstate(
            divide="ignore", invalid="ignore"
        ):  # a curve that is beyond from the start has no position before
            share = np.where(place > 0, far / (far - short), 0.0)
        found -= np.where(np.isfinite(share), share, 0.0) * (positions[place] - positions[before])
    return np.asarray(found)

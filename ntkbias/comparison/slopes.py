"""The power law of a quantity in a number of a grid, such as the distance to the infinite limit against the width.

The exponent is the least-squares slope of log quantity against log number. It is a sum of the estimates at each number,
so that its interval has the same two sources of error as they have.

>>> import numpy as np
>>> from ntkbias.comparison.evidence import Evidence, Sample
>>> from ntkbias.comparison.slopes import slopes_of
>>> noise = np.array([-0.01, 0.0, 0.01])[:, None]
>>> widths = (16, 64, 256)
>>> evidence = Evidence([Sample(noise - 0.5 * np.log(width), None) for width in widths])
>>> names, column = tuple(f"width {width}" for width in widths), (("distance to the limit", ""),)
>>> print(slopes_of(evidence, names, column, (("width", widths),), "distance to the limit", "width"))
Slopes: exponent of distance to the limit against width
kernel                               slope
width 16 to 256  -0.500 (-0.513 to -0.487)
Intervals of 95 %, each on its own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ntkbias.comparison.estimates import Estimates, estimates_of
from ntkbias.comparison.evidence import LEVEL, Evidence, Term
from ntkbias.comparison.quantities import QUANTITIES, label_of
from ntkbias.errors import InputError
from ntkbias.scaling import Interval

__all__ = ["slopes_of"]


def slopes_of(
    evidence: Evidence,
    names: Sequence[str],
    columns: Sequence[tuple[str, str]],
    grid: Sequence[tuple[str, tuple[Any, ...]]],
    quantity: str,
    axis: str,
) -> Estimates:
    """The exponent of `quantity` against `axis`, for each setting of the other axes of a grid."""
    axes = dict(grid)
    places = {label_of(*column): place for place, column in enumerate(columns)}
    if axis not in axes:
        known = ", ".join(map(repr, axes)) or "none"
        raise InputError(f"Expected an axis of a grid, of compare_grid: {known}; got {axis!r}.")
    if quantity not in places or not QUANTITIES[columns[places[quantity]][0]].is_log:
        known = ", ".join(repr(label) for label in places if QUANTITIES[columns[places[label]][0]].is_log)
        raise InputError(f"Expected a positive quantity of this comparison: {known}; got {quantity!r}.")
    place = places[quantity]
    settings: dict[Any, list[tuple[int, float]]] = {}
    for thing in range(len(names)):
        number = axes[axis][thing]
        if isinstance(number, int | float) and not isinstance(number, bool) and 0 < number < np.inf:
            other = tuple((key, values[thing]) for key, values in axes.items() if key != axis)
            settings.setdefault(other, []).append((thing, float(number)))
    rows = []
    for setting, members in settings.items():
        things, numbers = [thing for thing, _ in members], np.log([number for _, number in members])
        if len(set(numbers)) < 2:
            continue
        factors = (numbers - numbers.mean()) / np.sum((numbers - numbers.mean()) ** 2)
        found = evidence.sum([Term(thing, place, float(factor)) for thing, factor in zip(things, factors, strict=True)])
        low, high = (f"{np.exp(end):.6g}" for end in (numbers.min(), numbers.max()))
        name = ", ".join([f"{axis} {low} to {high}", *(f"{key} {value}" for key, value in setting)])
        rows.append((name, "slope", "", Interval(found.value, *found.ends(LEVEL))))
    if not rows:
        raise InputError(f"Expected two different numbers or more on the axis {axis!r}; got {axes[axis]}.")
    title = f"Slopes: exponent of {quantity} against {axis}"
    return estimates_of(title, rows, ("Intervals of 95 %, each on its own.",))

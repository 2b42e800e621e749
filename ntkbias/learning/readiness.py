"""The numbers for one kernel and one target, and a table of many such pairs.

>>> from ntkbias.learning.readiness import Readiness, table_of
>>> from ntkbias.scaling import Interval
>>> parts = Interval(0.2, 0.1, 0.3), Interval(5.0, 4.0, 6.0), Interval(8.0, 7.0, 9.0)
>>> print(table_of([("mlp", "parity")], [Readiness(*parts, float("nan"), 1.0, False)]))
Learnability: 1 target, 1 kernel
target  Rayleigh quotient        learning time       samples needed  label time
parity              0.200  5.00 (4.00 to 6.00)  8.00 (7.00 to 9.00)           -
In brackets, intervals of 95 % over samples of as many examples.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ntkbias.scaling import Interval
from ntkbias.tables import Table, counted, number

__all__ = ["Readiness", "table_of"]


class Readiness(NamedTuple):
    """The numbers of `Learnability` for one kernel and one target, with their intervals.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> found = nb.learnability(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, {"right": lambda x: x[:, 0]})
    >>> type(found["right"]).__name__
    'Readiness'
    """

    rayleigh_quotient: Interval
    learning_time: Interval
    samples_needed: Interval
    label_time: float
    known_power: float
    are_bounds: bool


def table_of(pairs: Sequence[tuple[str, str]], found: Sequence[Readiness], more: int = 0) -> Table:
    """A table with one row per pair of kernel and target; `more` is the number of rows that it leaves out."""
    kernels, targets = ([*dict.fromkeys(names)] for names in (zip(*pairs, strict=True) if pairs else ([], [])))
    columns = {"kernel": [kernel for kernel, _ in pairs]} if len(kernels) > 1 else {}
    columns |= {
        "target": [target for _, target in pairs],
        "Rayleigh quotient": [number(each.rayleigh_quotient.value) for each in found],
        "learning time": [str(each.learning_time) for each in found],
        "samples needed": [str(each.samples_needed) for each in found],
        "label time": [_label_time(each) for each in found],
    }
    notes = (
        ["In brackets, intervals of 95 % over samples of as many examples."]
        if not all(each.are_bounds for each in found)
        else []
    )
    for kernel in kernels:
        own = [each for (name, _), each in zip(pairs, found, strict=True) if name == kernel]
        if own[0].are_bounds:
            of = f" of {kernel}" if len(kernels) > 1 else ""
            known = f"{min(each.known_power for each in own):.0%}"
            notes.append(f"In brackets{of}, bounds: {known} or more of these targets lies in known modes.")
    title = f"Learnability: {counted(len(targets), 'target')}, {counted(len(kernels), 'kernel')}"
    return Table(title, columns, notes, more)


def _label_time(found: Readiness) -> str:
    if math.isnan(found.label_time):
        return "-"
    return ("~" if found.are_bounds else "") + number(found.label_time)

"""A measure of training: a function of a snapshot, with all that others need to know of what it gives.

Whoever takes, keeps, draws or tabulates a measure reads here the names of its axes and of what lies along them, which
other measures it needs, the panel of `plots.evolution` that it is drawn in, and the column that it has in tables.

>>> from ntkbias.tracking.measures import Measure, measured
>>> @measured(title="gap", scale="log", column="gap")
... def gap(at):
...     return at.spectrum.eigenvalues[0] - at.spectrum.eigenvalues[1]
>>> gap.name, isinstance(gap, Measure)
('gap', True)
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ntkbias.tracking.snapshot import Snapshot

__all__ = ["Measure", "measured"]


@dataclasses.dataclass(frozen=True, eq=False)
class Measure:
    """A function of a `Snapshot` to a number, or to an array of one shape at all snapshots; it is called as such.

    `axes` name the axes of that array, and `labels` give the names of what lies along the last of them. `needs` are the
    measures whose values it reads: they are taken with it, before it.

    A number with a `title` is drawn by `plots.evolution`, in the panel of that title, beside the others that share it,
    as the `line` of that name (default: its own) and on that `scale`. `title` also names an array in its picture. With
    `column`, the head, a number has a column in tables and a sentence in reports. A `costly` measure takes more than
    the kernel and its eigendecomposition, and is taken when asked for.
    """

    name: str
    function: Callable[[Snapshot], Any]
    axes: tuple[str, ...] = ()
    labels: Callable[[Snapshot], Sequence[str]] | None = None
    needs: "tuple[Measure, ...]" = ()
    title: str | None = None
    line: str | None = None
    scale: Literal["linear", "log"] = "linear"
    column: str | None = None
    costly: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.function.__doc__)
        object.__setattr__(self, "__wrapped__", self.function)

    def __call__(self, at: Snapshot) -> Any:
        """What it measures at a snapshot; None where there is nothing to measure."""
        return self.function(at)

    def value(self, at: Snapshot) -> np.ndarray | None:
        """What it gave at this snapshot, whatever its key among the measures; None where it was not taken."""
        return at.values.get(at.keys.get(self, self.name))

    def before(self, at: Snapshot) -> np.ndarray:
        """What it gave at the snapshot before."""
        return at.before[at.keys.get(self, self.name)]


def measured(**about: Any) -> Callable[[Callable[[Snapshot], Any]], Measure]:
    """Make a function the `Measure` of its name; `about` are the other fields."""
    return lambda function: Measure(function.__name__, function, **about)

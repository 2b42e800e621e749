"""A measure: a function of a snapshot, with a description of its values.

Code that takes, saves, plots or tabulates a measure reads the description. It has the names of the axes and of the
entries along them, the other measures that it needs, its panel in `plots.evolution` and its column in tables.

>>> from ntkbias.tracking.measures import Measure, measured
>>> @measured(title="gap", scale="log", column="gap")
... def gap(at):
...     return at.spectrum.eigenvalues[0] - at.spectrum.eigenvalues[1]
>>> gap.name, isinstance(gap, Measure)
('gap', True)
"""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ntkbias.tracking.snapshot import Snapshot

__all__ = ["Measure", "measured"]


@dataclasses.dataclass(frozen=True, eq=False)
class Measure:
    """A function of a `Snapshot` that returns a number, or an array with the same shape at all snapshots.

    - `axes`: the names of the array's axes. `labels` returns the names of the entries along the last axis.
    - `needs`: the measures whose values it reads. They are taken too, before it.
    - `title`: the panel of `plots.evolution` that shows a number, together with the others that have this title. It is
      drawn as a line with the name `line` (default: its key) on the axis `scale`. For an array, `title` is the title of
      its picture.
    - `column`: the head of a number's column in tables. Such a number also has a sentence in reports.
    - `costly`: it costs more than the kernel and its eigendecomposition, so it is not in `DEFAULT`.

    >>> import jax, optax, ntkbias as nb
    >>> net, x = nb.nets.mlp(width=16, depth=1, b_std=0.1), nb.domains.Circle().quadrature(16)[0]
    >>> largest = {"largest": lambda snapshot: abs(snapshot.outputs).max()}
    >>> run = {"optimizer": optax.sgd(0.1), "num_steps": 4, "at": (0, 4), "measures": largest}
    >>> nb.track(net.apply, net.init(jax.random.key(0), (2,)), (x, x[:, 0]), **run)["largest"].shape
    (2,)
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

    def __copy__(self) -> "Measure":  # as Python's own functions, which are never copied: measures are told by identity
        return self

    def __deepcopy__(self, _: Any) -> "Measure":
        return self

    def __reduce__(self) -> tuple:
        """By the place where a decorator put it, so that it stays the same measure; else by its fields."""
        place = self.function.__module__, self.function.__qualname__
        if _at(*place) is self:
            return _at, place
        return Measure, tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def __call__(self, at: Snapshot) -> Any:
        """The value at a snapshot. None if the measure does not apply."""
        return self.function(at)

    def value(self, at: Snapshot) -> np.ndarray | None:
        """The value that was taken at this snapshot, under any key. None if it was not taken."""
        return at.values.get(at.keys.get(self, self.name))

    def before(self, at: Snapshot) -> np.ndarray:
        """The value that was taken at the previous snapshot."""
        return at.before[at.keys.get(self, self.name)]


def _at(module: str, name: str) -> Any:
    """What stands at this name of a module, or None."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def measured(**about: Any) -> Callable[[Callable[[Snapshot], Any]], Measure]:
    """A decorator that makes a function the `Measure` with its name. `about` are the other fields of `Measure`."""
    return lambda function: Measure(function.__name__, function, **about)

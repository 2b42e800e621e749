"""History: the values that measures took along training, stacked over snapshots.

>>> import jax, jax.numpy as jnp, ntkbias as nb, optax
>>> from ntkbias.tracking import track
>>> net, (x, _) = nb.nets.mlp(width=16, depth=1), nb.domains.Circle().quadrature(12)
>>> data = x, jnp.sign(x[:, 0] + 0.1)
>>> history = track(net.apply, net.init(jax.random.key(0), (2,)), data, optimizer=optax.sgd(0.1), num_steps=10)
>>> history["eigenvalues"].shape == (len(history.steps), 12), history.axes_of("eigenvalues")
(True, ('snapshot', 'mode'))
>>> float(history.times[-1])
1.0
>>> history.table(1)                                  # `print(history)` shows all
History: 11 snapshots, steps 0 to 10
measure   at first  at last
accuracy     0.333    0.333
... and 12 more
arrays: eigenvalues (11, 12), ...
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_name
from ntkbias.errors import InputError
from ntkbias.tables import Axes, Fact, Labeled, Printed, Table, counted, number

__all__ = ["History", "stacked"]

MOST_MEASURES = 30  # rows of a printed table


class History(Printed):
    """The values of measures by name: `history["loss"]` is `(t,)`, one value per snapshot.

    Snapshots are the first axis of each value. A history of several runs has the runs first and the snapshots second.
    `steps` are the steps of the snapshots. `times` are the sums of the learning rates of all earlier steps, and NaN for
    optimizers without a time, such as Adam. `stopped` says why a run ended before its last step; otherwise it is None.
    `params` are the parameters at the last snapshot. They are not saved, so they are None after `load` and from
    `open_history`, and also in `run(index)`. A history prints as a table of each number at the first and the last
    snapshot.

    >>> import jax, optax, ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> net = nb.nets.mlp(width=16, depth=1, b_std=0.1)
    >>> data = (x, circle.harmonics(x, 1)[:, 1])
    >>> run = {"optimizer": optax.sgd(0.1), "num_steps": 4, "at": (0, 4)}
    >>> history = nb.track(net.apply, net.init(jax.random.key(0), (2,)), data, **run)
    >>> history["loss"].shape, float(history["loss"][1]) < float(history["loss"][0])
    ((2,), True)
    """

    steps: Int[np.ndarray | Array, " t"]
    times: Float[np.ndarray | Array, "*runs t"]
    learning_rates: Float[np.ndarray | Array, "*runs t"]  # that of the step after each snapshot
    values: dict[str, np.ndarray | Array]
    probe: np.ndarray | Array  # the inputs of the measured kernel
    level_frequencies: np.ndarray | Array | None  # the frequency of each level, on a domain with harmonics
    axes: tuple[tuple[str, tuple[str, ...]], ...] = eqx.field(static=True)  # the names of each value's axes
    labels: tuple[tuple[str, tuple[str, ...]], ...] = eqx.field(static=True)  # the names along an axis, such as layers
    panels: tuple[tuple[str, tuple[str, str, str]], ...] = eqx.field(static=True, default=())  # title, line and scale
    columns: tuple[tuple[str, str], ...] = eqx.field(static=True, default=())  # the column heads of measures in tables
    stopped: str | None = eqx.field(static=True, default=None)
    params: Any = eqx.field(default=None, metadata={"saved": False})

    def __getitem__(self, name: str) -> np.ndarray:
        require_name(name, self.values, "a measure that was taken")
        return np.asarray(self.values[name])

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def _facts(self) -> list[Fact]:
        found = []
        for name, label in self.columns:
            values = self.medians(name)
            found.append(Fact.of_ends(label, values[0], values[-1]))
        return found

    def table(self, num_rows: int = MOST_MEASURES) -> Table:
        """A table of each number at the first and the last snapshot, with at most `num_rows` rows.

        For several runs it shows medians.
        """
        return super().table(num_rows)

    def _table(self, num_rows: int) -> Table:
        steps, shapes = np.asarray(self.steps), {name: np.shape(value) for name, value in self.values.items()}
        numbers = [name for name, shape in shapes.items() if len(shape) == np.ndim(self.times)] if len(self) else []
        ends = {name: self.medians(name)[[0, -1]] for name in numbers[:num_rows]}
        columns = {"measure": list(ends)}
        if len(self):
            for place, head in ((0, "at first"), (-1, "at last")):
                columns[head] = [number(values[place]) for values in ends.values()]
        runs = "" if self.num_runs is None else f"medians of {counted(self.num_runs, 'run')}, "
        span = f", steps {int(steps[0]):,} to {int(steps[-1]):,}" if len(self) else ""
        arrays = [f"{name} {shape}" for name, shape in shapes.items() if name not in numbers]
        notes = [f"arrays: {', '.join(arrays)}"] if arrays else []
        notes += [f"stopped: {self.stopped}"] if self.stopped else []
        return Table(f"History: {runs}{counted(len(self), 'snapshot')}{span}", columns, notes, len(numbers) - len(ends))

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.steps)

    def keys(self) -> tuple[str, ...]:
        """The names of the measures."""
        return tuple(self.values)

    def items(self) -> list[tuple[str, np.ndarray]]:
        """Each name with its values."""
        return [(name, self[name]) for name in self.values]

    @property
    def num_runs(self) -> int | None:
        """The number of runs, the length of the first axis. None for a history of one run, which has no such axis."""
        return len(self.times) if np.ndim(self.times) == 2 else None

    def axes_of(self, name: str) -> tuple[str, ...]:
        """The names of a value's axes: "run" if there are several runs, "snapshot", and those of the measure."""
        self[name]
        return dict(self.axes)[name]

    def medians(self, name: str) -> Float[np.ndarray, "t ..."]:
        """The median of the values over runs that have not diverged. For a single run, its values."""
        values = np.asarray(self[name], float)
        if self.num_runs is None:
            return values
        known = ~np.isnan(values).all(0)
        return np.where(known, np.nanmedian(np.where(known, values, 0.0), 0), np.nan)

    def run(self, index: int) -> "History":
        """The history of one of several runs. Raises `InputError` if there is no run with this index."""
        if self.num_runs is None or not 0 <= index < self.num_runs:
            raise InputError(f"Expected one of {self.num_runs or 'several'} runs; got {index}.")
        return History(
            **{
                **vars(self),
                "times": self.times[index],
                "learning_rates": self.learning_rates[index],
                "values": {name: value[index] for name, value in self.values.items()},
                "axes": tuple((name, axes[1:]) for name, axes in self.axes),
                "params": None,
            }
        )

    def _labeled(self) -> Labeled:
        """The measures with the names of their axes, and steps, times and learning rates along them.

        A data frame has one row per snapshot, or per run and snapshot. Measures per layer, target or level have one
        column for each of these.
        """
        values = {name: (self.axes_of(name), self[name]) for name in self}
        rows = ("run", "snapshot") if self.num_runs is not None else ("snapshot",)
        coordinates: dict[str, Any] = {"step": (("snapshot",), np.asarray(self.steps))}
        coordinates["time"] = rows, np.asarray(self.times)
        coordinates["learning_rate"] = rows, np.asarray(self.learning_rates)
        used = {axis for axes, _ in values.values() for axis in axes}
        labels = {axis: names for axis, names in self.labels if axis in used}
        coordinates |= {axis: ((axis,), np.asarray(names)) for axis, names in labels.items()}
        if self.level_frequencies is not None and "level" in used:
            coordinates["frequency"] = ("level",), np.asarray(self.level_frequencies)
        attributes = {} if self.stopped is None else {"stopped": self.stopped}
        coordinates = {name: each for name, each in coordinates.items() if name not in values}  # a measure of that name
        return Labeled(Axes(*rows), values, coordinates, attributes, frozenset(labels))


def stacked(rows: Sequence[Mapping[str, np.ndarray]], num_runs: int | None) -> dict[str, np.ndarray]:
    """The values of all snapshots by name, from one row per snapshot. If there are several runs, they come first."""
    found = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return found if num_runs is None else {name: np.swapaxes(value, 0, 1) for name, value in found.items()}

"""Take the measures at each snapshot, and collect one row of values per snapshot.

The recorder keeps the first and the previous snapshot of each run, and the clock that converts steps to times.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ntkbias.errors import InputError, InputTypeError
from ntkbias.threads import blas
from ntkbias.tracking.callbacks import Callback, call_each
from ntkbias.tracking.measures import Measure
from ntkbias.tracking.setting import Setting
from ntkbias.tracking.snapshot import DENSE_ROWS, Snapshot
from ntkbias.types import Params

__all__ = ["Clock", "Recorder"]


class Clock:
    """The times and learning rates of steps. `rates` has one entry per run: a rate per step, one rate, or None."""

    def __init__(self, rates: Sequence[Any], num_steps: int | None) -> None:
        self.rates = [
            np.full(num_steps or 1, math.nan if rate is None else rate) if np.ndim(rate) == 0 else np.asarray(rate)
            for rate in [math.nan if rate is None else rate for rate in rates]
        ]
        self.is_steady = num_steps is None

    def rate(self, run: int, step: int) -> float:
        """The learning rate of the next step; after the last step, of the last."""
        return float(self.rates[run][min(step, len(self.rates[run]) - 1)])

    def time(self, run: int, step: int) -> float:
        """The sum of the learning rates of all steps so far. NaN if the optimizer has no rates."""
        if self.is_steady:
            return step * float(self.rates[run][0])
        return math.fsum(self.rates[run][:step]) if math.isfinite(self.rates[run][0]) else math.nan


class Recorder:
    """Takes the measures of all runs, snapshot by snapshot. `rows` holds the values, one dictionary per snapshot."""

    def __init__(
        self,
        setting: Setting,
        measures: Mapping[str, Measure],
        clock: Clock,
        num_runs: int | None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.callbacks = callbacks
        self.setting, self.measures, self.clock, self.num_runs = setting, dict(measures), clock, num_runs
        self.keys = {measure: key for key, measure in self.measures.items()}
        self.rows: list[dict[str, np.ndarray]] = []
        self.stopped: str | None = None
        self.failed: dict[str, str] = {}  # measures that failed after the first snapshot: when and how they first did
        self.axes: dict[str, list[str]] = {}
        self.labels: dict[str, list[str]] = {}
        self.panels: dict[str, list[str]] = {}
        self.columns: dict[str, str] = {}
        self.initial: list[Snapshot] = []
        self.previous: list[Snapshot | None] = []

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of the snapshots so far."""
        return tuple(int(np.max(row["(step)"])) for row in self.rows)

    @property
    def step(self) -> int:
        """The step of the last snapshot."""
        return self.steps[-1] if self.rows else -1

    def take(self, step: int, variables: list[Params], lengths: np.ndarray, diverged: np.ndarray) -> bool:
        """Measure all runs at a step. If all have diverged, return False and keep the reason in `stopped`."""
        if np.all(diverged >= 0):
            self.stopped = self._divergence(diverged)
            return False
        threads = 1 if len(self.setting.probe) <= DENSE_ROWS else None
        with blas().limit(limits=threads, user_api="blas"):
            found = [
                self._missing_row() if diverged[run] >= 0 else self._measured(run, step, each, float(lengths[run]))
                for run, each in enumerate(variables)
            ]
        for row, run in zip(found, range(len(found)), strict=True):
            row["(step)"] = np.asarray(step)
            row["(time)"] = np.asarray(self.clock.time(run, step))
            row["(learning rate)"] = np.asarray(self.clock.rate(run, step))
        combined = (
            found[0] if self.num_runs is None else {name: np.stack([row[name] for row in found]) for name in found[0]}
        )
        self.rows.append(combined)
        if np.any(diverged >= 0):
            self.stopped = self._divergence(diverged)
        return True

    def resume(self, rows: list[dict[str, np.ndarray]], first: list[Params], last: list[Params]) -> None:
        """Continue after saved rows, given the variables of each run at the first and the last of them."""
        self.rows = rows
        self.measures = {name: measure for name, measure in self.measures.items() if name in rows[0]}
        self.initial, self.previous = [], []
        for run, (start, reached) in enumerate(zip(first, last, strict=True)):
            step = int(np.ravel(rows[0]["(step)"])[0])
            self.initial.append(self._snapshot(run, step, start, 0.0, None, None))
            self.initial[-1].values = self._row(run, 0)
            self._describe(self.initial[-1])
            if len(rows) == 1:
                previous = self.initial[-1]
            else:
                previous = self._snapshot(run, self.step, reached, 0.0, None, self.initial[-1])
            previous.values = self._row(run, -1)
            self.previous.append(previous)

    def report(self) -> None:
        """Call the callbacks with the measures of the last snapshot."""
        measures = {name: self.rows[-1][name] for name in self.measures}
        call_each(self.callbacks, self.step, measures)

    def about(self) -> dict[str, Any]:
        """The entries of the history that are not arrays."""
        return {
            "num_runs": self.num_runs,
            "axes": self.axes,
            "labels": self.labels,
            "panels": self.panels,
            "columns": self.columns,
            "stopped": self.stopped,
        }

    def _measured(self, run: int, step: int, variables: Params, length: float) -> dict[str, np.ndarray]:
        is_first = len(self.initial) <= run
        previous = None if is_first else self.previous[run]
        initial = None if is_first else self.initial[run]
        at = self._snapshot(run, step, variables, length, previous, initial)
        for name, measure in list(self.measures.items()):
            value = self._value(at, run, name, measure)
            if value is None:
                del self.measures[name]  # it does not apply to this run
            else:
                at.values[name] = value
        if is_first:
            self.initial.append(at)
            self.previous.append(at)
            self._describe(at)
        else:
            at.previous = None  # otherwise a chain would keep all snapshots in memory
            at.before = {}
            self.previous[run] = at
        return dict(at.values)

    def _value(self, at: Snapshot, run: int, name: str, measure: Measure) -> np.ndarray | None:
        """The value of a measure: None if it does not apply at the first snapshot, NaN or -1 if it fails later."""
        like = self.initial[run if self.rows else 0].values.get(name) if self.initial else None
        try:
            value = measure(at)
            found = None if value is None else _numbers(name, value)
            failure = "it returned None" if found is None else f"it returned shape {found.shape}"
        except Exception as error:  # a user's measure may raise anything
            failure = f"it raised {type(error).__name__}: {str(error).rstrip('.')}"
            if like is None and isinstance(error, InputError | InputTypeError):
                raise
            if like is None:
                raise InputError(
                    f"Expected the measure {name!r} to return numbers at step {at.step}; {failure}."
                ) from error
            found = None
        if like is None or (found is not None and found.shape == like.shape):
            return found
        where = f"at step {at.step}" if self.num_runs is None else f"at step {at.step} of run {run}"
        self.failed.setdefault(name, f"{where} {failure}")
        return _missing(like)

    def _snapshot(
        self, run: int, step: int, variables: Params, length: float, previous: Snapshot | None, initial: Snapshot | None
    ) -> Snapshot:
        return Snapshot(
            self.setting,
            step,
            variables,
            time=self.clock.time(run, step),
            learning_rate=self.clock.rate(run, step),
            path_length=length,
            previous=previous,
            initial=initial,
            before={} if previous is None else previous.values,
            keys=self.keys,
        )

    def _row(self, run: int, index: int) -> dict[str, np.ndarray]:
        row = self.rows[index]
        return dict(row) if self.num_runs is None else {name: np.asarray(value[run]) for name, value in row.items()}

    def _missing_row(self) -> dict[str, np.ndarray]:
        """The row of a run that has diverged."""
        return {name: _missing(self.initial[0].values[name]) for name in self.measures}

    def _describe(self, at: Snapshot) -> None:
        """Collect axes, labels, panels and columns of the measures that apply at the first snapshot `at`."""
        before = ["snapshot"] if self.num_runs is None else ["run", "snapshot"]
        for key, measure in self.measures.items():
            num_axes = at.values[key].ndim
            fits = len(measure.axes) == num_axes
            self.axes[key] = before + (list(measure.axes) if fits else [f"{key} {index}" for index in range(num_axes)])
            if fits and measure.labels is not None and measure.axes[-1] not in self.labels:
                self.labels[measure.axes[-1]] = list(measure.labels(at))
            is_own = key == measure.name  # a measure under another key is shown by that key
            if measure.title is not None:
                self.panels[key] = [measure.title, measure.line if is_own and measure.line else key, measure.scale]
            if measure.column is not None and num_axes == 0:
                self.columns[key] = measure.column if is_own else key

    def _divergence(self, diverged: np.ndarray) -> str:
        """Say at which step training diverged, and why."""
        runs = np.flatnonzero(diverged >= 0)
        where = f"at step {diverged[runs[0]]}"
        if self.num_runs is not None:
            where = ", ".join(f"in run {run} at step {diverged[run]}" for run in runs)
        cause = "the loss or the update is not finite"
        if (found := self._above_critical(int(runs[0]))) is not None:
            step, rate, critical = found
            cause += (
                f"; since step {step} the rate {rate:.3g} has been above 2 / the largest eigenvalue, {critical:.3g}"
            )
        return f"training diverged {where}: {cause}"

    def _above_critical(self, run: int) -> tuple[int, float, float] | None:
        """The step, rate and critical rate from which on a run's rate exceeds the critical one, or None.

        The first such step is the cause: at the last snapshot the network may have blown up, and its eigenvalues too.
        """
        found = None
        for index in reversed(range(len(self.rows))):
            row = self._row(run, index)
            rate, top = float(row["(learning rate)"]), float(np.max(row.get("eigenvalues", math.nan)))
            if math.isfinite(top) and not rate * top > 2:
                break
            found = (self.steps[index], rate, 2 / top) if rate * top > 2 and math.isfinite(top) else found
        return found


def _missing(like: np.ndarray) -> np.ndarray:
    """The placeholder for a missing value: NaN, or -1 for whole numbers."""
    return np.full_like(like, math.nan if like.dtype.kind == "f" else -1)


def _numbers(name: str, value: Any) -> np.ndarray:
    """A measure's value as an array. Booleans and unsigned numbers become signed, so that -1 can mark missing ones."""
    try:
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == jnp.bfloat16 else array
    except (TypeError, ValueError):
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        raise InputTypeError(f"Expected the measure {name!r} to return numbers; got {type(value).__name__}.")
    return array.astype(int) if array.dtype.kind in "bu" else array

"""Go from snapshot to snapshot of a training loop, ours or the user's, and measure and save each one.

A walk yields `Reached`, the position of one run or of several together. `follow` takes the measures there, saves them
if there is a checkpoint, and makes the `History`, even if training ends early.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.domains import HarmonicDomain
from ntkbias.files import StorageError
from ntkbias.progress import announce, progress
from ntkbias.tracking import trials
from ntkbias.tracking.checkpoint import Checkpoint, checked_folder, history_of
from ntkbias.tracking.fingerprints import closure, code_digest, digest, versions
from ntkbias.tracking.history import History
from ntkbias.tracking.recorder import Recorder
from ntkbias.tracking.setting import Setting
from ntkbias.training.trainer import Trainer, TrainingState
from ntkbias.types import Params

__all__ = ["Reached", "Walk", "described", "follow", "follow_training"]


class Reached(NamedTuple):
    """The positions of all runs at one step."""

    step: int
    variables: list[Params]  # the first argument of f, for each run
    lengths: np.ndarray  # of the paths of the parameters since the previous snapshot
    diverged: np.ndarray  # for each run the step at which it diverged, or -1
    state: Any  # from which training can resume


Walk = Callable[[Any, tuple[int, ...]], Iterator[Reached]]  # of a saved state, or None, and the steps of its snapshots


def follow(
    recorder: Recorder,
    walk: Walk,
    first: list[Params],
    like: Any,
    description: dict[str, Any],
    tried: dict[str, np.ndarray | None],
    checkpoint: Any,
) -> History:
    """Measure each position that `walk` yields, and return the history.

    `first` are the variables of each run at the start. States are saved as pytrees like `like`. `description` and
    `tried` identify the run in `checkpoint`.
    """
    start = _start(recorder.setting)
    place: Any = nullcontext()
    if checkpoint is not None:
        known = {name: array for name, array in tried.items() if array is not None}
        place = Checkpoint.claimed(checkpoint, description, start | known)
    last, warned = first, 0
    lost: StorageError | None = None  # of the last snapshot; if another one follows, it is raised
    with place as saved:
        state = None
        if saved is not None and (loaded := saved.load(like)) is not None:
            rows, state = loaded
            last = variables_of(state, recorder.num_runs)
            recorder.resume(rows, first, last)
            announce(f"resuming the run in {checkpoint} after step {recorder.step}")
        elif saved is not None:
            announce(f"starting a new run in {checkpoint}, which holds none")
        try:
            for reached in walk(state, recorder.steps):
                if lost is not None:
                    raise lost
                if not recorder.take(reached.step, reached.variables, reached.lengths, reached.diverged):
                    break
                last = reached.variables
                warned = _warn_of_failures(recorder, warned)
                if saved is not None:
                    try:
                        if len(recorder.rows) == 1:
                            saved.end(recorder.about())
                        saved.save(len(recorder.rows) - 1, recorder.rows[-1], reached.state)
                    except StorageError as error:
                        if description["steps"] and reached.step != description["steps"][-1]:
                            raise
                        lost = error  # a user's loop does not say in advance whether more steps follow
                recorder.report()
        except KeyboardInterrupt:
            if saved is not None or not recorder.rows:
                raise
            recorder.stopped = f"interrupted after the snapshot of step {recorder.step}"
        if recorder.stopped is not None:
            warnings.warn(
                f"Expected training to reach its last step; it ended early: {recorder.stopped}.", stacklevel=4
            )
        if saved is not None:
            try:
                saved.end(recorder.about())
            except StorageError as error:
                lost = lost or error
        if lost is not None:
            warnings.warn(
                f"Expected to write the end of the run to {checkpoint}; that failed: {lost} The returned history is "
                "complete: save it elsewhere.",
                stacklevel=4,
            )
    params = last[0] if recorder.num_runs is None else jax.tree.map(lambda *leaves: jnp.stack(leaves), *last)
    return history_of(recorder.rows, start["probe"], start.get("level_frequencies"), recorder.about(), params)


def _warn_of_failures(recorder: Recorder, warned: int) -> int:
    """Warn of each failed measure after the first `warned` ones, and return how many have failed in total."""
    for name, failure in list(recorder.failed.items())[warned:]:
        warnings.warn(
            f"Expected the measure {name!r} to work as at the first snapshot; {failure}. It has NaN at snapshots where "
            "it fails, or -1 for whole numbers, and training continues.",
            stacklevel=5,
        )
    return len(recorder.failed)


def variables_of(states: list[Any], num_runs: int | None) -> list[Params]:
    """The variables of each run, from the training states of groups of runs; other states are variables already."""
    if not isinstance(states[0], TrainingState):
        return states
    if num_runs is None:
        return [states[0].variables]
    return [
        jax.tree.map(lambda leaf, index=index: leaf[index], state.variables)
        for state in states
        for index in range(len(state.step))
    ]


def described(
    trainer: Trainer,
    setting: Setting,
    first: list[Params],
    recorder: Recorder,
    at: tuple[int, ...],
    learning_rate: float | None,
) -> dict[str, Any]:
    """The description of a run. A checkpoint resumes only a run with the same one."""
    functions = {"f": trainer.f, "loss": setting.loss, "optimizer": trainer.optimizer, "forward": trainer.forward}
    functions |= {f"measure {name}": measure for name, measure in recorder.measures.items()}
    return {
        "runs": recorder.num_runs,
        "steps": list(at),
        "params": digest(first),
        "data": digest(setting.x, setting.y),
        "probe": digest(setting.probe, setting.probe_y),
        "test": digest(setting.test),
        "watched": {name: digest(values) for name, values in setting.watched.items()},
        "loss": getattr(setting.loss, "__qualname__", type(setting.loss).__name__),
        "learning_rate": learning_rate,
        "batch_size": trainer.batch_size,
        "measures": {name: code_digest(measure) for name, measure in recorder.measures.items()},
        "domain": str(setting.domain),
        "outputs": setting.outputs,
        "num_modes": setting.num_modes,
        "key": np.asarray(jax.random.key_data(setting.key)).ravel().tolist(),
        "precision": str(jnp.result_type(float)),
        "functions": {name: None if each is None else closure(each) for name, each in functions.items()},
        "versions": versions(),
    }


def _start(setting: Setting) -> dict[str, np.ndarray]:
    """The arrays of a history that do not change along the run."""
    start = {"probe": np.asarray(setting.probe)}
    if isinstance(setting.domain, HarmonicDomain):
        levels = setting.domain.levels(setting.domain.max_degree(len(setting.probe)))
        start["level_frequencies"] = np.asarray(setting.domain.frequency(jnp.asarray(levels, float)))
    return start


def trained_walk(
    trainer: Trainer, starts: list[TrainingState], x: Any, y: Any, at: tuple[int, ...], key: Any, num_runs: int | None
) -> Walk:
    """The walk of our own training. The groups of runs advance in turn."""

    def walk(state: Any, seen: tuple[int, ...]) -> Iterator[Reached]:
        states = starts if state is None else state
        with progress(None, "training steps", total=at[-1], initial=max(seen, default=0)) as bar:
            for target in at:
                if target <= max(seen, default=-1):
                    continue
                states = [
                    trainer.advance(each, target, x, y, key=key, bar=bar if index == 0 else None)
                    for index, each in enumerate(states)
                ]
                lengths, diverged = (
                    np.concatenate([np.atleast_1d(np.asarray(getattr(each, name))) for each in states])
                    for name in ("path_length", "diverged_at")
                )
                yield Reached(target, variables_of(states, num_runs), lengths, diverged, states)

    return walk


def follow_training(
    trainer: Trainer,
    starts: list[TrainingState],
    recorder: Recorder,
    steps: tuple[int, ...],
    checkpoint: Any,
) -> History:
    """Train, and return the history. `starts` has one training state per group of runs."""
    setting, num_runs = recorder.setting, recorder.num_runs
    trainer = trainer.suited(starts[0], setting.x, setting.y, key=setting.key)
    first = variables_of(starts, num_runs)
    tried: dict[str, np.ndarray | None] = {}
    if checkpoint is not None:
        checked_folder(checkpoint)
        tried = {
            "f": trials.try_f(setting, first[0]),
            "loss": trials.try_loss(setting, first[0], trainer.batch_size),
            "optimizer": trials.try_optimizer(trainer, starts, steps[-1]),
            "training": trials.try_training(trainer, starts, setting, steps[-1]),
        }
    walk = trained_walk(trainer, starts, setting.x, setting.y, steps, setting.key, num_runs)
    description = described(trainer, setting, first, recorder, steps, None)
    return follow(recorder, walk, first, starts, description, tried, checkpoint)

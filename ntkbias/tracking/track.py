"""Follow a network's kernel through training: measures at chosen steps, stacked to a `History`.

>>> import jax, jax.numpy as jnp, ntkbias as nb, optax
>>> from ntkbias.tracking import track, track_many
>>> net, (x, _) = nb.nets.mlp(width=32, depth=1, b_std=0.1), nb.domains.Circle().quadrature(16)
>>> data = x, jnp.sign(x[:, 0] + 0.1)
>>> params = net.init(jax.random.key(0), (2,))
>>> options = {"optimizer": optax.sgd(0.5), "num_steps": 100, "domain": nb.domains.Circle()}
>>> history = track(net.apply, params, data, **options)
>>> bool(history["loss"][-1] < history["loss"][0]), history["residual_spectrum"].shape == (len(history), 8)
(True, True)
>>> seeds = jax.vmap(lambda key: net.init(key, (2,)))(jax.random.split(jax.random.key(0), 3))
>>> track_many(net.apply, seeds, data, **options)["loss"].shape == (3, len(history))
True
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from ntkbias import losses
from ntkbias.domains import Domain, HarmonicDomain
from ntkbias.kernels import empirical_ntk
from ntkbias.kernels.tiles import progress
from ntkbias.tracking import measures as known
from ntkbias.tracking.checkpoint import Checkpoint, digest, history_of
from ntkbias.tracking.history import History
from ntkbias.tracking.record import Clock, Recorder
from ntkbias.tracking.snapshot import Setting
from ntkbias.training import (
    Forward,
    Steps,
    Trainer,
    TrainingState,
    checked_data,
    checked_steps,
    effective_learning_rates,
)
from ntkbias.types import (
    ApplyFunction,
    InputError,
    InputTypeError,
    Outputs,
    Params,
    require_array,
    require_choice,
    require_finite,
    require_key,
    require_positive,
)

__all__ = ["track", "track_many"]

PROBE = 500  # training inputs that the kernel is followed on unless a probe is given
FINGERPRINT = 8  # inputs on which a checkpoint's f is compared


def track(
    f: ApplyFunction,
    params: Params | Iterator[tuple[int, Params]],
    data: tuple[ArrayLike, ArrayLike],
    *,
    optimizer: optax.GradientTransformation | None = None,
    num_steps: int | None = None,
    loss: str | losses.Loss = "mse",
    batch_size: int | None = None,
    at: Steps | None = None,
    probe: ArrayLike | tuple[ArrayLike, ArrayLike] | None = None,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    targets: Mapping[str, ArrayLike] | None = None,
    domain: Domain | None = None,
    measures: Mapping[str, known.Measure] = known.DEFAULT,
    outputs: Outputs = "mean",
    num_modes: int = 20,
    learning_rate: float | None = None,
    state: Any = None,
    forward: Forward | None = None,
    memory_budget: int | None = None,
    key: PRNGKeyArray | None = None,
    checkpoint: str | Path | None = None,
) -> History:
    """Train `f(params, x)` and take `measures` at the steps `at` (default: 0, then 29 on a logarithmic scale).

    Training is that of `train`: `data` (x, y), `optimizer`, `num_steps`, `loss`, `batch_size`, `state` and `forward`
    have their meaning there. Or `params` is an iterator of (step, params), a loop of your own or a folder of
    checkpoints, of which every one is measured (with `state`: (step, (params, state)); the value of `state` itself is
    then not used); `learning_rate` says how much time a step is, and optimizer, num_steps and at have no place.

    The kernel is that of `probe`, inputs or (inputs, targets) (default: the first 500 of the data), with these
    `outputs`; measures by mode report the first `num_modes`. `test` is (x, y); `targets` are named functions on the
    probe, `(n,)` or `(n, o)`, to be watched; on a `domain` modes and residuals have frequencies. `measures` is a
    dictionary of functions of a `Snapshot`, see `ntkbias.tracking.measures`.

    All snapshots share one compiled kernel, and all steps one compiled step. Beyond training it costs a kernel and an
    eigendecomposition a snapshot. Memory holds three matrices of the probe up to 1 GiB, and none beyond: measures that
    need the matrix are then left out, and modes come from products.

    `checkpoint` names a folder that is renewed at each snapshot: the same call goes on from it after any end of the
    process, to the same history bit for bit on one device, and `open_history` reads it meanwhile. At Ctrl-C the history
    so far comes back with a warning; with a checkpoint Ctrl-C is raised as usual. Where training diverges, the history
    ends before, and `stopped` says at which step, and why, as does a warning.

    Raises `InputError` before training on what `train` and `empirical_ntk` refuse, on a probe or test inputs of another
    shape, targets of another length, a probe outside the domain, and a checkpoint of another run.
    """
    if isinstance(params, Iterator):
        if optimizer is not None or num_steps is not None or at is not None or forward is not None or batch_size:
            raise InputError(
                "Expected an iterator of (step, params) alone, which trains by itself; got optimizer=, num_steps=, "
                "at=, batch_size= or forward= as well. Leave them out."
            )
        return _follow_iterator(
            f, params, data, loss, learning_rate, state is not None, checkpoint, measures,
            _Watched(probe, test, targets, domain, outputs, num_modes, memory_budget, key),
        )  # fmt: skip
    if optimizer is None or num_steps is None:
        raise InputError("Expected optimizer= and num_steps= with params; got none. Or give an iterator of your own.")
    if learning_rate is not None:
        raise InputError("Expected learning_rate= with an iterator of your own alone: an optimiser has its own.")
    trainer, (x, y) = Trainer.checked(f, params, data, optimizer, loss, batch_size, state, forward)
    watched = _Watched(probe, test, targets, domain, outputs, num_modes, memory_budget, key)
    run = _Run(trainer, x, y, checked_steps(at, num_steps), watched, known.checked(measures))
    rates = effective_learning_rates(optimizer, num_steps)
    return run.followed([trainer.start(params, state)], [rates], None, checkpoint, state is not None)


def track_many(
    f: ApplyFunction,
    params: Params,
    data: tuple[ArrayLike, ArrayLike],
    *,
    optimizer: Any,
    num_steps: int,
    learning_rates: ArrayLike | Sequence[float] | None = None,
    at_once: int | None = None,
    loss: str | losses.Loss = "mse",
    batch_size: int | None = None,
    at: Steps | None = None,
    probe: ArrayLike | tuple[ArrayLike, ArrayLike] | None = None,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    targets: Mapping[str, ArrayLike] | None = None,
    domain: Domain | None = None,
    measures: Mapping[str, known.Measure] = known.DEFAULT,
    outputs: Outputs = "mean",
    num_modes: int = 20,
    state: Any = None,
    forward: Forward | None = None,
    memory_budget: int | None = None,
    key: PRNGKeyArray | None = None,
    checkpoint: str | Path | None = None,
) -> History:
    """`track` for several runs together: `params` (and `state`) with the runs as the first axis of each array.

    With `learning_rates` `(runs,)` each run has its own, and `optimizer` is a function of it, as `optax.sgd`; `params`
    may then be those of one run, from which all start. Run i sees the batches of `track` with the key
    `jax.random.fold_in(key, i)`. The values of the history have the runs as their first axis.

    Training steps of `at_once` runs (default: as many as fit `memory_budget`, by the sizes of all intermediate values)
    are one compiled program, by `vmap`; measures are taken run by run. Runs that diverge have NaN, and -1 for whole
    numbers, from there on. The other arguments, costs and errors are those of `track`.
    """
    rates = None if learning_rates is None else _checked_rates(learning_rates, optimizer)
    num_runs = _num_runs(params, None if rates is None else len(rates))
    if rates is not None and not all(jnp.shape(leaf)[:1] == (num_runs,) for leaf in jax.tree.leaves(params)):
        params, state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_runs, *jnp.shape(leaf))), (params, state))
    one, one_state = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], (params, state))
    built = [optimizer] if rates is None else [optimizer(float(rate)) for rate in rates]
    trainer, (x, y) = Trainer.checked(f, one, data, built[0], loss, batch_size, one_state, forward)
    trainer = Trainer(trainer.f, forward, trainer.loss, optimizer, batch_size, many=True)
    watched = _Watched(probe, test, targets, domain, outputs, num_modes, memory_budget, key)
    run = _Run(trainer, x, y, checked_steps(at, num_steps), watched, known.checked(measures))
    size = _group(trainer, one, one_state, x, y, num_runs, at_once, memory_budget)
    starts = []
    for first in range(0, num_runs, size):
        part = slice(first, first + size)
        chosen, chosen_state = jax.tree.map(lambda leaf, part=part: jnp.asarray(leaf)[part], (params, state))
        own = None if rates is None else jnp.asarray(rates, float)[part]
        starts.append(trainer.start(chosen, chosen_state, jnp.arange(num_runs)[part], own))
    times = [effective_learning_rates(each, num_steps) for each in built]
    times = times if rates is not None else times * num_runs
    return run.followed(starts, times, num_runs, checkpoint, state is not None)


class _Watched(NamedTuple):
    """What is looked at, as users give it."""

    probe: Any
    test: Any
    targets: Any
    domain: Any
    outputs: Outputs
    num_modes: int
    memory_budget: int | None
    key: Any

    def setting(self, f: ApplyFunction, variables: Params, loss: Any, x: Array, y: Array, has_state: bool) -> Setting:
        """The setting of snapshots, once all of it is checked."""
        require_choice("outputs", self.outputs, Outputs)
        if self.outputs == "each":
            raise InputError("Expected a kernel that is one matrix; got outputs='each'. Use 'mean', 'sum' or 'all'.")
        require_positive("num_modes", self.num_modes)
        shape = jax.eval_shape(f, variables, x[:1]).shape[1:]
        probe, probe_y = self._probe(loss, x, y, shape)
        kernel = empirical_ntk(f, variables, outputs=self.outputs, memory_budget=self.memory_budget)
        kernel.check(probe, "the probe")
        if self.domain is not None:
            if not isinstance(self.domain, Domain):
                raise InputTypeError(f"Expected a domain, e.g. Circle(); got {type(self.domain).__name__}.")
            self.domain.check(probe)
        test = None
        if self.test is not None:
            test_x, test_y = checked_data(self.test, "test")
            _require_like(test_x, x, "test")
            outputs = jax.ShapeDtypeStruct((len(test_x), *shape), jnp.float32)
            test = test_x, losses.checked_targets(loss, outputs, test_y)
        return Setting.of(
            kernel.f,
            (x, y),
            (probe, probe_y),
            loss,
            test=test,
            behaviours=self._behaviours(len(probe), math.prod(shape)),
            domain=self.domain,
            outputs=self.outputs,
            num_modes=self.num_modes,
            has_state=has_state,
            memory_budget=kernel.memory_budget,
            key=jax.random.key(0) if self.key is None else require_key(self.key),
        )

    def _probe(self, loss: Any, x: Array, y: Array, shape: tuple[int, ...]) -> tuple[Array, Array | None]:
        if self.probe is None:
            return (x, y) if len(x) <= PROBE else (x[:PROBE], y[:PROBE])
        if isinstance(self.probe, tuple | list):
            probe, targets = checked_data(self.probe, "probe")
            _require_like(probe, x, "probe")
            return probe, losses.checked_targets(loss, jax.ShapeDtypeStruct((len(probe), *shape), jnp.float32), targets)
        probe = require_array(self.probe, "probe")
        _require_like(probe, x, "probe")
        require_finite(probe, "probe")
        return probe, None

    def _behaviours(self, n: int, num_outputs: int) -> dict[str, Array]:
        if self.targets is None:
            return {}
        if not isinstance(self.targets, Mapping) or not all(isinstance(name, str) for name in self.targets):
            raise InputTypeError(
                f"Expected targets to be a dictionary of named functions on the probe; got "
                f"{type(self.targets).__name__}. Labels to train on are the y of data=(x, y)."
            )
        checked = {}
        for name, values in self.targets.items():
            array = require_array(values, f"target {name!r}")
            if array.shape not in ((n,), (n, num_outputs)):
                raise InputError(
                    f"Expected target {name!r} of shape ({n},) or ({n}, {num_outputs}), a value for each input of the "
                    f"probe; got {array.shape}."
                )
            require_finite(array, f"target {name!r}")
            if not bool(jnp.any(array != 0)):
                raise InputError(f"Expected target {name!r} that is not zero everywhere; got zeros.")
            checked[name] = array
        return checked


class _Run(NamedTuple):
    """One call of `track` or `track_many`."""

    trainer: Trainer
    x: Array
    y: Array
    at: tuple[int, ...]
    watched: _Watched
    measures: dict[str, known.Measure]

    def followed(
        self,
        starts: list[TrainingState],
        rates: list[np.ndarray | None],
        num_runs: int | None,
        checkpoint: Any,
        has_state: bool,
    ) -> History:
        """Train the groups of runs in turn from snapshot to snapshot, and measure them."""
        first = _variables(starts, num_runs)
        trainer = self.trainer
        setting = self.watched.setting(trainer.f, first[0], trainer.loss, self.x, self.y, has_state)
        key = setting.key
        trainer = trainer.suited(starts[0], self.x, self.y, key=key)
        recorder = Recorder(setting, self.measures, Clock(rates, self.at[-1]), num_runs)
        description = _description(self, setting, first, num_runs, rates)
        place = nullcontext() if checkpoint is None else Checkpoint.claimed(
            checkpoint, description, _start(setting, first)
        )  # fmt: skip
        with place as saved, progress(None, "training steps", total=self.at[-1]) as bar:
            states = starts
            if saved is not None and (loaded := saved.load(starts)) is not None:
                rows, states = loaded
                recorder.resume(rows, first, _variables(states, num_runs))
                bar.update(recorder.step)
            try:
                for step in self.at[len(recorder.rows) :]:
                    states = [
                        trainer.advance(state, step, self.x, self.y, key=key, bar=bar if index == 0 else None)
                        for index, state in enumerate(states)
                    ]
                    diverged, lengths = (
                        np.concatenate([np.atleast_1d(np.asarray(getattr(state, name))) for state in states])
                        for name in ("diverged_at", "path_length")
                    )
                    if not recorder.take(step, _variables(states, num_runs), lengths, diverged):
                        break
                    if saved is not None:
                        if len(recorder.rows) == 1:
                            saved.end(recorder.about())
                        saved.save(len(recorder.rows) - 1, recorder.rows[-1], states)
            except KeyboardInterrupt:
                if saved is not None or not recorder.rows:
                    raise
                recorder.stopped = f"interrupted after the snapshot of step {recorder.step}"
            return _ended(recorder, saved, first, _variables(states, num_runs), num_runs)


def _ended(recorder: Recorder, saved: Checkpoint | None, first: list, last: list, num_runs: int | None) -> History:
    """The history of a run that has come to its end, with a warning if that was not its last step."""
    if recorder.stopped is not None:
        warnings.warn(f"Expected training to go on to its last step; {recorder.stopped}.", stacklevel=4)
    if saved is not None:
        saved.end(recorder.about())
    setting, params = recorder.setting, last[0]
    if num_runs is not None:
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *last)
    start = _start(setting, first)
    return history_of(recorder.rows, start["probe"], start.get("level_frequencies"), recorder.about(), params)


def _follow_iterator(
    f: ApplyFunction,
    iterates: Iterator[tuple[int, Params]],
    data: Any,
    loss: str | losses.Loss,
    learning_rate: float | None,
    has_state: bool,
    checkpoint: Any,
    measures: Any,
    watched: _Watched,
) -> History:
    """Measure each (step, params) of somebody else's loop."""
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise InputError(f"Expected a learning rate above zero; got {learning_rate!r}.")
    function, chosen = losses.named(loss), known.checked(measures)
    x, y = checked_data(data)
    try:
        step, variables = next(iterates)
    except StopIteration:
        raise InputError("Expected an iterator of (step, params) with one of them or more; got none.") from None
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"Expected an iterator of pairs (step, params); got {error}.") from error
    shape = jax.eval_shape(f, variables, x[:1]).shape[1:]
    y = losses.checked_targets(function, jax.ShapeDtypeStruct((len(x), *shape), jnp.float32), y)
    setting = watched.setting(f, variables, function, x, y, has_state)
    recorder = Recorder(setting, chosen, Clock([learning_rate], None), None)
    trainer = Trainer(f, None, function, None, None)
    first = [variables]
    description = _description(_Run(trainer, x, y, (), watched, chosen), setting, first, None, [learning_rate])
    place = nullcontext() if checkpoint is None else Checkpoint.claimed(checkpoint, description, _start(setting, first))
    with place as saved:
        if saved is not None and (loaded := saved.load(first)) is not None:
            rows, reached = loaded
            recorder.resume(rows, first, reached)
        last, before = first, variables
        try:
            while True:
                if not recorder.rows or step > recorder.step:
                    length = float(optax.tree.norm(optax.tree.sub(variables, before))) if recorder.rows else 0.0
                    finite = all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(variables))
                    diverged = np.array([-1 if finite else step])
                    if not recorder.take(int(step), [variables], np.array([length]), diverged):
                        break
                    if saved is not None:
                        saved.end(recorder.about())
                        saved.save(len(recorder.rows) - 1, recorder.rows[-1], [variables])
                elif recorder.rows and not _passed(recorder, int(step)):
                    raise InputError(f"Expected steps in ascending order; got {step} after {recorder.step}.")
                last, before = [variables], variables
                step, variables = next(iterates)
        except StopIteration:
            pass
        except KeyboardInterrupt:
            if saved is not None or not recorder.rows:
                raise
            recorder.stopped = f"interrupted after the snapshot of step {recorder.step}"
        return _ended(recorder, saved, first, last, None)


def _passed(recorder: Recorder, step: int) -> bool:
    """Whether a resumed run has measured this step already."""
    return recorder.resumed_at is not None and step <= recorder.resumed_at


def _variables(states: list[TrainingState], num_runs: int | None) -> list[Params]:
    """What f takes, of each run."""
    if num_runs is None:
        return [states[0].variables]
    return [
        jax.tree.map(lambda leaf, index=index: leaf[index], state.variables)
        for state in states
        for index in range(len(state.step))
    ]


def _start(setting: Setting, first: list[Params]) -> dict[str, np.ndarray]:
    """What a folder holds of a run's beginning."""
    start = {
        "probe": np.asarray(setting.probe),
        "outputs": np.stack([np.asarray(setting.f(each, setting.probe[:FINGERPRINT])) for each in first]),
    }
    if isinstance(setting.domain, HarmonicDomain):
        levels = setting.domain.levels(setting.domain.max_degree(len(setting.probe)))
        start["level_frequencies"] = np.asarray(setting.domain.frequency(jnp.asarray(levels, float)))
    return start


def _description(
    run: _Run, setting: Setting, first: list[Params], num_runs: int | None, rates: list[Any]
) -> dict[str, Any]:
    """What has to be the same for a run to go on."""
    return {
        "runs": num_runs,
        "steps": list(run.at),
        "params": digest(first),
        "data": digest(run.x, run.y),
        "probe": digest(setting.probe, setting.probe_y),
        "test": digest(setting.test),
        "targets": {name: digest(values) for name, values in setting.behaviours.items()},
        "loss": getattr(run.trainer.loss, "__qualname__", type(run.trainer.loss).__name__),
        "optimizer": [_moves(rate) for rate in rates],
        "batch_size": run.trainer.batch_size,
        "measures": list(run.measures),
        "domain": str(setting.domain),
        "outputs": setting.outputs,
        "num_modes": setting.num_modes,
        "key": np.asarray(jax.random.key_data(setting.key)).ravel().tolist(),
        "precision": str(jnp.result_type(float)),
    }


def _moves(rate: Any) -> Any:
    return digest(rate) if isinstance(rate, np.ndarray) else rate


def _require_like(x: Array, data: Array, name: str) -> None:
    if x.ndim != data.ndim or x.shape[1:] != data.shape[1:] or not len(x):
        raise InputError(
            f"Expected inputs (n, {', '.join(map(str, data.shape[1:]))}) in {name}, of the shape of the training "
            f"inputs; got shape {x.shape}."
        )


def _num_runs(params: Params, num_rates: int | None) -> int:
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(params)}
    if num_rates is not None:
        return num_rates
    if len(lengths) != 1 or lengths == {()}:
        raise InputError(
            "Expected params with the runs as the first axis of each array; got arrays of first axes "
            f"{sorted(lengths)}. Use jax.vmap(lambda key: net.init(key, shape))(keys)."
        )
    return int(lengths.pop()[0])


def _checked_rates(learning_rates: Any, optimizer: Any) -> np.ndarray:
    rates = np.asarray(require_array(learning_rates, "learning_rates"), np.float64)
    if rates.ndim != 1 or not rates.size or not np.all(rates > 0) or not np.isfinite(rates).all():
        raise InputError(f"Expected learning_rates (runs,) above zero; got {learning_rates!r}.")
    if isinstance(optimizer, optax.GradientTransformation) or not callable(optimizer):
        raise InputTypeError(
            "Expected with learning_rates= an optimiser as a function of its learning rate, as optax.sgd; got "
            f"{type(optimizer).__name__}."
        )
    return rates


def _group(
    trainer: Trainer,
    params: Params,
    state: Any,
    x: Array,
    y: Array,
    num_runs: int,
    at_once: int | None,
    memory_budget: int | None,
) -> int:
    """How many runs are trained together: a divisor of their number, at most `at_once`, or as many as fit."""
    if at_once is not None:
        require_positive("at_once", at_once)
        fitting = at_once
    else:
        from ntkbias.kernels.tiles import default_memory_budget

        batch = slice(trainer.batch_size or len(x))
        variables = params if state is None else (params, state)
        program = jax.make_jaxpr(jax.grad(lambda v: trainer.loss(trainer.f(v, x[batch]), y[batch])))(variables)
        sizes = [v.aval.size * 4 for equation in program.jaxpr.eqns for v in equation.outvars]
        budget = default_memory_budget() if memory_budget is None else memory_budget
        fitting = max(1, budget // max(1, sum(sizes)))
    return max(size for size in range(1, num_runs + 1) if num_runs % size == 0 and size <= max(1, fitting))

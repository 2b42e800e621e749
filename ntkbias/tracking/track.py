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

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray

from ntkbias import losses
from ntkbias.checks import require_array, require_positive
from ntkbias.domains import Domain
from ntkbias.errors import InputError, InputTypeError
from ntkbias.tracking import measures as known
from ntkbias.tracking.checkpoint import digest
from ntkbias.tracking.follow import described, follow, own_pairs, own_walk, trained_walk, variables_of
from ntkbias.tracking.history import History
from ntkbias.tracking.record import Clock, Recorder
from ntkbias.tracking.snapshot import Setting
from ntkbias.tracking.watch import Watched
from ntkbias.training import (
    Forward,
    Steps,
    Trainer,
    TrainingState,
    checked_data,
    checked_steps,
    effective_learning_rates,
    output_shape,
    trial_moves,
)
from ntkbias.types import ApplyFunction, Outputs, Params

__all__ = ["track", "track_many"]


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
    measures: Mapping[str, known.Measure] | None = None,
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

    Step 0 and the last step, `num_steps`, are always among them. A network that is not trained goes as
    `iter([(0, params)])`; `num_steps` is at least 1.

    Training is that of `train`: `data` (x, y), `optimizer`, `num_steps`, `loss`, `batch_size`, `state` and `forward`
    have their meaning there. Or `params` is an iterator of (step, params), a loop of your own or a folder of
    checkpoints, of which every one is measured (with `state`: (step, (params, state)); the value of `state` itself is
    then not used); `learning_rate` says how much time a step is, and optimizer, num_steps and at have no place.

    The kernel is that of `probe`, inputs or (inputs, targets) (default: the first 500 of the data), with these
    `outputs`; measures by mode report the first `num_modes`. `test` is (x, y); `targets` are named functions on the
    probe, `(n,)` or `(n, o)`, to be watched; on a `domain` modes and residuals have frequencies. `measures` is a
    dictionary of functions of a `Snapshot` (default: `ntkbias.tracking.measures.DEFAULT`; see there). One that fails
    after the first snapshot has NaN there, or -1 for whole numbers, with a warning.

    All snapshots share one compiled kernel, and all steps one compiled step. Beyond training it costs a kernel and an
    eigendecomposition a snapshot. Memory holds three matrices of the probe up to 1 GiB, and none beyond: measures that
    need the matrix are then left out, and modes come from products.

    `checkpoint` names a folder that is renewed at each snapshot; files of other names that lie there stay. The same
    call goes on from it after any end of the process, to the same history bit for bit on one device, and `open_history`
    reads it meanwhile. A loop of your own has to come by the same steps, with the same params, bit for bit, at the last
    of them. At Ctrl-C the history so far comes back with a warning; with a checkpoint Ctrl-C is raised as usual. Where
    training diverges, the history ends before, and `stopped` says at which step, and why, as does a warning.
    `History.params` are those of the last snapshot; they are not saved with the history.

    Raises `InputError` before training on what `train` and `empirical_ntk` refuse, on a probe or test inputs of another
    shape, targets of another length, a probe outside the domain, a measure that fails at the first snapshot, and a
    checkpoint of another run, of which measures are told apart by their names and their own code, not by that of what
    they call; and on the way on steps of a loop of your own that do not ascend, and params of other shapes.
    """
    watched = Watched(probe, test, targets, domain, outputs, num_modes, memory_budget, key)
    if isinstance(params, Iterator):
        if optimizer is not None or num_steps is not None or at is not None or forward is not None or batch_size:
            raise InputError(
                "Expected an iterator of (step, params) alone, which trains by itself; got optimizer=, num_steps=, "
                "at=, batch_size= or forward= as well. Leave them out."
            )
        return _track_own(f, params, data, loss, learning_rate, state is not None, watched, measures, checkpoint)
    if optimizer is None or num_steps is None:
        listed = isinstance(params, list | tuple) and params and all(_is_pair(each) for each in params)
        hint = "params are a list of (step, params): use iter(...)" if listed else "give an iterator of your own"
        raise InputError(f"Expected optimizer= and num_steps= with params; got none. Or {hint}.")
    if learning_rate is not None:
        raise InputError("Expected learning_rate= with an iterator of your own alone: an optimiser has its own.")
    trainer, (x, y) = Trainer.checked(f, params, data, optimizer, loss, batch_size, state, forward)
    steps, taken = checked_steps(at, num_steps), known.checked(measures)
    setting = watched.setting(trainer.f, params if state is None else (params, state), trainer.loss, x, y, state)
    recorder = Recorder(setting, taken, Clock([effective_learning_rates(optimizer, num_steps)], num_steps), None)
    return _trained(trainer, [trainer.start(params, state)], recorder, steps, [optimizer], checkpoint)


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
    measures: Mapping[str, known.Measure] | None = None,
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
        _require_one_run(f, params, state, data, num_runs)
        params, state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_runs, *jnp.shape(leaf))), (params, state))
    one, one_state = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], (params, state))
    optimizers = [optimizer] * num_runs if rates is None else [optimizer(float(rate)) for rate in rates]
    trainer, (x, y) = Trainer.checked(f, one, data, optimizers[0], loss, batch_size, one_state, forward)
    trainer = dataclasses.replace(trainer, optimizer=optimizer, many=True)
    steps, taken = checked_steps(at, num_steps), known.checked(measures)
    watched = Watched(probe, test, targets, domain, outputs, num_modes, memory_budget, key)
    setting = watched.setting(trainer.f, one if state is None else (one, one_state), trainer.loss, x, y, state)
    different = optimizers[:1] if rates is None else optimizers
    found = [effective_learning_rates(each, num_steps) for each in different]
    recorder = Recorder(setting, taken, Clock(found * (num_runs // len(found)), num_steps), num_runs)
    size = _group(trainer, setting, one, one_state, num_runs, at_once)
    starts = []
    for first in range(0, num_runs, size):
        part = slice(first, first + size)
        chosen, chosen_state = jax.tree.map(lambda leaf, part=part: jnp.asarray(leaf)[part], (params, state))
        own = None if rates is None else jnp.asarray(rates, float)[part]
        starts.append(trainer.start(chosen, chosen_state, jnp.arange(num_runs)[part], own))
    return _trained(trainer, starts, recorder, steps, different, checkpoint)


def _trained(
    trainer: Trainer,
    starts: list[TrainingState],
    recorder: Recorder,
    steps: tuple[int, ...],
    optimizers: list[Any],
    checkpoint: Any,
) -> History:
    """Follow our own training."""
    setting, num_runs = recorder.setting, recorder.num_runs
    trainer = trainer.suited(starts[0], setting.x, setting.y, key=setting.key)
    first = variables_of(starts, num_runs)
    moves = [digest(trial_moves(each, steps[-1])) for each in optimizers]
    walk = trained_walk(trainer, starts, setting.x, setting.y, steps, setting.key, num_runs)
    return follow(recorder, walk, first, starts, described(trainer, setting, first, recorder, steps, moves), checkpoint)


def _track_own(
    f: ApplyFunction,
    iterates: Iterator[tuple[int, Params]],
    data: Any,
    loss: str | losses.Loss,
    learning_rate: float | None,
    has_state: bool,
    watched: Watched,
    measures: Any,
    checkpoint: Any,
) -> History:
    """Follow somebody else's training."""
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise InputError(f"Expected a learning rate above zero; got {learning_rate!r}.")
    function, taken, (x, y) = losses.named(loss), known.checked(measures), checked_data(data)
    pairs = own_pairs(iterates)
    try:
        first = next(pairs)
    except StopIteration:
        raise InputError("Expected an iterator of (step, params) with one of them or more; got none.") from None
    variables = first[1]
    y = losses.checked_targets(function, output_shape(f, variables, x), y)
    setting = watched.setting(f, variables, function, x, y, True if has_state else None)
    recorder = Recorder(setting, taken, Clock([learning_rate], None), None)
    trainer = Trainer(f, None, function, None, None)
    description = described(trainer, setting, [variables], recorder, (), learning_rate)
    walk = own_walk(pairs, first)
    return follow(recorder, walk, [variables], [variables], description, checkpoint)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], int | np.integer)


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


def _require_one_run(f: ApplyFunction, params: Params, state: Any, data: Any, num_rates: int) -> None:
    """Raise an `InputError` where params are not those of one run, and no `num_rates` runs either."""
    x, _ = checked_data(data)
    try:
        output_shape(f, params if state is None else (params, state), x)
    except InputError as error:
        firsts = sorted({jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(params)})
        raise InputError(
            f"Expected params of one run, or with as many runs as learning_rates, {num_rates}, as the first axis of "
            f"each array; got arrays of first axes {firsts}."
        ) from error


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


def _group(trainer: Trainer, setting: Setting, params: Params, state: Any, num_runs: int, at_once: int | None) -> int:
    """How many runs are trained together: a divisor of their number, at most `at_once`, or as many as fit."""
    if at_once is not None:
        require_positive("at_once", at_once)
        fitting = at_once
    else:
        batch = slice(trainer.batch_size or len(setting.x))
        x, y = setting.x[batch], setting.y[batch]
        variables = params if state is None else (params, state)
        program = jax.make_jaxpr(jax.grad(lambda variables: trainer.loss(trainer.f(variables, x), y)))(variables)
        values = [value.aval for equation in program.jaxpr.eqns for value in equation.outvars]
        fitting = setting.memory_budget // max(1, sum(value.size * value.dtype.itemsize for value in values))
    return max(size for size in range(1, num_runs + 1) if num_runs % size == 0 and size <= max(1, fitting))

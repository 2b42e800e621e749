"""Follow several runs together: seeds, or learning rates, side by side.

>>> import jax, jax.numpy as jnp, ntkbias as nb, optax
>>> from ntkbias.tracking import track_many
>>> net, (x, _) = nb.nets.mlp(width=32, depth=1, b_std=0.1), nb.domains.Circle().quadrature(16)
>>> seeds = jax.vmap(lambda key: net.init(key, (2,)))(jax.random.split(jax.random.key(0), 3))
>>> data = x, jnp.sign(x[:, 0] + 0.1)
>>> history = track_many(net.apply, seeds, data, optimizer=optax.sgd(0.5), num_steps=100)
>>> history["loss"].shape == (3, len(history))
True
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
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
from ntkbias.errors import InputError, InputTypeError
from ntkbias.tracking.following import follow_training
from ntkbias.tracking.history import History
from ntkbias.tracking.measures import checked
from ntkbias.tracking.probe import Probe
from ntkbias.tracking.recorder import Clock, Recorder
from ntkbias.tracking.setting import Setting
from ntkbias.tracking.snapshot import Snapshot
from ntkbias.tracking.snapshots import require_no_snapshots
from ntkbias.training import (
    Forward,
    Steps,
    Trainer,
    checked_data,
    checked_steps,
    effective_learning_rates,
    output_shape,
    packed_data,
)
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["track_many"]


def track_many(
    f: ApplyFunction,
    params: Params,
    data: tuple[Inputs, ArrayLike],
    *,
    optimizer: Any,
    num_steps: int,
    learning_rates: ArrayLike | Sequence[float] | None = None,
    at_once: int | None = None,
    loss: str | losses.LossFunction = "mse",
    batch_size: int | None = None,
    at: Steps | None = None,
    state: Any = None,
    forward: Forward | None = None,
    key: PRNGKeyArray | None = None,
    probe: Probe | Inputs | tuple[Inputs, ArrayLike] | None = None,
    measures: Mapping[str, Callable[[Snapshot], Any]] | None = None,
    checkpoint: str | Path | None = None,
) -> History:
    """`track` for several runs together: `params` (and `state`) with the runs as the first axis of each array.

    With `learning_rates` `(runs,)` each run has its own, and `optimizer` is a function of it, as `optax.sgd`; `params`
    may then be those of one run, from which all start. Run i sees the batches of `track` with the key
    `jax.random.fold_in(key, i)`. The values of the history have the runs as their first axis.

    Training steps of `at_once` runs (default: as many as fit the memory budget of the probe, by the sizes of all
    intermediate values) are one compiled program, by `vmap`; measures are taken run by run. Runs that diverge have NaN,
    and -1 for whole numbers, from there on. The other arguments, costs and errors are those of `track`.
    """
    require_no_snapshots(params)
    f, forward, data = packed_data(f, forward, data)
    rates = None if learning_rates is None else _checked_rates(learning_rates, optimizer)
    num_runs = _num_runs(params, None if rates is None else len(rates))
    if rates is not None and not all(jnp.shape(leaf)[:1] == (num_runs,) for leaf in jax.tree.leaves(params)):
        _require_one_run(f, params, state, data, num_runs)
        params, state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_runs, *jnp.shape(leaf))), (params, state))
    one, one_state = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], (params, state))
    optimizers = [optimizer] * num_runs if rates is None else [optimizer(float(rate)) for rate in rates]
    trainer, (x, y) = Trainer.checked(f, one, data, optimizers[0], loss, batch_size, one_state, forward)
    trainer = dataclasses.replace(trainer, optimizer=optimizer, many=True)
    steps, taken = checked_steps(at, num_steps), checked(measures)
    variables = one if state is None else (one, one_state)
    setting = Setting.of(trainer.f, variables, (x, y), trainer.loss, probe, has_state=state is not None, key=key)
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
    return follow_training(trainer, starts, recorder, steps, checkpoint)


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
            "Expected with learning_rates= an optimizer as a function of its learning rate, as optax.sgd; got "
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

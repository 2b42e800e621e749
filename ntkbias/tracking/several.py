"""Train several runs together, with different seeds or learning rates, and measure the kernel of each.

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
from ntkbias.tracking.callbacks import Callback, checked_callbacks
from ntkbias.tracking.following import follow_training
from ntkbias.tracking.history import History
from ntkbias.tracking.measures import checked
from ntkbias.tracking.probe import Probe
from ntkbias.tracking.recorder import Clock, Recorder
from ntkbias.tracking.setting import Setting
from ntkbias.tracking.snapshot import Snapshot
from ntkbias.tracking.snapshots import require_no_snapshots
from ntkbias.training import Forward, Steps, effective_learning_rates
from ntkbias.training.inputs import checked_data, output_shape, packed_data
from ntkbias.training.steps import checked_steps
from ntkbias.training.trainer import Trainer
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
    callbacks: Callback | Sequence[Callback] = (),
    checkpoint: str | Path | None = None,
) -> History:
    """Train several runs of `f(params, x)` together, and return one `History` of their kernels' `measures`.

    The runs are the first axis of each array of `params` (and of `state`), and of each value of the history.
    `history.run(i)` is the history of run i.

    Arguments that differ from those of `track`:

    - `learning_rates` `(runs,)`: one learning rate per run. Then `optimizer` is a function of the rate, such as
      `optax.sgd`, and `params` may be those of a single run, from which all runs start.
    - `key`: run i draws its batches as `track` does with the key `jax.random.fold_in(key, i)`.
    - `callbacks`: their measures have the runs as the first axis.
    - `at_once`: how many runs one compiled program trains together, by `vmap`. It is reduced to a divisor of the number
      of runs. By default it is as many as fit the probe's memory budget, by the sizes of all intermediate values.

    A run that diverges has NaN from then on, or -1 for whole numbers. `wrt` is not available. The other arguments, the
    errors and the use of checkpoints are as in `track`. Measures are taken run by run, so they cost as much as in
    separate runs.

    Also raises `InputError` if the arrays of `params` have first axes of different lengths, or if learning rates are
    not positive, and `InputTypeError` if `optimizer` is not a function of the learning rate.

    >>> x = jnp.eye(3)
    >>> f = lambda params, x: jnp.tanh(x @ params)
    >>> options = {"optimizer": optax.sgd, "learning_rates": [0.1, 0.5], "num_steps": 4, "at": [2]}
    >>> history = track_many(f, jnp.zeros(3), (x, x[:, 0]), **options)
    >>> history["loss"].shape, history["eigenvalues"].shape
    ((2, 3), (2, 3, 3))
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
    steps, taken, called = checked_steps(at, num_steps), checked(measures), checked_callbacks(callbacks)
    variables = one if state is None else (one, one_state)
    setting = Setting.of(trainer.f, variables, (x, y), trainer.loss, probe, has_state=state is not None, key=key)
    different = optimizers[:1] if rates is None else optimizers
    found = [effective_learning_rates(each, num_steps) for each in different]
    recorder = Recorder(setting, taken, Clock(found * (num_runs // len(found)), num_steps), num_runs, called)
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
            "Expected params with the runs as the first axis of each array; got first axes "
            f"{sorted(lengths)}. Use jax.vmap(lambda key: net.init(key, shape))(keys)."
        )
    return int(lengths.pop()[0])


def _require_one_run(f: ApplyFunction, params: Params, state: Any, data: Any, num_rates: int) -> None:
    """Raise an `InputError` unless `params` are those of one run; those of `num_rates` runs were ruled out before."""
    x, _ = checked_data(data)
    try:
        output_shape(f, params if state is None else (params, state), x)
    except InputError as error:
        firsts = sorted({jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(params)})
        raise InputError(
            f"Expected params of one run, or of {num_rates} runs, one per learning rate, along the first axis of each "
            f"array; got first axes {firsts}."
        ) from error


def _checked_rates(learning_rates: Any, optimizer: Any) -> np.ndarray:
    rates = np.asarray(require_array(learning_rates, "learning_rates"), np.float64)
    if rates.ndim != 1 or not rates.size or not np.all(rates > 0) or not np.isfinite(rates).all():
        raise InputError(f"Expected learning_rates (runs,) above zero; got {learning_rates!r}.")
    if isinstance(optimizer, optax.GradientTransformation) or not callable(optimizer):
        raise InputTypeError(
            "Expected optimizer to be a function of the learning rate, such as optax.sgd, with learning_rates=; got "
            f"{type(optimizer).__name__}."
        )
    return rates


def _group(trainer: Trainer, setting: Setting, params: Params, state: Any, num_runs: int, at_once: int | None) -> int:
    """How many runs are trained together: a divisor of their number that is at most `at_once`, or that fits memory."""
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

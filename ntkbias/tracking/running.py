"""Follow a network's kernel through training: measures at chosen steps, stacked to a `History`.

>>> import jax, jax.numpy as jnp, ntkbias as nb, optax
>>> from ntkbias.tracking import track
>>> net, (x, _) = nb.nets.mlp(width=32, depth=1, b_std=0.1), nb.domains.Circle().quadrature(16)
>>> data = x, jnp.sign(x[:, 0] + 0.1)
>>> params = net.init(jax.random.key(0), (2,))
>>> options = {"optimizer": optax.sgd(0.5), "num_steps": 100, "domain": nb.domains.Circle()}
>>> history = track(net.apply, params, data, **options)
>>> bool(history["loss"][-1] < history["loss"][0]), history["residual_spectrum"].shape == (len(history), 8)
(True, True)
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray

from ntkbias import losses
from ntkbias.domains import Domain
from ntkbias.errors import InputError
from ntkbias.parameters import Merging, MergingForward, Which, chosen_paths, partitioned
from ntkbias.tracking.following import follow_training
from ntkbias.tracking.history import History
from ntkbias.tracking.measures import checked
from ntkbias.tracking.own_loop import track_own
from ntkbias.tracking.recorder import Clock, Recorder
from ntkbias.tracking.setting import Watched
from ntkbias.tracking.snapshot import Snapshot
from ntkbias.training import Forward, Steps, Trainer, checked_steps, effective_learning_rates, packed_data
from ntkbias.types import ApplyFunction, Inputs, Outputs, Params

__all__ = ["track"]


def track(
    f: ApplyFunction,
    params: Params | Iterator[tuple[int, Params]],
    data: tuple[Inputs, ArrayLike],
    *,
    optimizer: optax.GradientTransformation | None = None,
    num_steps: int | None = None,
    loss: str | losses.LossFunction = "mse",
    batch_size: int | None = None,
    at: Steps | None = None,
    probe: Inputs | tuple[Inputs, ArrayLike] | None = None,
    test: tuple[Inputs, ArrayLike] | None = None,
    targets: Mapping[str, ArrayLike] | None = None,
    domain: Domain | None = None,
    measures: Mapping[str, Callable[[Snapshot], Any]] | None = None,
    outputs: Outputs = "mean",
    num_modes: int = 20,
    learning_rate: float | None = None,
    state: Any = None,
    forward: Forward | None = None,
    memory_budget: int | None = None,
    key: PRNGKeyArray | None = None,
    checkpoint: str | Path | None = None,
    wrt: Which | None = None,
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
    dictionary of functions of a `Snapshot` (default: `ntkbias.tracking.measures.DEFAULT`; see there); those that they
    need are taken too. One that fails
    after the first snapshot has NaN there, or -1 for whole numbers, with a warning.

    All snapshots share one compiled kernel, and all steps one compiled step. Beyond training it costs a kernel and an
    eigendecomposition a snapshot. Memory holds three matrices of the probe up to 1 GiB, and none beyond: measures that
    need the matrix are then left out, and modes come from products.

    `wrt` chooses the parameters that are trained, and that the kernel is of, as in `empirical_ntk`: a head, the factors
    of LoRA. The others stay, and may be of any type. It goes with an optimizer and without `state` and `forward`.

    `checkpoint` names a folder that is renewed at each snapshot; files of other names that lie there stay. The same
    call goes on from it after any end of the process, to the same history bit for bit on one device, and `open_history`
    reads it meanwhile. One process is in it at a time. A call goes on where data, params and options are equal, and f,
    the loss, the optimizer and the first two steps of training do the same; what differs is named, and where that
    cannot be decided, a warning says so. A loop of your own has to come by the same steps, with the same params, bit
    for bit, at the last of them. At Ctrl-C the history so far comes back with a warning; with a checkpoint Ctrl-C is
    raised as usual. Where training diverges, the history ends before, and `stopped` says at which step, and why, as
    does a warning. `History.params` are those of the last snapshot; they are not saved with the history.

    Raises `InputError` before training on what `train` and `empirical_ntk` refuse, on a probe or test inputs of another
    shape, targets of another length, a probe outside the domain, a measure that fails at the first snapshot, and a
    checkpoint of another run, in use, damaged, or among files of others by the names of ours; measures are told apart
    by their names and their own code, not by that of what they call. A last snapshot that cannot be written is a
    warning, an earlier one a `StorageError`. On the way `InputError` is raised on steps of a loop of your own that do
    not ascend, and on params of other shapes.
    """
    if wrt is not None:
        if isinstance(params, Iterator) or state is not None or forward is not None:
            raise InputError(
                "Expected wrt= with params and an optimizer alone; got a loop of your own, state= or forward=. Put "
                "what is not trained into state=."
            )
        pair = partitioned(params, chosen_paths(params, wrt) or ())
        options: dict[str, Any] = {
            "optimizer": optimizer,
            "num_steps": num_steps,
            "loss": loss,
            "batch_size": batch_size,
            "at": at,
            "probe": probe,
            "test": test,
            "targets": targets,
            "domain": domain,
            "measures": measures,
            "outputs": outputs,
            "num_modes": num_modes,
            "learning_rate": learning_rate,
            "memory_budget": memory_budget,
            "key": key,
            "checkpoint": checkpoint,
        }
        history = track(Merging(f), pair[0], data, state=pair[1], forward=MergingForward(f), **options)
        return dataclasses.replace(history, params=eqx.combine(*history.params))
    f, forward, data = packed_data(f, forward, data)
    watched = Watched(probe, test, targets, domain, outputs, num_modes, memory_budget, key)
    if isinstance(params, Iterator):
        if optimizer is not None or num_steps is not None or at is not None or forward is not None or batch_size:
            raise InputError(
                "Expected an iterator of (step, params) alone, which trains by itself; got optimizer=, num_steps=, "
                "at=, batch_size= or forward= as well. Leave them out."
            )
        return track_own(f, params, data, loss, learning_rate, state is not None, watched, measures, checkpoint)
    if optimizer is None or num_steps is None:
        listed = isinstance(params, list | tuple) and params and all(_is_pair(each) for each in params)
        hint = "params are a list of (step, params): use iter(...)" if listed else "give an iterator of your own"
        raise InputError(f"Expected optimizer= and num_steps= with params; got none. Or {hint}.")
    if learning_rate is not None:
        raise InputError("Expected learning_rate= with an iterator of your own alone: an optimizer has its own.")
    trainer, (x, y) = Trainer.checked(f, params, data, optimizer, loss, batch_size, state, forward)
    steps, taken = checked_steps(at, num_steps), checked(measures)
    setting = watched.setting(trainer.f, params if state is None else (params, state), trainer.loss, x, y, state)
    recorder = Recorder(setting, taken, Clock([effective_learning_rates(optimizer, num_steps)], num_steps), None)
    return follow_training(trainer, [trainer.start(params, state)], recorder, steps, checkpoint)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], int | np.integer)

"""Follow a network's kernel through training: measures at chosen steps, stacked to a `History`.

>>> import jax, jax.numpy as jnp, ntkbias as nb, optax
>>> from ntkbias.tracking import Probe, track
>>> net, (x, _) = nb.nets.mlp(width=32, depth=1, b_std=0.1), nb.domains.Circle().quadrature(16)
>>> data = x, jnp.sign(x[:, 0] + 0.1)
>>> params = net.init(jax.random.key(0), (2,))
>>> probe = Probe(domain=nb.domains.Circle())
>>> history = track(net.apply, params, data, optimizer=optax.sgd(0.5), num_steps=100, probe=probe)
>>> bool(history["loss"][-1] < history["loss"][0]), history["residual_spectrum"].shape == (len(history), 8)
(True, True)
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import optax
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray

from ntkbias import losses
from ntkbias.errors import InputError
from ntkbias.parameters import Merging, MergingForward, Which, chosen_paths, partitioned
from ntkbias.tracking.following import follow_training
from ntkbias.tracking.history import History
from ntkbias.tracking.measures import checked
from ntkbias.tracking.probe import Probe
from ntkbias.tracking.recorder import Clock, Recorder
from ntkbias.tracking.setting import Setting
from ntkbias.tracking.snapshot import Snapshot
from ntkbias.tracking.snapshots import require_no_snapshots
from ntkbias.training import Forward, Steps, Trainer, checked_steps, effective_learning_rates, packed_data
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["track"]


def track(
    f: ApplyFunction,
    params: Params,
    data: tuple[Inputs, ArrayLike],
    *,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    loss: str | losses.LossFunction = "mse",
    batch_size: int | None = None,
    at: Steps | None = None,
    state: Any = None,
    forward: Forward | None = None,
    key: PRNGKeyArray | None = None,
    wrt: Which | None = None,
    probe: Probe | Inputs | tuple[Inputs, ArrayLike] | None = None,
    measures: Mapping[str, Callable[[Snapshot], Any]] | None = None,
    checkpoint: str | Path | None = None,
) -> History:
    """Train `f(params, x)` on `data`, and take `measures` of its kernel at the steps `at`.

    Training is that of `train`: `data` (x, y), `optimizer`, `num_steps` and the arguments up to `key` have their
    meaning there. The steps are by default 0, then 29 on a logarithmic scale; step 0 and `num_steps`, the last, are
    always among them. For a training loop of your own use `track_snapshots`, for several runs `track_many`.

    `wrt` chooses the parameters that are trained, and that the kernel is of, as in `empirical_ntk`: a head, the factors
    of LoRA. The others stay, and may be of any type. It goes without `state` and `forward`.

    `probe` says where and how the kernel is looked at: a `tracking.Probe`; or, in short, inputs, or a pair (inputs,
    targets). By default it is the first 500 of the data. `measures` is a dictionary of functions of a `Snapshot`
    (default: `tracking.measures.DEFAULT`; see there); those that they need are taken too. One that fails after the
    first snapshot has NaN there, or -1 for whole numbers, with a warning.

    All snapshots share one compiled kernel, and all steps one compiled step. Beyond training it costs a kernel and an
    eigendecomposition a snapshot. Memory holds three matrices of the probe up to 1 GiB, and none beyond: measures that
    need the matrix are then left out, and modes come from products.

    `checkpoint` names a folder that is renewed at each snapshot; files of other names that lie there stay. The same
    call goes on from it after any end of the process, to the same history bit for bit on one device, and `open_history`
    reads it meanwhile; one line on the standard error says whether a run is resumed or started. One process is in it
    at a time. A call goes on where data, params and options are equal, and f, the loss, the optimizer and the first two
    steps of training do the same; what differs is named, and where that cannot be decided, a warning says so. At Ctrl-C
    the history so far comes back with a warning; with a checkpoint Ctrl-C is raised as usual. Where training diverges,
    the history ends before, and `stopped` says at which step, and why, as does a warning. `History.params` are those of
    the last snapshot; they are not saved with the history.

    Raises `InputError` before training on what `train` and `empirical_ntk` refuse, on a probe or test inputs of another
    shape, watched targets of another length, a probe outside the domain, a measure that fails at the first snapshot,
    and a checkpoint of another run, in use, damaged, or among files of others by the names of ours; measures are told
    apart by their names and their own code, not by that of what they call. A last snapshot that cannot be written is a
    warning, an earlier one a `StorageError`.
    """
    require_no_snapshots(params)
    if wrt is not None:
        if state is not None or forward is not None:
            raise InputError("Expected wrt= alone; got state= or forward= too. Put what is not trained into state=.")
        params, state = partitioned(params, chosen_paths(params, wrt) or ())
        f, forward = Merging(f), MergingForward(f)
    f, forward, data = packed_data(f, forward, data)
    trainer, (x, y) = Trainer.checked(f, params, data, optimizer, loss, batch_size, state, forward)
    steps, taken = checked_steps(at, num_steps), checked(measures)
    variables = params if state is None else (params, state)
    setting = Setting.of(trainer.f, variables, (x, y), trainer.loss, probe, has_state=state is not None, key=key)
    recorder = Recorder(setting, taken, Clock([effective_learning_rates(optimizer, num_steps)], num_steps), None)
    history = follow_training(trainer, [trainer.start(params, state)], recorder, steps, checkpoint)
    return history if wrt is None else dataclasses.replace(history, params=eqx.combine(*history.params))

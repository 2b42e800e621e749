"""Train a network and measure its kernel along the way. The result is a `History`.

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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import optax
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray

from ntkbias import losses
from ntkbias.errors import InputError
from ntkbias.parameters import Merging, MergingForward, Which, chosen_paths, partitioned
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
from ntkbias.training.inputs import packed_data
from ntkbias.training.steps import checked_steps
from ntkbias.training.trainer import Trainer
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
    callbacks: Callback | Sequence[Callback] = (),
    checkpoint: str | Path | None = None,
) -> History:
    """Train `f(params, x)` on `data`, and return a `History` of its kernel's `measures` at the steps `at`.

    To follow a training loop of your own use `track_snapshots`; to follow several runs use `track_many`.

    Arguments:
    - `data` (x, y), `optimizer`, `num_steps`, `loss`, `batch_size`, `state`, `forward`, `key`: as in `train`. The key
      also draws the random vectors of iterative methods, for instance for the first modes of a large kernel.
    - `at`: the steps of the snapshots, in ascending order. Step 0 and the last step are always included. By default
      there are at most 30, equally spaced on a logarithmic scale.
    - `wrt`: the parameters to train, which are also those that the kernel differentiates by, chosen as in
      `empirical_ntk`: a head or LoRA factors, say. All others stay fixed, and may be of any type. You cannot combine it
      with `state` or `forward`.
    - `probe`: the inputs of the kernel, as a `tracking.Probe`. Inputs, or a pair (inputs, targets), are short for one.
      The default is the first 500 training examples.
    - `measures`: a dictionary of functions of a `Snapshot` (default: `tracking.measures.DEFAULT`). The measures that
      they need are added. If a measure fails after the first snapshot, its value there is NaN, or -1 for whole numbers,
      and a warning names it.
    - `callbacks`: functions `callback(step, measures)` that are called at each snapshot, for instance to log to
      TensorBoard or Weights & Biases. `measures` is a dictionary by name of numbers and arrays, `history[name][i]`. An
      exception in a callback ends training and is raised as it is, with a note that names the step.
    - `checkpoint`: a folder in which each snapshot is saved. See below.

    `History.params` are the parameters at the last snapshot; they are not saved with the history. If training diverges,
    the history ends before that step, `History.stopped` gives the step and the cause, and there is a warning. Ctrl-C
    also ends training with a warning, and returns the history so far; with a checkpoint it raises as usual.

    Checkpoints: the same call resumes a run that was stopped or killed. On one device, the history is then the same bit
    for bit. One line on the standard error says whether a run starts or resumes. `open_history` reads the folder at any
    time. Only one process at a time can use the folder; other files in it are kept. A call resumes a run only if the
    data, the params and all options are equal, and if f, the loss, the optimizer and the first two training steps give
    the same numbers. Otherwise the error names the differences. A warning names what cannot be compared. Measures are
    compared by their names and their own code; a change in a function that they call leads to a warning at most.
    Callbacks are not compared. They are called after a snapshot is saved, and not again when the run resumes: each
    snapshot is reported once, or not at all if the process was killed in between. `open_history` has all.

    Cost: training, and for each snapshot one Gram matrix of the probe and one eigendecomposition. All snapshots share
    one compiled kernel, and all steps share one compiled step. Memory holds the Gram matrices of three snapshots if
    these and a fourth one fit 1 GiB (about 8,000 rows each) and the probe's memory budget. For a larger probe, measures
    that need the matrix are left out, and the first modes come from products with vectors.

    Raises `InputError` before training on all that `train` and `empirical_ntk` refuse; if the probe or the test inputs
    have another shape than the training inputs; if watched targets have another length than the probe; if the probe is
    outside the domain; if a measure fails at the first snapshot; and if the checkpoint is damaged, in use or of another
    run, or files of other programs have the names of its files. Raises `StorageError` if a snapshot cannot be written;
    for the last snapshot that is only a warning.

    >>> import jax.numpy as jnp
    >>> x = jnp.eye(3)
    >>> f, params = lambda params, x: jnp.tanh(x @ params), jnp.zeros(3)
    >>> history = track(f, params, (x, x[:, 0]), optimizer=optax.sgd(0.5), num_steps=4, at=[2])
    >>> history.steps.tolist(), history["eigenvalues"].shape
    ([0, 2, 4], (3, 3))
    """
    require_no_snapshots(params)
    if wrt is not None:
        if state is not None or forward is not None:
            raise InputError("Expected wrt= alone; got state= or forward= too. Put what is not trained into state=.")
        params, state = partitioned(params, chosen_paths(params, wrt) or ())
        f, forward = Merging(f), MergingForward(f)
    f, forward, data = packed_data(f, forward, data)
    trainer, (x, y) = Trainer.checked(f, params, data, optimizer, loss, batch_size, state, forward)
    steps, taken, called = checked_steps(at, num_steps), checked(measures), checked_callbacks(callbacks)
    variables = params if state is None else (params, state)
    setting = Setting.of(trainer.f, variables, (x, y), trainer.loss, probe, has_state=state is not None, key=key)
    recorder = Recorder(
        setting, taken, Clock([effective_learning_rates(optimizer, num_steps)], num_steps), None, called
    )
    history = follow_training(trainer, [trainer.start(params, state)], recorder, steps, checkpoint)
    return history if wrt is None else dataclasses.replace(history, params=eqx.combine(*history.params))

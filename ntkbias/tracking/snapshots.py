"""Measure the kernel along a training loop of your own, given as an iterable of pairs (step, params).

>>> import jax, jax.numpy as jnp, ntkbias as nb, optax
>>> from ntkbias.tracking import track_snapshots
>>> net, (x, _) = nb.nets.mlp(width=32, depth=1, b_std=0.1), nb.domains.Circle().quadrature(16)
>>> data = x, jnp.sign(x[:, 0] + 0.1)
>>> def loop(params):    # gradient descent by hand; or load checkpoints and yield them
...     loss = lambda params: nb.losses.mse(net.apply(params, x), data[1])
...     for step in range(4):
...         yield step, params
...         params = jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(loss)(params))
>>> history = track_snapshots(net.apply, loop(net.init(jax.random.key(0), (2,))), data, learning_rate=0.5)
>>> history.steps.tolist(), history.times.tolist()
([0, 1, 2, 3], [0.0, 0.5, 1.0, 1.5])
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray

from ntkbias import losses
from ntkbias.errors import InputError, InputTypeError
from ntkbias.tracking import trials
from ntkbias.tracking.callbacks import Callback, checked_callbacks
from ntkbias.tracking.fingerprints import digest
from ntkbias.tracking.following import Reached, Walk, described, follow
from ntkbias.tracking.history import History
from ntkbias.tracking.measures import checked
from ntkbias.tracking.probe import Probe
from ntkbias.tracking.recorder import Clock, Recorder
from ntkbias.tracking.setting import Setting
from ntkbias.tracking.snapshot import Snapshot
from ntkbias.training.inputs import checked_data, output_shape, packed_data, shapes
from ntkbias.training.trainer import Trainer
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["require_no_snapshots", "track_snapshots"]

OTHER_LOOP = "Expected the same loop as in the checkpoint, to resume it; got one that "
CHOICE = "Choose another path, or delete that folder to begin again."


def track_snapshots(
    f: ApplyFunction,
    snapshots: Iterable[tuple[int, Params]],
    data: tuple[Inputs, ArrayLike],
    *,
    loss: str | losses.LossFunction = "mse",
    learning_rate: float | None = None,
    has_state: bool = False,
    key: PRNGKeyArray | None = None,
    probe: Probe | Inputs | tuple[Inputs, ArrayLike] | None = None,
    measures: Mapping[str, Callable[[Snapshot], Any]] | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    checkpoint: str | Path | None = None,
) -> History:
    """Return a `History` of the kernel's `measures` at each (step, params) of a training loop of your own.

    Arguments:
    - `snapshots`: an iterable of (step, params) with ascending steps: a generator that trains, or a list of saved
      parameters. For a network that is not trained, pass `[(0, params)]`. Each snapshot is measured when it arrives.
    - `data` (x, y): the training data.
    - `loss`: the training loss.
    - `learning_rate`: the time that one step takes. Without it, measures that need a time are left out.
    - `has_state`: the params are pairs (params, state), as `train` yields them for networks with a state. `f` takes the
      pair, and the kernel differentiates by the params alone.
    - `key`: draws the random vectors of iterative methods, for instance for the first modes of a large kernel.
    - `probe`, `measures`, `callbacks`, `checkpoint`: as in `track`. To resume from a checkpoint, the loop has to yield
      the same steps again, and at the last saved step the same params bit for bit.

    The cost per snapshot is that of `track`. The history's `params` are those of the last snapshot.

    Raises `InputError` on data, probes, measures and checkpoints that `track` refuses, and if there are no snapshots.
    Also raises `InputError` during the loop if steps do not ascend or the shapes of params change.

    >>> x = jnp.eye(3)
    >>> f = lambda params, x: jnp.tanh(x @ params)
    >>> history = track_snapshots(f, [(0, jnp.zeros(3)), (10, jnp.ones(3))], (x, x[:, 0]))
    >>> history.steps.tolist(), history["eigenvalues"].shape
    ([0, 10], (2, 3))
    """
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise InputError(f"Expected a learning rate above zero; got {learning_rate!r}.")
    f, _, data = packed_data(f, None, data)
    function, taken, (x, y) = losses.named(loss), checked(measures), checked_data(data)
    called = checked_callbacks(callbacks)
    pairs = _pairs(snapshots)
    try:
        first = next(pairs)
    except StopIteration:
        raise InputError("Expected one pair (step, params) or more in snapshots; got none.") from None
    variables = first[1]
    y = losses.checked_targets(function, output_shape(f, variables, x), y)
    setting = Setting.of(f, variables, (x, y), function, probe, has_state=has_state, key=key)
    recorder = Recorder(setting, taken, Clock([learning_rate], None), None, called)
    trainer = Trainer(f, None, function, None, None)
    return _follow_snapshots(trainer, recorder, _walk(pairs, first), variables, learning_rate, checkpoint)


def _follow_snapshots(
    trainer: Trainer, recorder: Recorder, walk: Walk, variables: Params, learning_rate: float | None, checkpoint: Any
) -> History:
    """Measure the snapshots of a user's loop, and return the history. `variables` are those of the first snapshot."""
    setting = recorder.setting
    description = described(trainer, setting, [variables], recorder, (), learning_rate)
    tried: dict[str, np.ndarray | None] = {}
    if checkpoint is not None:
        tried = {"f": trials.try_f(setting, variables), "loss": trials.try_loss(setting, variables, None)}
    return follow(recorder, walk, [variables], [variables], description, tried, checkpoint)


def require_no_snapshots(params: Any) -> None:
    """Raise an `InputTypeError` if `params` are snapshots (step, params) instead of parameters."""
    listed = isinstance(params, list | tuple) and bool(params) and all(_is_pair(each) for each in params)
    if listed or isinstance(params, Iterator):
        got = "a list of (step, params)" if listed else "an iterator"
        raise InputTypeError(
            f"Expected params to train; got {got}. For a training loop of your own use track_snapshots."
        )


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], int | np.integer)


def _pairs(snapshots: Any) -> Iterator[tuple[int, Params]]:
    """Yield the snapshots, and require pairs (step, params) whose params have the same structure and shapes."""
    first = None
    if not isinstance(snapshots, Iterable) or isinstance(snapshots, Mapping | str):
        raise InputTypeError(
            f"Expected snapshots to be an iterator of pairs (step, params); got {type(snapshots).__name__}. "
            "To train params use track; for params that are not trained pass [(0, params)]."
        )
    for found in snapshots:
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise InputTypeError(f"Expected an iterator of pairs (step, params); got {type(found).__name__}.")
        step, variables = found
        try:
            number = operator.index(step)
        except TypeError:
            raise InputTypeError(
                f"Expected the step of each pair (step, params) to be a whole number; got {type(step).__name__}."
            ) from None
        first = shapes(variables) if first is None else first
        if shapes(variables) != first:
            raise InputError(
                f"Expected params of the same shapes at all steps, {first}; got {shapes(variables)} at step {number}."
            )
        yield number, jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), variables)  # the loop may donate them


def _walk(iterates: Iterator[tuple[int, Params]], first: tuple[int, Params]) -> Walk:
    """The walk over the snapshots, from `first` on. Saved ones are compared with the checkpoint, then skipped."""

    def walk(state: Any, seen: tuple[int, ...]) -> Iterator[Reached]:
        reached, before = -1, None
        for index, (number, variables) in enumerate(chain([first], iterates)):
            if number <= reached:
                raise InputError(f"Expected steps in ascending order; got {number} after {reached}.")
            if index < len(seen):
                _require_seen(number, variables, seen[index], state[0] if index == len(seen) - 1 else None)
            else:
                length = 0.0 if before is None else float(optax.tree.norm(optax.tree.sub(variables, before)))
                finite = all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(variables))
                diverged = np.array([-1 if finite else number])
                yield Reached(number, [variables], np.array([length]), diverged, [variables])
            reached, before = number, variables
        if reached < max(seen, default=-1):
            raise InputError(f"{OTHER_LOOP}ends at step {reached}, before the saved step {seen[-1]}. {CHOICE}")

    return walk


def _require_seen(step: int, variables: Params, seen: int, saved: Params | None) -> None:
    """Raise an `InputError` unless a snapshot has the step `seen` of the checkpoint, and equals its params `saved`."""
    if step != seen:
        raise InputError(f"{OTHER_LOOP}yields step {step} instead of the saved step {seen}. {CHOICE}")
    if saved is not None and digest(jax.tree.map(jnp.asarray, variables)) != digest(jax.tree.map(jnp.asarray, saved)):
        raise InputError(f"{OTHER_LOOP}has other params at step {step}. {CHOICE}")

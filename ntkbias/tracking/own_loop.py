"""Somebody else's training: a loop that yields (step, params), or checkpoints of one, followed as they come."""

import math
import operator
from collections.abc import Iterator
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkbias import losses
from ntkbias.errors import InputError, InputTypeError
from ntkbias.tracking import trials
from ntkbias.tracking.fingerprints import digest
from ntkbias.tracking.following import Reached, Walk, described, follow
from ntkbias.tracking.history import History
from ntkbias.tracking.measures import checked
from ntkbias.tracking.recorder import Clock, Recorder
from ntkbias.tracking.setting import Watched
from ntkbias.training import Trainer, checked_data, output_shape, shapes
from ntkbias.types import ApplyFunction, Params

__all__ = ["track_own"]

OTHER_LOOP = "Expected the loop that the checkpoint is of, to go on with it; got one that "
CHOICE = "Choose another path, or delete that folder to begin again."


def track_own(
    f: ApplyFunction,
    iterates: Iterator[tuple[int, Params]],
    data: Any,
    loss: str | losses.LossFunction,
    learning_rate: float | None,
    has_state: bool,
    watched: Watched,
    measures: Any,
    checkpoint: Any,
) -> History:
    """Follow somebody else's training."""
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise InputError(f"Expected a learning rate above zero; got {learning_rate!r}.")
    function, taken, (x, y) = losses.named(loss), checked(measures), checked_data(data)
    pairs = _pairs(iterates)
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
    tried: dict[str, np.ndarray | None] = {}
    if checkpoint is not None:
        tried = {"f": trials.of_f(setting, variables), "loss": trials.of_loss(setting, variables, None)}
    walk = _walk(pairs, first)
    return follow(recorder, walk, [variables], [variables], description, tried, checkpoint)


def _pairs(iterates: Iterator[Any]) -> Iterator[tuple[int, Params]]:
    """What somebody else's loop yields, as long as it is (step, params), with params of one structure and shape."""
    first = None
    for found in iterates:
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise InputTypeError(f"Expected an iterator of pairs (step, params); got {type(found).__name__}.")
        step, variables = found
        try:
            number = operator.index(step)
        except TypeError:
            got = f"{type(step).__name__} first"
            raise InputTypeError(
                f"Expected an iterator of pairs (step, params), whole numbers first; got {got}."
            ) from None
        first = shapes(variables) if first is None else first
        if shapes(variables) != first:
            raise InputError(
                f"Expected params of the same shapes at all steps, {first}; got {shapes(variables)} at step {number}."
            )
        yield number, jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), variables)  # a step may give them away


def _walk(iterates: Iterator[tuple[int, Params]], first: tuple[int, Params]) -> Walk:
    """Somebody else's loop, whose first step has been taken; what a checkpoint has is compared, and passed over."""

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
            raise InputError(f"{OTHER_LOOP}ends at step {reached}, before step {seen[-1]} that is there. {CHOICE}")

    return walk


def _require_seen(step: int, variables: Params, seen: int, saved: Params | None) -> None:
    """Raise an `InputError` unless a loop of one's own comes by the step that a checkpoint has, with what it has."""
    if step != seen:
        raise InputError(f"{OTHER_LOOP}yields step {step} where step {seen} is there. {CHOICE}")
    if saved is not None and digest(jax.tree.map(jnp.asarray, variables)) != digest(jax.tree.map(jnp.asarray, saved)):
        raise InputError(f"{OTHER_LOOP}has other params at step {step}. {CHOICE}")

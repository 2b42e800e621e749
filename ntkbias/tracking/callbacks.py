"""Callbacks: functions that get each snapshot's measures during training, for a logger, a plot or a list.

>>> import jax, jax.numpy as jnp, ntkbias as nb, optax
>>> net, (x, _) = nb.nets.mlp(width=16, depth=1), nb.domains.Circle().quadrature(12)
>>> data, params = (x, jnp.sign(x[:, 0] + 0.1)), net.init(jax.random.key(0), (2,))
>>> log = []
>>> def keep(step, measures):  # or writer.add_scalar("loss", measures["loss"], step); wandb.log(measures, step=step)
...     log.append((step, measures["loss"]))
>>> history = nb.track(net.apply, params, data, optimizer=optax.sgd(0.1), num_steps=4, callbacks=keep)
>>> [step for step, _ in log] == history.steps.tolist(), log[-1][1] == float(history["loss"][-1])
(True, True)
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ntkbias.errors import InputTypeError
from ntkbias.tables import name_of

__all__ = ["Callback", "call_each", "checked_callbacks"]

Callback = Callable[[int, dict[str, Any]], Any]  # of a snapshot's step and its measures by name


def checked_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """The callbacks as a tuple; one function stands for a list of one.

    Raises `InputTypeError` unless each is a function that can be called with a step and a dictionary.
    """
    if callable(callbacks):
        callbacks = (callbacks,)
    if not isinstance(callbacks, Iterable) or isinstance(callbacks, str | Mapping):
        got = type(callbacks).__name__
        raise InputTypeError(f"Expected callbacks to be functions of (step, measures), or a list of them; got {got}.")
    found = tuple(callbacks)
    for callback in found:
        if not callable(callback):
            raise InputTypeError(f"Expected each callback to be a function; got {type(callback).__name__}.")
        try:
            inspect.signature(callback).bind(0, {})
        except TypeError as error:
            raise InputTypeError(
                f"Expected each callback to take (step, measures); {name_of(callback)} does not: {error}."
            ) from error
        except ValueError:  # some functions of C have no signature
            pass
    return found


def call_each(callbacks: Iterable[Callback], step: int, measures: Mapping[str, np.ndarray]) -> None:
    """Call each callback with its own copy of the measures. Its exceptions pass, with a note that names the step."""
    for callback in callbacks:
        own = {name: value.item() if value.ndim == 0 else np.array(value) for name, value in measures.items()}
        try:
            callback(int(step), own)
        except Exception as error:
            error.add_note(
                f"Raised by the callback {name_of(callback)} at step {step}, which ends training. With checkpoint=, "
                "the snapshots up to this step are saved, and the same call goes on after it."
            )
            raise

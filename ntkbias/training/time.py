"""The time of training: how far an optimizer's steps move a parameter, whatever the optimizer.

`time` is how far gradients that stay at one would have moved a parameter: step * learning rate for gradient descent,
the sum of the rates along a schedule, and step * rate / (1 - b), less a short beginning, with momentum b. Optimizers
whose step does not grow with the gradient, as Adam's, have no such time.

>>> import optax
>>> from ntkbias.training import effective_learning_rates
>>> [round(float(rate), 3) for rate in effective_learning_rates(optax.sgd(0.1, momentum=0.5), 4)]
[0.1, 0.15, 0.175, 0.188]
>>> effective_learning_rates(optax.adam(0.1), 4) is None
True
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import require_positive
from ntkbias.compilation import compiled

__all__ = ["effective_learning_rates", "trial_moves"]

PROBED = 1e-5  # the relative difference above which an optimizer's step does not grow with the gradient


def effective_learning_rates(optimizer: Any, num_steps: int) -> Float[np.ndarray, " steps"] | None:
    """How far each step moves a parameter whose gradient is one; None where steps do not grow with the gradient.

    For gradient descent the learning rate, or its schedule; with momentum b it tends to rate / (1 - b). Found by
    running the optimizer on one parameter, twice: with gradients of one, and of two.
    """
    require_positive("num_steps", num_steps)
    once, twice = (trial_moves(optimizer, num_steps, gradient) for gradient in (1.0, 2.0))
    if once is None or twice is None or not np.isfinite(once).all():
        return None
    proportional = np.abs(twice - 2 * once) <= PROBED * np.max(np.abs(once))
    return once if proportional.all() and np.any(once != 0) else None


def trial_moves(optimizer: Any, num_steps: int, gradient: float = 0.5) -> Float[np.ndarray, " steps"] | None:
    """How far each step moves one parameter from zero, down a gradient that stays; None for optimizers of many."""
    try:
        found = np.asarray(_moves(optimizer, num_steps, jnp.asarray(gradient)), np.float64)
    except Exception:  # one of named parameters, or of matrices, cannot be tried on a number
        return None
    return found if found.shape == (num_steps,) else None


@compiled
def _moves(optimizer: Any, num_steps: int, gradient: Array) -> Array:
    zero = jnp.zeros(())

    def step(state: Any, _: None) -> tuple[Any, Array]:
        update, state = optimizer.update(gradient, state, zero)
        return state, -update

    return jax.lax.scan(step, optimizer.init(zero), None, length=num_steps)[1]

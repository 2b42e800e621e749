"""The time of training, measured from the optimizer's steps.

`time` is the distance that a constant gradient of one would have moved a parameter. For gradient descent it is
step * learning rate; with a schedule, it is the sum of the learning rates. With momentum b, it approaches
step * rate / (1 - b) after a short start. Adam and other optimizers whose steps do not grow with the gradient have no
such time.

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

PROPORTIONAL = 1e-5  # the largest relative error with which a step counts as proportional to the gradient


def effective_learning_rates(optimizer: Any, num_steps: int) -> Float[np.ndarray, " steps"] | None:
    """The distance that each step moves a parameter whose gradient is one, `(num_steps,)`.

    For gradient descent it is the learning rate or its schedule. With momentum b, it tends to rate / (1 - b). To find
    it, the optimizer runs twice on a single parameter, with gradients of one and of two. The result is None if the
    steps are not proportional to the gradient.

    >>> import optax, ntkbias as nb
    >>> [round(float(rate), 2) for rate in nb.training.effective_learning_rates(optax.sgd(0.1), 3)]
    [0.1, 0.1, 0.1]
    """
    require_positive("num_steps", num_steps)
    once, twice = (trial_moves(optimizer, num_steps, gradient) for gradient in (1.0, 2.0))
    if once is None or twice is None or not np.isfinite(once).all():
        return None
    proportional = np.abs(twice - 2 * once) <= PROPORTIONAL * np.max(np.abs(once))
    return once if proportional.all() and np.any(once != 0) else None


def trial_moves(optimizer: Any, num_steps: int, gradient: float = 0.5) -> Float[np.ndarray, " steps"] | None:
    """The distance that each step moves a single parameter down a constant gradient, `(num_steps,)`.

    The result is None if the optimizer does not run on a single number.
    """
    try:
        found = np.asarray(_moves(optimizer, num_steps, jnp.asarray(gradient)), np.float64)
    except Exception:  # an optimizer that needs named parameters or matrices cannot run on one number
        return None
    return found if found.shape == (num_steps,) else None


@compiled
def _moves(optimizer: Any, num_steps: int, gradient: Array) -> Array:
    zero = jnp.zeros(())

    def step(state: Any, _: None) -> tuple[Any, Array]:
        update, state = optimizer.update(gradient, state, zero)
        return state, -update

    return jax.lax.scan(step, optimizer.init(zero), None, length=num_steps)[1]

"""The number of steps of gradient descent until a target is learned, under any quadratic loss.

>>> import numpy as np
>>> from ntkbias.learning import steps_to_learn
>>> steps_to_learn(np.diag([1.0, 0.1]), np.eye(2), 0.01, learning_rate=1.0, P=np.eye(2)).tolist()
[1.0, 44.0]
"""

from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from ntkbias.checks import require_known, require_scale
from ntkbias.errors import InputError
from ntkbias.kernels.on_inputs import on_inputs
from ntkbias.learning.flow import checked_step
from ntkbias.learning.modes import modes_of, values_on
from ntkbias.mistaken import require_no_labels
from ntkbias.types import Inputs

__all__ = ["steps_to_learn"]

DOUBLINGS = 53  # the largest number of steps is 2^53


@on_inputs
def steps_to_learn(
    kernel: Any,
    x: Inputs,
    targets: ArrayLike,
    tolerance: float,
    learning_rate: float,
    *,
    P: ArrayLike | None = None,
) -> Float[np.ndarray, "*t"]:
    """The fewest steps of full-batch gradient descent from zero after which each target's error is small.

    The error is sqrt((f - y)^T P (f - y)), as a share of its start; the loss and `P` are those of `gradient_descent`.
    `targets` are `(n,)`, or `(n, t)` for t targets that are learned one by one; for a kernel of all pairs of outputs
    they are `(n, o)` or `(n, o, t)`. The result is infinite for a target of which more than `tolerance` lies where the
    kernel is zero. It is exact for a constant kernel.

    Costs an eigendecomposition, 10 N^3 operations for N rows, and 53 sums over modes per target.

    Raises `InputError` as `gradient_descent` does, on a tolerance outside (0, 1), on a target of zeros, and on a
    learning rate at which the error of some mode does not shrink.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(64)
    >>> kernel, waves = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=1.0)), circle.harmonics(x, 3)[:, 1::2]
    >>> steps = nb.learning.steps_to_learn(kernel, x, waves, 0.1, learning_rate=1.0)
    >>> bool(steps[0] < steps[1] < steps[2])
    True
    """
    require_known((kernel, x, targets, P), "steps_to_learn")
    checked_step(learning_rate, 0.0)
    require_scale("tolerance", tolerance)
    if not 0 < tolerance < 1:
        raise InputError(f"Expected a tolerance above 0 and below 1; got {tolerance!r}.")
    modes = modes_of(kernel, x, None, None, P)
    values = values_on(targets, "targets", modes.shape)
    require_no_labels(targets)
    moved = learning_rate * modes.rates
    if np.any(moved >= 2):
        raise InputError(
            f"Expected a learning rate below the critical one, {2 / modes.rates.max():.4g}; got {learning_rate:.4g}."
        )
    columns = values.reshape(len(modes.synthesis), -1)
    weighted = modes.metric[:, None] * columns if modes.metric.ndim == 1 else modes.metric @ columns
    total = np.sum(columns * weighted, 0)
    if not np.all(total > 0):
        raise InputError("Expected targets that are not zero under the loss; got one of zeros. Leave it out.")
    with np.errstate(divide="ignore"):  # a mode that one step learns has the factor 0
        logs = np.where(moved < 1, np.log1p(-np.minimum(moved, 1.0)), np.log(np.maximum(moved - 1, 0.0)))
    power = (modes.analysis @ columns) ** 2
    beyond = np.maximum(total - power.sum(0), 0.0) * (total - power.sum(0) > 1e-9 * total)  # else it is rounding

    def learned(steps: np.ndarray) -> np.ndarray:
        exponents = np.where(steps > 0, steps * np.maximum(logs, -1e6)[:, None], 0.0)
        left = np.sum(np.exp(2 * exponents) * power, 0) + beyond
        return left <= tolerance**2 * total

    low, high = np.zeros(columns.shape[1]), np.full(columns.shape[1], 2.0**DOUBLINGS)
    never = ~learned(high)
    for _ in range(DOUBLINGS):
        middle = np.floor((low + high) / 2)
        done = learned(middle)
        low, high = np.where(done, low, middle), np.where(done, middle, high)
    return np.where(never, np.inf, high).reshape(values.shape[len(modes.shape) :])

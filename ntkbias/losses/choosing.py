"""Look up a loss by its name, and check that it accepts the targets.

>>> from ntkbias.losses import mse, named
>>> named("mse") is mse
True
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from ntkbias.checks import require_array, require_choice, require_finite, widened
from ntkbias.errors import InputError, InputTypeError
from ntkbias.losses.loss import Loss, LossFunction, are_alike
from ntkbias.losses.pointwise import NAMED

__all__ = ["checked_targets", "named"]

ROWS = 64  # of outputs and targets on which a loss is tried


def named(loss: str | LossFunction) -> LossFunction:
    """The loss of `NAMED` with this name. A `Loss` or a function `(outputs, targets) -> scalar` is returned unchanged.

    Raises `InputError` on an unknown name, and `InputTypeError` if `loss` is neither a name nor a function.

    >>> import ntkbias as nb
    >>> nb.losses.named("mse") is nb.losses.mse
    True
    """
    if isinstance(loss, str):
        require_choice("loss", loss, NAMED)
        return NAMED[loss]
    if not callable(loss):
        raise InputTypeError(
            f"Expected the name of a loss or a function (outputs, targets) -> scalar; got {type(loss).__name__}."
        )
    return loss


def checked_targets(loss: str | LossFunction, outputs: Any, targets: ArrayLike) -> Array:
    """The targets as an array in float32 or wider, after a check that `loss` accepts them with such outputs.

    `outputs` is an array or a result of `jax.eval_shape`: only its shape and dtype count. Raises `InputError` if the
    targets are not finite or have another number of rows, on whatever the loss refuses, and if the loss is not a
    scalar.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.losses.checked_targets("mse", jnp.zeros((2, 1)), [[1.0], [0.0]]).shape
    (2, 1)
    """
    function = named(loss)
    values = require_array(targets, "targets")
    require_finite(values, "targets")
    if values.shape[:1] != outputs.shape[:1]:
        raise InputError(
            f"Expected one row of targets for each of {outputs.shape[0] if outputs.shape else 0} inputs; got shape "
            f"{values.shape}."
        )
    blank = jnp.zeros(outputs.shape, outputs.dtype)
    value = function(blank, values) if isinstance(function, Loss) else jax.eval_shape(function, blank, values)
    if getattr(value, "shape", None) != ():
        raise InputError(
            f"Expected a loss that is one number; got shape {getattr(value, 'shape', None)}. Take the mean over inputs."
        )
    if not isinstance(function, Loss) and values.shape != outputs.shape and are_alike(outputs.shape, values.shape):
        _require_pairs(function, blank, values)
    return widened(values)


def _require_pairs(loss: LossFunction, outputs: Array, targets: Array) -> None:
    """Raise an `InputError` if a loss of the user broadcasts outputs `(n, 1)` and targets `(n,)` to all n^2 pairs.

    Such a loss depends on the targets, but does not change when they are permuted. It is tried on a few rows.
    """
    rows = np.linspace(0, len(targets) - 1, min(ROWS, len(targets))).astype(int)
    few, y = jnp.cos(jnp.arange(len(rows))) + 0.5, targets[rows]
    u = few.reshape(len(rows), *(1,) * (outputs.ndim - 1)).astype(outputs.dtype) + outputs[rows]
    try:
        tried = y, jnp.roll(y, 1, 0), jnp.broadcast_to(y[:1], y.shape)
        found, moved, other = (float(loss(u, each)) for each in tried)
    except Exception:  # a loss of the user, which may take no other number of rows
        return
    rounding = float(jnp.finfo(jnp.result_type(outputs.dtype, jnp.float32)).eps) ** 0.5 * abs(found)
    if abs(moved - found) <= rounding < abs(other - found):
        raise InputError(
            f"Expected a loss that compares each output with its own target; got one in which outputs {outputs.shape} "
            f"and targets {targets.shape} broadcast to all pairs. Give targets of the outputs' shape, or reshape "
            "one of them in the loss."
        )

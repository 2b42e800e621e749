"""Look up a loss by its name, and check that it accepts the targets.

>>> from ntkbias.losses import mse, named
>>> named("mse") is mse
True
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from ntkbias.checks import require_array, require_choice, require_finite, widened
from ntkbias.errors import InputError, InputTypeError
from ntkbias.losses.loss import Loss, LossFunction
from ntkbias.losses.pointwise import NAMED

__all__ = ["checked_targets", "named"]


def named(loss: str | LossFunction) -> LossFunction:
    """The loss of `NAMED` with this name. A `Loss` or a function `(outputs, targets) -> scalar` is returned unchanged.

    Raises `InputError` on an unknown name, and `InputTypeError` if `loss` is neither a name nor a function.
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
    return widened(values)

"""Losses: what training reduces, and how the loss itself prefers some frequencies to others.

A loss is a function of outputs and targets, both one row an input, to one number. The named ones are means over inputs:

    mse             1/2 mean over inputs of the sum over outputs of (u - y)^2
    logistic        mean of log(1 + exp(-y u)), y = -1 or +1
    cross_entropy   mean of -sum_c p_c log softmax(u)_c, p the labels as probabilities

>>> import jax.numpy as jnp
>>> from ntkbias.losses import cross_entropy, mse, named
>>> float(mse(jnp.zeros((4, 2)), jnp.ones((4, 2)))), named("mse") is mse
(1.0, True)
>>> float(cross_entropy(jnp.zeros((3, 10)), jnp.array([0, 4, 9])))    # log 10
2.3026
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.types import InputError, InputTypeError, require_array, require_choice, require_finite

__all__ = ["Loss", "checked_targets", "cross_entropy", "logistic", "mse", "named"]

Loss = Callable[[Array, Array], Array]


def mse(outputs: Float[Array, "n *o"], targets: Array) -> Float[Array, ""]:
    """1/2 the mean over inputs of the sum over outputs of squared errors; `targets` like `outputs`.

    `(n,)` and `(n, 1)` are the same. Raises `InputError` on targets of another shape.
    """
    return jnp.sum((outputs - _like(outputs, targets)) ** 2) / (2 * len(outputs))


def logistic(outputs: Float[Array, "n *one"], targets: Array) -> Float[Array, ""]:
    """The mean of log(1 + exp(-y u)) of one output u, `(n,)` or `(n, 1)`, and labels y of -1 and +1.

    Raises `InputError` on more than one output, and on targets of another shape or, where not traced, value.
    """
    if outputs.size != len(outputs):
        raise InputError(
            f"Expected one output an input, (n,) or (n, 1), for the logistic loss; got {outputs.shape}. "
            "Use 'cross_entropy' for several classes."
        )
    labels = _like(outputs, targets)
    if not _concrete(lambda: bool(jnp.all(jnp.abs(labels) == 1))):
        raise InputError(
            "Expected labels -1 and +1 for the logistic loss; got others. Turn labels b of 0, 1 to 2 b - 1."
        )
    return jnp.mean(jax.nn.softplus(-labels * outputs))


def cross_entropy(outputs: Float[Array, "n c"], targets: Array) -> Float[Array, ""]:
    """The mean of -sum_c p_c log softmax(outputs)_c; the softmax is over the classes c, the last axis.

    `targets` are whole-number labels `(n,)`, or probabilities `(n, c)`, one-hot or smoothed. Raises `InputError` on
    other shapes, and where not traced on labels outside 0 .. c - 1 and rows that do not sum to one.
    """
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise InputError(
            f"Expected an output a class, (n, classes), for the cross entropy; got {outputs.shape}. "
            "Use 'logistic' for one output."
        )
    return -jnp.sum(_probabilities(outputs, targets) * jax.nn.log_softmax(outputs, -1)) / len(outputs)


_NAMED: dict[str, Loss] = {"mse": mse, "logistic": logistic, "cross_entropy": cross_entropy}


def named(loss: str | Loss) -> Loss:
    """The loss of this name, "mse", "logistic" or "cross_entropy"; a function `(outputs, targets) -> scalar` as it is.

    Raises `InputError` on an unknown name, and `InputTypeError` on anything else.
    """
    if isinstance(loss, str):
        require_choice("loss", loss, _NAMED)
        return _NAMED[loss]
    if not callable(loss):
        raise InputTypeError(
            f"Expected the name of a loss or a function (outputs, targets) -> scalar; got {type(loss).__name__}."
        )
    return loss


def checked_targets(loss: str | Loss, outputs: Any, targets: ArrayLike) -> Array:
    """The targets as an array, once `loss` has taken them beside outputs of this shape; a step before training.

    `outputs` is an array, or what `jax.eval_shape` gives: only its shape and type count. Raises `InputError` on targets
    that are not finite, or of another number of rows, and what the loss refuses; and on a loss that is no scalar.
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
    value = function(blank, values) if function in _NAMED.values() else jax.eval_shape(function, blank, values)
    if getattr(value, "shape", None) != ():
        raise InputError(
            f"Expected a loss that is one number; got shape {getattr(value, 'shape', None)}. Take the mean over inputs."
        )
    return values


def _like(outputs: Array, targets: Array) -> Array:
    """The targets in the outputs' shape: they would broadcast to all pairs if `(n,)` met `(n, 1)`."""
    one = outputs.shape[:1] == targets.shape[:1] and outputs.size == targets.size == len(outputs)
    if targets.shape != outputs.shape and not one:
        raise InputError(f"Expected targets of the outputs' shape, {outputs.shape}; got {targets.shape}.")
    return jnp.reshape(targets, outputs.shape)


def _probabilities(outputs: Array, targets: Array) -> Array:
    n, num_classes = outputs.shape
    whole = jnp.issubdtype(targets.dtype, jnp.integer) or targets.dtype == bool
    if targets.shape == (n,) and whole:
        if not _concrete(lambda: bool(jnp.all((targets >= 0) & (targets < num_classes)))):
            got = f"{int(jnp.min(targets))} to {int(jnp.max(targets))}"
            raise InputError(f"Expected labels from 0 to {num_classes - 1}, one a class; got {got}.")
        return jax.nn.one_hot(targets, num_classes, dtype=outputs.dtype)
    if targets.shape != (n, num_classes):
        raise InputError(
            f"Expected whole-number labels ({n},), or probabilities ({n}, {num_classes}); got {targets.dtype} of shape "
            f"{targets.shape}."
        )
    # A row of float32 probabilities sums to one within rounding; labels that are no probabilities are off by far more.
    if not _concrete(lambda: bool(jnp.all(jnp.abs(jnp.sum(targets, 1) - 1) < 1e-3))):
        raise InputError("Expected probabilities that sum to one in each row; got others. Divide each row by its sum.")
    return targets.astype(outputs.dtype)


def _concrete(holds: Callable[[], bool]) -> bool:
    """Whether a statement about values holds; true where they are traced, and not known yet."""
    try:
        return holds()
    except jax.errors.ConcretizationTypeError:
        return True

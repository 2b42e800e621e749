"""The named losses: each is a mean over inputs.

    mse             1/2 mean over inputs of the sum over outputs of (u - y)^2
    logistic        mean of log(1 + exp(-y u)), y = -1 or +1
    hinge           mean of max(0, 1 - y u), y = -1 or +1
    cross_entropy   mean of -sum_c p_c log softmax(u)_c, p the labels as probabilities

Each acts on the last axis of the outputs. For outputs `(n, positions, o)`, the loss of one input is the sum over its
positions, so the gradient and the largest eigenvalue of the Hessian grow with their number. For the mean over
positions, divide by that number.

>>> import jax.numpy as jnp
>>> from ntkbias.losses import cross_entropy, mse
>>> float(mse(jnp.zeros((4, 2)), jnp.ones((4, 2))))
1.0
>>> float(cross_entropy(jnp.zeros((3, 10)), jnp.array([0, 4, 9])))    # log 10
2.3026
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.errors import InputError
from ntkbias.losses.loss import at_least_float32, holds_or_is_traced, targets_shaped_like, with_targets

__all__ = ["NAMED", "cross_entropy", "hinge", "logistic", "mse"]


@with_targets("values", lambda u, v: v)
def mse(outputs: Float[Array, "n *o"], targets: Array) -> Float[Array, ""]:
    """1/2 the mean over inputs of the sum over outputs and positions of squared errors.

    `targets` have the shape of `outputs`; `(n,)` and `(n, 1)` count as equal. Like all losses, it is computed in
    float32 or wider. Raises `InputError` on targets of another shape.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> float(nb.losses.mse(jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1))))  # (1 + 9) / 2 / 2
    2.5
    """
    return jnp.sum((at_least_float32(outputs) - targets_shaped_like(outputs, targets)) ** 2) / (2 * len(outputs))


@with_targets("signs", lambda u, v: jnp.sqrt(jax.nn.sigmoid(u) * jax.nn.sigmoid(-u)) * v)
def logistic(outputs: Float[Array, "n *one"], targets: Array) -> Float[Array, ""]:
    """The mean over inputs of log(1 + exp(-y u)), for one output u `(n,)` or `(n, 1)` and labels y of -1 and +1.

    For outputs `(n, *positions, 1)` and labels `(n, *positions)`, it sums over positions. Raises `InputError` on more
    than one output, on targets of another shape, and on labels other than -1 and +1 unless they are traced.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> round(float(nb.losses.logistic(jnp.zeros(2), jnp.array([1.0, -1.0]))), 3)  # log 2
    0.693
    """
    values = at_least_float32(outputs)
    return jnp.sum(jax.nn.softplus(-_signs("logistic", values, targets) * values)) / len(outputs)


@with_targets("signs")
def hinge(outputs: Float[Array, "n *one"], targets: Array) -> Float[Array, ""]:
    """The mean over inputs of max(0, 1 - y u), for one output u `(n,)` or `(n, 1)` and labels y of -1 and +1.

    The Hessian is zero except at y u = 1. Positions and errors: see `logistic`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> float(nb.losses.hinge(jnp.array([0.5, -2.0]), jnp.array([1.0, -1.0])))
    0.25
    """
    values = at_least_float32(outputs)
    return jnp.sum(jax.nn.relu(1 - _signs("hinge", values, targets) * values)) / len(outputs)


def _softmax_root(outputs: Array, vectors: Array) -> Array:
    """S^T v with S = diag(sqrt p) - p sqrt(p)^T and p = softmax(u). S S^T = diag(p) - p p^T, since |sqrt p| = 1."""
    p = jax.nn.softmax(outputs, -1)
    return jnp.sqrt(p) * (vectors - jnp.sum(p * vectors, -1, keepdims=True))


@with_targets("classes", _softmax_root)
def cross_entropy(outputs: Float[Array, "n *positions c"], targets: Array) -> Float[Array, ""]:
    """The mean over inputs of -sum_c p_c log softmax(outputs)_c, summed over positions if there are any.

    The softmax runs over the last axis, the c classes. `targets` are whole-number labels `(n, *positions)`, or
    probabilities of the outputs' shape, one-hot or smoothed. Raises `InputError` on other shapes, on labels outside
    0 .. c - 1, and on probabilities that do not sum to one. Traced values are not checked.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> round(float(nb.losses.cross_entropy(jnp.zeros((4, 2)), jnp.array([0, 1, 1, 0]))), 3)  # log 2
    0.693
    """
    if outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise InputError(
            f"Expected one output per class, (n, classes) or (n, positions, classes), for the cross entropy; got "
            f"{outputs.shape}. Use 'logistic' for one output."
        )
    values = at_least_float32(outputs)
    return -jnp.sum(_probabilities(values, targets) * jax.nn.log_softmax(values, -1)) / len(outputs)


NAMED = {loss.name: loss for loss in (mse, logistic, hinge, cross_entropy)}


def _signs(name: str, outputs: Array, targets: Array) -> Array:
    """The labels -1 and +1 in the shape of the outputs. Raises `InputError` on several outputs or other labels."""
    if outputs.ndim > 1 and outputs.shape[-1] != 1:
        raise InputError(
            f"Expected one output per input, (n,) or (n, 1), or per position, (n, positions, 1), for the {name} loss; "
            f"got {outputs.shape}. Use 'cross_entropy' for several classes."
        )
    labels = targets_shaped_like(outputs, targets)
    if not holds_or_is_traced(lambda: bool(jnp.all(jnp.abs(labels) == 1))):
        raise InputError(
            f"Expected labels -1 and +1 for the {name} loss; got others. Turn labels b of 0, 1 to 2 b - 1."
        )
    return labels


def _probabilities(outputs: Array, targets: Array) -> Array:
    *positions, num_classes = outputs.shape
    is_integer = jnp.issubdtype(targets.dtype, jnp.integer) or targets.dtype == bool
    if targets.shape == (*positions,) and is_integer:
        if not holds_or_is_traced(lambda: bool(jnp.all((targets >= 0) & (targets < num_classes)))):
            got = f"{int(jnp.min(targets))} to {int(jnp.max(targets))}"
            raise InputError(f"Expected labels from 0 to {num_classes - 1}, one per class; got {got}.")
        return jax.nn.one_hot(targets, num_classes, dtype=outputs.dtype)
    if targets.shape != outputs.shape:
        raise InputError(
            f"Expected whole-number labels {(*positions,)}, or probabilities {outputs.shape}; got {targets.dtype} of "
            f"shape {targets.shape}."
        )
    # Rounding changes the sum of a row by at most the eps of its dtype. Rows that are not probabilities differ by more.
    rounding = max(1e-3, float(jnp.finfo(jnp.result_type(targets.dtype, jnp.bfloat16)).eps))
    values = targets.astype(outputs.dtype)
    if not holds_or_is_traced(lambda: bool(jnp.all(jnp.abs(jnp.sum(values, -1) - 1) < rounding))):
        raise InputError("Expected probabilities that sum to one in each row; got others. Divide each row by its sum.")
    return values

"""How well outputs fit labels.

>>> import numpy as np
>>> from ntkbias.training import accuracy
>>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
0.5
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from ntkbias.checks import require_known
from ntkbias.errors import InputError

__all__ = ["Classes", "accuracy", "classes_of", "share_right"]

ROUNDING = 2.0**-7  # of probabilities in bfloat16, which the cross entropy accepts


class Classes(NamedTuple):
    """The outputs and the right class of each input or position."""

    scores: Float[np.ndarray, "rows o"]
    right: np.ndarray  # (rows,): the index of the class, or -1 and 1 for one output


def accuracy(outputs: ArrayLike, y: ArrayLike) -> float:
    """The share of examples, or of their positions, whose class is right.

    `outputs` are `(n,)`, `(n, o)` or `(n, positions, o)`. `y` are labels from 0 to o - 1, probabilities of the shape of
    the outputs, or, for one output, signs -1 and 1. The class is the largest output, or the sign of a single one.

    Raises `InputError` on targets that are no classes, such as real values.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.training.accuracy(jnp.array([0.2, -0.1, 3.0]), jnp.array([1.0, 1.0, 1.0])).__round__(3)
    0.667
    """
    require_known((outputs, y), "accuracy")
    values = np.asarray(outputs, float)
    found = classes_of(values, values.shape[1:], y)
    if found is None:
        raise InputError(
            f"Expected labels from 0 to o - 1, probabilities, or signs -1 and 1 for outputs of shape {values.shape}; "
            f"got targets of shape {np.shape(y)} that are none of these."
        )
    return share_right(found)


def share_right(found: Classes) -> float:
    """The share of rows with the right class."""
    scores, right = found
    return float(np.mean((np.sign(scores[:, 0]) if scores.shape[1] == 1 else scores.argmax(1)) == right))


def classes_of(outputs: np.ndarray, shape: tuple[int, ...], y: object) -> Classes | None:
    """The outputs, of this shape each, and right classes for targets in any form that losses accept.

    None if the targets are not classes.
    """
    values = np.asarray(y)
    *positions, count = shape or (1,)
    scores = outputs.reshape(-1, count)
    if count == 1:
        signs = values.size == len(scores) and np.all(np.abs(values) == 1)
        return Classes(scores, values.reshape(-1)) if signs else None
    if values.shape == (len(outputs), *positions):
        return Classes(scores, values.reshape(-1)) if values.dtype.kind in "iub" else None
    if values.shape != (len(outputs), *positions, count):
        return None
    shares = values.reshape(-1, count)
    classes = np.all(shares >= 0) and np.allclose(shares.sum(1), 1, atol=ROUNDING)
    return Classes(scores, shares.argmax(1)) if classes else None

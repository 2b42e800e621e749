"""Labels with a known frequency: a wave over the inputs, and labels smoothed by it.

Such labels show which frequencies a network has fitted (Fridovich-Keil, Gontijo-Lopes and Roelofs 2021,
arXiv 2110.02424). A wave w(x) between 0 and 2 turns the one-hot labels y of C classes into

    (1 - a w(x)) y + a w(x) / C

A network that has fitted the wave is less confident where w is large: its confidence follows -w. A network that has not
fitted it has the same mean confidence everywhere.

>>> import jax.numpy as jnp
>>> from ntkbias.frequency import radial_wave, smoothed_labels
>>> x = jnp.array([[3.0, 4.0], [0.0, 5.25]])
>>> radial_wave(x, frequency=1.0).round(3).tolist()                    # 1 + sin(2 pi |x|)
[1.0, 2.0]
>>> smoothed_labels(jnp.array([0, 1]), radial_wave(x, 1.0), amount=0.3, num_classes=2).round(3).tolist()
[[0.85, 0.15], [0.3, 0.7]]
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import require_finite, require_positive, require_scale, require_wide
from ntkbias.errors import InputError, InputTypeError

__all__ = ["directional_wave", "radial_wave", "smoothed_labels", "wave_correlation"]


def radial_wave(x: ArrayLike, frequency: float, phase: float = 0.0) -> Float[Array, " n"]:
    """The wave w(x) = 1 + sin(2 pi frequency (|x| - phase)), between 0 and 2, for flattened inputs `(n, ...)`.

    `frequency` is in cycles per unit of distance; `phase` is a distance.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.frequency.radial_wave(jnp.array([[3.0, 4.0]]), frequency=0.05).round(3).tolist()  # 1 + sin(2 pi 0.05 * 5)
    [2.0]
    """
    flat = _flat(x)
    return _wave(jnp.linalg.norm(flat, axis=1) - phase, frequency)


def directional_wave(x: ArrayLike, frequency: float, direction: ArrayLike, phase: float = 0.0) -> Float[Array, " n"]:
    """The wave w(x) = 1 + sin(2 pi frequency (<x, v> - phase)), between 0 and 2, for flattened inputs `(n, ...)`.

    `direction` has the shape of an input, and v is `direction` scaled to length one. Units are those of `radial_wave`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.frequency.directional_wave(jnp.array([[0.25, 9.0]]), 1.0, jnp.array([1.0, 0.0])).round(3).tolist()
    [2.0]
    """
    flat = _flat(x)
    vector = require_wide(direction, "direction")
    require_finite(vector, "direction")
    if vector.size != flat.shape[1] or not bool(jnp.any(vector != 0)):
        raise InputError(
            f"Expected a direction of {flat.shape[1]} numbers, like an input, not all zero; got shape {vector.shape}."
        )
    unit = vector.ravel() / jnp.linalg.norm(vector.ravel())
    return _wave(jnp.matmul(flat, unit, precision="highest") - phase, frequency)


def smoothed_labels(labels: ArrayLike, wave: ArrayLike, amount: float, num_classes: int) -> Float[Array, "n c"]:
    """(1 - a w) y + a w / C: one-hot `labels` `(n,)` of C classes, smoothed more where the wave w `(n,)` is large.

    `amount` a is at most 1/2, so that no entry is negative. Rows sum to one, so the result serves as targets for the
    cross entropy as well as for the squared error. Raises `InputError` on labels out of range, and if the wave leaves
    0 .. 2.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.frequency.smoothed_labels(jnp.array([0, 1]), jnp.array([0.0, 2.0]), amount=0.5, num_classes=2).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    require_positive("num_classes", num_classes)
    classes, waves = require_wide(labels, "labels"), require_wide(wave, "wave")
    if not jnp.issubdtype(classes.dtype, jnp.integer) or classes.ndim != 1:
        raise InputTypeError(f"Expected whole-number labels (n,); got {classes.dtype} of shape {classes.shape}.")
    if len(classes) and not bool(jnp.all((classes >= 0) & (classes < num_classes))):
        raise InputError(
            f"Expected labels from 0 to {num_classes - 1}; got {int(classes.min())} to {int(classes.max())}."
        )
    if waves.shape != classes.shape or not bool(jnp.all((waves >= 0) & (waves <= 2))):
        raise InputError(
            f"Expected a wave between 0 and 2, one value for each of {len(classes)} labels; got shape {waves.shape}. "
            "Use radial_wave(x, frequency)."
        )
    if not 0 <= amount <= 0.5:
        raise InputError(f"Expected an amount from 0 to 0.5, so that no label is negative; got {amount!r}.")
    noise = (amount * waves)[:, None]
    return (1 - noise) * jax.nn.one_hot(classes, num_classes, dtype=noise.dtype) + noise / num_classes


def wave_correlation(outputs: ArrayLike, labels: ArrayLike, wave: ArrayLike) -> float:
    """The correlation over inputs of -w with the confidence, the softmax of `outputs` `(n, c)` at the right class.

    It is 1 if a classifier's confidence follows the labels that `smoothed_labels` made with the wave w `(n,)`, and
    about 0 +- 1 / sqrt(n) if it has not fitted the wave. `labels` `(n,)` are the classes before smoothing. It is NaN if
    the confidence, or the wave, is the same everywhere.

    Raises `InputError` on labels out of range, and if shapes do not fit.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> outputs, wave = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]]), jnp.array([0.0, 1.0, 2.0])
    >>> round(nb.frequency.wave_correlation(outputs, jnp.array([0, 0, 0]), wave), 2)
    0.99
    """
    scores, classes, waves = (
        require_wide(part, name) for part, name in ((outputs, "outputs"), (labels, "labels"), (wave, "wave"))
    )
    if scores.ndim != 2 or classes.shape != scores.shape[:1] or waves.shape != scores.shape[:1]:
        raise InputError(
            "Expected outputs (n, c), labels (n,) and a wave (n,); got shapes "
            f"{scores.shape}, {classes.shape} and {waves.shape}."
        )
    for part, name in ((scores, "outputs"), (waves, "wave")):
        require_finite(part, name)
    if not jnp.issubdtype(classes.dtype, jnp.integer):
        raise InputTypeError(f"Expected whole-number labels (n,); got {classes.dtype}.")
    own = np.asarray(classes)
    if own.size and not (own.min() >= 0 and own.max() < scores.shape[1]):
        raise InputError(f"Expected labels from 0 to {scores.shape[1] - 1}; got {own.min()} to {own.max()}.")
    confidence = np.asarray(jax.nn.softmax(scores), float)[np.arange(len(own)), own]
    first, second = (each - each.mean() for each in (confidence, -np.asarray(waves, float)))
    size = float(np.sqrt(np.sum(first**2) * np.sum(second**2)))
    return float(np.sum(first * second)) / size if size > 0 else float("nan")


def _flat(x: ArrayLike) -> Float[Array, "n d"]:
    points = require_wide(x, "x")
    if points.ndim < 2 or len(points) == 0:
        raise InputError(f"Expected inputs (n, ...), one row each; got shape {points.shape}.")
    require_finite(points, "x")
    return points.reshape(len(points), -1).astype(jnp.result_type(points.dtype, np.float32))


def _wave(position: Float[Array, " n"], frequency: float) -> Float[Array, " n"]:
    require_scale("frequency", frequency)
    return 1 + jnp.sin(2 * jnp.pi * frequency * position)

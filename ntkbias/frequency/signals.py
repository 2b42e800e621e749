"""The power spectrum of a signal along a line, such as a network's outputs or gradients along a path of inputs.

White noise has a flat spectrum. A random walk, brown noise, has the power f^-2.

>>> import numpy as np
>>> from ntkbias.frequency import power_spectrum
>>> wave = np.cos(2 * np.pi * 8 * np.arange(64) / 64)
>>> frequencies, power = power_spectrum(wave, spacing=1 / 64)
>>> float(frequencies[power.argmax()]), round(float(power.max()), 3)
(8.0, 1.0)
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from ntkbias.checks import require_finite, require_wide
from ntkbias.errors import InputError

__all__ = ["PowerSpectrum", "power_spectrum"]


class PowerSpectrum(NamedTuple):
    """`frequencies` `(m,)` in cycles per unit of length, and the `power` `(..., m)` at each.

    >>> import numpy as np, ntkbias as nb
    >>> nb.frequency.power_spectrum(np.arange(8.0)).frequencies.tolist()
    [0.0, 0.125, 0.25, 0.375, 0.5]
    """

    frequencies: Float[np.ndarray, " m"]
    power: Float[np.ndarray, "... m"]


def power_spectrum(signal: ArrayLike, spacing: float = 1.0) -> PowerSpectrum:
    """The power of equally spaced samples `(..., n)` at the frequencies 0, 1, ... n // 2 over n `spacing`.

    A signal along a line is not periodic, and the jump from its end to its start would add a tail of f^-2. So its mean
    is removed, and a Hann window fades out both ends, which spreads each frequency over its two neighbors. A wave of
    amplitude one has the power one at its own frequency.

    Raises `InputError` on fewer than four samples, and on numbers that are not finite.

    >>> import numpy as np, ntkbias as nb
    >>> nb.frequency.power_spectrum(np.random.default_rng(0).normal(size=(3, 64))).power.shape
    (3, 33)
    """
    given = require_wide(signal, "signal")
    if given.ndim < 1 or given.shape[-1] < 4:
        raise InputError(f"Expected a signal (..., n) of four samples or more; got shape {given.shape}.")
    require_finite(given, "signal")
    if not 0 < spacing < np.inf:
        raise InputError(f"Expected a spacing above zero; got {spacing!r}.")
    values = np.asarray(given, float)
    count = values.shape[-1]
    window = np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 2
    window /= window.sum()
    values = values - np.sum(window * values, -1, keepdims=True)
    power = 4 * np.abs(np.fft.rfft(window * values)) ** 2
    return PowerSpectrum(np.fft.rfftfreq(count, spacing), power)

"""Signals along a line, such as a network's outputs or their derivative along a path of inputs.

White noise has a flat power spectrum, and no autocorrelation. A random walk, brown noise, has the power f^-2.
`derivative_along` makes such a signal: the gradient of a network along a curve (Balduzzi et al. 2017,
arXiv 1702.08591).

>>> import numpy as np
>>> from ntkbias.frequency import power_spectrum
>>> wave = np.cos(2 * np.pi * 8 * np.arange(64) / 64)
>>> frequencies, power = power_spectrum(wave, spacing=1 / 64)
>>> float(frequencies[power.argmax()]), round(float(power.max()), 3)
(8.0, 1.0)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import require_finite, require_host, require_wide
from ntkbias.errors import InputError, InputTypeError
from ntkbias.types import ApplyFunction, Params

__all__ = ["PowerSpectrum", "autocorrelation", "derivative_along", "power_spectrum"]


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


def autocorrelation(signals: ArrayLike, lag: int, *, periodic: bool = False) -> Float[np.ndarray, "..."]:
    """The mean of s(t) s(t + lag) over that of s(t)^2, from equally spaced samples `(..., k, n)` or `(n,)`.

    The k signals are draws of one process, such as the channels of a layer: both means are over them and over t. Their
    mean is not subtracted: gradients have none. `lag` counts samples. A `periodic` signal goes on from its end to its
    start. The result, `(...)`, is 1 at lag 0; it lies between -1 and 1 if the signals are periodic.

    Raises `InputError` unless 0 <= lag < n, and on signals that are not finite, or zero everywhere.

    >>> import numpy as np, ntkbias as nb
    >>> wave = np.cos(2 * np.pi * np.arange(64) / 64)
    >>> [round(float(nb.frequency.autocorrelation(wave, lag, periodic=True)), 3) + 0.0 for lag in (0, 16, 32)]
    [1.0, 0.0, -1.0]
    """
    given = require_host(signals, "signals")
    if given.ndim < 1 or not given.size:
        raise InputError(f"Expected signals (n,) or (..., k, n); got shape {given.shape}.")
    require_finite(given, "signals")
    count = given.shape[-1]
    if isinstance(lag, bool) or not isinstance(lag, int | np.integer) or not 0 <= lag < count:
        raise InputError(f"Expected lag to be a whole number of samples from 0 to below {count}; got {lag!r}.")
    values = np.atleast_2d(np.asarray(given, float))
    shifted = np.roll(values, -lag, -1)
    end = count if periodic else count - lag
    power = np.mean(values**2, (-2, -1))
    if not np.all(power > 0):
        raise InputError("Expected signals that are not zero everywhere; got one of zeros. Leave it out.")
    return np.asarray(np.mean(values[..., :end] * shifted[..., :end], (-2, -1)) / power)


def derivative_along(
    f: ApplyFunction, params: Params, curve: Callable[[Array], Array], positions: ArrayLike
) -> Float[Array, "n ..."]:
    """The derivative of f(params, curve(s)) in s, at the positions s `(n,)`: the gradient in x along the curve.

    `curve` maps positions `(n,)` to inputs `(n, ...)`, as `domains.Circle().point` does, each on its own. The result
    has the shape of f's outputs, `(n, ...)`. It is a derivative by autodiff: that of a ReLU network is piecewise
    constant, and misses its jumps at kinks. Costs one forward pass with tangents. It may be called inside `jax.jit`.

    Raises `InputError` unless positions are `(n,)`, and `InputTypeError` if `curve` is not a function.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> circle, s = nb.domains.Circle(), jnp.array([0.0, jnp.pi / 2])
    >>> nb.frequency.derivative_along(lambda w, x: x @ w, jnp.array([0.0, 3.0]), circle.point, s).round(3).tolist()
    [3.0, -0.0]
    """
    s = require_wide(positions, "positions")
    if s.ndim != 1 or not s.size or not jnp.issubdtype(s.dtype, jnp.floating):
        raise InputError(f"Expected positions (n,) as real numbers; got {s.dtype} of shape {s.shape}.")
    if not callable(curve):
        raise InputTypeError(f"Expected curve to be a function of positions (n,); got {type(curve).__name__}.")
    return jax.jvp(lambda s: f(params, curve(s)), (s,), (jnp.ones_like(s),))[1]

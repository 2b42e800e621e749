"""Gegenbauer polynomials, and the harmonics of a sphere as products of them.

For the sphere S^{d - 1}, P_k is C_k^{(d - 2) / 2} scaled to P_k(1) = 1. `solid_harmonics` gives an orthonormal basis of
harmonic polynomials. Each is a cosine or sine of the azimuth, times one Gegenbauer polynomial for every coordinate from
the third on.

>>> import numpy as np
>>> from ntkbias.domains.gegenbauer import gegenbauer
>>> [float(value) for value in gegenbauer(np.array(0.5), 3, 2)]          # Legendre's polynomials
[1.0, 0.5, -0.125]
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int

__all__ = ["gegenbauer", "solid_harmonics"]


def gegenbauer(cosine: Any, dimension: int, max_degree: int) -> list[Any]:
    """P_0 .. P_max_degree at these cosines, as arrays of the same library (JAX or NumPy).

    The recurrence is (k + d - 2) P_{k+1} = (2 k + d - 2) t P_k - k P_{k-1}.
    """
    values = [cosine**0, cosine]
    for k in range(1, max_degree):
        values.append(((2 * k + dimension - 2) * cosine * values[k] - k * values[k - 1]) / (k + dimension - 2))
    return values[: max_degree + 1]


@functools.lru_cache(maxsize=64)
def _chains(dimension: int, max_degree: int) -> Int[np.ndarray, "h j"]:
    """The degrees (l_2, ..., l_d) of each harmonic, with l_d ascending. A negative l_2 means a sine."""
    chains = np.arange(max_degree + 1)[:, None]
    for _ in range(dimension - 2):
        row, below = np.nonzero(np.arange(max_degree + 1) <= chains[:, :1])
        chains = np.concatenate([below[:, None], chains[row]], 1)
    twice = np.repeat(chains, np.where(chains[:, 0] > 0, 2, 1), 0)
    sine = np.concatenate([[False], np.all(twice[1:] == twice[:-1], 1)])
    twice[sine, 0] *= -1
    twice.setflags(write=False)  # the cache shares it between callers
    return twice


def solid_harmonics(x: Float[Array, "n d"], dimension: int, max_degree: int) -> Float[Array, "n h"]:
    """The harmonics up to `max_degree` at unit vectors, evaluated as homogeneous polynomials in x."""
    chains = _chains(dimension, max_degree)
    waves = [jnp.ones_like(x[:, 0]), jnp.zeros_like(x[:, 0])]  # cos and sin of m angle, times r_2^m
    for _ in range(max_degree):
        cos, sin = waves[-2:]
        waves += [cos * x[:, 0] - sin * x[:, 1], cos * x[:, 1] + sin * x[:, 0]]
    order = np.abs(chains[:, 0])
    values = jnp.stack(waves, 1)[:, 2 * order + (chains[:, 0] < 0)] * np.where(order > 0, 2**0.5, 1.0)
    square = x[:, 0] ** 2 + x[:, 1] ** 2
    for column in range(1, chains.shape[1]):
        coordinate = x[:, column + 1]
        square = square + coordinate**2
        table = _normalized_gegenbauer(coordinate, square, column + 2, max_degree)
        lower = np.abs(chains[:, column - 1])
        values = values * table[:, chains[:, column] - lower, lower]
    return values


def _normalized_gegenbauer(
    coordinate: Float[Array, " n"], square: Float[Array, " n"], dimension: int, max_degree: int
) -> Float[Array, "n q l"]:
    """r^q C_q^{(l + dimension / 2 - 1)}(coordinate / r) for q, l <= max_degree, with r^2 = square.

    C is scaled so that (1 - t^2)^{l / 2} C_q(t) has mean square one under the density (1 - t^2)^{(dimension - 3) / 2}.
    The orthonormal recurrence neither overflows nor divides by r.
    """
    lower = np.arange(max_degree + 1)
    parameter = lower + dimension / 2 - 1
    mass = scipy.special.gammaln(parameter + 0.5) - scipy.special.gammaln(parameter + 1)  # log h_0, up to a constant
    start = jnp.asarray(np.exp((mass[0] - mass) / 2), coordinate.dtype)
    values = [jnp.broadcast_to(start, (len(coordinate), len(lower)))]
    previous, ratio = jnp.zeros_like(values[0]), jnp.zeros_like(start)
    for q in range(1, max_degree + 1):
        following = np.sqrt(q * (q + 2 * parameter - 1) / (4 * (q + parameter) * (q + parameter - 1)))
        scaled = coordinate[:, None] * values[-1] - ratio * square[:, None] * previous
        previous, ratio = values[-1], jnp.asarray(following, coordinate.dtype)
        values.append(scaled / ratio)
    return jnp.stack(values, 1)

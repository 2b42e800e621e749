r"""Functions made of the error function, with duals in closed form.

erf     E = (2 / pi) arcsin(2 c / sqrt((1 + 2 a)(1 + 2 b)))   E' = (4 / pi) / sqrt((1 + 2 a)(1 + 2 b) - 4 c^2)
(Williams 1997)
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.layers.activations.contract import Activation, require_numbers
from ntkbias.layers.arc_cosine import smoothed_angle
from ntkbias.types import Params

__all__ = ["Erf", "Gelu"]


class Erf(Activation):
    """a erf(b x) + c. Here erf(x) is 2 / sqrt(pi) times the integral of exp(-s^2) from 0 to x.

    neural-tangents' Sigmoid_like is Erf(0.5, 1 / 2.4020563531719796, 0.5).

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Erf
    >>> Erf().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-0.843, 0.52]]
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    critical_variance = 0.0

    def __check_init__(self):
        require_numbers(self)

    @property
    def gain(self) -> Any:
        return math.sqrt(math.pi) / 2 / abs(self.a * self.b)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.a * jax.scipy.special.erf(self.b * x) + self.c

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        scale = 2 * self.b**2
        noise1, noise2 = (1 / jnp.sqrt(1 + scale * v) for v in (variance1, variance2))
        _, sine, turns = smoothed_angle(scale * covariance, scale * variance1, scale * variance2)
        return 4 * self.a**2 * turns + self.c**2, (2 / math.pi * self.a**2 * scale) * (noise1 * noise2) / sine


class Gelu(Activation):
    """x Phi(x), where Phi is the standard normal distribution function (Hendrycks and Gimpel 2016).

    The formula of the dual is from Tsuchida et al. 2020 (arXiv 2002.08517).

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Gelu
    >>> Gelu().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-0.159, 0.346]]
    """

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.gelu(x, approximate=False)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        noise1, noise2 = 1 / (1 + variance1), 1 / (1 + variance2)
        signal1, signal2 = variance1 * jnp.sqrt(noise1), variance2 * jnp.sqrt(noise2)
        cosine, sine, turns = smoothed_angle(covariance, variance1, variance2)
        noise = jnp.sqrt(noise1) * jnp.sqrt(noise2) / sine
        nngp = covariance * (0.25 + turns) + (cosine**2 * noise + signal1 * signal2 * sine) / (2 * math.pi)
        return nngp, 0.25 + turns + cosine / sine * (noise**2 + noise1 + noise2) / (2 * math.pi)

r"""Sines, cosines, Gaussians and exponentials, with the duals below.

sin, cos   E = exp(-(a + b) / 2) sinh c, ... cosh c           E' the other one           (Rahimi and Recht 2007)
sin + cos  E = exp(c - (a + b) / 2)                           E' = E
exp        E = exp(c + (a + b) / 2)                           E' = E                     (Mairal et al. 2014)
exp(-x^2)  E = 1 / sqrt((1 + 2 a)(1 + 2 b) - 4 c^2)           E' = 4 c E^3
"""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.checks import require_scale
from ntkbias.layers.activations.contract import Activation, require_numbers
from ntkbias.layers.arc_cosine import smoothed_angle
from ntkbias.types import Params

__all__ = ["Cos", "Exp", "Gaussian", "Rbf", "Sin", "SinPlusCos"]


class Sin(Activation):
    """a sin(b x + c). Its `gain` is that of vanishing variance, 1 / |a b cos c|.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Sin
    >>> Sin().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-0.841, 0.479]]
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    critical_variance = 0.0

    def __check_init__(self):
        require_numbers(self)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.a * jnp.sin(self.b * x + self.c)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        odd, even = _waves(self.b, covariance, variance1, variance2)
        sine, cosine = (self.a * jnp.sin(self.c)) ** 2, (self.a * jnp.cos(self.c)) ** 2
        return cosine * odd + sine * even, self.b**2 * (cosine * even + sine * odd)


class Cos(Activation):
    """a cos(b x + c). With c = 0 it is even, so it tends to a constant as the variance vanishes.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Cos
    >>> Cos().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[0.54, 0.878]]
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __check_init__(self):
        require_numbers(self)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.a * jnp.cos(self.b * x + self.c)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        odd, even = _waves(self.b, covariance, variance1, variance2)
        sine, cosine = (self.a * jnp.sin(self.c)) ** 2, (self.a * jnp.cos(self.c)) ** 2
        return cosine * even + sine * odd, self.b**2 * (cosine * odd + sine * even)


class SinPlusCos(Activation):
    """a (sin(b x) + cos(b x)), whose dual is a^2 exp(b^2 (c - (variance1 + variance2) / 2)).

    At variance one the dual is exp(t - 1) for correlation t; all of its Taylor coefficients are positive.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import SinPlusCos
    >>> SinPlusCos().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-0.301, 1.357]]
    """

    a: float = 1.0
    b: float = 1.0

    def __check_init__(self):
        require_numbers(self)

    @property
    def gain(self) -> Any:
        return 1 / abs(self.a * self.b)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.a * (jnp.sin(self.b * x) + jnp.cos(self.b * x))

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        distance = (variance1 - covariance) + (variance2 - covariance)  # exact for nearby inputs
        nngp = self.a**2 * jnp.exp(-0.5 * self.b**2 * distance)
        return nngp, self.b**2 * nngp


class Rbf(Activation):
    """sqrt(2) sin(sqrt(2 gamma) x + pi / 4), whose dual is the Gaussian kernel exp(-gamma E[(u - v)^2]).

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Rbf
    >>> Rbf(0.5).apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-0.301, 1.357]]
    """

    gamma: float = 1.0

    def __check_init__(self):
        require_numbers(self)
        require_scale("gamma of Rbf", self.gamma)

    @property
    def gain(self) -> Any:
        return (2 * self.gamma) ** -0.5

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return math.sqrt(2.0) * jnp.sin((2 * self.gamma) ** 0.5 * x + math.pi / 4)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        nngp = jnp.exp(-self.gamma * ((variance1 - covariance) + (variance2 - covariance)))
        return nngp, 2 * self.gamma * nngp


class Gaussian(Activation):
    """a exp(b x^2), with b at most zero.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Gaussian
    >>> Gaussian().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[0.368, 0.779]]
    """

    a: float = 1.0
    b: float = -1.0

    def __check_init__(self):
        require_numbers(self)
        require_scale("-b of Gaussian", -self.b)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.a * jnp.exp(self.b * x**2)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        scale = -2 * self.b
        noise1, noise2 = (1 / jnp.sqrt(1 + scale * v) for v in (variance1, variance2))
        cosine, sine, _ = smoothed_angle(scale * covariance, scale * variance1, scale * variance2)
        root = noise1 * noise2 / sine
        return self.a**2 * root, scale * self.a**2 * (cosine / sine) * root**2


class Exp(Activation):
    """a exp(b x). In float32 the dual overflows where b^2 times the variance exceeds 44.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Exp
    >>> Exp().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[0.368, 1.649]]
    """

    a: float = 1.0
    b: float = 1.0

    def __check_init__(self):
        require_numbers(self)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.a * jnp.exp(self.b * x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        nngp = self.a**2 * jnp.exp(self.b**2 * (covariance + 0.5 * (variance1 + variance2)))
        return nngp, self.b**2 * nngp


def _waves(scale: float | Array, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
    """E[sin(b u) sin(b v)] and E[cos(b u) cos(b v)] for b = scale. Neither overflows; small values keep all digits."""
    sign = jnp.where(covariance > 0, -1.0, 1.0)  # flip one input, so that the covariance is -|c|
    opposite = sign * covariance
    nearer = jnp.exp(-0.5 * scale**2 * ((variance1 + opposite) + (variance2 + opposite)))
    rest = jnp.expm1(2 * scale**2 * opposite)
    return 0.5 * sign * nearer * rest, 0.5 * nearer * (2 + rest)

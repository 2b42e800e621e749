r"""Piecewise linear functions, their powers, and steps: arc-cosine kernels (Cho and Saul 2009).

Let t be the angle between u and v, with cos t = c / sqrt(a b). Then

    relu    E = sqrt(a b) (sin t + (pi - t) cos t) / (2 pi)       E' = (pi - t) / (2 pi)
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.checks import require_positive
from ntkbias.layers.activations.contract import Activation, require_numbers
from ntkbias.layers.arc_cosine import arc_cosine
from ntkbias.layers.orthant import linear_spline_dual
from ntkbias.types import Params

__all__ = ["ABRelu", "Abs", "Hat", "LeakyRelu", "RectifiedMonomial", "Relu", "Sign", "Step"]


class Relu(Activation):
    """max(x, 0).

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Relu
    >>> Relu().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[0.0, 0.5]]
    """

    gain = math.sqrt(2.0)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.relu(x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        moments = covariance, variance1, variance2
        return arc_cosine(1, *moments), arc_cosine(0, *moments)

    def moment(self, variance: Array) -> Array:
        return variance / 2


class ABRelu(Activation):
    """a min(x, 0) + b max(x, 0); its slope at zero is a.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import ABRelu
    >>> ABRelu(0.5, 2.0).apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-0.5, 1.0]]
    """

    a: float
    b: float

    def __check_init__(self):
        require_numbers(self)

    @property
    def gain(self) -> Any:
        return ((self.a**2 + self.b**2) / 2) ** -0.5

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jnp.where(x > 0, self.b * x, self.a * x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        return _two_slopes(self.a, self.b, covariance, variance1, variance2)


class LeakyRelu(Activation):
    """alpha min(x, 0) + max(x, 0).

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import LeakyRelu
    >>> LeakyRelu(0.1).apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-0.1, 0.5]]
    """

    alpha: float = 0.01

    def __check_init__(self):
        require_numbers(self)

    @property
    def gain(self) -> Any:
        return ((1 + self.alpha**2) / 2) ** -0.5

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jnp.where(x > 0, x, self.alpha * x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        return _two_slopes(self.alpha, 1.0, covariance, variance1, variance2)


class Abs(Activation):
    """|x|; its slope at zero is -1.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Abs
    >>> Abs().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[1.0, 0.5]]
    """

    gain = 1.0

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jnp.where(x > 0, x, -x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        return _two_slopes(-1.0, 1.0, covariance, variance1, variance2)


class RectifiedMonomial(Activation):
    """max(x, 0)^degree: ReLU, squared ReLU, and so on (Cho and Saul 2009).

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import RectifiedMonomial
    >>> RectifiedMonomial(2).apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[0.0, 0.25]]
    """

    degree: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        require_positive("degree of RectifiedMonomial (for degree 0 use Step)", self.degree)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.relu(x) ** self.degree

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        moments = covariance, variance1, variance2
        return arc_cosine(self.degree, *moments), self.degree**2 * arc_cosine(self.degree - 1, *moments)


class Step(Activation):
    """1 where x > 0 and 0 elsewhere.

    Its derivative is zero except at the origin, so gradient descent does not train the layers before it. The dual of
    the derivative is therefore 0, as in neural-tangents, and the NTK is that of the last layer. The NNGP is the
    arc-cosine kernel of degree 0, which Bietti and Bach (2021) study. The `gain` keeps E[phi^2] at one.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Step
    >>> Step().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[0.0, 1.0]]
    """

    gain = math.sqrt(2.0)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return (x > 0).astype(x.dtype)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        nngp = arc_cosine(0, covariance, variance1, variance2)
        return nngp, jnp.zeros_like(nngp)


class Sign(Activation):
    """-1, 0 or 1 if x is below, at or above zero; E = (2 / pi) arcsin rho. Derivatives and `gain` follow `Step`.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Sign
    >>> Sign().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-1.0, 1.0]]
    """

    gain = 1.0

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jnp.sign(x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        probability = arc_cosine(0, covariance, variance1, variance2)
        nngp = jnp.where((variance1 > 0) & (variance2 > 0), 4 * probability - 1, 0.0)
        return nngp, jnp.zeros_like(nngp)


class Hat(Activation):
    """x on [0, 1], 2 - x on [1, 2], and 0 elsewhere: the finite-element basis function of Hong et al. 2022.

    arXiv 2208.04924. The absolute error of the dual is 5 eps (1 + sqrt(a b)). A pair of inputs costs three hundred
    times as much as for ReLU.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Hat
    >>> Hat().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[0.0, 0.5]]
    """

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.relu(x) - 2 * jax.nn.relu(x - 1) + jax.nn.relu(x - 2)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        return linear_spline_dual((0.0, 1.0, 2.0), (1.0, -2.0, 1.0), covariance, variance1, variance2)


def _two_slopes(
    a: float | Array, b: float | Array, covariance: Array, variance1: Array, variance2: Array
) -> tuple[Array, Array]:
    """The duals of a min(x, 0) + b max(x, 0) = a x + (b - a) relu(x)."""
    moments = covariance, variance1, variance2
    nngp = (b - a) ** 2 * arc_cosine(1, *moments) + a * b * covariance
    derivative = (b - a) ** 2 * arc_cosine(0, *moments) + a * b
    # At variance zero the slope is a, as in autodiff; one or both variances may be zero.
    live = (variance1 > 0).astype(int) + (variance2 > 0)
    at_zero = jnp.where(live == 0, a**2, a * (a + b) / 2)
    return nngp, jnp.where(live == 2, derivative, at_zero)

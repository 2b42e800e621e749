r"""Elementwise nonlinearities and their dual activations.

For centred Gaussians (u, v) with variances a, b and covariance c, the dual of phi is E[phi(u) phi(v)] and the dual of
its derivative E[phi'(u) phi'(v)]. With t the angle between u and v, cos t = c / sqrt(a b):

    relu  E = sqrt(a b) (sin t + (pi - t) cos t) / (2 pi)       E' = (pi - t) / (2 pi)       (Cho and Saul 2009)
    erf   E = (2 / pi) arcsin(2 c / sqrt((1 + 2 a)(1 + 2 b)))   E' = (4 / pi) / sqrt((1 + 2 a)(1 + 2 b) - 4 c^2)
                                                                                             (Williams 1997)
>>> from ntkbias.layers import Relu
>>> nngp, derivative = Relu().dual(*(jax.numpy.asarray(z) for z in (1.0, 1.0, 1.0)))
>>> float(nngp), float(derivative)
(0.5, 0.5)
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.layers.covariance import Covariance, Needs, Positions
from ntkbias.layers.layer import Layer
from ntkbias.types import InputError, Params, require_choice

__all__ = ["ACTIVATIONS", "Activation", "Erf", "Relu", "activation"]

MARGIN = 4  # roundings by which a cosine of 1 may be off


class Activation(Layer):
    """An elementwise function with a dual. A new one says `apply`, `dual` and its critical `gain`."""

    gain: eqx.AbstractClassVar[float]  # the w_std that keeps signals from growing or dying with depth

    @abc.abstractmethod
    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        """E[phi(u) phi(v)] and E[phi'(u) phi'(v)]; the arrays broadcast against each other."""

    def decorrelates(self, before: bool) -> bool:
        return False

    def needs(self, after: Needs) -> Needs:
        """The variances, beside what comes after."""
        return after | Needs(own=Positions.EQUAL)

    def propagate(self, covariance: Covariance) -> Covariance:
        if not covariance.gaussian:
            raise InputError(
                f"Expected a Dense or Conv layer before {type(self).__name__}; got an input that is not Gaussian at "
                "infinite width. Put a linear layer between the input, or the activation before, and this one."
            )
        return covariance.activate(self.dual)


class Relu(Activation):
    """max(x, 0)."""

    gain = math.sqrt(2.0)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.relu(x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        deviation1, deviation2 = jnp.sqrt(_positive(variance1)), jnp.sqrt(_positive(variance2))
        scale = deviation1 * deviation2
        live = (variance1 > 0) & (variance2 > 0)
        cosine = jnp.where(live, covariance / deviation1 / deviation2, 0.0)
        # So near to +-1 the cosine's own rounding decides the angle: taken as +-1, the diagonal is exact.
        margin = MARGIN * jnp.finfo(cosine.dtype).eps
        snapped = jnp.where(jnp.abs(cosine) > 1 - margin, jnp.sign(cosine), cosine)
        cosine = cosine + jax.lax.stop_gradient(snapped - cosine)
        nngp = jnp.where(live, scale * _arc_cosine_1(cosine) / 2, 0.0)
        return nngp, jnp.where(live, _arc_cosine_0(cosine) / 2, 0.0)


class Erf(Activation):
    """erf(x) = 2 / sqrt(pi) times the integral of exp(-s^2) from 0 to x."""

    gain = math.sqrt(math.pi) / 2  # 1 / phi'(0)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.scipy.special.erf(x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        # The root of (1 + 2 a)(1 + 2 b) - 4 c^2, and arctan for arcsin: precise where the variances are large.
        product = variance1 * variance2
        gap = product - covariance**2  # the product times the sine squared, taken as 0 where it is rounding
        snapped = jnp.where(gap < 2 * MARGIN * jnp.finfo(gap.dtype).eps * product, 0.0, gap)
        gap = gap + jax.lax.stop_gradient(snapped - gap)
        root = jnp.sqrt(1 + 2 * (variance1 + variance2) + 4 * gap)
        return 2 / math.pi * jnp.arctan2(2 * covariance, root), 4 / math.pi / root


ACTIVATIONS: dict[str, type[Activation]] = {"relu": Relu, "erf": Erf}


def activation(name: str | Activation) -> Activation:
    """The activation called `name`, one of `ACTIVATIONS`; an activation is returned as it is."""
    if isinstance(name, Activation):
        return name
    require_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def _positive(variance: Array) -> Array:
    """The variance, or one where it is zero: a value whose square root can be differentiated."""
    return jnp.where(variance > 0, variance, 1.0)


@jax.custom_jvp
def _arc_cosine_0(cosine: Array) -> Array:
    """(pi - t) / pi for t = arccos(cosine): the arc-cosine kernel of degree 0, kappa_0."""
    return 1 - jnp.arccos(cosine) / math.pi


@_arc_cosine_0.defjvp
def _arc_cosine_0_jvp(primals, tangents):
    (cosine,), (tangent,) = primals, tangents
    inside = jnp.abs(cosine) < 1  # at +-1 the kernel has a cusp: its slopes on both sides cancel
    sine = jnp.sqrt(jnp.where(inside, 1 - cosine**2, 1.0))
    return _arc_cosine_0(cosine), jnp.where(inside, tangent / (math.pi * sine), 0.0)


@jax.custom_jvp
def _arc_cosine_1(cosine: Array) -> Array:
    """(sin t + (pi - t) cos t) / pi: the arc-cosine kernel of degree 1, kappa_1, whose derivative is kappa_0."""
    sine = jnp.sqrt(jnp.maximum(1 - cosine**2, 0.0))
    return sine / math.pi + _arc_cosine_0(cosine) * cosine


@_arc_cosine_1.defjvp
def _arc_cosine_1_jvp(primals, tangents):
    (cosine,), (tangent,) = primals, tangents
    return _arc_cosine_1(cosine), _arc_cosine_0(cosine) * tangent

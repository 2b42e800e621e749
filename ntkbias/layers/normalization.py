r"""Normalization of each example by its own moments, with its mean subtracted (`LayerNorm`) or not (`RMSNorm`).

    LayerNorm       z = (x - mean(x)) / sqrt(eps + var(x))          (Ba et al. 2016, arXiv 1607.06450)
    RMSNorm         z = x / sqrt(eps + mean(x^2))                   (Zhang and Sennrich 2019, arXiv 1910.07467)

Over many channels of mean zero, the mean vanishes and the variance s = nngp(x, x) is no longer random. The layer then
divides by a number: nngp' = nngp / sqrt((eps + s)(eps + s')), and likewise for the ntk. The derivatives of mean and
variance add only terms of order 1 / width. A Gaussian input stays Gaussian. RMSNorm subtracts no mean, so channels may
have any distribution: s is the mean of x^2 over channels, also for the network's inputs.

>>> import jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.layers import Dense, LayerNorm, Sequential
>>> net = Sequential(Dense(64, w_std=3.0), LayerNorm(), Dense(1))
>>> print(nb.infinite_nngp(net)(jnp.eye(2)).tolist())
[[1.0, 0.0], [0.0, 1.0]]
"""

import dataclasses
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.checks import require_choice, require_scale
from ntkbias.errors import InputError
from ntkbias.layers.covariance import Covariance, Needs, Positions
from ntkbias.layers.layer import Layer, require_positions
from ntkbias.types import Params

__all__ = ["LayerNorm", "NormAxes", "RMSNorm"]

NormAxes = Literal["channels", "all"]


class _Norm(Layer):
    """The base class of normalizations: their options, and the division by sqrt(eps + s) in the limit."""

    eps: float = 1e-12
    axes: NormAxes = eqx.field(static=True, default="channels")

    def __check_init__(self):
        require_scale(f"eps of {type(self).__name__}", self.eps)
        require_choice(f"axes of {type(self).__name__}", self.axes, NormAxes)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions(type(self).__name__, input_shape)
        return tuple(input_shape)

    def needs(self, after: Needs) -> Needs:
        """The variances, and what later layers need."""
        return after | Needs(own=Positions.EQUAL)

    def _divided(self, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        """The values divided by sqrt(eps + their mean square)."""
        axes = -1 if self.axes == "channels" else tuple(range(1, x.ndim))
        return x / jnp.sqrt(self.eps + jnp.mean(x**2, axes, keepdims=True))

    def propagate(self, covariance: Covariance) -> Covariance:
        scale1, scale2 = (self._scale(variance) for variance in covariance.variances)

        def scaled(array: Any, first: Array, second: Array, carried: Positions) -> Any:
            if array is None:
                return None
            left, right = covariance.paired(first, second, carried)
            return array * (left * right)

        return dataclasses.replace(
            covariance,
            nngp=scaled(covariance.nngp, scale1[:, None], scale2[None], covariance.cross),
            ntk=scaled(covariance.ntk, scale1[:, None], scale2[None], covariance.cross),
            self1=scaled(covariance.self1, scale1, scale1, covariance.own),
            self2=scaled(covariance.self2, scale2, scale2, covariance.own),
        )

    def _scale(self, variance: Float[Array, "n *positions"]) -> Float[Array, "n ..."]:
        """The factor of each example's values, 1 / sqrt(eps + s)."""
        if self.axes == "all":
            variance = jnp.mean(variance, tuple(range(1, variance.ndim)), keepdims=True)
        return 1 / jnp.sqrt(self.eps + variance)


class LayerNorm(_Norm):
    """Normalizes `(n, *positions, channels)` over the channels at each position, or over "all" positions as well.

    It has no learned scale or shift, like the one in neural-tangents. (In the limit, a learned scale that starts at one
    would add a term of its own to the NTK.) `eps` is added to the variance.

    >>> import jax
    >>> from ntkbias.layers import LayerNorm
    >>> layer = LayerNorm()
    >>> params = layer.init(jax.random.key(0), (4,))
    >>> layer.apply(params, jax.numpy.ones((2, 4))).shape
    (2, 4)
    """

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        axes = -1 if self.axes == "channels" else tuple(range(1, x.ndim))
        return self._divided(x - jnp.mean(x, axes, keepdims=True))

    def propagate(self, covariance: Covariance) -> Covariance:
        if not covariance.gaussian:
            raise InputError(
                "Expected a Dense or Conv layer before LayerNorm; got an input that is not Gaussian of mean zero at "
                "infinite width. Put a linear layer directly before it, after the input, activation or encoding."
            )
        return super().propagate(covariance)


class RMSNorm(_Norm):
    """Divides `(n, *positions, channels)` by the root mean square over the channels, or over "all" positions as well.

    It subtracts no mean and has no learned scale. `eps` is added to the mean square. In the limit it may follow any
    layer. In flax the same layer is `nnx.RMSNorm(use_scale=False)`, with eps 1e-6.

    >>> import jax
    >>> from ntkbias.layers import RMSNorm
    >>> layer = RMSNorm()
    >>> params = layer.init(jax.random.key(0), (4,))
    >>> layer.apply(params, jax.numpy.ones((2, 4))).shape
    (2, 4)
    """

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self._divided(x)

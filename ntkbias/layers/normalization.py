r"""Normalization by an example's own moments: of its values less their mean, or of the values as they are.

    LayerNorm       z = (x - mean(x)) / sqrt(eps + var(x))          (Ba et al. 2016, arXiv 1607.06450)
    RMSNorm         z = x / sqrt(eps + mean(x^2))                   (Zhang and Sennrich 2019, arXiv 1910.07467)

Over many channels of mean zero the mean vanishes and the variance s = nngp(x, x) is no more random, so the layer
divides by a number: nngp' = nngp / sqrt((eps + s)(eps + s')), and so the ntk; what the derivatives of mean and variance
add is of order 1 / width. A Gaussian input stays Gaussian. Without the mean this holds for channels of any
distribution: s is the mean over channels of x^2, also of the inputs themselves.

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
    """What the normalizations share: options, and the division by sqrt(eps + s) in the limit."""

    eps: float = 1e-12
    axes: NormAxes = eqx.field(static=True, default="channels")

    def __check_init__(self):
        require_scale(f"eps of {type(self).__name__}", self.eps)
        require_choice(f"axes of {type(self).__name__}", self.axes, NormAxes)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions(type(self).__name__, input_shape)
        return tuple(input_shape)

    def needs(self, after: Needs) -> Needs:
        """The variances, beside what comes after."""
        return after | Needs(own=Positions.EQUAL)

    def _divided(self, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        """Values over the root of eps and their own mean square."""
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
        """What each example's values are multiplied by."""
        if self.axes == "all":
            variance = jnp.mean(variance, tuple(range(1, variance.ndim)), keepdims=True)
        return 1 / jnp.sqrt(self.eps + variance)


class LayerNorm(_Norm):
    """Normalizes `(n, *positions, channels)` over the channels at each position, or over "all" positions as well.

    It has no scale and shift to learn, as that of neural-tangents: in the limit a learned scale that starts at one adds
    a term of its own to the NTK. `eps` is added to the variance.
    """

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        axes = -1 if self.axes == "channels" else tuple(range(1, x.ndim))
        return self._divided(x - jnp.mean(x, axes, keepdims=True))

    def propagate(self, covariance: Covariance) -> Covariance:
        if not covariance.gaussian:
            raise InputError(
                "Expected a Dense or Conv layer before LayerNorm; got an input that is not Gaussian of mean zero at "
                "infinite width. Put a linear layer between it and the input, activation or encoding before it."
            )
        return super().propagate(covariance)


class RMSNorm(_Norm):
    """Divides `(n, *positions, channels)` by the root mean square over the channels, or over "all" positions as well.

    Nothing is taken away, and there is no scale to learn; `eps` is added to the mean square. In the limit it may follow
    any layer. That of flax is `nnx.RMSNorm(use_scale=False)`, with eps 1e-6.
    """

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self._divided(x)

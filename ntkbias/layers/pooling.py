"""Layers that remove the positions: Flatten keeps them apart, GlobalAvgPool averages over them.

Flatten needs the covariance at equal positions only, and takes its mean. GlobalAvgPool needs all pairs (p, q) and takes
the mean over both: the square of the work, and the reason why pooled infinite CNNs are expensive.

>>> from ntkbias.layers import Flatten, GlobalAvgPool
>>> Flatten().output_shape((8, 8, 3)), GlobalAvgPool().output_shape((8, 8, 3))
((192,), (3,))
>>> from ntkbias.layers import Needs
>>> Flatten().needs(Needs()).cross.name, GlobalAvgPool().needs(Needs()).cross.name
('EQUAL', 'ALL')
"""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.layers.covariance import Covariance, Needs, Positions
from ntkbias.layers.layer import Layer, require_positions
from ntkbias.types import Params

__all__ = ["Flatten", "GlobalAvgPool"]


class Flatten(Layer):
    """Makes each input a vector: `(n, *positions, channels)` to `(n, positions * channels)`."""

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions("Flatten", input_shape)
        return (math.prod(input_shape),)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n d"]:
        return x.reshape(x.shape[0], -1)

    def propagate(self, covariance: Covariance) -> Covariance:
        axes = tuple(range(-covariance.num_positions, 0))
        after = covariance.map(lambda array, carried: jnp.mean(covariance.at_equal(array, carried), axes))
        after = after.reshaped(self.output_shape(covariance.shape))
        # The mean over positions stands for entries of unlike variance: no activation's formula applies to it.
        return dataclasses.replace(after, gaussian=covariance.gaussian and covariance.num_positions == 0)

    def needs(self, after: Needs) -> Needs:
        return Needs(Positions.EQUAL, min(after.own, Positions.EQUAL))


class GlobalAvgPool(Layer):
    """Averages each channel over all positions: `(n, *positions, channels)` to `(n, channels)`."""

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions("GlobalAvgPool", input_shape)
        return input_shape[-1:]

    def apply(self, params: Params, x: Float[Array, "n *positions c"]) -> Float[Array, "n c"]:
        return jnp.mean(x, tuple(range(1, x.ndim - 1)))

    def propagate(self, covariance: Covariance) -> Covariance:
        axes = tuple(range(-2 * covariance.num_positions, 0))
        if covariance.own != Positions.ALL and axes:
            covariance = covariance.without_own()
        after = covariance.map(lambda array, _: jnp.mean(array, axes))
        return after.reshaped(self.output_shape(covariance.shape))

    def needs(self, after: Needs) -> Needs:
        return Needs(Positions.ALL, Positions.ALL if after.own else Positions.NONE)

"""Layers that remove the positions: Flatten keeps them apart, GlobalAvgPool averages over them.

Flatten needs the covariance at equal positions only, and takes its mean. GlobalAvgPool needs all pairs (p, q) and takes
the mean over both: the square of the work, and the reason why pooled infinite CNNs are expensive.

>>> from ntkbias.layers import Flatten, GlobalAvgPool
>>> Flatten().output_shape((8, 8, 3)), GlobalAvgPool().output_shape((8, 8, 3))
((192,), (3,))
>>> Flatten().needs(True), GlobalAvgPool().needs(False)
(False, True)
"""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.layers.covariance import Covariance
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
        after = covariance.map(lambda array: jnp.mean(covariance.same_position(array), axes))
        after = after.reshaped(self.output_shape(covariance.shape))
        # The mean over positions stands for entries of unlike variance: no activation's formula applies to it.
        return dataclasses.replace(after, gaussian=covariance.gaussian and covariance.num_positions == 0)

    def needs(self, pairs: bool) -> bool:
        return False


class GlobalAvgPool(Layer):
    """Averages each channel over all positions: `(n, *positions, channels)` to `(n, channels)`."""

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions("GlobalAvgPool", input_shape)
        return input_shape[-1:]

    def apply(self, params: Params, x: Float[Array, "n *positions c"]) -> Float[Array, "n c"]:
        return jnp.mean(x, tuple(range(1, x.ndim - 1)))

    def propagate(self, covariance: Covariance) -> Covariance:
        axes = tuple(range(-2 * covariance.num_positions, 0))
        return covariance.map(lambda array: jnp.mean(array, axes)).reshaped(self.output_shape(covariance.shape))

    def needs(self, pairs: bool) -> bool:
        return True

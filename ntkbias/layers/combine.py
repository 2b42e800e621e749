"""Layers made of layers.

>>> import jax
>>> from ntkbias.layers import Dense, Relu, Residual, Sequential
>>> block = Residual(Sequential((Dense(8), Relu(), Dense(4))))
>>> net = Sequential((Dense(4), block, Dense(1)))
>>> net.output_shape((2,))
(1,)
"""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.layers.covariance import Covariance, Needs
from ntkbias.layers.layer import Layer
from ntkbias.types import InputError, InputTypeError, Params

__all__ = ["Identity", "Residual", "Sequential"]


class Identity(Layer):
    """Returns its input."""

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return x

    def propagate(self, covariance: Covariance) -> Covariance:
        return covariance


class Sequential(Layer):
    """Applies layers one after the other; the parameters are a list with one entry a layer."""

    layers: tuple[Layer, ...] = eqx.field(converter=tuple)

    def __check_init__(self):
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise InputTypeError(f"Expected the layers of Sequential to be layers; got {layer!r}.")

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        for layer in self.layers:
            input_shape = layer.output_shape(input_shape)
        return input_shape

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        params = []
        for layer, layer_key in zip(self.layers, jax.random.split(key, len(self.layers)), strict=True):
            params.append(layer.init(layer_key, input_shape))
            input_shape = layer.output_shape(input_shape)
        return params

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        for layer, layer_params in zip(self.layers, params, strict=True):
            x = layer.apply(layer_params, x)
        return x

    def propagate(self, covariance: Covariance) -> Covariance:
        for layer in self.layers:
            covariance = layer.propagate(covariance)
        return covariance

    def decorrelates(self, before: bool) -> bool:
        for layer in self.layers:
            before = layer.decorrelates(before)
        return before

    def needs(self, after: Needs) -> Needs:
        for layer in reversed(self.layers):
            after = layer.needs(after)
        return after


class Residual(Layer):
    """The sum of a branch and a shortcut (default: the identity), as in a residual network.

    At infinite width their covariances add. That holds where the two are uncorrelated: one of them has to end with a
    linear layer (Dense or Conv), and not with an activation.
    """

    branch: Layer
    shortcut: Layer = Identity()

    def __check_init__(self):
        for layer in (self.branch, self.shortcut):
            if not isinstance(layer, Layer):
                raise InputTypeError(f"Expected branch and shortcut of Residual to be layers; got {layer!r}.")
        if not (self.branch.decorrelates(False) or self.shortcut.decorrelates(False)):
            raise InputError(
                "Expected branch or shortcut of Residual to end with a linear layer; got two that are correlated, "
                "whose covariances do not add. End the branch with Dense or Conv."
            )

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        branch, shortcut = self.branch.output_shape(input_shape), self.shortcut.output_shape(input_shape)
        if branch != shortcut:
            raise InputError(
                f"Expected branch and shortcut of Residual to give one shape; got {branch} and {shortcut}. "
                "Give a shortcut with the branch's width and strides, e.g. a 1 x 1 Conv."
            )
        return branch

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        self.output_shape(input_shape)
        branch_key, shortcut_key = jax.random.split(key)
        return {
            "branch": self.branch.init(branch_key, input_shape),
            "shortcut": self.shortcut.init(shortcut_key, input_shape),
        }

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.branch.apply(params["branch"], x) + self.shortcut.apply(params["shortcut"], x)

    def propagate(self, covariance: Covariance) -> Covariance:
        self.output_shape(covariance.shape)
        return self.branch.propagate(covariance) + self.shortcut.propagate(covariance)

    def decorrelates(self, before: bool) -> bool:
        return self.branch.decorrelates(before) and self.shortcut.decorrelates(before)

    def needs(self, after: Needs) -> Needs:
        return self.branch.needs(after) | self.shortcut.needs(after)

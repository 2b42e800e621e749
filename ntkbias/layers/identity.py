"""The identity, and layers that are the identity but for a number.

>>> import jax.numpy as jnp
>>> from ntkbias.layers import Scale
>>> Scale(0.5).apply(None, jnp.ones((1, 2))).tolist()
[[0.5, 0.5]]
"""

from jaxtyping import Array, Float

from ntkbias.checks import require_array, require_finite, require_scale
from ntkbias.errors import InputError
from ntkbias.layers.covariance import Covariance
from ntkbias.layers.layer import Layer
from ntkbias.types import Params

__all__ = ["Dropout", "Identity", "Scale"]


class Identity(Layer):
    """Returns its input."""

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return x

    def propagate(self, covariance: Covariance) -> Covariance:
        return covariance


class Scale(Layer):
    """Multiplies its input by a fixed number, which is not trained; covariances by its square."""

    factor: float

    def __check_init__(self):
        factor = require_array(self.factor, "factor of Scale")
        require_finite(factor, "factor of Scale")
        if factor.ndim:
            raise InputError(f"Expected factor of Scale to be one number; got an array of shape {factor.shape}.")

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.factor * x

    def propagate(self, covariance: Covariance) -> Covariance:
        return scaled(covariance, self.factor**2)


class Dropout(Identity):
    """Dropout at inference: the identity.

    Nothing is dropped, in `apply` as in the infinite-width limit. `rate` says what the layer stands for: the fraction
    that training would drop, as in flax and PyTorch (neural-tangents' `rate` is what it would keep).
    """

    rate: float

    def __check_init__(self):
        require_scale("rate of Dropout", self.rate)
        if isinstance(self.rate, int | float) and self.rate >= 1:
            raise InputError(f"Expected rate of Dropout, the fraction that is dropped, below 1; got {self.rate!r}.")


def scaled(covariance: Covariance, factor: float | Array) -> Covariance:
    """The covariance, multiplied by a number."""
    return covariance.map(lambda array, _: factor * array)

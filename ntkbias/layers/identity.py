"""The identity, and layers that differ from it by one number at most.

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
    """Returns its input.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Identity
    >>> Identity().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-1.0, 0.5]]
    """

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return x

    def propagate(self, covariance: Covariance) -> Covariance:
        return covariance


class Scale(Layer):
    """Multiplies its input by a fixed number that is not trained, and covariances by the square of that number.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Scale
    >>> Scale(3.0).apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-3.0, 1.5]]
    """

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

    Nothing is dropped, neither in `apply` nor in the infinite-width limit. `rate` records the fraction that training
    would drop, as in flax and PyTorch. (In neural-tangents `rate` is the fraction that training would keep.)

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Dropout
    >>> Dropout(0.1).apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-1.0, 0.5]]
    """

    rate: float

    def __check_init__(self):
        require_scale("rate of Dropout", self.rate)
        if isinstance(self.rate, int | float) and self.rate >= 1:
            raise InputError(f"Expected rate of Dropout, the fraction to drop, to be below 1; got {self.rate!r}.")


def scaled(covariance: Covariance, factor: float | Array) -> Covariance:
    """The covariance multiplied by a number."""
    return covariance.map(lambda array, _: factor * array)

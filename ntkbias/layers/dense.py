"""The dense (fully connected) layer. It acts on the last axis, with the same weights at each position.

    NTK parameterization:       z = w_std / sqrt(d) x W + b_std b      W, b ~ N(0, 1)    (Jacot et al. 2018)
    standard parameterization:  z = x W + b                            W ~ N(0, w_std^2 / d), b ~ N(0, b_std^2)

Both hold for b_init = 1, which multiplies b at initialization.

>>> import jax
>>> from ntkbias.layers import Dense
>>> layer = Dense(3, b_std=0.1)
>>> params = layer.init(jax.random.key(0), (2,))
>>> layer.apply(params, jax.numpy.ones((5, 2))).shape, layer.apply(params, jax.numpy.ones((5, 7, 2))).shape
((5, 3), (5, 7, 3))
"""

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_choice, require_positive
from ntkbias.layers.covariance import Covariance
from ntkbias.layers.layer import Layer, affine_init, require_positions, require_scales
from ntkbias.types import Parameterization, Params

__all__ = ["Dense"]


class Dense(Layer):
    """A linear map of `(n, d)` to `(n, num_outputs)` with Gaussian weights.

    It maps `(n, *positions, d)` to `(n, *positions, num_outputs)` with the same weights at each position, as flax does
    and as a convolution with a window of one does. Put Flatten before it to map all positions together. `b_std=None`
    means no bias. `b_init` scales the bias only at initialization. With `b_init=0` the bias starts at zero and is still
    trained, so it adds to the NTK but not to the NNGP (Basri et al. 2019). `apply` costs 2 n d num_outputs operations
    per position.

    >>> import jax
    >>> from ntkbias.layers import Dense
    >>> layer = Dense(3)
    >>> params = layer.init(jax.random.key(0), (4,))
    >>> layer.apply(params, jax.numpy.ones((2, 4))).shape
    (2, 3)
    """

    num_outputs: int = eqx.field(static=True)
    w_std: float = 1.0
    b_std: float | None = None
    b_init: float = 1.0
    parameterization: Parameterization = eqx.field(static=True, default="ntk")

    def __check_init__(self):
        require_positive("num_outputs of Dense", self.num_outputs)
        require_choice("parameterization", self.parameterization, Parameterization)
        require_scales(self)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions("Dense", input_shape)
        return (*input_shape[:-1], self.num_outputs)

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        require_positions("Dense", input_shape)
        fan_in = input_shape[-1]
        return affine_init(
            key,
            (fan_in, self.num_outputs),
            fan_in,
            w_std=self.w_std,
            b_std=self.b_std,
            b_init=self.b_init,
            parameterization=self.parameterization,
        )

    def apply(self, params: Params, x: Float[Array, "n *positions d"]) -> Float[Array, "n *positions o"]:
        if self.parameterization == "standard":
            outputs = x @ params["w"]
            return outputs + params["b"] if "b" in params else outputs
        outputs = self.w_std / x.shape[-1] ** 0.5 * (x @ params["w"])
        return outputs + self.b_std * params["b"] if "b" in params else outputs

    def decorrelates(self, before: bool) -> bool:
        return True

    def propagate(self, covariance: Covariance) -> Covariance:
        after = covariance.affine(  # the covariance is already a mean over the input's features
            w_std=self.w_std,
            b_std=self.b_std,
            b_init=self.b_init,
            fan_in=covariance.shape[-1],
            parameterization=self.parameterization,
        )
        return after.reshaped(self.output_shape(covariance.shape))

"""The dense (fully connected) layer. It acts on the last axis, with the same weights at each position.

    NTK parameterization:       z = w_std / sqrt(d) x W + b_std b      W, b ~ N(0, 1)    (Jacot et al. 2018)
    standard parameterization:  z = x W + b                            W ~ N(0, w_std^2 / d), b ~ N(0, b_std^2)

Both hold for b_init = 1, which multiplies b at initialization. `parameterizations.py` has the scales of these and of
the maximal update parameterization, "mup".

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
from ntkbias.layers.layer import Layer, affine_init, affine_rates, require_positions, require_scales
from ntkbias.layers.parameterizations import Scales
from ntkbias.mistaken import require_flag
from ntkbias.types import Parameterization, Params

__all__ = ["Dense"]


class Dense(Layer):
    """A linear map of `(n, d)` to `(n, num_outputs)` with Gaussian weights.

    It maps `(n, *positions, d)` to `(n, *positions, num_outputs)` with the same weights at each position, as flax does
    and as a convolution with a window of one does. Put Flatten before it to map all positions together. `b_std=None`
    means no bias. `b_init` scales the bias only at initialization. With `b_init=0` the bias starts at zero and is still
    trained, so it adds to the NTK but not to the NNGP (Basri et al. 2019). `apply` costs 2 n d num_outputs operations
    per position. `readout=True` marks the last linear layer of a network; `parameterization="mup"` scales it by the
    width, and the other parameterizations do not distinguish it.

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
    readout: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        require_positive("num_outputs of Dense", self.num_outputs)
        require_choice("parameterization", self.parameterization, Parameterization)
        require_flag("readout of Dense", self.readout)
        require_scales(self)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions("Dense", input_shape)
        return (*input_shape[:-1], self.num_outputs)

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        require_positions("Dense", input_shape)
        shape, scales = (input_shape[-1], self.num_outputs), self._scales(input_shape[-1])
        return affine_init(key, shape, scales=scales, w_std=self.w_std, b_std=self.b_std, b_init=self.b_init)

    def adam_rates(self, input_shape: tuple[int, ...]) -> Params:
        require_positions("Dense", input_shape)
        return affine_rates(self._scales(input_shape[-1]), self.b_std is not None)

    def _scales(self, fan_in: int) -> Scales:
        return Scales(self.parameterization, fan_in, self.num_outputs, self.readout)

    def apply(self, params: Params, x: Float[Array, "n *positions d"]) -> Float[Array, "n *positions o"]:
        if self.parameterization == "standard":
            outputs = x @ params["w"]
            return outputs + params["b"] if "b" in params else outputs
        scales = self._scales(x.shape[-1])
        outputs = scales.multiplier(self.w_std) * (x @ params["w"])
        return outputs + scales.bias_multiplier(self.b_std) * params["b"] if "b" in params else outputs

    def decorrelates(self, before: bool) -> bool:
        return True

    def propagate(self, covariance: Covariance) -> Covariance:
        after = covariance.affine(  # the covariance is already a mean over the input's features
            w_std=self.w_std,
            b_std=self.b_std,
            b_init=self.b_init,
            fan_in=covariance.shape[-1],
            parameterization=self.parameterization,
            fan_out=self.num_outputs,
            readout=self.readout,
        )
        return after.reshaped(self.output_shape(covariance.shape))

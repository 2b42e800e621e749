"""The convolution, over any number of spatial axes.

    z[p] = w_std / sqrt(|F| c) sum over offsets f in F of x[s p + f] W[f]  (+ b_std b)

with |F| offsets, c channels, stride s; scaled as a dense layer is in each parameterisation. At infinite width the
covariance is averaged over the window, the same offset on both sides: nngp'[p, q] = w_std^2 / |F| sum_f nngp[s p + f,
s q + f] (Arora et al. 2019, arXiv 1904.11955). A window is a product of intervals, so the sum goes axis by axis.

>>> import jax
>>> from ntkbias.layers import Conv
>>> layer = Conv(4, (3, 3), strides=(2, 2))
>>> layer.output_shape((8, 8, 1))
(4, 4, 4)
"""

import math
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.layers.covariance import Covariance, Positions, materialized
from ntkbias.layers.layer import Layer, affine_init, require_positions, require_scales
from ntkbias.types import InputError, InputTypeError, Parameterization, Params, require_choice, require_positive

__all__ = ["Conv", "Padding"]

Padding = Literal["SAME", "VALID", "CIRCULAR"]


def _sizes(value: object) -> tuple[int, ...]:
    """One whole number for each spatial axis."""
    if not isinstance(value, tuple | list) or not value:
        raise InputTypeError(f"Expected one number for each spatial axis of Conv, as (3, 3); got {value!r}.")
    for size in value:
        require_positive("every kernel size and stride of Conv", size)
    return tuple(value)


class Conv(Layer):
    """A convolution of `(n, *positions, channels)` to `(n, *positions', num_outputs)` with Gaussian weights.

    `kernel_size` has one number a spatial axis, as has `strides` (default: ones). `padding` is "SAME" (zeros),
    "VALID" (none) or "CIRCULAR" (the image wraps around). The weights are `(*kernel_size, channels, num_outputs)`.
    """

    num_outputs: int = eqx.field(static=True)
    kernel_size: tuple[int, ...] = eqx.field(static=True, converter=_sizes)
    strides: tuple[int, ...] | None = eqx.field(
        static=True, default=None, converter=lambda value: None if value is None else _sizes(value)
    )
    padding: Padding = eqx.field(static=True, default="SAME")
    w_std: float = 1.0
    b_std: float | None = None
    b_init: float = 1.0
    parameterization: Parameterization = eqx.field(static=True, default="ntk")

    def __check_init__(self):
        require_positive("num_outputs of Conv", self.num_outputs)
        require_choice("padding", self.padding, Padding)
        require_choice("parameterization", self.parameterization, Parameterization)
        require_scales(self)
        if len(self._strides) != len(self.kernel_size):
            raise InputError(
                f"Expected one stride a spatial axis; got kernel_size={self.kernel_size} and strides={self.strides}."
            )

    @property
    def _strides(self) -> tuple[int, ...]:
        return (1,) * len(self.kernel_size) if self.strides is None else self.strides

    def _window_padding(self, positions: tuple[int, ...]) -> list[tuple[int, int]]:
        """How much is added before and after each spatial axis."""
        kind = "VALID" if self.padding == "VALID" else "SAME"
        pads = lax.padtype_to_pads(positions, self.kernel_size, self._strides, kind)
        return [(int(low), int(high)) for low, high in pads]

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions("Conv", input_shape, len(self.kernel_size))
        positions = input_shape[:-1]
        sizes = zip(positions, self._window_padding(positions), self.kernel_size, self._strides, strict=True)
        after = tuple((size + low + high - window) // stride + 1 for size, (low, high), window, stride in sizes)
        if min(after) < 1:
            raise InputError(
                f"Expected inputs at least as large as the window {self.kernel_size}; got positions {positions}. "
                'Use padding="SAME" or a smaller window.'
            )
        return (*after, self.num_outputs)

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        self.output_shape(input_shape)
        channels = input_shape[-1]
        return affine_init(
            key,
            (*self.kernel_size, channels, self.num_outputs),
            math.prod(self.kernel_size) * channels,
            w_std=self.w_std,
            b_std=self.b_std,
            b_init=self.b_init,
            parameterization=self.parameterization,
        )

    def apply(self, params: Params, x: Float[Array, "n *positions c"]) -> Float[Array, "n *positions_out o"]:
        self.output_shape(x.shape[1:])
        pads = self._window_padding(x.shape[1:-1])
        if self.padding == "CIRCULAR":
            x = jnp.pad(x, [(0, 0), *pads, (0, 0)], mode="wrap")
            pads = [(0, 0)] * len(pads)
        letters = "DHW"[-len(pads) :] if len(pads) <= 3 else "".join(map(chr, range(ord("a"), ord("a") + len(pads))))
        layout = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
        outputs = lax.conv_general_dilated(x, params["w"], self._strides, pads, dimension_numbers=layout)
        if self.parameterization == "standard":
            return outputs + params["b"] if "b" in params else outputs
        outputs = self.w_std / (math.prod(self.kernel_size) * x.shape[-1]) ** 0.5 * outputs
        return outputs + self.b_std * params["b"] if "b" in params else outputs

    def decorrelates(self, before: bool) -> bool:
        return True

    def propagate(self, covariance: Covariance) -> Covariance:
        after = covariance.affine(
            lambda array, carried: self._window_mean(array, carried, covariance.positions),
            w_std=self.w_std,
            b_std=self.b_std,
            b_init=self.b_init,
            fan_in=math.prod(self.kernel_size) * covariance.shape[-1],
            parameterization=self.parameterization,
        )
        return after.reshaped(self.output_shape(covariance.shape))

    def _window_mean(self, array: Array, carried: Positions, positions: tuple[int, ...]) -> Array:
        """The mean over the window, the same offset at both positions of a pair; padding counts as zeros."""
        num_axes = len(positions)
        lead = array.ndim - carried * num_axes
        pads = self._window_padding(positions) * carried
        array = jnp.pad(array, [(0, 0)] * lead + pads, mode="wrap" if self.padding == "CIRCULAR" else "constant")
        for axis, (window, stride) in enumerate(zip(self.kernel_size, self._strides, strict=True)):
            if window == stride == 1:
                continue
            array = materialized(array)
            parts = [array] * window
            for each in range(lead + axis, array.ndim, num_axes):
                end = array.shape[each] - window + 1
                parts = [lax.slice_in_dim(part, f, f + end, stride, each) for f, part in enumerate(parts)]
            array = sum(parts[1:], parts[0])
        return array / math.prod(self.kernel_size)

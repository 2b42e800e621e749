r"""Convolutions over any number of spatial axes, with weights that positions share (`Conv`) or do not share.

    z[p] = w_std / sqrt(|F| c) sum over offsets f in F of x[s p + d f] W[f]  (+ b_std b)

Here |F| is the number of offsets, c the number of channels, s the stride and d the dilation. Each parameterization
scales the weights as in a dense layer. At infinite width the covariance is averaged over the window, with the same
offset on both sides: nngp'[p, q] = w_std^2 / |F| sum_f nngp[s p + d f, s q + d f] (Arora et al. 2019, arXiv
1904.11955). A window is a product of intervals, so the sum runs axis by axis. If each position has its own weights, the
same holds at p = q, and nngp'[p, q] = 0 elsewhere (Novak et al. 2019, arXiv 1810.05148).

>>> import jax
>>> from ntkbias.layers import Conv, LocallyConnected
>>> Conv(4, (3, 3), strides=(2, 2)).output_shape((8, 8, 1))
(4, 4, 4)
>>> params = LocallyConnected(4, (3, 3)).init(jax.random.key(0), (8, 8, 1))
>>> params["w"].shape
(8, 8, 9, 4)
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_choice, require_key, require_positive
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers.covariance import Covariance, Needs, Positions, materialized
from ntkbias.layers.layer import Layer, affine_init, affine_rates, require_positions, require_scales
from ntkbias.layers.parameterizations import Scales
from ntkbias.mistaken import require_flag
from ntkbias.types import Parameterization, Params

__all__ = ["Conv", "LocallyConnected", "Padding", "Window"]

Padding = Literal["SAME", "VALID", "CIRCULAR"]


def as_tuple(value: Any) -> Any:
    """A list as a tuple, which can be hashed; anything else unchanged."""
    return tuple(value) if isinstance(value, list) else value


class Window(NamedTuple):
    """The window of a convolution or a pool: a product of intervals that slides over the positions.

    `sizes`, `strides` and `dilation` each have one number per spatial axis.
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: Padding

    @classmethod
    def of(
        cls,
        layer: str,
        sizes: dict[str, Any],
        strides: tuple[int, ...] | None,
        padding: Padding,
        dilation: tuple[int, ...] | None = None,
    ) -> "Window":
        """The window of a `layer`; `sizes` maps the name of its size field to the value: `{"kernel_size": (3, 3)}`.

        Strides and dilation default to ones. Raises `InputError` if they do not fit the sizes.
        """
        ((name, size),) = sizes.items()
        options = {name: size, "strides": strides, "dilation": dilation}
        for option, value in options.items():
            if value is not None or option == name:
                _require_sizes(f"{option} of {layer}", value)
            if value is not None and len(value) != len(size):
                raise InputError(
                    f"Expected one {option.removesuffix('s')} per spatial axis; got {name}={size} and {option}={value}."
                )
        require_choice("padding", padding, Padding)
        ones = (1,) * len(size)
        return cls(size, strides or ones, dilation or ones, padding)

    @property
    def extents(self) -> tuple[int, ...]:
        """The number of positions that the window spans on each axis."""
        return tuple((size - 1) * step + 1 for size, step in zip(self.sizes, self.dilation, strict=True))

    def pads(self, positions: tuple[int, ...]) -> list[tuple[int, int]]:
        """The padding before and after each spatial axis."""
        kind = "VALID" if self.padding == "VALID" else "SAME"
        pads = lax.padtype_to_pads(positions, self.extents, self.strides, kind)
        return [(int(low), int(high)) for low, high in pads]

    def positions_after(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        """The number of placements of the window on each axis. Raises `InputError` if there is none."""
        sizes = zip(positions, self.pads(positions), self.extents, self.strides, strict=True)
        after = tuple((size + low + high - extent) // stride + 1 for size, (low, high), extent, stride in sizes)
        if min(after) < 1:
            raise InputError(
                f"Expected inputs at least as large as the window {self.extents}; got positions {positions}. "
                'Use padding="SAME" or a smaller window.'
            )
        return after

    def padded(self, array: Array, positions: tuple[int, ...], lead: int, copies: int = 1) -> Array:
        """The array with its spatial axes padded. They begin after `lead` other axes and occur `copies` times."""
        pads = self.pads(positions) * copies
        rest = array.ndim - lead - len(pads)
        mode = "wrap" if self.padding == "CIRCULAR" else "constant"
        return jnp.pad(array, [(0, 0)] * lead + pads + [(0, 0)] * rest, mode=mode)

    def shifted_sum(self, array: Array, axis: int, places: Iterable[int]) -> Array:
        """The sum of a padded array's shifts by each offset of the window on one spatial `axis`.

        `places` are the axes of the array that stand for this spatial axis. Each shift acts along all of them.
        """
        size, stride, dilation = self.sizes[axis], self.strides[axis], self.dilation[axis]
        if size == stride == 1:
            return array
        places = list(places)
        if size == stride and dilation == 1 and len(places) == 1:  # windows side by side: one sum, whatever the size
            (place,) = places
            after = array.shape[place] // size
            whole = lax.slice_in_dim(array, 0, after * size, axis=place)
            return whole.reshape(*array.shape[:place], after, size, *array.shape[place + 1 :]).sum(place + 1)
        array = materialized(array)
        parts = [array] * size
        for place in places:
            end = array.shape[place] - self.extents[axis] + 1
            starts = [dilation * offset for offset in range(size)]
            parts = [
                lax.slice_in_dim(part, start, start + end, stride, place)
                for part, start in zip(parts, starts, strict=True)
            ]
        return sum(parts[1:], parts[0])


class _Convolution(Layer):
    """The base class of convolutions: a window, and the scales of a linear layer."""

    num_outputs: int = eqx.field(static=True)
    kernel_size: tuple[int, ...] = eqx.field(static=True, converter=as_tuple)
    strides: tuple[int, ...] | None = eqx.field(static=True, default=None, converter=as_tuple)
    padding: Padding = eqx.field(static=True, default="SAME")
    w_std: float = 1.0
    b_std: float | None = None
    b_init: float = 1.0
    parameterization: Parameterization = eqx.field(static=True, default="ntk")
    dilation: tuple[int, ...] | None = eqx.field(static=True, default=None, converter=as_tuple)
    readout: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        require_positive(f"num_outputs of {type(self).__name__}", self.num_outputs)
        require_choice("parameterization", self.parameterization, Parameterization)
        require_flag(f"readout of {type(self).__name__}", self.readout)
        require_scales(self)
        _ = self.window

    @property
    def window(self) -> Window:
        """The window of inputs that one output position sees."""
        sizes = {"kernel_size": self.kernel_size}
        return Window.of(type(self).__name__, sizes, self.strides, self.padding, self.dilation)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions(type(self).__name__, input_shape, len(self.kernel_size))
        return (*self.window.positions_after(input_shape[:-1]), self.num_outputs)

    def decorrelates(self, before: bool) -> bool:
        return True

    def propagate(self, covariance: Covariance) -> Covariance:
        after = covariance.affine(
            lambda array, carried: _window_mean(self.window, array, carried, covariance.positions),
            w_std=self.w_std,
            b_std=self.b_std,
            b_init=self.b_init,
            fan_in=math.prod(self.kernel_size) * covariance.shape[-1],
            parameterization=self.parameterization,
            fan_out=self.num_outputs,
            readout=self.readout,
        )
        return after.reshaped(self.output_shape(covariance.shape))

    def adam_rates(self, input_shape: tuple[int, ...]) -> Params:
        self.output_shape(input_shape)
        return affine_rates(self._scales(math.prod(self.kernel_size) * input_shape[-1]), self.b_std is not None)

    def _scales(self, fan_in: int) -> Scales:
        return Scales(self.parameterization, fan_in, self.num_outputs, self.readout)

    def _init(self, key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int) -> dict[str, Array]:
        return affine_init(
            key,
            (*shape, self.num_outputs),
            scales=self._scales(fan_in),
            w_std=self.w_std,
            b_std=self.b_std,
            b_init=self.b_init,
        )

    def _scaled(self, outputs: Array, params: Params, fan_in: int) -> Array:
        """The sums over the window, scaled and with the bias added."""
        if self.parameterization == "standard":
            return outputs + params["b"] if "b" in params else outputs
        scales = self._scales(fan_in)
        outputs = scales.multiplier(self.w_std) * outputs
        return outputs + scales.bias_multiplier(self.b_std) * params["b"] if "b" in params else outputs


class Conv(_Convolution):
    """A convolution of `(n, *positions, channels)` to `(n, *positions', num_outputs)` with Gaussian weights.

    `kernel_size`, `strides` and `dilation` each have one number per spatial axis. `dilation` is the distance between
    neighbors in the window. It and `strides` default to ones. `padding` is "SAME" (zeros), "VALID" (none) or "CIRCULAR"
    (the image wraps around). The weights are `(*kernel_size, channels, num_outputs)`.

    >>> import jax
    >>> from ntkbias.layers import Conv
    >>> layer = Conv(3, (2, 2))
    >>> params = layer.init(jax.random.key(0), (4, 4, 1))
    >>> layer.apply(params, jax.numpy.ones((2, 4, 4, 1))).shape
    (2, 4, 4, 3)
    """

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        self.output_shape(input_shape)
        shape = (*self.kernel_size, input_shape[-1])
        return self._init(key, shape, math.prod(shape))

    def apply(self, params: Params, x: Float[Array, "n *positions c"]) -> Float[Array, "n *positions_out o"]:
        self.output_shape(x.shape[1:])
        x, pads = _padded_inputs(self.window, x)
        outputs = lax.conv_general_dilated(
            x,
            params["w"],
            self.window.strides,
            pads,
            rhs_dilation=self.window.dilation,
            dimension_numbers=_layout(len(pads)),
        )
        return self._scaled(outputs, params, math.prod(self.kernel_size) * x.shape[-1])


class LocallyConnected(_Convolution):
    """A convolution without shared weights: each output position has its own weights and biases.

    The options are those of `Conv`. The weights are `(*positions', channels * |F|, num_outputs)`, channels first, where
    |F| is the product of `kernel_size`. The biases are `(*positions', num_outputs)`. Both fit inputs of one size only.
    At infinite width, outputs at different positions are independent, so a later pool averages over equal positions
    only. All pairs are still carried if a later layer needs them.

    >>> import jax
    >>> from ntkbias.layers import LocallyConnected
    >>> layer = LocallyConnected(3, (2, 2), padding="VALID")
    >>> params = layer.init(jax.random.key(0), (4, 4, 1))
    >>> layer.apply(params, jax.numpy.ones((2, 4, 4, 1))).shape
    (2, 3, 3, 3)
    """

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        positions = self.output_shape(input_shape)[:-1]
        fan_in = math.prod(self.kernel_size) * input_shape[-1]
        # At each position this is a dense layer.
        params = jax.vmap(lambda key: self._init(key, (fan_in,), fan_in))(
            jax.random.split(require_key(key), math.prod(positions))
        )
        return jax.tree.map(lambda leaf: leaf.reshape(*positions, *leaf.shape[1:]), params)

    def apply(self, params: Params, x: Float[Array, "n *positions c"]) -> Float[Array, "n *positions_out o"]:
        positions, fitting = self.output_shape(x.shape[1:])[:-1], params["w"].shape[:-2]
        if positions != fitting:
            raise InputError(
                "Expected inputs of LocallyConnected to have the size that it was initialized for, which gives outputs "
                f"at positions {fitting}; got {positions}. Initialize it for inputs of this size."
            )
        x, pads = _padded_inputs(self.window, x)
        patches = lax.conv_general_dilated_patches(
            x,
            self.kernel_size,
            self.window.strides,
            pads,
            rhs_dilation=self.window.dilation,
            dimension_numbers=_layout(len(pads)),
        )
        outputs = jnp.einsum("n...f,...fo->n...o", patches, params["w"])
        return self._scaled(outputs, params, patches.shape[-1])

    def propagate(self, covariance: Covariance) -> Covariance:
        after = super().propagate(covariance.restricted(Needs(Positions.EQUAL, Positions.EQUAL)))

        def spread(array: Array, carried: Positions) -> Array:
            return _diagonal(array, after.positions) if carried == Positions.ALL else array

        return dataclasses.replace(
            after,
            nngp=spread(after.nngp, covariance.cross),
            ntk=None if after.ntk is None else spread(after.ntk, covariance.cross),
            self1=None if after.self1 is None else spread(after.self1, covariance.own),
            self2=None if after.self2 is None else spread(after.self2, covariance.own),
            cross=covariance.cross,
            own=covariance.own,
        )


def _window_mean(window: Window, array: Array, carried: Positions, positions: tuple[int, ...]) -> Array:
    """The mean over the window, with the same offset at both positions of a pair; padding counts as zeros."""
    num_axes = len(positions)
    lead = array.ndim - carried * num_axes
    array = window.padded(array, positions, lead, carried)
    for axis in range(num_axes):
        array = window.shifted_sum(array, axis, range(lead + axis, array.ndim, num_axes))
    return array / math.prod(window.sizes)


def _diagonal(array: Array, positions: tuple[int, ...]) -> Array:
    """An array `(..., *positions, *positions)` with the given values at equal positions and zero elsewhere."""
    size = math.prod(positions)
    lead = array.shape[: array.ndim - len(positions)]
    square = jnp.where(jnp.eye(size, dtype=bool), array.reshape(*lead, size, 1), 0.0)
    return square.reshape(*lead, *positions, *positions)


def _padded_inputs(window: Window, x: Array) -> tuple[Array, list[tuple[int, int]]]:
    """The inputs, and the padding that the convolution itself has to add."""
    positions = x.shape[1:-1]
    if window.padding == "CIRCULAR":
        return window.padded(x, positions, 1), [(0, 0)] * len(positions)
    return x, window.pads(positions)


def _layout(num_axes: int) -> tuple[str, str, str]:
    """The order of axes of inputs, weights and outputs, in the notation of `lax`."""
    letters = "DHW"[-num_axes:] if num_axes <= 3 else "".join(map(chr, range(ord("a"), ord("a") + num_axes)))
    return (f"N{letters}C", f"{letters}IO", f"N{letters}C")


def _require_sizes(name: str, value: object) -> None:
    """Raise an `InputError` unless `value` holds one positive whole number per spatial axis."""
    if not isinstance(value, tuple) or not value:
        raise InputTypeError(f"Expected {name} to be one number for each spatial axis, as (3, 3); got {value!r}.")
    for size in value:
        require_positive(f"every number in {name}", size)

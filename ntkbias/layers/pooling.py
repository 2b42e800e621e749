"""Layers that remove positions or average over them: windowed pools, pools over all positions, and Flatten.

Flatten needs the covariance at equal positions only, and takes its mean. A pool needs all pairs (p, q), and takes the
mean (or sum) over the windows of both p and q. This squares the work and makes pooled infinite CNNs expensive. The cost
falls on every layer before a pool, and also on the layers after a windowed pool.

>>> from ntkbias.layers import AvgPool, Flatten, GlobalAvgPool
>>> AvgPool((2, 2), (2, 2)).output_shape((8, 8, 3)), GlobalAvgPool().output_shape((8, 8, 3))
((4, 4, 3), (3,))
>>> Flatten().output_shape((8, 8, 3))
(192,)
>>> from ntkbias.layers import Needs
>>> Flatten().needs(Needs()).cross.name, GlobalAvgPool().needs(Needs()).cross.name
('EQUAL', 'ALL')
"""

import abc
import dataclasses
import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ntkbias.layers.conv import Padding, Window, as_tuple
from ntkbias.layers.covariance import Covariance, Needs, Positions
from ntkbias.layers.layer import Layer, require_positions
from ntkbias.types import Params

__all__ = ["AvgPool", "Flatten", "GlobalAvgPool", "GlobalSumPool", "SumPool"]


class Flatten(Layer):
    """Makes each input a vector: `(n, *positions, channels)` to `(n, positions * channels)`.

    >>> import jax
    >>> from ntkbias.layers import Flatten
    >>> layer = Flatten()
    >>> params = layer.init(jax.random.key(0), (4, 4, 1))
    >>> layer.apply(params, jax.numpy.ones((2, 4, 4, 1))).shape
    (2, 16)
    """

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions("Flatten", input_shape)
        return (math.prod(input_shape),)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n d"]:
        return x.reshape(x.shape[0], -1)

    def propagate(self, covariance: Covariance) -> Covariance:
        axes = tuple(range(-covariance.num_positions, 0))
        after = covariance.map(lambda array, carried: jnp.mean(covariance.at_equal(array, carried), axes))
        after = after.reshaped(self.output_shape(covariance.shape))
        # The flattened entries differ in variance, and this is only their mean: no activation's formula applies.
        return dataclasses.replace(after, gaussian=covariance.gaussian and covariance.num_positions == 0)

    def needs(self, after: Needs) -> Needs:
        return Needs(Positions.EQUAL, min(after.own, Positions.EQUAL))


class _Pool(Layer):
    """The base class of pools. They need all pairs of positions, and keep Gaussian inputs Gaussian."""

    def needs(self, after: Needs) -> Needs:
        return Needs(Positions.ALL, Positions.ALL if after.own else Positions.NONE)

    def propagate(self, covariance: Covariance) -> Covariance:
        if covariance.own != Positions.ALL and covariance.num_positions:
            covariance = covariance.without_own()  # another layer needs it at equal positions, which a pool cannot use
        after = covariance.map(lambda array, carried: self._pooled_pairs(array, carried, covariance.positions))
        return after.reshaped(self.output_shape(covariance.shape))

    @abc.abstractmethod
    def _pooled_pairs(self, array: Array, carried: Positions, positions: tuple[int, ...]) -> Array:
        """The pool over both positions of each pair. These are the last axes."""


class _WindowedPool(_Pool):
    """Sums over a window, divided by the divisors of the subclass."""

    window: tuple[int, ...] = eqx.field(static=True, converter=as_tuple)
    strides: tuple[int, ...] | None = eqx.field(static=True, default=None, converter=as_tuple)
    padding: Padding = eqx.field(static=True, default="VALID")

    def __check_init__(self):
        _ = self._window

    @property
    def _window(self) -> Window:
        return Window.of(type(self).__name__, {"window": self.window}, self.strides, self.padding)

    @abc.abstractmethod
    def _divisors(self, positions: tuple[int, ...]) -> list[np.ndarray]:
        """The divisors of the sums on each spatial axis: one per placement of the window, or `(1,)` for all of them."""

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions(type(self).__name__, input_shape, len(self.window))
        return (*self._window.positions_after(input_shape[:-1]), input_shape[-1])

    def apply(self, params: Params, x: Float[Array, "n *positions c"]) -> Float[Array, "n *positions_out c"]:
        self.output_shape(x.shape[1:])
        positions = x.shape[1:-1]
        sums = lax.reduce_window(
            self._window.padded(x, positions, 1),
            np.zeros((), x.dtype),
            lax.add,
            (1, *self.window, 1),
            (1, *self._window.strides, 1),
            "VALID",
        )
        return self._divided(sums, positions, 1)

    def _pooled_pairs(self, array: Array, carried: Positions, positions: tuple[int, ...]) -> Array:
        lead = array.ndim - carried * len(positions)
        array = self._window.padded(array, positions, lead, carried)
        for place in range(lead, array.ndim):
            array = self._window.shifted_sum(array, (place - lead) % len(positions), [place])
        for copy in range(carried):
            array = self._divided(array, positions, lead + copy * len(positions))
        return array

    def _divided(self, sums: Array, positions: tuple[int, ...], lead: int) -> Array:
        """The sums divided along the spatial axes, which begin at axis `lead`."""
        for axis, divisor in enumerate(self._divisors(positions), lead):
            sums = sums / divisor.astype(sums.dtype).reshape(-1, *(1,) * (sums.ndim - axis - 1))
        return sums


class AvgPool(_WindowedPool):
    """The mean of each channel over a window: `(n, *positions, channels)` to `(n, *positions', channels)`.

    `window` and `strides` (default: ones) each have one number per spatial axis. `padding` is "VALID" (none; positions
    that no window reaches are dropped), "SAME" (zeros) or "CIRCULAR". Sums are divided by the size of the window. With
    `normalize_edges` and "SAME" they are divided by the number of the window's positions inside the image (PyTorch's
    `count_include_pad=False`).

    >>> import jax
    >>> from ntkbias.layers import AvgPool
    >>> layer = AvgPool((2, 2))
    >>> params = layer.init(jax.random.key(0), (4, 4, 1))
    >>> layer.apply(params, jax.numpy.ones((2, 4, 4, 1))).shape
    (2, 3, 3, 1)
    """

    normalize_edges: bool = eqx.field(static=True, default=False)

    def _divisors(self, positions: tuple[int, ...]) -> list[np.ndarray]:
        if not (self.normalize_edges and self.padding == "SAME"):
            return [np.array([size]) for size in self.window]
        inside = [np.pad(np.ones(size), pad) for size, pad in zip(positions, self._window.pads(positions), strict=True)]
        return [
            np.lib.stride_tricks.sliding_window_view(ones, size)[::stride].sum(-1)
            for ones, size, stride in zip(inside, self.window, self._window.strides, strict=True)
        ]


class SumPool(_WindowedPool):
    """The sum of each channel over a window. `window`, `strides` and `padding` are those of `AvgPool`.

    >>> import jax
    >>> from ntkbias.layers import SumPool
    >>> layer = SumPool((2, 2))
    >>> params = layer.init(jax.random.key(0), (4, 4, 1))
    >>> layer.apply(params, jax.numpy.ones((2, 4, 4, 1))).shape
    (2, 3, 3, 1)
    """

    def _divisors(self, positions: tuple[int, ...]) -> list[np.ndarray]:
        return []


class GlobalAvgPool(_Pool):
    """Averages each channel over all positions: `(n, *positions, channels)` to `(n, channels)`.

    >>> import jax
    >>> from ntkbias.layers import GlobalAvgPool
    >>> layer = GlobalAvgPool()
    >>> params = layer.init(jax.random.key(0), (4, 4, 1))
    >>> layer.apply(params, jax.numpy.ones((2, 4, 4, 1))).shape
    (2, 1)
    """

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions(type(self).__name__, input_shape)
        return input_shape[-1:]

    def apply(self, params: Params, x: Float[Array, "n *positions c"]) -> Float[Array, "n c"]:
        return jnp.mean(x, tuple(range(1, x.ndim - 1)))

    def _pooled_pairs(self, array: Array, carried: Positions, positions: tuple[int, ...]) -> Array:
        return jnp.mean(array, tuple(range(-2 * len(positions), 0)))


class GlobalSumPool(_Pool):
    """Sums each channel over all positions: `(n, *positions, channels)` to `(n, channels)`.

    >>> import jax
    >>> from ntkbias.layers import GlobalSumPool
    >>> layer = GlobalSumPool()
    >>> params = layer.init(jax.random.key(0), (4, 4, 1))
    >>> layer.apply(params, jax.numpy.ones((2, 4, 4, 1))).shape
    (2, 1)
    """

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions(type(self).__name__, input_shape)
        return input_shape[-1:]

    def apply(self, params: Params, x: Float[Array, "n *positions c"]) -> Float[Array, "n c"]:
        return jnp.sum(x, tuple(range(1, x.ndim - 1)))

    def _pooled_pairs(self, array: Array, carried: Positions, positions: tuple[int, ...]) -> Array:
        return jnp.sum(array, tuple(range(-2 * len(positions), 0)))

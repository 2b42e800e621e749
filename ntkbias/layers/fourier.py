r"""Fourier features: cosines and sines of the inputs along given or random directions.

Fixed features are a map of the inputs. Their kernel is k(v, v') = sum_j a_j^2 cos(2 pi b_j . (v - v')) (Tancik et al.
2020, arXiv 2006.10739). Random Gaussian features tend to the Gaussian kernel as their number grows (Rahimi and Recht
2007):

    RandomFourierFeatures     nngp' = E[cos(u - u')] = exp(-w_std^2 (nngp(x, x) + nngp(x', x') - 2 nngp(x, x')) / 2)

A fixed map acts on the inputs themselves, before there is a covariance. `FourierFeatures` and `Angle` are fixed maps,
so they have to come first in a network. `split_fixed` finds such layers.

>>> import jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.layers import FourierFeatures, Sequential
>>> net = Sequential(FourierFeatures(frequencies=(1, 2, 3), amplitudes=(1, 1 / 2, 1 / 3)), nb.nets.mlp(depth=2))
>>> print(nb.infinite_ntk(net)(jnp.array([[0.0], [0.25]])).tolist())
[[0.34, 0.06], [0.06, 0.34]]
"""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_array, require_finite, require_key, require_positive, require_scale
from ntkbias.errors import InputError
from ntkbias.layers.covariance import Covariance, Needs, Positions
from ntkbias.layers.layer import Layer, require_positions
from ntkbias.types import Params

__all__ = ["Angle", "FourierFeatures", "RandomFourierFeatures"]


def _numbers(value: Any) -> Any:
    """An array or a nested list as nested tuples, which can be hashed."""
    require_finite(
        require_array(value, "frequencies and amplitudes of FourierFeatures"),
        "frequencies and amplitudes of FourierFeatures",
    )
    return _nested(np.asarray(value, np.float64).tolist())


def _nested(values: Any) -> Any:
    return tuple(map(_nested, values)) if isinstance(values, list) else values


class FourierFeatures(Layer):
    """The features (a_j cos(2 pi b_j . v), a_j sin(2 pi b_j . v)) of inputs v, cosines first.

    `frequencies` are the b_j. Frequencies `(k,)` apply to each coordinate separately: `(n, d)` becomes `(n, 2 k d)`.
    Directions `(k, d)` apply to whole inputs: `(n, d)` becomes `(n, 2 k)`. Whole numbers give features with period 1 in
    each coordinate. `amplitudes` are the a_j, `(k,)`, and default to ones. The layer acts on the last axis, in the same
    way at each position. It is a fixed map: it has no parameters and has to come first in a network.

    >>> import jax
    >>> from ntkbias.layers import FourierFeatures
    >>> layer = FourierFeatures((1.0, 2.0))
    >>> params = layer.init(jax.random.key(0), (1,))
    >>> layer.apply(params, jax.numpy.ones((2, 1))).shape
    (2, 4)
    """

    frequencies: tuple = eqx.field(static=True, converter=_numbers)
    amplitudes: tuple | None = eqx.field(
        static=True, default=None, converter=lambda value: None if value is None else _numbers(value)
    )
    is_fixed = True

    def __check_init__(self):
        shape = np.shape(self.frequencies)
        if len(shape) not in (1, 2) or 0 in shape:
            raise InputError(
                f"Expected frequencies of FourierFeatures (k,), or directions (k, d); got shape {shape}. "
                "Give one row per frequency."
            )
        if self.amplitudes is not None and np.shape(self.amplitudes) != shape[:1]:
            raise InputError(
                f"Expected one amplitude per frequency, {shape[:1]}; got shape {np.shape(self.amplitudes)}."
            )

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions("FourierFeatures", input_shape)
        shape = np.shape(self.frequencies)
        if len(shape) == 1:
            return (*input_shape[:-1], 2 * shape[0] * input_shape[-1])
        if shape[1] != input_shape[-1]:
            raise InputError(
                f"Expected inputs of FourierFeatures of {shape[1]} features, as its frequencies have; got shape "
                f"{tuple(input_shape)} without the batch axis. Give frequencies (k, {input_shape[-1]}), or (k,)."
            )
        return (*input_shape[:-1], 2 * shape[0])

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        shape = self.output_shape(x.shape[1:])
        frequencies = jnp.asarray(self.frequencies, x.dtype)
        amplitudes = jnp.ones(len(frequencies), x.dtype)
        if self.amplitudes is not None:
            amplitudes = jnp.asarray(self.amplitudes, x.dtype)
        turns = x[..., None] * frequencies if frequencies.ndim == 1 else x @ frequencies.T
        angles = 2 * math.pi * turns
        waves = [(amplitudes * wave(angles)).reshape(*x.shape[:-1], -1) for wave in (jnp.cos, jnp.sin)]
        return jnp.concatenate(waves, -1).reshape(len(x), *shape)

    def propagate(self, covariance: Covariance) -> Covariance:
        raise _not_first(self)


class Angle(Layer):
    """The angle of points in the plane, divided by 2 pi so that it runs from 0 to 1: `(n, 2)` to `(n, 1)`.

    Put it before `FourierFeatures` with whole frequencies, which are then harmonics of the circle. It is a fixed map
    too. Its derivative with respect to the inputs does not exist at the origin.

    >>> import jax
    >>> from ntkbias.layers import Angle
    >>> layer = Angle()
    >>> params = layer.init(jax.random.key(0), (2,))
    >>> layer.apply(params, jax.numpy.ones((2, 2))).shape
    (2, 1)
    """

    is_fixed = True

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions("Angle", input_shape)
        if input_shape[-1] != 2:
            raise InputError(
                f"Expected points of the plane, (n, 2), as inputs of Angle; got shape {tuple(input_shape)} without the "
                "batch axis. Give points of domains.Circle."
            )
        return (*input_shape[:-1], 1)

    def apply(self, params: Params, x: Float[Array, "n *positions 2"]) -> Float[Array, "n *positions 1"]:
        self.output_shape(x.shape[1:])
        return jnp.arctan2(x[..., 1:], x[..., :1]) / (2 * math.pi) % 1

    def propagate(self, covariance: Covariance) -> Covariance:
        raise _not_first(self)


class RandomFourierFeatures(Layer):
    """The features sqrt(2) (cos(u), sin(u)) of u = w_std / sqrt(d) x B with Gaussian B, `num_features` of each.

    `(n, ..., d)` becomes `(n, ..., 2 num_features)`. The limit of many features is the Gaussian kernel
    exp(-|x - x'|^2 / (2 l^2)) with l = sqrt(d) / w_std. At a finite number the error is of order num_features^-1/2. The
    features cos(2 pi B v) of Tancik et al., with B of standard deviation s, have w_std = 2 pi s sqrt(d). `init` draws
    the frequencies as parameters, but they are not trained: their gradient is zero. (To train them, put `Dense` before
    `SinPlusCos`.)

    >>> import jax
    >>> from ntkbias.layers import RandomFourierFeatures
    >>> layer = RandomFourierFeatures(8)
    >>> params = layer.init(jax.random.key(0), (4,))
    >>> layer.apply(params, jax.numpy.ones((2, 4))).shape
    (2, 16)
    """

    num_features: int = eqx.field(static=True)
    w_std: float = 1.0

    def __check_init__(self):
        require_positive("num_features of RandomFourierFeatures", self.num_features)
        require_scale("w_std of RandomFourierFeatures", self.w_std)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_positions("RandomFourierFeatures", input_shape)
        return (*input_shape[:-1], 2 * self.num_features)

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        self.output_shape(input_shape)
        return {"frequencies": jax.random.normal(require_key(key), (input_shape[-1], self.num_features))}

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        frequencies = jax.lax.stop_gradient(params["frequencies"])
        u = self.w_std / x.shape[-1] ** 0.5 * (x @ frequencies)
        return math.sqrt(2) * jnp.concatenate([jnp.cos(u), jnp.sin(u)], -1)

    def decorrelates(self, before: bool) -> bool:
        return False

    def needs(self, after: Needs) -> Needs:
        """The variances, and what later layers need."""
        return after | Needs(own=Positions.EQUAL)

    def propagate(self, covariance: Covariance) -> Covariance:
        shape = self.output_shape(covariance.shape)
        untrained = dataclasses.replace(covariance, trained=False)
        turns = untrained.affine(
            w_std=self.w_std, b_std=None, b_init=1.0, fan_in=covariance.shape[-1], parameterization="ntk"
        )
        after = turns.activate(_gaussian_kernel).reshaped(shape)
        return dataclasses.replace(after, trained=covariance.trained)


def _gaussian_kernel(covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
    """E[cos(u - v)]. This is also the mean product of the derivatives of sqrt(2) cos and sqrt(2) sin."""
    kernel = jnp.exp(covariance - (variance1 + variance2) / 2)
    return kernel, kernel


def _not_first(layer: Layer) -> InputError:
    """The error of a fixed map that follows another layer."""
    name = type(layer).__name__
    return InputError(
        f"Expected {name} first in the network, where it acts on the inputs themselves; got it after another layer, "
        "where only a covariance is known. Move it to the front, or apply the layers before it to the inputs yourself."
    )

"""Encodings of positions, added to a layer's inputs or concatenated to their channels.

Let R be the correlation between positions. Random encodings with standard deviation std change the covariance to

    PositionalEncoding        nngp'[p, q] = nngp[p, q] + std^2 R[p, q],     R[p, q] = decay(distance of p and q)

if they are added (`combine="sum"`). `SinusoidalEncoding` is a fixed map. At the start of a network it acts on the
inputs themselves, before there is a covariance; `split_fixed` finds such layers.

>>> import jax.numpy as jnp
>>> from ntkbias.layers import SinusoidalEncoding
>>> SinusoidalEncoding(combine="concat").apply(None, jnp.ones((1, 3, 2))).round(2).tolist()
[[[1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 0.84, 0.54], [1.0, 1.0, 0.91, -0.42]]]
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_choice, require_finite, require_key, require_positive, require_scale
from ntkbias.compilation import held, remembered
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers.covariance import Covariance, Positions
from ntkbias.layers.layer import Layer, require_some_positions
from ntkbias.layers.parameterizations import Scales
from ntkbias.types import Parameterization, Params

__all__ = ["Combine", "PositionalEncoding", "SinusoidalEncoding"]

Combine = Literal["sum", "concat"]
MARGIN = 1e-6  # times the largest eigenvalue: a negative eigenvalue smaller than this is a rounding error


class PositionalEncoding(Layer):
    """Random vectors, one per position and the same for all examples, added to the inputs or concatenated to them.

    The entries are Gaussian with standard deviation `std`. They are independent between channels. Between positions
    their correlation is R[p, q] = `decay(sum over axes of |p - q|^power)`; with `decay=None` they are independent. The
    vectors are trained and add std^2 R to the ntk. In the standard parameterization the parameters are the vectors
    themselves, and add 1 at equal positions. Under muP the vectors have the scales of biases, and add std^2 R times the
    number of added channels. `combine="concat"` adds `num_channels` channels, by default as many as the
    inputs have.

    The limit has many channels, so raw inputs with few channels should pass a `Dense` layer first. After "concat",
    channels differ in variance, so a linear layer has to come next. neural-tangents has the same encoding as a part of
    its attention layer (Hron et al. 2020). A fresh lambda as `decay` compiles again. Raises `InputError` unless `decay`
    gives a positive semi-definite R.

    >>> import jax
    >>> from ntkbias.layers import PositionalEncoding
    >>> layer = PositionalEncoding()
    >>> params = layer.init(jax.random.key(0), (5, 4))
    >>> layer.apply(params, jax.numpy.ones((2, 5, 4))).shape
    (2, 5, 4)
    """

    std: float = 1.0
    combine: Combine = eqx.field(static=True, default="sum")
    num_channels: int | None = eqx.field(static=True, default=None)
    decay: Callable[[Any], Any] | None = eqx.field(converter=held, default=None)
    power: float = eqx.field(static=True, default=2)
    parameterization: Parameterization = eqx.field(static=True, default="ntk")

    def __check_init__(self):
        require_scale("std of PositionalEncoding", self.std)
        require_choice("parameterization", self.parameterization, Parameterization)
        _require_combine(self)
        if self.decay is not None and not callable(self.decay):
            raise InputTypeError(
                f"Expected decay of PositionalEncoding to be a function of squared distances, or None; got "
                f"{self.decay!r}. Give e.g. lambda d: jnp.exp(-d)."
            )

    def _added_channels(self, channels: int) -> int:
        return channels if self.num_channels is None else self.num_channels

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_some_positions("PositionalEncoding", input_shape)
        *positions, channels = input_shape
        return (*positions, channels + (self._added_channels(channels) if self.combine == "concat" else 0))

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        self.output_shape(input_shape)
        *positions, channels = input_shape
        vectors = jax.random.normal(require_key(key), (*positions, self._added_channels(channels)))
        if self.parameterization == "standard":
            return {"encoding": self.std * self._correlated(vectors)}
        return {"encoding": self._scales(channels).bias_std(self.std) * vectors}

    def adam_rates(self, input_shape: tuple[int, ...]) -> Params:
        self.output_shape(input_shape)
        return {"encoding": self._scales(input_shape[-1]).adam_bias_rate}

    def _scales(self, channels: int) -> Scales:
        return Scales(self.parameterization, 1, self._added_channels(channels))

    def apply(self, params: Params, x: Float[Array, "n *positions c"]) -> Float[Array, "n *positions o"]:
        self.output_shape(x.shape[1:])
        vectors = params["encoding"]
        if self.parameterization != "standard":
            vectors = self._scales(x.shape[-1]).bias_multiplier(self.std) * self._correlated(vectors)
        return _combined(x, vectors.astype(x.dtype), self.combine)

    def _correlated(self, vectors: Float[Array, "*positions c"]) -> Float[Array, "*positions c"]:
        """Vectors with correlation R between positions, given independent ones."""
        if self.decay is None:
            return vectors
        _, root = _correlation(self.decay, self.power, vectors.shape[:-1])
        flat = jnp.asarray(root, vectors.dtype) @ vectors.reshape(len(root), -1)
        return flat.reshape(vectors.shape)

    def propagate(self, covariance: Covariance) -> Covariance:
        shape = self.output_shape(covariance.shape)
        *positions, channels = covariance.shape
        correlation, _ = _correlation(self.decay, self.power, tuple(positions))
        after = _encoded(covariance, self.std**2 * jnp.asarray(correlation, covariance.nngp.dtype), self.combine, shape)
        if not covariance.trained:
            return after
        own = np.eye(len(correlation)) if self.parameterization == "standard" else correlation
        own = self._scales(channels).bias_trained(self.std) * own
        share = 1 - channels / shape[-1] if self.combine == "concat" else 1.0
        added = share * _carried(jnp.asarray(own, after.nngp.dtype), covariance.cross, covariance.positions)
        ntk = jnp.broadcast_to(added, after.nngp.shape) if after.ntk is None else after.ntk + added
        return dataclasses.replace(after, ntk=ntk)


class SinusoidalEncoding(Layer):
    """Sines and cosines of the position, added to the inputs or concatenated to their channels (Vaswani et al. 2017).

    Each spatial axis gets the same number `m` of channels, one axis after the other. At position p its channels 2 i and
    2 i + 1 are std sin(p / max_period^(2 i / m)) and std cos(p / max_period^(2 i / m)). `num_channels` ("concat" only)
    defaults to the number of the inputs' channels, rounded up so that each axis gets whole pairs of sine and cosine.

    This is a fixed map: at the start of a network it acts on the inputs. After a linear layer, "sum" has a limit for
    many channels, and another linear layer has to come next, as after "concat".

    >>> import jax
    >>> from ntkbias.layers import SinusoidalEncoding
    >>> layer = SinusoidalEncoding()
    >>> params = layer.init(jax.random.key(0), (5, 4))
    >>> layer.apply(params, jax.numpy.ones((2, 5, 4))).shape
    (2, 5, 4)
    """

    std: float = 1.0
    combine: Combine = eqx.field(static=True, default="sum")
    num_channels: int | None = eqx.field(static=True, default=None)
    max_period: float = eqx.field(static=True, default=10_000.0)
    is_fixed = True

    def __check_init__(self):
        require_scale("std of SinusoidalEncoding", self.std)
        require_scale("max_period of SinusoidalEncoding", self.max_period)
        if self.max_period == 0:
            raise InputError("Expected max_period of SinusoidalEncoding above zero; got 0. Vaswani et al. take 10000.")
        _require_combine(self)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_some_positions("SinusoidalEncoding", input_shape)
        *positions, channels = input_shape
        added = self._waves(tuple(input_shape)).shape[-1]
        return (*positions, channels + (added if self.combine == "concat" else 0))

    def apply(self, params: Params, x: Float[Array, "n *positions c"]) -> Float[Array, "n *positions o"]:
        return _combined(x, self.std * jnp.asarray(self._waves(x.shape[1:]), x.dtype), self.combine)

    def propagate(self, covariance: Covariance) -> Covariance:
        if self.combine == "sum" and not covariance.gaussian:
            raise InputError(
                "Expected SinusoidalEncoding first in the network, or after a Dense or Conv layer; got an input that "
                'is not Gaussian of mean zero at infinite width. Move it, or use combine="concat".'
            )
        waves = self._waves(covariance.shape).reshape(math.prod(covariance.positions), -1)
        own = self.std**2 * jnp.asarray(waves @ waves.T / waves.shape[-1], covariance.nngp.dtype)
        after = _encoded(covariance, own, self.combine, self.output_shape(covariance.shape))
        return dataclasses.replace(after, gaussian=False)  # channels have means

    def _waves(self, input_shape: tuple[int, ...]) -> np.ndarray:
        """The encodings, `(*positions, number of added channels)`."""
        *positions, channels = input_shape
        pairs = 2 * len(positions)
        wanted = channels if self.num_channels is None else self.num_channels
        if self.num_channels is None and self.combine == "concat":
            wanted = -(-channels // pairs) * pairs
        if wanted % pairs:
            raise InputError(
                f"Expected a multiple of {pairs} channels for SinusoidalEncoding, a sine and a cosine for each spatial "
                f'axis; got {wanted}. Use combine="concat" with such a num_channels.'
            )
        each = wanted // len(positions)
        rates = self.max_period ** -(np.arange(0, each, 2) / each)
        parts = []
        for axis, size in enumerate(positions):
            angles = np.arange(size)[:, None] * rates
            waves = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(size, each)
            shape = [1] * len(positions) + [each]
            shape[axis] = size
            parts.append(np.broadcast_to(waves.reshape(shape), (*positions, each)))
        return np.concatenate(parts, -1)


def _correlation(decay: Callable | None, power: float, positions: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The correlation R between all positions, `(p, p)`, and its symmetric square root."""
    if decay is None:
        return np.eye(math.prod(positions)), np.eye(math.prod(positions))
    return _correlation_by(decay, power, positions)


@remembered
def _correlation_by(decay: Callable, power: float, positions: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    places = np.stack(np.meshgrid(*map(np.arange, positions), indexing="ij"), -1).reshape(-1, len(positions))
    distances = (np.abs(places[:, None] - places[None]).astype(float) ** power).sum(-1)
    with jax.ensure_compile_time_eval():
        correlation = np.asarray(decay(distances), np.float64)
        require_finite(jnp.asarray(correlation), "the correlation that decay gives")
    if correlation.shape != distances.shape:
        raise InputError(f"Expected decay to give one number per distance, {distances.shape}; got {correlation.shape}.")
    values, vectors = np.linalg.eigh(correlation)
    if values[0] < -MARGIN * max(values[-1], 0) or values[-1] < 0:
        raise InputError(
            f"Expected decay to give a positive semi-definite correlation of positions; got an eigenvalue of "
            f"{values[0]:.3g}. Use a positive definite function, e.g. lambda d: jnp.exp(-d)."
        )
    return correlation, (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _carried(correlation: Float[Array, "p p"], carried: Positions, positions: tuple[int, ...]) -> Array:
    """A matrix over positions, restricted to the pairs that are carried."""
    array = correlation if carried == Positions.ALL else jnp.diagonal(correlation)
    return array.reshape(*positions * int(carried))


def _encoded(
    covariance: Covariance, encoding: Float[Array, "p p"], combine: Combine, shape: tuple[int, ...]
) -> Covariance:
    """The covariance after encodings with covariance `encoding` are added or concatenated."""
    before = covariance.shape[-1] / shape[-1] if combine == "concat" else 1.0
    share = 1 - before if combine == "concat" else 1.0

    def total(array: Any, carried: Positions) -> Any:
        return None if array is None else before * array + share * _carried(encoding, carried, covariance.positions)

    return dataclasses.replace(
        covariance,
        nngp=total(covariance.nngp, covariance.cross),
        ntk=None if covariance.ntk is None else before * covariance.ntk,
        self1=total(covariance.self1, covariance.own),
        self2=total(covariance.self2, covariance.own),
        shape=shape,
        gaussian=covariance.gaussian and combine == "sum",
    )


def _combined(x: Array, vectors: Array, combine: Combine) -> Array:
    """The inputs with the encodings `(*positions, channels)` added or concatenated."""
    if combine == "sum":
        return x + vectors
    return jnp.concatenate([x, jnp.broadcast_to(vectors, (*x.shape[:-1], vectors.shape[-1]))], -1)


def _require_combine(layer: "PositionalEncoding | SinusoidalEncoding") -> None:
    name = type(layer).__name__
    require_choice(f"combine of {name}", layer.combine, Combine)
    if layer.num_channels is None:
        return
    require_positive(f"num_channels of {name}", layer.num_channels)
    if layer.combine == "sum":
        raise InputError(
            f'Expected no num_channels of {name} with combine="sum", which keeps the number of channels; got '
            f'{layer.num_channels}. Leave it out, or use combine="concat".'
        )

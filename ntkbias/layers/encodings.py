"""Encodings of positions, added to what a network has there or put beside its channels.

With R the correlation of positions, random encodings of deviation std add to the covariance ("sum"):

    PositionalEncoding        nngp'[p, q] = nngp[p, q] + std^2 R[p, q],     R[p, q] = decay(distance of p and q)

`SinusoidalEncoding` is a fixed map. First in a network it is applied to the inputs themselves, before there is a
covariance; `split_fixed` says which layers these are.

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
from ntkbias.types import Parameterization, Params

__all__ = ["Combine", "PositionalEncoding", "SinusoidalEncoding"]

Combine = Literal["sum", "concat"]
MARGIN = 1e-6  # of the largest eigenvalue: a covariance that is not positive by less has been rounded


class PositionalEncoding(Layer):
    """Random vectors, one a position and the same for all examples, added to the inputs or put beside their channels.

    Their entries are Gaussian, of deviation `std`, independent along channels and of correlation R[p, q] between
    positions: `decay(sum over axes of |p - q|^power)`, or independent where `decay` is None. They are trained, and add
    std^2 R to the ntk (in the standard parameterization, where they are parameters as they are, 1 at equal positions).
    `combine="concat"` adds `num_channels` channels, by default as many as the inputs have.

    The limit is that of many channels: raw inputs of a few channels should pass a `Dense` layer first. After "concat"
    channels differ in variance, and a linear layer has to come next. As in neural-tangents' attention (Hron et al.
    2020), where it belongs to the layer; a fresh lambda as `decay` compiles again. Raises `InputError` where `decay`
    gives no positive semi-definite R.
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
            vectors = self.std * self._correlated(vectors)
        return {"encoding": vectors}

    def apply(self, params: Params, x: Float[Array, "n *positions c"]) -> Float[Array, "n *positions o"]:
        self.output_shape(x.shape[1:])
        vectors = params["encoding"]
        if self.parameterization == "ntk":
            vectors = self.std * self._correlated(vectors)
        return _combined(x, vectors.astype(x.dtype), self.combine)

    def _correlated(self, vectors: Float[Array, "*positions c"]) -> Float[Array, "*positions c"]:
        """Vectors of correlation R between positions, given independent ones."""
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
        own = self.std**2 * correlation if self.parameterization == "ntk" else np.eye(len(correlation))
        share = 1 - channels / shape[-1] if self.combine == "concat" else 1.0
        added = share * _carried(jnp.asarray(own, after.nngp.dtype), covariance.cross, covariance.positions)
        ntk = jnp.broadcast_to(added, after.nngp.shape) if after.ntk is None else after.ntk + added
        return dataclasses.replace(after, ntk=ntk)


class SinusoidalEncoding(Layer):
    """Cosines and sines of the position, added to the inputs or put beside their channels (Vaswani et al. 2017).

    Channels 2 i and 2 i + 1 of the `m` of a spatial axis are std sin(p / max_period^(2 i / m)) and the cosine; several
    axes have as many each, one after the other. `num_channels` ("concat" alone) is by default that of the inputs, more
    where that makes no whole pairs. A fixed map: first in a network it is applied to the inputs; after a linear layer
    the sum's limit is that of many channels, and another linear layer has to come next, as after "concat".
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
        """The encodings `(*positions, channels added)`."""
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
    """The correlation R of all positions, `(p, p)`, and its symmetric square root."""
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
        raise InputError(f"Expected decay to give one number a distance, {distances.shape}; got {correlation.shape}.")
    values, vectors = np.linalg.eigh(correlation)
    if values[0] < -MARGIN * max(values[-1], 0) or values[-1] < 0:
        raise InputError(
            f"Expected decay to give a positive semi-definite correlation of positions; got an eigenvalue of "
            f"{values[0]:.3g}. Use a positive definite function, e.g. lambda d: jnp.exp(-d)."
        )
    return correlation, (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _carried(correlation: Float[Array, "p p"], carried: Positions, positions: tuple[int, ...]) -> Array:
    """A matrix of positions at the pairs that are carried."""
    array = correlation if carried == Positions.ALL else jnp.diagonal(correlation)
    return array.reshape(*positions * int(carried))


def _encoded(
    covariance: Covariance, encoding: Float[Array, "p p"], combine: Combine, shape: tuple[int, ...]
) -> Covariance:
    """The covariance after encodings of covariance `encoding` are added, or put beside the channels."""
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
    """The inputs with the encodings `(*positions, channels)` added, or beside them."""
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
            f'Expected no num_channels of {name} with combine="sum", where the inputs say it; got '
            f'{layer.num_channels}. Leave it out, or use combine="concat".'
        )

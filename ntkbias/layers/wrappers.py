"""Layers around other layers: one after the other, or one that is not trained.

>>> import jax
>>> from ntkbias.layers import Dense, Frozen, Relu, Sequential
>>> net = Sequential(Frozen(Dense(8)), Relu(), Dense(1))
>>> params = net.init(jax.random.key(0), (2,))
>>> net.apply(params, jax.numpy.ones((4, 2))).shape
(4, 1)
>>> net
Sequential: 3 layers
   layer
0  Frozen(Dense(8))
1  Relu()
2  Dense(1)
"""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_key
from ntkbias.errors import InputTypeError
from ntkbias.layers.covariance import Covariance, Needs
from ntkbias.layers.layer import Layer, layers_of
from ntkbias.layers.repeats import propagated
from ntkbias.tables import Table
from ntkbias.types import Params

__all__ = ["Frozen", "Sequential", "linear_layers", "split_fixed"]

MOST_LAYERS, LONGEST = 24, 60  # layers, and characters of one, that are printed


def _no_layer(value: Any) -> str:
    """What was given as a layer, and what to write instead, as the end of a sentence without its period."""
    if isinstance(value, type):
        return f"the class {value.__name__}. Write {value.__name__}(...)"
    if isinstance(value, str) or callable(value):
        name = value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
        what = repr(value) if isinstance(value, str) else f"the function {name}"
        return f'{what}. Write layers.activation("relu") or Relu(), or Elementwise(jax.nn.relu) for any function'
    return repr(value)


class Sequential(Layer):
    """Applies layers one after the other: `Sequential(a, b, c)`, or a list or tuple, `Sequential([a, b, c])`.

    The parameters are a list with one entry a layer.

    >>> import jax
    >>> from ntkbias.layers import Dense, Relu, Sequential
    >>> layer = Sequential(Dense(8), Relu(), Dense(1))
    >>> params = layer.init(jax.random.key(0), (4,))
    >>> layer.apply(params, jax.numpy.ones((2, 4))).shape
    (2, 1)
    """

    layers: tuple[Layer, ...]

    def __init__(self, *args: Layer | Iterable[Layer], layers: Iterable[Layer] | None = None):
        self.layers = layers_of("Sequential", "layers", args, layers)

    def __check_init__(self):
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise InputTypeError(f"Expected the layers of Sequential to be layers; got {_no_layer(layer)}.")

    def described(self) -> str:
        return f"Sequential({', '.join(layer.described() for layer in self.layers)})"

    def table(self, num_rows: int = MOST_LAYERS) -> Table:
        """What printing shows: a row a layer, with its place; of a long one, as of branches, the layers in it."""
        rows = [row for place, layer in enumerate(self.layers) for row in _rows(layer, str(place))]
        places, texts = (list(column)[:num_rows] for column in zip(*rows, strict=True)) if rows else ([], [])
        columns = {"": places, "layer": texts}
        return Table(f"Sequential: {len(self.layers)} layers", columns, more=len(rows) - len(places))

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        for layer in self.layers:
            input_shape = layer.output_shape(input_shape)
        return input_shape

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        params = []
        for layer, layer_key in zip(self.layers, jax.random.split(require_key(key), len(self.layers)), strict=True):
            params.append(layer.init(layer_key, input_shape))
            input_shape = layer.output_shape(input_shape)
        return params

    def adam_rates(self, input_shape: tuple[int, ...]) -> Params:
        rates = []
        for layer in self.layers:
            rates.append(layer.adam_rates(input_shape))
            input_shape = layer.output_shape(input_shape)
        return rates

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        for layer, layer_params in zip(self.layers, params, strict=True):
            x = layer.apply(layer_params, x)
        return x

    def propagate(self, covariance: Covariance) -> Covariance:
        return propagated(self.layers, covariance)

    def decorrelates(self, before: bool) -> bool:
        for layer in self.layers:
            before = layer.decorrelates(before)
        return before

    def needs(self, after: Needs) -> Needs:
        for layer in reversed(self.layers):
            after = layer.needs(after)
        return after


def _rows(layer: Layer, place: str) -> list[tuple[str, str]]:
    """A layer with its place; one that does not fit a line, and then the layers in it."""
    text = layer.described()
    fields = (getattr(layer, field.name) for field in dataclasses.fields(layer))
    parts = [part for value in fields for part in (value if isinstance(value, tuple) else (value,))]
    inner = [part for part in parts if isinstance(part, Layer)]
    if len(text) <= LONGEST or not inner:
        return [(place, text)]
    return [
        (place, type(layer).__name__),
        *(row for at, part in enumerate(inner) for row in _rows(part, f"{place}.{at}")),
    ]


class Frozen(Layer):
    """A layer whose random parameters are not trained: they add nothing to the NTK, finite or infinite.

    If every layer but the last is frozen and the last has no bias, the NTK equals the NNGP. The inputs and the
    parameters of earlier layers still have gradients.

    >>> import jax
    >>> from ntkbias.layers import Dense, Frozen
    >>> layer = Frozen(Dense(3))
    >>> params = layer.init(jax.random.key(0), (4,))
    >>> layer.apply(params, jax.numpy.ones((2, 4))).shape
    (2, 3)
    """

    layer: Layer

    def __check_init__(self):
        if not isinstance(self.layer, Layer):
            raise InputTypeError(f"Expected a layer in Frozen; got {self.layer!r}.")

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.layer.output_shape(input_shape)

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        return self.layer.init(key, input_shape)

    def adam_rates(self, input_shape: tuple[int, ...]) -> Params:
        return self.layer.adam_rates(input_shape)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.layer.apply(jax.lax.stop_gradient(params), x)

    def propagate(self, covariance: Covariance) -> Covariance:
        after = self.layer.propagate(dataclasses.replace(covariance, trained=False))
        return dataclasses.replace(after, trained=covariance.trained)

    def decorrelates(self, before: bool) -> bool:
        return self.layer.decorrelates(before)

    def needs(self, after: Needs) -> Needs:
        return self.layer.needs(after)


def linear_layers(net: Layer) -> list[Any]:
    """The layers in `net` that have a parameterization, in the order in which they are written."""
    if hasattr(net, "parameterization"):
        return [net]
    fields = (getattr(net, field.name) for field in dataclasses.fields(net))
    parts = [part for value in fields for part in (value if isinstance(value, tuple) else (value,))]
    return [each for part in parts if isinstance(part, Layer) for each in linear_layers(part)]


def split_fixed(net: Layer) -> tuple[Sequential, Sequential]:
    """The fixed maps at the start of a network, and the rest of it.

    >>> from ntkbias.layers import Angle, Dense, Sequential, split_fixed
    >>> fixed, rest = split_fixed(Sequential(Angle(), Dense(1)))
    >>> len(fixed.layers), len(rest.layers)
    (1, 1)
    """
    layers = list(_unnested(net))
    fixed = list(itertools.takewhile(lambda layer: layer.is_fixed, layers))
    return Sequential(tuple(fixed)), Sequential(tuple(layers[len(fixed) :]))


def _unnested(net: Layer) -> list[Layer]:
    """The layers of a network as one flat list, without nested Sequentials."""
    return [layer for part in net.layers for layer in _unnested(part)] if isinstance(net, Sequential) else [net]

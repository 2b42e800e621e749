"""The contract of a layer: it defines both its finite-width form and its infinite-width limit.

A layer is an immutable value. It initializes and applies itself at finite width, and carries a covariance through its
infinite-width limit. To add a layer, write one class in one file with the methods below; read `dense.py` first.

>>> import jax
>>> from ntkbias.layers import Dense, Relu, Sequential
>>> net = Sequential(Dense(16), Relu(), Dense(1))
>>> params = net.init(jax.random.key(0), (2,))
>>> net.apply(params, jax.numpy.ones((5, 2))).shape
(5, 1)
"""

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_key, require_positive, require_scale
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers.covariance import Covariance, Needs
from ntkbias.layers.parameterizations import Scales
from ntkbias.tables import Described
from ntkbias.types import Params

__all__ = [
    "Layer",
    "affine_init",
    "affine_rates",
    "layers_of",
    "require_depth",
    "require_positions",
    "require_scales",
    "require_some_positions",
]

PLAIN = int | float | str | tuple  # values that are compared with defaults
DEEPEST = 10_000  # layers: half a minute for an infinite kernel, which compiles one, and ten for a finite network


class Layer(Described):
    """One layer, or one network: a composition of layers is a layer.

    The default methods suit a layer without parameters or positions. A fixed map (`is_fixed`) has no parameters. At the
    start of a network it acts on the inputs themselves.

    >>> import jax
    >>> from ntkbias.layers import Dense, Layer, Relu, Sequential
    >>> layer = Sequential(Dense(8), Relu(), Dense(1))  # a composition of layers is a layer
    >>> params = layer.init(jax.random.key(0), (4,))
    >>> layer.apply(params, jax.numpy.ones((2, 4))).shape
    (2, 1)
    """

    is_fixed = False

    def described(self) -> str:
        """The layer as it is written in code, without arguments that are the default."""
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.default is dataclasses.MISSING:
                parts.append(_written(value))
            elif not (value is field.default or (isinstance(value, PLAIN) and value == field.default)):
                parts.append(f"{field.name}={_written(value)}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one output, given that of one input; neither has the batch axis."""
        return input_shape

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        """Random parameters for inputs of `input_shape` (without the batch axis); `()` if there are none."""
        require_key(key)
        return ()

    def adam_rates(self, input_shape: tuple[int, ...]) -> Params:
        """The factors of Adam's learning rate under muP, a pytree like the parameters: ones unless "mup" says more.

        `training.scale_by_mup` is the optax transformation that applies them.
        """
        like = jax.eval_shape(lambda: self.init(jax.random.key(0), input_shape))
        return jax.tree.map(lambda _: 1.0, like)

    @abc.abstractmethod
    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        """The layer's outputs for a batch of inputs."""

    @abc.abstractmethod
    def propagate(self, covariance: Covariance) -> Covariance:
        """The covariance of the outputs, given that of the inputs, as the width goes to infinity."""

    def decorrelates(self, before: bool) -> bool:
        """Whether outputs are uncorrelated with the network's earlier values; `before` says so of this layer's inputs.

        Fresh random weights make them uncorrelated. An activation ends this, because its mean is not zero.
        """
        return before

    def needs(self, after: Needs) -> Needs:
        """The parts of its inputs' covariance that `propagate` needs, given those that later layers need after it."""
        return after


def layers_of(
    name: str, field: str, args: tuple[Layer | Iterable[Layer], ...], named: Iterable[Layer] | None
) -> tuple[Layer, ...]:
    """The layers that are given one by one, as one list or tuple, or as the keyword `field` of the type `name`."""
    if args and named is not None:
        raise InputTypeError(f"Expected layers of {name} one by one, or as {field}=; got both.")
    given = args if named is None else (named,)
    if len(given) == 1 and not isinstance(given[0], Layer) and isinstance(given[0], Iterable):
        return tuple(given[0])
    return given  # type: ignore[return-value]  # what is no layer is refused by __check_init__


def _written(value: Any) -> str:
    """An argument of a layer: numbers in four digits, arrays by their shapes."""
    if isinstance(value, Layer):
        return value.described()
    if isinstance(value, tuple):
        return f"({', '.join(map(_written, value))}{',' * (len(value) == 1)})"
    if isinstance(value, float):
        return f"{value:.4g}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)


def affine_init(
    key: PRNGKeyArray,
    shape: tuple[int, ...],
    *,
    scales: Scales,
    w_std: float,
    b_std: float | None,
    b_init: float,
) -> dict[str, Array]:
    """Random weights of `shape`, outputs last, and biases if `b_std` is given, at the scales of a parameterization."""
    w_key, b_key = jax.random.split(require_key(key))
    params = {"w": scales.std(w_std) * jax.random.normal(w_key, shape)}
    if b_std is not None:
        params["b"] = b_init * scales.bias_std(b_std) * jax.random.normal(b_key, shape[-1:])
    return params


def affine_rates(scales: Scales, has_bias: bool) -> dict[str, float]:
    """The factors of Adam's learning rate for the parameters that `affine_init` draws."""
    return {"w": scales.adam_rate, **({"b": scales.adam_bias_rate} if has_bias else {})}


def require_depth(name: str, value: object) -> None:
    """Raise an `InputError` unless `value` is a number of layers, or of blocks, that a network can have."""
    require_positive(name, value)
    if value > DEEPEST:  # type: ignore[operator]
        raise InputError(
            f"Expected {name} to be at most {DEEPEST}; got {value}. Each layer is made and traced on its own, which "
            "would take minutes to hours: choose fewer."
        )


def require_positions(name: str, input_shape: tuple[int, ...], num_positions: int | None = None) -> None:
    """Raise an `InputError` unless one input is `(*positions, channels)` with `num_positions` spatial axes.

    `num_positions=None` accepts any number of spatial axes. Sizes have to be positive.
    """
    if not isinstance(input_shape, tuple | list):
        raise InputTypeError(f"Expected the shape of one input of {name}, as (8, 8, 1); got {input_shape!r}.")
    for size in input_shape:
        require_positive(f"every size of the input shape {tuple(input_shape)} of {name}", size)
    got = len(input_shape) - 1
    if (num_positions is None and got >= 0) or got == num_positions:
        return
    wanted = "at least one axis" if num_positions is None else f"{num_positions} spatial axes and one of channels"
    raise InputError(
        f"Expected inputs of {name} to have {wanted}; got shape {tuple(input_shape)} without the batch axis. "
        "Reshape the inputs, or put Flatten before a Dense layer."
    )


def require_some_positions(name: str, input_shape: tuple[int, ...]) -> None:
    """Raise an `InputError` unless one input is `(*positions, channels)` with at least one spatial axis."""
    require_positions(name, input_shape)
    if len(input_shape) == 1:
        raise InputError(
            f"Expected inputs of {name} to have positions, (n, *positions, channels); got shape {tuple(input_shape)} "
            "without the batch axis. Reshape the inputs, e.g. x[:, :, None]."
        )


def require_scales(layer: Layer) -> None:
    """Raise an `InputError` unless the `w_std`, `b_std` and `b_init` of a linear layer are finite and not negative."""
    for name in ("w_std", "b_std", "b_init"):
        if (value := getattr(layer, name)) is not None:
            require_scale(f"{name} of {type(layer).__name__}", value)

"""Named architectures, as plain functions that return a layer.

`depth` counts hidden layers. Weights of the hidden layers have the activation's critical gain (sqrt 2 for ReLU), those
of the first and last layer have `w_std` 1, unless `w_std` is given, which then holds for every layer.

>>> import jax
>>> from ntkbias import nets
>>> net = nets.mlp(width=512, depth=3, num_outputs=1)
>>> params = net.init(jax.random.key(0), (2,))
>>> net.apply(params, jax.numpy.ones((4, 2))).shape
(4, 1)
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from ntkbias.layers import Activation, Conv, Dense, Flatten, GlobalAvgPool, Layer, Sequential, activation
from ntkbias.layers.conv import Padding
from ntkbias.types import Parameterization, require_choice, require_positive

__all__ = ["Readout", "cnn", "mlp"]

Readout = Literal["flatten", "pool"]


def mlp(
    width: int = 512,
    depth: int = 2,
    num_outputs: int = 1,
    *,
    activation: str | Activation = "relu",
    w_std: float | None = None,
    b_std: float | None = None,
    b_init: float = 1.0,
    parameterization: Parameterization = "ntk",
) -> Layer:
    """A multi-layer perceptron with `depth` hidden layers of `width` units, on inputs of any shape (flattened first).

    `b_std=None` means no biases. In the limit of infinite width, `width` matters in the standard parameterisation only.
    """
    phi, stds = _activation_and_stds(activation, depth, w_std)
    require_positive("width", width)
    dense = partial(Dense, b_std=b_std, b_init=b_init, parameterization=parameterization)
    hidden = [layer for std in stds[:-1] for layer in (dense(width, std), phi)]
    return Sequential((Flatten(), *hidden, dense(num_outputs, stds[-1])))


def cnn(
    width: int = 128,
    depth: int = 2,
    num_outputs: int = 1,
    *,
    readout: Readout = "flatten",
    kernel_size: Sequence[int] = (3, 3),
    strides: Sequence[int] | None = None,
    padding: Padding = "SAME",
    activation: str | Activation = "relu",
    w_std: float | None = None,
    b_std: float | None = None,
    b_init: float = 1.0,
    parameterization: Parameterization = "ntk",
) -> Layer:
    """A convolutional network with `depth` convolutions of `width` channels, on inputs `(n, *positions, channels)`.

    `readout="flatten"` keeps positions apart before the last dense layer; `"pool"` averages over them, which makes the
    function insensitive to shifts, and its infinite-width kernel the square of the number of positions dearer.
    """
    require_choice("readout", readout, Readout)
    phi, stds = _activation_and_stds(activation, depth, w_std)
    require_positive("width", width)
    dense = partial(Dense, b_std=b_std, b_init=b_init, parameterization=parameterization)
    conv = partial(
        Conv,
        kernel_size=tuple(kernel_size),
        strides=None if strides is None else tuple(strides),
        padding=padding,
        b_std=b_std,
        b_init=b_init,
        parameterization=parameterization,
    )
    hidden = [layer for std in stds[:-1] for layer in (conv(width, w_std=std), phi)]
    last = Flatten() if readout == "flatten" else GlobalAvgPool()
    return Sequential((*hidden, last, dense(num_outputs, stds[-1])))


def _activation_and_stds(name: str | Activation, depth: int, w_std: float | None) -> tuple[Activation, list[float]]:
    """The activation, and the weights' standard deviation of each of the `depth + 1` linear layers."""
    require_positive("depth", depth)
    phi = activation(name)
    if w_std is not None:
        return phi, [w_std] * (depth + 1)
    return phi, [1.0, *[phi.gain] * (depth - 1), 1.0]

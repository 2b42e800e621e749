"""Networks of dense layers, of convolutions, and of Fourier features."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from ntkbias.checks import require_array, require_choice, require_finite, require_positive
from ntkbias.errors import InputTypeError
from ntkbias.layers import Activation, Angle, Conv, Dense, Flatten, FourierFeatures, Layer, Sequential
from ntkbias.layers.conv import Padding
from ntkbias.nets.options import READOUTS, Readout, activation_and_stds, is_mup
from ntkbias.types import Parameterization

__all__ = ["cnn", "fourier_features", "mlp"]


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

    `b_std=None` means no biases. At infinite width, `width` matters in the standard parameterization only, and under
    muP for the NNGP kernel, as outputs vanish at initialization.

    >>> import jax, ntkbias as nb
    >>> net = nb.nets.mlp(width=16, depth=2, num_outputs=3)
    >>> net.apply(net.init(jax.random.key(0), (5,)), jax.numpy.ones((4, 5))).shape
    (4, 3)
    """
    phi, stds = activation_and_stds(activation, depth, w_std)
    require_positive("width", width)
    dense = partial(Dense, b_std=b_std, b_init=b_init, parameterization=parameterization)
    hidden = [layer for std in stds[:-1] for layer in (dense(width, std), phi)]
    return Sequential((Flatten(), *hidden, dense(num_outputs, stds[-1], readout=is_mup(parameterization))))


def cnn(
    width: int = 128,
    depth: int = 2,
    num_outputs: int = 1,
    *,
    readout: Readout = "flatten",
    kernel_size: Sequence[int] = (3, 3),
    strides: Sequence[int] | None = None,
    padding: Padding = "SAME",
    dilation: Sequence[int] | None = None,
    activation: str | Activation = "relu",
    w_std: float | None = None,
    b_std: float | None = None,
    b_init: float = 1.0,
    parameterization: Parameterization = "ntk",
) -> Layer:
    """A convolutional network with `depth` convolutions of `width` channels, on inputs `(n, *positions, channels)`.

    `readout="flatten"` keeps positions separate before the last dense layer. `"pool"` averages over them. This makes
    the function insensitive to shifts, and its infinite-width kernel costs the square of the number of positions.

    >>> import jax, ntkbias as nb
    >>> net = nb.nets.cnn(width=4, depth=1, num_outputs=3, readout="pool")
    >>> net.apply(net.init(jax.random.key(0), (4, 4, 1)), jax.numpy.ones((2, 4, 4, 1))).shape
    (2, 3)
    """
    require_choice("readout", readout, Readout)
    phi, stds = activation_and_stds(activation, depth, w_std)
    require_positive("width", width)
    options: dict[str, Any] = {"b_std": b_std, "b_init": b_init, "parameterization": parameterization}
    strides, dilation = (None if sizes is None else tuple(sizes) for sizes in (strides, dilation))
    convs = [Conv(width, tuple(kernel_size), strides, padding, std, dilation=dilation, **options) for std in stds[:-1]]
    hidden = [layer for conv in convs for layer in (conv, phi)]
    return Sequential(
        (*hidden, READOUTS[readout], Dense(num_outputs, stds[-1], readout=is_mup(parameterization), **options))
    )


def fourier_features(
    net: Layer,
    *,
    num_frequencies: int = 16,
    decay: float = 1.0,
    domain: Literal["interval", "circle"] = "interval",
) -> Layer:
    """A network applied to Fourier features of its inputs (Tancik et al. 2020, arXiv 2006.10739).

    The features are a_j cos(2 pi j v) and a_j sin(2 pi j v) for j = 1, ..., `num_frequencies`, with a_j = j^-decay
    (`decay` is the paper's p). The smaller `decay` is, the flatter is the spectrum of the composed NTK. On an
    "interval" v is each coordinate of the inputs `(n, d)`, and the features have period 1. On a "circle" the inputs are
    points `(n, 2)`, as from `domains.Circle`, and v is their angle over 2 pi, so the features are harmonics. For other
    frequencies put `FourierFeatures` before the network; for random ones put `RandomFourierFeatures`.

    >>> import jax, ntkbias as nb
    >>> net = nb.nets.fourier_features(nb.nets.mlp(width=16, depth=1), num_frequencies=4)
    >>> net.apply(net.init(jax.random.key(0), (1,)), jax.numpy.ones((2, 1))).shape
    (2, 1)
    """
    if not isinstance(net, Layer):
        raise InputTypeError(f"Expected a network made of ntkbias layers, e.g. nets.mlp(); got {net!r}.")
    require_positive("num_frequencies", num_frequencies)
    require_finite(require_array(decay, "decay"), "decay")
    require_choice("domain", domain, ("interval", "circle"))
    frequencies = tuple(range(1, num_frequencies + 1))
    features = FourierFeatures(frequencies, tuple(j**-decay for j in frequencies))
    return Sequential((*((Angle(),) if domain == "circle" else ()), features, net))

"""Named architectures, as plain functions that return a layer.

`depth` counts hidden layers. By default `w_std` is the activation's critical gain in hidden layers (sqrt 2 for ReLU)
and 1 in the first and the last layer. A `w_std` that you give holds for every layer.

>>> import jax
>>> from ntkbias import nets
>>> net = nets.mlp(width=512, depth=3, num_outputs=1)
>>> params = net.init(jax.random.key(0), (2,))
>>> net.apply(params, jax.numpy.ones((4, 2))).shape
(4, 1)
>>> nets.myrtle(depth=5, num_outputs=10).output_shape((32, 32, 3))
(10,)
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import equinox as eqx

from ntkbias.checks import require_array, require_choice, require_finite, require_positive
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import (
    Activation,
    Angle,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    FourierFeatures,
    GlobalAvgPool,
    Identity,
    Layer,
    LayerNorm,
    Residual,
    SelfAttention,
    Sequential,
    activation,
)
from ntkbias.layers.attention import Mechanism, Scaling
from ntkbias.layers.conv import Padding
from ntkbias.layers.layer import require_depth
from ntkbias.types import Parameterization

__all__ = ["Leaves", "Norm", "Readout"]
__all__ += ["cnn", "fourier_features", "mlp", "myrtle", "patch_network", "resnet", "transformer"]


def __dir__() -> list[str]:
    return sorted(__all__)


Readout = Literal["flatten", "pool"]
Norm = Literal["pre", "post", "none"]

READOUTS: dict[str, Layer] = {"flatten": Flatten(), "pool": GlobalAvgPool()}
MYRTLE = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}  # depth of `myrtle` -> convolutions in each of its three stages


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

    `b_std=None` means no biases. At infinite width, `width` matters only in the standard parameterization.
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
    """
    require_choice("readout", readout, Readout)
    phi, stds = _activation_and_stds(activation, depth, w_std)
    require_positive("width", width)
    options: dict[str, Any] = {"b_std": b_std, "b_init": b_init, "parameterization": parameterization}
    strides, dilation = (None if sizes is None else tuple(sizes) for sizes in (strides, dilation))
    convs = [Conv(width, tuple(kernel_size), strides, padding, std, dilation=dilation, **options) for std in stds[:-1]]
    hidden = [layer for conv in convs for layer in (conv, phi)]
    return Sequential((*hidden, READOUTS[readout], Dense(num_outputs, stds[-1], **options)))


def resnet(
    width: int = 16,
    block_size: int = 1,
    num_outputs: int = 1,
    *,
    k: int = 1,
    strides: Sequence[int] = (1, 2, 2),
    readout: Readout = "pool",
    kernel_size: Sequence[int] = (3, 3),
    padding: Padding = "SAME",
    activation: str | Activation = "relu",
    w_std: float | None = None,
    b_std: float | None = None,
    b_init: float = 1.0,
    parameterization: Parameterization = "ntk",
) -> Layer:
    """A wide residual network (Zagoruyko and Komodakis 2016, arXiv 1605.07146) on inputs `(n, *positions, channels)`.

    A convolution of `width` channels comes first. It is followed by one group of `block_size` blocks per entry of
    `strides`; the first block of a group applies that stride along every spatial axis. Group g = 0, 1, ... has
    `width * k * 2**g` channels. A block is phi, conv, phi, conv plus a shortcut. The shortcut is a convolution in the
    first block of a group and the identity in the others.

    With three groups this is WRN-(6 block_size + 4)-k without normalization, as in neural-tangents' examples. As there,
    no activation precedes the readout. A convolution in a shortcut has `w_std` 1 by default, because no activation
    precedes it, so each block doubles the variance.
    """
    require_choice("readout", readout, Readout)
    phi, (first, hidden, last) = _activation_and_stds(activation, 2, w_std)
    require_depth("block_size", block_size)
    for name, count in (("width", width), ("k", k)):
        require_positive(name, count)
    _require_counts("strides of resnet, one per group,", strides)
    options: dict[str, Any] = {"b_std": b_std, "b_init": b_init, "parameterization": parameterization}
    sizes = tuple(kernel_size)

    def conv(channels: int, stride: int, std: float) -> Layer:
        return Conv(channels, sizes, (stride,) * len(sizes), padding, std, **options)

    def block(channels: int, stride: int, shortcut: bool) -> Layer:
        branch = Sequential((phi, conv(channels, stride, hidden), phi, conv(channels, 1, hidden)))
        return Residual(branch, conv(channels, stride, first) if shortcut else Identity())

    blocks = [
        block(width * k * 2**group, stride if place == 0 else 1, place == 0)
        for group, stride in enumerate(strides)
        for place in range(block_size)
    ]
    return Sequential((conv(width, 1, first), *blocks, READOUTS[readout], Dense(num_outputs, last, **options)))


def myrtle(
    width: int = 64,
    depth: int = 5,
    num_outputs: int = 1,
    *,
    activation: str | Activation = "relu",
    w_std: float | None = None,
    b_std: float | None = None,
    b_init: float = 1.0,
    parameterization: Parameterization = "ntk",
) -> Layer:
    """The Myrtle network of 5, 7 or 10 layers (Shankar et al. 2020, arXiv 2003.02237) on images `(n, h, w, channels)`.

    The network has three stages of 3 x 3 convolutions, each followed by phi: 2, 1, 1 convolutions for `depth=5`,
    2, 2, 2 for 7 and 3, 3, 3 for 10. (`depth` counts the last dense layer too, as the paper does.) A 2 x 2 average pool
    ends each of the first two stages. An average over all remaining positions ends the third; on 32 x 32 images it
    equals the paper's three 2 x 2 pools. Images of other sizes work too, but if 4 does not divide a side, the pools
    drop its last rows or columns. The infinite-width kernel costs the square of the number of pixels, which is a
    million pairs on 32 x 32 images.
    """
    if depth not in MYRTLE:
        raise InputError(f"Expected depth of myrtle to be one of {', '.join(map(str, MYRTLE))}; got {depth!r}.")
    phi, stds = _activation_and_stds(activation, sum(MYRTLE[depth]), w_std)
    require_positive("width", width)
    options: dict[str, Any] = {"b_std": b_std, "b_init": b_init, "parameterization": parameterization}
    pools = (AvgPool((2, 2), (2, 2)), AvgPool((2, 2), (2, 2)), GlobalAvgPool())
    scales = iter(stds)
    layers: list[Layer] = []
    for count, pool in zip(MYRTLE[depth], pools, strict=True):
        for _ in range(count):
            layers += [Conv(width, (3, 3), w_std=next(scales), **options), phi]
        layers.append(pool)
    return Sequential((*layers, Dense(num_outputs, next(scales), **options)))


def patch_network(
    width: int = 512,
    branching: Sequence[int] = (4, 4),
    num_outputs: int = 1,
    *,
    additive: bool = False,
    activation: str | Activation = "relu",
    w_std: float | None = None,
    b_std: float | None = None,
    b_init: float = 1.0,
    parameterization: Parameterization = "ntk",
) -> Layer:
    """A convolutional network with windows that do not overlap: a regular tree (Xiao 2021, arXiv 2112.05611).

    Inputs are `(n, leaves, leaf_dimension)`: positions are patches, and channels are their coordinates. A linear map
    and phi act on each leaf. Then, for each number p in `branching`, from the leaves to the root, a convolution joins p
    neighbors into one node, and phi follows. The last layer is the linear output. The number of leaves is the product
    of `branching`. All leaves have the same depth, and all nodes of a level have the same number of children. With
    p * p leaves, `branching=(p * p,)` is the paper's S-CNN and `(p, p)` its D-CNN; `mlp` is its MLP.

    Let S be the NNGP and T the NTK, with weights that keep the variance of phi at one. A leaf has S = T = t, its
    correlation. A node has S = mean over its children of phi*(S), and T = mean over its children of
    phi*(S) + phi*'(S) T. The output has the same form, with the root as its only child. `additive=True` leaves out the
    root and its phi: the output is then a mean over the root's children, hence a sum of functions of one child each.
    """
    _require_counts("branching of patch_network", branching)
    if not isinstance(additive, bool):
        raise InputTypeError(f"Expected additive to be True or False; got {additive!r}.")
    joins = tuple(branching)[:-1] if additive else tuple(branching)
    phi, stds = _activation_and_stds(activation, 1 + len(joins), w_std)
    require_positive("width", width)
    options: dict[str, Any] = {"b_std": b_std, "b_init": b_init, "parameterization": parameterization}
    nodes: list[Layer] = []
    for p, std in zip(joins, stds[1:-1], strict=True):
        nodes += [Conv(width, (p,), (p,), "VALID", w_std=std, **options), phi]
    leaves = (Leaves(math.prod(branching)), Dense(width, stds[0], **options), phi)
    return Sequential((*leaves, *nodes, Flatten(), Dense(num_outputs, stds[-1], **options)))


def transformer(
    width: int = 128,
    depth: int = 2,
    num_outputs: int = 1,
    *,
    num_heads: int = 4,
    readout: Readout = "pool",
    norm: Norm = "pre",
    encoding: Layer | None = None,
    scaling: Scaling = "linear",
    mechanism: Mechanism = "softmax",
    hidden_width: int | None = None,
    activation: str | Activation = "relu",
    w_std: float | None = None,
    b_std: float | None = None,
    b_init: float = 1.0,
    parameterization: Parameterization = "ntk",
) -> Layer:
    """A transformer of `depth` blocks (Vaswani et al. 2017) on inputs `(n, *positions, channels)`.

    A dense layer embeds each position. Each block adds self-attention to its input, and then adds two dense layers, the
    first of which has `hidden_width` units (default: 4 `width`). `norm="pre"` puts a LayerNorm before both additions,
    and one before the readout, as in GPT-2. "post" puts one after each sum, as in Vaswani et al. "none" uses none. Sums
    of linear layers are Gaussian at infinite width, so all three have a limit. `encoding`, e.g. `PositionalEncoding()`,
    comes after the embedding. Without one, a pooled transformer does not see the order of positions. (Put
    `SinusoidalEncoding` before the network: after the embedding it would give channels nonzero means, and LayerNorm
    would have no limit.)

    Each head has `width / num_heads` keys and values. `scaling` and `mechanism` are those of `SelfAttention`. Practice
    uses "sqrt" and "softmax", which have no limit in closed form. The attention's weights and the first dense layer of
    a block have `w_std` 1, because no activation precedes them. The second dense layer has the activation's gain.
    """
    require_choice("readout", readout, Readout)
    require_choice("norm", norm, Norm)
    phi, (first, hidden, last) = _activation_and_stds(activation, 2, w_std)
    require_depth("depth", depth)
    for name, count in (("width", width), ("num_heads", num_heads), ("num_outputs", num_outputs)):
        require_positive(name, count)
    if width % num_heads:
        raise InputError(f"Expected a width that num_heads divides; got width={width} and num_heads={num_heads}.")
    if encoding is not None and not isinstance(encoding, Layer):
        raise InputTypeError(f"Expected encoding to be a layer, e.g. PositionalEncoding(); got {encoding!r}.")
    options: dict[str, Any] = {"b_std": b_std, "b_init": b_init, "parameterization": parameterization}
    dense = partial(Dense, b_std=b_std, b_init=b_init, parameterization=parameterization)
    size = width // num_heads
    attention = SelfAttention(width, size, size, num_heads, scaling, mechanism, first, first, first, first, **options)
    perceptron = (dense(4 * width if hidden_width is None else hidden_width, first), phi, dense(width, hidden))
    before, after = ((LayerNorm(),) if norm == where else () for where in ("pre", "post"))
    block = (Residual(Sequential((*before, attention))), *after, Residual(Sequential((*before, *perceptron))), *after)
    embedding = (dense(width, first), *(() if encoding is None else (encoding,)))
    return Sequential((*embedding, *block * depth, *before, READOUTS[readout], dense(num_outputs, last)))


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
    """
    if not isinstance(net, Layer):
        raise InputTypeError(f"Expected a network made of ntkbias layers, e.g. nets.mlp(); got {net!r}.")
    require_positive("num_frequencies", num_frequencies)
    require_finite(require_array(decay, "decay"), "decay")
    require_choice("domain", domain, ("interval", "circle"))
    frequencies = tuple(range(1, num_frequencies + 1))
    features = FourierFeatures(frequencies, tuple(j**-decay for j in frequencies))
    return Sequential((*((Angle(),) if domain == "circle" else ()), features, net))


class Leaves(Identity):
    """The identity, with a check that the inputs have one patch per leaf of the tree that follows."""

    num_leaves: int = eqx.field(static=True)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The same shape. Raises `InputError` if the number of patches differs from the number of leaves."""
        if len(input_shape) != 2 or input_shape[0] != self.num_leaves:
            raise InputError(
                f"Expected inputs of patch_network to be {self.num_leaves} leaves with their coordinates, (n, "
                f"{self.num_leaves}, leaf_dimension); got shape {tuple(input_shape)} without the batch axis. Reshape "
                "the inputs, or give a branching whose product is the number of leaves."
            )
        return input_shape


def _require_counts(name: str, values: object) -> None:
    """Raise an `InputError` unless `values` is a sequence of positive whole numbers."""
    if not isinstance(values, tuple | list) or not values:
        raise InputTypeError(f"Expected {name} to be whole numbers, as (2, 2); got {values!r}.")
    for value in values:
        require_positive(f"every number in {name}", value)


def _activation_and_stds(name: str | Activation, depth: int, w_std: float | None) -> tuple[Activation, list[float]]:
    """The activation, and the standard deviation of the weights in each of the `depth + 1` linear layers."""
    require_depth("depth", depth)
    phi = activation(name)
    if w_std is not None:
        return phi, [w_std] * (depth + 1)
    return phi, [1.0, *[phi.gain] * (depth - 1), 1.0]

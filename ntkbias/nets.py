"""Named architectures, as plain functions that return a layer.

`depth` counts hidden layers. Weights of the hidden layers have the activation's critical gain (sqrt 2 for ReLU), those
of the first and last layer have `w_std` 1, unless `w_std` is given, which then holds for every layer.

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
MYRTLE = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}  # depth of `myrtle` -> convolutions between its pools


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

    `b_std=None` means no biases. In the limit of infinite width, `width` matters in the standard parameterization only.
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

    `readout="flatten"` keeps positions apart before the last dense layer; `"pool"` averages over them, which makes the
    function insensitive to shifts, and its infinite-width kernel the square of the number of positions dearer.
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

    A convolution of `width` channels, then one group of `block_size` blocks for each of `strides`, which is taken along
    every spatial axis by the group's first block; group g = 0, 1, ... has `width * k * 2**g` channels. A block is phi,
    conv, phi, conv, plus a shortcut: a convolution in the first block of a group, the identity in the others. With
    three groups this is WRN-(6 block_size + 4)-k without normalization, as in neural-tangents' examples, and like there
    no activation stands before the readout. A convolution in a shortcut has `w_std` 1 by default, for no activation
    precedes it, so that each block doubles the variance.
    """
    require_choice("readout", readout, Readout)
    phi, (first, hidden, last) = _activation_and_stds(activation, 2, w_std)
    require_depth("block_size", block_size)
    for name, count in (("width", width), ("k", k)):
        require_positive(name, count)
    _require_counts("strides of resnet, one a group,", strides)
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

    Three stages of 3 x 3 convolutions, each followed by phi: 2, 1, 1 convolutions for `depth=5`, 2, 2, 2 for 7 and
    3, 3, 3 for 10 (`depth` counts the last dense layer too, as the paper does). A 2 x 2 average pool ends each of the
    first two stages, and an average over all that is left the third: on 32 x 32 images the three 2 x 2 pools of the
    paper. Other images work as well; of sides that 4 does not divide, the pools drop the last row or column. The
    infinite-width kernel costs the square of the number of pixels, a million pairs of them on 32 x 32 images.
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
    """A convolutional network whose windows do not overlap: a regular tree (Xiao 2021, arXiv 2112.05611).

    Inputs are `(n, leaves, leaf_dimension)`: patches as positions, their coordinates as channels. A linear map of each
    leaf and phi; then, for each number p of `branching`, from the leaves to the root, a convolution that joins p
    neighbors to one node, and phi; then the output. There are as many leaves as the product of `branching`. With
    p * p leaves, `branching=(p * p,)` is the paper's S-CNN and `(p, p)` its D-CNN; `mlp` is its MLP.

    With S = T = t, the correlation of two leaves, and weights that keep phi's variance at one, a node has S = mean over
    children of phi*(S) and T = mean of phi*(S) + phi*'(S) T: so has the output, of its one child, the root.
    `additive=True` leaves out the root and its phi: the output is the mean over the root's children, and a sum of
    functions of one of them each.

    All leaves have one depth, and all nodes of a level as many children.
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

    A dense layer embeds each position; each block adds self-attention to its input, then two dense layers of which the
    first has `hidden_width` (default: 4 `width`) units. `norm="pre"` puts LayerNorm before each of the two, and one
    before the readout (as GPT-2), "post" after each sum (as Vaswani et al.), "none" leaves it out. Sums of linear
    layers are Gaussian in the limit, so all three have one. `encoding`, e.g. `PositionalEncoding()`, comes after the
    embedding; without one a pooled transformer does not see the order of positions. (Put `SinusoidalEncoding` before
    the network: after the embedding, channels would have means, and LayerNorm no limit.)

    Heads have `width / num_heads` keys and values; `scaling` and `mechanism` are those of `SelfAttention`, as in use
    "sqrt" and "softmax", which have no limit in closed form. The first dense layer of a block has `w_std` 1, for no
    activation precedes it, as have the attention's weights, and the second the activation's gain.
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
    """A network of the Fourier features of its inputs (Tancik et al. 2020, arXiv 2006.10739).

    The features are a_j cos(2 pi j v) and a_j sin(2 pi j v) for j = 1, ..., `num_frequencies`, with a_j = j^-decay
    (the paper's p): the smaller `decay` is, the flatter is the spectrum of the composed NTK. On an "interval" v is each
    coordinate of the inputs `(n, d)`, with a period of 1; on a "circle" they are points `(n, 2)`, as those of
    `domains.Circle`, and v their angle over 2 pi, so that the features are harmonics. For other frequencies put
    `FourierFeatures` or, for random ones, `RandomFourierFeatures` before the network.
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
    """Checks that inputs have as many patches as the tree that follows has leaves."""

    num_leaves: int = eqx.field(static=True)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape as it is, or an `InputError` where the number of patches differs."""
        if len(input_shape) != 2 or input_shape[0] != self.num_leaves:
            raise InputError(
                f"Expected inputs of patch_network to be {self.num_leaves} leaves with their coordinates, (n, "
                f"{self.num_leaves}, leaf_dimension); got shape {tuple(input_shape)} without the batch axis. Reshape "
                "the inputs, or give a branching whose product is the number of leaves."
            )
        return input_shape


def _require_counts(name: str, values: object) -> None:
    """Raise an `InputError` unless `values` is a sequence of whole numbers of at least one."""
    if not isinstance(values, tuple | list) or not values:
        raise InputTypeError(f"Expected {name} to be whole numbers, as (2, 2); got {values!r}.")
    for value in values:
        require_positive(f"every number in {name}", value)


def _activation_and_stds(name: str | Activation, depth: int, w_std: float | None) -> tuple[Activation, list[float]]:
    """The activation, and the weights' standard deviation of each of the `depth + 1` linear layers."""
    require_depth("depth", depth)
    phi = activation(name)
    if w_std is not None:
        return phi, [w_std] * (depth + 1)
    return phi, [1.0, *[phi.gain] * (depth - 1), 1.0]

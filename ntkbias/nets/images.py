"""Networks for images: residual and Myrtle networks."""

from collections.abc import Sequence
from typing import Any

from ntkbias.checks import require_choice, require_positive
from ntkbias.errors import InputError
from ntkbias.layers import Activation, AvgPool, Conv, Dense, GlobalAvgPool, Identity, Layer, Residual, Sequential
from ntkbias.layers.conv import Padding
from ntkbias.layers.layer import require_depth
from ntkbias.nets.options import READOUTS, Readout, activation_and_stds, is_mup, require_counts
from ntkbias.types import Parameterization

__all__ = ["myrtle", "resnet"]

MYRTLE = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}  # depth of `myrtle` -> convolutions in each of its three stages


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

    >>> import ntkbias as nb
    >>> nb.nets.resnet(width=2, num_outputs=3).output_shape((8, 8, 1))
    (3,)
    """
    require_choice("readout", readout, Readout)
    phi, (first, hidden, last) = activation_and_stds(activation, 2, w_std)
    require_depth("block_size", block_size)
    for name, count in (("width", width), ("k", k)):
        require_positive(name, count)
    require_counts("strides of resnet, one per group,", strides)
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
    return Sequential(
        (
            conv(width, 1, first),
            *blocks,
            READOUTS[readout],
            Dense(num_outputs, last, readout=is_mup(parameterization), **options),
        )
    )


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

    >>> import ntkbias as nb
    >>> nb.nets.myrtle(width=2, depth=7, num_outputs=10).output_shape((32, 32, 3))
    (10,)
    """
    if depth not in MYRTLE:
        raise InputError(f"Expected depth of myrtle to be one of {', '.join(map(str, MYRTLE))}; got {depth!r}.")
    phi, stds = activation_and_stds(activation, sum(MYRTLE[depth]), w_std)
    require_positive("width", width)
    options: dict[str, Any] = {"b_std": b_std, "b_init": b_init, "parameterization": parameterization}
    pools = (AvgPool((2, 2), (2, 2)), AvgPool((2, 2), (2, 2)), GlobalAvgPool())
    scales = iter(stds)
    layers: list[Layer] = []
    for count, pool in zip(MYRTLE[depth], pools, strict=True):
        for _ in range(count):
            layers += [Conv(width, (3, 3), w_std=next(scales), **options), phi]
        layers.append(pool)
    return Sequential((*layers, Dense(num_outputs, next(scales), readout=is_mup(parameterization), **options)))

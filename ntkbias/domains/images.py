"""Images as points: pixel values are coordinates, and distances are Euclidean.

>>> import jax
>>> from ntkbias.domains import Images
>>> x = jax.random.normal(jax.random.key(0), (50, 4, 4, 1))
>>> Images(num_neighbors=5).neighbors(x).distance.shape[0] >= 50 * 5 // 2
True
"""

import sys
import warnings

from jaxtyping import Array

from ntkbias.domains.point_cloud import PointCloud
from ntkbias.errors import InputError

__all__ = ["Images", "remark_on_channels"]

CHANNELS = (1, 3)  # the numbers of channels of gray and of color images


class Images(PointCloud):
    """Images `(n, height, width, channels)` as a `PointCloud`. Frequencies are per unit of distance of pixel values.

    >>> import ntkbias as nb
    >>> x, _ = nb.datasets.digits(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x)
    >>> nb.rank_by_frequency(spectrum, nb.domains.Images()).measure
    'graph'
    """

    def check(self, x: Array) -> None:
        if x.ndim != 4:
            raise InputError(
                f"Expected images (n, height, width, channels); got shape {x.shape}. Add an axis of channels."
            )
        remark_on_channels(x)
        super().check(x)


def remark_on_channels(x: Array) -> None:
    """Warn if images look like `(n, channels, height, width)`, the layout of other libraries."""
    if x.ndim == 4 and x.shape[1] in CHANNELS and min(x.shape[2:]) > max(CHANNELS):
        _, height, width, channels = x.shape
        warnings.warn(
            f"Expected images (n, height, width, channels); got shape {x.shape}, which is read as images of {height} x "
            f"{width} pixels in {channels} channels. If channels come first, use x.transpose(0, 2, 3, 1).",
            stacklevel=_stacklevel_of_caller(),
        )


def _stacklevel_of_caller() -> int:
    """The `stacklevel` at which a warning names the first caller outside of this package."""
    within = (__name__.partition(".")[0], "equinox")  # equinox wraps methods
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in within:
        level, frame = level + 1, frame.f_back
    return level

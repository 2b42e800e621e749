"""Images as points: pixels are coordinates, and distances are Euclidean over all of them.

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

CHANNELS = (1, 3)  # of gray and of colored images


class Images(PointCloud):
    """Inputs `(n, height, width, channels)`; see `PointCloud`. Frequencies are per unit of distance between pixels."""

    def check(self, x: Array) -> None:
        if x.ndim != 4:
            raise InputError(
                f"Expected images (n, height, width, channels); got shape {x.shape}. Add an axis of channels."
            )
        remark_on_channels(x)
        super().check(x)


def remark_on_channels(x: Array) -> None:
    """Warn where images look like those of other libraries, `(n, channels, height, width)`: they are read otherwise."""
    if x.ndim == 4 and x.shape[1] in CHANNELS and min(x.shape[2:]) > max(CHANNELS):
        _, height, width, channels = x.shape
        warnings.warn(
            f"Expected images (n, height, width, channels); got shape {x.shape}, which is read as images of {height} x "
            f"{width} pixels in {channels} channels. If channels come first, use x.transpose(0, 2, 3, 1).",
            stacklevel=_callers_level(),
        )


def _callers_level() -> int:
    """How many calls up the code of this package ends, for a warning of the caller."""
    within = (__name__.partition(".")[0], "equinox")  # which wraps methods
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in within:
        level, frame = level + 1, frame.f_back
    return level

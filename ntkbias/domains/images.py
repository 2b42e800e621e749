"""Images as points: pixels are coordinates, and distances are Euclidean over all of them.

>>> import jax
>>> from ntkbias.domains import Images
>>> x = jax.random.normal(jax.random.key(0), (50, 4, 4, 1))
>>> Images(num_neighbors=5).neighbors(x).distance.shape[0] >= 50 * 5 // 2
True
"""

from jaxtyping import Array

from ntkbias.domains.point_cloud import PointCloud
from ntkbias.errors import InputError

__all__ = ["Images"]


class Images(PointCloud):
    """Inputs `(n, height, width, channels)`; see `PointCloud`. Frequencies are per unit of distance between pixels."""

    def check(self, x: Array) -> None:
        if x.ndim != 4:
            raise InputError(
                f"Expected images (n, height, width, channels); got shape {x.shape}. Add an axis of channels."
            )
        super().check(x)

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

from ntkbias.nets.attention import transformer
from ntkbias.nets.images import myrtle, resnet
from ntkbias.nets.options import Norm, Readout
from ntkbias.nets.plain import cnn, fourier_features, mlp
from ntkbias.nets.trees import Leaves, patch_network

__all__ = ["Leaves", "Norm", "Readout"]
__all__ += ["cnn", "fourier_features", "mlp", "myrtle", "patch_network", "resnet", "transformer"]


def __dir__() -> list[str]:
    return sorted(__all__)

"""A ReLU layer on the plane whose outer weights are fixed, the network of several papers on the circle.

>>> import ntkbias as nb
>>> exact = nb.exact_spectrum(nb.infinite_ntk(two_layers()), nb.domains.Circle(), 4)
>>> [round(float(value), 6) for value in 2 * 3.14159265 * exact.eigenvalues[:2]]  # 1/pi + pi/4 and 1/pi + pi/8
[1.103708, 0.711009]
"""

from ntkbias.layers import Dense, Frozen, Relu, Sequential

__all__ = ["two_layers"]


def two_layers(width: int = 1) -> Sequential:
    """Biases start from zero. The kernel of inputs at a cosine c is (c + 1) (pi - arccos c) / (4 pi)."""
    return Sequential(Dense(width, 1.0, b_std=0.5**0.5, b_init=0.0), Relu(), Frozen(Dense(1)))

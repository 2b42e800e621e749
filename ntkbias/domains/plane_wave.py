"""The frequency of a function from its differences along edges, by comparison with plane waves.

Two measures of frequency need only distances. On edges e = (i, j) of length d_e between neighboring inputs, the ratio
of mean squared difference to mean square of a function phi is

    r(phi) = sum_e c_e (phi_i - phi_j)^2 / sum_e c_e d_e^2 (phi_i^2 + phi_j^2) / 2

With c_e = 1 / d_e^2 on the neighborhood graph, r is the Rayleigh quotient of the graph's Laplacian. With edges of one
length h off the nodes, and phi extended to their ends, r is the Dirichlet energy by difference quotients.

A plane wave of frequency k in m dimensions, averaged over directions, has mean (phi_i - phi_j)^2 = 2 phi^2 (1 - L(k d))
with L(z) = 0F1(m / 2, -z^2 / 4), which is cos z on a line. `plane_wave_frequency` finds the k with the same ratio, so a
finite step does not bias the frequency. For small steps k is sqrt(m r), and tends to sqrt(E |grad phi|^2 / E phi^2). A
domain that knows its own L, as the sphere and the cube do, gives it as `correlation`.

>>> import numpy as np
>>> from ntkbias.domains.plane_wave import plane_wave_frequency
>>> ratio = 2 * (1 - np.cos(3 * 0.1)) / 0.1**2  # of a wave of frequency 3, on edges of length 0.1
>>> plane_wave_frequency(np.array([ratio]), np.array([0.1]), np.ones(1), 1).round(3).tolist()
[3.0]
"""

from collections.abc import Callable

import numpy as np
import scipy
from jaxtyping import Float

__all__ = ["plane_wave_frequency"]


def plane_wave_frequency(
    ratios: np.ndarray,
    distances: np.ndarray,
    coefficients: np.ndarray,
    dimension: int,
    correlation: Callable[[np.ndarray, np.ndarray, int], np.ndarray] | None = None,
) -> Float[np.ndarray, " k"]:
    """The frequency of the plane wave that has the same ratio r on these edges as each function.

    `ratios` are the r of the functions, `(k,)`; `distances` d_e and `coefficients` c_e are `(e,)`. The formulas stand
    at the top of this module. `correlation` replaces L by a domain's own. If a ratio exceeds the largest one of a plane
    wave, the result is the frequency of that wave, the highest that edges of these lengths resolve.
    """
    groups = np.array_split(np.argsort(distances), min(128, len(distances)))  # edges of nearly equal length
    lengths = np.array([distances[group].mean() for group in groups])
    shares = np.array([coefficients[group].sum() for group in groups])
    waves = np.linspace(0, (dimension + 2 * np.pi) / np.average(lengths, weights=shares), 4_001)
    if correlation is None:
        mean = plane_wave(np.outer(waves, lengths), dimension)
    else:
        mean = correlation(waves, lengths, dimension)
    table = 2 * (1 - mean) @ shares / (shares @ lengths**2)
    rising = slice(int(table.argmax()) + 1)
    return np.interp(ratios, table[rising], waves[rising])


def plane_wave(z: np.ndarray, dimension: int) -> np.ndarray:
    """The mean of cos(z u_1) over unit vectors u in this dimension."""
    return np.cos(z) if dimension == 1 else scipy.special.hyp0f1(dimension / 2, -(z**2) / 4)

"""The change of the kernel since the first snapshot, which is called the start.

The distance between two kernels is S = 1 - <K, K'> / (||K|| ||K'||) (Fort et al. 2020, arXiv 2010.15110).
"""

import math

import numpy as np
import scipy
from jaxtyping import Float

from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot, frobenius

__all__ = ["MEASURES"]


@measured(title="kernel drift", line="1 − cosine", scale="log")
def kernel_distance(at: Snapshot) -> float | None:
    """The distance S = 1 - <K_0, K_t> / (||K_0|| ||K_t||) to the start. It is quadratic in small drifts."""
    return _distance(at.initial, at)


@measured(title="kernel drift", line="‖ΔK‖ / ‖K₀‖", scale="log", column="kernel drift")
def kernel_drift(at: Snapshot) -> float | None:
    """||K_t - K_0|| / ||K_0||. It is linear in small drifts, and includes changes of scale."""
    if at.matrix is None or at.initial.matrix is None:
        return None
    difference, start = at.matrix - at.initial.matrix, at.initial.matrix
    return math.sqrt(frobenius(difference, difference) / frobenius(start, start))


@measured()
def kernel_velocity(at: Snapshot) -> float | None:
    """The distance S to the previous snapshot, divided by the steps between (Fort et al.). NaN at the start."""
    if at.previous is None:
        return None if at.matrix is None else math.nan
    distance = _distance(at.previous, at)
    return None if distance is None else distance / (at.step - at.previous.step)


@measured(axes=("mode",))
def principal_angles(at: Snapshot) -> Float[np.ndarray, " k"]:
    """The angles between the spans of the first k eigenfunctions now and at the start, in radians, ascending."""
    return scipy.linalg.subspace_angles(at.initial.modes, at.modes)[::-1]


@measured(axes=("mode",))
def initial_alignment(at: Snapshot) -> Float[np.ndarray, " k"]:
    """The Rayleigh quotient phi^T K phi / (n phi^T phi) of the current kernel for each eigenfunction at the start.

    At the start it is the eigenvalue (Ortiz-Jimenez et al. 2021, arXiv 2106.06770).
    """
    functions = at.initial.modes
    if at.matrix is not None:
        forms = np.sum(functions * (at.matrix @ functions), 0)
    else:
        forms = at.operator.quadratic_forms(functions)
    return forms / (at.num_examples * np.sum(functions**2, 0))


MEASURES = (
    kernel_distance,
    kernel_drift,
    kernel_velocity,
    principal_angles,
    initial_alignment,
)


def _distance(first: Snapshot, second: Snapshot) -> float | None:
    """1 - cosine, computed as half the squared distance of the normalized matrices, which avoids cancellation."""
    if first.matrix is None or second.matrix is None:
        return None
    difference = first.matrix / np.float64(first.norm) - second.matrix / np.float64(second.norm)
    return frobenius(difference, difference) / 2

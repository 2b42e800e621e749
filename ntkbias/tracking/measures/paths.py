"""Measures of the path: what training has done so far, summed over the snapshots.

Under gradient flow outputs move by df/dt = -(1/n) K_t(x, train) r_t, with r_t = f_t - y, or n times the derivative of
another loss, so that

    f_T - f_0 = -(1/n) integral over t of K_t r_t        (exactly: what the path did)
    path kernel = (1/T) integral over t of K_t           (the mean kernel along it; Domingos 2020, arXiv 2012.00152)

Integrals are trapezia between snapshots. `path_error` is what the first misses: for want of snapshots, of the order of
their spacing squared (of their spacing with ReLU, whose kernel jumps in time), and because the steps of gradient
descent are no flow. Where an optimizer has no time, there is no integral, and both are None.
"""

import math

import numpy as np
from jaxtyping import Float

from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["MEASURES"]


@measured(axes=("row", "column"), costly=True)
def path_kernel(at: Snapshot) -> Float[np.ndarray, "rows rows"] | None:
    """The mean of the kernel over time since the first snapshot, on the probe; there the kernel itself.

    Held for each snapshot.
    """
    if at.matrix is None or not math.isfinite(at.time):
        return None
    if at.previous is None:
        return at.matrix
    assert at.previous.matrix is not None
    start = at.initial.time
    before, span = at.previous.time - start, at.time - at.previous.time
    added = (at.previous.matrix + at.matrix) * (span / 2)
    return ((before * path_kernel.before(at) + added) / (at.time - start)).astype(at.matrix.dtype)


@measured(axes=("mode",), needs=(path_kernel,), costly=True)
def path_eigenvalues(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The largest eigenvalues of the path kernel over n; the path kernel is taken with it."""
    matrix = path_kernel.value(at)
    if matrix is None:
        return None
    return np.linalg.eigvalsh(matrix.astype(np.float64))[::-1][: at.num_modes] / at.num_examples


@measured(axes=("example", "output"), costly=True)
def path_outputs(at: Snapshot) -> Float[np.ndarray, "n o"] | None:
    """f_0 - (1/n) times the integral of K_t r_t so far: what the path says that the outputs on the probe are.

    Costs a gradient over all training inputs, and a derivative on the probe, a snapshot.
    """
    if not math.isfinite(at.time):
        return None
    if at.previous is None:
        return at.outputs.astype(np.float64)
    span = at.time - at.previous.time
    moved = (at.previous.velocity.astype(np.float64) + at.velocity) * (span / 2)
    return path_outputs.before(at) + moved


@measured(needs=(path_outputs,), costly=True)
def path_error(at: Snapshot) -> float | None:
    """||f_0 + integral - f_t|| / ||f_t - f_0|| on the probe; the path's outputs are taken with it."""
    predicted = path_outputs.value(at)
    if predicted is None:
        return None
    moved = float(np.linalg.norm(at.outputs - at.initial.outputs))
    return float(np.linalg.norm(predicted - at.outputs)) / moved if moved else 0.0


@measured(title="trajectory's complexity", line="complexity")
def trajectory_complexity(at: Snapshot) -> float:
    """The sum of ||step|| sqrt(tr K / n) so far, K summed over outputs (Baratin et al. 2020), of all steps.

    The root is averaged between snapshots. In a loop of your own the steps between snapshots count as one straight
    line, as in `complexity.path_complexity`.
    """
    if at.previous is None:
        return 0.0
    outputs = at.num_outputs if at.setting.outputs == "mean" else 1
    heights = [math.sqrt(outputs * snapshot.trace) for snapshot in (at.previous, at)]
    return float(trajectory_complexity.before(at)) + at.path_length * sum(heights) / 2


MEASURES = (
    path_kernel,
    path_eigenvalues,
    path_outputs,
    path_error,
    trajectory_complexity,
)

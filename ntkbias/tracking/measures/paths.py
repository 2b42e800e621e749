"""Integrals along the path of training, from the first snapshot to the current one.

Under gradient flow the outputs move as df/dt = -(1/n) K_t(x, train) r_t. The residual r_t is f_t - y for the squared
error, and n times the derivative of the loss in general. So

    f_T - f_0 = -(1/n) integral over t of K_t r_t        (exact)
    path kernel = (1/T) integral over t of K_t           (the mean kernel; Domingos 2020, arXiv 2012.00152)

Integrals use the trapezoidal rule between snapshots. `path_error` is the error of the first formula. One part comes
from the spacing of snapshots, and is quadratic in it, or linear for ReLU networks, whose kernel jumps in time. The
other part arises because gradient descent takes finite steps. If an optimizer has no time, there are no integrals, and
their measures are None. `trajectory_complexity` needs no time.
"""

import math

import numpy as np
from jaxtyping import Float

from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["MEASURES"]


@measured(axes=("row", "column"), costly=True)
def path_kernel(at: Snapshot) -> Float[np.ndarray, "rows rows"] | None:
    """The mean of the kernel on the probe over time since the first snapshot, where it is the kernel itself.

    The history holds one matrix per snapshot.
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
    """The largest eigenvalues of the path kernel over n. It needs `path_kernel`, which is added to the measures."""
    matrix = path_kernel.value(at)
    if matrix is None:
        return None
    return np.linalg.eigvalsh(matrix.astype(np.float64))[::-1][: at.num_modes] / at.num_examples


@measured(axes=("example", "output"), costly=True)
def path_outputs(at: Snapshot) -> Float[np.ndarray, "n o"] | None:
    """The outputs on the probe by the path integral: f_0 - (1/n) times the integral of K_t r_t so far.

    Costs one gradient over all training examples and one forward derivative on the probe per snapshot.
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
    """||path_outputs - f_t|| / ||f_t - f_0|| on the probe. It needs `path_outputs`, which is added to the measures."""
    predicted = path_outputs.value(at)
    if predicted is None:
        return None
    moved = float(np.linalg.norm(at.outputs - at.initial.outputs))
    return float(np.linalg.norm(predicted - at.outputs)) / moved if moved else 0.0


@measured(title="trajectory's complexity", line="complexity")
def trajectory_complexity(at: Snapshot) -> float:
    """The sum of ||step|| sqrt(tr K / n) over all steps so far, with K summed over outputs (Baratin et al. 2020).

    The square root is the mean of its values at the two neighboring snapshots. For a loop of your own, the path between
    snapshots counts as a straight line, as in `complexity.path_complexity`.
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

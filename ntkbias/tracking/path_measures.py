"""Measures of the path: what training has done so far, summed over the snapshots.

Under gradient flow outputs move by df/dt = -(1/n) K_t(x, train) r_t, with r_t = f_t - y, or n times the derivative of
another loss, so that

    f_T - f_0 = -(1/n) integral over t of K_t r_t        (exactly: what the path did)
    path kernel = (1/T) integral over t of K_t           (the mean kernel along it; Domingos 2020, arXiv 2012.00152)

Integrals are trapezia between snapshots. `path_error` is what the first misses: for want of snapshots, of the order of
their spacing squared (of their spacing with ReLU, whose kernel jumps in time), and because the steps of gradient
descent are no flow. Where an optimiser has no time, there is no integral, and both are None.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkbias.eigen import eigh
from ntkbias.errors import InputError
from ntkbias.spectra import Spectrum
from ntkbias.tracking.history import History
from ntkbias.tracking.snapshot import Snapshot

__all__ = [
    "path_eigenvalues",
    "path_error",
    "path_kernel",
    "path_outputs",
    "path_spectrum",
    "trajectory_complexity",
]


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
    return ((before * at.before["path_kernel"] + added) / (at.time - start)).astype(at.matrix.dtype)


path_kernel.axes = ("row", "column")  # type: ignore[attr-defined]


def path_eigenvalues(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The largest eigenvalues of the path kernel over n; comes after "path_kernel" among the measures."""
    matrix = at.values.get("path_kernel")
    if matrix is None:
        return None
    return np.linalg.eigvalsh(matrix.astype(np.float64))[::-1][: at.num_modes] / at.num_examples


path_eigenvalues.axes = ("mode",)  # type: ignore[attr-defined]


def path_spectrum(history: History, snapshot: int = -1) -> Spectrum:
    """The spectrum of the path kernel up to a snapshot, on the probe, for `rank_by_frequency` and the rest.

    `history` is that of one run with the measure "path_kernel", of outputs="mean" or "sum", or of one output.
    """
    if not isinstance(history, History) or "path_kernel" not in history or history["path_kernel"].ndim != 3:
        raise InputError(
            "Expected the history of one run with the measure 'path_kernel'; got none. Add "
            "measures.chosen('path_kernel') to the measures; of several runs take history.run(0)."
        )
    matrix = history["path_kernel"][snapshot]
    if len(matrix) != len(history.probe):
        raise InputError("Expected a path kernel of one row an input; got that of all pairs of outputs.")
    return Spectrum(**{**vars(eigh(matrix)), "x": jnp.asarray(history.probe)})


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
    return at.before["path_outputs"] + moved


path_outputs.axes = ("example", "output")  # type: ignore[attr-defined]


def path_error(at: Snapshot) -> float | None:
    """||f_0 + integral - f_t|| / ||f_t - f_0|| on the probe; comes after "path_outputs" among the measures."""
    predicted = at.values.get("path_outputs")
    if predicted is None:
        return None
    moved = float(np.linalg.norm(at.outputs - at.initial.outputs))
    return float(np.linalg.norm(predicted - at.outputs)) / moved if moved else 0.0


def trajectory_complexity(at: Snapshot) -> float:
    """The sum of ||step|| sqrt(tr K / n) so far, K summed over outputs (Baratin et al. 2020), of all steps.

    The root is averaged between snapshots. In a loop of your own the steps between snapshots count as one straight
    line, as in `complexity.path_complexity`.
    """
    if at.previous is None:
        return 0.0
    outputs = at.num_outputs if at.setting.outputs == "mean" else 1
    heights = [math.sqrt(outputs * snapshot.trace) for snapshot in (at.previous, at)]
    return float(at.before["trajectory_complexity"]) + at.path_length * sum(heights) / 2

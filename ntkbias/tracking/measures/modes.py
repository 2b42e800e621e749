"""The modes of the kernel, matched from snapshot to snapshot, and the energy of labels and residuals in each mode.

The residual r is n times the derivative of the loss in the outputs, f - y for the squared error. Energies are mean
squares. The energy of the residual in mode i is <phi_i, r>^2, summed over outputs. For the squared error and a constant
kernel, gradient flow reduces it as exp(-2 eigenvalue_i time).
"""

import numpy as np
import scipy
from jaxtyping import Float, Int

from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["MEASURES"]


@measured(axes=("example", "mode"), costly=True)
def eigenfunctions(at: Snapshot) -> Float[np.ndarray, "n *o k"]:
    """The first k eigenfunctions on the probe. Each has the sign of its match at the previous snapshot."""
    functions = at.modes
    if at.previous is not None:
        before = eigenfunctions.before(at).reshape(functions.shape)[:, _matching(at)[0]]
        functions = np.where(np.sum(functions * before, 0) < 0, -functions, functions)
    inner = (at.num_examples, at.num_outputs) if at.setting.outputs == "all" else (at.num_examples,)
    return functions.reshape(*inner, -1)


@measured(axes=("mode",))
def matched_modes(at: Snapshot) -> Int[np.ndarray, " k"]:
    """For each mode, the number of its match at the first snapshot, where modes have the numbers 0 to k - 1.

    Modes are matched from snapshot to snapshot. A matching maximizes the sum of squared inner products. If a mode
    enters the first k, it takes the number of a mode that leaves them, and its `matched_overlap` is small.
    """
    if at.previous is None:
        return np.arange(at.num_modes)
    return np.asarray(matched_modes.before(at))[_matching(at)[0]]


@measured(axes=("mode",))
def matched_overlap(at: Snapshot) -> Float[np.ndarray, " k"]:
    """The squared cosine between each mode and its match at the previous snapshot. One if the mode did not turn."""
    return np.ones(at.num_modes) if at.previous is None else _matching(at)[1]


@measured(axes=("mode",))
def energy_of_labels(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The fraction of the labels' mean square in each current mode."""
    if at.labels is None or not at.has_rows_for(at.labels):
        return None
    return _energy(at, at, at.labels) / max(float(np.sum(at.labels**2)) / at.num_examples, np.finfo(float).tiny)


@measured(axes=("mode",))
def energy_of_residual(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The mean square of the residual in each current mode."""
    return None if at.residual is None else _energy(at, at, at.residual)


@measured(axes=("mode",))
def energy_of_residual_at_start(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The mean square of the residual in each mode of the kernel at the start.

    For the squared error, each of them decays independently of the others as long as the kernel is constant.
    """
    return None if at.residual is None else _energy(at, at.initial, at.residual)


MEASURES = (
    eigenfunctions,
    matched_modes,
    matched_overlap,
    energy_of_labels,
    energy_of_residual,
    energy_of_residual_at_start,
)


def _matching(at: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    """For each mode the index of its match at the previous snapshot, and the squared cosine between the two."""
    assert at.previous is not None
    overlaps = (at.previous.modes.T @ at.modes / at.num_examples) ** 2
    before, now = scipy.optimize.linear_sum_assignment(-overlaps)
    order = np.argsort(now)
    return before[order], np.minimum(overlaps[before, now][order], 1.0)


def _energy(at: Snapshot, basis: Snapshot, function: np.ndarray) -> np.ndarray:
    """The squared coefficients of a function `(n, t)` in the modes of the snapshot `basis`, summed over columns.

    With outputs="all" the modes cover all outputs, and the function counts as a single column.
    """
    rows = function.reshape(-1, 1) if at.setting.outputs == "all" else function
    return np.sum((basis.modes.T @ rows / at.num_examples) ** 2, 1)

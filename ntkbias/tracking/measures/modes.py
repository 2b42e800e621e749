"""The modes of the kernel: each followed from snapshot to snapshot, and what of the function lies in it.

A residual r is n times the loss's derivative in the outputs, f - y for the squared error. Energies are mean squares:
that of the residual in mode i is <phi_i, r>^2, summed over outputs, which gradient flow reduces as exp(-2 eigenvalue_i
time) while the kernel stays.
"""

import numpy as np
import scipy
from jaxtyping import Float, Int

from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["MEASURES"]


@measured(axes=("example", "mode"), costly=True)
def eigenfunctions(at: Snapshot) -> Float[np.ndarray, "n *o k"]:
    """The first eigenfunctions on the probe, each with the sign of the one before that it is matched with."""
    functions = at.modes
    if at.previous is not None:
        before = eigenfunctions.before(at).reshape(functions.shape)[:, _matching(at)[0]]
        functions = np.where(np.sum(functions * before, 0) < 0, -functions, functions)
    inner = (at.num_examples, at.num_outputs) if at.setting.outputs == "all" else (at.num_examples,)
    return functions.reshape(*inner, -1)


@measured(axes=("mode",))
def matched_modes(at: Snapshot) -> Int[np.ndarray, " k"]:
    """Which mode of the start each mode is, followed from snapshot to snapshot by the largest overlaps.

    Modes of the start have the numbers 0 .. k - 1. The matching maximizes the sum of squared inner products with the
    modes before; a mode that enters the first k takes the number of one that leaves, and `matched_overlap` is small.
    """
    if at.previous is None:
        return np.arange(at.num_modes)
    return np.asarray(matched_modes.before(at))[_matching(at)[0]]


@measured(axes=("mode",))
def matched_overlap(at: Snapshot) -> Float[np.ndarray, " k"]:
    """The squared cosine of each mode with the one before that it was matched with: one where it has not turned."""
    return np.ones(at.num_modes) if at.previous is None else _matching(at)[1]


@measured(axes=("mode",))
def energy_of_labels(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The share of the labels' power that lies in each current mode."""
    if at.labels is None or not at.has_rows_for(at.labels):
        return None
    return _energy(at, at, at.labels) / max(float(np.sum(at.labels**2)) / at.num_examples, np.finfo(float).tiny)


@measured(axes=("mode",))
def energy_of_residual(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The mean square of the residual in each current mode."""
    return None if at.residual is None else _energy(at, at, at.residual)


@measured(axes=("mode",))
def energy_of_residual_at_start(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The mean square of the residual in each mode of the kernel at the start: each decays alone while that stays."""
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
    """For each mode the one before that it is matched with, and their squared cosine."""
    assert at.previous is not None
    overlaps = (at.previous.modes.T @ at.modes / at.num_examples) ** 2
    before, now = scipy.optimize.linear_sum_assignment(-overlaps)
    order = np.argsort(now)
    return before[order], np.minimum(overlaps[before, now][order], 1.0)


def _energy(at: Snapshot, basis: Snapshot, function: np.ndarray) -> np.ndarray:
    """The squared coefficients of a function (n, t) in the modes of a snapshot, summed over what modes do not have."""
    rows = function.reshape(-1, 1) if at.setting.outputs == "all" else function
    return np.sum((basis.modes.T @ rows / at.num_examples) ** 2, 1)

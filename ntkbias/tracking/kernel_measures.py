"""Measures of the kernel at one step: its size, its rank, how it is aligned with labels, and how far it has come.

Each takes a `Snapshot` and gives a number or an array of fixed shape; None where there is nothing to measure, as
alignment without labels. Eigenvalues are those of K / n, as everywhere.

Alignment is the cosine of the kernel's matrix with that of labels, <K, Y Y^T> / (||K|| ||Y Y^T||), uncentred, or of
features and labels less their means over the probe (CKA, Cortes et al. 2012): two quantities with opposite trends
(Baratin et al. 2020, arXiv 2008.00938). The distance of two kernels is S = 1 - <K, K'> / (||K|| ||K'||) (Fort et al.
2020, arXiv 2010.15110).
"""

import math

import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Float, Int

from ntkbias.entropy import entropic_rank
from ntkbias.learning import critical_learning_rate as critical
from ntkbias.tracking.snapshot import Snapshot, frobenius

__all__ = [
    "alignment",
    "alignment_by_class",
    "alignment_by_layer",
    "centered_alignment",
    "centered_alignment_by_layer",
    "centered_effective_rank",
    "critical_learning_rate",
    "effective_rank",
    "eigenfunctions",
    "eigenvalues",
    "initial_alignment",
    "kernel_distance",
    "kernel_drift",
    "kernel_velocity",
    "matched_modes",
    "matched_overlap",
    "participation_ratio",
    "principal_angles",
    "trace",
    "trace_by_layer",
    "trace_ratios",
]


def eigenvalues(at: Snapshot) -> Float[np.ndarray, " k"]:
    """The largest eigenvalues of K / n."""
    return np.asarray(at.spectrum.eigenvalues, np.float64)[: at.num_modes]


def eigenfunctions(at: Snapshot) -> Float[np.ndarray, "n *o k"]:
    """The first eigenfunctions on the probe, each with the sign of the one before that it is matched with."""
    functions = at.modes
    if at.previous is not None:
        before = at.before["eigenfunctions"].reshape(functions.shape)[:, _matching(at)[0]]
        functions = np.where(np.sum(functions * before, 0) < 0, -functions, functions)
    inner = (at.num_examples, at.num_outputs) if at.setting.outputs == "all" else (at.num_examples,)
    return functions.reshape(*inner, -1)


def trace(at: Snapshot) -> float:
    """tr K / n: the mean of ||df/dtheta||^2 over the probe."""
    return at.trace


def effective_rank(at: Snapshot) -> float | None:
    """exp of the entropy of the eigenvalues' shares; where all of them are known, up to 1,500 rows."""
    if len(at.spectrum.eigenvalues) < at.num_rows:
        return None
    return float(entropic_rank(np.asarray(at.spectrum.eigenvalues, np.float64)))


def centered_effective_rank(at: Snapshot) -> float | None:
    """The same of centred features; costs another eigendecomposition."""
    if at.centered_matrix is None or len(at.spectrum.eigenvalues) < at.num_rows:
        return None
    return float(entropic_rank(np.linalg.eigvalsh(at.centered_matrix.astype(np.float64))))


def participation_ratio(at: Snapshot) -> float | None:
    """(tr K)^2 / ||K||_F^2: the effective rank of second order, at no cost."""
    return None if at.norm is None else (at.trace * at.num_examples / at.norm) ** 2


def trace_ratios(at: Snapshot) -> Float[np.ndarray, " k"]:
    """The share of the trace in the first 1, 2, ... k modes."""
    return np.cumsum(eigenvalues(at)) / at.trace


def alignment(at: Snapshot) -> float | None:
    """<K, Y Y^T> / (||K|| ||Y Y^T||) with the labels; nothing is centred."""
    if at.labels is None or at.matrix is None:
        return None
    return _cosine(at.matrix, at.norm, _rows(at, at.labels))


def centered_alignment(at: Snapshot) -> float | None:
    """The same of features and labels less their means over the probe (CKA); one-hot labels are centred too."""
    if at.labels is None or at.centered_matrix is None:
        return None
    return _cosine(at.centered_matrix, at.centered_norm, _rows(at, at.labels - at.labels.mean(0)))


def alignment_by_class(at: Snapshot) -> Float[np.ndarray, " class"] | None:
    """The centred alignment with each column of the labels alone: one class against the rest."""
    if at.labels is None or at.labels.shape[1] < 2 or at.centered_matrix is None or at.setting.outputs == "all":
        return None
    centered = at.labels - at.labels.mean(0)
    norms = np.maximum(np.sum(centered**2, 0), np.finfo(float).tiny)
    return np.sum(centered * (at.centered_matrix @ centered), 0) / (norms * at.centered_norm)


alignment_by_class.axes = ("class",)  # type: ignore[attr-defined]


def alignment_by_layer(at: Snapshot) -> Float[np.ndarray, " layer"] | None:
    """The uncentred alignment of each parameter's part of the kernel; costs a kernel a parameter."""
    if at.labels is None or at.matrix is None:
        return None
    rows = _rows(at, at.labels)
    return np.array([_cosine(part, math.sqrt(frobenius(part, part)), rows) for part in at.layer_matrices.values()])


def centered_alignment_by_layer(at: Snapshot) -> Float[np.ndarray, " layer"] | None:
    """The centred alignment of each parameter's part."""
    if at.labels is None or at.matrix is None:
        return None
    rows = _rows(at, at.labels - at.labels.mean(0))
    parts = [at.centered(part) for part in at.layer_matrices.values()]
    return np.array([_cosine(part, math.sqrt(frobenius(part, part)), rows) for part in parts])


def trace_by_layer(at: Snapshot) -> Float[np.ndarray, " layer"] | None:
    """tr / n of each parameter's part of the kernel; they sum to the trace."""
    if at.matrix is None:
        return None
    return np.array([np.trace(part, dtype=np.float64) for part in at.layer_matrices.values()]) / at.num_examples


for _by_layer in (alignment_by_layer, centered_alignment_by_layer, trace_by_layer):
    _by_layer.axes = ("layer",)  # type: ignore[attr-defined]


def kernel_distance(at: Snapshot) -> float | None:
    """S = 1 - <K_0, K_t> / (||K_0|| ||K_t||) to the kernel at the start: quadratic in a small drift."""
    return _distance(at.initial, at)


def kernel_drift(at: Snapshot) -> float | None:
    """||K_t - K_0|| / ||K_0||: of first order in the drift, with the change of scale."""
    if at.matrix is None or at.initial.matrix is None:
        return None
    difference, start = at.matrix - at.initial.matrix, at.initial.matrix
    return math.sqrt(frobenius(difference, difference) / frobenius(start, start))


def kernel_velocity(at: Snapshot) -> float | None:
    """S between this snapshot and the one before, over the steps between them (Fort et al.); NaN at the start."""
    if at.previous is None:
        return None if at.matrix is None else math.nan
    distance = _distance(at.previous, at)
    return None if distance is None else distance / (at.step - at.previous.step)


def principal_angles(at: Snapshot) -> Float[np.ndarray, " k"]:
    """The angles (radians, ascending) between the span of the top eigenfunctions now and at the start."""
    return scipy.linalg.subspace_angles(at.initial.modes, at.modes)[::-1]


def initial_alignment(at: Snapshot) -> Float[np.ndarray, " k"]:
    """phi^T K phi / (n phi^T phi) of the current kernel with each initial eigenfunction: its eigenvalue at the start.

    (Ortiz-Jimenez et al. 2021, arXiv 2106.06770.)
    """
    functions = at.initial.modes
    if at.matrix is not None:
        forms = np.sum(functions * (at.matrix @ functions), 0)
    else:
        forms = at.operator.quadratic_forms(functions)
    return forms / (at.num_examples * np.sum(functions**2, 0))


def matched_modes(at: Snapshot) -> Int[np.ndarray, " k"]:
    """Which mode of the start each mode is, followed from snapshot to snapshot by the largest overlaps.

    Modes of the start have the numbers 0 .. k - 1. The matching maximises the sum of squared inner products with the
    modes before; a mode that enters the first k takes the number of one that leaves, and `matched_overlap` is small.
    """
    if at.previous is None:
        return np.arange(at.num_modes)
    return np.asarray(at.before["matched_modes"])[_matching(at)[0]]


def matched_overlap(at: Snapshot) -> Float[np.ndarray, " k"]:
    """The squared cosine of each mode with the one before that it was matched with: one where it has not turned."""
    return np.ones(at.num_modes) if at.previous is None else _matching(at)[1]


def critical_learning_rate(at: Snapshot) -> float | None:
    """2 / the largest eigenvalue of the kernel of all outputs; with several and outputs="mean" some ten products more.

    Full-batch gradient descent on the squared error diverges above it, as far as the kernel stays.
    """
    if at.num_outputs == 1 or at.setting.outputs == "all":
        return float(2 / np.asarray(at.spectrum.eigenvalues, np.float64)[0])
    kernel = at.kernel_of("all")
    return critical(kernel, at.setting.probe, tolerance=1e-3, key=at.setting.key)


for _of_modes in (
    eigenvalues,
    trace_ratios,
    principal_angles,
    initial_alignment,
    matched_modes,
    matched_overlap,
):
    _of_modes.axes = ("mode",)  # type: ignore[attr-defined]
eigenfunctions.axes = ("example", "mode")  # type: ignore[attr-defined]


def _rows(at: Snapshot, labels: np.ndarray) -> np.ndarray:
    """Labels as columns over the rows of the matrix: for all pairs of outputs one column."""
    return labels.reshape(-1, 1) if at.setting.outputs == "all" else labels


def _cosine(matrix: np.ndarray, norm: float | None, labels: np.ndarray) -> float:
    """<K, Y Y^T> / (||K|| ||Y Y^T||), by ||Y Y^T|| = ||Y^T Y||."""
    assert norm is not None
    power = float(np.linalg.norm(labels.T @ labels))
    if not power * norm > 0:
        return math.nan
    return float(np.sum(labels * (matrix @ labels))) / (norm * power)


def _distance(first: Snapshot, second: Snapshot) -> float | None:
    """1 - cosine as half the squared distance of unit matrices, which does not cancel."""
    if first.matrix is None or second.matrix is None:
        return None
    difference = first.matrix / np.float64(first.norm) - second.matrix / np.float64(second.norm)
    return frobenius(difference, difference) / 2


def _matching(at: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    """For each mode the one before that it is matched with, and their squared cosine."""
    assert at.previous is not None
    overlaps = (at.previous.modes.T @ at.modes / at.num_examples) ** 2
    before, now = scipy.optimize.linear_sum_assignment(-overlaps)
    order = np.argsort(now)
    return before[order], np.minimum(overlaps[before, now][order], 1.0)

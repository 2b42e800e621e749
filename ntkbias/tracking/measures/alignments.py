"""The alignment of the kernel with the labels.

The uncentered alignment is the cosine of the kernel's matrix and the matrix of labels, <K, Y Y^T> / (||K|| ||Y Y^T||).
The alignment, as `ntkbias.alignment` gives it, subtracts the means of features and labels over the probe first (CKA,
Cortes et al. 2012). The two may have opposite trends (Baratin et al. 2020, arXiv 2008.00938).
"""

import math

import numpy as np
from jaxtyping import Float

from ntkbias.alignments import cosine_with_targets
from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot, frobenius

__all__ = ["MEASURES"]


@measured(title="alignment with labels", line="uncentered")
def uncentered_alignment(at: Snapshot) -> float | None:
    """<K, Y Y^T> / (||K|| ||Y Y^T||) with labels Y. Nothing is centered."""
    if at.labels is None or at.matrix is None or not at.has_rows_for(at.labels):
        return None
    return _cosine(at.matrix, at.norm, _rows(at, at.labels))


@measured(title="alignment with labels", line="centered (CKA)", column="alignment")
def alignment(at: Snapshot) -> float | None:
    """`ntkbias.alignment` of the kernel with the labels, both centered over the probe (CKA), one-hot labels too."""
    if at.labels is None or at.centered_matrix is None or not at.has_rows_for(at.labels):
        return None
    return _cosine(at.centered_matrix, at.centered_norm, _rows(at, at.labels - at.labels.mean(0)))


@measured(axes=("class",))
def alignment_by_class(at: Snapshot) -> Float[np.ndarray, " class"] | None:
    """The alignment with each column of the labels alone: one class against the rest, at each position."""
    if at.labels is None or at.labels.shape[1] < 2 or at.centered_matrix is None or at.setting.outputs == "all":
        return None
    centered = at.labels - at.labels.mean(0)
    norms = np.maximum(np.sum(centered**2, 0), np.finfo(float).tiny)
    return np.sum(centered * (at.centered_matrix @ centered), 0) / (norms * at.centered_norm)


@measured(axes=("layer",), labels=lambda at: list(at.layer_matrices), costly=True)
def uncentered_alignment_by_layer(at: Snapshot) -> Float[np.ndarray, " layer"] | None:
    """The uncentered alignment of each parameter's part of the kernel. Costs one Gram matrix per parameter."""
    if at.labels is None or at.matrix is None or not at.has_rows_for(at.labels):
        return None
    rows = _rows(at, at.labels)
    return np.array([_cosine(part, math.sqrt(frobenius(part, part)), rows) for part in at.layer_matrices.values()])


@measured(axes=("layer",), labels=lambda at: list(at.layer_matrices), costly=True)
def alignment_by_layer(at: Snapshot) -> Float[np.ndarray, " layer"] | None:
    """The alignment of each parameter's part of the kernel, centered. Costs one Gram matrix per parameter."""
    if at.labels is None or at.matrix is None or not at.has_rows_for(at.labels):
        return None
    rows = _rows(at, at.labels - at.labels.mean(0))
    parts = [at.centered(part) for part in at.layer_matrices.values()]
    return np.array([_cosine(part, math.sqrt(frobenius(part, part)), rows) for part in parts])


MEASURES = (
    uncentered_alignment,
    alignment,
    alignment_by_class,
    uncentered_alignment_by_layer,
    alignment_by_layer,
)


def _rows(at: Snapshot, labels: np.ndarray) -> np.ndarray:
    """Labels as columns with one entry per row of the matrix. For outputs="all" that is a single column."""
    return labels.reshape(-1, 1) if at.setting.outputs == "all" else labels


def _cosine(matrix: np.ndarray, norm: float | None, labels: np.ndarray) -> float:
    assert norm is not None
    return cosine_with_targets(matrix, norm, labels)

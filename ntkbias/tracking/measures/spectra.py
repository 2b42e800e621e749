"""The size and the spectrum of the kernel. Eigenvalues are those of K / n, as everywhere in this package."""

import numpy as np
from jaxtyping import Float

from ntkbias.entropy import entropic_rank
from ntkbias.learning import critical_learning_rate as critical
from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["MEASURES"]


@measured(axes=("mode",))
def eigenvalues(at: Snapshot) -> Float[np.ndarray, " k"]:
    """The k largest eigenvalues of K / n."""
    return np.asarray(at.spectrum.eigenvalues, np.float64)[: at.num_modes]


@measured(title="trace of K / n", line="trace", scale="log", column="trace of K / n")
def trace(at: Snapshot) -> float:
    """tr K / n, the mean over the probe of the squared norm of df/dtheta."""
    return at.trace


@measured(title="effective rank", line="uncentered", column="effective rank")
def effective_rank(at: Snapshot) -> float | None:
    """exp of the entropy of the eigenvalues' shares of their sum. None for more than 1,500 rows."""
    if len(at.spectrum.eigenvalues) < at.num_rows:
        return None
    return float(entropic_rank(np.asarray(at.spectrum.eigenvalues, np.float64)))


@measured(title="effective rank", line="centered", costly=True)
def centered_effective_rank(at: Snapshot) -> float | None:
    """The effective rank of the kernel with centered features. Costs another eigendecomposition."""
    if at.centered_matrix is None or len(at.spectrum.eigenvalues) < at.num_rows:
        return None
    return float(entropic_rank(np.linalg.eigvalsh(at.centered_matrix.astype(np.float64))))


@measured()
def participation_ratio(at: Snapshot) -> float | None:
    """(tr K)^2 / ||K||_F^2, an effective rank that needs no eigenvalues. None if the matrix is not held."""
    return None if at.norm is None else (at.trace * at.num_examples / at.norm) ** 2


@measured(axes=("mode",))
def trace_ratios(at: Snapshot) -> Float[np.ndarray, " k"]:
    """The fraction of the trace in the first 1, 2, ..., k modes."""
    return np.cumsum(eigenvalues(at)) / at.trace


@measured(axes=("layer",), labels=lambda at: list(at.layer_matrices), costly=True)
def trace_by_layer(at: Snapshot) -> Float[np.ndarray, " layer"] | None:
    """tr K / n of each parameter's part of the kernel. They sum to the trace. Costs one Gram matrix per parameter."""
    if at.matrix is None:
        return None
    return np.array([np.trace(part, dtype=np.float64) for part in at.layer_matrices.values()]) / at.num_examples


@measured(costly=True)
def critical_learning_rate(at: Snapshot) -> float | None:
    """2 / the largest eigenvalue of K / n, for the kernel of all outputs.

    Above it, full-batch gradient descent on the squared error diverges as long as the kernel stays the same. For
    several outputs and outputs="mean" or "sum" it costs some ten more products of the kernel.
    """
    if at.num_outputs == 1 or at.setting.outputs == "all":
        return float(2 / np.asarray(at.spectrum.eigenvalues, np.float64)[0])
    kernel = at.kernel_of("all")
    return critical(kernel, at.setting.probe, tolerance=1e-3, key=at.setting.key)


MEASURES = (
    eigenvalues,
    trace,
    effective_rank,
    centered_effective_rank,
    participation_ratio,
    trace_ratios,
    trace_by_layer,
    critical_learning_rate,
)

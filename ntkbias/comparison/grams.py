"""Gram matrices of runs beside each other: CKA of every two, and the distance of a network to its infinite limit.

    CKA         <K, L> / (||K|| ||L||) of the centered matrices, from 0 to 1 (Kornblith et al. 2019, arXiv 1905.00414)
    distance    ||K - L|| / ||L||, relative to the limit L, not centered

Norms are Frobenius norms, with the inputs' weights. Matrices come from complete spectra, K = sum_i r_i phi_i phi_i^T.

>>> import numpy as np
>>> from ntkbias.comparison.grams import cka, distances
>>> a, b, half = np.diag([1.0, 2.0, 3.0]), np.diag([2.0, 4.0, 6.0]), np.full(3, 1 / 3)
>>> cka([a, b], [1, 1], half).round(6).tolist(), distances(b, a, half, []).tolist()
([[1.0, 1.0], [1.0, 1.0]], [1.0])
"""

from collections.abc import Sequence

import numpy as np

from ntkbias.memory import default_memory_budget
from ntkbias.spectra import Spectrum

__all__ = ["cka", "distances", "fit_in_memory", "gram_of"]


def fit_in_memory(num_inputs: int, num_runs: int) -> bool:
    """Whether this many matrices can be kept at once: in half of the memory budget, an eighth of the memory."""
    return 4 * num_inputs**2 * num_runs <= default_memory_budget() / 2


def gram_of(spectrum: Spectrum) -> np.ndarray | None:
    """The matrix `(rows, rows)` in float32; None if modes are missing."""
    if spectrum.num_missing:
        return None
    functions = np.asarray(spectrum.eigenfunctions, np.float32)
    functions = functions.reshape(-1, functions.shape[-1])
    return np.asarray((functions * np.asarray(spectrum.eigenvalues, np.float32)) @ functions.T)


def cka(grams: Sequence[np.ndarray | None], outputs: Sequence[int], weights: np.ndarray) -> np.ndarray:
    """The CKA of every two matrices, `(N, N)`; NaN for a missing or constant one, or for other numbers of outputs."""
    found, norms = np.full((len(grams), len(grams)), np.nan), {}
    for i, first in enumerate(grams):
        if first is None:
            continue
        left = _centered(first, outputs[i], weights)
        norms[i] = float(np.linalg.norm(left))
        for j in range(i + 1):
            second = grams[j]
            if second is not None and outputs[j] == outputs[i] and norms[i] * norms[j] > 0:
                # Centering one of the two is enough: the projection is idempotent.
                inner = float(np.sum(left * _weighted(second, outputs[j], weights)))
                found[i, j] = found[j, i] = inner / norms[i] / norms[j]
    return np.clip(found, 0.0, 1.0)


def distances(gram: np.ndarray, limit: np.ndarray, weights: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """||K - L|| / ||L|| on all inputs, and on the inputs of each group in `groups`, `(1 + g,)`."""
    outputs = len(gram) // len(weights)
    squares = []
    for matrix in (gram - limit, limit):
        squared = matrix.astype(np.float64) ** 2
        by_input = squared.reshape(len(weights), outputs, len(weights), outputs).sum((1, 3))
        measures = np.stack([weights, *(_indicator(chosen, len(weights)) for chosen in groups)])
        squares.append(np.einsum("gi,ij,gj->g", measures, by_input, measures, optimize=True))
    return np.sqrt(squares[0] / squares[1])


def _weighted(gram: np.ndarray, outputs: int, weights: np.ndarray) -> np.ndarray:
    roots = np.repeat(np.sqrt(weights), outputs).astype(gram.dtype)
    return roots[:, None] * gram * roots


def _centered(gram: np.ndarray, outputs: int, weights: np.ndarray) -> np.ndarray:
    """The weighted matrix of features that have mean zero over the inputs, for each output."""
    n = len(weights)
    once = gram.reshape(n, outputs, -1)
    once = (once - np.tensordot(weights.astype(gram.dtype), once, 1)).reshape(n * outputs, n, outputs)
    twice = once - np.einsum("rna,n->ra", once, weights.astype(gram.dtype))[:, None]
    return _weighted(twice.reshape(gram.shape), outputs, weights)


def _indicator(chosen: np.ndarray, n: int) -> np.ndarray:
    found = np.zeros(n)
    found[chosen] = 1.0
    return found

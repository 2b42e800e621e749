"""The modes of one kernel on parts of its inputs, without the kernel: what a sample without some inputs would give.

The delete-a-group jackknife needs the spectrum on the inputs without each of its groups. Let the kernel on all inputs
have modes K = sum_i r_i phi_i phi_i^T. Up to `EXACT` rows, the rows and columns of this matrix are decomposed again.
For more inputs, only the first `FIRST` modes are, in their span: the matrix F^T F / m with F = phi r^1/2 on the m
remaining inputs has few rows. The eigenvalues of later modes then change to first order, by the mean of phi_i^2 over
the remaining inputs. That is enough for intervals: sums over all eigenvalues are exact to first order.

>>> import numpy as np, ntkbias as nb
>>> from ntkbias.comparison.subsets import Modes
>>> x, limit = np.random.default_rng(0).normal(size=(40, 3)), nb.infinite_ntk(nb.nets.mlp())
>>> modes = Modes.of(nb.spectrum(limit, x), np.zeros((40, 0)), [])
>>> part = np.arange(30)
>>> bool(np.allclose(modes.on(part).eigenvalues[:9], nb.spectrum(limit, x[:30]).eigenvalues[:9], rtol=1e-3))
True
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ntkbias.spectra import Spectrum
from ntkbias.threads import blas

__all__ = ["EXACT", "FIRST", "Modes", "Part", "grouped"]

EXACT = 640  # rows up to which a part of the matrix is decomposed: 0.1 s
FIRST = 400  # modes that are decomposed again of a larger matrix
SMALL = 256  # rows up to which NumPy's threads cost more time than they save

RARE = 1e-12  # of a target's power: below, only rounding is left of it on a part


class Part(NamedTuple):
    """The eigenvalues, functions and power of targets on some inputs, for as many modes as are known each."""

    eigenvalues: np.ndarray  # (k,), descending; zero below the noise floor
    eigenspace: np.ndarray  # (m,)
    functions: np.ndarray  # (n, *o, m): the first modes
    trace: float
    power: np.ndarray  # (k, t)
    beyond: np.ndarray  # (t,): the power outside all k modes

    @property
    def num_rows(self) -> int:
        """The number of modes that the inputs have."""
        return int(np.prod(self.functions.shape[:-1]))

    @property
    def tail(self) -> float:
        """The part of the trace that no known eigenvalue holds."""
        complete = len(self.eigenvalues) == self.num_rows and bool(np.all(self.eigenvalues > 0))
        return 0.0 if complete else max(self.trace - float(np.sum(self.eigenvalues)), 0.0)


class Modes(NamedTuple):
    """The modes of one kernel on all inputs, and what parts of the inputs need of them."""

    whole: Part
    targets: np.ndarray  # (rows, c), the columns of all targets
    ends: list[int]  # of each target's columns, but the last
    noise_floor: float
    gap: float  # relative, of neighboring eigenvalues that count as one
    squares: np.ndarray  # (n, k): the square of each mode at each input, summed over outputs

    @classmethod
    def of(cls, spectrum: Spectrum, targets: np.ndarray, ends: Sequence[int]) -> "Modes":
        """The modes of a spectrum, and the `targets` `(rows, c)` of which `ends` separates one from the next."""
        eigenvalues = np.asarray(spectrum.eigenvalues, float)
        floor = float(np.asarray(spectrum.noise_floor))
        known = np.where(eigenvalues > floor, eigenvalues, 0.0)
        functions = np.asarray(spectrum.eigenfunctions, float)
        rows, weights = int(np.prod(functions.shape[:-1])), np.asarray(spectrum.weights, float)
        count = rows if rows <= EXACT else min(FIRST, len(known))
        weighted = functions * weights.reshape(-1, *(1,) * (functions.ndim - 1))
        coefficients = weighted.reshape(rows, -1).T @ targets
        coefficients[known == 0] = 0.0
        total = np.repeat(weights, rows // len(weights)) @ targets**2
        power, total = _by_target(coefficients**2, ends), _by_target(total[None], ends)[0]
        beyond = _without_rounding(total - power.sum(0), total)
        whole = Part(
            known,
            np.asarray(spectrum.eigenspace)[:count],
            functions[..., :count],
            float(np.asarray(spectrum.trace)),
            power,
            beyond,
        )
        squares = functions**2 if functions.ndim == 2 else np.sum(functions**2, 1)
        gap = float(np.finfo(np.asarray(spectrum.eigenvalues).dtype).eps) ** 0.5
        return cls(whole, targets, list(ends), floor, gap, squares)

    def on(self, chosen: np.ndarray) -> Part:
        """The modes on the `chosen` inputs, `(m,)` indices, on which every target is shifted to mean zero again."""
        whole, m = self.whole, len(chosen)
        functions = whole.functions[chosen]
        outputs, count = functions.shape[1:-1], functions.shape[-1]
        features = (functions * np.sqrt(whole.eigenvalues[:count])).reshape(-1, count)
        rows = len(features)
        per_input = int(np.prod(outputs))
        targets = self.targets.reshape(len(self.squares), per_input, self.targets.shape[1])[chosen]
        targets = (targets - targets.mean(0)).reshape(rows, self.targets.shape[1])
        power = np.mean(targets**2, 0)
        targets = np.where(power > RARE * np.mean(self.targets**2, 0), targets, 0.0)  # constant on this part
        with blas().limit(limits=1 if min(rows, count) <= SMALL else None, user_api="blas"):
            if count >= rows:
                values, vectors = np.linalg.eigh(features @ features.T / m)
                vectors = vectors[:, ::-1] * m**0.5
                values = values[::-1]
            else:
                values, mixing = np.linalg.eigh(features.T @ features / m)
                values = values[::-1]
                positive = np.where(values > self.noise_floor, values, np.inf)
                vectors = features @ (mixing[:, ::-1] / np.sqrt(positive))
        values = np.where(values > self.noise_floor, values, 0.0)
        coefficients = vectors.T @ targets / m
        coefficients[values == 0] = 0.0
        power = _by_target(coefficients**2, self.ends)
        total = _by_target(np.sum(targets**2, 0)[None] / m, self.ends)[0]
        diagonal = self.squares[chosen].mean(0)
        later = whole.eigenvalues[count:] * diagonal[count:]
        trace = whole.trace * float(whole.eigenvalues @ diagonal) / max(float(np.sum(whole.eigenvalues)), 1e-300)
        beyond = _without_rounding(total - power.sum(0), total)
        if len(later):
            known = whole.power[count:].sum(0)
            share = known / np.maximum(known + whole.beyond, 1e-300)  # of what is left, that later modes hold
            later_power = whole.power[count:] / np.maximum(known, 1e-300) * share * beyond
            power, beyond = np.concatenate([power, later_power]), beyond * (1 - share)
        eigenspace = _eigenspaces(values, self.noise_floor, self.gap)
        return Part(np.concatenate([values, later]), eigenspace, vectors.reshape(m, *outputs, -1), trace, power, beyond)


def grouped(n: int, num_groups: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The inputs that are left without each of `num_groups` random groups of nearly one size."""
    parts = np.array_split(rng.permutation(n), num_groups)
    return [np.sort(np.concatenate([*parts[:g], *parts[g + 1 :]])) for g in range(num_groups)]


def _by_target(squares: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """The sums over each target's columns, `(k, t)`."""
    if not squares.shape[1]:
        return np.zeros((len(squares), 0))
    return np.stack([part.sum(1) for part in np.split(squares, ends, 1)], 1)


def _without_rounding(power: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Power that is a difference of sums: what is below the rounding of float32 modes is zero."""
    return np.where(power < 1e-6 * total, 0.0, power)


def _eigenspaces(values: np.ndarray, noise_floor: float, gap: float) -> np.ndarray:
    apart = values[:-1] - values[1:] > noise_floor + gap * np.abs(values[:-1])
    return np.concatenate([[0], np.cumsum(apart)])

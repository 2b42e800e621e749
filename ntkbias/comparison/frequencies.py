"""The frequencies of modes on all inputs and on parts of them, by one measure.

On a graph, all parts share the graph of all inputs: a part has the edges between its inputs. By harmonics, a part's
modes are projected anew. Any other measure keeps the modes as functions and leaves out inputs by their weights, as
`rank_by_frequency` does.

>>> import numpy as np, ntkbias as nb
>>> from ntkbias.comparison.frequencies import FrequenciesOfParts
>>> circle = nb.domains.Circle()
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(b_std=0.1)), circle.grid(32))
>>> reader = FrequenciesOfParts(spectrum.x, circle, nb.frequency.MEASURES["graph"], spectrum.weights, [], None)
>>> from ntkbias.comparison.subsets import Modes
>>> whole = Modes.of(spectrum, np.zeros((32, 0)), []).whole
>>> (found,) = reader.read([reader.raw(whole, None, spectrum)])
>>> found.frequencies[:3].round(2).tolist()
[0.0, 1.0, 1.0]
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ntkbias.comparison.subsets import Part
from ntkbias.domains import Domain, HarmonicDomain
from ntkbias.frequency import MEASURES, FrequencyMeasure, FrequencyRanking
from ntkbias.frequency.measures.differences import calibrated, ratios_along
from ntkbias.scaling import power_law
from ntkbias.spectra import Spectrum

__all__ = ["MOST_LEVELS", "Frequencies", "FrequenciesOfParts", "decay_of", "energies_of", "levels_of_energy", "rho_of"]

MOST_LEVELS = 8  # degrees, or bands of frequency, whose share of the trace is an estimate of its own
NUM_BANDS = 4  # at most
FEWEST_ORDERED = 5  # modes of known frequency for a rank correlation


class Frequencies(NamedTuple):
    """The frequency of each mode of a part, and whether the inputs resolve it; its power per level, if known."""

    frequencies: np.ndarray
    resolved: np.ndarray
    energy: np.ndarray | None


class FrequenciesOfParts:
    """The measure of frequency on inputs `x` with weights, and on parts of them (`groups`)."""

    def __init__(
        self,
        x: Array,
        domain: Domain,
        measure: FrequencyMeasure,
        weights: Array | np.ndarray,
        groups: Sequence[np.ndarray],
        key: PRNGKeyArray | None,
    ) -> None:
        self.x, self.domain, self.measure, self.groups, self.key = x, domain, measure, groups, key
        self.weights = np.asarray(weights, float)
        self.on_graph = measure is MEASURES["graph"]
        self.by_harmonics = measure is MEASURES["harmonic"]
        if self.on_graph:
            self.first, self.second, self.distance = domain.neighbors(x)
            self.coefficients = (self.weights[self.first] + self.weights[self.second]) / self.distance**2
        self._kept: tuple[Any, Any] = (None, None)

    def raw(self, part: Part, group: int | None, spectrum: Spectrum) -> Any:
        """What `read` needs of a part: the inputs without this group, or all inputs (None)."""
        if self.on_graph:
            return self._ratios(part, group)
        if self.by_harmonics:
            return self._by_harmonics(part, group)
        if self._kept[0] is not spectrum:  # the groups of a spectrum come one after another
            rows = [self.weights] + [np.where(_inside(chosen, len(self.weights)), 1.0, 0.0) for chosen in self.groups]
            weights = np.stack([row / row.sum() for row in rows])
            count = min(len(part.eigenspace), spectrum.num_above_noise)
            self._kept = spectrum, self.measure.function(spectrum, self.domain, weights, count, self.key)
        found = self._kept[1]
        values = found.frequencies if group is None else found.resamples[group]
        return Frequencies(np.asarray(values), np.asarray(found.resolved), None)

    def read(self, raws: Sequence[Any]) -> list[Frequencies]:
        """The frequencies of parts, from what `raw` returned for each."""
        if not self.on_graph:
            return list(raws)
        joined = calibrated(np.concatenate(raws)[None], self.distance, self.coefficients, self.domain, self.x)
        ends = np.cumsum([len(raw) for raw in raws])[:-1]
        split = (np.split(each, ends) for each in (joined.frequencies, joined.resolved))
        return [Frequencies(values, resolved, None) for values, resolved in zip(*split, strict=True)]

    def _ratios(self, part: Part, group: int | None) -> np.ndarray:
        n = len(self.weights)
        chosen = np.arange(n) if group is None else self.groups[group]
        place = np.full(n, -1)
        place[chosen] = np.arange(len(chosen))
        inside = (place[self.first] >= 0) & (place[self.second] >= 0)
        first, second = place[self.first[inside]], place[self.second[inside]]
        distance, coefficients = self.distance[inside], self.coefficients[inside][None]
        functions = part.functions
        with np.errstate(invalid="ignore"):
            return ratios_along(functions, first, functions, second, coefficients, distance, part.eigenspace)[0]

    def _by_harmonics(self, part: Part, group: int | None) -> Frequencies:
        chosen = slice(None) if group is None else self.groups[group]
        n, count = len(part.functions), len(part.eigenspace)
        weights = self.weights if group is None else np.full(n, 1 / n)
        dtype = jnp.result_type(float)
        sub = Spectrum(
            eigenvalues=jnp.asarray(part.eigenvalues[:count], dtype),
            eigenfunctions=jnp.asarray(part.functions, dtype),
            eigenspace=jnp.asarray(part.eigenspace),
            trace=jnp.asarray(part.trace, dtype),
            residuals=jnp.zeros(count, dtype),
            noise_floor=jnp.zeros((), dtype),
            weights=jnp.asarray(weights, dtype),
            x=self.x[chosen],
        )
        found = self.measure.function(sub, self.domain, weights[None], None, self.key)
        if found.energy is None:
            return Frequencies(found.frequencies, found.resolved, None)
        energy = np.array(found.energy[:, :MOST_LEVELS], float)  # a copy, so that the rest is freed
        return Frequencies(found.frequencies, found.resolved, energy)


def rho_of(part: Part, found: Frequencies) -> float:
    """Spearman's rho of eigenvalue and frequency, over the resolved modes above the noise that have both.

    NaN if these are fewer than five: four modes in random order are wholly ordered with a probability of 8 %.
    """
    count = min(len(found.frequencies), len(part.eigenspace))
    if np.sum(found.resolved[:count] & (part.eigenvalues[:count] > 0)) < FEWEST_ORDERED:
        return float("nan")
    kept, dtype = np.flatnonzero(part.eigenvalues[:count] > 0), jnp.result_type(float)
    eigenvalues = jnp.asarray(part.eigenvalues[kept], dtype)
    return FrequencyRanking(
        eigenvalues=eigenvalues,
        frequencies=jnp.asarray(found.frequencies[kept], dtype),
        resolved=jnp.asarray(found.resolved[kept]),
        resamples=jnp.zeros((0, len(kept)), dtype),
        eigenspace=jnp.asarray(part.eigenspace[kept]),
        learning_times=eigenvalues,
        energy=None,
        levels=None,
        decay=None,
        measure="",
    ).spearman


def decay_of(part: Part, found: Frequencies, modes: slice) -> float:
    """The slope of log eigenvalue against log frequency over these modes; NaN with fewer than three frequencies."""
    count = min(len(found.frequencies), len(part.eigenspace))
    eigenvalues, frequencies = part.eigenvalues[:count][modes], found.frequencies[:count][modes]
    fitted = (eigenvalues > 0) & (frequencies > 0) & found.resolved[:count][modes]
    if len(np.unique(frequencies[fitted])) < 3:
        return float("nan")
    return power_law(frequencies[fitted], eigenvalues[fitted]).exponent


def levels_of_energy(
    domain: Domain, measure: FrequencyMeasure, least_inputs: int, largest: float
) -> tuple[list[str], np.ndarray | None]:
    """The names of the first degrees or bands, and the bands' edges. `largest` is the largest resolved frequency."""
    if measure is MEASURES["harmonic"] and isinstance(domain, HarmonicDomain):
        levels = domain.levels(domain.max_degree(least_inputs)).tolist()[:MOST_LEVELS]
        return [f"degree {tuple(level) if isinstance(level, list) else level}" for level in levels], None
    if not largest > 0:
        return [], None
    # Round steps, so that samples of the same inputs have the same bands.
    scale = 10 ** math.floor(math.log10(largest / NUM_BANDS))
    step = next(step for step in (1, 2, 5, 10) if step * scale * NUM_BANDS >= largest) * scale
    edges = step * np.arange(math.ceil(largest / step) + 1)
    names = [f"frequency {low:.3g} to {high:.3g}" for low, high in itertools.pairwise(edges)]
    return names, edges


def energies_of(part: Part, found: Frequencies, count: int, edges: np.ndarray | None) -> np.ndarray:
    """The share of the trace at each of `count` degrees or bands."""
    modes = min(len(found.frequencies), len(part.eigenspace))
    values = part.eigenvalues[:modes] / part.trace
    if edges is None:
        if found.energy is None:
            return np.full(count, np.nan)
        energy = found.energy[:modes, :count]
        return np.pad(values @ energy, (0, count - energy.shape[1]), constant_values=np.nan)
    band = np.digitize(found.frequencies[:modes], edges[1:-1])
    known = found.resolved[:modes]
    return np.array([np.sum(values[known & (band == place)]) for place in range(count)])


def _inside(chosen: np.ndarray, n: int) -> np.ndarray:
    inside = np.zeros(n, bool)
    inside[chosen] = True
    return inside

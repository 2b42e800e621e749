"""Every quantity of every run, on all inputs and without each group of inputs.

A `Survey` takes one run's spectrum at a time, and keeps a few numbers of it. Frequencies, which share one table, follow
at the end. The result has one column per quantity, the same ones for all things.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ntkbias.comparison.evidence import Sample
from ntkbias.comparison.frequencies import (
    Frequencies,
    FrequenciesOfParts,
    decay_of,
    energies_of,
    levels_of_energy,
    rho_of,
)
from ntkbias.comparison.quantities import of_targets
from ntkbias.comparison.subsets import Modes, Part, grouped
from ntkbias.domains import Domain
from ntkbias.entropy import entropic_rank
from ntkbias.frequency import FrequencyMeasure, FrequencyRanking
from ntkbias.spectra import Spectrum

__all__ = ["MOST_GROUPS", "Columns", "Survey"]

MOST_GROUPS = 20  # of inputs: their t distribution has 19 degrees of freedom, and the cost is 20 decompositions per run
LEAST_INPUTS = 8  # with fewer, the groups say nothing about other inputs
SIZES = 4, 8, 16, 32  # learning curves have n / 4, ... n / 32 examples: the theory needs far fewer than n
SCALARS = ("trace", "effective rank", "stable rank", "modes above the noise floor")
OF_TARGETS = ("share of the trace", "learning time", "relative time", "samples needed")

Columns = tuple[tuple[str, str], ...]


class _OfPart(NamedTuple):
    """What one part of the inputs has: the numbers without a frequency, and what frequencies need."""

    numbers: dict[tuple[str, str], float]
    part: Part
    raw: Any


class Survey:
    """The quantities of all things, collected run by run."""

    def __init__(
        self,
        x: Array,
        domain: Domain,
        measure: FrequencyMeasure,
        weights: Array | np.ndarray | None,
        targets: dict[str, np.ndarray],
        key: PRNGKeyArray,
    ) -> None:
        n = len(x)
        self.targets = tuple(targets)
        self.ends = np.cumsum([columns.shape[1] for columns in targets.values()])[:-1].tolist()
        self.columns = np.concatenate(list(targets.values()), 1) if targets else None
        self.sizes = sorted({n // part for part in SIZES if n // part})
        # Fixed groups: the same call gives the same intervals.
        rng = np.random.default_rng(0)
        sampled = weights is None and n >= LEAST_INPUTS
        self.groups = grouped(n, min(MOST_GROUPS, n // 2), rng) if sampled else []
        self.domain, self.measure = domain, measure
        self.weights = np.full(n, 1 / n) if weights is None else np.asarray(weights, float)
        self.frequencies = FrequenciesOfParts(x, domain, measure, self.weights, self.groups, key)
        self.found: dict[str, list[list[_OfPart]]] = {}
        self.fitted: dict[str, slice] = {}

    def add(self, name: str, spectrum: Spectrum, ranking: FrequencyRanking | None) -> None:
        """Take in the spectrum of a run of the named thing, and with its first run the ranking."""
        if ranking is not None:
            decay = ranking.decay
            self.fitted[name] = slice(0, 0) if decay is None else slice(decay.first, decay.last)
        rows = int(np.prod(spectrum.eigenfunctions.shape[:-1]))
        targets = np.zeros((rows, 0)) if self.columns is None else self.columns
        modes = Modes.of(spectrum, targets, self.ends)
        count = int(np.sum(modes.whole.eigenvalues > 0))
        parts = [self._of_part(modes.whole, None, spectrum, count)]
        parts += [self._of_part(modes.on(chosen), g, spectrum, count) for g, chosen in enumerate(self.groups)]
        self.found.setdefault(name, []).append(parts)

    def _of_part(self, part: Part, group: int | None, spectrum: Spectrum, count: int) -> _OfPart:
        known, complete = part.eigenvalues, spectrum.num_missing == 0
        numbers: dict[tuple[str, str], float] = {
            ("trace", ""): part.trace,
            ("effective rank", ""): float(entropic_rank(known)) if complete and known[0] > 0 else np.nan,
            ("stable rank", ""): part.trace / known[0] if known[0] > 0 else np.nan,
            ("modes above the noise floor", ""): float(count),
        }
        if self.targets:
            outputs = int(np.prod(part.functions.shape[1:-1]))
            with np.errstate(divide="ignore", invalid="ignore"):
                found = of_targets(known, part.power, part.beyond, part.trace, part.tail, self.sizes, outputs)
            # A target that is constant on a part, or whose power is not all known, has no numbers there.
            defined = complete & (part.power.sum(0) + part.beyond > 0)
            found = {name: np.where(defined, values, np.nan) for name, values in found.items()}
            for place, target in enumerate(self.targets):
                numbers |= {(name, target): float(found[name][place]) for name in OF_TARGETS}
                for row, size in enumerate(self.sizes):
                    numbers["test error", f"{target}, {size:,} examples"] = float(found["test error"][row, place])
        raw = self.frequencies.raw(part, group, spectrum)
        nothing = np.zeros(0)  # frees the functions, which frequencies no longer need
        return _OfPart(numbers, part._replace(functions=nothing, power=nothing), raw)

    def results(self) -> tuple[Columns, dict[str, Sample]]:
        """The columns, and the numbers of each thing in them."""
        flat = [part for runs in self.found.values() for run in runs for part in run]
        frequencies = iter(self.frequencies.read([each.raw for each in flat]))
        read = {name: [[next(frequencies) for _ in run] for run in runs] for name, runs in self.found.items()}
        largest = max(
            (float(np.max(run[0].frequencies[run[0].resolved], initial=0.0)) for runs in read.values() for run in runs),
            default=0.0,
        )
        least = min((len(chosen) for chosen in self.groups), default=len(self.weights))
        levels, edges = levels_of_energy(self.domain, self.measure, least, largest)
        columns: Columns = (
            *((name, "") for name in SCALARS),
            ("Spearman's rho", ""),
            ("decay exponent", ""),
            *((name, target) for target in self.targets for name in OF_TARGETS),
            *(("test error", f"{target}, {size:,} examples") for target in self.targets for size in self.sizes),
            *(("energy", level) for level in levels),
        )
        samples = {}
        for name, runs in self.found.items():
            rows = [
                [
                    self._row(columns, part, found, self.fitted[name], levels, edges)
                    for part, found in zip(run, of_run, strict=True)
                ]
                for run, of_run in zip(runs, read[name], strict=True)
            ]
            table = np.array(rows)  # (r, 1 + g, q)
            samples[name] = Sample(table[:, 0], table[:, 1:] if self.groups else None)
        return columns, samples

    def _row(
        self,
        columns: Columns,
        of_part: _OfPart,
        found: Frequencies,
        fitted: slice,
        levels: Sequence[str],
        edges: np.ndarray | None,
    ) -> list[float]:
        numbers = dict(of_part.numbers)
        numbers["Spearman's rho", ""] = rho_of(of_part.part, found)
        numbers["decay exponent", ""] = decay_of(of_part.part, found, fitted)
        energies = energies_of(of_part.part, found, len(levels), edges)
        numbers |= {("energy", level): float(value) for level, value in zip(levels, energies, strict=True)}
        return [numbers[column] for column in columns]

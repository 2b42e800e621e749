"""`ComparedKernel`: one network or kernel of a comparison.

>>> import ntkbias as nb
>>> net = nb.nets.mlp(width=32, depth=1, b_std=0.1)
>>> mlp = nb.compare({"mlp": net}, nb.domains.Circle(), seeds=3)["mlp"]
>>> mlp.runs, mlp.values["effective rank"].shape, len(mlp.spectra)
(3, (3,), 3)
>>> mlp.estimates["effective rank"].low < mlp.estimates["effective rank"].value
True
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from ntkbias.frequency import MEASURES, FrequencyRanking
from ntkbias.scaling import Interval
from ntkbias.spectra import Spectrum
from ntkbias.tables import Fact, Labeled, Printed, Table, counted, explained, interval, percent

__all__ = ["ComparedKernel"]


class ComparedKernel(Printed):
    """One kernel of a comparison: `spectrum, ranking = comparison[name]`. It prints as a table of its first modes.

    `spectra` holds the first modes of each run, and `eigenvalues` `(r, k)` all eigenvalues of all runs. `ranking` is
    that of the first run. `values` has the numbers `(r,)` of all runs, and `estimates` their means with 95 % intervals,
    by the names of quantities, as "effective rank" or "samples needed: parity".

    >>> import ntkbias as nb
    >>> things = {"narrow": nb.nets.mlp(width=16, depth=2), "wide": nb.nets.mlp(width=64, depth=2)}
    >>> found = nb.compare(things, nb.domains.Circle(), seeds=3)
    >>> spectrum, ranking = found["wide"]
    >>> sorted(found["wide"].estimates)[:2], found["wide"].values["effective rank"].shape
    (["Spearman's rho", 'decay exponent'], (3,))
    """

    spectra: tuple[Spectrum, ...]
    ranking: FrequencyRanking
    eigenvalues: Float[Array | np.ndarray, "r k"] | None
    values: dict[str, Float[Array | np.ndarray, " r"]]
    estimates: dict[str, Interval]
    is_random: dict[str, bool]  # whether the interval of an estimate counts something random

    @property
    def spectrum(self) -> Spectrum:
        """The spectrum of the first run."""
        return self.spectra[0]

    @property
    def runs(self) -> int:
        """The number of runs: random initializations of a network, and one for a kernel."""
        return len(self.spectra)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.spectrum, self.ranking))

    def _labeled(self) -> Labeled:
        """The ranked modes of the first run; `values` by run and quantity, and `estimates` with their ends."""
        ranked, spectrum = self.ranking.labeled(), self.spectrum
        found: dict[str, Any] = {"trace": ((), spectrum.trace), "noise_floor": ((), spectrum.noise_floor)}
        if self.values:
            found["values"] = ("run", "quantity"), np.stack(list(self.values.values()), 1)
            for end in ("value", "low", "high"):
                numbers = [getattr(estimate, end) for estimate in self.estimates.values()]
                found[f"estimate_{end}"] = ("quantity",), numbers
        if self.eigenvalues is not None:
            found["eigenvalues_of_runs"] = ("run", "place"), self.eigenvalues
        variables = {name: (axes, np.asarray(numbers)) for name, (axes, numbers) in found.items()}
        labels = {"quantity": (("quantity",), np.array(list(self.values)))} if self.values else {}
        return dataclasses.replace(
            ranked, variables=ranked.variables | variables, coordinates=ranked.coordinates | labels
        )

    def _facts(self) -> list[Fact]:
        """The facts about the spectrum and the ranking: means over runs with intervals, if anything is random."""
        return [self._fact(fact) for fact in (*self.spectrum._facts(), *self.ranking._facts())]

    def _fact(self, fact: Fact) -> Fact:
        label = fact.label
        found = self.estimates.get(label)
        if found is None:
            return fact
        if not np.isfinite(found.value):  # the number of the first run is not that of all
            return Fact(label, None, "not defined" if self.runs == 1 else "not defined in each run")
        if label == "modes above the noise floor":
            rows = self.spectrum.num_missing + len(self.spectrum.eigenvalues)
            method = "" if self.spectrum.method == "dense" else f" ({self.spectrum.method})"
            return Fact(label, round(found.value), f"{round(found.value):,} of {rows:,}{method}")
        if not self.is_random[label]:
            return Fact.of_number(label, found.value) if label == "effective rank" else fact
        text = interval(found.value, found.low, found.high)
        if label == "decay exponent":
            text += " against frequency"
        return Fact.of_interval(label, found.value, found.low, found.high, text)

    def _table(self, num_rows: int) -> Table:
        """A table of the first modes, with each mode's share of the trace, the facts, and notes on the columns."""
        ranked = self.ranking._table(num_rows)
        values = np.asarray(self.ranking.eigenvalues)[: len(ranked.rows)]
        columns: dict[str, Sequence[str]] = {}
        for head, cells in ranked.columns.items():
            columns[head] = cells
            if head == "eigenvalue":
                columns["of trace"] = [percent(value, self.spectrum.trace) for value in values]
        modes = counted(len(self.ranking.eigenvalues), "mode")
        title = f"{type(self).__name__}: {modes} on {counted(len(self.spectrum.weights), 'input')}"
        unknown = {"frequency"} if self.ranking.measure not in MEASURES else set()  # its unit is the measure's own
        sentences = explained({head: cells for head, cells in columns.items() if head not in unknown})
        of_first = ["Modes are those of the first run; the facts are means over runs."] if self.runs > 1 else []
        return Table(
            f"{title}, frequency by {self.ranking.measure}",
            columns,
            [f"{', '.join(map(str, self._facts()))}.", *of_first, *sentences],
            ranked.more,
        )

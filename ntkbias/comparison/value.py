"""Several kernels on the same inputs, side by side.

>>> import ntkbias as nb
>>> circle = nb.domains.Circle()
>>> x, weights = circle.quadrature(32)
>>> kernels = {f"depth {d}": nb.infinite_ntk(nb.nets.mlp(depth=d, b_std=0.1)) for d in (1, 3)}
>>> comparison = nb.compare(kernels, x, circle, weights=weights)
>>> comparison.names, [round(float(s.eigenvalues[0] / s.trace), 2) for s in comparison.spectra]
(('depth 1', 'depth 3'), [0.3, 0.4])
>>> spectrum, ranking = comparison["depth 1"]
>>> list(comparison), "depth 2" in comparison, ranking.frequencies[:3].tolist()
(['depth 1', 'depth 3'], False, [0.0, 1.0, 1.0])
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import require_name
from ntkbias.comparison.similarities import Similarity
from ntkbias.comparison.verdicts import Verdicts
from ntkbias.domains import Domain
from ntkbias.frequency import MEASURES, FrequencyRanking
from ntkbias.spectra import Spectrum
from ntkbias.tables import (
    MOST_ROWS,
    Fact,
    Labeled,
    Printed,
    Table,
    counted,
    explained,
    joined,
    percent,
    printed,
    printed_html,
)

__all__ = ["ComparedKernel", "Comparison"]


class ComparedKernel(Printed):
    """One kernel of a comparison: `spectrum, ranking = comparison[name]`. It prints as a table of its first modes.

    `spectrum` and `ranking` are those of the first run. `spectra` has one per run, and `values` holds the numbers of
    all runs by their names.
    """

    spectra: tuple[Spectrum, ...]
    ranking: FrequencyRanking
    values: dict[str, Float[Array, " r"]]

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

    def facts(self) -> list[Fact]:
        """The facts about the kernel's spectrum and about the ranking of its modes."""
        return [*self.spectrum.facts(), *self.ranking.facts()]

    def table(self, num_rows: int = MOST_ROWS) -> Table:  # of JAX arrays as well: it compiles nothing
        """A table of the first modes, with each mode's share of the trace, the facts, and notes on the columns."""
        ranked = self.ranking.table(num_rows)
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
        return Table(
            f"{title}, frequency by {self.ranking.measure}",
            columns,
            [f"{', '.join(map(str, self.facts()))}.", *sentences],
            ranked.more,
        )

    def _labeled(self) -> Labeled:
        """The ranked modes, with numbers of the spectrum: those of the first run, and `values` of all runs."""
        ranked, spectrum = self.ranking.labeled(), self.spectrum
        found = {name.replace(" ", "_"): (("run",), np.asarray(each)) for name, each in self.values.items()}
        found["trace"], found["noise_floor"] = ((), np.asarray(spectrum.trace)), ((), np.asarray(spectrum.noise_floor))
        return dataclasses.replace(ranked, variables=ranked.variables | found)

    def __repr__(self) -> str:
        return printed(self)

    def _repr_html_(self) -> str:
        return printed_html(self)


class Comparison(Printed):
    """The spectra and frequency rankings of several kernels on the same inputs, in the order of `names`.

    `comparison[name]` is the pair (spectrum, ranking) of one kernel. `len`, `in`, iteration, `keys` and `items` work as
    in a dictionary of such pairs by name. It prints as a table with one row per kernel.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    spectra: tuple[Spectrum, ...]
    rankings: tuple[FrequencyRanking, ...]
    domain: Domain
    targets: Float[Array, "n *t"] | None = None

    def __getitem__(self, name: str) -> ComparedKernel:
        require_name(name, self.names, "a kernel that was compared")
        place = self.names.index(name)
        spectrum, ranking = self.spectra[place], self.rankings[place]
        values = {"effective rank": jnp.atleast_1d(jnp.asarray(spectrum.effective_rank_bounds()[0]))}
        values["Spearman's rho"] = jnp.atleast_1d(jnp.asarray(ranking.spearman))
        return ComparedKernel((spectrum,), ranking, values)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def keys(self) -> tuple[str, ...]:
        """The names of the kernels."""
        return self.names

    def items(self) -> list[tuple[str, ComparedKernel]]:
        """The pairs of each kernel's name and its (spectrum, ranking)."""
        return [(name, self[name]) for name in self.names]

    def answer(self) -> str:
        """Two sentences: which functions each learns first, and how sure that is."""
        rhos = {name: round(kernel.ranking.spearman, 3) for name, kernel in self.items()}
        first = ", ".join(f"{name} {rho:.3f}" for name, rho in rhos.items())
        return f"Spearman's rho between eigenvalue and frequency is {first}. {self.uncertainty()}"

    def uncertainty(self) -> str:
        """What the intervals include, and what they do not."""
        return "Each kernel has one run, so the numbers hold for these kernels on these inputs."

    def verdicts(self) -> Verdicts:
        """The pairwise differences, with simultaneous 95 % intervals; ties are called ties."""
        return Verdicts(())

    def similarity(self, k: int = 10) -> Similarity:
        """Principal angles between the first k eigenfunctions, and CKA, of every two."""
        pairs = len(self) * (len(self) - 1) // 2
        return Similarity(self.names, jnp.full((pairs, k), jnp.nan), jnp.full(pairs, jnp.nan))

    def _labeled(self) -> Labeled:
        """The ranked modes of each kernel along the axis "kernel"."""
        return joined("kernel", self.names, [self[name].labeled() for name in self.names])

    def _table(self, num_rows: int) -> Table:
        found = [{fact.label: fact.text for fact in kernel.facts()} for _, kernel in self.items()[:num_rows]]
        labels = list(dict.fromkeys(label for facts in found for label in facts))
        columns = {"kernel": list(self.names[:num_rows])}
        columns |= {label: [facts.get(label, "-") for facts in found] for label in labels}
        inputs = counted(len(self.spectra[0].weights), "input") if self.spectra else "no inputs"
        title = f"Comparison: {counted(len(self), 'kernel')} on {inputs}, {type(self.domain).__name__}"
        return Table(title, columns, more=len(self) - len(found))

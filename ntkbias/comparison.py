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

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import key_or_default, require_finite, require_known, require_name, require_wide
from ntkbias.domains import Domain
from ntkbias.eigen import spectrum
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import MEASURES, FrequencyMeasure, FrequencyRanking, measure_on, rank_by_frequency
from ntkbias.kernels import Kernel
from ntkbias.kernels.kernel import require_kernel
from ntkbias.mistaken import require_no_labels
from ntkbias.progress import progress
from ntkbias.spectra import Spectrum
from ntkbias.tables import MOST_ROWS, Fact, Printed, Table, counted, explained, percent, printed, printed_html

__all__ = ["Comparison", "compare"]


class ComparedKernel(NamedTuple):
    """One kernel of a comparison: `spectrum, ranking = comparison[name]`. It prints as a table of its first modes."""

    spectrum: Spectrum
    ranking: FrequencyRanking

    def facts(self) -> list[Fact]:
        """The facts about the kernel's spectrum and about the ranking of its modes."""
        return [*self.spectrum.facts(), *self.ranking.facts()]

    def table(self, num_rows: int = MOST_ROWS) -> Table:
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
        return ComparedKernel(self.spectra[place], self.rankings[place])

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

    def _table(self, num_rows: int) -> Table:
        found = [{fact.label: fact.text for fact in kernel.facts()} for _, kernel in self.items()[:num_rows]]
        labels = list(dict.fromkeys(label for facts in found for label in facts))
        columns = {"kernel": list(self.names[:num_rows])}
        columns |= {label: [facts.get(label, "-") for facts in found] for label in labels}
        inputs = counted(len(self.spectra[0].weights), "input") if self.spectra else "no inputs"
        title = f"Comparison: {counted(len(self), 'kernel')} on {inputs}, {type(self.domain).__name__}"
        return Table(title, columns, more=len(self) - len(found))


def compare(
    kernels: Mapping[str, Kernel],
    x: ArrayLike,
    domain: Domain | None = None,
    *,
    weights: ArrayLike | None = None,
    targets: ArrayLike | None = None,
    measure: str | FrequencyMeasure | None = None,
    key: PRNGKeyArray | None = None,
) -> Comparison:
    """Compute the spectrum and the frequency ranking of each named kernel on `x` `(n, ...)`.

    `targets`, `(n,)` or `(n, t)`, are values on x of functions of interest. The result keeps them for
    `Spectrum.cumulative_power`. The other arguments are those of `spectrum` and `rank_by_frequency`. Costs one spectrum
    per kernel; a progress bar counts kernels.

    Raises `InputTypeError` on kernels that are not a dict by name, and `InputError` on targets that do not have one
    finite row per input or are labels, on inputs outside the domain, and on whatever `spectrum` and `rank_by_frequency`
    refuse.
    """
    if not isinstance(kernels, Mapping) or not kernels:
        got = "an empty dict" if isinstance(kernels, Mapping) else type(kernels).__name__
        raise InputTypeError(f"Expected a dict of one or more kernels by name; got {got}.")
    for name in kernels:
        if not isinstance(name, str):
            raise InputTypeError(f"Expected the names of kernels to be strings; got {name!r}.")
        require_kernel(kernels[name])
    if domain is None:
        raise InputTypeError(
            "Expected compare(kernels, x, domain), with the domain of the inputs; got no domain. Give domain=, e.g. "
            "nb.domains.PointCloud() for data."
        )
    require_known((kernels, x, weights, targets), "compare")
    key = key_or_default(key)
    inputs = require_wide(x, "x")
    values = None if targets is None else require_wide(targets, "targets")
    if values is not None and values.shape[:1] != inputs.shape[:1]:
        raise InputError(f"Expected one row of targets for each of {len(inputs)} inputs; got shape {values.shape}.")
    if values is not None:
        require_finite(values, "targets")
        require_no_labels(values)
    chosen = measure_on(domain, measure)  # refuse bad input before the expensive work
    domain.check(inputs)
    spectra, rankings = [], []
    for name in progress(kernels, "kernels"):
        spectra.append(spectrum(kernels[name], inputs, weights=weights))
        rankings.append(rank_by_frequency(spectra[-1], domain, measure=chosen, key=key))
    return Comparison(tuple(kernels), tuple(spectra), tuple(rankings), domain, values)

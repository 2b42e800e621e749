"""`Comparison`: what `compare` returns. It answers a question in two sentences, with verdicts and tables behind them.

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
>>> print(comparison.uncertainty())
The inputs are weighted nodes and count as fixed. Nothing is random in depth 1 and depth 3: differences are exact.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import require_name
from ntkbias.comparison.answers import answer_of, population_of, uncertainty_of
from ntkbias.comparison.compared import ComparedKernel
from ntkbias.comparison.estimates import Estimates, estimate_of, estimates_of
from ntkbias.comparison.evidence import Evidence, Sample, Term
from ntkbias.comparison.quantities import QUANTITIES, label_of
from ntkbias.comparison.similarities import Similarity, similarity_of
from ntkbias.comparison.slopes import slopes_of
from ntkbias.comparison.verdicts import Verdicts, verdicts_of
from ntkbias.domains import Domain
from ntkbias.errors import InputError
from ntkbias.frequency import FrequencyRanking
from ntkbias.spectra import Spectrum
from ntkbias.tables import Labeled, Printed, Table, counted, joined

__all__ = ["Comparison"]

OF_TARGETS = "learning time", "relative time", "samples needed", "share of the trace"
FALLBACK = (("Spearman's rho", ""),)


class Comparison(Printed):
    """Networks and kernels on the same inputs, in the order of `names`. `compare` and `compare_grid` make it.

        answer()          two sentences: which functions each learns first, and how sure that is
        uncertainty()     what the intervals include
        verdicts()        all pairwise differences with simultaneous intervals; ties are called ties
        similarity(k)     principal angles and CKA of every two
        by_target()       learning times, examples needed and more, of each target under each network or kernel
        learning_curves() the predicted test error of each target, by number of examples
        by_frequency()    the share of each kernel's trace by degree or band of frequency
        slopes()          for a grid: the power law of a quantity in the width or another number

    `comparison[name]` is one of them, with its `spectrum` and `ranking` (of the first run), its `spectra` (of all
    runs), and all numbers in `values`. `spectra` and `rankings` hold the first run of each. `len`, `in`, iteration,
    `keys` and `items` work as in a dictionary. It prints as a table with one row per name; with several runs, as means
    and 95 % intervals. Means and intervals of positive numbers are those of their logarithms.

    `targets` are the columns of all targets, `eigenvalues` all eigenvalues of each run, `columns` the quantities, and
    `values` and `replicates` their numbers: of each run, and of each run without each group of inputs.

    >>> import ntkbias as nb
    >>> things = {"narrow": nb.nets.mlp(width=16, depth=2), "wide": nb.nets.mlp(width=64, depth=2)}
    >>> found = nb.compare(things, nb.domains.Circle(), seeds=3)
    >>> "wide" in found, found["wide"].runs, found.eigenvalues[0].shape
    (True, 3, (3, 256))
    >>> [row.pair for row in found.verdicts("effective rank").rows]
    ['narrow / wide']
    """

    names: tuple[str, ...] = eqx.field(static=True)
    spectra: tuple[Spectrum, ...]
    rankings: tuple[FrequencyRanking, ...]
    domain: Domain
    targets: Float[Array, "n *t"] | None = None
    other_spectra: tuple[tuple[Spectrum, ...], ...] = ()
    eigenvalues: tuple[Float[Array, "_r _k"], ...] = ()
    values: tuple[Float[Array, "_r _q"], ...] = ()
    replicates: tuple[Float[Array, "_r _g _q"], ...] | None = None
    cka: Float[Array, "runs runs"] | None = None  # of every two runs, in the order of names
    columns: tuple[tuple[str, str], ...] = eqx.field(static=True, default=())
    networks: tuple[bool, ...] = eqx.field(static=True, default=())  # whether runs are initializations
    sampled: bool = eqx.field(static=True, default=False)  # whether the inputs count as a random sample
    grid: tuple[tuple[str, tuple[Any, ...]], ...] = eqx.field(static=True, default=())  # each name's value on each axis

    def __getitem__(self, name: str) -> ComparedKernel:
        require_name(name, self.names, "a kernel that was compared")
        place = self.names.index(name)
        spectra = (self.spectra[place], *(self.other_spectra[place] if self.other_spectra else ()))
        if not self.columns:
            return ComparedKernel(spectra, self.rankings[place], None, {}, {}, {})
        evidence, labels = self._evidence(), [label_of(*column) for column in self.columns]
        values = np.asarray(self.values[place])
        estimates, random = {}, {}
        for index, (quantity, _) in enumerate(self.columns):
            found = evidence.sum([Term(place, index)])
            estimates[labels[index]] = estimate_of(quantity, found)
            random[labels[index]] = found.is_random
        numbers: dict[str, Any] = {label: values[:, index] for index, label in enumerate(labels)}
        return ComparedKernel(spectra, self.rankings[place], self.eigenvalues[place], numbers, estimates, random)

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
        """The pairs of each kernel's name and what the comparison has of it."""
        return [(name, self[name]) for name in self.names]

    @property
    def runs(self) -> tuple[int, ...]:
        """The number of runs under each name."""
        return tuple(len(values) for values in self.values) or (1,) * len(self)

    @property
    def target_names(self) -> tuple[str, ...]:
        """The names of the targets."""
        return tuple(of for quantity, of in self.columns if quantity == "learning time")

    def answer(self) -> str:
        """Two sentences: which functions each learns first, and how sure that is.

        With several targets, the first sentence names the targets that each may learn first: those that no other target
        precedes beyond its error. With one target, it names what learns it from the fewest examples; with none, it says
        whether low frequencies come first. The second sentence has the intervals. Ties are joined by "or".
        """
        evidence, columns = self._evidence(), self.columns or FALLBACK
        return " ".join(answer_of(evidence, self.names, columns, population_of(*self._setting())))

    def uncertainty(self) -> str:
        """What the intervals include, and what they do not."""
        return uncertainty_of(self.names, *self._setting())

    def verdicts(self, quantities: str | Sequence[str] | None = None) -> Verdicts:
        """All pairwise differences in some quantities, with simultaneous 95 % intervals; ties are called ties.

        By default the quantities are those that do not depend on a kernel's own scale, such as "effective rank",
        "Spearman's rho" and "samples needed". Fewer quantities have narrower intervals. Differences are paired over
        inputs. Raises `InputError` on an unknown quantity.
        """
        return verdicts_of(self._evidence(), self.names, self.columns or FALLBACK, quantities)

    def similarity(self, k: int = 10) -> Similarity:
        """Principal angles between the spans of the first k eigenfunctions, and CKA, of every two.

        Raises `InputError` if the comparison keeps fewer than k modes above the noise of some run.
        """
        spectra = [self[name].spectra for name in self.names]
        return similarity_of(self.names, spectra, None if self.cka is None else np.asarray(self.cka), k)

    def by_target(self) -> Estimates:
        """Learning times, examples needed and the share of the trace, of each target in each kernel, with intervals."""
        return self._estimates("Targets", OF_TARGETS)

    def learning_curves(self) -> Estimates:
        """The predicted test error of regression, as a share of each target's power, by number of examples."""
        return self._estimates("Predicted learning curves", ("test error",))

    def by_frequency(self) -> Estimates:
        """The share of each kernel's trace in each of the first degrees, or in bands of resolved frequencies."""
        return self._estimates("Energy by frequency", ("energy",))

    def slopes(self, quantity: str, axis: str = "width") -> Estimates:
        """For a grid: the exponent a in quantity ~ axis^a, with an interval, for each setting of the other axes.

        For example, `slopes("distance to the limit")` is near -1/2 in wide networks. Raises `InputError` if this is no
        comparison of a grid, if the axis holds fewer than two numbers, or if the quantity is not positive.
        """
        return slopes_of(self._evidence(), self.names, self.columns, self.grid, quantity, axis)

    def _labeled(self) -> Labeled:
        """The ranked modes of each, and all numbers, along the axis "kernel"."""
        return joined("kernel", self.names, [self[name].labeled() for name in self.names])

    def _table(self, num_rows: int) -> Table:
        found = [{fact.label: fact.text for fact in kernel.facts()} for _, kernel in self.items()[:num_rows]]
        labels = list(dict.fromkeys(label for facts in found for label in facts))
        columns = {"kernel": list(self.names[:num_rows])}
        if max(self.runs, default=1) > 1:
            columns["runs"] = [str(count) for count in self.runs[:num_rows]]
        columns |= {label: [facts.get(label, "-") for facts in found] for label in labels}
        inputs = counted(len(self.spectra[0].weights), "input") if self.spectra else "no inputs"
        title = f"Comparison: {counted(len(self), 'kernel')} on {inputs}, {type(self.domain).__name__}"
        return Table(title, columns, more=len(self) - len(found))

    def _estimates(self, title: str, quantities: Sequence[str]) -> Estimates:
        evidence, rows = self._evidence(), []
        for thing, name in enumerate(self.names):
            for place, (quantity, of) in enumerate(self.columns):
                if quantity in quantities:
                    found = estimate_of(quantity, evidence.sum([Term(thing, place)]))
                    rows.append((name, quantity, of, found))
        if not rows:
            what = "targets" if set(quantities) & {*OF_TARGETS, "test error"} else "levels of frequency"
            raise InputError(f"Expected a comparison with {what}; got none. Use compare(things, x, targets=...).")
        return estimates_of(title, rows, ("Intervals of 95 %, each on its own. " + self.uncertainty(),))

    def _evidence(self) -> Evidence:
        """The numbers on the scales on which they are averaged."""
        if not self.columns:
            return Evidence([Sample(np.array([[ranking.spearman]]), None) for ranking in self.rankings])
        logs = np.array([QUANTITIES[quantity].is_log for quantity, _ in self.columns])

        def scaled(numbers: Any) -> np.ndarray:
            found = np.asarray(numbers, float)
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.where(logs, np.log(found), found)

        without = self.replicates or (None,) * len(self)
        runs, networks, resampled, sampled = self._setting()
        lacks: list[Any] = [
            "nothing" if resampled else "inputs" if sampled else "runs" if net and count == 1 else "nothing"
            for count, net in zip(runs, networks, strict=True)
        ]
        return Evidence(
            [
                Sample(scaled(numbers), None if groups is None else scaled(groups), lack)
                for numbers, groups, lack in zip(self.values, without, lacks, strict=True)
            ]
        )

    def _setting(self) -> tuple[tuple[int, ...], tuple[bool, ...], int | None, bool]:
        """The runs under each name, whether they are initializations, the number of inputs if intervals count them."""
        n = len(self.spectra[0].weights) if self.spectra and self.replicates is not None else None
        return self.runs, self.networks or (False,) * len(self), n, self.sampled

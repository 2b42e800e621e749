"""Verdicts: pairwise differences with simultaneous intervals. A difference within its own error is a tie.

The intervals of all m differences in one table hold at once with probability 95 %: each misses with probability 5 % / m
at most (Bonferroni). This holds for any dependence between them. A table of fewer quantities has narrower intervals.

>>> import numpy as np
>>> from ntkbias.comparison.evidence import Evidence, Sample
>>> from ntkbias.comparison.verdicts import verdicts_of
>>> noise = np.array([-0.05, 0.0, 0.05])[:, None]
>>> evidence = Evidence([Sample(noise + mean, None) for mean in (-0.9, -0.2, -0.3)])
>>> print(verdicts_of(evidence, ("mlp", "cnn", "resnet"), (("Spearman's rho", ""),), None))
Verdicts: 3 differences, simultaneous 95 % intervals
quantity        pair                          difference  verdict
Spearman's rho  mlp - cnn      -0.700 (-1.012 to -0.388)  mlp lower
Spearman's rho  mlp - resnet   -0.600 (-0.912 to -0.288)  mlp lower
Spearman's rho  cnn - resnet  0.1000 (-0.2123 to 0.4123)  tie
All intervals hold at once with probability 95 % (Bonferroni, for 3 differences). A / marks a ratio,
- a difference. A tie is a difference within its interval: neither name wins.
"""

import itertools
from collections.abc import Sequence

import equinox as eqx
import numpy as np

from ntkbias.checks import require_name
from ntkbias.comparison.estimates import exactly
from ntkbias.comparison.evidence import LEVEL, Evidence
from ntkbias.comparison.quantities import QUANTITIES, label_of
from ntkbias.errors import InputError
from ntkbias.scaling import Interval
from ntkbias.tables import Labeled, Printed, Table, counted, spread

__all__ = ["Verdict", "Verdicts", "verdicts_of"]

MOST_VERDICTS = 40  # rows of a printed table


class Verdict(Printed):
    """One difference of two things, `first` minus `second`, with its simultaneous 95 % interval.

    `is_ratio` says that it is the ratio `first` / `second`, for quantities on a logarithmic scale. `outcome` is "tie",
    "not defined", "not judged" if it has no error to be judged by, or says which of the two is lower or higher.

    >>> import ntkbias as nb
    >>> things = {"narrow": nb.nets.mlp(width=16, depth=2), "wide": nb.nets.mlp(width=64, depth=2)}
    >>> found = nb.compare(things, nb.domains.Circle(), seeds=3)
    >>> verdict = found.verdicts("effective rank")["effective rank", "narrow", "wide"]
    >>> verdict.pair, verdict.difference.low <= verdict.difference.value <= verdict.difference.high
    ('narrow / wide', True)
    """

    quantity: str = eqx.field(static=True)  # with its target, as "learning time: parity"
    first: str = eqx.field(static=True)
    second: str = eqx.field(static=True)
    difference: Interval
    is_ratio: bool = eqx.field(static=True)
    outcome: str = eqx.field(static=True)

    @property
    def is_tie(self) -> bool:
        """Whether the two cannot be told apart, or are exactly the same."""
        return self.outcome == "tie"

    @property
    def pair(self) -> str:
        """The two names, divided or subtracted."""
        return f"{self.first} {'/' if self.is_ratio else '-'} {self.second}"

    def _table(self, num_rows: int) -> Table:
        return Table(f"{self.quantity}: {self.pair} {self._interval()}, {self.outcome}")

    def _interval(self) -> str:
        return exactly(self.difference.value, self.difference.low, self.difference.high)


class Verdicts(Printed):
    """All pairwise differences of some quantities. It prints as a table with one row each.

    `rows` are the verdicts, and `ties` those of them that are ties. `verdicts[quantity, first, second]` is one of them.

    >>> import ntkbias as nb
    >>> things = {"narrow": nb.nets.mlp(width=16, depth=2), "wide": nb.nets.mlp(width=64, depth=2)}
    >>> found = nb.compare(things, nb.domains.Circle(), seeds=3)
    >>> verdicts = found.verdicts("effective rank")
    >>> len(verdicts), len(verdicts.ties) <= 1
    (1, True)
    """

    rows: tuple[Verdict, ...]

    @property
    def ties(self) -> tuple[Verdict, ...]:
        """The pairs that cannot be told apart."""
        return tuple(row for row in self.rows if row.is_tie)

    def __getitem__(self, names: tuple[str, str, str]) -> Verdict:
        known = {(row.quantity, row.first, row.second): row for row in self.rows}
        if names not in known:
            example = next(iter(known), "none")
            raise InputError(f"Expected (quantity, first, second) of a verdict, as {example}; got {names!r}.")
        return known[names]

    def __len__(self) -> int:
        return len(self.rows)

    def _labeled(self) -> Labeled:
        """The differences by quantity and the two names."""
        labels = {axis: [getattr(row, axis) for row in self.rows] for axis in ("quantity", "first", "second")}
        differences = [row.difference for row in self.rows]
        ends = {end: np.array([getattr(each, end) for each in differences], float) for end in ("value", "low", "high")}
        flags = {flag: np.array([getattr(row, flag) for row in self.rows], bool) for flag in ("is_ratio", "is_tie")}
        return spread(labels, ends | flags)

    def table(self, num_rows: int = MOST_VERDICTS) -> Table:
        """The table that printing shows, with up to `num_rows` rows."""
        return super().table(num_rows)

    def _table(self, num_rows: int) -> Table:
        shown = self.rows[:num_rows]
        columns = {
            "quantity": [row.quantity for row in shown],
            "pair": [row.pair for row in shown],
            "difference": [row._interval() for row in shown],
            "verdict": [row.outcome for row in shown],
        }
        defined = sum(row.outcome not in ("not defined", "not judged") for row in self.rows)
        notes = [
            f"All intervals hold at once with probability 95 % (Bonferroni, for {counted(defined, 'difference')}). "
            "A / marks a ratio, - a difference. A tie is a difference within its interval: neither name wins."
        ]
        if any(row.difference.low == row.difference.high for row in self.rows):
            notes.append(
                "A number without an interval is exact, or did not vary over runs and groups, or is not judged."
            )
        title = f"Verdicts: {counted(len(self.rows), 'difference')}, simultaneous 95 % intervals"
        return Table(
            title, columns, notes if shown else ["One kernel has no differences."], len(self.rows) - len(shown)
        )


def verdicts_of(
    evidence: Evidence,
    names: Sequence[str],
    columns: Sequence[tuple[str, str]],
    quantities: Sequence[str] | None,
) -> Verdicts:
    """The verdicts on all pairs of things in these quantities; by default in those that have no scale of their own."""
    chosen = (quantities,) if isinstance(quantities, str) else quantities
    for name in chosen or ():
        require_name(name, tuple(dict.fromkeys(quantity for quantity, _ in columns)), "a quantity of this comparison")
    kept = [
        (place, *column)
        for place, column in enumerate(columns)
        if (QUANTITIES[column[0]].compared if chosen is None else column[0] in chosen)
    ]
    pairs = list(itertools.combinations(range(len(names)), 2))
    found = [
        (quantity, of, pair, evidence.difference((pair[0], place), (pair[1], place)))
        for place, quantity, of in kept
        for pair in pairs
    ]
    level = LEVEL / max(sum(bool(np.isfinite(contrast.value)) for *_, contrast in found), 1)
    rows = []
    for quantity, of, (i, j), contrast in found:
        about = QUANTITIES[quantity]
        ends = np.array([contrast.value, *contrast.ends(level)])
        difference = Interval(*(float(each) for each in (np.exp(ends) if about.is_log else ends)))
        if not np.isfinite(contrast.value):
            outcome = "not defined"
        elif contrast.is_unsure:
            outcome = "not judged"
        elif not contrast.differs(level):
            outcome = "tie"
        else:
            outcome = f"{names[i]} {about.less if contrast.value < 0 else about.more}"
        rows.append(Verdict(label_of(quantity, of), names[i], names[j], difference, about.is_log, outcome))
    return Verdicts(tuple(rows))

"""Verdicts: the pairwise differences of a comparison, with simultaneous intervals."""

import equinox as eqx

from ntkbias.scaling import Interval
from ntkbias.tables import Printed, Table, interval

__all__ = ["Verdict", "Verdicts"]


class Verdict(Printed):
    """One difference between two things in one quantity, with its simultaneous 95 % interval, and who is larger."""

    quantity: str = eqx.field(static=True)
    first: str = eqx.field(static=True)
    second: str = eqx.field(static=True)
    difference: Interval
    winner: str | None = eqx.field(static=True)  # the one with the larger value; None for a tie

    def _table(self, num_rows: int) -> Table:
        return Table(self.text)

    @property
    def text(self) -> str:
        """The verdict in words: "first above second", "second above first" or "tie"."""
        if self.winner is None:
            return "tie"
        return f"{self.winner} above {self.second if self.winner == self.first else self.first}"


class Verdicts(Printed):
    """All pairwise differences of a comparison. It prints as a table with one row per quantity and pair."""

    rows: tuple[Verdict, ...]
    method: str = eqx.field(static=True, default="")

    def _table(self, num_rows: int) -> Table:
        shown = self.rows[:num_rows]
        columns = {
            "quantity": [row.quantity for row in shown],
            "pair": [f"{row.first} - {row.second}" for row in shown],
            "difference": [interval(row.difference.value, row.difference.low, row.difference.high) for row in shown],
            "verdict": [row.text for row in shown],
        }
        return Table("Verdicts", columns, [self.method], more=len(self.rows) - len(shown))

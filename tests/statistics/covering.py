"""Does an interval hold the truth as often as it says? One `Case` per kind of interval, on data with a known truth.

A draw makes fresh data, computes intervals from them, and says of each whether it holds the truth. Over `draws` draws
an interval of nominal coverage p must hold the truth in a share of at least p - 2 sqrt(p (1 - p) / draws). More is
reported and passes. A bound has nominal coverage 1: a single miss fails.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["DRAWS", "Case", "Row", "holds", "least", "rows"]

DRAWS = 200
ROUNDING = 1e-6  # relative: float32 results at the very end of an interval


class Case(NamedTuple):
    """A kind of interval and data with a known truth. `draw(seed)` says by name which intervals hold the truth."""

    interval: str
    data: str
    truth: str
    draw: Callable[[int], dict[str, bool]]
    nominal: float = 0.95
    trains: bool = False  # such cases run in benchmarks/coverage.py alone


class Row(NamedTuple):
    """The coverage of one interval."""

    case: Case
    name: str
    held: int
    draws: int

    @property
    def coverage(self) -> float:
        return self.held / self.draws

    @property
    def verdict(self) -> str:
        nominal = self.case.nominal
        if self.coverage < least(nominal, self.draws):
            return "DOES NOT COVER"
        more = nominal < 1 and self.coverage > 2 * nominal - least(nominal, self.draws)
        return "covers more" if more else "covers"


def least(nominal: float, draws: int) -> float:
    """The least coverage that passes: nominal, less two binomial standard errors."""
    return nominal - 2 * (nominal * (1 - nominal) / draws) ** 0.5


def rows(case: Case, draws: int, seeds: Iterator[int] | None = None) -> list[Row]:
    """The coverage of each interval of a case over seeds 0 .. draws - 1, or over the given ones."""
    held: dict[str, int] = {}
    for seed in range(draws) if seeds is None else seeds:
        for name, inside in case.draw(seed).items():
            held[name] = held.get(name, 0) + bool(inside)
    return [Row(case, name, count, draws) for name, count in held.items()]


def holds(low: float, high: float, truth: float) -> bool:
    """Whether the interval holds the truth, up to the rounding of its ends."""
    room = ROUNDING * abs(truth)
    return bool(low - room <= truth <= high + room)

"""What a study is: a paper's experiment as one value.

A study names its paper, tells the idea in three sentences, holds its settings at three scales, runs, draws its figures,
and lists the paper's claims, each with a bound on a measured number. Tests, the command line and the documentation read
this value, and so does a user who changes the experiment.

>>> from ntkbias.studies.study import Bound, Claim
>>> slope = Claim("The drift falls as 1 / width.", "slope", Bound(-1.1, -0.9))
>>> str(slope.bound), slope.bound.holds(-1.02), str(Bound(low=500)), str(Bound(high=4.0))
('-1.10 to -0.900', True, 'at least 500', 'at most 4.00')
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from matplotlib.axes import Axes

from ntkbias.tables import number

__all__ = ["Bound", "Claim", "Figure", "Findings", "Paper", "Study"]

Findings = Mapping[str, Any]  # what one run of a study found: numbers of its claims, and values for its figures


class Paper(NamedTuple):
    """A paper: authors, year, title and arXiv number."""

    authors: str
    year: int
    title: str
    arxiv: str | None = None

    def __str__(self) -> str:
        place = f", arXiv {self.arxiv}" if self.arxiv else ""
        return f"{self.authors} ({self.year}): {self.title}{place}"


@dataclasses.dataclass(frozen=True)
class Bound:
    """The numbers that a claim expects, from `low` to `high`, inclusive."""

    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def about(cls, value: float, tolerance: float) -> "Bound":
        """The numbers that differ from `value` by `tolerance` at most."""
        return cls(value - tolerance, value + tolerance)

    def holds(self, value: float) -> bool:
        """Whether the number lies within the bound. NaN does not."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        if self.low == -math.inf:
            return f"at most {number(self.high)}"
        if self.high == math.inf:
            return f"at least {number(self.low)}"
        return f"{number(self.low)} to {number(self.high)}"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the paper, the quantity among the findings that tests it, and the bound that it expects.

    `of` says how several runs count. With "mean", the claim is about their mean. With "each", it is about every run.
    `reason` says where the bound comes from, if the paper does not state it. If the claim is that one thing beats
    another, `tie` is the distance from the bound up to which they count as equal: such a result is a tie.
    """

    sentence: str
    quantity: str
    bound: Bound
    reason: str = ""
    of: Literal["mean", "each"] = "mean"
    tie: float = 0.0


class Figure(NamedTuple):
    """A figure: its caption, and the function that draws the findings of the first run on axes."""

    caption: str
    draw: Callable[[Findings, Axes], Any]


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment. `papers` is empty if it comes from an article that is not on arXiv.

    `scales` has the settings for "smoke" (seconds: it runs), "small" (at most five minutes on two cores: it shows) and
    "paper" (the paper's own size). `run(settings, key)` returns the findings of one run as a dict. A number may have an
    axis of runs, if networks train together. `num_seeds` is the number of runs by default: 1 if nothing is random.
    """

    name: str
    papers: tuple[Paper, ...]
    idea: str
    scales: Mapping[str, Any]
    run: Callable[[Any, Any], Findings]
    claims: tuple[Claim, ...]
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)
    num_seeds: int = 1
    cost: str = ""  # time and memory at the paper's scale, if two cores cannot run it in an hour
    origin: str = ""  # where the claims come from, if it is not the first paper
    needs: str = ""  # a setting that a user has to give beyond the smoke scale, such as the place of a file

    @property
    def source(self) -> str:
        """Where the claims come from: the first paper in short, such as "Huh et al. 2021", or the `origin`."""
        if self.origin:
            return self.origin
        return f"{self.papers[0].authors} {self.papers[0].year}" if self.papers else "an article, not on arXiv"

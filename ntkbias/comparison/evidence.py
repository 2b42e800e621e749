"""Estimates, and differences of estimates, with two sources of error: initializations and inputs.

An estimate is the mean over runs. Its expected value is over new initializations and, if the inputs are a sample, over
new draws of as many inputs. Two variances add up:

    initializations    s^2 / R, from the R runs of a network
    inputs             (G - 1) / G * sum_g (mean over runs without group g - their mean)^2

The second is the delete-a-group jackknife (Kott 2001, Journal of Official Statistics 17): the inputs are divided at
random into G groups. All kernels and targets leave out the same groups, so that a difference is paired over inputs; two
networks' runs are independent. The t distribution has the degrees of freedom of the source with the fewest: Welch and
Satterthwaite's number, from estimated variances, is too large if two runs agree by chance. The jackknife sees the
inputs' effect on the mean over these runs, which includes a part that initializations have too, so the sum is rather
too large than too small. A kernel without runs on inputs that are not random has no error.

>>> import numpy as np
>>> from ntkbias.comparison.evidence import Evidence, Sample
>>> rng = np.random.default_rng(0)
>>> samples = [Sample(rng.normal(mean, 0.1, (8, 1)), None) for mean in (0.0, 1.0)]
>>> found = Evidence(samples).difference((0, 0), (1, 0))
>>> low, high = found.ends(0.05)
>>> bool(low < -0.9 < high), found.differs(0.05), found.freedom
(True, True, 7)
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy
from jaxtyping import Float

__all__ = ["LEVEL", "Contrast", "Evidence", "Sample", "Term"]

LEVEL = 0.05  # the probability that an interval, or any of several simultaneous ones, misses
ROUNDING = 1e-5  # numbers in float32 that differ less are equal, if nothing is random
NOTHING = 1e-12  # standard error: the rounding of sums of equal numbers


class Term(NamedTuple):
    """A number of one thing, times a factor, within a sum."""

    thing: int
    column: int
    factor: float = 1.0


class Contrast(NamedTuple):
    """A sum of numbers with its standard error, which is zero if nothing in it is random, or nothing in it varied."""

    value: float
    error: float
    freedom: float  # degrees of freedom
    is_random: bool = True

    @property
    def is_unsure(self) -> bool:
        """Whether a random number that is not zero did not vary, as a rank: it then has no error to be judged by."""
        return self.is_random and self.error == 0 and abs(self.value) > ROUNDING

    def half_width(self, level: float) -> float:
        """Half the width of the interval that misses with probability `level`."""
        if not self.error:
            return 0.0
        return self.error * float(scipy.special.stdtrit(self.freedom, 1 - level / 2))

    def ends(self, level: float) -> tuple[float, float]:
        """The ends of that interval."""
        half = self.half_width(level)
        return self.value - half, self.value + half

    def differs(self, level: float) -> bool:
        """Whether the interval excludes zero; without an error, whether the number is more than rounding."""
        if self.is_unsure:
            return False
        return bool(abs(self.value) > max(self.half_width(level), 0.0 if self.error else ROUNDING))


class Sample(NamedTuple):
    """The numbers of one thing: of each run, and of each run without each group of inputs, if the inputs are random.

    A network of one run on fixed inputs `lacks` "runs": nothing is known of how it differs from other things beyond
    this initialization. Random inputs that are too few for groups lack "inputs": no number can be judged.
    """

    runs: Float[np.ndarray, "r q"]
    without: Float[np.ndarray, "r g q"] | None
    lacks: Literal["nothing", "runs", "inputs"] = "nothing"


class Evidence(NamedTuple):
    """The numbers of all things."""

    samples: Sequence[Sample]

    def sum(self, terms: Sequence[Term]) -> Contrast:
        """The sum of these terms. NaN if a term is not finite in some run."""
        value, parts = 0.0, []
        without: np.ndarray | float = 0.0
        things = list(dict.fromkeys(term.thing for term in terms))
        for thing in things:
            sample = self.samples[thing]
            own = [(term.column, term.factor) for term in terms if term.thing == thing]
            columns, factors = [column for column, _ in own], np.array([factor for _, factor in own])
            runs = sample.runs[:, columns] @ factors
            value += float(np.mean(runs))
            if len(runs) > 1:
                parts.append((float(np.var(runs, ddof=1)) / len(runs), len(runs) - 1))
            if sample.without is not None:
                without = without + (sample.without[:, :, columns] @ factors).mean(0)
        if isinstance(without, np.ndarray):
            groups = len(without)
            parts.append((float((groups - 1) * np.var(without)), groups - 1))
        variance = sum(part for part, _ in parts)
        if not np.isfinite(value) or not np.isfinite(variance):
            return Contrast(np.nan, np.nan, np.nan)
        if variance <= NOTHING**2:
            lacking = {self.samples[thing].lacks for thing in things}
            unjudged = "inputs" in lacking or ("runs" in lacking and len(things) > 1)
            return Contrast(value, 0.0, np.inf, bool(parts) or unjudged)
        return Contrast(value, variance**0.5, min(count for part, count in parts if part > NOTHING**2))

    def difference(self, first: tuple[int, int], second: tuple[int, int]) -> Contrast:
        """The number (thing, column) `first`, minus the `second`."""
        return self.sum([Term(*first), Term(*second, -1.0)])

    def least(self, numbers: Sequence[tuple[int, int]], level: float) -> list[int]:
        """The places of the numbers that may be the least: those that no other one is below, each at this level."""
        kept = []
        for place, number in enumerate(numbers):
            others = (self.difference(number, other) for other in numbers if other != number)
            if not any(found.value > 0 and found.differs(level) for found in others):
                kept.append(place)
        return kept

"""A target in the modes of a kernel: when it is learned, from how many examples, and how far a sample tells.

With eigenvalues r_i of K / n and the target's power v_i^2 in each mode, everything is a sum over modes. What lies
beyond the known modes is one mode more, whose eigenvalue is the mean one of its power.

>>> import numpy as np
>>> from ntkbias.learning.curves import Levels
>>> from ntkbias.learning.target import Target
>>> levels = Levels(np.array([1.0, 0.25]), np.ones(2), 0.0)
>>> second = Target.of(levels, np.eye(2) * 2**0.5, np.array([[0.0], [1.0]]), None, 2)
>>> second.numbers(ridge=0.0).round(6).tolist()              # 1 / (1 + 1/4) + 1/2 samples
[0.25, 4.0, 1.3]
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.optimize

from ntkbias.learning.behaviors import Behavior
from ntkbias.learning.curves import ROUNDING, Levels

__all__ = ["Target"]

NUM_TIMES = 64  # at which labels are counted, twice: a label time is exact to a hundredth
NUM_NODES = 24  # of each half of an integral over time
RIGHT = 0.9  # of the labels
HALF = 0.5  # of a target: what is learned after its time, and from the samples needed


class Target(NamedTuple):
    """A target in the known modes and, last, in all others together."""

    levels: Levels
    rates: np.ndarray  # (k + 1,): eigenvalues, and the mean eigenvalue beyond
    power: np.ndarray  # (k + 1,)
    parts: np.ndarray  # (rows, c): what lies beyond
    functions: np.ndarray  # (rows, k)
    coefficients: np.ndarray  # (k, c)
    target: np.ndarray
    num_examples: int

    @classmethod
    def of(
        cls, levels: Levels, functions: np.ndarray, target: np.ndarray, product: np.ndarray | None, n: int
    ) -> "Target":
        """A target `(rows, c)` in the eigenfunctions `(rows, k)`, given K / n times it, or None where they are all."""
        known = levels.eigenvalues > 0
        coefficients = np.where(known[:, None], functions.T @ target / n, 0.0)
        beyond = target - functions @ coefficients
        power = np.append(np.sum(coefficients**2, 1), np.sum(beyond**2) / n)
        if power[-1] < ROUNDING * np.sum(power):
            power[-1] = 0.0
        rate = 0.0
        if product is not None and power[-1]:
            left = np.sum(target * product) / n - levels.eigenvalues @ power[:-1]
            rate = np.clip(left / power[-1], 0.0, np.min(levels.eigenvalues[known], initial=np.inf))
        return cls(levels, np.append(levels.eigenvalues, rate), power, beyond, functions, coefficients, target, n)

    def numbers(self, ridge: float) -> np.ndarray:
        """Its alignment, learning time and samples needed."""
        time, kappa = self.time(), self.kappa()
        samples = np.inf if kappa == 0 else self.levels.examples(kappa, ridge)
        return np.array([self.rates @ self.power / np.sum(self.power), time, samples])

    def learned(self, gains: np.ndarray) -> float:
        """The part of it that is there, with so much of each mode."""
        return float(gains @ self.power / np.sum(self.power))

    def time(self) -> float:
        """When half of the target is learned, over ln 2: of an eigenfunction, 1 / eigenvalue."""
        return _root(lambda t: self.learned(-np.expm1(-self.rates * t)) - HALF, self.rates) / np.log(2)

    def kappa(self) -> float:
        """At which half of the target is learned."""
        scale = _root(lambda s: self.learned(self.rates * s / (1 + self.rates * s)) - HALF, self.rates)
        return 1 / scale

    def outputs(self, gains: np.ndarray) -> np.ndarray:
        """g(K) y: the target with so much of each mode."""
        return self.functions @ (gains[:-1, None] * self.coefficients) + gains[-1] * self.parts

    def label_time(self, behavior: Behavior) -> float:
        """When nine tenths of the labels are right for the first time, of times on a grid that is refined once.

        Zero where they are right as soon as outputs move, whatever the rates of the modes are.
        """
        positive = self.rates[(self.rates > 0) & (self.power > 0)]
        if behavior.labels is None or not len(positive):
            return np.nan if behavior.labels is None else np.inf
        if behavior.right_at_once(self.outputs(self.rates)) >= RIGHT:
            return 0.0
        times = np.geomspace(1e-3 / positive.max(), 1e3 / positive.min(), NUM_TIMES)
        for _ in range(2):
            right = (behavior.right(self.outputs(-np.expm1(-self.rates * time))) >= RIGHT for time in times)
            place = next((index for index, enough in enumerate(right) if enough), None)
            if place is None:
                return np.inf
            first = times[place]
            times = (
                np.geomspace(times[place - 1], first, NUM_TIMES)
                if place
                else first * np.arange(1, NUM_TIMES + 1) / NUM_TIMES
            )
        return float(times[-1])

    def deviations(self, ridge: float) -> np.ndarray:
        """Standard deviations of the logarithms of the three numbers over the bootstrap, to first order.

        Under weights w the kernel is W^1/2 K W^1/2 and the target W^1/2 y, so that y^T g(K) y changes with the weight
        of an example by y (g(K) y) there, and by what the kernel's change does: for exp(-K t) an integral over time,
        for the learnability a product, for K itself as much again.
        """
        time, kappa = self.time(), self.kappa()
        if not np.isfinite(time) or not kappa > 0:
            return np.full(3, np.inf)
        quotient = self.rates @ self.power / np.sum(self.power)
        aligned = self.influence(2 * self.target * self.outputs(self.rates), quotient) / quotient

        until = time * np.log(2)
        slope = self.learned(self.rates * np.exp(-self.rates * until)) * until
        changed = self.target * (self.target - self.left(until)) + self.left_changed(until)
        times = self.influence(changed, HALF) / slope

        part = self.rates / (self.rates + kappa)
        learned = self.outputs(part)
        fallen = self.influence(2 * self.target * learned - learned**2, HALF) / self.learned(part * (1 - part))
        return np.array([_deviation(values) for values in (aligned, times, self.more_samples(fallen, kappa, ridge))])

    def influence(self, changed: np.ndarray, mean: float) -> np.ndarray:
        """How a quotient y^T g(K) y / y^T y changes with the weight of each example, given its numerator's change."""
        numerator, squares = self.by_example(changed), self.by_example(self.target**2)
        return (numerator - numerator.mean() - mean * (squares - squares.mean())) / squares.mean()

    def more_samples(self, fallen: np.ndarray, kappa: float, ridge: float) -> np.ndarray:
        """The change of log n, where log kappa changes by `fallen`, and the eigenvalues with the examples' weights."""
        levels = self.levels
        part = levels.learnabilities(kappa)
        bend = part * (1 - part)
        count = levels.examples(kappa, ridge)
        beyond = (ridge + levels.tail / levels.num_outputs) / kappa
        steepness = (levels.multiplicities @ bend / levels.num_outputs + beyond) / count
        leverage = self.by_example(self.functions**2 @ bend[:, None]) / levels.num_outputs
        return (leverage - leverage.mean()) / count - steepness * fallen

    def left(self, time: float) -> np.ndarray:
        """exp(-K t) y: what gradient flow has not learned."""
        return self.outputs(np.exp(-self.rates * time))

    def left_changed(self, until: float) -> np.ndarray:
        """The integral of (K exp(-K s) y) (exp(-K (t - s)) y) over s from 0 to t, by differences on a graded grid."""
        early = np.geomspace(1e-2 * min(1.0, 1 / (until * self.rates.max())), 0.5, NUM_NODES)
        grid = until * np.concatenate([[0.0], early, 1 - early[-2::-1], [1.0]])
        nodes = [self.left(time) for time in grid]
        total = np.zeros_like(self.target)
        for index in range(len(grid) - 1):
            opposite = nodes[-1 - index] + nodes[-2 - index]
            total += (nodes[index] - nodes[index + 1]) * opposite / 2
        return total

    def by_example(self, values: np.ndarray) -> np.ndarray:
        """Sums over an example's outputs and columns."""
        return np.sum(values.reshape(self.num_examples, -1), 1)


def _deviation(influence: np.ndarray) -> float:
    return float(np.linalg.norm(influence) / len(influence))


def _root(function: Any, rates: np.ndarray) -> float:
    """Where an increasing function of a positive number is zero; infinity if nowhere."""
    positive = rates[rates > 0]
    if not len(positive):
        return np.inf
    low, high = np.log(1e-3 / positive.max()), np.log(1e3 / positive.min())
    if function(np.exp(high)) <= 0:
        return np.inf
    return float(np.exp(scipy.optimize.brentq(lambda log: function(np.exp(log)), low, high, xtol=1e-13)))

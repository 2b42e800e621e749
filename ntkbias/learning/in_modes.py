"""A target in the modes of a kernel: when it is learned, from how many examples, and how far a sample tells.

With eigenvalues r_i of K / n and the target's power v_i^2 in each mode, everything is a sum over modes. What the modes
beyond the known ones may do is bounded from both sides by the mean and the mean square of their eigenvalues, each
weighted by the target's power, which one product K y tells (`Beyond`). Numbers are those of the quickest that they may
be.

>>> import numpy as np
>>> from ntkbias.learning.curves import Levels
>>> from ntkbias.learning.in_modes import InModes
>>> levels = Levels(np.array([1.0, 0.25]), np.ones(2), 0.0)
>>> second = InModes.of(levels, np.eye(2) * 2**0.5, np.array([[0.0], [1.0]]), None, 2)
>>> second.numbers(ridge=0.0).round(6).tolist()              # 1 / (1 + 1/4) + 1/2 samples
[0.25, 4.0, 1.3]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy

from ntkbias.learning.curves import ROUNDING, Levels
from ntkbias.learning.targets import Target

__all__ = ["Beyond", "InModes"]

NUM_TIMES = 64  # at which labels are counted, twice: a label time is exact to a hundredth
NUM_NODES = 24  # of each half of an integral over time
RIGHT = 0.9  # of the labels
HALF = 0.5  # of a target: what is learned after its time, and from the samples needed


class Beyond(NamedTuple):
    """Where the power beyond the known modes lies: shares of it `(j,)` at eigenvalues `(j,)`."""

    shares: np.ndarray
    rates: np.ndarray

    @classmethod
    def of(cls, mean: float, square: float, top: float) -> tuple["Beyond", "Beyond"]:
        """The quickest and the slowest to learn of all spectra in [0, top] with this mean and mean square.

        A target is learned by functions g of the rates whose derivatives alternate in sign, 1 - exp(-r t) and r / (r +
        kappa). For such the rules of Gauss and Radau with a node at `top` and at 0 are the largest and the least mean
        of g (Golub and Meurant 1994): of means and mean squares these rules are exact, and their remainder is one sign
        of the third derivative times a factor that does not change its own.
        """
        mean = float(np.clip(mean, 0.0, top))
        square = float(np.clip(square, mean**2, mean * top))
        if not mean:
            nothing = cls(np.ones(1), np.zeros(1))
            return nothing, nothing
        slow = cls(np.array([1 - mean**2 / square, mean**2 / square]), np.array([0.0, square / mean]))
        if not np.isfinite(top) or top - mean <= ROUNDING * top:
            return cls(np.ones(1), np.array([mean])), slow
        # The other node makes the second moment right: (top - r) weights r.
        node = (top * mean - square) / (top - mean)
        share = (mean - node) / (top - node)
        return cls(np.array([1 - share, share]), np.array([node, top])), slow

    def mean(self, gain: Callable[[np.ndarray], np.ndarray]) -> float:
        """The mean of a function of the rates over the power."""
        return float(self.shares @ gain(self.rates))


class InModes(NamedTuple):
    """A target in the known modes and, last, in all others together."""

    levels: Levels
    beyond: Beyond
    power: np.ndarray  # (k + 1,)
    parts: np.ndarray  # (rows, c): what lies beyond
    functions: np.ndarray  # (rows, k)
    coefficients: np.ndarray  # (k, c)
    target: np.ndarray
    product: np.ndarray  # (rows, c): K / n times it
    num_examples: int
    extremes: tuple[Beyond, Beyond]  # the quickest and the slowest that the power beyond may be

    @classmethod
    def of(
        cls,
        levels: Levels,
        functions: np.ndarray,
        target: np.ndarray,
        product: np.ndarray | None,
        n: int,
        residual: float = 0.0,
    ) -> "InModes":
        """A target `(rows, c)` in the eigenfunctions `(rows, k)`, given K / n times it, or None where they are all.

        `residual` is that of the eigenvalues: no other is above the least of them by more.
        """
        known = levels.eigenvalues > 0
        coefficients = np.where(known[:, None], functions.T @ target / n, 0.0)
        in_modes = functions @ (levels.eigenvalues[:, None] * coefficients)
        beyond = target - functions @ coefficients
        power = np.append(np.sum(coefficients**2, 1), np.sum(beyond**2) / n)
        if power[-1] < ROUNDING * np.sum(power):
            power[-1] = 0.0
        moments, top = (0.0, 0.0), 0.0
        if product is not None and power[-1]:
            left = product - in_modes
            moments = np.sum(beyond * left) / n / power[-1], np.sum(left**2) / n / power[-1]
            top = min(np.min(levels.eigenvalues[known], initial=np.inf) + residual, levels.tail)
        extremes = Beyond.of(*moments, top)
        whole = in_modes if product is None else product
        return cls(levels, extremes[0], power, beyond, functions, coefficients, target, whole, n, extremes)

    def gains(self, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """A function of the rates in each known mode, and its mean beyond."""
        return np.append(gain(self.levels.eigenvalues), self.beyond.mean(gain))

    def numbers(self, ridge: float) -> np.ndarray:
        """Its Rayleigh quotient, learning time and samples needed."""
        kappa = self.kappa()
        samples = np.inf if kappa == 0 else self.levels.examples(kappa, ridge)
        return np.array([self.quotient(), self.time(), samples])

    def bounds(self, ridge: float) -> tuple[np.ndarray, np.ndarray]:
        """The three numbers at least and at most, `(3,)` each: by what the unknown modes may hold of it."""
        quick, slow = (self._replace(beyond=beyond) for beyond in self.extremes)
        known = self.quotient()
        fewest, most = (
            np.inf if kappa == 0 else levels_examples(kappa, ridge)
            for kappa, levels_examples in (
                (quick.kappa(), self.levels.fewest_examples),
                (slow.kappa(), self.levels.examples),
            )
        )
        return np.array([known, quick.time(), fewest]), np.array([known, slow.time(), most])

    def quotient(self) -> float:
        """y^T K y / (n |y|^2), of all modes."""
        return float(np.sum(self.target * self.product) / np.sum(self.target**2))

    def learned(self, gains: np.ndarray) -> float:
        """The part of it that is there, with so much of each mode."""
        return float(gains @ self.power / np.sum(self.power))

    def time(self) -> float:
        """When half of the target is learned, over ln 2: of an eigenfunction, 1 / eigenvalue."""
        return self._root(lambda t: lambda rates: -np.expm1(-rates * t)) / np.log(2)

    def kappa(self) -> float:
        """At which half of the target is learned."""
        return 1 / self._root(lambda s: lambda rates: rates * s / (1 + rates * s))

    def _root(self, gain: Callable[[float], Callable[[np.ndarray], np.ndarray]]) -> float:
        """Where half of the target is learned, by gains that grow with their argument."""
        return _root(lambda argument: self.learned(self.gains(gain(argument))) - HALF, self.positive)

    @property
    def positive(self) -> np.ndarray:
        """The rates above zero at which there is power."""
        rates = np.append(self.levels.eigenvalues, self.beyond.rates)
        power = np.append(self.power[:-1], self.power[-1] * self.beyond.shares)
        return rates[(rates > 0) & (power > 0)]

    def outputs(self, gains: np.ndarray) -> np.ndarray:
        """g(K) y: the target with so much of each mode."""
        return self.functions @ (gains[:-1, None] * self.coefficients) + gains[-1] * self.parts

    def label_time(self, target: Target) -> float:
        """When nine tenths of the labels are right for the first time, of times on a grid that is refined once.

        Zero where they are right as soon as outputs move, whatever the rates of the modes are.
        """
        positive = self.positive
        if target.labels is None or not len(positive):
            return np.nan if target.labels is None else np.inf
        if target.right_at_once(self.product) >= RIGHT:
            return 0.0
        times = np.geomspace(1e-3 / positive.max(), 1e3 / positive.min(), NUM_TIMES)
        for _ in range(2):
            right = (target.right(self.target - self.left(time)) >= RIGHT for time in times)
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
        quotient = self.quotient()
        aligned = self.influence(2 * self.target * self.product, quotient) / quotient

        until = time * np.log(2)
        slope = self.learned(self.gains(lambda rates: rates * np.exp(-rates * until))) * until
        changed = self.target * (self.target - self.left(until)) + self.left_changed(until)
        times = self.influence(changed, HALF) / slope

        learned = self.outputs(self.gains(lambda rates: rates / (rates + kappa)))
        falling = self.learned(self.gains(lambda rates: rates * kappa / (rates + kappa) ** 2))
        fallen = self.influence(2 * self.target * learned - learned**2, HALF) / falling
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
        return self.outputs(self.gains(lambda rates: np.exp(-rates * time)))

    def left_changed(self, until: float) -> np.ndarray:
        """The integral of (K exp(-K s) y) (exp(-K (t - s)) y) over s from 0 to t, by differences on a graded grid."""
        early = np.geomspace(1e-2 * min(1.0, 1 / (until * self.positive.max())), 0.5, NUM_NODES)
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
    """Where an increasing function of a positive number is zero, for rates above zero; infinity if nowhere."""
    if not len(rates):
        return np.inf
    low, high = np.log(1e-3 / rates.max()), np.log(1e3 / rates.min())
    if function(np.exp(high)) <= 0:
        return np.inf
    return float(np.exp(scipy.optimize.brentq(lambda log: function(np.exp(log)), low, high, xtol=1e-13)))

"""A target in the modes of a kernel: when it is learned, from how many examples, and with what uncertainty.

Every number is a sum over modes, with the eigenvalues r_i of K / n and the target's power v_i^2 in each mode. For the
unknown modes, one product K y gives the mean and the mean square of their eigenvalues, weighted by the target's power.
These two moments bound every number from both sides (`Beyond`). The reported numbers assume the distribution of unknown
eigenvalues that is learned most quickly.

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

NUM_TIMES = 64  # times on each of two grids at which labels are counted; a label time is exact to about 1 %
NUM_NODES = 24  # in each half of an integral over time
RIGHT = 0.9  # share of the labels that must be right at the label time
HALF = 0.5  # share of a target's power that counts as learned


class Beyond(NamedTuple):
    """A distribution of the power beyond the known modes: shares `(j,)` of it at eigenvalues `(j,)`."""

    shares: np.ndarray
    rates: np.ndarray

    @classmethod
    def of(cls, mean: float, square: float, top: float) -> tuple["Beyond", "Beyond"]:
        """The distributions on [0, top] with this mean and mean square that are quickest and slowest to learn.

        The learned share of a target is the mean of a function g of the rates, 1 - exp(-r t) or r / (r + kappa), whose
        derivatives alternate in sign. Among all distributions with these two moments, the Gauss-Radau rule with a node
        at `top` gives the largest mean of g, and the rule with a node at 0 the least (Golub and Meurant 1994). Both
        rules reproduce the two moments. Their remainder is the third derivative of g times a factor of constant sign.
        """
        mean = float(np.clip(mean, 0.0, top))
        square = float(np.clip(square, mean**2, mean * top))
        if not mean:
            nothing = cls(np.ones(1), np.zeros(1))
            return nothing, nothing
        slow = cls(np.array([1 - mean**2 / square, mean**2 / square]), np.array([0.0, square / mean]))
        if not np.isfinite(top) or top - mean <= ROUNDING * top:
            return cls(np.ones(1), np.array([mean])), slow
        # Orthogonality with the weight (top - r) determines the other node.
        node = (top * mean - square) / (top - mean)
        share = (mean - node) / (top - node)
        return cls(np.array([1 - share, share]), np.array([node, top])), slow

    def mean(self, gain: Callable[[np.ndarray], np.ndarray]) -> float:
        """The mean of a function of the rates, weighted by the power."""
        return float(self.shares @ gain(self.rates))


class InModes(NamedTuple):
    """A target, split into the known modes and a last entry for all unknown modes together."""

    levels: Levels
    beyond: Beyond
    power: np.ndarray  # (k + 1,)
    remainder: np.ndarray  # (rows, c): the target's part outside the known modes
    functions: np.ndarray  # (rows, k)
    coefficients: np.ndarray  # (k, c)
    target: np.ndarray  # (rows, c)
    product: np.ndarray  # (rows, c): K / n times the target
    num_examples: int
    extremes: tuple[Beyond, Beyond]  # the distributions of unknown power that are quickest and slowest to learn

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
        """Split a target `(rows, c)` into the eigenfunctions `(rows, k)` and the rest.

        `product` is K / n times the target, or None if all modes are known. `residual` bounds the error of the known
        eigenvalues, so that an unknown eigenvalue is at most the least known one plus `residual`.
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
        full_product = in_modes if product is None else product
        return cls(levels, extremes[0], power, beyond, functions, coefficients, target, full_product, n, extremes)

    def gains(self, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The values of a function at the known rates and, last, its mean over the unknown ones."""
        return np.append(gain(self.levels.eigenvalues), self.beyond.mean(gain))

    def numbers(self, ridge: float) -> np.ndarray:
        """The Rayleigh quotient, the learning time and the number of samples needed, `(3,)`."""
        kappa = self.kappa()
        samples = np.inf if kappa == 0 else self.levels.examples(kappa, ridge)
        return np.array([self.quotient(), self.time(), samples])

    def bounds(self, ridge: float) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of the three numbers, `(3,)` each, over all distributions of the unknown power."""
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
        """The Rayleigh quotient y^T K y / (n |y|^2), over all modes."""
        return float(np.sum(self.target * self.product) / np.sum(self.target**2))

    def learned(self, gains: np.ndarray) -> float:
        """The learned share of the target's power, given the learned share of each mode."""
        return float(gains @ self.power / np.sum(self.power))

    def time(self) -> float:
        """The time at which half of the target is learned, divided by ln 2; for an eigenfunction, 1 / eigenvalue."""
        return self._root(lambda t: lambda rates: -np.expm1(-rates * t)) / np.log(2)

    def kappa(self) -> float:
        """The kappa at which half of the target is learned."""
        return 1 / self._root(lambda s: lambda rates: rates * s / (1 + rates * s))

    def _root(self, gain: Callable[[float], Callable[[np.ndarray], np.ndarray]]) -> float:
        """The argument at which half of the target is learned, for gains that increase with their argument."""
        return _root(lambda argument: self.learned(self.gains(gain(argument))) - HALF, self.positive)

    @property
    def positive(self) -> np.ndarray:
        """The positive rates at which the target has power."""
        rates = np.append(self.levels.eigenvalues, self.beyond.rates)
        power = np.append(self.power[:-1], self.power[-1] * self.beyond.shares)
        return rates[(rates > 0) & (power > 0)]

    def outputs(self, gains: np.ndarray) -> np.ndarray:
        """g(K) y: the target with each mode multiplied by its gain."""
        return self.functions @ (gains[:-1, None] * self.coefficients) + gains[-1] * self.remainder

    def label_time(self, target: Target) -> float:
        """The first time, on a grid that is refined once, at which nine tenths of the labels are right.

        It is zero if nine tenths are right as soon as the outputs move, however slow the modes are.
        """
        positive = self.positive
        if target.labels is None or not len(positive):
            return np.nan if target.labels is None else np.inf
        if target.right_at_once(self.product) >= RIGHT:
            return 0.0
        times = np.geomspace(1e-3 / positive.max(), 1e3 / positive.min(), NUM_TIMES)
        for _ in range(2):
            right = (target.right(self.target - self.unlearned(time)) >= RIGHT for time in times)
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

        Under weights w the kernel is W^1/2 K W^1/2 and the target W^1/2 y. The derivative of y^T g(K) y with respect to
        the weight of an example has two parts. The target contributes y (g(K) y) at that example. The kernel
        contributes an integral over time if g(K) is exp(-K t), a product if g(K) is the learnability, and y (K y) once
        more if g(K) is K.
        """
        time, kappa = self.time(), self.kappa()
        if not np.isfinite(time) or not kappa > 0:
            return np.full(3, np.inf)
        quotient = self.quotient()
        aligned = self.influence(2 * self.target * self.product, quotient) / quotient

        until = time * np.log(2)
        slope = self.learned(self.gains(lambda rates: rates * np.exp(-rates * until))) * until
        changed = self.target * (self.target - self.unlearned(until)) + self.unlearned_derivative(until)
        times = self.influence(changed, HALF) / slope

        learned = self.outputs(self.gains(lambda rates: rates / (rates + kappa)))
        falling = self.learned(self.gains(lambda rates: rates * kappa / (rates + kappa) ** 2))
        fallen = self.influence(2 * self.target * learned - learned**2, HALF) / falling
        return np.array(
            [_deviation(values) for values in (aligned, times, self.samples_influence(fallen, kappa, ridge))]
        )

    def influence(self, changed: np.ndarray, mean: float) -> np.ndarray:
        """The derivative of y^T g(K) y / y^T y by the weight of each example, given that of its numerator."""
        numerator, squares = self.sum_by_example(changed), self.sum_by_example(self.target**2)
        return (numerator - numerator.mean() - mean * (squares - squares.mean())) / squares.mean()

    def samples_influence(self, fallen: np.ndarray, kappa: float, ridge: float) -> np.ndarray:
        """The change of log n by each example's weight, through log kappa (`fallen`) and through the eigenvalues."""
        levels = self.levels
        part = levels.learnabilities(kappa)
        bend = part * (1 - part)
        count = levels.examples(kappa, ridge)
        beyond = (ridge + levels.tail / levels.num_outputs) / kappa
        steepness = (levels.multiplicities @ bend / levels.num_outputs + beyond) / count
        leverage = self.sum_by_example(self.functions**2 @ bend[:, None]) / levels.num_outputs
        return (leverage - leverage.mean()) / count - steepness * fallen

    def unlearned(self, time: float) -> np.ndarray:
        """exp(-K t) y: the part that gradient flow has not learned at time t."""
        return self.outputs(self.gains(lambda rates: np.exp(-rates * time)))

    def unlearned_derivative(self, until: float) -> np.ndarray:
        """The integral over s from 0 to t of (K exp(-K s) y) (exp(-K (t - s)) y), by differences on a graded grid."""
        early = np.geomspace(1e-2 * min(1.0, 1 / (until * self.positive.max())), 0.5, NUM_NODES)
        grid = until * np.concatenate([[0.0], early, 1 - early[-2::-1], [1.0]])
        nodes = [self.unlearned(time) for time in grid]
        total = np.zeros_like(self.target)
        for index in range(len(grid) - 1):
            opposite = nodes[-1 - index] + nodes[-2 - index]
            total += (nodes[index] - nodes[index + 1]) * opposite / 2
        return total

    def sum_by_example(self, values: np.ndarray) -> np.ndarray:
        """The sum over the outputs and columns of each example."""
        return np.sum(values.reshape(self.num_examples, -1), 1)


def _deviation(influence: np.ndarray) -> float:
    return float(np.linalg.norm(influence) / len(influence))


def _root(function: Any, rates: np.ndarray) -> float:
    """The positive root of an increasing function whose scale is set by positive rates; infinity if there is none."""
    if not len(rates):
        return np.inf
    low, high = np.log(1e-3 / rates.max()), np.log(1e3 / rates.min())
    if function(np.exp(high)) <= 0:
        return np.inf
    return float(np.exp(scipy.optimize.brentq(lambda log: function(np.exp(log)), low, high, xtol=1e-13)))

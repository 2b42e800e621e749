"""The quantities of a comparison: the numbers that one kernel has on one set of inputs.

Each is estimated on a scale on which its errors are nearly symmetric: the logarithm for what is positive. `compared`
marks those that do not depend on the kernel's own scale, so that two architectures can be compared by them.

    effective rank            exp(entropy) of the eigenvalues' shares of their sum
    Spearman's rho            the rank correlation of eigenvalue and frequency; -1: low frequencies come first
    decay exponent            the local slope of log eigenvalue against log frequency
    share of the trace        y^T K y / (|y|^2 tr K): the part of the kernel along a target y
    learning time             the time at which half of a target is learned, divided by ln 2 (see `learnability`)
    relative time             the learning time * the largest eigenvalue: twice the steps at the critical learning rate
    samples needed            the number of examples from which regression learns half of a target
    test error                the predicted error of regression on some examples, as a share of the target's power
    energy                    the share of the trace at the frequencies of one degree or band
    distance to the limit     ||K - L|| / ||L|| for the kernel L of infinite width

>>> import numpy as np
>>> from ntkbias.comparison.quantities import of_targets
>>> found = of_targets(np.array([1.0, 0.25]), np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2), 1.25, 0.0, [])
>>> found["learning time"].round(6).tolist(), found["share of the trace"].tolist()
([1.0, 4.0], [0.8, 0.2])
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ntkbias.learning.curves import Levels

__all__ = ["QUANTITIES", "Quantity", "label_of", "of_targets"]

STEPS = 60  # of bisection, from 1e-3 / largest to 1e3 / least eigenvalue: to rounding
HALF = 0.5  # share of a target's power that counts as learned


class Quantity(NamedTuple):
    """Whether a quantity has a logarithmic scale, whether kernels are compared by it, and words for less and more."""

    is_log: bool
    compared: bool
    less: str = "lower"
    more: str = "higher"


QUANTITIES = {
    "trace": Quantity(True, False),
    "effective rank": Quantity(True, True),
    "stable rank": Quantity(True, False),
    "modes above the noise floor": Quantity(False, False, "fewer", "more"),
    "Spearman's rho": Quantity(False, True),
    "decay exponent": Quantity(False, True, "steeper", "flatter"),
    "share of the trace": Quantity(True, False, "smaller", "larger"),
    "learning time": Quantity(True, False, "sooner", "later"),
    "relative time": Quantity(True, True, "sooner", "later"),
    "samples needed": Quantity(True, True, "fewer", "more"),
    "test error": Quantity(True, False),
    "energy": Quantity(False, False, "less", "more"),
    "distance to the limit": Quantity(True, False, "nearer", "farther"),
}


def label_of(quantity: str, of: str) -> str:
    """The name of a quantity of a target or of a frequency, as in "learning time: parity"."""
    return f"{quantity}: {of}" if of else quantity


def of_targets(
    eigenvalues: np.ndarray,
    power: np.ndarray,
    beyond: np.ndarray,
    trace: float,
    tail: float,
    sizes: Sequence[int],
    num_outputs: int = 1,
) -> dict[str, np.ndarray]:
    """The quantities of t targets with `power` `(k, t)` in modes of these eigenvalues, and `beyond` in none.

    Eigenvalues are zero where they are noise; `tail` is the trace that no eigenvalue holds. "test error" is `(s, t)`,
    for each of the sizes.
    """
    total = power.sum(0) + beyond
    levels = Levels(eigenvalues, np.ones(len(eigenvalues)), tail, num_outputs)
    time = _halfway(lambda rt: -np.expm1(-rt), eigenvalues, power, total) / np.log(2)
    kappa = 1 / _halfway(lambda rs: rs / (1 + rs), eigenvalues, power, total)
    samples = [levels.examples(each, 0.0) if each > 0 else np.inf for each in kappa]
    errors = np.full((len(sizes), power.shape[1]), np.nan)
    for row, size in enumerate(sizes):
        left = levels.learnabilities(levels.kappa(float(size), 0.0))
        free = size - np.sum(left**2)
        if free > 0:
            errors[row] = size / free * ((1 - left) ** 2 @ power + beyond) / total
    return {
        "share of the trace": eigenvalues @ power / total / trace,
        "learning time": time,
        "relative time": time * eigenvalues[0],
        "samples needed": np.array(samples),
        "test error": errors,
    }


def _halfway(
    gain: Callable[[np.ndarray], np.ndarray], eigenvalues: np.ndarray, power: np.ndarray, total: np.ndarray
) -> np.ndarray:
    """For each target, the s at which the mean of gain(eigenvalue s) over its power is one half, or infinity."""
    positive = eigenvalues[eigenvalues > 0]
    if not len(positive):
        return np.full(power.shape[1], np.inf)
    shares = power / total
    low = np.full(power.shape[1], np.log(1e-3 / positive.max()))
    high = np.full(power.shape[1], np.log(1e3 / positive.min()))

    def learned(logs: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.sum(shares * gain(eigenvalues[:, None] * np.exp(logs)), 0)

    never = learned(high) <= HALF
    for _ in range(STEPS):
        middle = (low + high) / 2
        enough = learned(middle) > HALF
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(never, np.inf, np.exp((low + high) / 2))

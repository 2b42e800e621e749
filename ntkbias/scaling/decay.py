"""The decay exponent: the power law through eigenvalues, and how far it holds.

Sorted eigenvalues rarely follow one power law from the first mode on. So the exponent comes with the slopes of parts of
the fitted range and with the distance of the eigenvalues from the line. Its interval spans the slopes of all parts. For
a network of depth 2 on 256 nodes of the circle, whose exponent in the limit is -2:

>>> import ntkbias as nb
>>> x, weights = nb.domains.Circle().quadrature(256)
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
>>> decay = nb.rank_by_frequency(spectrum, nb.domains.Circle()).decay
>>> print(decay)
-2.24 (-2.47 to -1.92) against frequency
Slopes of the thirds of modes 2 to 51: -2.47, -2.04, -1.98. Log eigenvalues scatter by 0.134.
In brackets: the thirds, their trend continued by one third, 95 % of the errors of fit and sample.
>>> -2 in decay, decay.sample_low < -2 < decay.sample_high
(True, False)
"""

import itertools
import math

import equinox as eqx
import numpy as np
import scipy
from jaxtyping import Float

from ntkbias.scaling.as_number import AsNumber
from ntkbias.scaling.line import power_law
from ntkbias.tables import Printed, Table, interval, number

__all__ = ["DecayExponent", "decay_of"]

DEVIATIONS, LEVEL = 1.96, 0.975  # standard deviations on each side of a 95 % interval; the level of its end
NUM_PARTS = 3
PARTS, ONE_PART = {2: "halves", 3: "thirds"}, {"halves": "half", "thirds": "third"}


class DecayExponent(AsNumber, Printed):
    """The exponent of a power law through eigenvalues, with its range; see `Spectrum.decay_exponent`.

    `exponent` is the slope over modes `first` .. `last - 1`. `low` and `high` are the ends of a range that allows for
    lack of fit: they span the 95 % intervals of the slope by resampled inputs and by the distances of eigenvalues from
    the line, the slopes of the parts, and the slope that one more part would have if the change between the last two
    continued. `number in decay` asks whether the range holds a number.
    The range is meant to hold the exponent in the limit. On the nodes of a circle and on samples of it, it held that
    of ReLU networks of any depth and bias in at least 95 of 100 cases (`benchmarks/coverage.py`). It cannot do so if
    the eigenvalues reach their power law only after the fitted modes, and their slopes do not yet move towards it.

    `sample_low` and `sample_high` are the ends of a 95 % interval for the mean slope of these modes over samples of n
    inputs. It measures less: it ignores lack of fit, and the splitting of equal eigenvalues on every finite sample.

    >>> import ntkbias as nb
    >>> x, weights = nb.domains.Circle().quadrature(64)
    >>> decay = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.5)), x, weights=weights).decay_exponent()
    >>> decay.low < decay.exponent < decay.high, -2 in decay
    (True, True)
    """

    exponent: float
    low: float
    high: float
    against: str = eqx.field(static=True)  # "index" or "frequency"
    first: int = eqx.field(static=True)  # modes first .. last - 1 were fitted
    last: int = eqx.field(static=True)
    local_slopes: Float[np.ndarray, " parts"] = eqx.field(default_factory=lambda: np.zeros(0))  # of parts, in order
    sample_low: float = math.nan
    sample_high: float = math.nan
    misfit: float = math.nan  # root mean squared distance of log eigenvalues from the line
    predicted: float | None = None  # the exponent in the limit, if it was given

    @property
    def value(self) -> float:
        """The exponent."""
        return self.exponent

    @property
    def text(self) -> str:
        """The exponent and its range in one line, such as "-2.24 (-2.47 to -1.92) against frequency"."""
        return f"{interval(self.exponent, self.low, self.high)} against {self.against}"

    @property
    def slopes_text(self) -> str:
        """The slopes of the parts of the fitted modes, as text."""
        slopes, modes = np.asarray(self.local_slopes, float), f"modes {self.first + 1} to {self.last}"
        if len(slopes) < 2:
            return f"The slope of {modes}"
        return f"Slopes of the {PARTS[len(slopes)]} of {modes}: {', '.join(f'{slope:.2f}' for slope in slopes)}"

    def __contains__(self, exponent: float) -> bool:
        return self.low <= exponent <= self.high

    def _table(self, num_rows: int) -> Table:
        if not len(self.local_slopes):
            return Table(self.text)
        notes = [f"{self.slopes_text}. Log eigenvalues scatter by {number(self.misfit)}."]
        if self.predicted is not None:
            notes.append(f"Predicted for the limit: {self.predicted:.2f}.")
        if len(self.local_slopes) > 1:
            parts = PARTS[len(self.local_slopes)]
            notes.append(
                f"In brackets: the {parts}, their trend continued by one {ONE_PART[parts]}, 95 % of the errors of fit "
                "and sample."
            )
        return Table(self.text, notes=notes)


def decay_of(
    positions: Float[np.ndarray, " k"],
    eigenvalues: Float[np.ndarray, " k"],
    resampled: Float[np.ndarray, "b k"],
    against: str,
    modes: slice,
    predicted: float | None = None,
) -> DecayExponent:
    """The decay exponent of eigenvalues `(k,)` at positive positions, given the eigenvalues of b resamples.

    `modes` are those that the fit was asked for; some of them may have been left out.
    """
    slope, intercept = power_law(positions, eigenvalues)
    spread = DEVIATIONS * float(np.std([power_law(positions, row).exponent for row in resampled]))
    parts = local_slopes(positions, eigenvalues)
    beyond = [2 * parts[-1] - parts[-2]] if len(parts) > 1 else []
    lack = error_of_fit(positions, eigenvalues)
    reached = [slope - spread, slope + spread, slope - lack, slope + lack, *parts, *beyond]
    residuals = np.log(eigenvalues) - intercept - slope * np.log(positions)
    return DecayExponent(
        exponent=slope,
        low=float(min(reached)),
        high=float(max(reached)),
        against=against,
        first=modes.start,
        last=modes.stop,
        local_slopes=np.asarray(parts),
        sample_low=slope - spread,
        sample_high=slope + spread,
        misfit=float(np.sqrt(np.mean(residuals**2))),
        predicted=predicted,
    )


def by_position(
    positions: Float[np.ndarray, " k"], eigenvalues: Float[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """The logarithms of the different positions, and the mean log eigenvalue at each."""
    different, place, counts = np.unique(positions, return_inverse=True, return_counts=True)
    return np.log(different), np.bincount(place, np.log(eigenvalues)) / counts


def error_of_fit(positions: Float[np.ndarray, " k"], eigenvalues: Float[np.ndarray, " k"]) -> float:
    """Half the 95 % interval of the slope, from the distances of eigenvalues from the line.

    Eigenvalues at one position count once. With two positions there is no distance, and the result is zero.
    """
    x, y = by_position(positions, eigenvalues)
    freedom = len(x) - 2
    if not freedom:
        return 0.0
    slope, intercept = np.polyfit(x, y, 1)
    variance = np.sum((y - intercept - slope * x) ** 2) / freedom / np.sum((x - x.mean()) ** 2)
    return float(scipy.special.stdtrit(freedom, LEVEL) * variance**0.5)


def local_slopes(positions: Float[np.ndarray, " k"], eigenvalues: Float[np.ndarray, " k"]) -> list[float]:
    """The slopes over three parts with equal numbers of different positions, or fewer parts if these are few.

    The lines pass through means of each two neighboring positions, in which the difference between even and odd degrees
    cancels. Neighboring parts share one mean.
    """
    x, y = by_position(positions, eigenvalues)
    if len(x) > 2:
        x, y = (x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2
    num_parts = min(NUM_PARTS, len(x) - 1)
    edges = np.linspace(0, len(x) - 1, num_parts + 1).round().astype(int)
    parts = [slice(first, last + 1) for first, last in itertools.pairwise(edges)]
    return [power_law(np.exp(x[part]), np.exp(y[part])).exponent for part in parts]

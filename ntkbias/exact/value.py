"""ExactSpectrum: the eigenvalues of a kernel's integral operator on a domain, one row per degree.

If a kernel shares the domain's symmetry, its eigenfunctions under the domain's probability measure are the harmonics,
and all harmonics of one degree have the same eigenvalue. The eigenvalues of K / n tend to these on a growing sample, so
a row corresponds to `multiplicity` modes of a `Spectrum`. The sum over k of multiplicity_k eigenvalue_k is the trace,
the mean of K(x, x).

>>> import ntkbias as nb
>>> from ntkbias.exact import exact_spectrum
>>> exact = exact_spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2)), nb.domains.Circle(), max_degree=4)
>>> exact.degrees.tolist(), exact.multiplicities.tolist()
([0, 1, 2, 3, 4], [1.0, 2.0, 2.0, 2.0, 2.0])
>>> exact.expand().degrees.tolist()[:5]
[0, 1, 1, 2, 2]
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_finite, require_known, require_positive
from ntkbias.errors import InputError, InputTypeError
from ntkbias.scaling import power_law
from ntkbias.spectra import Spectrum
from ntkbias.tables import Axes, Printed, Table, counted, percent

__all__ = ["Decay", "ExactSpectrum", "beside"]

MOST_MODES = 1_000_000  # rows of an expanded spectrum, unless more are asked for
BESIDE = 24  # modes of two spectra that are shown side by side


class Decay(Printed):
    """The exponents a of eigenvalue ~ frequency^a of even and of odd degrees: -inf where faster than any power.

    >>> import ntkbias as nb
    >>> nb.predicted_decay(nb.nets.mlp(depth=1), nb.domains.Circle()).odd  # none: all odd degrees above 1 are zero
    -inf
    """

    even: float
    odd: float

    @property
    def exponent(self) -> float:
        """The larger of the two, that of the slower decay."""
        return max(self.even, self.odd)

    def _table(self, num_rows: int) -> Table:
        return Table(f"even degrees {self.even:.2f}, odd degrees {self.odd:.2f}")


class ExactSpectrum(Printed):
    """The eigenvalues of a kernel on a domain; arrays are NumPy's, in float64 whatever JAX is set to.

    `degrees` is `(k,)`, or `(k, c)` if a row has several numbers, which `labels` name: the indices of a mode on a
    torus, the angular degree and radial index on a Gaussian, or the degree in each leaf on a product of spheres.
    `errors` bounds the error of each eigenvalue by rounding, added over nodes, and by quadrature, from the difference
    of two rules. An eigenvalue smaller than its error may be zero, and may come out negative.

    >>> import ntkbias as nb
    >>> exact = nb.exact_spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), nb.domains.Circle(), max_degree=4)
    >>> exact.degrees.tolist(), exact.multiplicities.tolist()
    ([0, 1, 2, 3, 4], [1.0, 2.0, 2.0, 2.0, 2.0])
    >>> bool(exact.eigenvalues[3] < 1e-12)  # one hidden ReLU layer without biases has no odd degrees above 1
    True
    """

    named_axes = Axes("row", index={"index": "labels"}, also=["shares"], k="row", c="index")

    eigenvalues: Float[Array | np.ndarray, " k"]
    degrees: Int[Array | np.ndarray, "k *c"]
    multiplicities: Float[Array | np.ndarray, " k"]  # whole numbers, some larger than the largest int64
    errors: Float[Array | np.ndarray, " k"]
    frequencies: Float[Array | np.ndarray, " k"]  # square roots of the Laplacian's eigenvalues
    trace: Float[Array | np.ndarray, ""]
    labels: tuple[str, ...] = eqx.field(static=True, default=("degree",))

    @classmethod
    def of(
        cls,
        eigenvalues: ArrayLike | Sequence[float],
        multiplicities: ArrayLike | Sequence[float] = 1,
        *,
        degrees: ArrayLike | Sequence[int] | None = None,
        frequencies: ArrayLike | Sequence[float] | None = None,
        trace: float | None = None,
    ) -> "ExactSpectrum":
        """A spectrum of eigenvalues of your own `(k,)`, e.g. a power law for `learning_curve`.

        `multiplicities` is one number or `(k,)`. Degrees are by default 0, 1, ..., frequencies the degrees, and the
        trace the sum of all eigenvalues. Keep rows of eigenvalue zero, so that a target may have power there.

        Raises `InputError` on eigenvalues below zero, multiplicities below one, other shapes, and a trace below the sum
        of the eigenvalues.

        >>> import numpy as np, ntkbias as nb
        >>> k = np.arange(1, 1001)
        >>> law = nb.exact.ExactSpectrum.of(k**-2.0)
        >>> curve = nb.learning_curve(law, k**-3.0, [10, 20, 40])
        >>> curve.errors.shape, round(float(law.trace), 3)
        ((3,), 1.644)
        """
        values = _row("eigenvalues", eigenvalues, None)
        if values.ndim != 1 or not values.size or values.min() < 0:
            raise InputError(f"Expected eigenvalues (k,) of zero or more; got {_seen(values)}.")
        counts = _row("multiplicities", multiplicities, len(values))
        if counts.min() < 1:
            raise InputError(f"Expected multiplicities of one or more; got {counts.min():g}.")
        own = np.arange(len(values)) if degrees is None else _row("degrees", degrees, len(values))
        known = own if frequencies is None else _row("frequencies", frequencies, len(values))
        total = float(counts @ values)
        if trace is not None and not total <= trace * (1 + 1e-6) < np.inf:
            raise InputError(f"Expected a trace of at least the sum of the eigenvalues, {total:.6g}; got {trace}.")
        return cls(
            eigenvalues=values,
            degrees=np.asarray(own, int),
            multiplicities=counts,
            errors=np.zeros(len(values)),
            frequencies=np.asarray(known, float),
            trace=np.asarray(total if trace is None else trace, float),
        )

    @property
    def remainder(self) -> float:
        """The part of the trace that these rows do not contain."""
        return float(self.trace - np.sum(self.multiplicities * self.eigenvalues))

    @property
    def shares(self) -> Float[np.ndarray, " k"]:
        """The share of the trace in each row: its fractional variance (Yang and Salman 2019)."""
        return np.asarray(self.multiplicities * self.eigenvalues / self.trace)

    @property
    def above_error(self) -> np.ndarray:
        """Which eigenvalues stand above their errors; the others may be zero."""
        return np.asarray(self.eigenvalues > self.errors)

    def expand(self, num_modes: int | None = None) -> "ExactSpectrum":
        """One row per mode, in descending order as in a `Spectrum`: the first `num_modes`, by default all.

        The trace stays that of the full operator. Raises `InputError` if `num_modes` exceeds the number of modes, or if
        it is not given and there are more than a million.
        """
        total = float(np.sum(self.multiplicities))
        if num_modes is not None:
            require_positive("num_modes", num_modes)
        if num_modes is not None and total < num_modes:
            raise InputError(
                f"Expected num_modes of at most {total:.6g}, the number of modes of these degrees; got {num_modes}. "
                "Choose fewer, or a larger max_degree."
            )
        if num_modes is None and total > MOST_MODES:
            raise InputError(
                f"Expected at most {MOST_MODES:,} modes to expand without num_modes; got {total:.6g}. Give num_modes, "
                "or choose a smaller max_degree."
            )
        count = int(total) if num_modes is None else num_modes
        order = np.argsort(-np.asarray(self.eigenvalues), kind="stable")
        copies = np.minimum(np.asarray(self.multiplicities)[order], count)  # a float count of modes may be huge
        rows = np.repeat(order, copies.astype(int))[:count]
        return ExactSpectrum(
            eigenvalues=np.asarray(self.eigenvalues)[rows],
            degrees=np.asarray(self.degrees)[rows],
            multiplicities=np.ones(count),
            errors=np.asarray(self.errors)[rows],
            frequencies=np.asarray(self.frequencies)[rows],
            trace=self.trace,
            labels=self.labels,
        )

    def decay(self, first: int = 20, last: int = 80) -> Decay:
        """The exponents of power laws fitted to degrees `first` .. `last - 1` against frequency, for each parity.

        The fit is against frequency, sqrt(k (k + d - 2)) on S^{d-1}. Against the degree k the slope would be off by up
        to 0.5. The fit leaves out eigenvalues that do not exceed their errors, since they may be zero. The exponent of
        a parity is -inf if fewer than two eigenvalues remain. It is also -inf if fewer than half remain of those up to
        the last one that exceeds its error. The eigenvalues of that parity may then all be zero, as those of odd
        degrees are without bias (see `predicted_decay`). Raises `InputError` for rows with more than one index.
        """
        if np.ndim(self.degrees) != 1 or not 0 <= first < last:
            raise InputError(
                f"Expected one degree per row and 0 <= first < last; got rows of {', '.join(self.labels)} from {first} "
                f"to {last}. Use scaling.power_law on the rows of your choice."
            )

        def exponent(parity: int) -> float:
            degrees = np.asarray(self.degrees)
            asked = np.flatnonzero((degrees >= first) & (degrees < last) & (degrees % 2 == parity))
            rows = asked[self.above_error[asked]]
            if len(rows) < 2 or 2 * len(rows) < np.sum(asked <= rows[-1]):
                return -np.inf
            return power_law(np.asarray(self.frequencies)[rows], np.asarray(self.eigenvalues)[rows]).exponent

        return Decay(exponent(0), exponent(1))

    def _table(self, num_rows: int) -> Table:
        count = len(self.eigenvalues)
        shown = range(min(count, num_rows))
        columns = {
            "eigenvalue": [f"{float(self.eigenvalues[row]):.6g}" for row in shown],
            "+-": [f"{float(self.errors[row]):.1g}" for row in shown],
            "multiplicity": [f"{float(self.multiplicities[row]):.6g}" for row in shown],
            "share": [percent(self.shares[row], 1.0) for row in shown],
            "frequency": [f"{float(self.frequencies[row]):.4g}" for row in shown],
            ", ".join(self.labels): [_degree_text(self.degrees[row]) for row in shown],
        }
        sums = f"trace {float(self.trace):.6g}, of which {self.remainder:.3g} beyond these rows"
        return Table(f"ExactSpectrum: {counted(count, 'row')}", columns, [sums], count - len(shown))


def _row(name: str, values: Any, count: int | None) -> np.ndarray:
    """The values as float64, repeated to `count` numbers if it is one."""
    require_known((values,), name)
    found = np.asarray(values, float)
    require_finite(found, name)
    if count is None:
        return found
    if found.shape not in ((), (count,)):
        raise InputError(f"Expected one number or ({count},) {name}, one per eigenvalue; got shape {found.shape}.")
    return np.broadcast_to(found, (count,)).copy()


def _seen(values: np.ndarray) -> str:
    return f"shape {values.shape}" if values.ndim != 1 or not values.size else f"{values.min():.4g} as the smallest"


def beside(exact: ExactSpectrum, measured: Spectrum, num_modes: int = BESIDE) -> str:
    """The first modes of a measured spectrum and of the exact one, side by side, as a table.

    Modes are paired by their place in descending order. If a ratio is near 1, the sample determines that eigenvalue of
    the operator. On n inputs the small eigenvalues are wrong first. `plots.exact_and_measured` draws the same.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))
    >>> exact = nb.exact_spectrum(kernel, circle, max_degree=12)
    >>> print(nb.exact.beside(exact, nb.spectrum(kernel, x, weights=weights), num_modes=2))
    mode   measured     exact   ratio  degree
    1      0.297099  0.296097  1.0034       0
    2      0.152866  0.151863  1.0066       1
    trace     0.785     0.785  1.0000
    """
    if not (isinstance(exact, ExactSpectrum) and isinstance(measured, Spectrum)):
        got = f"{type(exact).__name__} and {type(measured).__name__}"
        raise InputTypeError(f"Expected an ExactSpectrum and a Spectrum; got {got}. Use exact_spectrum and spectrum.")
    require_positive("num_modes", num_modes)
    count = int(min(num_modes, measured.num_above_noise, np.sum(exact.multiplicities)))
    modes = exact.expand(count)
    found = [float(value) for value in np.asarray(measured.eigenvalues)[:count]]
    true = [float(value) for value in np.asarray(modes.eigenvalues)]
    traces = float(measured.trace), float(exact.trace)
    columns = {
        "mode": [*(str(mode + 1) for mode in range(count)), "trace"],
        "measured": [f"{value:.6g}" for value in (*found, traces[0])],
        "exact": [f"{value:.6g}" for value in (*true, traces[1])],
        "ratio": [f"{a / b:.4f}" if b else "-" for a, b in zip((*found, traces[0]), (*true, traces[1]), strict=True)],
        ", ".join(exact.labels): [*(_degree_text(degree) for degree in np.asarray(modes.degrees)), ""],
    }
    return Table("", columns).text()


def _degree_text(degree: ArrayLike) -> str:
    """A degree or several as text. More than eight are shortened to "degree@place" for those that are not zero."""
    numbers = np.asarray(degree)
    if numbers.ndim == 0 or len(numbers) <= 8:
        return str(numbers.tolist()).strip("[]")
    return " ".join(f"{number}@{place}" for place, number in enumerate(numbers.tolist()) if number) or "0"

"""ExactSpectrum: the eigenvalues of a kernel's integral operator on a domain, one row a degree.

Under the domain's probability measure a kernel that shares its symmetry has the harmonics as eigenfunctions, and all
harmonics of one degree have one eigenvalue. These are what the eigenvalues of K / n tend to on a growing sample, so a
row stands beside `multiplicity` modes of a `Spectrum`, and sum_k multiplicity_k eigenvalue_k is the trace, the mean of
K(x, x).

>>> import ntkbias as nb
>>> from ntkbias.exact import exact_spectrum
>>> exact = exact_spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2)), nb.domains.Circle(), max_degree=4)
>>> exact.degrees.tolist(), exact.multiplicities.tolist()
([0, 1, 2, 3, 4], [1.0, 2.0, 2.0, 2.0, 2.0])
>>> exact.expand().degrees.tolist()[:5]
[0, 1, 1, 2, 2]
"""

import equinox as eqx
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_positive
from ntkbias.errors import InputError, InputTypeError
from ntkbias.scaling import power_law
from ntkbias.spectra import Spectrum

__all__ = ["Decay", "ExactSpectrum", "beside"]

MOST_MODES = 1_000_000  # rows of an expanded spectrum, unless more are asked for
MOST_ROWS = 24  # of a printed table


class Decay(eqx.Module):
    """The exponents a of eigenvalue ~ frequency^a of even and of odd degrees: -inf where faster than any power."""

    even: float
    odd: float

    @property
    def exponent(self) -> float:
        """The larger of the two, that of the slower decay."""
        return max(self.even, self.odd)

    def __str__(self) -> str:
        return f"even degrees {self.even:.2f}, odd degrees {self.odd:.2f}"


class ExactSpectrum(eqx.Module):
    """The eigenvalues of a kernel on a domain; arrays are NumPy's, in float64 whatever JAX is set to.

    `degrees` is `(k,)`, or `(k, c)` where a row has several numbers, whose names are `labels`: the indices of a torus's
    mode, angular degree and radial index on a Gaussian, the degree in each leaf of a product of spheres. `errors`
    bounds what is wrong with each eigenvalue by rounding, node by node, and by quadrature, as two rules show it; an
    eigenvalue within its error of zero is zero as far as is known, and may be negative.
    """

    eigenvalues: Float[Array | np.ndarray, " k"]
    degrees: Int[Array | np.ndarray, "k *c"]
    multiplicities: Float[Array | np.ndarray, " k"]  # whole numbers, some beyond the largest int64
    errors: Float[Array | np.ndarray, " k"]
    frequencies: Float[Array | np.ndarray, " k"]  # square roots of the Laplacian's eigenvalues
    trace: Float[Array | np.ndarray, ""]
    labels: tuple[str, ...] = eqx.field(static=True, default=("degree",))

    @property
    def remainder(self) -> float:
        """The trace that lies beyond these rows."""
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
        """One row a mode, in descending order as in a `Spectrum`: the first `num_modes`, by default all.

        The trace stays that of the whole operator. Raises `InputError` for more modes than there are, and, without
        `num_modes`, for more than a million.
        """
        total = float(np.sum(self.multiplicities))
        if num_modes is not None:
            require_positive("num_modes", num_modes)
        if total < (num_modes or 0) or (num_modes is None and total > MOST_MODES):
            raise InputError(
                f"Expected num_modes of at most the {total:.6g} modes of these degrees, and none for at most "
                f"{MOST_MODES:,}; got {num_modes}. Choose num_modes or max_degree accordingly."
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
        """Exponents of power laws through degrees `first` .. `last - 1` against frequency, each parity by itself.

        Against the degree k itself the slope would be off by up to 0.5: on S^{d-1} frequency is sqrt(k (k + d - 2)).
        Degrees within their errors of zero are left out, since they may be zero. A parity has -inf where fewer than two
        others are left, or fewer than half of those up to the last that stands above its error: then it is zero as far
        as is known, as `predicted_decay` says of odd degrees without bias. Raises `InputError` for rows with more than
        one index.
        """
        if np.ndim(self.degrees) != 1 or not 0 <= first < last:
            raise InputError(
                f"Expected rows of one degree each and 0 <= first < last; got {', '.join(self.labels)} from {first} "
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

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("eigenvalue", "+-", "multiplicity", "share", "frequency", ", ".join(self.labels))
        ]
        for index in range(min(len(self.eigenvalues), MOST_ROWS)):
            rows.append(
                (
                    f"{float(self.eigenvalues[index]):.6g}",
                    f"{float(self.errors[index]):.1g}",
                    f"{float(self.multiplicities[index]):.6g}",
                    f"{float(self.shares[index]):.2%}",
                    f"{float(self.frequencies[index]):.4g}",
                    _degree_text(self.degrees[index]),
                )
            )
        hidden = len(self.eigenvalues) - MOST_ROWS
        more = [f"... and {hidden} more rows"] if hidden > 0 else []
        sums = f"trace {float(self.trace):.6g}, of which {self.remainder:.3g} beyond these rows"
        return "\n".join([*_aligned(rows), *more, sums])


def beside(exact: ExactSpectrum, measured: Spectrum, num_modes: int = MOST_ROWS) -> str:
    """The first modes of a measured spectrum and of the exact one, side by side, as a table.

    Modes are paired by their place in descending order. A ratio near 1 means that the sample tells the operator's
    eigenvalue; on n inputs the small ones come out wrong first. `plots.exact_and_measured` draws the same.
    """
    if not (isinstance(exact, ExactSpectrum) and isinstance(measured, Spectrum)):
        got = f"{type(exact).__name__} and {type(measured).__name__}"
        raise InputTypeError(f"Expected an ExactSpectrum and a Spectrum; got {got}. Use exact_spectrum and spectrum.")
    require_positive("num_modes", num_modes)
    count = int(min(num_modes, measured.num_above_noise, np.sum(exact.multiplicities)))
    modes = exact.expand(count)
    rows: list[tuple[str, ...]] = [("mode", "measured", "exact", "ratio", ", ".join(exact.labels))]
    for index in range(count):
        found, true = float(measured.eigenvalues[index]), float(modes.eigenvalues[index])
        ratio = f"{found / true:.4f}" if true else "-"
        rows.append((str(index + 1), f"{found:.6g}", f"{true:.6g}", ratio, _degree_text(modes.degrees[index])))
    traces = float(measured.trace), float(exact.trace)
    rows.append(("trace", f"{traces[0]:.6g}", f"{traces[1]:.6g}", f"{traces[0] / traces[1]:.4f}", ""))
    return "\n".join(_aligned(rows))


def _degree_text(degree: ArrayLike) -> str:
    """A degree, or several; of many, those that are not zero with their places."""
    numbers = np.asarray(degree)
    if numbers.ndim == 0 or len(numbers) <= 8:
        return str(numbers.tolist()).strip("[]")
    return " ".join(f"{number}@{place}" for place, number in enumerate(numbers.tolist()) if number) or "0"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

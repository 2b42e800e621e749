"""The spectrum of a rotation-invariant kernel on data, predicted from the covariance of the data alone.

Let the data have mean zero and a covariance with eigenvalues g_1, g_2, ..., and let the kernel be

    K(x, x') = sum_l c_l / l! <x, x'>^l       for |x| = |x'| = r,   r^2 = sum_i g_i

Hermite polynomials in the principal coordinates z_i = <v_i, x> / sqrt g_i are then predicted to be eigenfunctions, one
for each multi-index a (Karkada, Turnbull, Liu and Simon 2025, arXiv 2510.14878, the Hermite eigenstructure ansatz):

    eigenvalue c_|a| prod_i g_i^a_i       eigenfunction prod_i He_{a_i}(z_i) / sqrt(a_i!)

The statement is asymptotic. For Gaussian data it holds in the limit of wide kernels, or of many directions without a
dominant one. For other data it is an approximation, whose size `Spectrum` on the data shows: compare the two. The
factorials make high powers of a dominant direction too large. Degrees from which they would overtake lower ones are
left out.

>>> import jax.numpy as jnp, ntkbias as nb
>>> kernel, covariance = nb.infinite_nngp(nb.nets.mlp(activation="erf")), jnp.diag(jnp.array([1.3, 1.0, 0.9, 0.8]))
>>> predicted = nb.exact.predicted_spectrum(kernel, covariance, num_modes=3)
>>> [predicted.name(mode) for mode in range(3)]
['x1', 'x2', 'x3']
"""

import heapq
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_finite, require_known, require_positive, require_wide
from ntkbias.domains import FromHarmonics
from ntkbias.errors import InputError
from ntkbias.exact.profile import checked_kernel, kernel_values
from ntkbias.exact.value import ExactSpectrum
from ntkbias.kernels import Kernel
from ntkbias.tables import Axes, Printed, Table, counted

__all__ = ["PredictedSpectrum", "predicted_spectrum"]

MOST_DEGREES = 10
REACH, NODES = 0.5, 33  # the largest cosine at which the kernel is read, and the Chebyshev nodes there
INVARIANT = 1e-5  # allowed relative change under a rotation
NEGLIGIBLE = 1e-9  # of the kernel's size: smaller coefficients of the expansion are rounding


class PredictedSpectrum(Printed):
    """The k largest predicted eigenvalues, each with the Hermite polynomial that belongs to it.

    `factors` `(k, degree)` lists the directions of each polynomial, each as often as its power, and then -1: [0, 0, 3]
    is of the second power along the first principal direction, and linear along the fourth. `name` writes it as
    "x1^2 x4". `variances` are the eigenvalues of the covariance, and the columns of `directions` its eigenvectors.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))
    >>> found = nb.exact.predicted_spectrum(kernel, jnp.eye(3), num_modes=4)
    >>> found.factors[:, 0].tolist(), found.degrees.tolist()
    ([-1, 0, 1, 2], [0, 1, 1, 1])
    """

    named_axes = Axes("mode", k="mode", d="direction", l="place")

    eigenvalues: Float[Array, " k"]
    factors: Int[Array, "k l"]
    variances: Float[Array, " d"]
    directions: Float[Array, "d d"]
    trace: Float[Array, ""]  # of the kernel on the sphere

    @property
    def degrees(self) -> Int[np.ndarray, " k"]:
        """The degree of each polynomial."""
        return np.sum(np.asarray(self.factors) >= 0, 1)

    def name(self, mode: int) -> str:
        """The polynomial of a mode, counted from zero, as a product of powers: "x1^2 x4", and "1" for the constant."""
        if not 0 <= mode < len(self.eigenvalues):
            raise InputError(f"Expected a mode from 0 to {len(self.eigenvalues) - 1}; got {mode}.")
        used, powers = np.unique(np.asarray(self.factors)[mode], return_counts=True)
        pairs = [(place + 1, power) for place, power in zip(used.tolist(), powers.tolist(), strict=True) if place >= 0]
        return " ".join(f"x{place}" + (f"^{power}" if power > 1 else "") for place, power in pairs) or "1"

    def functions(self, x: ArrayLike) -> Float[Array, "n k"]:
        """The predicted eigenfunctions at inputs `(n, ...)` with mean zero, each of mean square one if z is Gaussian.

        Raises `InputError` on inputs of another dimension. Costs n d^2 + n k multiplications.
        """
        inputs = require_wide(x, "x")
        flat = inputs.reshape(len(inputs), -1)
        if flat.shape[1] != len(self.variances):
            raise InputError(f"Expected inputs with {len(self.variances)} numbers each; got {flat.shape[1]}.")
        used = np.unique(np.asarray(self.factors)[np.asarray(self.factors) >= 0])
        scale = jnp.sqrt(jnp.maximum(self.variances[used], jnp.finfo(self.variances.dtype).tiny))
        z = flat @ self.directions[:, used] / scale
        highest = max(int(self.degrees.max(initial=0)), 1)
        hermite = [jnp.ones_like(z), z]  # He_{m+1} = z He_m - m He_{m-1}
        for degree in range(1, highest):
            hermite.append(z * hermite[-1] - degree * hermite[-2])
        scaled = jnp.stack([each / math.sqrt(math.factorial(degree)) for degree, each in enumerate(hermite)])
        powers = np.stack([np.sum(np.asarray(self.factors) == place, 1) for place in used], 1).reshape(-1, len(used))
        columns = []
        for row in powers:
            own = np.flatnonzero(row)
            columns.append(
                jnp.prod(jnp.stack([scaled[row[at], :, at] for at in own]), 0) if len(own) else z[:, 0] * 0 + 1
            )
        return jnp.stack(columns, 1)

    def power(self, x: ArrayLike, targets: ArrayLike) -> Float[Array, "k *t"]:
        """The power of `targets` `(n,)` or `(n, t)` in each mode, from their values on inputs with mean zero.

        It is the square of the mean of target times function; a sample of n inputs adds about 1/n of the target's mean
        square. `learning_curve(predicted.exact(), power, sizes)` predicts its learning curve.
        """
        functions, values = self.functions(x), require_wide(targets, "targets")
        if values.ndim not in (1, 2) or len(values) != len(functions):
            raise InputError(f"Expected targets ({len(functions)},) or ({len(functions)}, t); got {values.shape}.")
        return jnp.tensordot(functions, values, ([0], [0])) ** 2 / len(functions) ** 2

    def exact(self) -> ExactSpectrum:
        """The same eigenvalues as a spectrum for `learning_curve`; `degrees` are those of the polynomials."""
        values = np.asarray(self.eigenvalues, float)
        trace = max(float(self.trace), float(values.sum()))
        return ExactSpectrum.of(values, degrees=self.degrees, frequencies=self.degrees.astype(float), trace=trace)

    def domain(self, num_modes: int | None = None) -> FromHarmonics:
        """A domain with the first functions as harmonics, whose frequencies are their degrees.

        `rank_by_frequency(spectrum, predicted.domain(50))` gives each mode of data the degree that holds most of its
        power. Center the inputs first, and use at most half as many functions as inputs.
        """
        count = len(self.eigenvalues) if num_modes is None else num_modes
        require_positive("num_modes", count)
        kept = PredictedSpectrum(
            self.eigenvalues[:count], self.factors[:count], self.variances, self.directions, self.trace
        )
        return FromHarmonics(lambda x: kept.functions(x), kept.degrees.astype(float).tolist())

    def _table(self, num_rows: int) -> Table:
        shown = range(min(num_rows, len(self.eigenvalues)))
        columns = {
            "eigenvalue": [f"{float(self.eigenvalues[row]):.4g}" for row in shown],
            "degree": [str(self.degrees[row]) for row in shown],
            "function": [self.name(row) for row in shown],
        }
        notes = ["x1 is the coordinate along the first principal direction; powers are Hermite polynomials."]
        more = len(self.eigenvalues) - len(shown)
        return Table(f"PredictedSpectrum: {counted(len(self.eigenvalues), 'mode')}", columns, notes, more)


def predicted_spectrum(
    kernel: Kernel, covariance: ArrayLike, num_modes: int = 100, *, max_degree: int | None = None
) -> PredictedSpectrum:
    """The `num_modes` largest eigenvalues of a rotation-invariant kernel that the covariance `(d, d)` of data predicts.

    The kernel takes inputs `(n, d)` and depends on their lengths and their inner product, as that of an MLP does; it is
    read on the sphere with the mean squared length of the data. Data need mean zero. Polynomials have degrees up to
    `max_degree`, by default as many as the data allow, at most 10: beyond, powers of the first principal direction
    would have larger eigenvalues than lower powers. The prediction is asymptotic and has no error bound.

    Costs 33 evaluations of the kernel, one eigendecomposition of the covariance, and k log k operations.

    Raises `InputError` on a covariance that is not square, symmetric and positive semi-definite, on a kernel that
    changes when both inputs are rotated, on a `max_degree` that the data do not allow, and if there are fewer modes
    than asked for.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))
    >>> found = predicted_spectrum(kernel, jnp.diag(jnp.array([5.0, 4.0, 3.0, 2.0])), num_modes=5)
    >>> [found.name(mode) for mode in range(5)]
    ['x1', '1', 'x2', 'x3', 'x4']
    """
    checked_kernel(kernel)
    require_known((kernel, covariance), "predicted_spectrum")
    require_positive("num_modes", num_modes)
    if max_degree is not None:
        require_positive("max_degree", max_degree)
    matrix = require_wide(covariance, "the covariance")
    require_finite(matrix, "the covariance")
    values = np.asarray(matrix, float)
    if (
        values.ndim != 2
        or values.shape[0] != values.shape[1]
        or not values.size
        or not np.allclose(values, values.T, atol=1e-6 * np.abs(values).max())
    ):
        raise InputError(f"Expected a symmetric covariance (d, d); got shape {values.shape}, or another matrix.")
    variances, directions = np.linalg.eigh(values)
    variances, directions = variances[::-1], directions[:, ::-1]
    if not variances[0] > 0 or variances[-1] < -1e-5 * variances[0]:
        raise InputError(
            f"Expected a positive semi-definite covariance that is not zero; got eigenvalues from {variances[-1]:.3g} "
            f"to {variances[0]:.3g}."
        )
    variances = np.maximum(variances, 0.0)
    expansion = _expansion(kernel, len(variances), float(variances.sum()) ** 0.5, MOST_DEGREES)
    levels = np.array([math.factorial(degree) for degree in range(MOST_DEGREES + 1)]) * expansion
    allowed = _allowed(levels, variances[0] / variances.sum())
    if max_degree is not None and max_degree > allowed:
        raise InputError(
            f"Expected max_degree of at most {allowed} for data with {variances[0] / variances.sum():.0%} of their "
            f"variance in one direction; got {max_degree}. Beyond, powers of this direction would come before lower "
            "ones."
        )
    max_degree = allowed if max_degree is None else max_degree
    found = _largest(levels[: max_degree + 1], variances / variances.sum(), num_modes)
    if len(found) < num_modes:
        raise InputError(
            f"Expected num_modes of at most {len(found)}, the number of modes with a positive eigenvalue up to degree "
            f"{max_degree}; got {num_modes}."
        )
    width = max((len(factors) for _, factors in found), default=0)
    padded = np.array([list(factors) + [-1] * (max(width, 1) - len(factors)) for _, factors in found])
    dtype = jnp.result_type(float)
    return PredictedSpectrum(
        eigenvalues=jnp.asarray([value for value, _ in found], dtype),
        factors=jnp.asarray(padded),
        variances=jnp.asarray(variances, dtype),
        directions=jnp.asarray(directions, dtype),
        trace=jnp.asarray(_on_sphere(kernel, len(variances), float(variances.sum()) ** 0.5, np.ones(1))[0], dtype),
    )


def _expansion(kernel: Kernel, dimension: int, radius: float, max_degree: int) -> np.ndarray:
    """The coefficients a_l of K = sum_l a_l u^l in the cosine u on the sphere; those that are rounding are zero."""
    cosine = REACH * np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    values = _on_sphere(kernel, dimension, radius, cosine)
    moved = _on_sphere(kernel, dimension, radius, cosine, seed=1)
    if np.max(np.abs(values - moved)) > INVARIANT * np.max(np.abs(values)):
        raise InputError(
            "Expected a kernel that depends on lengths and inner products alone, as that of an MLP; got one that "
            "changes when both inputs are rotated."
        )
    scaled = np.polynomial.chebyshev.chebfit(cosine / REACH, values, NODES - 1)
    scaled[np.abs(scaled) < 1e-15 * np.abs(scaled).max()] = 0.0
    powers = np.zeros(NODES)  # the conversion leaves out zeros at the end
    found = np.polynomial.chebyshev.cheb2poly(scaled)
    powers[: len(found)] = found
    coefficients = powers[: max_degree + 1] / REACH ** np.arange(max_degree + 1)
    return np.where(np.abs(coefficients) > NEGLIGIBLE * np.abs(values).max(), coefficients, 0.0)


def _allowed(levels: np.ndarray, share: float) -> int:
    """The largest degree up to which the eigenvalues of powers of the first direction fall."""
    least, last = np.inf, 0
    for degree, level in enumerate(levels.tolist()):
        value = level * share**degree
        if degree and value:
            if value >= least:
                break
            least = value
        last = degree
    return last


def _on_sphere(kernel: Kernel, dimension: int, radius: float, cosine: np.ndarray, seed: int = 0) -> np.ndarray:
    """The kernel between a point of the sphere and those with these cosines to it, in a random plane."""
    plane = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimension, min(2, dimension))))[0].T * radius
    if dimension == 1:
        plane = np.concatenate([plane, np.zeros((1, 1))])
    points = cosine[:, None] * plane[0] + np.sqrt(1 - cosine**2)[:, None] * plane[1]
    with jax.debug_nans(False):
        return kernel_values(kernel, plane[:1], points)[0]


def _largest(levels: np.ndarray, shares: np.ndarray, count: int) -> list[tuple[float, tuple[int, ...]]]:
    """The largest products levels[l] * shares[i_1] ... shares[i_l] with i_1 <= i_2 <= ..., and their places."""

    def value(factors: tuple[int, ...]) -> float:
        return float(levels[len(factors)] * np.prod(shares[list(factors)]))

    waiting: list[tuple[float, tuple[int, ...]]] = [
        (-value((0,) * degree), (0,) * degree) for degree in range(len(levels))
    ]
    heapq.heapify(waiting)
    seen = {factors for _, factors in waiting}
    found: list[tuple[float, tuple[int, ...]]] = []
    while waiting and len(found) < count:
        negative, factors = heapq.heappop(waiting)
        if not -negative > 0:
            break
        found.append((-negative, factors))
        for place, factor in enumerate(factors):  # move one factor to the next direction
            last = place == len(factors) - 1 or factors[place + 1] > factor
            if last and factor + 1 < len(shares):
                moved = (*factors[:place], factor + 1, *factors[place + 1 :])
                if moved not in seen:
                    seen.add(moved)
                    heapq.heappush(waiting, (-value(moved), moved))
    return found

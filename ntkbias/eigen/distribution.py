"""The distribution of a kernel's eigenvalues, as `spectral_density` returns it, and the numbers that follow from it.

Each number is a sum over eigenvalues, which the Gauss rule of each probe estimates. No eigenvalue of a kernel is below
zero. Therefore the Gauss-Radau rule with one node at zero bounds sums of log(x + r) and x / (x + r) from the other side
(Golub and Meurant 1994). Counts need no such condition (Chebyshev, Markov and Stieltjes), so the distribution of an
operator with negative eigenvalues, such as the Hessian of a loss, has bounds as well.

>>> import ntkbias as nb
>>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))
>>> x, _ = nb.domains.Circle().quadrature(100)
>>> density = nb.spectral_density(kernel, x, num_steps=20)
>>> dimension = density.effective_dimension(ridge=0.1)
>>> bool(0 < dimension.value < 100)
True
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from ntkbias.checks import (
    require_finite,
    require_positive,
    require_scale,
    require_wide,
)
from ntkbias.eigen.estimate import Estimate, at_each, mean_over_probes
from ntkbias.eigen.lanczos import (
    gauss_rule,
    with_node,
)
from ntkbias.errors import InputError
from ntkbias.tables import Axes, Printed, Table, number

__all__ = ["SpectralDensity", "checked_ridge", "require_definite"]

ROUNDING = 1e-12  # relative to tr A^2: a smaller variance is that of equal eigenvalues
DECADES, LEAST = 38, 1e-38  # the range of the printed eigenvalues: powers of ten up to 38, and the least eigenvalue


class SpectralDensity(Printed):
    """The distribution of the eigenvalues of K / n, from s Lanczos steps with each of p probes.

    `diagonals` and `off_diagonals` hold the tridiagonal matrices, which determine `nodes`, `weights` and other rules.
    The methods return an `Estimate` with both errors. They need no further products with K; each costs the eigenvalues
    of p matrices `(s, s)`, on the host in float64. If the operator is not `definite`, eigenvalues may be negative:
    `cumulative`, `linear_density` and `moment` count them, and `log_determinant` and `effective_dimension` are refused.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> density = nb.spectral_density(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, num_steps=8, num_probes=4)
    >>> bool(abs(float(density.effective_dimension(ridge=1.0))) <= 16)
    True
    """

    named_axes = Axes("probe", "step", also=["nodes", "weights"], p="probe", s="step", k="mode")

    diagonals: Float[Array, "p s"]
    off_diagonals: Float[Array, "p s"]  # the last entry is the norm of the remainder of the last product
    eigenvalues: Float[Array, " k"]  # known exactly; the probes estimate the others
    noise_floor: Float[Array, ""]  # eps ||K||_F / n: eigenvalues below are rounding
    num_examples: int = eqx.field(static=True)
    num_rows: int = eqx.field(static=True)  # examples times outputs
    definite: bool = eqx.field(static=True, default=True)  # whether no eigenvalue is below zero

    @property
    def nodes(self) -> Float[np.ndarray, "p s"]:
        """The nodes of each probe's Gauss rule, ascending: estimates of eigenvalues of K / n."""
        return self._rule()[0]

    @property
    def weights(self) -> Float[np.ndarray, "p s"]:
        """The number of eigenvalues that each node represents; a probe's sum to the number of unknown eigenvalues."""
        return self._rule()[1]

    @property
    def exhausted(self) -> Bool[np.ndarray, " p"]:
        """Whether each probe's rule is exact, because its Lanczos iteration found all eigenvalues that it can see."""
        return np.asarray(self.off_diagonals)[:, -1] == 0

    def density(self, at: ArrayLike, width: float = 0.1) -> Estimate:
        """The number of eigenvalues per decade at each of `at` `(q,)`; its integral over log10 is their number.

        Each eigenvalue contributes a normal density in log10 with standard deviation `width`. Eigenvalues of zero or
        less are not on this axis; see `cumulative` and `linear_density`. The value is the mean of the Gauss rule and
        the Gauss-Radau rule with a node at zero, which mostly err on different sides. The numerical error is the
        largest half difference between the two within one width. It is an estimate, not a bound, and it is meaningless
        below the smallest nodes. A large error means that nodes lie farther apart than `width`.

        Raises `InputError` unless `at` and `width` are positive.
        """
        points = _checked_points(at)
        require_scale("width", width)
        if not np.all(points > 0) or not width > 0:
            raise InputError("Expected eigenvalues and a width above zero, on a logarithmic axis; got zero or less.")
        return self._smoothed(_log10, _log10(points), width)

    def linear_density(self, at: ArrayLike, width: float) -> Estimate:
        """The number of eigenvalues per unit at each of `at` `(q,)`, negative ones too; its integral is their number.

        Each eigenvalue contributes a normal density with standard deviation `width`, in the unit of the eigenvalues.
        The errors are those of `density`. Raises `InputError` unless `width` is positive.
        """
        points = _checked_points(at)
        require_scale("width", width)
        if not width > 0:
            raise InputError(f"Expected a width above zero, in the unit of the eigenvalues; got {width!r}.")
        return self._smoothed(lambda values: values, points, width)

    def cumulative(self, at: ArrayLike) -> Estimate:
        """The number of eigenvalues of K / n above each of `at` `(q,)`.

        The numerical error is a bound. The rule with a node at a point gives a probe's count above the point, up to the
        weight of that node (Chebyshev, Markov and Stieltjes); half of that weight is counted. Eigenvalues within the
        noise floor of the point may lie on either side. If eigenvalues are dense, a node carries the weight of many of
        them; more steps reduce it. Costs the eigenvalues of 2 q p matrices.
        """
        known, floor = np.asarray(self.eigenvalues, float), float(self.noise_floor)

        def at_point(point: float) -> tuple[np.ndarray, Any]:
            low, high = self._shares_above(point + floor)[0], self._shares_above(point - floor)[1]
            middle, least, most = (np.sum(known > bound) for bound in (point, point + floor, point - floor))
            values = (low + high) / 2 + middle
            return values, max(np.mean(high) + most - np.mean(values), np.mean(values) - np.mean(low) - least)

        return at_each(at_point, _checked_points(at))

    def moment(self, power: int) -> Estimate:
        """tr (K / n)^power for a whole power of 1 or more: the trace, the squared Frobenius norm, ...

        The rule is exact for a power below twice the number of steps. For higher powers, the numerical error is not a
        bound.
        """
        require_positive("power", power)
        return self._of_increasing(lambda x: x**power) if self.definite else self._of_power(power)

    def log_determinant(self, ridge: ArrayLike) -> Estimate:
        """log det(K + ridge I) for each ridge, added to K and not to K / n. With weights, n W^1/2 K W^1/2 replaces K.

        The numerical error grows if the ridge is smaller than n times the noise floor, because rounding then determines
        some terms. Raises `InputError` unless the ridge is above zero, and on an operator that is not `definite`.
        """
        require_definite(self.definite, "log determinant")
        shift = checked_ridge(ridge)[..., None, None]
        return self._of_increasing(lambda x: np.log(self.num_examples * x + shift))

    def effective_dimension(self, ridge: ArrayLike) -> Estimate:
        """tr K (K + ridge I)^-1 for each ridge: the number of modes that ridge regression learns.

        It falls from the rank of K for a small ridge to zero for a large one. The ridge is added to K, not to K / n.
        Raises `InputError` unless the ridge is above zero, and on an operator that is not `definite`.
        """
        require_definite(self.definite, "effective dimension")
        shift = checked_ridge(ridge)[..., None, None]
        return self._of_increasing(lambda x: self.num_examples * x / (self.num_examples * x + shift))

    def _table(self, num_rows: int) -> Table:
        known = np.asarray(self.eigenvalues, float)
        finite = np.all(np.isfinite(self.diagonals)) and np.all(np.isfinite(self.off_diagonals))
        nodes, weights = self._rule() if finite else np.zeros((2, 1, 0))
        largest, least = max(nodes.max(initial=0.0), known.max(initial=0.0)), max(float(self.noise_floor), LEAST)
        decades = [10.0**power for power in range(DECADES, -DECADES, -1) if least <= 10.0**power < largest][:num_rows]
        counts = [np.sum(weights * (nodes > point), -1) + np.sum(known > point) for point in decades]
        columns = {
            "above": [f"{point:.0e}" for point in decades],
            "eigenvalues": [number(np.mean(each)) for each in counts],
            "± (probes)": [f"{np.std(each, ddof=1) / len(each) ** 0.5:.2g}" for each in counts],
        }
        probes, steps = self.diagonals.shape
        of = " of K / n" if self.num_examples > 1 else ""
        title = f"SpectralDensity: {self.num_rows:,} eigenvalues{of}, {len(known):,} of them known"
        negative = np.sum(weights * (nodes < -float(self.noise_floor)), -1) + np.sum(known < 0)
        notes = [] if self.definite else [f"About {number(np.mean(negative))} eigenvalues are below zero."]
        notes += [
            f"{probes} probes, {steps} steps, noise floor {number(self.noise_floor)}. The counts come from Gauss' "
            "rule; cumulative() also gives the error of the steps."
        ]
        return Table(title, columns, notes)

    def _smoothed(
        self, axis: Callable[[np.ndarray], np.ndarray], points: Float[np.ndarray, "*q"], width: float
    ) -> Estimate:
        """The number of eigenvalues per unit of an axis: the mean of two rules, and half of their difference nearby."""
        rules = [(axis(nodes), weights) for nodes, weights in (self._rule(), self._rule_with(0.0))]
        known = axis(np.asarray(self.eigenvalues, float))
        near = width * np.linspace(-1, 1, 9)[:, None, None]

        def smoothed(nodes: np.ndarray, point: Any) -> np.ndarray:
            return np.exp(-(((nodes - point) / width) ** 2) / 2) / (width * (2 * np.pi) ** 0.5)

        def at_point(point: float) -> tuple[np.ndarray, Any]:
            gauss, radau = (np.sum(w * smoothed(nodes, point + near), -1) for nodes, w in rules)
            error = np.max(np.abs(np.mean(gauss - radau, -1))) / 2
            return (gauss[4] + radau[4]) / 2 + np.sum(smoothed(known, point)), error

        return at_each(at_point, points)

    def _rule(self) -> tuple[Float[np.ndarray, "p s"], Float[np.ndarray, "p s"]]:
        """The nodes (ascending) and weights of the Gauss rules."""
        return self._quadrature(np.asarray(self.diagonals, float), np.asarray(self.off_diagonals, float)[:, :-1])

    def _rule_with(self, point: float) -> tuple[Float[np.ndarray, "p r"], Float[np.ndarray, "p r"]]:
        """The rules with one more node, at the given point; for the point zero, the Gauss-Radau rules."""
        return self._quadrature(
            *with_node(np.asarray(self.diagonals, float), np.asarray(self.off_diagonals, float), point)
        )

    def _quadrature(self, diagonals: np.ndarray, off_diagonals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nodes, shares = gauss_rule(diagonals, off_diagonals)
        return nodes, (self.num_rows - len(self.eigenvalues)) * shares

    def _shares_above(self, point: float) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
        """Lower and upper bounds of each probe's count above a point. None is negative if the operator is definite."""
        nodes, weights = self._rule()
        exact = np.sum(weights * (nodes > point), -1)
        nodes, weights = self._rule_with(point)
        own = np.argmin(np.abs(nodes - point), -1)[:, None]
        places = np.arange(nodes.shape[1])
        low, high = (
            np.where(self.exhausted, exact, np.sum(weights * above, -1)) for above in (places > own, places >= own)
        )
        if not self.definite:
            return low, high
        total = np.sum(weights, -1)
        return total if point < 0 else low, total if point <= 0 else high

    def _of_increasing(self, function: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        """The sum of an increasing function over all eigenvalues.

        The error allows for rounding, which moves each eigenvalue by at most the noise floor, and none below zero.
        """
        known, floor = np.asarray(self.eigenvalues, float), float(self.noise_floor)
        rules = self._rule(), self._rule_with(0.0)

        def sums(shift: float) -> list[Float[np.ndarray, "*q p"]]:
            exact = np.sum(function(np.maximum(known[None] + shift, 0)), -1)
            return [np.sum(w * function(np.maximum(nodes + shift, 0)), -1) + exact for nodes, w in rules]

        gauss, radau = sums(0.0)
        middle = np.mean(gauss + radau, -1) / 2
        low, high = ([np.mean(one, -1) for one in sums(shift)] for shift in (-floor, floor))
        errors = np.maximum(np.maximum(*high) - middle, middle - np.minimum(*low))
        return mean_over_probes((gauss + radau) / 2, errors, self._variance(function))

    def _of_power(self, power: int) -> Estimate:
        """The sum of a power over all eigenvalues of both signs. Rounding moves each by at most the noise floor."""
        known, floor = np.asarray(self.eigenvalues, float), float(self.noise_floor)

        def moved(values: np.ndarray) -> np.ndarray:
            return np.maximum(
                abs((values + floor) ** power - values**power), abs((values - floor) ** power - values**power)
            )

        sums, rounding = [], 0.0
        for nodes, weights in (self._rule(), self._rule_with(0.0)):
            sums.append(np.sum(weights * nodes**power, -1) + np.sum(known**power))
            rounding = max(rounding, float(np.mean(np.sum(weights * moved(nodes), -1)) + np.sum(moved(known))))
        errors = abs(np.mean(sums[0] - sums[1])) / 2 + rounding
        return mean_over_probes((sums[0] + sums[1]) / 2, errors, self._variance(lambda x: x**power))

    def _variance(self, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The variance of v^T A v for A = f(K) of n unknown eigenvalues and v uniform on the sphere of radius sqrt n.

        It is 2 n / (n + 2) (tr A^2 - (tr A)^2 / n), from the fourth moments of v. Both traces come from the rules.
        """
        nodes, weights = self._rule()
        values, n = function(np.maximum(nodes, 0) if self.definite else nodes), self.num_rows - len(self.eigenvalues)
        first, second = (np.mean(np.sum(weights * values**power, -1), -1) for power in (1, 2))
        variance = 2 * n / (n + 2) * (second - first**2 / max(n, 1))
        return np.where(variance > ROUNDING * second, variance, 0.0)


def _log10(values: np.ndarray) -> np.ndarray:
    """Logarithms; zero and negative values count as the smallest positive float64."""
    return np.asarray(np.log10(np.maximum(values, np.finfo(float).tiny)))


def require_definite(definite: bool, name: str) -> None:
    """Raise an `InputError` if an operator may have negative eigenvalues, for which a number has no meaning."""
    if not definite:
        raise InputError(
            f"Expected an operator without negative eigenvalues for the {name}; got one that may have them, such as a "
            "Hessian. Use cumulative, linear_density or moment of its spectral_density, or the Gauss-Newton matrix."
        )


def checked_ridge(ridge: ArrayLike) -> Float[np.ndarray, "*q"]:
    """The ridges in float64; an `InputError` unless all are above zero."""
    require_finite(require_wide(ridge, "the ridge"), "the ridge")
    ridges = np.asarray(ridge, float)
    if not np.all(ridges > 0):
        raise InputError(
            f"Expected a ridge above zero; got {ridges.min():.3g}. The ridge is added to K. Without one, a kernel with "
            "an eigenvalue of zero has no log determinant, and its effective dimension is its rank."
        )
    return ridges


def _checked_points(at: ArrayLike) -> Float[np.ndarray, "*q"]:
    require_finite(require_wide(at, "the eigenvalues to ask about"), "the eigenvalues to ask about")
    return np.asarray(at, float)

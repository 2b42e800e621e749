"""The forms that a scaling law may take, and their least-squares fit on logarithms.

    power    error = a n^b
    offset   error = a n^b + c, with c >= 0                                 (Hestness et al. 2017, arXiv 1712.00409)
    broken   error = a n^b1 (1 + (n / d)^(1 / f))^((b2 - b1) f)             (Caballero et al. 2022, arXiv 2210.14891)

The broken law has slope b1 far below the size d, and slope b2 far above it. Between the two, the slope changes over a
few f in log n. A form gives the curve and its Jacobian as functions of coordinates that suit least squares: positive
parameters enter as logarithms. It also gives the starts of the search.

>>> import numpy as np
>>> from ntkbias.scaling.forms import FORMS, fit
>>> log_n = np.log([10.0, 20.0, 40.0, 80.0, 160.0])
>>> log_error = np.log(3 * np.exp(log_n) ** -0.5 + 0.1)
>>> found, _ = fit(FORMS["offset"], log_n, log_error[None], np.ones((1, 5)))
>>> np.exp(found[0, [0, 2]]).round(3).tolist(), found[0, 1].round(3).item()
([3.0, 0.1], -0.5)
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float

__all__ = ["FORMS", "Form", "fit"]

MOST_STEPS = 200  # the search usually takes ten to forty
STEEPEST = 20.0  # exponents lie between -STEEPEST and STEEPEST
NARROWEST = 0.05  # width of a break in log n: sharper breaks look the same between sizes that differ by 5 %
LEAST_OFFSET = 20.0  # an offset so many e-folds below the smallest error counts as zero


class Form(NamedTuple):
    """A law in the coordinates of its search. `positive` marks the coordinates that are logarithms."""

    names: tuple[str, ...]
    positive: tuple[bool, ...]
    curve: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # log error (b, n), Jacobian (b, n, p)
    starts: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # (b, starts, p)
    bounds: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # each (b, p)

    @property
    def num_parameters(self) -> int:
        """The number of parameters of the law."""
        return len(self.names)


def fit(
    form: Form,
    log_n: Float[np.ndarray, " n"],
    log_error: Float[np.ndarray, "b n"],
    weights: Float[np.ndarray, "b n"],
    start: Float[np.ndarray, " p"] | None = None,
) -> tuple[Float[np.ndarray, "b p"], Float[np.ndarray, " b"]]:
    """The coordinates of the best law for each of b curves, and its weighted sum of squared residuals.

    A Levenberg-Marquardt search runs for all curves and all starts at once. `start` is tried in addition to the form's
    own starts.
    """
    starts = form.starts(log_n, log_error, weights)
    if start is not None:
        starts = np.concatenate([starts, np.broadcast_to(start, (len(starts), 1, len(start)))], 1)
    count = starts.shape[1]
    low, high = (np.repeat(bound, count, 0) for bound in form.bounds(log_n, log_error))
    found, residual = _search(
        form,
        np.clip(starts.reshape(-1, form.num_parameters), low, high),
        (low, high),
        log_n,
        np.repeat(log_error, count, 0),
        np.repeat(weights, count, 0),
    )
    best = np.argmin(residual.reshape(-1, count), 1)
    each = np.arange(len(log_error))
    return found.reshape(-1, count, form.num_parameters)[each, best], residual.reshape(-1, count)[each, best]


def _search(
    form: Form,
    theta: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    log_n: np.ndarray,
    log_error: np.ndarray,
    weights: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    damping = np.full(len(theta), 1e-3)
    values, jacobian = form.curve(theta, log_n)
    residual = np.sum(weights * (log_error - values) ** 2, 1)
    diagonal = np.arange(form.num_parameters)
    for _ in range(MOST_STEPS):
        normal = np.einsum("bnp,bn,bnq->bpq", jacobian, weights, jacobian)
        normal[:, diagonal, diagonal] += damping[:, None] * (normal[:, diagonal, diagonal] + 1e-9) + 1e-15
        slope = np.einsum("bnp,bn->bp", jacobian, weights * (log_error - values))
        proposed = np.clip(theta + np.linalg.solve(normal, slope[..., None])[..., 0], *bounds)
        new_values, new_jacobian = form.curve(proposed, log_n)
        new_residual = np.sum(weights * (log_error - new_values) ** 2, 1)
        better = new_residual < residual
        moved = np.max(np.abs(proposed - theta), 1) > 1e-10
        theta = np.where(better[:, None], proposed, theta)
        values = np.where(better[:, None], new_values, values)
        jacobian = np.where(better[:, None, None], new_jacobian, jacobian)
        residual = np.where(better, new_residual, residual)
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-12, 1e8)
        if not np.any(moved & (damping < 1e8)):
            break
    return theta, residual


def _line(log_n: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The intercept and slope `(b, 2)` of b weighted lines."""
    total = weights.sum(1)
    middle_n, middle = weights @ log_n / total, np.sum(weights * values, 1) / total
    centered = log_n - middle_n[:, None]
    slope = np.sum(weights * centered * values, 1) / np.sum(weights * centered**2, 1)
    return np.stack([middle - slope * middle_n, slope], 1)


def _power(theta: np.ndarray, log_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ones = np.ones((len(theta), len(log_n)))
    return theta[:, :1] + theta[:, 1:] * log_n, np.stack([ones, ones * log_n], -1)


def _power_starts(log_n: np.ndarray, log_error: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _line(log_n, log_error, weights)[:, None]


def _power_bounds(log_n: np.ndarray, log_error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _box(log_error, [-np.inf, -STEEPEST], [np.inf, STEEPEST])


def _offset(theta: np.ndarray, log_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    law, offset = theta[:, :1] + theta[:, 1:2] * log_n, theta[:, 2:]
    share = scipy.special.expit(law - offset)  # the power law's share of the error
    return np.logaddexp(law, offset), np.stack([share, share * log_n, 1 - share], -1)


def _offset_starts(log_n: np.ndarray, log_error: np.ndarray, weights: np.ndarray) -> np.ndarray:
    starts = []
    for share in (1e-6, 0.1, 0.5, 0.8, 0.95, 0.999):  # the offset's share of the smallest error
        offset = np.log(share) + log_error.min(1, keepdims=True)
        rest = log_error + np.log1p(-np.exp(offset - log_error))
        starts.append(np.concatenate([_line(log_n, rest, weights), offset], 1))
    return np.stack(starts, 1)


def _offset_bounds(log_n: np.ndarray, log_error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = _box(log_error, [-np.inf, -STEEPEST, 0], [np.inf, STEEPEST, 0])
    low[:, 2] = log_error.min(1) - LEAST_OFFSET
    high[:, 2] = log_error.max(1)
    return low, high


def _broken(theta: np.ndarray, log_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second, log_break, width = (theta[:, index : index + 1] for index in range(1, 5))
    distance = (log_n - log_break) / width
    bend = width * np.logaddexp(0, distance)  # 0 far below the break, log(n / d) far above
    after, change = scipy.special.expit(distance), second - first
    values = theta[:, :1] + first * log_n + change * bend
    ones = np.ones_like(values)
    return values, np.stack([ones, log_n - bend, bend, -change * after, change * (bend / width - distance * after)], -1)


def _broken_starts(log_n: np.ndarray, log_error: np.ndarray, weights: np.ndarray) -> np.ndarray:
    order = np.argsort(log_n)
    starts = []
    for share in (0.25, 0.4, 0.6, 0.75):
        middle = int(np.clip(round(share * len(order)), 2, len(order) - 2))
        before, after = order[: middle + 1], order[middle - 1 :]
        lower = _line(log_n[before], log_error[:, before], weights[:, before])
        upper = _line(log_n[after], log_error[:, after], weights[:, after])
        log_break = np.full((len(lower), 1), log_n[order[middle]])
        for width in (2 * NARROWEST, 0.1 * np.ptp(log_n)):
            starts.append(np.concatenate([lower, upper[:, 1:], log_break, np.full_like(log_break, width)], 1))
    return np.stack(starts, 1)


def _broken_bounds(log_n: np.ndarray, log_error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # The break lies between the sizes, and the slope changes (over 4 f in log n) within their range. Data cannot
    # distinguish any other break from no break.
    widest = max(np.ptp(log_n) / 4, 2 * NARROWEST)
    return _box(
        log_error,
        [-np.inf, -STEEPEST, -STEEPEST, log_n.min(), NARROWEST],
        [np.inf, STEEPEST, STEEPEST, log_n.max(), widest],
    )


def _box(log_error: np.ndarray, low: list[float], high: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.tile(np.array(bound, float), (len(log_error), 1)) for bound in (low, high))  # type: ignore[return-value]


FORMS = {
    "power": Form(("coefficient", "exponent"), (True, False), _power, _power_starts, _power_bounds),
    "offset": Form(("coefficient", "exponent", "offset"), (True, False, True), _offset, _offset_starts, _offset_bounds),
    "broken": Form(
        ("coefficient", "first_exponent", "exponent", "break_size", "break_width"),
        (True, False, False, True, False),
        _broken,
        _broken_starts,
        _broken_bounds,
    ),
}

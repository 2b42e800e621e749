"""The scaling law of an error: how it falls with the number of examples, of parameters, or of steps.

    error = a n^b      or      a n^b + c, c >= 0      or      a broken law, whose exponent changes once (`forms.py`)

is fitted by least squares on log error, so that all sizes count alike. Where the errors of several replicates (seeds,
draws of the data) are given, `(seeds, n)`, the curve is their mean, and intervals come from drawing seeds anew: the
residuals about the law play no part, so that errors of nested training sets, which are not independent, do no harm. Of
one curve `(n,)` the points themselves are drawn anew. That interval says how much the fit depends on the sizes chosen;
it holds if the errors scatter independently about the law, and knows nothing of other seeds.

Curves that were not tuned at each size bend: `preferred_scaling_law` says whether the data ask for more than a line.

>>> import numpy as np
>>> from ntkbias.scaling import preferred_scaling_law, scaling_law
>>> n = 2.0 ** np.arange(5, 13)
>>> noise = np.random.default_rng(0).normal(size=(5, 8))
>>> errors = 2 * n**-0.5 * np.exp(0.02 * noise)
>>> law = scaling_law(n, errors)
>>> print(law)
error = 1.98 n^-0.499, exponent -0.499 (-0.503 to -0.495) over 5 replicates
>>> -0.5 in law.exponent, preferred_scaling_law(n, errors + 0.05).form
(True, 'offset')
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import key_or_default, require_choice, require_finite, require_positive, require_scale, require_wide
from ntkbias.errors import InputError, InputTypeError
from ntkbias.scaling.forms import FORMS, Form, fit
from ntkbias.scaling.interval import Interval

__all__ = ["ErrorBand", "LawForm", "ScalingLaw", "exponent_difference", "preferred_scaling_law", "scaling_law"]

LawForm = Literal["power", "offset", "broken"]
ROUNDING = 1e-6  # relative: errors are known no better, so that a perfect fit is not infinitely better than a good one
LEVEL = 0.975


class ErrorBand(eqx.Module):
    """The errors that a law gives at `sizes`, with 95 % intervals; see `ScalingLaw.extrapolate`."""

    sizes: Float[Array, " m"]
    errors: Float[Array, " m"]
    low: Float[Array, " m"]
    high: Float[Array, " m"]

    def __str__(self) -> str:
        rows = [f"{'size':>10} {'error':>10}  95 % interval"]
        columns = map(np.asarray, (self.sizes, self.errors, self.low, self.high))
        for size, error, low, high in zip(*columns, strict=True):
            rows.append(f"{size:10.6g} {error:10.3g}  {low:.3g} to {high:.3g}")
        return "\n".join(rows)


class ScalingLaw(eqx.Module):
    """A law fitted to errors at several sizes, with a 95 % interval for each of its parameters.

    `parameters` holds "coefficient" and "exponent", with `form="offset"` "offset", and with `form="broken"`
    "first_exponent" below the "break_size" (a size n) and the "break_width" (of log n): "exponent" always is that of
    large sizes. `draws` are the coordinates of the refits, positive parameters as logarithms.
    """

    parameters: dict[str, Interval]
    draws: Float[Array, "draws p"]
    sizes: Float[Array, " n"]
    errors: Float[Array, " n"]  # the mean over replicates
    scatter: float  # root mean square of log error about the law
    criterion: float  # Akaike's, corrected for few sizes: less is better
    num_replicates: int = eqx.field(static=True)  # 0 where one curve was given
    form: str = eqx.field(static=True)

    @property
    def exponent(self) -> Interval:
        """The exponent at large sizes."""
        return self.parameters["exponent"]

    @property
    def offset(self) -> Interval:
        """The error that stays at large sizes: zero unless the form has one."""
        return self.parameters.get("offset", Interval(0.0, 0.0, 0.0))

    def curve(self, sizes: ArrayLike) -> Float[Array, " m"]:
        """The law's error at `sizes` `(m,)`."""
        log_n = np.log(_checked_sizes(sizes))
        return jnp.asarray(np.exp(FORMS[self.form].curve(self._coordinates(), log_n)[0][0]))

    def extrapolate(self, sizes: ArrayLike) -> ErrorBand:
        """The law's error at other sizes `(m,)`, with the interval of the mean curve that the resampled fits give.

        The interval is of this form of law: that the error may leave it beyond the sizes seen is not in it. Compare
        the forms, of which "power" and "offset" differ the more, the further they are taken.
        """
        n = _checked_sizes(sizes)
        draws = FORMS[self.form].curve(np.asarray(self.draws, float), np.log(n))[0]
        center = FORMS[self.form].curve(self._coordinates(), np.log(n))[0][0]
        half = _half_width(draws, self._degrees_of_freedom, self._num_resampled)
        return ErrorBand(*(jnp.asarray(v) for v in (n, np.exp(center), np.exp(center - half), np.exp(center + half))))

    @property
    def formula(self) -> str:
        """The law with its numbers, as "2 n^-0.5 + 0.1"."""
        values = {name: interval.value for name, interval in self.parameters.items()}
        law = f"{values['coefficient']:.3g} n^{values.get('first_exponent', values['exponent']):.3g}"
        if self.form == "offset":
            law += f" + {values['offset']:.3g}"
        elif self.form == "broken":
            law += f", from n = {values['break_size']:.3g} on as n^{values['exponent']:.3g}"
        return law

    def __str__(self) -> str:
        over = f"{self.num_replicates} replicates" if self.num_replicates else f"{len(self.sizes)} sizes of one curve"
        return f"error = {self.formula}, exponent {self.exponent} over {over}"

    @property
    def _num_resampled(self) -> int:
        return self.num_replicates or len(self.sizes)

    @property
    def _degrees_of_freedom(self) -> int:
        return self.num_replicates - 1 if self.num_replicates else len(self.sizes) - len(self.parameters)

    def _coordinates(self) -> Float[np.ndarray, "1 p"]:
        form = FORMS[self.form]
        values = [self.parameters[name].value for name in form.names]
        tiny = np.finfo(float).tiny
        return np.array([[np.log(max(v, tiny)) if up else v for v, up in zip(values, form.positive, strict=True)]])


def scaling_law(
    sizes: ArrayLike,
    errors: ArrayLike,
    form: LawForm = "power",
    *,
    num_resamples: int = 1_000,
    key: PRNGKeyArray | None = None,
) -> ScalingLaw:
    """The law of `errors` against `sizes` `(n,)`, with bootstrap intervals.

    `errors` are positive, `(seeds, n)` or `(n,)`: the module says what is drawn anew in each case. Intervals are the
    estimate +- t standard deviations over `num_resamples` refits, with Student's t for the number of seeds less one
    (of sizes less that of parameters for one curve), times the root of seeds / (seeds - 1) that the bootstrap falls
    short (Hesterberg 2014, arXiv 1411.5279). Those of coefficient, break and extrapolated error are symmetric in the
    logarithm; an offset's ends at zero. With two or three seeds they are wide, as they have to be. Of 400 experiments
    with nine sizes they held the exponent in 94 to 97 %, from 3, 5 or 20 seeds, and in 90 % from one curve.

    A power law needs 3 sizes, an offset 4 and a break 6; the latter two are found where the sizes span their bend. A
    broken law cannot have its break outside the sizes. Costs milliseconds, and a second for a thousand broken laws.

    Raises `InputError` on errors that are not positive, too few different sizes, or a single replicate `(1, n)`.
    """
    n, values = _checked_curve(sizes, errors)
    require_choice("form", form, LawForm)
    require_positive("num_resamples", num_resamples)
    law, log_n, mean = FORMS[form], np.log(n), _mean(values)
    least = law.num_parameters + 1
    if len(np.unique(n)) < least:
        raise InputError(
            f"Expected {least} different sizes or more for a law of form {form!r}; got {len(np.unique(n))}. "
            "Measure at more sizes, or fit a simpler form."
        )
    found, scatter = _best(law, log_n, mean)
    curves, weights = _resampled(values, num_resamples, key)
    draws, _ = fit(law, log_n, curves, weights, found)
    replicates = len(values) if values.ndim == 2 else 0
    freedom = replicates - 1 if replicates else len(n) - law.num_parameters
    half = _half_width(_natural(law, draws), freedom, replicates or len(n))
    return ScalingLaw(
        parameters=_intervals(law, found, half, mean.min()),
        draws=jnp.asarray(draws),
        sizes=jnp.asarray(n),
        errors=jnp.asarray(mean),
        scatter=scatter,
        criterion=_criterion(scatter, len(n), law.num_parameters),
        num_replicates=replicates,
        form=form,
    )


def preferred_scaling_law(
    sizes: ArrayLike,
    errors: ArrayLike,
    *,
    margin: float = 4.0,
    num_resamples: int = 1_000,
    key: PRNGKeyArray | None = None,
) -> ScalingLaw:
    """The simplest of the three forms whose criterion is within `margin` of the best: whether a curve bends.

    The criterion is Akaike's, corrected for few data (Hurvich and Tsai 1989): n log scatter^2 + 2 k n / (n - k - 1) for
    k parameters, one of them the scatter. A margin of 4 asks for some evidence: errors with independent scatter about a
    straight line kept their line in 99 % of 300 cases. Errors whose scatter is shared by neighboring sizes, as
    those of nested training sets, look bent more often: average over seeds. Arguments, costs and errors are those of
    `scaling_law`; needs six sizes, of which a break is looked for from eight on.
    """
    n, values = _checked_curve(sizes, errors)
    require_scale("margin", margin)
    if len(np.unique(n)) < 6:
        raise InputError(
            f"Expected six different sizes or more to see a bend; got {len(np.unique(n))}. Measure at more sizes, or "
            "choose the form: scaling_law(sizes, errors, form)."
        )
    forms: list[LawForm] = ["power", "offset", "broken"] if len(np.unique(n)) >= 8 else ["power", "offset"]
    scatters = {form: _best(FORMS[form], np.log(n), _mean(values))[1] for form in forms}
    criteria = {form: _criterion(scatters[form], len(n), FORMS[form].num_parameters) for form in forms}
    chosen = next(form for form in forms if criteria[form] <= min(criteria.values()) + margin)
    return scaling_law(sizes, errors, chosen, num_resamples=num_resamples, key=key)


def exponent_difference(first: ScalingLaw, second: ScalingLaw, *, paired: bool = False) -> Interval:
    """The exponent of `first` less that of `second`, with a 95 % interval; zero outside of it: they differ.

    `paired`: replicate i of both is the same seed or draw of data, and both were fitted with the same `key`, so that
    what seeds have in common drops out. Otherwise the two are taken as independent.

    Raises `InputError` where pairs are asked for and the laws have different numbers of replicates or resamples.
    """
    for law in (first, second):
        if not isinstance(law, ScalingLaw):
            raise InputTypeError(f"Expected two laws made by scaling_law; got {type(law).__name__}.")
    if paired and (first.num_replicates, len(first.draws)) != (second.num_replicates, len(second.draws)):
        raise InputError(
            "Expected as many replicates and resamples of both laws to compare them in pairs; got "
            f"{first.num_replicates} and {second.num_replicates}, {len(first.draws)} and {len(second.draws)}."
        )
    if paired and not first.num_replicates:
        raise InputError(
            "Expected laws of several replicates to compare in pairs; got one curve each. Use paired=False."
        )
    value = first.exponent.value - second.exponent.value
    ours, theirs = (np.asarray(law.draws, float)[:, FORMS[law.form].names.index("exponent")] for law in (first, second))
    if paired:
        half = float(_half_width(ours - theirs, first._degrees_of_freedom, first.num_replicates))
    else:
        parts = [
            _half_width(draws, law._degrees_of_freedom, law._num_resampled)
            for draws, law in ((ours, first), (theirs, second))
        ]
        half = float(np.hypot(*parts))
    return Interval(value, value - half, value + half)


def _mean(values: Float[np.ndarray, "*s n"]) -> Float[np.ndarray, " n"]:
    return values.mean(0) if values.ndim == 2 else values


def _best(law: Form, log_n: np.ndarray, errors: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " p"], float]:
    """The coordinates of the best law, and the scatter of log error about it."""
    found, left = fit(law, log_n, np.log(errors)[None], np.ones((1, len(log_n))))
    return found[0], float(np.sqrt(left[0] / len(log_n)))


def _resampled(
    values: Float[np.ndarray, "*s n"], num_resamples: int, key: PRNGKeyArray | None
) -> tuple[Float[np.ndarray, "draws n"], Float[np.ndarray, "draws n"]]:
    """Log errors and weights of each resample: means over seeds drawn with replacement, or weights of the points."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key_or_default(key))))
    if values.ndim == 2:
        counts = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), num_resamples)
        curves = np.log(counts @ values / len(values))
        return curves, np.ones_like(curves)
    weights = rng.exponential(size=(num_resamples, len(values)))  # Rubin's, which never leaves too few points
    return np.tile(np.log(values), (num_resamples, 1)), weights


def _half_width(draws: Float[np.ndarray, "draws *p"], freedom: int, count: int) -> np.ndarray:
    """Half of the 95 % interval, from the refits' standard deviation; the bootstrap's falls short by a known factor."""
    return np.asarray(scipy.special.stdtrit(freedom, LEVEL) * np.sqrt(count / freedom) * np.std(draws, 0))


def _natural(form: Form, draws: Float[np.ndarray, "draws p"]) -> Float[np.ndarray, "draws p"]:
    """The draws in the scale of their intervals: an offset, which may be zero, has no logarithm."""
    if "offset" not in form.names:
        return draws
    place = form.names.index("offset")
    return np.concatenate([draws[:, :place], np.exp(draws[:, place:])], 1)


def _intervals(
    form: Form, found: Float[np.ndarray, " p"], half: Float[np.ndarray, " p"], least: float
) -> dict[str, Interval]:
    """Each parameter with its interval; exponents and offsets that errors known to 1e-6 do not show are zero."""
    intervals = {}
    for name, positive, value, width in zip(form.names, form.positive, found, half, strict=True):
        if name == "offset":
            offset = float(np.exp(value))
            offset = 0.0 if offset < 2 * ROUNDING * least else offset
            ends: tuple[float, ...] = (offset, max(offset - width, 0.0), offset + width)
        else:
            ends = (value, value - width, value + width)
            if name == "break_width":
                ends = (value, max(value - width, 0.0), value + width)
            if name.endswith("exponent"):
                ends = tuple(0.0 if abs(end) < ROUNDING else end for end in ends)
            ends = tuple(np.exp(ends)) if positive else ends
        intervals[name] = Interval(*(float(end) for end in ends))
    return intervals


def _criterion(scatter: float, n: int, num_parameters: int) -> float:
    k = num_parameters + 1  # and the scatter
    if n - k - 1 < 1:
        return float("inf")
    return float(n * np.log(scatter**2 + ROUNDING**2) + 2 * k * n / (n - k - 1))


def _checked_sizes(sizes: ArrayLike) -> Float[np.ndarray, " n"]:
    array = require_wide(sizes, "sizes")
    if array.ndim != 1 or not array.size:
        raise InputError(f"Expected sizes (n,); got shape {array.shape}.")
    require_finite(array, "sizes")
    if not bool(jnp.all(array > 0)):
        raise InputError("Expected sizes above zero; got zero or less. Leave those out.")
    return np.asarray(sizes, float)


def _checked_curve(sizes: ArrayLike, errors: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    n, values = _checked_sizes(sizes), require_wide(errors, "errors")
    if values.ndim not in (1, 2) or values.shape[-1:] != n.shape:
        raise InputError(
            f"Expected errors (seeds, {len(n)}), or ({len(n)},) for one curve: one for each size; got {values.shape}."
        )
    require_finite(values, "errors")
    if values.ndim == 2 and len(values) < 2:
        raise InputError(
            f"Expected two replicates or more in errors (seeds, n); got {len(values)}. Pass one curve as (n,)."
        )
    if not bool(jnp.all(values > 0)):
        raise InputError("Expected errors above zero to fit a power law; got zero or less. Leave those sizes out.")
    return n, np.asarray(errors, float)

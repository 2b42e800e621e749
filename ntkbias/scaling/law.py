"""Scaling laws: how an error falls with the number of examples, parameters or steps.

    error = a n^b      or      a n^b + c, c >= 0      or      a broken law, whose exponent changes once (`forms.py`)

The law is fitted by least squares on log error, so all sizes count equally. There are two kinds of interval:

- From several replicates `(seeds, n)` (seeds, or draws of the data), the curve is the mean over replicates, and the
  bootstrap resamples whole replicates. It does not use the residuals, so it stays valid for nested training sets, whose
  errors are dependent across sizes.
- From one curve `(n,)`, the wild bootstrap refits curves whose distances from the law have random signs. Each distance
  is divided by 1 - h, for the leverage h of its point (MacKinnon and White's HC3, 1985). The interval is valid if the
  errors scatter independently about the law, and does not cover other seeds.

Curves that were not tuned at each size are often bent: `preferred_scaling_law` says whether the data support an offset
or a break.

>>> import numpy as np
>>> from ntkbias.scaling import preferred_scaling_law, scaling_law
>>> n = 2.0 ** np.arange(5, 13)
>>> noise = np.random.default_rng(0).normal(size=(5, 8))
>>> errors = 2 * n**-0.5 * np.exp(0.02 * noise)
>>> law = scaling_law(n, errors)
>>> print(law)
error = 1.98 n^-0.499, over 5 replicates
parameter                        value
coefficient        1.98 (1.95 to 2.02)
exponent     -0.499 (-0.503 to -0.495)
In brackets, intervals of 95 %. Log errors scatter by 0.00672 about the law.
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

from ntkbias.checks import key_or_default, require_choice, require_positive, require_scale
from ntkbias.errors import InputError, InputTypeError
from ntkbias.scaling.band import ErrorBand
from ntkbias.scaling.curve import checked_curve, checked_sizes
from ntkbias.scaling.forms import FORMS, Form, fit
from ntkbias.scaling.interval import Interval
from ntkbias.tables import Axes, Labeled, Printed, Table, Variable, number

__all__ = ["LawForm", "ScalingLaw", "exponent_difference", "preferred_scaling_law", "scaling_law"]

LawForm = Literal["power", "offset", "broken"]
ROUNDING = 1e-6  # relative precision of the errors, so that a perfect fit is not infinitely better than a good one
LEVEL = 0.975
LEAST_FREEDOM = 0.1  # of 1 - leverage: the law passes through such a point, whose distance says nothing


class ScalingLaw(Printed):
    """A law fitted to errors at several sizes, with a 95 % interval for each of its parameters.

    `parameters` has "coefficient" and "exponent", the exponent at large sizes. `form="offset"` adds "offset".
    `form="broken"` adds "first_exponent", the exponent at small sizes, "break_size" in the unit of n, and "break_width"
    in log n. `draws` holds the coordinates of the bootstrap refits, with positive parameters as logarithms.

    >>> import numpy as np, ntkbias as nb
    >>> sizes, noise = 2 ** np.arange(4, 10), np.random.default_rng(0).uniform(0.9, 1.1, (5, 6))
    >>> law = nb.scaling_law(sizes, 3 * sizes**-0.5 * noise, num_resamples=50)
    >>> law.exponent.low < law.exponent.value < law.exponent.high, round(law.exponent.value, 1)
    (True, -0.5)
    """

    parameters: dict[str, Interval]
    draws: Float[Array, "draws p"]
    sizes: Float[Array, " n"]
    errors: Float[Array, " n"]  # the mean over replicates
    scatter: float  # root mean squared residual of log error
    criterion: float  # Akaike's criterion, corrected for few sizes: lower is better
    num_replicates: int = eqx.field(static=True)  # 0 if a single curve was given
    form: str = eqx.field(static=True)

    @property
    def exponent(self) -> Interval:
        """The exponent at large sizes."""
        return self.parameters["exponent"]

    @property
    def offset(self) -> Interval:
        """The error that remains at large sizes: zero unless `form="offset"`."""
        return self.parameters.get("offset", Interval(0.0, 0.0, 0.0))

    def curve(self, sizes: ArrayLike) -> Float[Array, " m"]:
        """The error that the law predicts at `sizes` `(m,)`."""
        log_n = np.log(checked_sizes(sizes))
        return jnp.asarray(np.exp(FORMS[self.form].curve(self._coordinates(), log_n)[0][0]))

    def extrapolate(self, sizes: ArrayLike) -> ErrorBand:
        """The error that the law predicts at other sizes `(m,)`, with the 95 % interval of the mean curve.

        The interval comes from the bootstrap refits, and assumes that this form of law holds at the new sizes too.
        Compare several forms: the further you extrapolate, the more "power" and "offset" differ.
        """
        n = checked_sizes(sizes)
        draws = FORMS[self.form].curve(np.asarray(self.draws, float), np.log(n))[0]
        center = FORMS[self.form].curve(self._coordinates(), np.log(n))[0][0]
        half = _half_width(draws, self._degrees_of_freedom, self.num_replicates)
        return ErrorBand(*(jnp.asarray(v) for v in (n, np.exp(center), np.exp(center - half), np.exp(center + half))))

    @property
    def formula(self) -> str:
        """The law as text, such as "2 n^-0.5 + 0.1"."""
        values = {name: interval.value for name, interval in self.parameters.items()}
        law = f"{values['coefficient']:.3g} n^{values.get('first_exponent', values['exponent']):.3g}"
        if self.form == "offset":
            law += f" + {values['offset']:.3g}"
        elif self.form == "broken":
            law += f", from n = {values['break_size']:.3g} on as n^{values['exponent']:.3g}"
        return law

    def _table(self, num_rows: int) -> Table:
        over = f"{self.num_replicates} replicates" if self.num_replicates else f"{len(self.sizes)} sizes of one curve"
        columns = {"parameter": list(self.parameters), "value": [str(found) for found in self.parameters.values()]}
        notes = [f"In brackets, intervals of 95 %. Log errors scatter by {number(self.scatter)} about the law."]
        return Table(f"error = {self.formula}, over {over}", columns, notes)

    def _labeled(self) -> Labeled:
        """The parameters with their intervals, one per row, and the errors at each size."""
        ends = {end: [getattr(each, end) for each in self.parameters.values()] for end in ("value", "low", "high")}
        variables: dict[str, Variable] = {name: (("parameter",), np.asarray(each)) for name, each in ends.items()}
        variables["errors"] = ("size",), np.asarray(self.errors)
        labels = {"parameter": np.array(list(self.parameters)), "size": np.asarray(self.sizes)}
        coordinates: dict[str, Variable] = {axis: ((axis,), values) for axis, values in labels.items()}
        numbers = {"scatter": self.scatter, "criterion": self.criterion, "num_replicates": self.num_replicates}
        return Labeled(Axes("parameter"), variables, coordinates, {"form": self.form, **numbers})

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
    """The law of `errors` against `sizes` `(n,)`, with 95 % bootstrap intervals.

    `form` is "power", a n^b; "offset", a n^b + c with c >= 0; or "broken", whose exponent changes from b1 to b2 at a
    size d: a n^b1 (1 + (n / d)^(1 / f))^((b2 - b1) f). `law.extrapolate(sizes)` predicts the error at other sizes, with
    intervals.

    `errors` are positive, `(seeds, n)` or `(n,)`; see the module's docstring for the two kinds of bootstrap. An
    interval is the estimate +- t standard deviations over `num_resamples` refits. t is Student's, with (number of
    seeds) - 1 degrees of freedom, or (number of sizes) - (number of parameters) for one curve. Over seeds, the standard
    deviation is multiplied by sqrt(seeds / (seeds - 1)), since the bootstrap underestimates it by that factor
    (Hesterberg 2014, arXiv 1411.5279). The intervals of the coefficient, the size of the break and extrapolated errors
    are symmetric in the logarithm. The interval of an offset does not go below zero. Two or three seeds give wide
    intervals. `benchmarks/coverage.py` measures how often each interval holds the truth.

    A power law needs 3 different sizes, an offset 4 and a break 6. The fit finds an offset or a break only if the sizes
    span the bend; a break never lies outside the sizes. Costs milliseconds, or a second for a thousand broken laws.

    Raises `InputError` on errors that are not positive, too few different sizes, or a single replicate `(1, n)`.

    >>> import ntkbias as nb, numpy as np
    >>> sizes = np.array([16, 32, 64, 128, 256])
    >>> law = nb.scaling_law(sizes, 3.0 * sizes**-0.5)
    >>> round(float(law.exponent.value), 3)
    -0.5
    """
    n, values = checked_curve(sizes, errors)
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
    curves = _resampled(law, found, log_n, values, num_resamples, key)
    draws, _ = fit(law, log_n, curves, np.ones_like(curves), found)
    replicates = len(values) if values.ndim == 2 else 0
    freedom = replicates - 1 if replicates else len(n) - law.num_parameters
    half = _half_width(_natural(law, draws), freedom, replicates)
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
    """The fit of the simplest form whose criterion is within `margin` of the best. It says whether a curve bends.

    The criterion is Akaike's, corrected for few data (Hurvich and Tsai 1989): n log scatter^2 + 2 k n / (n - k - 1) for
    k parameters, one of which is the scatter. A margin of 4 requires some evidence for a bend: of 300 straight lines
    with independent scatter, 99 % were found to be straight. If neighboring sizes share their scatter, as with nested
    training sets, a line looks bent more often: average over seeds. It needs six different sizes, and considers a break
    from eight sizes on. Other arguments, cost and errors: see `scaling_law`.

    >>> import ntkbias as nb, numpy as np
    >>> sizes = 2.0 ** np.arange(4, 12)
    >>> nb.scaling.preferred_scaling_law(sizes, 2 / sizes + 0.01).form
    'offset'
    """
    n, values = checked_curve(sizes, errors)
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
    """The exponent of `first` minus that of `second`, with a 95 % interval. If zero lies outside it, the two differ.

    With `paired`, replicate i of both laws is the same seed or draw of data, and both were fitted with the same `key`:
    variation that the two share then cancels. Without it, the two laws count as independent.

    Raises `InputError` if `paired` and the laws are of single curves, or differ in the number of replicates or
    resamples.

    >>> import ntkbias as nb, numpy as np
    >>> sizes = 2.0 ** np.arange(4, 10)
    >>> slow, fast = nb.scaling_law(sizes, sizes**-0.5), nb.scaling_law(sizes, sizes**-1.0)
    >>> round(nb.scaling.exponent_difference(slow, fast).value, 3)
    0.5
    """
    for law in (first, second):
        if not isinstance(law, ScalingLaw):
            raise InputTypeError(f"Expected two laws made by scaling_law; got {type(law).__name__}.")
    if paired and (first.num_replicates, len(first.draws)) != (second.num_replicates, len(second.draws)):
        raise InputError(
            "Expected two laws with equal numbers of replicates and of resamples for paired=True; got "
            f"{first.num_replicates} and {second.num_replicates} replicates, {len(first.draws)} and "
            f"{len(second.draws)} resamples."
        )
    if paired and not first.num_replicates:
        raise InputError("Expected laws of several replicates for paired=True; got one curve each. Use paired=False.")
    value = first.exponent.value - second.exponent.value
    ours, theirs = (np.asarray(law.draws, float)[:, FORMS[law.form].names.index("exponent")] for law in (first, second))
    if paired:
        half = float(_half_width(ours - theirs, first._degrees_of_freedom, first.num_replicates))
    else:
        parts = [
            _half_width(draws, law._degrees_of_freedom, law.num_replicates)
            for draws, law in ((ours, first), (theirs, second))
        ]
        half = float(np.hypot(*parts))
    return Interval(value, value - half, value + half)


def _mean(values: Float[np.ndarray, "*s n"]) -> Float[np.ndarray, " n"]:
    return values.mean(0) if values.ndim == 2 else values


def _best(law: Form, log_n: np.ndarray, errors: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " p"], float]:
    """The coordinates of the best law, and the root mean squared residual of log error."""
    found, residual = fit(law, log_n, np.log(errors)[None], np.ones((1, len(log_n))))
    return found[0], float(np.sqrt(residual[0] / len(log_n)))


def _resampled(
    law: Form,
    found: Float[np.ndarray, " p"],
    log_n: Float[np.ndarray, " n"],
    values: Float[np.ndarray, "*s n"],
    num_resamples: int,
    key: PRNGKeyArray | None,
) -> Float[np.ndarray, "draws n"]:
    """The log errors of each resample: means over resampled seeds, or distances from the law with random signs."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key_or_default(key))))
    if values.ndim == 2:
        counts = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), num_resamples)
        return np.log(counts @ values / len(values))
    fitted, jacobian = (part[0] for part in law.curve(found[None], log_n))
    leverages = np.einsum("np,pn->n", jacobian, np.linalg.pinv(jacobian))
    distances = (np.log(values) - fitted) / np.maximum(1 - leverages, LEAST_FREEDOM)
    return fitted + distances * rng.choice([-1.0, 1.0], (num_resamples, len(values)))


def _half_width(draws: Float[np.ndarray, "draws *p"], freedom: int, replicates: int) -> np.ndarray:
    """Half the width of the 95 % interval, from the standard deviation of the refits; for seeds, without its bias."""
    bias = np.sqrt(replicates / freedom) if replicates else 1.0
    return np.asarray(scipy.special.stdtrit(freedom, LEVEL) * bias * np.std(draws, 0))


def _natural(form: Form, draws: Float[np.ndarray, "draws p"]) -> Float[np.ndarray, "draws p"]:
    """The draws on the scale of their intervals. The interval of an offset is linear, since an offset may be zero."""
    if "offset" not in form.names:
        return draws
    index = form.names.index("offset")
    return np.concatenate([draws[:, :index], np.exp(draws[:, index:])], 1)


def _intervals(
    form: Form, found: Float[np.ndarray, " p"], half: Float[np.ndarray, " p"], least: float
) -> dict[str, Interval]:
    """Each parameter with its interval. Exponents and offsets too small for errors known to 1e-6 become zero."""
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
    k = num_parameters + 1  # the scatter counts too
    if n - k - 1 < 1:
        return float("inf")
    return float(n * np.log(scatter**2 + ROUNDING**2) + 2 * k * n / (n - k - 1))

"""The modes of a kernel in the order in which they are learned, with the frequency of each.

On a domain with harmonics, the frequency of a mode is that of the degree with most of its power. On other domains, two
measures estimate sqrt(E |grad phi|^2 / E phi^2). The graph frequency uses only the values on the inputs. The Dirichlet
frequency uses difference quotients of the Nystrom extension between the inputs. `measures` explains how they relate.

The n inputs cannot resolve every frequency. `resolved` is false for modes beyond the degrees that the inputs separate,
and for modes at the limit of the graph. The frequency of such a mode is a lower bound, and summaries leave it out.
Intervals come from the Bayesian bootstrap over inputs, which multiplies each input's weight by an exponential variable
and keeps the modes fixed.

>>> import ntkbias as nb
>>> circle = nb.domains.Circle()
>>> x, weights = circle.quadrature(64)
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
>>> ranking = nb.rank_by_frequency(spectrum, circle)
>>> ranking.frequencies[:7].tolist(), bool(ranking.resolved[:7].all())
([0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0], True)
>>> spaces = ranking.by_eigenspace()                  # one row per eigenspace, not per mode
>>> spaces.frequencies[:4].tolist(), spaces.multiplicities[:4].tolist()
([0.0, 1.0, 2.0, 3.0], [1, 2, 2, 2])
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ntkbias.checks import key_or_default, require_known
from ntkbias.domains import Domain
from ntkbias.errors import InputError
from ntkbias.exact.value import Decay
from ntkbias.frequency.measures import MEASURES, FrequencyMeasure, measure_on, require_inputs, shared
from ntkbias.scaling.decay import DecayExponent
from ntkbias.spectra import Spectrum
from ntkbias.tables import Axes, Fact, Printed, Table, brackets, counted, explained, interval, number

__all__ = ["Eigenspaces", "FrequencyRanking", "rank_by_frequency"]

NUM_RESAMPLES = 50  # estimates the width of an interval to 10 %


class Eigenspaces(Printed):
    """One row per eigenspace (a group of modes with equal eigenvalues), in descending order of eigenvalue.

    `interval` `(s, 2)` is the 95 % interval of the frequency. `energy` `(s, levels)` is the power in each level,
    averaged over the members of the eigenspace.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, weights=weights)
    >>> spaces = nb.rank_by_frequency(spectrum, circle).by_eigenspace()
    >>> spaces.frequencies[:3].round(2).tolist()
    [0.0, 1.0, 2.0]
    """

    named_axes = Axes("eigenspace", also=["purity"], s="eigenspace", levels="level", c="component")

    eigenvalues: Float[Array, " s"]
    multiplicities: Int[Array, " s"]
    frequencies: Float[Array, " s"]
    interval: Float[Array, "s 2"]
    resolved: Bool[Array, " s"]
    energy: Float[Array, "s levels"] | None
    levels: Int[Array, "levels *c"] | None

    @property
    def purity(self) -> Float[Array | np.ndarray, " s"] | None:
        """The share of power in the dominant degree; None on a domain without harmonics. See `FrequencyRanking`."""
        return None if self.energy is None else _dominant_share(self.energy)

    def _table(self, num_rows: int) -> Table:
        count = len(self.eigenvalues)
        shown = range(min(count, num_rows))
        columns = {
            "eigenvalue": [number(self.eigenvalues[space]) for space in shown],
            "multiplicity": [f"{int(self.multiplicities[space]):,}" for space in shown],
            **_frequency_columns(self, shown),
        }
        return Table(f"Eigenspaces: {count:,}", columns, more=count - len(shown))


class FrequencyRanking(Printed):
    """The modes of a spectrum above its noise floor, fastest learned first, with the frequency of each.

    The members of an eigenspace share their frequency and energy. `learning_times` are 1 / eigenvalue: the time (steps
    * learning rate) in which gradient flow reduces a mode's error by a factor of e, for one output or an infinitely
    wide network.

    If `resolved` is false, the inputs cannot resolve the mode's frequency, and `frequencies` holds a lower bound. On a
    domain with harmonics, most of such a mode's power lies beyond the degrees that the inputs separate, or no degree
    holds more power than chance would give it. On a graph, the frequency is at the limit of the edges. `spearman` and
    `decay` leave these modes out. `resamples` `(b, k)` are the frequencies under the Bayesian bootstrap over inputs.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
    >>> nb.rank_by_frequency(spectrum, circle).frequencies[:5].round(2).tolist()
    [0.0, 1.0, 1.0, 2.0, 2.0]
    """

    named_axes = Axes("mode", also=["interval", "purity"], k="mode", b="resample", levels="level", c="component")

    eigenvalues: Float[Array, " k"]
    frequencies: Float[Array, " k"]
    resolved: Bool[Array, " k"]
    resamples: Float[Array, "b k"]
    eigenspace: Int[Array, " k"]
    learning_times: Float[Array, " k"]
    energy: Float[Array, "k levels"] | None  # the power in each of `levels`, on a domain with harmonics
    levels: Int[Array, "levels *c"] | None  # the degree, or tuple of degrees, of each column of `energy`
    decay: DecayExponent | None  # of the eigenvalues against frequency; None with fewer than three frequencies to fit
    measure: str = eqx.field(static=True)

    @property
    def purity(self) -> Float[Array | np.ndarray, " k"] | None:
        """The share of each mode's power in its dominant degree (1 for a harmonic), or None without harmonics.

        Harmonics are not orthogonal on inputs that do not follow the domain's measure, and energies may then sum to
        more than one. The share is then that of their sum.
        """
        return None if self.energy is None else _dominant_share(self.energy)

    @property
    def interval(self) -> Float[Array | np.ndarray, "k 2"]:
        """The 95 % interval of each mode's frequency over samples of n inputs: +- 1.96 standard deviations.

        The interval has zero width if all resamples have the same dominant degree. It has no upper end if the mode is
        not resolved, and is NaN without resamples. On a graph it is a fifth to two fifths wider than the scatter over
        40 samples of 150 inputs, and covers 95 to 100 % of them. The bootstrap keeps the mode fixed as a function, so
        the interval does not show how another sample would change the mode itself, for example if eigenvalues nearly
        coincide. Quadrature nodes are not a random sample.
        """
        array = self.frequencies.__array_namespace__()
        if len(self.resamples) == 0:
            return array.full((len(self.frequencies), 2), array.nan)
        spread = 1.96 * array.std(self.resamples, 0)
        low = array.where(self.resolved, array.maximum(self.frequencies - spread, 0), self.frequencies)
        return array.stack([low, array.where(self.resolved, self.frequencies + spread, array.inf)], 1)

    @property
    def spearman(self) -> float:
        """The rank correlation of eigenvalue and frequency over the resolved modes; -1 if low frequencies come first.

        NaN if all frequencies or all eigenvalues are the same.
        """
        return self._correlation(np.asarray(self.frequencies))

    @property
    def spearman_interval(self) -> tuple[float, float]:
        """`spearman` +- 1.96 bootstrap deviations, clipped to [-1, 1]; NaN if `spearman` is, or without resamples.

        Like `interval`, it keeps the modes fixed as functions. It shows what the uncertain frequencies of these modes
        change, and not that another sample has other modes.
        """
        draws = [self._correlation(row) for row in np.asarray(self.resamples)]
        spread = 1.96 * np.std(draws) if draws else np.nan
        low, high = np.clip([self.spearman - spread, self.spearman + spread], -1, 1)  # clip keeps NaN
        return float(low), float(high)

    @property
    def spearman_text(self) -> str:
        """`spearman` and its interval as text."""
        if not np.isfinite(self.spearman):
            return "not defined"
        low, high = self.spearman_interval
        return interval(self.spearman, low, high) if np.isfinite(low) else number(self.spearman)

    def by_eigenspace(self) -> Eigenspaces:
        """One row per eigenspace: its mean eigenvalue, its multiplicity, and the frequency that its members share.

        The eigenspaces belong to the Gram matrix on the inputs. If the inputs lack the domain's symmetry, they split an
        eigenspace of the operator. The parts become separate rows of the same frequency if their eigenvalues differ by
        more than sqrt(eps) of their size (3e-4 in float32, 1e-8 in float64). Equally spaced inputs on the circle and
        all corners of a cube have the symmetry and split nothing.

        The product rule on a sphere lacks the symmetry. For a smooth kernel (activation "erf") its error is rounding,
        and `Sphere(3).quadrature(200)` splits nothing. For a ReLU network it splits degree 2 by 5e-4 of the eigenvalue
        at 400 nodes and 1.7e-4 at 800, and degree 3 by 1e-3 at 800 nodes and 3.7e-4 at 1,600. In float32, degrees up to
        1, 2 and 3 then form one row each at 400, 800 and 1,600 nodes; in float64, no degree beyond the first does.
        `exact_spectrum` needs no inputs and never splits an eigenspace.
        """
        _, first, counts = np.unique(np.asarray(self.eigenspace), return_index=True, return_counts=True)
        means = shared(np.asarray(self.eigenvalues, float), np.asarray(self.eigenspace))[first]
        return Eigenspaces(
            eigenvalues=jnp.asarray(means, self.eigenvalues.dtype),
            multiplicities=jnp.asarray(counts),
            frequencies=self.frequencies[first],
            interval=jnp.asarray(np.asarray(self.interval)[first]),
            resolved=self.resolved[first],
            energy=None if self.energy is None else self.energy[first],
            levels=self.levels,
        )

    def _facts(self) -> list[Fact]:
        rho, decay = self.spearman, self.decay
        if decay is None:
            exponent = Fact("decay exponent", None, "not defined")
        else:
            exponent = Fact.of_interval("decay exponent", decay.exponent, decay.low, decay.high, decay.text)
        return [Fact.of_interval("Spearman's rho", rho, *self.spearman_interval, self.spearman_text), exponent]

    def _table(self, num_rows: int) -> Table:
        count, known = len(self.eigenvalues), int(np.sum(self.resolved))
        shown = range(min(count, num_rows))
        columns = {
            "": brackets(np.asarray(self.eigenspace))[:num_rows],
            "mode": [str(mode + 1) for mode in shown],
            "eigenvalue": [number(self.eigenvalues[mode]) for mode in shown],
            **_frequency_columns(self, shown),
            "learning time": [number(self.learning_times[mode]) for mode in shown],
        }
        law = "" if self.decay is None else f". {self.decay.slopes_text}"
        title = f"FrequencyRanking: {counted(count, 'mode')}, {known:,} of resolved frequency, by {self.measure}"
        unknown = {"frequency"} if self.measure not in MEASURES else set()  # its unit is the measure's own
        sentences = explained({head: cells for head, cells in columns.items() if head not in unknown})
        facts = ", ".join(map(str, self._facts())) + law
        return Table(title, columns, [f"{facts}.", *sentences], count - len(shown))

    def _correlation(self, frequencies: Float[np.ndarray, " k"]) -> float:
        known = np.asarray(self.resolved)
        eigenvalues = shared(np.asarray(self.eigenvalues, float), np.asarray(self.eigenspace))[known]
        if min(len(np.unique(eigenvalues)), len(np.unique(frequencies[known]))) < 2:
            return float("nan")
        return float(np.corrcoef(_ranks(eigenvalues), _ranks(frequencies[known]))[0, 1])


def _dominant_share(energy: Any) -> Any:
    """The largest share of each row's power, at most one also if the energies sum to more."""
    return energy.max(1) / energy.sum(1).clip(1.0)


def rank_by_frequency(
    spectrum: Spectrum,
    domain: Domain,
    *,
    measure: str | FrequencyMeasure | None = None,
    num_modes: int | None = None,
    num_resamples: int = NUM_RESAMPLES,
    key: PRNGKeyArray | None = None,
    predicted: Decay | float | None = None,
) -> FrequencyRanking:
    """Rank the first `num_modes` modes, by default all above the noise floor, and measure the frequency of each.

    `measure` is a name in `frequency.MEASURES` or a measure of your own. The default is "harmonic" on a domain with
    harmonics, else "graph". `key` draws the steps of "dirichlet" and the resamples (default: a fixed
    key). With `num_resamples=0` the frequencies have no intervals. `predicted` is the exponent in the limit, as from
    `predicted_decay`; the result's `decay` shows it beside the measured one.

    If x is not drawn from the domain's own measure, the ranking is that of the sample. To rank under the domain's
    measure, give `spectrum` the weights of `domains.quadrature_weights` or `domains.density_weights`.

    Costs the measure, and about a second for the interval of the exponent. The intervals of the frequencies cost
    `num_resamples` times the harmonic energy, or less than a second on a graph.

    Raises `InputError` on a spectrum without inputs or without modes above the noise floor, on stacked spectra, on
    inputs outside the domain, on a measure that the domain does not have, and on traced arrays.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, weights=weights)
    >>> ranking = nb.rank_by_frequency(spectrum, circle)
    >>> [round(frequency.item(), 2) for frequency in ranking.frequencies[:5]]  # a constant, then pairs
    [0.0, 1.0, 1.0, 2.0, 2.0]
    """
    require_known(spectrum, "rank_by_frequency")
    require_inputs(spectrum, domain)
    spectrum = jax.tree.map(jnp.asarray, spectrum)  # a loaded one may be in float64 while JAX is set to float32
    chosen = measure_on(domain, measure)
    if isinstance(num_resamples, bool) or not isinstance(num_resamples, int | np.integer) or num_resamples < 0:
        raise InputError(f"Expected num_resamples to be a whole number, zero or more; got {num_resamples!r}.")
    key = key_or_default(key)
    if spectrum.num_above_noise == 0:
        raise InputError(
            f"Expected a mode above the noise floor, {spectrum.noise_floor:.2g}; got none, because the kernel is zero."
        )
    modes = spectrum._first_modes(num_modes)
    weights = _resampled_weights(spectrum, num_resamples, key)
    measured = chosen.function(spectrum, domain, weights, modes.stop, key)
    frequencies, resolved = measured.frequencies[modes], measured.resolved[modes]
    dtype = spectrum.eigenvalues.dtype
    return FrequencyRanking(
        eigenvalues=spectrum.eigenvalues[modes],
        frequencies=jnp.asarray(frequencies, dtype),
        resolved=jnp.asarray(resolved),
        resamples=jnp.asarray(measured.resamples[:, modes], dtype),
        eigenspace=spectrum.eigenspace[modes],
        learning_times=jnp.asarray(1 / np.asarray(spectrum.eigenvalues)[modes]),
        energy=measured.energy,
        levels=measured.levels,
        decay=_decay(spectrum, np.where(resolved, frequencies, 0), key, predicted),
        measure=chosen.name,
    )


def _ranks(values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """The rank of each value, ascending; ties get their mean rank. SciPy's version takes a second to import."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _frequency_columns(value: FrequencyRanking | Eigenspaces, shown: range) -> dict[str, list[str]]:
    """The columns about frequencies; a > marks the lower bound of a frequency that the inputs do not resolve."""
    ends = np.asarray(value.interval)
    found = {
        "frequency": [("" if value.resolved[row] else ">") + number(value.frequencies[row]) for row in shown],
        "95 % interval": [_span(ends[row, 0], ends[row, 1], bool(value.resolved[row])) for row in shown],
    }
    purity = value.purity
    return found if purity is None else found | {"purity": [f"{float(purity[row]):.1%}" for row in shown]}


def _span(low: np.floating, high: np.floating, known: bool) -> str:
    if not known:
        return "not resolved"
    return f"{number(low)} to {number(high)}" if np.isfinite(low) else "no resamples"


def _resampled_weights(spectrum: Spectrum, num_resamples: int, key: PRNGKeyArray) -> Float[np.ndarray, "b n"]:
    """The inputs' weights in the first row, then `num_resamples` resamples of them (Bayesian bootstrap, Rubin 1981)."""
    own = np.asarray(spectrum.weights, float)[None]
    draws = np.asarray(jax.random.exponential(key, (num_resamples, own.size)), float) * own
    return np.concatenate([own, draws / draws.sum(1, keepdims=True)])


def _decay(
    spectrum: Spectrum, frequencies: Float[np.ndarray, " k"], key: PRNGKeyArray, predicted: Decay | float | None
) -> DecayExponent | None:
    """The exponent over the modes of positive frequency; the caller sets the frequency of omitted modes to zero."""
    last = min(len(frequencies), len(spectrum.weights) // 5, 200)
    fitted = frequencies[1:last]
    if len(np.unique(fitted[fitted > 0])) < 3:
        return None
    limit = predicted.exponent if isinstance(predicted, Decay) else predicted
    return spectrum.decay_exponent("frequency", frequencies=frequencies, last=last, key=key, predicted=limit)

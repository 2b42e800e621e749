"""The ranking of functions by how fast they are learned, with the frequency of each.

On a domain with harmonics a mode's frequency is that of the degree that holds most of its power. Elsewhere two measures
estimate sqrt(E |grad phi|^2 / E phi^2): the graph frequency, from the values on the inputs alone, and the Dirichlet
frequency, from difference quotients of the Nystrom extension between the inputs; `measures` says how they relate.

What n inputs cannot tell apart is marked: `resolved` is false for modes beyond the degrees that they separate, or at
the limit of the graph. Their frequency is then a lower bound, and summaries leave them out. Intervals are those of the
Bayesian bootstrap over inputs: each input's weight is multiplied with an exponential variable, the modes held fixed.

>>> import ntkbias as nb
>>> circle = nb.domains.Circle()
>>> x, weights = circle.quadrature(64)
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
>>> ranking = nb.rank_by_frequency(spectrum, circle)
>>> ranking.frequencies[:7].tolist(), bool(ranking.resolved[:7].all())
([0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0], True)
>>> spaces = ranking.by_eigenspace()                  # one row an eigenspace, not a vector of it
>>> spaces.frequencies[:4].tolist(), spaces.multiplicities[:4].tolist()
([0.0, 1.0, 2.0, 3.0], [1, 2, 2, 2])
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ntkbias.checks import key_or_default
from ntkbias.domains import Domain
from ntkbias.errors import InputError
from ntkbias.frequency.measures import FrequencyMeasure, measure_on, require_inputs, shared
from ntkbias.spectra import DecayExponent, Spectrum
from ntkbias.tables import Fact, Printed, Table, brackets, interval, number

__all__ = ["Eigenspaces", "FrequencyRanking", "rank_by_frequency"]

NUM_RESAMPLES = 50  # the width of an interval is then known to 10 %


class Eigenspaces(Printed):
    """One row an eigenspace: what can be said of modes whose eigenvalues coincide, descending.

    `interval` `(s, 2)` is that of the frequency; `energy` `(s, levels)` the mean power of its members in each level.
    """

    eigenvalues: Float[Array, " s"]
    multiplicities: Int[Array, " s"]
    frequencies: Float[Array, " s"]
    interval: Float[Array, "s 2"]
    resolved: Bool[Array, " s"]
    energy: Float[Array, "s levels"] | None
    levels: Int[Array, "levels *c"] | None

    @property
    def purity(self) -> Float[Array | np.ndarray, " s"] | None:
        """The share of power in the dominant degree; None without harmonics."""
        return None if self.energy is None else self.energy.max(1)

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

    Members of one eigenspace share their frequency and energy. `learning_times` are 1 / eigenvalue: the `time` (step
    * learning rate) in which gradient flow reduces a mode's error by e, for one output or an infinitely wide network.

    Where `resolved` is false the inputs do not tell the mode's frequency, which is then a lower bound: on a domain with
    harmonics most of its power lies beyond the degrees that they separate, or no more in one than by chance; on a graph
    it is at the limit of its edges. `spearman` and `decay` leave such modes out. `resamples` are the frequencies under
    the Bayesian bootstrap over inputs.
    """

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
        """The share of each mode's power in its dominant degree: 1 for a harmonic; None without harmonics."""
        return None if self.energy is None else self.energy.max(1)

    @property
    def interval(self) -> Float[Array | np.ndarray, "k 2"]:
        """Where 95 % of samples of n inputs would put the frequency of each mode, as a function: +- 1.96 deviations.

        Of zero width where the dominant degree is the same in all resamples, and without an end where the mode is not
        resolved. NaN without resamples. On a graph a fifth to two fifths wider than the scatter over 40 samples of 150
        inputs (95 to 100 % covered). What another sample would do to the mode itself, as where eigenvalues nearly
        coincide, is not in it; and quadrature nodes are no random sample.
        """
        array = self.frequencies.__array_namespace__()
        if len(self.resamples) == 0:
            return array.full((len(self.frequencies), 2), array.nan)
        spread = 1.96 * array.std(self.resamples, 0)
        low = array.where(self.resolved, array.maximum(self.frequencies - spread, 0), self.frequencies)
        return array.stack([low, array.where(self.resolved, self.frequencies + spread, array.inf)], 1)

    @property
    def spearman(self) -> float:
        """The rank correlation of eigenvalue and frequency: -1 where low frequencies always come first.

        Over the resolved modes. NaN where all frequencies are the same.
        """
        return self._correlation(np.asarray(self.frequencies))

    @property
    def spearman_interval(self) -> tuple[float, float]:
        """`spearman` +- 1.96 deviations over the bootstrap, within -1 and 1; NaN where it is, or without resamples."""
        draws = [self._correlation(row) for row in np.asarray(self.resamples)]
        spread = 1.96 * np.std(draws) if draws else np.nan
        low, high = np.clip([self.spearman - spread, self.spearman + spread], -1, 1)  # a NaN stays one
        return float(low), float(high)

    @property
    def spearman_text(self) -> str:
        """`spearman` and its interval as a text."""
        if not np.isfinite(self.spearman):
            return "not defined"
        low, high = self.spearman_interval
        return interval(self.spearman, low, high) if np.isfinite(low) else number(self.spearman)

    def by_eigenspace(self) -> Eigenspaces:
        """One row an eigenspace: its mean eigenvalue, its multiplicity, and the frequency that its members share.

        Eigenspaces are those of the Gram matrix on the inputs, which splits those of the operator wherever the inputs
        lack the domain's symmetry: by more than the gap that two eigenvalues are told apart by, sqrt(eps) of their size
        (3e-4 in float32, 1e-8 in float64), they are several rows of one frequency. Equally spaced inputs on the circle
        and all corners of a cube have the symmetry and split nothing. The product rule of a sphere has not: its error
        for a smooth kernel (activation "erf") is rounding, and `Sphere(3).quadrature(200)` gives whole ones, but of a
        ReLU network's it splits degree 2 by 5e-4 of the eigenvalue at 400 nodes and 1.7e-4 at 800, degree 3 by 1e-3 at
        800 and 3.7e-4 at 1,600: in float32 degrees up to 1, 2 and 3 are one row each, and in float64 none beyond the
        first. `exact_spectrum` has whole ones for every kernel, without inputs.
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
            exponent = Fact.of_interval("decay exponent", decay.exponent, decay.low, decay.high, str(decay))
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
        law = "" if self.decay is None else f", the slope of modes {self.decay.first + 1} to {self.decay.last}"
        title = f"FrequencyRanking: {count:,} modes, {known:,} of resolved frequency, by {self.measure}"
        return Table(title, columns, [", ".join(map(str, self._facts())) + law], count - len(shown))

    def _correlation(self, frequencies: Float[np.ndarray, " k"]) -> float:
        known = np.asarray(self.resolved)
        eigenvalues = shared(np.asarray(self.eigenvalues, float), np.asarray(self.eigenspace))[known]
        if min(len(np.unique(eigenvalues)), len(np.unique(frequencies[known]))) < 2:
            return float("nan")
        return float(np.corrcoef(_ranks(eigenvalues), _ranks(frequencies[known]))[0, 1])


def rank_by_frequency(
    spectrum: Spectrum,
    domain: Domain,
    *,
    measure: str | FrequencyMeasure | None = None,
    num_modes: int | None = None,
    num_resamples: int = NUM_RESAMPLES,
    key: PRNGKeyArray | None = None,
) -> FrequencyRanking:
    """The frequency of each of the first `num_modes` modes, by default of all above the noise floor.

    `measure` is the name of one of `frequency.MEASURES`, or one of your own; unless given "harmonic" where the domain
    has harmonics, and "graph" elsewhere. `key` draws the steps of
    "dirichlet" and the resamples (default: a fixed one). Costs are those of the measure, a second or so for the
    interval of the exponent, and `num_resamples` times the harmonic energy, or less than a second on a graph, for the
    intervals of frequencies; with 0 there are none.

    A sample that is not spread as the domain's own measure has the ranking of the sample. Give `spectrum` the weights
    of `domains.quadrature_weights` or `domains.density_weights` for that of the domain.

    Raises `InputError` for a spectrum without inputs, inputs outside the domain, and a measure that it does not have.
    """
    require_inputs(spectrum, domain)
    spectrum = jax.tree.map(jnp.asarray, spectrum)  # one of a file may be of float64, which JAX is not set to
    chosen = measure_on(domain, measure)
    if isinstance(num_resamples, bool) or not isinstance(num_resamples, int | np.integer) or num_resamples < 0:
        raise InputError(f"Expected num_resamples to be a whole number of zero or more; got {num_resamples!r}.")
    key = key_or_default(key)
    if spectrum.num_above_noise == 0:
        raise InputError(
            f"Expected a mode above the noise floor, {spectrum.noise_floor:.2g}; got none: the kernel is zero."
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
        decay=_decay(spectrum, np.where(resolved, frequencies, 0), key),
        measure=chosen.name,
    )


def _ranks(values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """The place of each value in ascending order, for equal ones their mean. SciPy's takes a second to load."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _frequency_columns(value: FrequencyRanking | Eigenspaces, shown: range) -> dict[str, list[str]]:
    """The columns of what is told of frequencies: a lower bound after > where the inputs do not resolve it."""
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
    """The inputs' weights, and as many resamples of them (Bayesian bootstrap, Rubin 1981)."""
    own = np.asarray(spectrum.weights, float)[None]
    draws = np.asarray(jax.random.exponential(key, (num_resamples, own.size)), float) * own
    return np.concatenate([own, draws / draws.sum(1, keepdims=True)])


def _decay(spectrum: Spectrum, frequencies: Float[np.ndarray, " k"], key: PRNGKeyArray) -> DecayExponent | None:
    """The exponent over modes of positive frequency; the caller sets that of modes to be left out to zero."""
    last = min(len(frequencies), len(spectrum.weights) // 5, 200)
    fitted = frequencies[1:last]
    if len(np.unique(fitted[fitted > 0])) < 3:
        return None
    return spectrum.decay_exponent("frequency", frequencies=frequencies, last=last, key=key)

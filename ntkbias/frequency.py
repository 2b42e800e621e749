"""The frequency of each eigenfunction, and the ranking of functions by how fast they are learned.

On a domain with harmonics a mode's frequency is that of the degree that holds most of its power; where that is beyond
the degrees that the inputs tell apart, the last of them. Elsewhere two measures estimate sqrt(E |grad phi|^2 / E
phi^2): the graph frequency, from the values on the inputs alone, and the Dirichlet frequency, from difference quotients
of the Nystrom extension between the inputs. Both are calibrated on plane waves (`domains.domain`), so that all three
agree on the circle. Automatic differentiation is no substitute: the kernel of a finite ReLU network jumps, and the
infinite one is flat at its nodes.

>>> import ntkbias as nb
>>> circle = nb.domains.Circle()
>>> x, weights = circle.quadrature(64)
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
>>> nb.rank_by_frequency(spectrum, circle).frequencies[:7].tolist()
[0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.domains import Domain, HarmonicDomain
from ntkbias.domains.domain import plane_wave_frequency
from ntkbias.spectrum import DecayExponent, Spectrum
from ntkbias.types import InputError, InputTypeError, require_choice, require_positive

__all__ = [
    "FrequencyRanking",
    "Measure",
    "dirichlet_frequency",
    "graph_frequency",
    "harmonic_energy",
    "measure_on",
    "rank_by_frequency",
]

Measure = Literal["harmonic", "graph", "dirichlet"]


class FrequencyRanking(eqx.Module):
    """The resolved modes of a spectrum, fastest learned first, with the frequency of each.

    Members of one eigenspace share their frequency and energy. `learning_times` are 1 / eigenvalue: the `time` (step
    * learning rate) in which gradient flow reduces a mode's error by e, for one output or an infinitely wide network.
    """

    eigenvalues: Float[Array, " k"]
    frequencies: Float[Array, " k"]
    eigenspace: Int[Array, " k"]
    learning_times: Float[Array, " k"]
    energy: Float[Array, "k levels"] | None  # the power in each of `levels`, on a domain with harmonics
    levels: Int[Array, "levels *c"] | None  # the degree, or tuple of degrees, of each column of `energy`
    decay: DecayExponent | None  # of the eigenvalues against frequency; None with fewer than three modes to fit
    measure: str = eqx.field(static=True)

    @property
    def purity(self) -> Float[Array, " k"] | None:
        """The share of each mode's power in its dominant degree: 1 for a harmonic; None without harmonics."""
        return None if self.energy is None else jnp.max(self.energy, 1)

    @property
    def spearman(self) -> float:
        """The rank correlation of eigenvalue and frequency: -1 where low frequencies always come first.

        NaN where all frequencies are the same.
        """
        eigenvalues = _shared(np.asarray(self.eigenvalues, float), np.asarray(self.eigenspace))
        frequencies = np.asarray(self.frequencies)
        if min(len(np.unique(eigenvalues)), len(np.unique(frequencies))) < 2:
            return float("nan")
        return float(scipy.stats.spearmanr(eigenvalues, frequencies).statistic)


def rank_by_frequency(
    spectrum: Spectrum,
    domain: Domain,
    *,
    measure: Measure | None = None,
    num_modes: int | None = None,
    key: PRNGKeyArray | None = None,
) -> FrequencyRanking:
    """The frequency of each of the first `num_modes` modes, by default of all above the noise floor.

    `measure` is "harmonic" where the domain has harmonics and "graph" elsewhere unless given. `key` draws the steps of
    "dirichlet" and the resamples of the decay exponent (default: a fixed one). Costs are those of the measure, and a
    second or so for the interval of the exponent.

    Raises `InputError` for a spectrum without inputs, inputs outside the domain, and a measure that it does not have.
    """
    _checked_inputs(spectrum, domain)
    measure = measure_on(domain, measure)
    key = jax.random.key(0) if key is None else key
    if spectrum.num_resolved == 0:
        raise InputError(
            f"Expected a mode above the noise floor, {spectrum.noise_floor:.2g}; got none: the kernel is zero."
        )
    modes = spectrum._first_modes(num_modes)
    energy, levels = None, None
    if measure == "harmonic":
        assert isinstance(domain, HarmonicDomain)
        max_degree = domain.max_degree(len(spectrum.weights))
        energy = harmonic_energy(spectrum, domain, max_degree)[modes]
        levels = jnp.asarray(domain.levels(max_degree))
        frequencies = _dominant_frequency(energy, domain, max_degree)
    elif measure == "graph":
        frequencies = graph_frequency(spectrum, domain)[modes]
    else:
        frequencies = dirichlet_frequency(spectrum, domain, num_modes=modes.stop, key=key)
    return FrequencyRanking(
        eigenvalues=spectrum.eigenvalues[modes],
        frequencies=frequencies,
        eigenspace=spectrum.eigenspace[modes],
        learning_times=1 / spectrum.eigenvalues[modes],
        energy=energy,
        levels=levels,
        decay=_decay(spectrum, frequencies, key),
        measure=measure,
    )


def measure_on(domain: Domain, measure: Measure | None = None) -> Measure:
    """The measure of frequency on a domain: the one asked for, else "harmonic" where there are harmonics, else "graph".

    Raises `InputError` on an unknown measure, and on "harmonic" where there are none.
    """
    if not isinstance(domain, Domain):
        got = f"the class {domain.__name__}" if isinstance(domain, type) else type(domain).__name__
        raise InputTypeError(f"Expected a domain, e.g. Circle() or PointCloud(); got {got}.")
    harmonic = isinstance(domain, HarmonicDomain)
    if measure is None:
        return "harmonic" if harmonic else "graph"
    require_choice("measure", measure, Measure)
    if measure == "harmonic" and not harmonic:
        raise InputTypeError(
            f"Expected a domain with harmonics, e.g. Circle(); got {type(domain).__name__}. "
            "Use measure='graph' or 'dirichlet'."
        )
    return measure


def harmonic_energy(spectrum: Spectrum, domain: Domain, max_degree: int | None = None) -> Float[Array, "k degrees"]:
    """The power of each mode in each level up to `max_degree` (default: the most that n inputs tell apart).

    `domain.levels(max_degree)` says which: the degrees 0 .. `max_degree` of a circle, sphere or cube, the degrees that
    there are of a torus, tuples of degrees of a product of spheres.

    Shared by the members of an eigenspace, whose mean is the same for every basis of it. Costs n k h multiplications
    for h harmonics.
    """
    x = _checked_inputs(spectrum, domain)
    measure_on(domain, "harmonic")
    assert isinstance(domain, HarmonicDomain)
    max_degree = domain.max_degree(len(x)) if max_degree is None else max_degree
    energy = domain.energy(spectrum.eigenfunctions, x, spectrum.weights, max_degree)
    return jnp.asarray(_shared(np.asarray(energy), np.asarray(spectrum.eigenspace)))


def graph_frequency(spectrum: Spectrum, domain: Domain) -> Float[Array, " k"]:
    """The frequency of each mode from the Laplacian of the neighbourhood graph of the inputs.

    The Rayleigh quotient phi^T L phi / phi^T M phi with edge weights (w_i + w_j) / d_ij^2, turned into the frequency
    of the plane wave that has the same one. Needs no kernel, and resolves wavelengths of about two neighbour
    distances at best. Costs k multiplications an edge, and the neighbour search.
    """
    x = _checked_inputs(spectrum, domain)
    first, second, distance = domain.neighbors(x)
    weights = np.asarray(spectrum.weights, float)
    coefficients = (weights[first] + weights[second]) / distance**2
    functions = np.asarray(spectrum.eigenfunctions)
    ratios = _ratios(functions, first, functions, second, coefficients, distance, spectrum)
    dimension = domain.intrinsic_dimension(x)
    frequencies = plane_wave_frequency(ratios, distance, coefficients, dimension, domain.correlation)
    return jnp.asarray(frequencies, spectrum.eigenvalues.dtype)


def dirichlet_frequency(
    spectrum: Spectrum,
    domain: Domain,
    *,
    num_modes: int | None = None,
    scale: float | None = None,
    num_steps: int = 512,
    key: PRNGKeyArray | None = None,
) -> Float[Array, " k"]:
    """The frequency of each resolved mode from difference quotients of its extension, between the inputs.

    `num_steps` steps of length `scale` (default: the domain's, mostly two median nearest-neighbour distances) are taken
    where the domain draws them; the mean squared difference over them is turned into the frequency of the plane wave
    that has the same one. The relative standard error is about 1 / sqrt(2 num_steps) for a single mode. Costs the
    kernel of 2 `num_steps` inputs with n.
    """
    x = _checked_inputs(spectrum, domain)
    require_positive("num_steps", num_steps)
    scale = domain.step_length(x) if scale is None else scale
    if not scale > 0:
        raise InputError(f"Expected a scale above zero; got {scale!r}.")
    key = jax.random.key(0) if key is None else key
    nodes, start, end = domain.steps(x, scale, num_steps, key=key)
    count = len(nodes)
    functions = np.asarray(spectrum.extend(jnp.concatenate([start, end]), num_modes))
    distance = np.full(count, scale)
    coefficients = np.asarray(spectrum.weights, float)[np.asarray(nodes)] / distance**2
    each = np.arange(count)
    ratios = _ratios(functions[:count], each, functions[count:], each, coefficients, distance, spectrum)
    dimension = domain.intrinsic_dimension(x)
    frequencies = plane_wave_frequency(ratios, distance, coefficients, dimension, domain.correlation)
    return jnp.asarray(frequencies, spectrum.eigenvalues.dtype)


def _dominant_frequency(
    energy: Float[Array, "k levels"], domain: HarmonicDomain, max_degree: int
) -> Float[Array, " k"]:
    """The frequency that holds most of each mode's power; the largest one where most lies beyond `max_degree`."""
    levels = domain.frequency(jnp.asarray(domain.levels(max_degree), energy.dtype))
    frequencies, group = np.unique(np.asarray(levels), return_inverse=True)
    power = np.asarray(energy, float) @ (group[:, None] == np.arange(len(frequencies)))
    beyond = 1 - power.sum(1)
    dominant = np.where(beyond > power.max(1), len(frequencies) - 1, power.argmax(1))
    return jnp.asarray(frequencies[dominant], energy.dtype)


def _ratios(
    starts: np.ndarray,
    first: np.ndarray,
    ends: np.ndarray,
    second: np.ndarray,
    coefficients: np.ndarray,
    distance: np.ndarray,
    spectrum: Spectrum,
) -> Float[np.ndarray, " k"]:
    """Mean squared difference over mean square along edges, of each mode, its eigenspace taken together."""
    num_modes = starts.shape[-1]
    differences, squares = np.zeros(num_modes), np.zeros(num_modes)
    for part in np.array_split(np.arange(len(first)), -(-len(first) // 1_024)):  # bounds the memory
        a, b = starts[first[part]], ends[second[part]]
        outputs = tuple(range(1, a.ndim - 1))
        differences += coefficients[part] @ np.sum((a - b) ** 2, outputs)
        squares += (coefficients * distance**2)[part] @ np.sum(a**2 + b**2, outputs) / 2
    eigenspace = np.asarray(spectrum.eigenspace)[:num_modes]
    return _shared(differences, eigenspace) / _shared(squares, eigenspace)


def _shared(values: np.ndarray, eigenspace: Int[np.ndarray, " k"]) -> np.ndarray:
    """The values `(k, ...)`, each replaced by the mean over its eigenspace."""
    _, members, counts = np.unique(eigenspace, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), *values.shape[1:]), values.dtype)
    np.add.at(sums, members, values)
    return (sums / counts.reshape(-1, *(1,) * (values.ndim - 1)).astype(values.dtype))[members]


def _decay(spectrum: Spectrum, frequencies: Array, key: PRNGKeyArray) -> DecayExponent | None:
    last = min(len(frequencies), len(spectrum.weights) // 5, 200)
    if len(np.unique(np.asarray(frequencies)[1:last])) < 3:
        return None
    return spectrum.decay_exponent("frequency", frequencies=frequencies, last=last, key=key)


def _checked_inputs(spectrum: Spectrum, domain: Domain) -> Array:
    if not isinstance(spectrum, Spectrum):
        raise InputTypeError(f"Expected a Spectrum; got {type(spectrum).__name__}. Use spectrum(kernel, x).")
    measure_on(domain)
    if spectrum.x is None:
        raise InputError(
            "Expected a spectrum that knows its inputs; got one of a bare matrix. Use spectrum(kernel, x)."
        )
    domain.check(spectrum.x)
    return spectrum.x

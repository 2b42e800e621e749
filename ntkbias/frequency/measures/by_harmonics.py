"""Frequency by harmonics: that of the level which holds most of a mode's power.

>>> import ntkbias as nb
>>> x, weights = nb.domains.Circle().quadrature(32)
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(b_std=0.1)), x, weights=weights)
>>> nb.frequency.harmonic_energy(spectrum, nb.domains.Circle()).argmax(1)[:5].tolist()
[0, 1, 1, 2, 2]
"""

import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.domains import Domain, HarmonicDomain
from ntkbias.errors import InputTypeError
from ntkbias.frequency.measures.measure import FrequencyMeasure, Measured, require_inputs, shared
from ntkbias.spectra import Spectrum

__all__ = ["harmonic", "harmonic_energy"]

_CHANCE = 0.01  # that an unresolved mode passes for one of some degree
_BLOCK_BYTES = 2**26  # of resampled functions at a time


def harmonic_energy(spectrum: Spectrum, domain: Domain, max_degree: int | None = None) -> Float[Array, "k degrees"]:
    """The power of each mode in each level up to `max_degree` (default: the most that n inputs tell apart).

    `domain.levels(max_degree)` says which: the degrees 0 .. `max_degree` of a circle, sphere or cube, the degrees that
    there are of a torus, tuples of degrees of a product of spheres.

    Shared by the members of an eigenspace, whose mean is the same for every basis of it. Costs n k h multiplications
    for h harmonics.
    """
    x = require_inputs(spectrum, domain)
    if not isinstance(domain, HarmonicDomain):
        raise InputTypeError(f"Expected a domain with harmonics, e.g. Circle(); got {type(domain).__name__}.")
    max_degree = domain.max_degree(len(x)) if max_degree is None else max_degree
    energy = domain.energy(spectrum.eigenfunctions, x, spectrum.weights, max_degree)
    return jnp.asarray(shared(np.asarray(energy), np.asarray(spectrum.eigenspace)))


def measured_by_harmonics(
    spectrum: Spectrum,
    domain: Domain,
    weights: Float[np.ndarray, "b n"],
    num_modes: int | None = None,
    key: PRNGKeyArray | None = None,
) -> Measured:
    """The frequency that holds most of each mode's power, under each row of weights, the first row the inputs' own.

    Where more lies beyond the levels than in any frequency it is the largest one, and not resolved; nor is a mode whose
    power in its frequency is no more than a random function's, with a chance of 1 % over all frequencies.
    """
    assert isinstance(domain, HarmonicDomain)
    energies = harmonic_energy(spectrum, domain)[:num_modes]
    max_degree = domain.max_degree(len(spectrum.weights))
    known = np.asarray(domain.frequency(domain.levels(max_degree).astype(energies.dtype)))
    frequencies, group = np.unique(known, return_inverse=True)
    members = (group[:, None] == np.arange(len(frequencies))).astype(float)
    counts = np.array([domain.multiplicity(level) for level in _levels(domain, max_degree)]) @ members

    def dominant(energy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        power = energy @ members
        beyond = 1 - power.sum(-1) > power.max(-1)
        return np.where(beyond, len(frequencies) - 1, power.argmax(-1)), power.max(-1), beyond

    place, power, beyond = dominant(np.asarray(energies, float))
    resolved = ~beyond & (power > _power_by_chance(counts, spectrum)[place])
    resamples = np.tile(place, (len(weights) - 1, 1))  # an unresolved mode has its lower bound in all
    if len(resamples) and resolved.any():
        chosen = np.flatnonzero(resolved)
        resamples[:, chosen] = dominant(_resampled_energy(spectrum, domain, chosen, weights[1:], max_degree))[0]
    levels = jnp.asarray(domain.levels(max_degree))
    return Measured(frequencies[place], frequencies[resamples], resolved, energies, levels)


harmonic = FrequencyMeasure(
    "harmonic",
    measured_by_harmonics,
    "that of the harmonics of the degree that holds most of its power",
    domain=HarmonicDomain,
    needs="a domain with harmonics, e.g. Circle()",
)


def _resampled_energy(
    spectrum: Spectrum,
    domain: HarmonicDomain,
    modes: Int[np.ndarray, " k"],
    weights: Float[np.ndarray, "b n"],
    max_degree: int,
) -> Float[np.ndarray, "b k levels"]:
    """The energy of these modes in each level under other weights, its power there one.

    Of weights w' it is that of the function phi w' / w under w, so that many resamples are functions of one call.
    """
    assert spectrum.x is not None
    own, eigenspace = np.asarray(spectrum.weights), np.asarray(spectrum.eigenspace)[modes]
    functions = np.asarray(spectrum.eigenfunctions)[..., modes]
    outputs = tuple(range(1, functions.ndim - 1))
    at_once = max(1, _BLOCK_BYTES // functions.nbytes)
    rows: list[np.ndarray] = []
    for some in (weights[i : i + at_once] for i in range(0, len(weights), at_once)):
        ratio = (some / own).astype(functions.dtype).T.reshape(len(own), *(1,) * len(outputs), -1, 1)
        scaled = (ratio * functions[..., None, :]).reshape(*functions.shape[:-1], -1)
        energy = np.asarray(domain.energy(scaled, spectrum.x, spectrum.weights, max_degree), np.float64)
        power = some @ np.sum(functions**2, outputs)
        each = energy.reshape(len(some), len(modes), -1)
        rows += [shared(e, eigenspace) / shared(p, eigenspace)[:, None] for e, p in zip(each, power, strict=True)]
    return np.stack(rows)


def _power_by_chance(counts: Float[np.ndarray, " f"], spectrum: Spectrum) -> Float[np.ndarray, " f"]:
    """The power in N of n orthonormal functions that a random one has in one of a hundred cases, over all frequencies.

    It is a Beta variable of N / 2 and (n - N) / 2; inputs of unequal weights count as 1 / sum w^2. At most 0.99: a
    basis of all functions on few inputs leaves nothing to chance.
    """
    outputs = int(np.prod(spectrum.eigenfunctions.shape[1:-1]))
    n = outputs / np.sum(np.asarray(spectrum.weights, float) ** 2)
    free = np.minimum(counts * outputs, n - 1e-3)
    return np.minimum(scipy.special.betaincinv(free / 2, (n - free) / 2, 1 - _CHANCE / len(counts)), 0.99)


def _levels(domain: HarmonicDomain, max_degree: int) -> list:
    return [tuple(level) if isinstance(level, list) else level for level in domain.levels(max_degree).tolist()]

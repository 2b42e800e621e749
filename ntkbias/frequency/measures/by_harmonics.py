"""Frequency by harmonics: the frequency that holds most of a mode's power.

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

_FALSE_POSITIVES = 0.01  # the probability that a random function counts as resolved
_BLOCK_BYTES = 2**26  # memory for resampled functions at a time


def harmonic_energy(spectrum: Spectrum, domain: Domain, max_degree: int | None = None) -> Float[Array, "k degrees"]:
    """The power of each mode in each level up to `max_degree` (default: the highest degree that n inputs resolve).

    `domain.levels(max_degree)` lists the levels: the degrees 0 .. `max_degree` on a circle, sphere or cube, the degrees
    that occur on a torus, and tuples of degrees on a product of spheres.

    All modes of one eigenspace get the mean over that eigenspace, which does not depend on the choice of basis. The
    powers of a mode sum to at most one. Costs n h (h + k) multiplications for h harmonics. Raises `InputTypeError` if
    the domain has no harmonics.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, weights=weights)
    >>> nb.frequency.harmonic_energy(spectrum, circle, 2)[:3].round(2).tolist()  # a row per mode, degrees 0 to 2
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
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
    """The frequency that holds most of each mode's power, for each row of weights. Row 0 has the inputs' own weights.

    If more power lies beyond the levels than in any one frequency, the result is the largest frequency, and the mode is
    not resolved. A mode is also not resolved if a random function would reach the same power in some frequency with a
    probability above 1 %.
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

    index, power, beyond = dominant(np.asarray(energies, float))
    resolved = ~beyond & (power > _power_by_chance(counts, spectrum)[index])
    resamples = np.tile(index, (len(weights) - 1, 1))  # an unresolved mode keeps its lower bound in every resample
    if len(resamples) and resolved.any():
        chosen = np.flatnonzero(resolved)
        resamples[:, chosen] = dominant(_resampled_energy(spectrum, domain, chosen, weights[1:], max_degree))[0]
    levels = jnp.asarray(domain.levels(max_degree))
    return Measured(frequencies[index], frequencies[resamples], resolved, energies, levels)


harmonic = FrequencyMeasure(
    "harmonic",
    measured_by_harmonics,
    "the frequency of the degree that holds most of its power",
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
    """The share of each mode's power in each level, under each row of other weights.

    With the orthonormal functions kept, the energy of phi under weights w' is the energy of phi w' / w under w. So many
    resamples become functions of a single call.
    """
    assert spectrum.x is not None
    own, eigenspace = np.asarray(spectrum.weights), np.asarray(spectrum.eigenspace)[modes]
    functions = np.asarray(spectrum.eigenfunctions)[..., modes]
    outputs = tuple(range(1, functions.ndim - 1))
    block_size = max(1, _BLOCK_BYTES // functions.nbytes)
    energy_of = domain.energy_on(spectrum.x, spectrum.weights, max_degree)
    rows: list[np.ndarray] = []
    for block in (weights[i : i + block_size] for i in range(0, len(weights), block_size)):
        ratio = (block / own).astype(functions.dtype).T.reshape(len(own), *(1,) * len(outputs), -1, 1)
        scaled = (ratio * functions[..., None, :]).reshape(*functions.shape[:-1], -1)
        energy = np.asarray(energy_of(scaled), np.float64)
        power = block @ np.sum(functions**2, outputs)
        energies = energy.reshape(len(block), len(modes), -1)
        rows += [shared(e, eigenspace) / shared(p, eigenspace)[:, None] for e, p in zip(energies, power, strict=True)]
    return np.stack(rows)


def _power_by_chance(counts: Float[np.ndarray, " f"], spectrum: Spectrum) -> Float[np.ndarray, " f"]:
    """For each frequency, the power that a random function exceeds so rarely that 1 % exceed it in any frequency.

    The power of a random function in N of n orthonormal functions is a Beta variable with parameters N / 2 and
    (n - N) / 2. With unequal weights, n is the effective number 1 / sum w^2. The result is capped at 0.99: on few
    inputs, the harmonics can span all functions, and then every function has the power 1.
    """
    outputs = int(np.prod(spectrum.eigenfunctions.shape[1:-1]))
    n = outputs / np.sum(np.asarray(spectrum.weights, float) ** 2)
    free = np.minimum(counts * outputs, n - 1e-3)
    return np.minimum(scipy.special.betaincinv(free / 2, (n - free) / 2, 1 - _FALSE_POSITIVES / len(counts)), 0.99)


def _levels(domain: HarmonicDomain, max_degree: int) -> list:
    return [tuple(level) if isinstance(level, list) else level for level in domain.levels(max_degree).tolist()]

"""The frequencies of modes, of the network's outputs and of the residual.

On a domain with harmonics, the power of a function in each level is its spectrum. Stacked over snapshots, the spectra
are a spectrogram of training. On other domains a function has a single frequency, from the neighborhood graph.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkbias.domains import HarmonicDomain
from ntkbias.frequency import graph_frequency, measure_on
from ntkbias.spectra import Spectrum
from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["MEASURES"]


def _level_names(at: Snapshot) -> list[str]:
    domain = at.setting.domain
    assert isinstance(domain, HarmonicDomain)
    return [str(level) for level in domain.levels(domain.max_degree(at.num_examples)).tolist()]


@measured(axes=("mode",))
def frequencies(at: Snapshot) -> Float[np.ndarray, " k"] | None:
    """The frequency of each mode on the domain. It is NaN for modes below the noise floor."""
    if at.setting.domain is None:
        return None
    domain, weights = at.setting.domain, np.asarray(at.spectrum.weights, np.float64)[None]
    measured = measure_on(domain).function(at.spectrum, domain, weights, None, None)
    found = np.where(np.asarray(at.spectrum.above_noise), measured.frequencies, math.nan)
    return found[: at.num_modes]


@measured(title="frequency of the residual", line="residual", column="residual's frequency")
def residual_frequency(at: Snapshot) -> float | None:
    """The frequency of the residual: the root mean square over harmonics, or that by the neighborhood graph."""
    if at.setting.domain is None or at.residual is None:
        return None
    domain = at.setting.domain
    if isinstance(domain, HarmonicDomain):
        power = _levels(at, at.residual)
        assert power is not None
        levels = domain.levels(domain.max_degree(at.num_examples))
        squares = np.asarray(domain.frequency(jnp.asarray(levels, float)), np.float64) ** 2
        return float(np.sqrt(np.sum(power * squares) / max(np.sum(power), np.finfo(float).tiny)))
    if not np.any(at.residual):
        return math.nan
    function = jnp.asarray(at.residual)[..., None]  # one mode with one value per output
    mode = Spectrum(
        eigenvalues=jnp.ones(1),
        eigenfunctions=function,
        eigenspace=jnp.zeros(1, int),
        trace=jnp.ones(()),
        residuals=jnp.zeros(1),
        noise_floor=jnp.zeros(()),
        weights=jnp.full(at.num_examples, 1 / at.num_examples),
        x=at.setting.probe,
    )
    return float(graph_frequency(mode, domain)[0])


@measured(axes=("level",), labels=_level_names, title="power of the residual", scale="log")
def residual_spectrum(at: Snapshot) -> Float[np.ndarray, " level"] | None:
    """The power of the residual in each level of the domain's harmonics, summed over outputs."""
    return None if at.residual is None else _levels(at, at.residual)


@measured(axes=("level",), labels=_level_names, title="power of the outputs", scale="log")
def output_spectrum(at: Snapshot) -> Float[np.ndarray, " level"] | None:
    """The power of the network's outputs in each level of the domain's harmonics, summed over outputs."""
    return _levels(at, at.outputs)


MEASURES = (
    frequencies,
    residual_frequency,
    residual_spectrum,
    output_spectrum,
)


def _levels(at: Snapshot, function: np.ndarray) -> np.ndarray | None:
    """The power of a function `(n, o)` in each level, summed over outputs. None if the domain has no harmonics."""
    domain = at.setting.domain
    if not isinstance(domain, HarmonicDomain):
        return None
    weights = jnp.full(at.num_examples, 1 / at.num_examples)
    degree = domain.max_degree(at.num_examples)
    return np.asarray(domain.energy(jnp.asarray(function), at.setting.probe, weights, degree), np.float64).sum(0)

"""Frequency of eigenfunctions, of networks and of labels, and the ranking of eigenfunctions by frequency.

`measures` defines the frequency of a mode, and `ranking` orders the modes by it. `images` measures a function's
sensitivity to each spatial frequency of an image. `paths` measures how fast a network's output changes between two
examples. `crossings` counts sign changes along a curve. `waves` makes labels with a given frequency.
"""

from ntkbias.frequency.crossings import local_frequency
from ntkbias.frequency.images import ImageFrequencies, image_frequencies, image_gradient_frequencies
from ntkbias.frequency.measures import (
    MEASURES,
    FrequencyMeasure,
    dirichlet_frequency,
    gradient_frequency,
    graph_frequency,
    harmonic_energy,
    measure_on,
)
from ntkbias.frequency.paths import InterpolationSpectrum, interpolation_path, interpolation_spectrum
from ntkbias.frequency.ranking import Eigenspaces, FrequencyRanking, rank_by_frequency
from ntkbias.frequency.signals import PowerSpectrum, autocorrelation, derivative_along, power_spectrum
from ntkbias.frequency.waves import directional_wave, radial_wave, smoothed_labels, wave_correlation

__all__ = [
    "MEASURES",
    "Eigenspaces",
    "FrequencyMeasure",
    "FrequencyRanking",
    "ImageFrequencies",
    "InterpolationSpectrum",
    "PowerSpectrum",
    "autocorrelation",
    "derivative_along",
    "directional_wave",
    "dirichlet_frequency",
    "gradient_frequency",
    "graph_frequency",
    "harmonic_energy",
    "image_frequencies",
    "image_gradient_frequencies",
    "interpolation_path",
    "interpolation_spectrum",
    "local_frequency",
    "measure_on",
    "power_spectrum",
    "radial_wave",
    "rank_by_frequency",
    "smoothed_labels",
    "wave_correlation",
]


def __dir__() -> list[str]:
    return sorted(__all__)

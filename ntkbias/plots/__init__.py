"""Figures. Each function takes a value and axes, draws one figure of the value, and returns the axes.

A function draws on `ax`, or on a new pyplot figure if `ax` is None. A kernel has the same color in all figures of one
comparison, given by its position in `names`. The palette is suited to color-blind readers (Okabe and Ito 2008). Modes
are numbered from one, as in the tables of `report`.

>>> import ntkbias as nb
>>> x, weights = nb.domains.Circle().quadrature(16)
>>> kernels = {"mlp": nb.infinite_ntk(nb.nets.mlp(depth=2))}
>>> ax = nb.plots.spectra(nb.compare(kernels, x, nb.domains.Circle(), weights=weights))
>>> ax.get_xlabel(), ax.get_ylabel()
('mode index', 'eigenvalue of K / n')
"""

from ntkbias.plots.drawing import PANEL, SIZE, color, panels, save, svg
from ntkbias.plots.eigenvalues import cumulative_power, exact_and_measured, spectra, spectral_density
from ntkbias.plots.frequencies import eigenvalue_against_frequency, energy_per_degree, frequency_size
from ntkbias.plots.functions import eigenfunctions
from ntkbias.plots.histories import (
    alignments,
    eigenfunction_frames,
    eigenvalue_trajectories,
    evolution,
    frequency_spectrogram,
    num_panels,
)
from ntkbias.plots.images import are_images, classes_of, image_modes, panels_of_images
from ntkbias.plots.laws import learning_curve, scaling_laws
from ntkbias.plots.posteriors import posterior

__all__ = [
    "PANEL",
    "SIZE",
    "alignments",
    "are_images",
    "classes_of",
    "color",
    "cumulative_power",
    "eigenfunction_frames",
    "eigenfunctions",
    "eigenvalue_against_frequency",
    "eigenvalue_trajectories",
    "energy_per_degree",
    "evolution",
    "exact_and_measured",
    "frequency_size",
    "frequency_spectrogram",
    "image_modes",
    "learning_curve",
    "num_panels",
    "panels",
    "panels_of_images",
    "posterior",
    "save",
    "scaling_laws",
    "spectra",
    "spectral_density",
    "svg",
]


def __dir__() -> list[str]:
    return sorted(__all__)

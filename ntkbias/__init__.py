"""ntkbias shows what a neural network is inclined to learn.

It computes the neural tangent kernel of a network, at a finite width and in the infinite-width limit, splits it into
eigenfunctions, and ranks those by frequency and by how fast they are learned.
"""

from ntkbias import adapters, datasets, domains, exact, layers, nets, plots, types
from ntkbias.alignment import alignment, relative_alignment
from ntkbias.compare import Comparison, compare
from ntkbias.eigen import (
    Estimate,
    NystromSpectrum,
    SpectralDensity,
    effective_dimension,
    eigh,
    log_determinant,
    nystrom,
    spectral_density,
    spectrum,
    top_modes,
)
from ntkbias.exact import ExactSpectrum, exact_spectrum, predicted_decay
from ntkbias.frequency import (
    FrequencyRanking,
    dirichlet_frequency,
    graph_frequency,
    harmonic_energy,
    rank_by_frequency,
)
from ntkbias.kernels import (
    DotProductKernel,
    Kernel,
    KernelOnDisk,
    KernelOperator,
    Sketch,
    as_operator,
    empirical_nngp,
    empirical_ntk,
    empirical_ntk_by_layer,
    explain_ntk,
    infinite_nngp,
    infinite_ntk,
    kernel_on_disk,
    ntk_velocity,
    open_kernel,
    pseudo_ntk,
    sketch,
)
from ntkbias.results import load, save
from ntkbias.spectrum import DecayExponent, Spectrum
from ntkbias.types import InputError

__all__ = [
    "Comparison",
    "DecayExponent",
    "DotProductKernel",
    "Estimate",
    "ExactSpectrum",
    "FrequencyRanking",
    "InputError",
    "Kernel",
    "KernelOnDisk",
    "KernelOperator",
    "NystromSpectrum",
    "Sketch",
    "SpectralDensity",
    "Spectrum",
    "adapters",
    "alignment",
    "as_operator",
    "compare",
    "datasets",
    "dirichlet_frequency",
    "domains",
    "effective_dimension",
    "eigh",
    "empirical_nngp",
    "empirical_ntk",
    "empirical_ntk_by_layer",
    "exact",
    "exact_spectrum",
    "explain_ntk",
    "graph_frequency",
    "harmonic_energy",
    "infinite_nngp",
    "infinite_ntk",
    "kernel_on_disk",
    "layers",
    "load",
    "log_determinant",
    "nets",
    "ntk_velocity",
    "nystrom",
    "open_kernel",
    "plots",
    "predicted_decay",
    "pseudo_ntk",
    "rank_by_frequency",
    "relative_alignment",
    "save",
    "sketch",
    "spectral_density",
    "spectrum",
    "top_modes",
    "types",
]

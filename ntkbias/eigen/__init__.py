"""Spectra of kernels: dense, from products alone, or from landmarks; and sums over eigenvalues from products alone."""

from ntkbias.eigen.choose import spectrum
from ntkbias.eigen.dense import eigh
from ntkbias.eigen.density import effective_dimension, log_determinant, spectral_density
from ntkbias.eigen.distribution import SpectralDensity
from ntkbias.eigen.estimate import Estimate
from ntkbias.eigen.krylov import top_modes
from ntkbias.eigen.landmarks import NystromSpectrum, nystrom
from ntkbias.scaling.decay import DecayExponent

__all__ = [
    "DecayExponent",
    "Estimate",
    "NystromSpectrum",
    "SpectralDensity",
    "effective_dimension",
    "eigh",
    "log_determinant",
    "nystrom",
    "spectral_density",
    "spectrum",
    "top_modes",
]


def __dir__() -> list[str]:
    return sorted(__all__)

"""Exact spectra: the eigenvalues of a kernel on a domain, by quadrature instead of sampling."""

from ntkbias.exact.decay import predicted_decay
from ntkbias.exact.from_covariance import PredictedSpectrum, predicted_spectrum
from ntkbias.exact.gaussian import by_hermite_degree
from ntkbias.exact.spectrum import exact_spectrum
from ntkbias.exact.sphere_product import spectrum_of_degrees
from ntkbias.exact.value import Decay, ExactSpectrum, beside
from ntkbias.kernels.dot_product import DotProductKernel

__all__ = [
    "Decay",
    "DotProductKernel",
    "ExactSpectrum",
    "PredictedSpectrum",
    "beside",
    "by_hermite_degree",
    "exact_spectrum",
    "predicted_decay",
    "predicted_spectrum",
    "spectrum_of_degrees",
]


def __dir__() -> list[str]:
    return sorted(__all__)

"""Factors of each parameter's gradient, from which the kernel is contracted: one file per way to use a parameter."""

from ntkbias.kernels.factors.convolution import Convolution
from ntkbias.kernels.factors.factor import Factor
from ntkbias.kernels.factors.full_jacobian import FullJacobian
from ntkbias.kernels.factors.lookup import Lookup
from ntkbias.kernels.factors.product import Product
from ntkbias.kernels.factors.tied import Tied

__all__ = ["Convolution", "Factor", "FullJacobian", "Lookup", "Product", "Tied"]

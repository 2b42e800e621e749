"""What is kept of each parameter's gradient, and how the kernel is contracted from it: one kind of use a file."""

from ntkbias.kernels.factors.convolution import Convolution
from ntkbias.kernels.factors.factor import Factor
from ntkbias.kernels.factors.lookup import Lookup
from ntkbias.kernels.factors.product import Product
from ntkbias.kernels.factors.whole import Whole

__all__ = ["Convolution", "Factor", "Lookup", "Product", "Whole"]

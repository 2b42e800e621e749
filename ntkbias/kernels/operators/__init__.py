"""A kernel on given inputs as a linear operator: from a matrix, from blocks of the kernel, or from the Jacobian."""

from ntkbias.kernels.operators.by_blocks import BlockOperator
from ntkbias.kernels.operators.by_jacobian import JacobianOperator, ParameterOperator
from ntkbias.kernels.operators.given import Features, Matrix, Products, as_operator
from ntkbias.kernels.operators.jacobian import Jacobian
from ntkbias.kernels.operators.operator import MANY_PRODUCTS, Centered, KernelOperator, Scaled, Source, Sum

__all__ = [
    "MANY_PRODUCTS",
    "BlockOperator",
    "Centered",
    "Features",
    "Jacobian",
    "JacobianOperator",
    "KernelOperator",
    "Matrix",
    "ParameterOperator",
    "Products",
    "Scaled",
    "Source",
    "Sum",
    "as_operator",
]

"""Kernels: functions of two sets of inputs, empirical and at infinite width, evaluated by blocks."""

from ntkbias.kernels.dot_product import DotProductKernel
from ntkbias.kernels.empirical import empirical_nngp, empirical_ntk, empirical_ntk_by_layer
from ntkbias.kernels.explain import explain_ntk
from ntkbias.kernels.infinite import infinite_nngp, infinite_ntk
from ntkbias.kernels.kernel import Kernel
from ntkbias.kernels.operator import KernelOperator, as_operator
from ntkbias.kernels.preconditioned import adam_preconditioner, loss_weighted_ntk, preconditioned_ntk
from ntkbias.kernels.pseudo import pseudo_ntk
from ntkbias.kernels.sketch import Sketch, sketch
from ntkbias.kernels.store import KernelOnDisk, kernel_on_disk, open_kernel
from ntkbias.kernels.velocity import ntk_velocity

__all__ = [
    "DotProductKernel",
    "Kernel",
    "KernelOnDisk",
    "KernelOperator",
    "Sketch",
    "adam_preconditioner",
    "as_operator",
    "empirical_nngp",
    "empirical_ntk",
    "empirical_ntk_by_layer",
    "explain_ntk",
    "infinite_nngp",
    "infinite_ntk",
    "kernel_on_disk",
    "loss_weighted_ntk",
    "ntk_velocity",
    "open_kernel",
    "preconditioned_ntk",
    "pseudo_ntk",
    "sketch",
]

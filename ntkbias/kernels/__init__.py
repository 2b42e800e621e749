"""Kernels: functions of two sets of inputs, empirical and at infinite width, evaluated by blocks."""

from ntkbias.kernels.empirical import empirical_nngp, empirical_ntk, empirical_ntk_by_layer
from ntkbias.kernels.explain import explain_ntk
from ntkbias.kernels.infinite import infinite_nngp, infinite_ntk
from ntkbias.kernels.kernel import Kernel

__all__ = [
    "Kernel",
    "empirical_nngp",
    "empirical_ntk",
    "empirical_ntk_by_layer",
    "explain_ntk",
    "infinite_nngp",
    "infinite_ntk",
]

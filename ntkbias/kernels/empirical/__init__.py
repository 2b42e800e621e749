"""Kernels of one network with given parameters, for any f(params, x): the NTK and what is made of it, the NNGP."""

from ntkbias.kernels.empirical.block import BlockNTK, block_ntk
from ntkbias.kernels.empirical.cross import CrossNTK, cross_ntk
from ntkbias.kernels.empirical.explain import explain_ntk
from ntkbias.kernels.empirical.holomorphic import holomorphic_ntk
from ntkbias.kernels.empirical.loss_weighted import loss_weighted_ntk
from ntkbias.kernels.empirical.nngp import EmpiricalNNGP, empirical_nngp
from ntkbias.kernels.empirical.ntk import EmpiricalNTK, empirical_ntk
from ntkbias.kernels.empirical.parts import Parts, empirical_ntk_by_layer, ntk_of_some
from ntkbias.kernels.empirical.preconditioned import adam_preconditioner, preconditioned_ntk
from ntkbias.kernels.empirical.pseudo import pseudo_ntk
from ntkbias.kernels.empirical.sketches import Sketch, sketch
from ntkbias.kernels.empirical.velocity import NTKVelocity, ntk_velocity

__all__ = [
    "BlockNTK",
    "CrossNTK",
    "EmpiricalNNGP",
    "EmpiricalNTK",
    "NTKVelocity",
    "Parts",
    "Sketch",
    "adam_preconditioner",
    "block_ntk",
    "cross_ntk",
    "empirical_nngp",
    "empirical_ntk",
    "empirical_ntk_by_layer",
    "explain_ntk",
    "holomorphic_ntk",
    "loss_weighted_ntk",
    "ntk_of_some",
    "ntk_velocity",
    "preconditioned_ntk",
    "pseudo_ntk",
    "sketch",
]

from .block import BlockNTK, block_ntk
from .cross import CrossNTK, cross_ntk
from .explain import explain_ntk
from .holomorphic import holomorphic_ntk
from .loss_weighted import loss_weighted_ntk
from .nngp import EmpiricalNNGP, empirical_nngp
from .ntk import EmpiricalNTK, empirical_ntk
from .parts import Parts, empirical_ntk_by_layer, ntk_of_some
from .preconditioned import adam_preconditioner, preconditioned_ntk
from .pseudo import pseudo_ntk
from .signs import asymmetric_sign_ntk, sign_ntk, sign_preconditioner
from .sketches import Sketch, sketch
from .velocity import VelocityForm, ntk_velocity

__all__ = [
    "BlockNTK",
    "CrossNTK",
    "EmpiricalNNGP",
    "EmpiricalNTK",
    "Parts",
    "Sketch",
    "VelocityForm",
    "adam_preconditioner",
    "asymmetric_sign_ntk",
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
    "sign_ntk",
    "sign_preconditioner",
    "sketch",
]

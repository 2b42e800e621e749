from .disk import GramOnDisk, gram_on_disk, open_gram
from .dot_product import DotProductKernel
from .empirical import (
    BlockNTK,
    CrossNTK,
    Sketch,
    VelocityForm,
    adam_preconditioner,
    block_ntk,
    cross_ntk,
    empirical_nngp,
    empirical_ntk,
    empirical_ntk_by_layer,
    explain_ntk,
    holomorphic_ntk,
    loss_weighted_ntk,
    ntk_velocity,
    preconditioned_ntk,
    pseudo_ntk,
    sketch,
)
from .form import SymmetricForm
from .infinite import infinite_nngp, infinite_ntk
from .kernel import Kernel
from .operators import KernelOperator, as_operator

__all__ = [
    "BlockNTK",
    "CrossNTK",
    "DotProductKernel",
    "GramOnDisk",
    "Kernel",
    "KernelOperator",
    "Sketch",
    "SymmetricForm",
    "VelocityForm",
    "adam_preconditioner",
    "as_operator",
    "block_ntk",
    "cross_ntk",
    "empirical_nngp",
    "empirical_ntk",
    "empirical_ntk_by_layer",
    "explain_ntk",
    "gram_on_disk",
    "holomorphic_ntk",
    "infinite_nngp",
    "infinite_ntk",
    "loss_weighted_ntk",
    "ntk_velocity",
    "open_gram",
    "preconditioned_ntk",
    "pseudo_ntk",
    "sketch",
]

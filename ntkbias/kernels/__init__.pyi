from .disk import GramOnDisk, gram_on_disk, open_gram
from .distance import relative_distance
from .dot_product import DotProductKernel
from .empirical import (
    BlockNTK,
    CrossNTK,
    EmpiricalNNGP,
    EmpiricalNTK,
    Parts,
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
from .form import FormCentered, FormScaled, FormSum, SymmetricForm
from .gradients import Gradients
from .infinite import InfiniteKernel, infinite_nngp, infinite_ntk
from .kernel import Centered, Kernel, Scaled, Sum
from .operators import KernelOperator, as_operator
from .unloaded import UnloadedKernel

__all__ = [
    "BlockNTK",
    "Centered",
    "CrossNTK",
    "DotProductKernel",
    "EmpiricalNNGP",
    "EmpiricalNTK",
    "FormCentered",
    "FormScaled",
    "FormSum",
    "Gradients",
    "GramOnDisk",
    "InfiniteKernel",
    "Kernel",
    "KernelOperator",
    "Parts",
    "Scaled",
    "Sketch",
    "Sum",
    "SymmetricForm",
    "UnloadedKernel",
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
    "relative_distance",
    "sketch",
]

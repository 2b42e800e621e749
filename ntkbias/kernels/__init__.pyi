from .disk import KernelOnDisk, kernel_on_disk, open_kernel
from .dot_product import DotProductKernel
from .empirical import (
    BlockNTK,
    CrossNTK,
    Sketch,
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
from .infinite import infinite_nngp, infinite_ntk
from .kernel import Kernel
from .operators import KernelOperator, as_operator

__all__ = [
    "BlockNTK",
    "CrossNTK",
    "DotProductKernel",
    "Kernel",
    "KernelOnDisk",
    "KernelOperator",
    "Sketch",
    "adam_preconditioner",
    "as_operator",
    "block_ntk",
    "cross_ntk",
    "empirical_nngp",
    "empirical_ntk",
    "empirical_ntk_by_layer",
    "explain_ntk",
    "holomorphic_ntk",
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

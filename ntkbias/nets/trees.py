"""Networks of patches, whose windows do not overlap: regular trees."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx

from ntkbias.checks import require_positive
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import Activation, Conv, Dense, Flatten, Identity, Layer, Sequential
from ntkbias.nets.options import activation_and_stds, is_mup, require_counts
from ntkbias.types import Parameterization

__all__ = ["Leaves", "patch_network"]


def patch_network(
    width: int = 512,
    branching: Sequence[int] = (4, 4),
    num_outputs: int = 1,
    *,
    additive: bool = False,
    activation: str | Activation = "relu",
    w_std: float | None = None,
    b_std: float | None = None,
    b_init: float = 1.0,
    parameterization: Parameterization = "ntk",
) -> Layer:
    """A convolutional network with windows that do not overlap: a regular tree (Xiao 2021, arXiv 2112.05611).

    Inputs are `(n, leaves, leaf_dimension)`: positions are patches, and channels are their coordinates. A linear map
    and phi act on each leaf. Then, for each number p in `branching`, from the leaves to the root, a convolution joins p
    neighbors into one node, and phi follows. The last layer is the linear output. The number of leaves is the product
    of `branching`. All leaves have the same depth, and all nodes of a level have the same number of children. With
    p * p leaves, `branching=(p * p,)` is the paper's S-CNN and `(p, p)` its D-CNN; `mlp` is its MLP.

    Let S be the NNGP and T the NTK, with weights that keep the variance of phi at one. A leaf has S = T = t, its
    correlation. A node has S = mean over its children of phi*(S), and T = mean over its children of
    phi*(S) + phi*'(S) T. The output has the same form, with the root as its only child. `additive=True` leaves out the
    root and its phi: the output is then a mean over the root's children, hence a sum of functions of one child each.

    >>> import ntkbias as nb
    >>> nb.nets.patch_network(width=8, branching=(2, 2), num_outputs=3).output_shape((4, 5))  # four patches
    (3,)
    """
    require_counts("branching of patch_network", branching)
    if not isinstance(additive, bool):
        raise InputTypeError(f"Expected additive to be True or False; got {additive!r}.")
    joins = tuple(branching)[:-1] if additive else tuple(branching)
    phi, stds = activation_and_stds(activation, 1 + len(joins), w_std)
    require_positive("width", width)
    options: dict[str, Any] = {"b_std": b_std, "b_init": b_init, "parameterization": parameterization}
    nodes: list[Layer] = []
    for p, std in zip(joins, stds[1:-1], strict=True):
        nodes += [Conv(width, (p,), (p,), "VALID", w_std=std, **options), phi]
    leaves = (Leaves(math.prod(branching)), Dense(width, stds[0], **options), phi)
    return Sequential(
        (*leaves, *nodes, Flatten(), Dense(num_outputs, stds[-1], readout=is_mup(parameterization), **options))
    )


class Leaves(Identity):
    """The identity, with a check that the inputs have one patch per leaf of the tree that follows.

    >>> import ntkbias as nb
    >>> try:
    ...     nb.nets.patch_network(branching=(2, 2)).output_shape((3, 5))
    ... except nb.InputError as error:
    ...     print(str(error).partition(";")[0])
    ...
    Expected inputs of patch_network to be 4 leaves with their coordinates, (n, 4, leaf_dimension)
    """

    num_leaves: int = eqx.field(static=True)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The same shape. Raises `InputError` if the number of patches differs from the number of leaves."""
        if len(input_shape) != 2 or input_shape[0] != self.num_leaves:
            raise InputError(
                f"Expected inputs of patch_network to be {self.num_leaves} leaves with their coordinates, (n, "
                f"{self.num_leaves}, leaf_dimension); got shape {tuple(input_shape)} without the batch axis. Reshape "
                "the inputs, or give a branching whose product is the number of leaves."
            )
        return input_shape

"""Losses for training and for kernels, including losses that weight errors by frequency.

A loss is a function (outputs, targets) -> scalar. Outputs and targets have one row per input. The named losses in
`pointwise` are values of type `Loss`, which also says what targets the loss accepts and what its Hessian is. Training
accepts any plain function as well. The losses in `quadratic` weight the errors, for example by their frequency.
"""

from ntkbias.losses.choosing import checked_targets, named
from ntkbias.losses.loss import Loss, LossFunction, Targets
from ntkbias.losses.pointwise import NAMED, cross_entropy, hinge, logistic, mse
from ntkbias.losses.quadratic import ImageSobolev, Quadratic, sobolev, weighted_mse

__all__ = [
    "NAMED",
    "ImageSobolev",
    "Loss",
    "LossFunction",
    "Quadratic",
    "Targets",
    "checked_targets",
    "cross_entropy",
    "hinge",
    "logistic",
    "mse",
    "named",
    "sobolev",
    "weighted_mse",
]


def __dir__() -> list[str]:
    return sorted(__all__)

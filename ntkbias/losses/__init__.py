"""Losses: what training reduces, and how the loss itself prefers some frequencies to others.

A loss is a function of outputs and targets, both one row an input, to one number. Those with a name, in `pointwise`,
are a `Loss`, which also says what targets it takes and what its Hessian is; a plain function will do for training.
Those of `quadratic` choose which errors count, by their frequency, say.
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

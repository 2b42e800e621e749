"""Power laws: a line through logarithms, and scaling laws of error against size, with intervals."""

from ntkbias.scaling.band import ErrorBand
from ntkbias.scaling.interval import Interval
from ntkbias.scaling.law import ScalingLaw, exponent_difference, preferred_scaling_law, scaling_law
from ntkbias.scaling.level import crossing, first_passage
from ntkbias.scaling.line import PowerLaw, power_law

__all__ = [
    "ErrorBand",
    "Interval",
    "PowerLaw",
    "ScalingLaw",
    "crossing",
    "exponent_difference",
    "first_passage",
    "power_law",
    "preferred_scaling_law",
    "scaling_law",
]


def __dir__() -> list[str]:
    return sorted(__all__)

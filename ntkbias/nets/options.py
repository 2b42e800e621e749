"""The choices that architectures share: read-outs, norms, activations and the scales of weights."""

from typing import Literal

from ntkbias.checks import require_choice, require_positive
from ntkbias.errors import InputTypeError
from ntkbias.layers import Activation, Flatten, GlobalAvgPool, Layer, activation
from ntkbias.layers.layer import require_depth
from ntkbias.types import Parameterization

__all__ = ["READOUTS", "Norm", "Readout", "activation_and_stds", "is_mup", "require_counts"]

Readout = Literal["flatten", "pool"]
Norm = Literal["pre", "post", "none"]

READOUTS: dict[str, Layer] = {"flatten": Flatten(), "pool": GlobalAvgPool()}


def require_counts(name: str, values: object) -> None:
    """Raise an `InputError` unless `values` is a sequence of positive whole numbers."""
    if not isinstance(values, tuple | list) or not values:
        raise InputTypeError(f"Expected {name} to be whole numbers, as (2, 2); got {values!r}.")
    for value in values:
        require_positive(f"every number in {name}", value)


def is_mup(parameterization: Parameterization) -> bool:
    """Whether the last layer has to be marked as the readout, which only muP treats apart."""
    require_choice("parameterization", parameterization, Parameterization)
    return parameterization == "mup"


def activation_and_stds(name: str | Activation, depth: int, w_std: float | None) -> tuple[Activation, list[float]]:
    """The activation, and the standard deviation of the weights in each of the `depth + 1` linear layers."""
    require_depth("depth", depth)
    phi = activation(name)
    if w_std is not None:
        return phi, [w_std] * (depth + 1)
    return phi, [1.0, *[phi.gain] * (depth - 1), 1.0]

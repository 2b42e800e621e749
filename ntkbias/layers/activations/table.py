"""The table of named activations, for `activation="relu"` and the command line."""

from collections.abc import Callable

from ntkbias.checks import require_choice
from ntkbias.layers.activations.contract import Activation
from ntkbias.layers.activations.expansion import Sigmoid, Silu, Softplus, Tanh
from ntkbias.layers.activations.piecewise import Abs, Hat, LeakyRelu, RectifiedMonomial, Relu, Sign, Step
from ntkbias.layers.activations.sigmoids import Erf, Gelu
from ntkbias.layers.activations.waves import Cos, Exp, Gaussian, Sin, SinPlusCos

__all__ = ["ACTIVATIONS", "activation"]


ACTIVATIONS: dict[str, Callable[[], Activation]] = {
    "relu": Relu,
    "erf": Erf,
    "leaky_relu": LeakyRelu,
    "abs": Abs,
    "squared_relu": RectifiedMonomial,
    "step": Step,
    "sign": Sign,
    "hat": Hat,
    "gelu": Gelu,
    "sin": Sin,
    "cos": Cos,
    "sin_plus_cos": SinPlusCos,
    "gaussian": Gaussian,
    "exp": Exp,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "silu": Silu,
    "softplus": Softplus,
}


def activation(name: str | Activation) -> Activation:
    """The activation called `name`, one of `ACTIVATIONS`. An `Activation` is returned unchanged.

    >>> import ntkbias as nb
    >>> nb.layers.activation("relu"), nb.layers.activation("sin")
    (Relu(), Sin())
    """
    if isinstance(name, Activation):
        return name
    require_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()

r"""Elementwise nonlinearities and their dual activations.

Let u and v be centered Gaussians with variances a, b and covariance c. The dual of phi is E[phi(u) phi(v)], and the
dual of its derivative is E[phi'(u) phi'(v)] (Daniely et al. 2016; Han et al. 2022, arXiv 2209.04121). Each file gives
the formulas of its family. Both duals are exact up to rounding, unless a class says otherwise. Functions without a
closed form, such as tanh, are `Expansion`s, whose error can be measured. All duals are finite and have finite
derivatives, also at equal and opposite inputs, at variance zero, and with respect to hyperparameters.

>>> import jax.numpy as jnp
>>> from ntkbias.layers import Relu
>>> nngp, derivative = Relu().dual(*(jnp.asarray(z) for z in (1.0, 1.0, 1.0)))
>>> float(nngp), float(derivative)
(0.5, 0.5)
"""

from ntkbias.layers.activations.contract import Activation
from ntkbias.layers.activations.expansion import Elementwise, Expansion, Sigmoid, Silu, Softplus, Tanh
from ntkbias.layers.activations.piecewise import ABRelu, Abs, Hat, LeakyRelu, RectifiedMonomial, Relu, Sign, Step
from ntkbias.layers.activations.polynomials import Hermite, Monomial, Polynomial
from ntkbias.layers.activations.sigmoids import Erf, Gelu
from ntkbias.layers.activations.table import ACTIVATIONS, activation
from ntkbias.layers.activations.waves import Cos, Exp, Gaussian, Rbf, Sin, SinPlusCos

__all__ = [
    "ACTIVATIONS",
    "ABRelu",
    "Abs",
    "Activation",
    "Cos",
    "Elementwise",
    "Erf",
    "Exp",
    "Expansion",
    "Gaussian",
    "Gelu",
    "Hat",
    "Hermite",
    "LeakyRelu",
    "Monomial",
    "Polynomial",
    "Rbf",
    "RectifiedMonomial",
    "Relu",
    "Sigmoid",
    "Sign",
    "Silu",
    "Sin",
    "SinPlusCos",
    "Softplus",
    "Step",
    "Tanh",
    "activation",
]

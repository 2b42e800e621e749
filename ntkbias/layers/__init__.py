"""Layers: each has a finite-width form (`init`, `apply`) and an infinite-width limit (`propagate`, `needs`)."""

from ntkbias.layers.activations import (
    ACTIVATIONS,
    ABRelu,
    Abs,
    Activation,
    Cos,
    Elementwise,
    Erf,
    Exp,
    Gaussian,
    Gelu,
    Hat,
    Hermite,
    LeakyRelu,
    Monomial,
    Polynomial,
    Rbf,
    RectifiedMonomial,
    Relu,
    Sigmoid,
    Sign,
    Silu,
    Sin,
    SinPlusCos,
    Softplus,
    Step,
    Tanh,
    activation,
)
from ntkbias.layers.attention import SelfAttention
from ntkbias.layers.branches import Concatenate, Product, Residual, Sum
from ntkbias.layers.conv import Conv, LocallyConnected
from ntkbias.layers.covariance import Covariance, Needs, Positions
from ntkbias.layers.dense import Dense
from ntkbias.layers.encodings import PositionalEncoding, SinusoidalEncoding
from ntkbias.layers.fourier import Angle, FourierFeatures, RandomFourierFeatures
from ntkbias.layers.identity import Dropout, Identity, Scale
from ntkbias.layers.layer import Layer
from ntkbias.layers.normalization import LayerNorm, RMSNorm
from ntkbias.layers.pooling import AvgPool, Flatten, GlobalAvgPool, GlobalSumPool, SumPool
from ntkbias.layers.wrappers import Frozen, Sequential, split_fixed

__all__ = [
    "ACTIVATIONS",
    "ABRelu",
    "Abs",
    "Activation",
    "Angle",
    "AvgPool",
    "Concatenate",
    "Conv",
    "Cos",
    "Covariance",
    "Dense",
    "Dropout",
    "Elementwise",
    "Erf",
    "Exp",
    "Flatten",
    "FourierFeatures",
    "Frozen",
    "Gaussian",
    "Gelu",
    "GlobalAvgPool",
    "GlobalSumPool",
    "Hat",
    "Hermite",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyRelu",
    "LocallyConnected",
    "Monomial",
    "Needs",
    "Polynomial",
    "PositionalEncoding",
    "Positions",
    "Product",
    "RMSNorm",
    "RandomFourierFeatures",
    "Rbf",
    "RectifiedMonomial",
    "Relu",
    "Residual",
    "Scale",
    "SelfAttention",
    "Sequential",
    "Sigmoid",
    "Sign",
    "Silu",
    "Sin",
    "SinPlusCos",
    "SinusoidalEncoding",
    "Softplus",
    "Step",
    "Sum",
    "SumPool",
    "Tanh",
    "activation",
    "split_fixed",
]


def __dir__() -> list[str]:
    return sorted(__all__)

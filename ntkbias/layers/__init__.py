"""Layers: each knows its finite-width life (init, apply) and its infinite-width one (propagate, needs)."""

from ntkbias.layers.activations import ACTIVATIONS, Activation, Erf, Relu, activation
from ntkbias.layers.combine import Identity, Residual, Sequential
from ntkbias.layers.conv import Conv
from ntkbias.layers.covariance import Covariance, Needs, Positions
from ntkbias.layers.dense import Dense
from ntkbias.layers.layer import Layer
from ntkbias.layers.pooling import Flatten, GlobalAvgPool

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Conv",
    "Covariance",
    "Dense",
    "Erf",
    "Flatten",
    "GlobalAvgPool",
    "Identity",
    "Layer",
    "Needs",
    "Positions",
    "Relu",
    "Residual",
    "Sequential",
    "activation",
]

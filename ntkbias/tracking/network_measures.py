"""Measures of the network itself, to stand beside its kernel: those of `ntkbias.complexity`, at a snapshot."""

import jax
import numpy as np
import optax
from jaxtyping import Float

from ntkbias import complexity
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["geometric_complexity", "gradient_norm", "sharpness", "weight_norm", "weight_norm_by_layer"]


def geometric_complexity(at: Snapshot) -> float:
    """The mean over the probe of ||df/dx||_F^2 (Dherin et al. 2022, arXiv 2209.13083); a backward pass an output."""
    return float(complexity.geometric_complexity(at.setting.f, at.variables, at.setting.probe))


def sharpness(at: Snapshot) -> float | None:
    """The largest eigenvalue of the Hessian of the loss over all training inputs, within a thousandth.

    Costs some tens of gradients over them. None for networks that carry a state.
    """
    if at.setting.has_state:
        return None
    s = at.setting
    return float(complexity.sharpness(s.f, at.params, s.x, s.y, loss=s.loss, key=s.key))


def gradient_norm(at: Snapshot) -> float:
    """||gradient|| of the loss over all training inputs."""
    return float(_norm(at.gradient))


def weight_norm(at: Snapshot) -> float:
    """||theta||."""
    return float(_norm(at.params))


def weight_norm_by_layer(at: Snapshot) -> Float[np.ndarray, " parameter"]:
    """||theta|| of each parameter array, in the order of the pytree's leaves."""
    return np.array([float(norm) for norm in complexity.weight_norms(at.params).values()])


weight_norm_by_layer.axes = ("parameter",)  # type: ignore[attr-defined]

_norm = jax.jit(optax.tree.norm)  # one program: a snapshot after the other asks for it

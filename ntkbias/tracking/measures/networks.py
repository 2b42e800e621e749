"""Measures of the network itself, by the functions of `ntkbias.complexity`."""

import jax
import numpy as np
import optax
from jaxtyping import Float

from ntkbias import complexity
from ntkbias.checks import widened
from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["MEASURES"]

_norm = jax.jit(lambda tree: optax.tree.norm(jax.tree.map(widened, tree)))  # compiled once for all snapshots


def _parameter_names(at: Snapshot) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(at.params)]


@measured()
def weight_norm(at: Snapshot) -> float:
    """The Euclidean norm ||theta|| of all parameters."""
    return float(_norm(at.params))


@measured(axes=("parameter",), labels=_parameter_names, costly=True)
def weight_norm_by_layer(at: Snapshot) -> Float[np.ndarray, " parameter"]:
    """The Euclidean norm of each parameter array, in the order of the pytree's leaves."""
    return np.array([float(norm) for norm in complexity.weight_norms(at.params).values()])


@measured(costly=True)
def gradient_norm(at: Snapshot) -> float:
    """The Euclidean norm of the gradient of the loss over all training examples."""
    return float(_norm(at.gradient))


@measured(costly=True)
def geometric_complexity(at: Snapshot) -> float:
    """The mean of ||df/dx||_F^2 over the probe (Dherin et al. 2022, arXiv 2209.13083).

    Costs one backward pass per output.
    """
    return float(complexity.geometric_complexity(at.setting.f, at.variables, at.setting.probe))


@measured(costly=True)
def sharpness(at: Snapshot) -> float | None:
    """The largest eigenvalue of the Hessian of the loss over all training examples, within 0.1 %.

    Costs some tens of gradients over these examples. It is None for networks with a state.
    """
    if at.setting.has_state:
        return None
    s = at.setting
    return float(complexity.sharpness(s.f, at.params, s.x, s.y, loss=s.loss, key=s.key))


MEASURES = (
    weight_norm,
    weight_norm_by_layer,
    gradient_norm,
    geometric_complexity,
    sharpness,
)

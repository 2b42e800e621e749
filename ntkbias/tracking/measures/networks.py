"""Measures of the network itself, by the functions of `ntkbias.complexity`."""

import math

import jax
import numpy as np
import optax
from jaxtyping import Float

from ntkbias import complexity
from ntkbias.checks import widened
from ntkbias.complexity.outer_products import matrices_of
from ntkbias.kernels import Gradients
from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["MEASURES"]

_norm = jax.jit(lambda tree: optax.tree.norm(jax.tree.map(widened, tree)))  # compiled once for all snapshots


def _parameter_names(at: Snapshot) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(at.params)]


def _matrices(at: Snapshot) -> list[str]:
    if at.setting.has_state:
        return []
    return matrices_of(Gradients.of(at.setting.f, at.params, "all"), at.setting.probe)


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


@measured(title="sharpness", line="largest eigenvalue of the Hessian", costly=True)
def sharpness(at: Snapshot) -> float | None:
    """The largest eigenvalue of the Hessian of the loss over all training examples, within 0.1 %.

    Costs some tens of gradients over these examples. It is None for networks with a state.
    """
    if at.setting.has_state:
        return None
    s = at.setting
    return float(complexity.sharpness(s.f, at.params, s.x, s.y, loss=s.loss, key=s.key))


@measured(needs=(sharpness,), title="sharpness", line="2 / learning rate", costly=True)
def sharpness_limit(at: Snapshot) -> float | None:
    """2 / learning rate: gradient descent with momentum zero is unstable where the sharpness is larger.

    Training raises the sharpness until it reaches this limit, and then keeps it at or above it: the edge of stability
    (Cohen et al. 2021, arXiv 2103.00065). None if the optimizer has no learning rate of its own, such as Adam. With
    momentum, the limit is another. It needs `sharpness`, which is added to the measures.
    """
    return 2 / at.learning_rate if math.isfinite(at.learning_rate) and at.learning_rate > 0 else None


@measured(axes=("matrix",), labels=_matrices, costly=True)
def feature_correlation(at: Snapshot) -> Float[np.ndarray, " matrix"] | None:
    """The correlation of each W W^T with the average gradient outer product in its layer's inputs, on the probe.

    See `complexity.feature_correlations`. None for networks with a state, or without weight matrices.
    """
    if not _matrices(at):
        return None
    found = complexity.feature_correlations(at.setting.f, at.params, at.setting.probe)
    return np.array([float(value) for value in found.values()])


@measured(axes=("matrix",), labels=_matrices, costly=True)
def feature_change_correlation(at: Snapshot) -> Float[np.ndarray, " matrix"] | None:
    """The same with W minus its value at the first snapshot in W W^T, as in the code of Radhakrishnan et al.

    It is NaN at the start.
    """
    if not _matrices(at):
        return None
    found = complexity.feature_correlations(at.setting.f, at.params, at.setting.probe, start=at.initial.params)
    return np.array([float(value) for value in found.values()])


MEASURES = (
    weight_norm,
    weight_norm_by_layer,
    gradient_norm,
    geometric_complexity,
    sharpness,
    sharpness_limit,
    feature_correlation,
    feature_change_correlation,
)

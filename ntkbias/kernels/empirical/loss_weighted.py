"""The kernel by which the residuals of a loss other than the squared error decay, made from the empirical NTK.

Near a point where the loss has the Hessian H(x) = S S^T in the outputs of one input, the residuals r decay by r' = -H K
r / n, and

    K_H(x, x') = S(x)^T K(x, x') S(x'),      the NTK of S^T f with S held fixed,

has the eigenvalues of that decay, which are those of the Gauss-Newton matrix J^T H J / n (Fort and Ganguli 2019, arXiv
1910.05929): the largest of them is the sharpness, as far as f is linear.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=8, depth=1, num_outputs=3)
>>> params, x = net.init(jax.random.key(0), (2,)), jnp.eye(2)
>>> nb.loss_weighted_ntk(net.apply, params, "cross_entropy")(x).shape
(2, 3, 2, 3)
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.checks import require_choice
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.empirical.ntk import EmpiricalNTK, empirical_ntk
from ntkbias.types import ApplyFunction, Params, Precision

__all__ = ["loss_weighted_ntk"]

Curved = Literal["mse", "logistic", "cross_entropy"]


def loss_weighted_ntk(
    f: ApplyFunction,
    params: Params,
    loss: Curved,
    *,
    memory_budget: int | None = None,
    precision: Precision = "highest",
) -> EmpiricalNTK:
    """The kernel S(x)^T K(x, x') S(x') of all outputs, `(n, o, m, o)`, with S S^T the loss's Hessian in the outputs.

    `loss` is "mse" (S is one: the NTK itself), "logistic" (o = 1, S^2 = p (1 - p)) or "cross_entropy" (S S^T = diag p -
    p p^T, of rank o - 1). Its eigenvalues on n inputs are those of the Gauss-Newton matrix of the mean loss. Costs what
    the NTK of outputs="all" costs. Other arguments and errors are those of `empirical_ntk`.
    """
    require_choice("loss", loss, Curved)
    if not callable(f):
        raise InputTypeError(f"Expected f to be a function f(params, x), e.g. net.apply; got {type(f).__name__}.")
    return empirical_ntk(Weighted(f, loss), params, outputs="all", memory_budget=memory_budget, precision=precision)


@dataclasses.dataclass(frozen=True)
class Weighted:
    """S^T f, where the S of the loss at f is a constant to derivatives."""

    f: ApplyFunction
    loss: Curved

    def __call__(self, params: Params, x: Array) -> Array:
        outputs = self.f(params, x)
        outputs = outputs.reshape(len(x), -1)
        fixed = jax.lax.stop_gradient(outputs)
        if self.loss == "mse":
            return outputs
        if self.loss == "logistic":
            if outputs.shape[1] != 1:
                raise InputError(f"Expected one output for the logistic loss; got {outputs.shape[1]}.")
            return jnp.sqrt(jax.nn.sigmoid(fixed) * jax.nn.sigmoid(-fixed)) * outputs
        # With p = softmax, S = diag(sqrt p) - p sqrt(p)^T: S S^T = diag(p) - p p^T, as sqrt(p) has norm one.
        p = jax.nn.softmax(fixed, -1)
        return jnp.sqrt(p) * (outputs - jnp.sum(p * outputs, -1, keepdims=True))

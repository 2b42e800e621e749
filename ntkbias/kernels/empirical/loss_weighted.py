"""The empirical NTK weighted by the Hessian of a loss other than the squared error: it governs how residuals decay.

Let H(x) = S S^T be the Hessian of the loss in the outputs of one input. Near that point the residuals r decay by
r' = -H K r / n. The kernel

    K_H(x, x') = S(x)^T K(x, x') S(x'),      the NTK of S^T f with S held fixed,

has the rates of that decay as its eigenvalues. They are those of the Gauss-Newton matrix J^T H J / n (Fort and Ganguli
2019, arXiv 1910.05929). If f is linear in its parameters, the largest one is the sharpness.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=8, depth=1, num_outputs=3)
>>> params, x = net.init(jax.random.key(0), (2,)), jnp.eye(2)
>>> nb.loss_weighted_ntk(net.apply, params, "cross_entropy")(x).shape
(2, 3, 2, 3)
"""

import dataclasses
from typing import Any, ClassVar

import jax
from jaxtyping import Array

from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.empirical.ntk import EmpiricalNTK, empirical_ntk
from ntkbias.losses import Loss, named
from ntkbias.losses.loss import at_least_float32
from ntkbias.parameters import Which, is_complex
from ntkbias.types import ApplyFunction, Params, Precision
from ntkbias.wrappers import Wrapper

__all__ = ["loss_weighted_ntk"]


def loss_weighted_ntk(
    f: ApplyFunction,
    params: Params,
    loss: str | Loss,
    *,
    memory_budget: int | None = None,
    precision: Precision = "highest",
    wrt: Which | None = None,
) -> EmpiricalNTK:
    """The kernel S(x)^T K(x, x') S(x'), `(n, o, m, o)`, where S S^T is the Hessian of the loss in the outputs.

    `loss` is a `losses.Loss` or the name of one: "mse" (S is the identity: the NTK itself), "logistic" (o = 1,
    S^2 = p (1 - p)), "cross_entropy" (S S^T = diag p - p p^T, of rank o - 1). S acts on the last axis of the outputs.
    For outputs `(n, t, c)` the loss is summed over positions, so S has one c x c block per position t; the o = t c rows
    of an input are in the order of its outputs. The eigenvalues of K_H / n on n inputs are those of the loss's
    Gauss-Newton matrix. Costs what the NTK with outputs="all" costs. Other arguments and errors are those of
    `empirical_ntk`. Raises `InputError` on a loss whose Hessian is zero almost everywhere.

    >>> import jax, ntkbias as nb
    >>> net = nb.nets.mlp(width=16, depth=1, num_outputs=3)
    >>> params, x = net.init(jax.random.key(0), (2,)), jax.numpy.ones((4, 2))
    >>> nb.loss_weighted_ntk(net.apply, params, "cross_entropy")(x).shape
    (4, 3, 4, 3)
    """
    if not callable(f):
        raise InputTypeError(f"Expected f to be a function f(params, x), e.g. net.apply; got {type(f).__name__}.")
    return empirical_ntk(
        Weighted(f, _with_hessian(loss)),
        params,
        outputs="all",
        memory_budget=memory_budget,
        precision=precision,
        wrt=wrt,
    )


@dataclasses.dataclass(frozen=True)
class Weighted(Wrapper):
    """S^T f, where S is the root of the loss's Hessian at f, held constant under differentiation."""

    saved_as: ClassVar[str] = "loss_weighted_ntk"

    f: ApplyFunction
    loss: Loss

    def __call__(self, params: Params, x: Array) -> Array:
        outputs = self.f(params, x)
        if is_complex(outputs) and self.loss.name != "mse":
            raise InputError(
                f"Expected f(params, x) to return real numbers for the loss {self.loss.name!r}; got {outputs.dtype}."
            )
        outputs = at_least_float32(outputs)
        outputs = outputs[:, None] if outputs.ndim == 1 else outputs
        return self.loss.root_times(jax.lax.stop_gradient(outputs), outputs)


def _with_hessian(loss: Any) -> Loss:
    """Return the loss. Raises `InputError` unless the root of its Hessian is known."""
    found = named(loss)
    if not isinstance(found, Loss):
        raise InputTypeError(
            f"Expected the name of a loss, or a losses.Loss with the root of its Hessian; got {type(found).__name__}."
        )
    if found.root is None:
        raise InputError(
            f"Expected a loss with a Hessian to weight the kernel by, e.g. 'logistic'; got {found.name!r}, whose "
            "Hessian is zero almost everywhere, or not known."
        )
    return found

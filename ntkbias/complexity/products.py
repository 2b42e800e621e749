"""Products with the Hessian, the Gauss-Newton and the Fisher matrices of a loss, which are never formed.

Let E = mean_i l(u_i, y_i) with outputs u_i = f(params, x_i), J_i the Jacobian of u_i in the parameters, and L_i the
Hessian of l in u_i.

    Hessian             H   the second derivatives of E
    Gauss-Newton        G = mean_i J_i^T L_i J_i                   H without the curvature of f
    Fisher              F = mean_i E_y g_i(y) g_i(y)^T             labels y drawn from the network's own p(y | u_i)
    empirical Fisher    F = mean_i g_i g_i^T                       with the given targets

g_i is the gradient of the loss of example i. If l is the negative logarithm of p(y | u) and L_i does not depend on y,
as for the squared error, the logistic loss and the cross entropy, then F = G (Martens 2014, arXiv 1412.1193). The
empirical Fisher matrix is another matrix: it vanishes where the network fits the data (Kunstner, Balles and Hennig
2019, arXiv 1905.12558).

>>> import jax.numpy as jnp
>>> from ntkbias.complexity.problem import Problem
>>> f, w, x, y = lambda w, x: x @ w, jnp.zeros((2, 1)), jnp.diag(jnp.array([2.0, 1.0])), jnp.zeros(2)
>>> CurvatureOperator(Problem(f, w, x, y, "mse", 1), "fisher").matrix().tolist()
[[2.0, 0.0], [0.0, 0.5]]
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ntkbias.checks import are_known
from ntkbias.compilation import Function, compiled
from ntkbias.complexity.problem import Problem
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import KernelOperator, loss_weighted_ntk
from ntkbias.losses import Loss
from ntkbias.types import ApplyFunction, Params

__all__ = ["Curvature", "CurvatureOperator"]

Curvature = Literal["hessian", "gauss-newton", "fisher", "empirical-fisher"]


class CurvatureOperator(KernelOperator):
    """One of the matrices as an operator over the flattened parameters `(p, p)`; made by `hessian_operator`.

    It counts as the kernel of a single example with p outputs, so what `top_modes` and `spectral_density` find are the
    eigenvalues of the matrix itself, not divided by a number of examples.
    """

    meaning_of_rows = "Rows are parameters, in the order of jax.flatten_util.ravel_pytree(params)."

    def __init__(self, problem: Problem, matrix: Curvature) -> None:
        flat, _ = ravel_pytree(problem.params)
        super().__init__(1, flat.size, flat.dtype)
        self.problem, self.kind = problem, matrix
        loss = problem.loss.f
        has_root = isinstance(loss, Loss) and loss.root is not None
        if matrix == "fisher" and not has_root:
            raise InputTypeError(
                "Expected a loss whose Hessian is the Fisher matrix of its outputs: 'mse', 'logistic', 'cross_entropy' "
                f"or a losses.Loss with a root; got {getattr(loss, '__name__', loss)!r}. Use "
                "matrix='empirical-fisher', which any loss has."
            )
        self.definite = matrix in ("fisher", "empirical-fisher") or (matrix == "gauss-newton" and has_root)

    def product(self, vectors: Float[Array, "p k"]) -> Float[Array, "p k"]:
        """The matrix times each vector in turn, so that memory holds one batch for one vector."""
        return jnp.stack([self._times(vector) for vector in jnp.asarray(vectors).T], -1)

    def _times(self, vector: Float[Array, " p"]) -> Float[Array, " p"]:
        problem, add = self.problem, _ADD[self.kind]
        total = jnp.zeros_like(vector)
        for x, y, share in problem.parts():
            total = add(problem.f, problem.loss, problem.params, vector, total, x, y, share)
        if are_known(total) and not bool(jnp.all(jnp.isfinite(total))):
            raise InputError(
                "Expected finite products with the Hessian; got NaN or infinity. Check the scale of inputs and "
                "parameters, and that the loss is twice differentiable there."
            )
        return total

    def conjugated(self, scales: Float[np.ndarray, " one"]) -> KernelOperator:
        """The matrix times the square of the one number: there is one example."""
        factor = float(scales[0]) ** 2
        return self if factor == 1 else factor * self

    def diagonal(self) -> np.ndarray:
        """The diagonal. Costs a product per parameter."""
        return np.concatenate([self._entries(start) for start in range(0, self.shape[0], COLUMNS)])

    def _entries(self, start: int) -> np.ndarray:
        """Some entries of the diagonal, from a product with as many unit vectors."""
        rows = np.arange(start, min(start + COLUMNS, self.shape[0]))
        units = np.zeros((self.shape[0], len(rows)), self.dtype)
        units[rows, np.arange(len(rows))] = 1
        return np.asarray(self.product(jnp.asarray(units)))[rows, np.arange(len(rows))]

    def trace(self) -> float:
        """The trace. Without negative eigenvalues it costs per-example gradients, else a product per parameter."""
        problem = self.problem
        if not self.definite:
            return super().trace()
        if self.kind == "empirical-fisher":
            squares = [_squared_norms(problem.f, problem.loss, problem.params, x, y) for x, y, _ in problem.parts()]
            return float(sum(np.sum(np.asarray(part), dtype=np.float64) for part in squares)) / len(problem.x)
        loss: Any = problem.loss.f  # a Loss, as the matrix is definite
        weighted = loss_weighted_ntk(problem.f, problem.params, loss)
        return weighted.operator(problem.x).trace() / len(problem.x)


COLUMNS = 64  # of the identity at a time, for the diagonal


@compiled
def _add_hessian(
    f: ApplyFunction, loss: Function, params: Params, vector: Array, total: Array, x: Array, y: Array, share: Array
) -> Array:
    direction = ravel_pytree(params)[1](vector)
    with jax.default_matmul_precision("highest"):
        product = jax.jvp(jax.grad(lambda p: loss(f(p, x), y)), (params,), (direction,))[1]
    return total + share.astype(total.dtype) * ravel_pytree(product)[0]


@compiled
def _add_gauss_newton(
    f: ApplyFunction, loss: Function, params: Params, vector: Array, total: Array, x: Array, y: Array, share: Array
) -> Array:
    def curved(outputs: Array, tangent: Array) -> Array:
        return jax.jvp(jax.grad(lambda u: loss(u, y)), (outputs,), (tangent,))[1]

    return total + share.astype(total.dtype) * _through_outputs(f, params, vector, x, curved)


@compiled
def _add_fisher(
    f: ApplyFunction, loss: Any, params: Params, vector: Array, total: Array, x: Array, _: Array, share: Array
) -> Array:
    def curved(outputs: Array, tangent: Array) -> Array:  # S S^T, which needs no targets
        u = outputs[:, None] if outputs.ndim == 1 else outputs
        rooted, back = jax.vjp(lambda v: loss.f.root_times(u, v), tangent.reshape(u.shape))
        return back(rooted)[0].reshape(outputs.shape) / len(x)

    return total + share.astype(total.dtype) * _through_outputs(f, params, vector, x, curved)


@compiled
def _add_empirical_fisher(
    f: ApplyFunction, loss: Function, params: Params, vector: Array, total: Array, x: Array, y: Array, share: Array
) -> Array:
    def curved(outputs: Array, tangent: Array) -> Array:  # r r^T of each example
        residuals = jax.vmap(jax.grad(lambda u, y: loss(u[None], y[None])))(outputs, y)
        inner = jnp.sum((residuals * tangent).reshape(len(x), -1), 1) / len(x)
        return residuals * inner.reshape(-1, *(1,) * (residuals.ndim - 1))

    return total + share.astype(total.dtype) * _through_outputs(f, params, vector, x, curved)


def _through_outputs(
    f: ApplyFunction, params: Params, vector: Array, x: Array, curved: Callable[[Array, Array], Array]
) -> Array:
    """J^T M J v, where `curved` multiplies a tangent of the outputs by M."""
    direction = ravel_pytree(params)[1](vector)
    with jax.default_matmul_precision("highest"):
        outputs, pull = jax.vjp(lambda p: f(p, x), params)
        tangent = jax.jvp(lambda p: f(p, x), (params,), (direction,))[1]
        return ravel_pytree(pull(curved(outputs, tangent).astype(outputs.dtype))[0])[0]


@compiled
def _squared_norms(f: ApplyFunction, loss: Function, params: Params, x: Array, y: Array) -> Array:
    def of_one(x: Array, y: Array) -> Array:
        gradient = jax.grad(lambda p: loss(f(p, x[None]), y[None]))(params)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))  # type: ignore[return-value]

    with jax.default_matmul_precision("highest"):
        return jax.vmap(of_one)(x, y)


_ADD = {
    "hessian": _add_hessian,
    "gauss-newton": _add_gauss_newton,
    "fisher": _add_fisher,
    "empirical-fisher": _add_empirical_fisher,
}

"""Curvature of the loss, from products with its Hessian; the matrix is never formed.

    sharpness           the largest eigenvalue of the Hessian H of the loss
    Gauss-Newton        G = mean_i J_i^T L_i J_i: H without the curvature of f
    shift-curvature     1/2 delta^T H_test delta          (Bradley, Gomez-Uribe and Vuyyuru 2021, arXiv 2108.09507)

J_i is the Jacobian of f at input i, and L_i the Hessian of the loss in the outputs. For the squared error, L_i is the
identity. Then G = J^T J / n, and its nonzero eigenvalues are those of K / n = J J^T / n, where K is the NTK with
outputs="all". Gradient descent is stable if the learning rate is below 2 / sharpness; training tends to raise the
sharpness until it reaches that limit (Cohen et al. 2021, arXiv 2103.00065).

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.complexity import sharpness
>>> net = nb.nets.mlp(width=16, depth=1)
>>> params, x = net.init(jax.random.key(0), (2,)), jax.random.normal(jax.random.key(1), (8, 2))
>>> kernel = nb.empirical_ntk(net.apply, params, outputs="all")
>>> top = nb.spectrum(kernel, x).eigenvalues[0]
>>> bool(jnp.isclose(sharpness(net.apply, params, x, net.apply(params, x)), top, rtol=1e-3))    # where f = y, H = G
True
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import key_or_default, require_choice, require_finite, require_positive, require_wide
from ntkbias.compilation import compiled
from ntkbias.complexity.problem import Problem
from ntkbias.errors import InputError
from ntkbias.losses import LossFunction
from ntkbias.parameters import Which
from ntkbias.progress import progress
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["Curvature", "hessian_eigenvalues", "hessian_operator", "sharpness", "shift_curvature"]

Curvature = Literal["hessian", "gauss-newton"]
DENSE = 64  # with at most so many parameters, the matrix itself is decomposed


def hessian_operator(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    *,
    matrix: Curvature = "hessian",
    loss: str | LossFunction = "mse",
    batch_size: int = 1_024,
    wrt: Which | None = None,
) -> scipy.sparse.linalg.LinearOperator:
    """The Hessian of the loss, or its Gauss-Newton part, as a SciPy operator over the flattened parameters `(p, p)`.

    Parameters are in the order of `jax.flatten_util.ravel_pytree`. The arguments are those of `loss_gradient`. Each
    product costs a forward and a backward pass over x, both with their derivatives, and the memory of one batch.
    `nb.kernels.as_operator` accepts the result, as it accepts every SciPy operator; `nb.spectral_density` accepts the
    Gauss-Newton matrix.

    Raises `InputError` on whatever `loss_gradient` refuses. The Gauss-Newton matrix needs the JVP of `f`: if `f` has a
    `custom_vjp`, its products raise JAX's `TypeError`. Products with the Hessian differentiate that rule instead.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, w, x, y = lambda w, x: x @ w, jnp.zeros((2, 1)), jnp.diag(jnp.array([2.0, 1.0])), jnp.zeros(2)
    >>> (nb.complexity.hessian_operator(f, w, x, y) @ jnp.ones(2)).tolist()
    [2.0, 0.5]
    """
    problem = Problem(f, params, x, y, loss, batch_size, wrt)
    require_choice("matrix", matrix, Curvature)
    return _operator(problem, matrix, lambda: None)


def hessian_eigenvalues(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    num_eigenvalues: int = 1,
    *,
    matrix: Curvature = "hessian",
    loss: str | LossFunction = "mse",
    batch_size: int = 1_024,
    tolerance: float = 1e-3,
    key: PRNGKeyArray | None = None,
    wrt: Which | None = None,
) -> Float[Array, " k"]:
    """The largest eigenvalues of the Hessian of the loss, or of its Gauss-Newton part, in descending order.

    Largest means largest by value: negative eigenvalues of the Hessian may have larger magnitudes. Lanczos's method
    (ARPACK) starts from a random vector, drawn with `key` (default: a fixed key), and stops when the residual is below
    `tolerance` times the eigenvalue. The relative error of the eigenvalue is then about the square of `tolerance`.
    Lanczos may miss copies of repeated eigenvalues. With up to 64 parameters, the matrix itself is decomposed.

    Costs some 10 to 100 products with `hessian_operator`; a bar counts them. Raises `InputError` if there are fewer
    parameters than eigenvalues asked for, if a product holds NaN, or if Lanczos does not converge.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, w, x, y = lambda w, x: x @ w, jnp.zeros((2, 1)), jnp.diag(jnp.array([2.0, 1.0])), jnp.zeros(2)
    >>> nb.complexity.hessian_eigenvalues(f, w, x, y, 2).round(3).tolist()  # of x^T x / n
    [2.0, 0.5]
    """
    problem = Problem(f, params, x, y, loss, batch_size, wrt)
    require_choice("matrix", matrix, Curvature)
    require_positive("num_eigenvalues", num_eigenvalues)
    if not isinstance(tolerance, float | int) or not 0 < tolerance < 1:
        raise InputError(f"Expected a tolerance between 0 and 1, relative to each eigenvalue; got {tolerance!r}.")
    start = key_or_default(key)
    with progress(None, f"{matrix} products") as bar:
        operator = _operator(problem, matrix, bar.update)
        values = _largest(operator, num_eigenvalues, float(tolerance), start)
    return jnp.asarray(values, jnp.result_type(float))


def sharpness(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    *,
    matrix: Curvature = "hessian",
    loss: str | LossFunction = "mse",
    batch_size: int = 1_024,
    tolerance: float = 1e-3,
    key: PRNGKeyArray | None = None,
    wrt: Which | None = None,
) -> Float[Array, ""]:
    """The largest eigenvalue of the Hessian of the loss. Arguments, cost and errors: see `hessian_eigenvalues`.

    Gradient descent with a learning rate above 2 / sharpness leaves the minimum.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, w, x, y = lambda w, x: x @ w, jnp.zeros((2, 1)), jnp.diag(jnp.array([2.0, 1.0])), jnp.zeros(2)
    >>> round(float(nb.complexity.sharpness(f, w, x, y)), 3)
    2.0
    """
    return hessian_eigenvalues(
        f, params, x, y, matrix=matrix, loss=loss, batch_size=batch_size, tolerance=tolerance, key=key, wrt=wrt
    )[0]


def shift_curvature(
    f: ApplyFunction,
    params: Params,
    shift: Params,
    x_test: Inputs,
    y_test: ArrayLike,
    *,
    loss: str | LossFunction = "mse",
    batch_size: int = 1_024,
) -> Float[Array, ""]:
    """1/2 shift^T H_test shift, with the Hessian of the test loss at `params`.

    `shift` is a pytree like `params`. Let `params` be a minimum of the test loss, and `shift` the step from there to
    the trained parameters: the result is then the rise of the test loss along that step. This is exact for a linear f
    with the squared error; otherwise the error is of third order in the shift. Costs one product with the Hessian.

    Raises `InputError` if `shift` differs from `params` in structure or shapes, and on whatever `loss_gradient`
    refuses.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, w, x, y = lambda w, x: x @ w, jnp.zeros((2, 1)), jnp.diag(jnp.array([2.0, 1.0])), jnp.zeros(2)
    >>> float(nb.complexity.shift_curvature(f, w, jnp.ones((2, 1)), x, y))
    1.25
    """
    problem = Problem(f, params, x_test, y_test, loss, batch_size)
    flat, _ = ravel_pytree(problem.params)
    wanted, given = str(jax.tree.structure(problem.params)), str(jax.tree.structure(shift))
    if wanted != given:
        raise InputError(f"Expected shift to be a pytree like params, {wanted}; got {given}.")
    arrays = [require_wide(leaf, "shift") for leaf in jax.tree.leaves(shift)]
    shapes = [leaf.shape for leaf in jax.tree.leaves(problem.params)]
    if [array.shape for array in arrays] != shapes:
        raise InputError(f"Expected shift to have the shapes of params, {shapes}; got {[a.shape for a in arrays]}.")
    direction = jnp.concatenate([array.ravel() for array in arrays]).astype(flat.dtype)
    require_finite(direction, "shift")
    return direction @ _product(problem, "hessian", direction) / 2


def _product(problem: Problem, matrix: Curvature, vector: Float[Array, " p"]) -> Float[Array, " p"]:
    """The product of the matrix with a vector of flattened parameters, summed over batches."""
    total = jnp.zeros_like(vector)
    plus = _plus_hessian_times if matrix == "hessian" else _plus_gauss_newton_times
    for x, y, share in problem.parts():
        total = plus(problem.f, problem.loss, problem.params, vector, total, x, y, share)
    return total


@compiled
def _plus_hessian_times(
    f: ApplyFunction, loss: LossFunction, params: Params, vector: Array, total: Array, x: Array, y: Array, share: Array
) -> Array:
    direction = ravel_pytree(params)[1](vector)
    with jax.default_matmul_precision("highest"):
        product = jax.jvp(jax.grad(lambda p: loss(f(p, x), y)), (params,), (direction,))[1]
    return total + share.astype(total.dtype) * ravel_pytree(product)[0]


@compiled
def _plus_gauss_newton_times(
    f: ApplyFunction, loss: LossFunction, params: Params, vector: Array, total: Array, x: Array, y: Array, share: Array
) -> Array:
    direction = ravel_pytree(params)[1](vector)
    with jax.default_matmul_precision("highest"):
        outputs, pull = jax.vjp(lambda p: f(p, x), params)
        tangent = jax.jvp(lambda p: f(p, x), (params,), (direction,))[1]
        curved = jax.jvp(jax.grad(lambda u: loss(u, y)), (outputs,), (tangent,))[1]
        product = pull(curved)[0]
    return total + share.astype(total.dtype) * ravel_pytree(product)[0]


def _operator(problem: Problem, matrix: Curvature, report: Callable[[], Any]) -> scipy.sparse.linalg.LinearOperator:
    flat, _ = ravel_pytree(problem.params)

    def times(vector: np.ndarray) -> np.ndarray:
        product = np.asarray(_product(problem, matrix, jnp.asarray(vector.ravel(), flat.dtype)))
        if not np.isfinite(product).all():
            raise InputError(
                "Expected finite products with the Hessian; got NaN or infinity. Check the scale of inputs and "
                "parameters, and that the loss is twice differentiable there."
            )
        report()
        return product

    return scipy.sparse.linalg.LinearOperator((flat.size, flat.size), matvec=times, rmatvec=times, dtype=flat.dtype)


def _largest(
    operator: scipy.sparse.linalg.LinearOperator, count: int, tolerance: float, key: PRNGKeyArray
) -> Float[np.ndarray, " k"]:
    size = operator.shape[0]
    if count > size:
        raise InputError(f"Expected num_eigenvalues to be at most the number of parameters, {size}; got {count}.")
    if size <= max(DENSE, 2 * count):
        dense = operator.matmat(np.eye(size, dtype=operator.dtype)).astype(float)
        return np.linalg.eigvalsh((dense + dense.T) / 2)[::-1][:count]
    start = np.asarray(jax.random.normal(key, (size,)), operator.dtype)
    try:
        values = scipy.sparse.linalg.eigsh(
            operator, count, which="LA", v0=start, tol=tolerance, return_eigenvectors=False
        )
    except scipy.sparse.linalg.ArpackNoConvergence as error:
        raise InputError(
            f"Expected Lanczos's method to converge to {count} eigenvalues; got {len(error.eigenvalues)} of them. "
            "Raise tolerance, or ask for fewer."
        ) from None
    return np.sort(values)[::-1]

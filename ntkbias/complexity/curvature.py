"""Curvature of the loss, from products with its Hessian; the matrix is never formed.

    sharpness           the largest eigenvalue of the Hessian H of the loss
    Gauss-Newton        G = mean_i J_i^T L_i J_i: H without the curvature of f
    shift-curvature     1/2 delta^T H_test delta          (Bradley, Gomez-Uribe and Vuyyuru 2021, arXiv 2108.09507)

J_i is the Jacobian of f at input i, and L_i the Hessian of the loss in the outputs. The nonzero eigenvalues of G are
those of K_H / n, where K_H is the `loss_weighted_ntk`. For the squared error, L_i is the identity and K_H the NTK with
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

import warnings
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import key_or_default, require_choice, require_finite, require_positive, require_wide
from ntkbias.complexity.problem import Problem
from ntkbias.complexity.products import Curvature, CurvatureOperator
from ntkbias.eigen import top_modes
from ntkbias.errors import InputError
from ntkbias.kernels import KernelOperator
from ntkbias.kernels.operators import Products
from ntkbias.losses import LossFunction
from ntkbias.parameters import Which
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["hessian_eigenvalues", "hessian_operator", "sharpness", "shift_curvature"]

End = Literal["largest", "smallest"]


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
) -> KernelOperator:
    """The Hessian of the loss, or a matrix like it, as an operator over the flattened parameters `(p, p)`.

    `matrix` is

        "hessian"            the second derivatives of the loss
        "gauss-newton"       mean_i J_i^T L_i J_i, with the Hessian L_i of the loss in the outputs of input i
        "fisher"             mean_i E_y g_i(y) g_i(y)^T, with labels y drawn from the network's own distribution
        "empirical-fisher"   mean_i g_i g_i^T, with the gradients g_i of each example's loss at its own target

    The Fisher matrix needs the distribution of labels of which the loss is the negative logarithm. The function takes
    "mse" (a normal distribution of variance one), "logistic", "cross_entropy", and each `losses.Loss` with a `root`. It
    is then equal to the Gauss-Newton matrix, but is computed without the targets (Martens 2014, arXiv 1412.1193).

    `operator @ v` multiplies a vector `(p,)` or a block `(p, k)`. Parameters are in the order of
    `jax.flatten_util.ravel_pytree`; `wrt` restricts them, for instance to one layer, and they are then in the order of
    their paths. `nb.top_modes` and `nb.spectral_density` accept the operator, and find the eigenvalues of the matrix
    itself. The Hessian may have negative eigenvalues: `top_modes(operator, k)` has the largest eigenvalues,
    `top_modes(-operator, k)` the negatives of the smallest. `to_scipy()` is the operator for SciPy.

    The other arguments are those of `loss_gradient`. Each product costs a forward and a backward pass over x per
    vector, both with their derivatives, and the memory of one batch. Raises `InputError` on whatever `loss_gradient`
    refuses, `InputTypeError` if the loss has no Fisher matrix, and products raise an `InputError` if they are not
    finite. All matrices but the Hessian need the JVP of `f`: if `f` has a `custom_vjp`, their products raise JAX's
    `TypeError`. Products with the Hessian differentiate that rule instead.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, w, x, y = lambda w, x: x @ w, jnp.zeros((2, 1)), jnp.diag(jnp.array([2.0, 1.0])), jnp.zeros(2)
    >>> hessian = nb.complexity.hessian_operator(f, w, x, y)
    >>> (hessian @ jnp.ones(2)).tolist(), nb.top_modes(hessian, 1).eigenvalues.tolist()
    ([2.0, 0.5], [2.0])
    """
    problem = Problem(f, params, x, y, loss, batch_size, wrt)
    require_choice("matrix", matrix, Curvature)
    return CurvatureOperator(problem, matrix)


def hessian_eigenvalues(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    num_eigenvalues: int = 1,
    *,
    end: End = "largest",
    matrix: Curvature = "hessian",
    loss: str | LossFunction = "mse",
    batch_size: int = 1_024,
    tolerance: float = 1e-3,
    key: PRNGKeyArray | None = None,
    wrt: Which | None = None,
) -> Float[Array, " k"]:
    """The largest or the smallest eigenvalues of the Hessian of the loss, or of another `matrix`, from that end on.

    `matrix` is one of those of `hessian_operator`. Largest and smallest are by value: the Hessian may have negative
    eigenvalues, of larger magnitude than the positive ones. The search is that of `nb.top_modes`, which also finds
    repeated eigenvalues; call it with `hessian_operator` for eigenvectors. It starts from random vectors, drawn with
    `key` (default: a fixed key), and stops when the residual is below `tolerance` times the eigenvalue, or for the
    smallest eigenvalues, times their distance to the largest one. The error of the eigenvalue is at most `tolerance`
    times the same number, and usually about its square times that.

    Costs some 30 to 100 products with `hessian_operator`, and several times as many for the smallest eigenvalues. If
    there are at most some 20 parameters per eigenvalue asked for, the matrix itself is decomposed. Raises `InputError`
    if there are fewer parameters than eigenvalues asked for, if a product holds NaN, or if the search does not
    converge.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, w, x, y = lambda w, x: x @ w, jnp.zeros((2, 1)), jnp.diag(jnp.array([2.0, 1.0])), jnp.zeros(2)
    >>> nb.complexity.hessian_eigenvalues(f, w, x, y, 2).round(3).tolist()  # of x^T x / n
    [2.0, 0.5]
    """
    problem = Problem(f, params, x, y, loss, batch_size, wrt)
    require_choice("end", end, End)
    require_choice("matrix", matrix, Curvature)
    require_positive("num_eigenvalues", num_eigenvalues)
    if not isinstance(tolerance, float | int) or not 0 < tolerance < 1:
        raise InputError(f"Expected a tolerance between 0 and 1, relative to each eigenvalue; got {tolerance!r}.")
    start = key_or_default(key)
    return _extreme(CurvatureOperator(problem, matrix), num_eigenvalues, end, float(tolerance), start)


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
    return direction @ CurvatureOperator(problem, "hessian").product(direction[:, None])[:, 0] / 2


def _extreme(
    operator: CurvatureOperator, count: int, end: End, tolerance: float, key: PRNGKeyArray
) -> Float[Array, " k"]:
    """The first eigenvalues from one end."""
    size = operator.shape[0]
    if count > size:
        raise InputError(f"Expected num_eigenvalues to be at most the number of parameters, {size}; got {count}.")
    operator.definite = False  # so that the search needs no trace
    block_size = count + (count > 1)  # of one eigenvalue, copies do not matter

    def largest(of: KernelOperator, count: int) -> Array:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Expected [0-9]+ modes to converge")
            modes = top_modes(of, count, tolerance=tolerance, block_size=block_size, key=key)
        if not bool(jnp.all(modes.converged | (modes.method == "dense"))):
            raise InputError(
                f"Expected the search to converge to {count} eigenvalues; got {int(jnp.sum(modes.converged))} of them. "
                "Raise tolerance, or ask for fewer."
            )
        return modes.eigenvalues

    if end == "largest":
        return largest(operator, count)
    top = largest(operator, 1)[0]  # eigenvalues near zero have no relative residual; top minus them has

    def below_top(vectors: np.ndarray) -> np.ndarray:
        return np.asarray(top * vectors - operator.product(jnp.asarray(vectors)))

    distances = Products(1, size, operator.dtype, below_top, operator.diagonal)
    distances.definite = False
    return top - largest(distances, count)

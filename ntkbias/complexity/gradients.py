"""Measures from gradients: geometric complexity (in the inputs) and gradient norms (in the parameters).

    geometric complexity    mean_i ||d f(x_i) / d x||_F^2        (Dherin et al. 2022, arXiv 2209.13083)
    modified loss           E + (h / 4) ||grad E||^2             (Barrett and Dherin 2020, arXiv 2009.11162)

Gradient descent with learning rate h follows the gradient flow of the loss E to order h, and the gradient flow of the
modified loss to order h^2. The second term of the modified loss is the implicit gradient regularization: it favors
flat regions.

>>> import jax.numpy as jnp
>>> from ntkbias.complexity import geometric_complexity, gradient_norm, modified_loss
>>> f, w, x, y = lambda w, x: x @ w, jnp.array([[3.0], [4.0]]), jnp.eye(2), jnp.zeros(2)
>>> float(geometric_complexity(f, w, x)), float(gradient_norm(f, w, x, y))
(25.0, 2.5)
>>> float(modified_loss(f, w, x, y, learning_rate=0.1))         # 25 / 4 + 0.1 / 4 * 2.5^2
6.40625
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import require_scale
from ntkbias.compilation import compiled
from ntkbias.complexity.problem import Network, Problem
from ntkbias.losses import LossFunction
from ntkbias.parameters import Which, with_complex_params
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = [
    "example_gradient_norms",
    "geometric_complexity",
    "gradient_norm",
    "implicit_gradient_regularization",
    "loss_gradient",
    "modified_loss",
]


def geometric_complexity(f: ApplyFunction, params: Params, x: Inputs, *, batch_size: int = 256) -> Float[Array, ""]:
    """The mean over inputs x `(n, ...)` of ||d f(x) / d x||_F^2.

    The unit is (unit of the outputs / unit of the inputs)^2. For a linear f(x) = x W it is ||W||_F^2, whatever the
    data. The outputs are taken as `f` returns them; in the paper they are logits. The result is exact; at the kink of a
    ReLU, the derivative is the one that JAX defines. Costs one forward and one backward pass per output, and the
    memory of `batch_size` inputs.

    Raises `InputError` if `f` does not accept the inputs, or if it mixes examples.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> float(nb.complexity.geometric_complexity(lambda w, x: x @ w, jnp.array([[3.0], [4.0]]), jnp.eye(2)))
    25.0
    """
    network = Network(f, params, x, batch_size)
    network.require_coordinates()
    num_outputs = math.prod(network.outputs.shape[1:])
    inputs = network.x.astype(jnp.result_type(network.x.dtype, float)) if network.x.dtype.kind in "iub" else network.x
    total: Any = 0.0
    for rows in network.batches():
        for output in range(num_outputs):  # a loop: on CPUs, a scan over gradients of convolutions is slow
            total = total + _squared_slopes(network.f, network.params, inputs[rows], output)
    return total / len(network.x)


@compiled
def _squared_slopes(f: ApplyFunction, params: Params, x: Array, output: Any) -> Array:
    """The sum over a batch of ||d f_output / d x||^2. Examples do not mix, so one backward pass gives all of them."""

    def chosen(x: Array) -> Array:
        return jnp.sum(f(params, x).reshape(len(x), -1)[:, output])

    with jax.default_matmul_precision("highest"):
        return jnp.sum(jax.grad(chosen)(x) ** 2)


def loss_gradient(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    *,
    loss: str | LossFunction = "mse",
    batch_size: int = 1_024,
    wrt: Which | None = None,
) -> Params:
    """The gradient of the loss over all inputs x `(n, ...)` and targets y, as a pytree like `params`.

    `loss` is "mse" (1/2 the mean over inputs of the sum over outputs of squared errors), "logistic", "cross_entropy",
    or a function (outputs, targets) -> scalar that averages over inputs. The gradient of a complex parameter is
    dE/dRe + i dE/dIm, the direction in which the loss grows; JAX's own gradient is the complex conjugate of that.

    Costs a forward and a backward pass over x, and the memory of one batch. Raises `InputError` if the loss does not
    accept the targets.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, w, x, y = lambda w, x: x @ w, jnp.array([[3.0], [4.0]]), jnp.eye(2), jnp.zeros(2)
    >>> nb.complexity.loss_gradient(f, w, x, y).tolist()
    [[1.5], [2.0]]
    """
    problem = Problem(f, params, x, y, loss, batch_size, wrt)
    return with_complex_params(problem.gradient(problem.params))


def gradient_norm(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    *,
    loss: str | LossFunction = "mse",
    batch_size: int = 1_024,
    wrt: Which | None = None,
) -> Float[Array, ""]:
    """||grad E||, the Euclidean norm of the gradient over all parameters. Arguments: see `loss_gradient`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, w, x, y = lambda w, x: x @ w, jnp.array([[3.0], [4.0]]), jnp.eye(2), jnp.zeros(2)
    >>> float(nb.complexity.gradient_norm(f, w, x, y))
    2.5
    """
    problem = Problem(f, params, x, y, loss, batch_size, wrt)
    return _norm(problem.gradient(problem.params))


def example_gradient_norms(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    *,
    loss: str | LossFunction = "mse",
    batch_size: int = 64,
    wrt: Which | None = None,
) -> Float[Array, " n"]:
    """The gradient norm of each example's loss, `(n,)`. Their spread shows how much minibatch gradients vary.

    The arguments are those of `loss_gradient`. Holds `batch_size` gradients in memory at a time.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, w, x, y = lambda w, x: x @ w, jnp.array([[3.0], [4.0]]), jnp.eye(2), jnp.zeros(2)
    >>> nb.complexity.example_gradient_norms(f, w, x, y).tolist()
    [3.0, 4.0]
    """
    problem = Problem(f, params, x, y, loss, batch_size, wrt)
    parts = [_example_norms(problem.f, problem.loss, problem.params, xs, ys) for xs, ys, _ in problem.parts()]
    return jnp.concatenate(parts)


@compiled
def _example_norms(f: ApplyFunction, loss: LossFunction, params: Params, x: Array, y: Array) -> Array:
    def of_one(x: Array, y: Array) -> Array:
        return _norm(jax.grad(lambda p: loss(f(p, x[None]), y[None]))(params))

    with jax.default_matmul_precision("highest"):
        return jax.vmap(of_one)(x, y)


def implicit_gradient_regularization(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    learning_rate: ArrayLike,
    *,
    loss: str | LossFunction = "mse",
    batch_size: int = 1_024,
) -> Float[Array, ""]:
    """(h / 4) ||grad E||^2, the term that full-batch gradient descent with learning rate h implicitly adds to the loss.

    The other arguments are those of `loss_gradient`. The backward error analysis holds if h times the sharpness is well
    below 2.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, w, x, y = lambda w, x: x @ w, jnp.array([[3.0], [4.0]]), jnp.eye(2), jnp.zeros(2)
    >>> round(float(nb.complexity.implicit_gradient_regularization(f, w, x, y, learning_rate=0.4)), 3)  # 0.1 * 2.5^2
    0.625
    """
    require_scale("learning_rate", learning_rate)
    return jnp.asarray(learning_rate) / 4 * gradient_norm(f, params, x, y, loss=loss, batch_size=batch_size) ** 2


def modified_loss(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    learning_rate: ArrayLike,
    *,
    loss: str | LossFunction = "mse",
    batch_size: int = 1_024,
) -> Float[Array, ""]:
    """E + (h / 4) ||grad E||^2: full-batch gradient descent follows the gradient flow of this loss to order h^2.

    JAX can differentiate the result in `params`. The other arguments are those of `loss_gradient`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, w, x, y = lambda w, x: x @ w, jnp.array([[3.0], [4.0]]), jnp.eye(2), jnp.zeros(2)
    >>> round(float(nb.complexity.modified_loss(f, w, x, y, learning_rate=0.4)), 3)
    6.875
    """
    require_scale("learning_rate", learning_rate)
    problem = Problem(f, params, x, y, loss, batch_size)
    squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(problem.gradient(problem.params)))
    return problem.value(problem.params) + learning_rate / 4 * squares


def _norm(tree: Params) -> Array:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))

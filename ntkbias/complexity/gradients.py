"""Measures by gradients: geometric complexity over the inputs, gradient norms over the parameters.

    geometric complexity    mean_i ||d f(x_i) / d x||_F^2        (Dherin et al. 2022, arXiv 2209.13083)
    modified loss           E + (h / 4) ||grad E||^2             (Barrett and Dherin 2020, arXiv 2009.11162)

Gradient descent with learning rate h follows the gradient flow of the loss E to order h, and that of the modified loss
to order h^2: its second term is the implicit gradient regularization, a preference for flat places.

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
    """The mean over inputs x `(n, ...)` of the squared Frobenius norm of the outputs' derivative by the input.

    In squared outputs a squared unit of the inputs: ||W||_F^2 for a linear f(x) = x W, whatever the data. It is that of
    the outputs as `f` returns them (the paper's: logits). Exact; a derivative of ReLU at its kink is JAX's. Costs a
    forward and a backward pass an output; memory is that of `batch_size` inputs.

    Raises `InputError` on inputs that `f` does not take, and on an `f` that mixes examples.
    """
    network = Network(f, params, x, batch_size)
    network.require_coordinates()
    num_outputs = math.prod(network.outputs.shape[1:])
    inputs = network.x.astype(jnp.result_type(network.x.dtype, float)) if network.x.dtype.kind in "iub" else network.x
    total: Any = 0.0
    for rows in network.batches():
        for output in range(num_outputs):  # a loop, since on a CPU a scan over gradients of convolutions is slow
            total = total + _squared_slopes(network.f, network.params, inputs[rows], output)
    return total / len(network.x)


@compiled
def _squared_slopes(f: ApplyFunction, params: Params, x: Array, output: Any) -> Array:
    """The sum over a batch of ||d f_output / d x||^2; examples do not mix, so one backward pass has all of them."""

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
    """The gradient of the loss over all of x `(n, ...)` and targets y, a pytree like `params`.

    `loss` is "mse" (1/2 the mean over inputs of the sum over outputs of squares), "logistic", "cross_entropy", or a
    function (outputs, targets) -> scalar that is a mean over inputs. That of a complex parameter is dE/dRe + i dE/dIm,
    the direction in which the loss grows; JAX's own gradient is its conjugate. Costs a forward and a backward pass
    over x, in the memory of a batch. Raises `InputError` on targets that the loss does not take.
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
    """||grad E||, the Euclidean norm of the loss's gradient over all parameters; arguments of `loss_gradient`."""
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
    """||grad of the loss at x_i|| of each example: their spread is that of minibatch gradients.

    Arguments are those of `loss_gradient`; holds `batch_size` gradients at a time.
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
    """(h / 4) ||grad E||^2, what full-batch gradient descent with learning rate h adds to the loss that it reduces.

    Arguments are those of `loss_gradient`; the backward error analysis holds for h times the sharpness well below 2.
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
    """E + (h / 4) ||grad E||^2: the loss whose gradient flow full-batch gradient descent follows to order h^2.

    A function of `params` that can be differentiated in turn. Arguments are those of `loss_gradient`.
    """
    require_scale("learning_rate", learning_rate)
    problem = Problem(f, params, x, y, loss, batch_size)
    squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(problem.gradient(problem.params)))
    return problem.value(problem.params) + learning_rate / 4 * squares


def _norm(tree: Params) -> Array:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))

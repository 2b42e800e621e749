"""Effective ranks: how many directions a matrix or an embedding really uses.

    effective rank    exp(-sum_i p_i log p_i), p_i the singular values over their sum          (Roy and Vetterli 2007)
    stable rank       ||W||_F^2 / ||W||_2^2

from 1 to the matrix's rank. Two matrices of one network are measured (Huh et al. 2021, arXiv 2103.10427): the
end-to-end matrix of a linear network, by its singular values, and the Gram matrix of an embedding Z `(n, d)`, Z Z^T, by
its own, which are the squares of those of Z. The two ranks are not comparable.

>>> import jax.numpy as jnp
>>> from ntkbias.complexity import effective_rank, embedding_effective_rank, end_to_end_matrix
>>> float(effective_rank(jnp.diag(jnp.array([1.0, 1.0, 0.0])))), float(embedding_effective_rank(jnp.eye(5)))
(2.0, 5.0)
>>> linear = lambda params, x: x @ params[0] @ params[1]
>>> end_to_end_matrix(linear, [jnp.ones((3, 4)), jnp.ones((4, 2))], (3,)).shape
(3, 2)
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import require_finite, require_wide
from ntkbias.complexity.problem import Network
from ntkbias.entropy import entropic_rank
from ntkbias.errors import InputError
from ntkbias.types import ApplyFunction, Params

__all__ = ["effective_rank", "embedding_effective_rank", "end_to_end_matrix", "stable_rank"]


def effective_rank(matrix: ArrayLike) -> Float[Array, ""]:
    """exp of the entropy of the matrix's `(n, d)` singular values over their sum: 1 to min(n, d), of any scale.

    Costs n d min(n, d) operations. `Spectrum.effective_rank` is that of a kernel. Raises `InputError` on a matrix of
    zeros.
    """
    return entropic_rank(_singular_values(matrix, "the matrix"))


def stable_rank(matrix: ArrayLike) -> Float[Array, ""]:
    """||W||_F^2 / ||W||_2^2 of a matrix `(n, d)`: at most its rank, and moved little by small singular values."""
    values = _singular_values(matrix, "the matrix")
    return jnp.sum((values / values[0]) ** 2)  # squares of the ratios are of a scale that is far from any limit


def embedding_effective_rank(features: ArrayLike, *, centered: bool = False) -> Float[Array, ""]:
    """The effective rank of the Gram matrix Z Z^T of features Z `(n, ...)`, of the last hidden layer in the paper.

    `centered` takes the mean over examples off each feature first. Costs n d min(n, d) operations, and not the Gram
    matrix. Raises `InputError` on features that are all zero, or, where centered, all the same.
    """
    array = require_wide(features, "features")
    if array.ndim > 1 and array.size:
        array = array.reshape(len(array), -1)
    if centered and array.ndim == 2 and array.size:
        array = array - jnp.mean(array, 0)
    values = _singular_values(array, "features")
    return entropic_rank((values / values[0]) ** 2)


def end_to_end_matrix(f: ApplyFunction, params: Params, input_shape: tuple[int, ...]) -> Float[Array, "d o"]:
    """The matrix W of a linear network, f(params, x) = x W for inputs flattened to d numbers; a bias is left out.

    Costs a forward pass of d + 1 inputs. Raises `InputError` where `f` is not linear: then there is no such matrix.
    """
    size = math.prod(input_shape)
    probe = np.random.default_rng(0).normal(size=(2, size))
    inputs = jnp.asarray(np.concatenate([np.zeros((1, size)), np.eye(size), probe]))
    network = Network(f, params, inputs.reshape(-1, *input_shape), batch_size=1_024)
    outputs = network.values(network.x).reshape(len(inputs), -1)
    matrix = outputs[1 : 1 + size] - outputs[0]
    error = float(np.linalg.norm(probe @ matrix - (outputs[1 + size :] - outputs[0])))
    scale = np.linalg.norm(probe) * np.linalg.norm(matrix) + np.linalg.norm(outputs[0])
    # Sums in another order differ by a few eps; a network that is not linear differs in the first digits.
    if error > float(jnp.finfo(outputs.dtype).eps) ** 0.5 * scale:
        raise InputError(
            f"Expected a linear network, f(params, x) = x W; got outputs that differ from that by {error:.2g}. Use "
            "embedding_effective_rank of its features."
        )
    return jnp.asarray(matrix)


def _singular_values(matrix: Any, name: str) -> Float[Array, " k"]:
    array = require_wide(matrix, name)
    if array.ndim != 2 or not array.size:
        raise InputError(f"Expected {name} to be a matrix (n, d); got shape {array.shape}.")
    require_finite(array, name)
    values = jnp.linalg.svd(array.astype(jnp.result_type(array.dtype, float)), compute_uv=False)
    try:
        zero = not bool(values[0] > 0)
    except jax.errors.ConcretizationTypeError:
        return values
    if zero:
        raise InputError(f"Expected {name} to differ from zero; got zeros, which have no effective rank.")
    return values

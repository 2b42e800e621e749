"""Effective ranks: how many directions a matrix or an embedding really uses.

    effective rank    exp(-sum_i p_i log p_i), with p_i the singular values over their sum     (Roy and Vetterli 2007)
    stable rank       ||W||_F^2 / ||W||_2^2

Both lie between 1 and the rank of the matrix. Huh et al. (2021, arXiv 2103.10427) apply the effective rank to two
matrices: the end-to-end matrix W of a linear network, and the Gram matrix Z Z^T of an embedding Z `(n, d)`. The
singular values of Z Z^T are the squares of those of Z, so do not compare the rank of an embedding with that of a W.

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
    """The effective rank of a matrix `(n, d)`, from 1 to min(n, d): exp(entropy of the normalized singular values).

    It does not depend on the scale of the matrix. Costs n d min(n, d) operations. For a kernel, use
    `Spectrum.effective_rank`. Raises `InputError` on a matrix of zeros.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> round(float(nb.complexity.effective_rank(jnp.eye(3))), 3)
    3.0
    """
    return entropic_rank(_singular_values(matrix, "the matrix"))


def stable_rank(matrix: ArrayLike) -> Float[Array, ""]:
    """||W||_F^2 / ||W||_2^2 of a matrix `(n, d)`: at most its rank. Small singular values hardly change it.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> float(nb.complexity.stable_rank(jnp.diag(jnp.array([2.0, 1.0]))))
    1.25
    """
    values = _singular_values(matrix, "the matrix")
    return jnp.sum((values / values[0]) ** 2)  # the ratios are at most 1, so their squares cannot overflow


def embedding_effective_rank(features: ArrayLike, *, centered: bool = False) -> Float[Array, ""]:
    """The effective rank of the Gram matrix Z Z^T of features Z `(n, ...)`. In the paper, Z is the last hidden layer.

    With `centered`, the mean over examples is first subtracted from each feature. Costs n d min(n, d) operations; the
    Gram matrix is never formed. Raises `InputError` if all features are zero, or if `centered` and all examples are
    equal.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> round(float(nb.complexity.embedding_effective_rank(jnp.eye(3))), 3)
    3.0
    """
    array = require_wide(features, "features")
    if array.ndim > 1 and array.size:
        array = array.reshape(len(array), -1)
    if centered and array.ndim == 2 and array.size:
        array = array - jnp.mean(array, 0)
    values = _singular_values(array, "features")
    return entropic_rank((values / values[0]) ** 2)


def end_to_end_matrix(f: ApplyFunction, params: Params, input_shape: tuple[int, ...]) -> Float[Array, "d o"]:
    """The matrix W of a linear network f(params, x) = x W + b, for inputs flattened to d numbers. The bias is left out.

    Costs a forward pass of d + 3 inputs. Raises `InputError` if `f` is not linear: it then has no such matrix.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> params = [jnp.ones((2, 3)), jnp.ones((3, 1))]
    >>> nb.complexity.end_to_end_matrix(lambda p, x: x @ p[0] @ p[1], params, (2,)).tolist()
    [[3.0], [3.0]]
    """
    size = math.prod(input_shape)
    probe = np.random.default_rng(0).normal(size=(2, size))
    inputs = jnp.asarray(np.concatenate([np.zeros((1, size)), np.eye(size), probe]))
    network = Network(f, params, inputs.reshape(-1, *input_shape), batch_size=1_024)
    outputs = network.values(network.x).reshape(len(inputs), -1)
    matrix = outputs[1 : 1 + size] - outputs[0]
    error = float(np.linalg.norm(probe @ matrix - (outputs[1 + size :] - outputs[0])))
    scale = np.linalg.norm(probe) * np.linalg.norm(matrix) + np.linalg.norm(outputs[0])
    # Sums in another order differ by a few eps. A nonlinear network differs in the leading digits.
    if error > float(jnp.finfo(outputs.dtype).eps) ** 0.5 * scale:
        raise InputError(
            f"Expected a linear network, f(params, x) = x W; got outputs that differ from x W by {error:.2g}. For a "
            "nonlinear network, use embedding_effective_rank on its features."
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

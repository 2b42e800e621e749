"""Operators of a given matrix, of its features, or of functions that multiply by it.

>>> import jax.numpy as jnp
>>> matrix = as_operator(jnp.diag(jnp.arange(3.0)))
>>> matrix.shape, (matrix @ jnp.ones(3)).tolist()
((3, 3), [0.0, 1.0, 2.0])
"""

import copy
import functools
import operator
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import require_array, require_finite, widened
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.operators.operator import KernelOperator

__all__ = ["Features", "Matrix", "Products", "as_operator"]


class Matrix(KernelOperator):
    """A matrix `(rows, rows)` in memory."""

    def __init__(self, matrix: Array, num_outputs: int = 1) -> None:
        self.array = widened(matrix)
        super().__init__(len(matrix) // num_outputs, num_outputs, self.array.dtype)
        self.epsilon = float(jnp.finfo(matrix.dtype).eps)

    def product(self, vectors: Array) -> Array:
        return _times(self.array, vectors)

    def diagonal(self) -> np.ndarray:
        return np.asarray(jnp.diagonal(self.array))

    def matrix(self) -> np.ndarray:
        return np.asarray(self.array)


@jax.jit
def _times(matrix: Array, vectors: Array) -> Array:
    return jnp.matmul(matrix, vectors, precision="highest")


class Features(KernelOperator):
    """S S^T for features S `(n, dim)` or `(n, o, dim)`."""

    def __init__(self, features: Float[Array, "n *o dim"]) -> None:
        super().__init__(len(features), features.shape[1] if features.ndim == 3 else 1, features.dtype)
        self.features = features.reshape(-1, features.shape[-1])

    def product(self, vectors: Array) -> Array:
        return _through(self.features, vectors)

    def diagonal(self) -> np.ndarray:
        return np.asarray(jnp.sum(self.features**2, -1))


@jax.jit
def _through(features: Array, vectors: Array) -> Array:
    inner = jnp.matmul(features.T, vectors, precision="highest")
    return jnp.matmul(features, inner, precision="highest")


class Products(KernelOperator):
    """A matrix known by a function that multiplies NumPy blocks `(rows, k)`, and one that returns its diagonal."""

    def __init__(
        self,
        num_examples: int,
        num_outputs: int,
        dtype: Any,
        times: Callable[[np.ndarray], np.ndarray],
        diagonal: Callable[[], np.ndarray],
    ) -> None:
        super().__init__(num_examples, num_outputs, dtype)
        self.times, self.diagonal_of = times, diagonal

    def product(self, vectors: Array) -> Array:
        return jnp.asarray(self.times(np.asarray(vectors)).astype(self.dtype, copy=False))

    def diagonal(self) -> np.ndarray:
        return np.asarray(self.diagonal_of())


def as_operator(matrix: Any, *, definite: bool = True) -> KernelOperator:
    """A symmetric matrix, in any form, as a `KernelOperator`.

    `matrix` is an operator already, an array `(n, n)` or `(n, o, n, o)`, a `GramOnDisk`, or SciPy's `LinearOperator`.
    A product with a `GramOnDisk` reads all its blocks once. The diagonal of a `LinearOperator` costs a product with
    the identity, in blocks. Symmetry is not checked here; `top_modes` notices if it is missing. `definite=False` says
    that eigenvalues may be negative, as those of a difference of kernels; `top_modes` and `spectral_density` then
    accept them.

    Raises `InputTypeError` on anything else, and `InputError` on a matrix that is not square or holds NaN.

    >>> as_operator(jnp.diag(jnp.arange(3.0))).trace()
    3.0
    """
    operator = _as_operator(matrix)
    if not definite:
        operator = copy.copy(operator)
        operator.definite = False
    return operator


def _as_operator(matrix: Any) -> KernelOperator:
    if isinstance(matrix, KernelOperator):
        return matrix
    if callable(getattr(matrix, "to_scipy", None)):  # a Gram matrix on disk
        num_outputs = matrix.shape[1] if len(matrix.shape) == 4 else 1
        linear = matrix.to_scipy()
        _require_square(linear.shape)
        rows = linear.shape[0]
        whole = functools.partial(_whole_diagonal, matrix)
        return Products(
            rows // num_outputs, num_outputs, linear.dtype, functools.partial(operator.matmul, matrix), whole
        )
    if _is_linear_operator(matrix):
        _require_square(matrix.shape)
        if np.issubdtype(matrix.dtype, np.complexfloating):
            raise InputTypeError(f"Expected an operator of real numbers; got {matrix.dtype}. Take its real part.")
        dtype = jax.dtypes.canonicalize_dtype(np.result_type(matrix.dtype, np.float32))
        return Products(
            matrix.shape[0], 1, dtype, matrix.matmat, functools.partial(_diagonal_by_products, matrix, dtype)
        )
    if callable(matrix) or getattr(matrix, "ndim", None) is None:
        raise InputTypeError(
            "Expected a kernel on inputs: kernel.operator(x), a matrix (n, n), a Gram matrix on disk or SciPy's "
            f"LinearOperator; got {type(matrix).__name__}."
        )
    array = require_array(matrix, "the matrix")
    if array.ndim not in (2, 4) or array.shape[: array.ndim // 2] != array.shape[array.ndim // 2 :] or not array.size:
        raise InputError(f"Expected a matrix (n, n), or (n, o, n, o) for all outputs; got shape {array.shape}.")
    require_finite(array, "the matrix")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(float)
    num_outputs = array.shape[1] if array.ndim == 4 else 1
    rows = len(array) * num_outputs
    return Matrix(array.reshape(rows, rows), num_outputs)


def _require_square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise InputError(
            f"Expected a square matrix, the kernel of inputs with themselves; got one of shape {shape}. "
            "Make it without x2."
        )


def _is_linear_operator(matrix: Any) -> bool:
    """Whether this is SciPy's LinearOperator. Loading its module is slow, and without it there is none."""
    module = sys.modules.get("scipy.sparse.linalg")
    return module is not None and isinstance(matrix, module.LinearOperator)


def _whole_diagonal(matrix: Any) -> np.ndarray:
    return matrix.diagonal().ravel()


def _diagonal_by_products(matrix: Any, dtype: Any, columns: int = 64) -> np.ndarray:
    found = []
    for start in range(0, matrix.shape[0], columns):
        chosen = np.arange(start, min(start + columns, matrix.shape[0]))
        block = np.zeros((matrix.shape[0], len(chosen)), dtype)
        block[chosen, np.arange(len(chosen))] = 1
        found.append(matrix.matmat(block)[chosen, np.arange(len(chosen))])
    return np.concatenate(found)

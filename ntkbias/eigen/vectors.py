"""Linear algebra of packed vectors `(..., k)`: inner products, projections and rotations, each compiled only once."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkbias.errors import InputError

__all__ = [
    "gram_of",
    "inner_products",
    "outside",
    "placed",
    "require_finite_products",
    "require_symmetric_products",
    "residual_norms",
    "residuals_of",
    "rotated",
    "rotated_in_float64",
    "with_columns_replaced",
]


def require_finite_products(numbers: np.ndarray) -> None:
    """Raise an `InputError` if products contain NaN or infinity."""
    if not np.isfinite(numbers).all():
        raise InputError(
            "Expected an operator with finite products; got NaN or infinity. Check the scale of inputs and parameters."
        )


def require_symmetric_products(difference: np.ndarray, norms: np.ndarray, dtype: Any) -> None:
    """Raise an `InputError` if x^T (K y) and y^T (K x) differ by more than rounding."""
    if np.max(np.abs(difference)) > np.finfo(dtype).eps ** 0.5 * np.max(norms):
        raise InputError(
            "Expected a symmetric operator; got products with x^T (K y) and y^T (K x) that differ by "
            f"{np.max(np.abs(difference)):.2g}, compared with a largest ||K x|| of {np.max(norms):.2g}. Make it from "
            "one set of inputs."
        )


def _flat(vectors: Array) -> Array:
    """Packed vectors as a matrix `(rows, k)`."""
    return vectors.reshape(-1, vectors.shape[-1])


_matmul = partial(jnp.matmul, precision="highest")


def inner_products(vectors: Array, block: Array, filled: int) -> np.ndarray:
    """The inner products of the first vectors `(..., filled)` with those of a block, summed in float64.

    In float32 their error would be eps of the largest eigenvalue, which exceeds the small eigenvalues. Vectors are
    converted one block at a time, because all of them in float64 would take twice their memory.
    """
    size = block.shape[-1]
    starts = [min(start, vectors.shape[-1] - size) for start in range(0, filled, size)]
    found = np.zeros((vectors.shape[-1], size))
    with jax.enable_x64(True):
        for start in starts:
            found[start : start + size] = _inner_in_float64(_columns(vectors, start, size), block)
    return found[:filled]


def gram_of(vectors: Array) -> np.ndarray:
    """The inner products between packed vectors, summed in float64."""
    return inner_products(vectors, vectors, vectors.shape[-1])


@jax.jit
def _inner_in_float64(vectors: Array, block: Array) -> Array:
    return _matmul(_flat(vectors).astype(jnp.float64).T, _flat(block).astype(jnp.float64))


@jax.jit
def outside(vectors: Array, candidates: Array) -> Array:
    """The part of the candidates that is orthogonal to the vectors, by two passes, which are enough."""
    basis, flat = _flat(vectors), _flat(candidates)
    for _ in range(2):
        flat = flat - _matmul(basis, _matmul(basis.T, flat))
    return flat.reshape(candidates.shape)


@jax.jit
def rotated(vectors: Array, rotation: Array) -> Array:
    """The linear combinations of vectors whose coefficients are the columns of `rotation`."""
    return _matmul(vectors, rotation)


def rotated_in_float64(vectors: Array, rotation: np.ndarray) -> Array:
    """Like `rotated`, but summed in float64, block by block, so that only a block and the result are in float64.

    In float32, the rounding of the sums would lie along the first eigenvectors, which have the largest eigenvalues.
    """
    size = rotation.shape[1]
    total: Any = 0.0
    with jax.enable_x64(True):
        for start in range(0, vectors.shape[-1], size):
            begin = min(start, vectors.shape[-1] - size)
            part = np.where(np.arange(begin, begin + size)[:, None] >= start, rotation[begin : begin + size], 0.0)
            total += rotated(_columns(vectors, begin, size).astype(jnp.float64), jnp.asarray(part))
    return total


@jax.jit
def with_columns_replaced(block: Array, fresh: Array, lost: Array) -> Array:
    """A block with fresh vectors in place of the lost ones."""
    return jnp.where(lost, fresh, block)


@partial(jax.jit, static_argnums=2)
def _columns(vectors: Array, start: Any, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(vectors, start, size, vectors.ndim - 1)


@partial(jax.jit, donate_argnums=0)
def placed(vectors: Array, block: Array, start: Any) -> Array:
    """The vectors with a block in the columns from `start` on. Reuses the memory of `vectors`."""
    return jax.lax.dynamic_update_slice_in_dim(vectors, block, start, vectors.ndim - 1)


@jax.jit
def residual_norms(vectors: Array, products: Array, rotation: Array, values: Array) -> Array:
    """||K v - value v|| of the Ritz vectors that the columns of `rotation` give."""
    difference = _matmul(_flat(products), rotation) - _matmul(_flat(vectors), rotation * values)
    return jnp.linalg.norm(difference, axis=0)


@jax.jit
def residuals_of(vectors: Array, products: Array, values: Array) -> Array:
    """The residual K v - value v of each vector."""
    return products - vectors * values

"""The subspace in which `top_modes` searches for eigenvectors: its growth by blocks, and its restarts."""

import dataclasses
import enum
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ntkbias.eigen.vectors import (
    gram_of,
    inner_products,
    outside,
    placed,
    require_finite_products,
    require_symmetric_products,
    residual_norms,
    residuals_of,
    rotated,
    with_columns_replaced,
)
from ntkbias.errors import InputError
from ntkbias.kernels import KernelOperator

__all__ = [
    "Problem",
    "Purpose",
    "Subspace",
    "expanded",
    "first_product",
    "fresh_products",
    "norm_of",
    "random_key",
    "restarted",
    "ritz_pairs",
    "rounding_of",
    "with_fresh_vectors",
    "worst_residuals",
]

BLOCKS = 10  # blocks in a subspace, besides the wanted modes, before it restarts
SUBSPACE_BYTES = 2**29  # limit on the size of the subspace and its products, but they hold at least MIN_BLOCKS
MIN_BLOCKS = 3
FIRST = 4  # columns of the first product that identify the operator; random vectors that estimate its norm


class Problem(NamedTuple):
    """The operator and the parameters of a search for its top modes."""

    operator: KernelOperator
    num_modes: int
    block_size: int
    tolerance: float
    max_products: int
    key: PRNGKeyArray

    @property
    def width(self) -> int:
        """The largest number of vectors in the subspace."""
        rows, size = self.operator.shape[0], self.block_size
        fitting = SUBSPACE_BYTES // (2 * rows * self.operator.dtype.itemsize)
        least, most = self.num_modes + MIN_BLOCKS * size, self.num_modes + BLOCKS * size
        return max(least, min(most, fitting))


@dataclasses.dataclass
class Subspace:
    """Orthonormal vectors V, their products W = K V, and V^T K V. Columns from `filled` on are zero.

    The arrays keep their shapes, so that JAX compiles each step once.
    """

    vectors: Array  # V, (..., width)
    products: Array  # W
    projected: np.ndarray  # V^T K V, (width, width)
    norms: np.ndarray  # of the columns of W
    filled: int = 0
    num_products: int = 0
    num_starts: int = 0  # random start vectors so far
    scale: float = 0.0  # power of two that divides the products, so that squares neither underflow nor overflow
    first: np.ndarray | None = None  # some columns of the first product, which identify the operator
    is_of_operator: bool = True  # whether these columns are equal bit for bit; False if they differ by rounding
    definite: bool = True  # whether a negative eigenvalue is an error

    @classmethod
    def empty(cls, problem: Problem) -> "Subspace":
        """The subspace without vectors."""
        rows, width, dtype = problem.operator.shape[0], problem.width, problem.operator.dtype
        vectors, products = (problem.operator.pack(np.zeros((rows, width), dtype)) for _ in range(2))
        definite = problem.operator.definite
        return cls(vectors, products, np.zeros((width, width)), np.zeros(width), definite=definite)


def ritz_pairs(state: Subspace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ritz values (descending), the rotation `(width, filled)` to their vectors, and residual norms."""
    filled, width = state.filled, len(state.projected)
    values, vectors = np.linalg.eigh(state.projected[:filled, :filled])
    rotation = np.zeros((width, filled))
    rotation[:filled] = vectors[:, ::-1]
    values = values[::-1]
    if not filled:
        return values, rotation, values
    least = -(np.finfo(state.vectors.dtype).eps ** 0.5) * max(values[0], -values[-1])
    if state.definite and values[-1] < least:
        raise InputError(
            f"Expected a positive semi-definite operator; got an eigenvalue of {state.scale * values[-1]:.3g}, with a "
            f"largest of {state.scale * values[0]:.3g} (both of K / n). A kernel of inner products has no negative "
            "eigenvalues: check how it was made. For another matrix write as_operator(matrix, definite=False)."
        )
    padded = np.zeros((width, width))
    padded[:, :filled] = rotation
    scaled = np.zeros(width)
    scaled[:filled] = values
    dtype = state.vectors.dtype
    errors = residual_norms(state.vectors, state.products, jnp.asarray(padded, dtype), jnp.asarray(scaled, dtype))
    return values, rotation, np.asarray(errors, np.float64)[:filled]


def rounding_of(values: np.ndarray, dtype: Any) -> float:
    """The rounding error of eigenvalues: eps ||K||_F, from the known eigenvalues."""
    return float(np.finfo(dtype).eps) * float(np.linalg.norm(values))


def norm_of(operator: KernelOperator, values: np.ndarray, trace: float) -> float:
    """||K||_F for a noise floor: a bound from the first eigenvalues and the trace, or an estimate if some are negative.

    The estimate is the root of the mean of ||K v||^2 over random vectors v.
    """
    squares = float(np.sum(values**2))
    if operator.definite:
        return math.sqrt(squares + max(0.0, float(values[-1]) * (trace - float(np.sum(values)))))
    vectors = np.asarray(jax.random.normal(jax.random.key(0), (operator.shape[0], FIRST), operator.dtype))
    products = operator.unpack(operator.product(operator.pack(vectors)))
    return math.sqrt(max(squares, float(np.sum(products.astype(np.float64) ** 2)) / FIRST))


def first_product(problem: Problem) -> tuple[Array, np.ndarray]:
    """The product of random vectors that starts every search, and some of its columns, which identify the operator.

    Random vectors have components along all eigenvectors. If any eigenvalue changes by more than the precision times
    the largest one, the bits of these columns change.
    """
    product = problem.operator.product(_random(problem, 0, Purpose.START))
    return product, np.array(problem.operator.unpack(product[..., :FIRST]))


def fresh_products(problem: Problem, vectors: Array) -> Array:
    """K v of packed vectors, one block at a time, because the program for a block is already compiled."""
    size, k = problem.block_size, vectors.shape[-1]
    padded = jnp.pad(vectors, [(0, 0)] * (vectors.ndim - 1) + [(0, -k % size)])
    parts = [problem.operator.product(padded[..., start : start + size]) for start in range(0, k, size)]
    return jnp.concatenate(parts, -1)[..., :k]


def with_fresh_vectors(problem: Problem, state: Subspace) -> Subspace:
    """The subspace, expanded by the products of random vectors, which favor the largest eigenvectors."""
    if state.num_products:
        fresh = _random(problem, state.num_products, Purpose.START)
        candidates = problem.operator.product(outside(state.vectors, fresh))
    else:
        candidates, state.first = first_product(problem)
    if not state.scale:
        largest = float(jnp.max(jnp.abs(candidates)))
        require_finite_products(np.array(largest))
        state.scale = 2.0 ** round(math.log2(largest)) if largest else 1.0
    candidates = candidates / state.scale
    state.num_starts, state.num_products = state.num_starts + problem.block_size, state.num_products + 1
    return expanded(problem, state, candidates, *ritz_pairs(state)[:2])


def worst_residuals(
    problem: Problem, state: Subspace, values: np.ndarray, rotation: np.ndarray, converged: np.ndarray
) -> Array:
    """The residuals of the first pairs that have not converged. In exact arithmetic they span the next Krylov block.

    In floating-point arithmetic they also contain rounding errors, which the next block then corrects.
    """
    settled = np.append(converged, np.zeros(len(values) - len(converged), bool))
    order = np.argsort(settled, kind="stable")[: problem.block_size]
    chosen = jnp.asarray(rotation[:, order], problem.operator.dtype)
    chosen_values = jnp.asarray(values[order], problem.operator.dtype)
    return residuals_of(rotated(state.vectors, chosen), rotated(state.products, chosen), chosen_values)


def expanded(
    problem: Problem, state: Subspace, candidates: Array, values: np.ndarray, rotation: np.ndarray
) -> Subspace:
    """The subspace with one more block: the part of the candidates that is orthogonal to it."""
    operator, size = problem.operator, problem.block_size
    block = _orthonormal(problem, state, candidates)
    if state.filled + size > problem.width:
        state = restarted(state, values, rotation, problem.width - 2 * size)
    product = operator.product(block) / state.scale
    start = state.filled
    state.vectors, state.products = placed(state.vectors, block, start), placed(state.products, product, start)
    new_norms: np.ndarray = np.sqrt(gram_of(product).diagonal())
    by_new, by_old = (
        inner_products(state.vectors, product, start + size),
        inner_products(state.products, block, start + size),
    )
    require_finite_products(new_norms)
    place, filled = slice(start, start + size), start + size
    state.norms[place] = new_norms
    require_symmetric_products(by_new - by_old, state.norms[:filled], operator.dtype)
    entries: np.ndarray = np.where(new_norms <= state.norms[:filled, None], by_new, by_old)
    entries[place] = (entries[place] + entries[place].T) / 2
    state.projected[:filled, place] = entries
    state.projected[place, :filled] = entries.T
    state.filled, state.num_products = filled, state.num_products + 1
    return state


def restarted(state: Subspace, values: np.ndarray, rotation: np.ndarray, keep: int) -> Subspace:
    """The subspace of only the best `keep` Ritz vectors."""
    keep, width = min(keep, state.filled), len(state.projected)
    padded = np.zeros((width, width))
    padded[:, :keep] = rotation[:, :keep]
    turned = jnp.asarray(padded, state.vectors.dtype)
    projected, norms = np.zeros((width, width)), np.zeros(width)
    projected[range(keep), range(keep)] = values[:keep]
    norms[:keep] = np.abs(values[:keep])
    state.vectors, state.products = rotated(state.vectors, turned), rotated(state.products, turned)
    state.projected, state.norms, state.filled = projected, norms, keep
    return state


class Purpose(enum.IntEnum):
    """The purpose of random vectors. Each purpose draws different ones, even after the same number of products."""

    START = 0
    DIRECTIONS = 1


def random_key(key: PRNGKeyArray, number: int, purpose: Purpose, attempt: int = 0) -> PRNGKeyArray:
    """The key of the random vectors drawn after `number` products, at this attempt."""
    for part in (number, purpose, attempt):
        key = jax.random.fold_in(key, part)
    return key


def _random(problem: Problem, number: int, purpose: Purpose, attempt: int = 0) -> Array:
    """Standard normal vectors, the same on all devices and processes."""
    key = random_key(problem.key, number, purpose, attempt)
    shape = (problem.operator.shape[0], problem.block_size)
    return problem.operator.pack(np.asarray(jax.random.normal(key, shape, problem.operator.dtype)))


def _orthonormal(problem: Problem, state: Subspace, candidates: Array) -> Array:
    """An orthonormal block, orthogonal to the subspace. Random directions replace candidates that lie in the subspace.

    Columns are sorted by their share of the candidates: the first is the direction along which most of them lie. The
    Gram matrix uses float64, so that directions down to eps of the first one can be distinguished.
    """
    epsilon, size = float(np.finfo(candidates.dtype).eps), problem.block_size
    before = gram_of(candidates).diagonal()
    require_finite_products(before)
    for attempt in range(4):
        candidates = outside(state.vectors, candidates)
        gram = gram_of(candidates)
        norms = np.sqrt(gram.diagonal())
        inside = ~(norms > 10 * epsilon * np.sqrt(before))  # the rest of these columns is rounding
        scale = np.where(inside, 0.0, 1 / np.where(inside, 1.0, norms))
        values, vectors = np.linalg.eigh(scale[:, None] * gram * scale)
        values, vectors = values[::-1], vectors[:, ::-1]
        kept = values > (10 * epsilon) ** 2 * values[0]
        roots = np.where(kept, 1 / np.sqrt(np.where(kept, values, 1.0)), 0.0)
        turn = scale[:, None] * vectors * roots
        if attempt:  # the nearest orthonormal block; other rotations would mix columns of large and small products
            turn = turn @ vectors.T
        candidates = rotated(candidates, jnp.asarray(turn, candidates.dtype))
        before = np.ones(size)
        if not kept.all():
            fresh = _random(problem, state.num_products, Purpose.DIRECTIONS, attempt)
            candidates = with_columns_replaced(candidates, fresh / problem.operator.shape[0] ** 0.5, jnp.asarray(~kept))
        elif values[-1] > 0.5:  # nearly orthonormal before this round
            break
    return candidates

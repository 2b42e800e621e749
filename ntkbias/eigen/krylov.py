"""The top of a spectrum from products alone: block Krylov subspaces with thick restarts.

A block of b orthonormal vectors X grows into the subspace of X, K X, K^2 X, ...; the Ritz pairs of its projected matrix
V^T K V tend to the largest eigenpairs. Each block is made of residuals K v - value v, which span what the next power
would, and mend what rounding does. When the subspace is full, the best Ritz vectors begin the next (thick restart, Wu
and Simon 2000; block Davidson, Stathopoulos and McCombs 2010). Every new block is orthogonalised twice against all
others, and within itself by the eigenvectors of its Gram matrix (Stathopoulos and Wu 2002), which holds in float32.

A block finds an eigenvalue b times at most. Where one was found as often as that, a block of fresh random vectors,
orthogonal to all that was found, begins again, until no further copies come. A single vector finds each only once.

The entries of V^T K V are summed in float64, and graded: v_i^T (K v_j) carries the rounding of K v_j, so that of it and
v_j^T (K v_i) the one whose product is smaller is taken. Small eigenvalues so keep their digits beside large ones.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))
>>> x, _ = nb.domains.Circle().quadrature(1000)
>>> modes = nb.top_modes(kernel.operator(x), 5, key=jax.random.key(0))
>>> modes.eigenspace.tolist(), bool(modes.converged.all())               # a constant, then pairs of one frequency
([0, 1, 1, 2, 2], True)
"""

import contextlib
import dataclasses
import enum
import json
import math
import os
import time
import warnings
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from ntkbias.checks import require_key, require_positive, require_weights
from ntkbias.eigen.dense import checked_num_modes, eigenspaces, require_positive_definite, signed
from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import write
from ntkbias.kernels import KernelOperator, as_operator
from ntkbias.kernels.jacobian import JacobianOperator, ParameterOperator
from ntkbias.progress import progress
from ntkbias.spectrum import Spectrum

__all__ = ["top_modes"]

LEAST_BLOCK, MOST_BLOCK = 16, 128  # vectors: wide enough for matrix products, narrow enough for the subspace to deepen
BLOCKS = 10  # of which a subspace is made before it restarts
SUBSPACE_BYTES = 2**29  # that the subspace and its products may take, where that leaves it MIN_BLOCKS
MIN_BLOCKS = 3
DENSE = 2  # times as many rows as a subspace has vectors: up to there the whole matrix is less work
COPIES = 1e-4  # the relative gap below which eigenvalues are looked upon as copies of one
PATIENCE = 30  # products without a better residual, and more of single vectors, after which rounding is the limit
LOOSE = 0.1  # the relative residual at which what fresh vectors find is known well enough to be compared
MARGIN = 0.5  # of the tolerance, to which the search goes: results are rounded once more
SAVE_SECONDS = 30.0  # between checkpoints


def top_modes(
    operator: Any,
    num_modes: int,
    *,
    key: PRNGKeyArray,
    tolerance: float = 1e-4,
    weights: ArrayLike | None = None,
    block_size: int | None = None,
    max_products: int = 200,
    checkpoint: str | Path | None = None,
) -> Spectrum:
    """The `num_modes` largest eigenvalues and eigenfunctions, with multiplicities, from products with the operator.

    `operator` is `kernel.operator(x)`, or what `as_operator` takes. Conventions are those of `spectrum`: eigenvalues
    of K / n, or with `weights` of W^1/2 K W^1/2; eigenfunctions `(n, k)`, or `(n, o, k)`, of mean square one.
    `residuals` are ||K phi - eigenvalue phi|| / ||phi|| of K / n, computed and not estimated: each eigenvalue is within
    its residual of a true one. A mode has `converged` when its residual is below `tolerance` times its eigenvalue, or
    below the noise floor. Whether eigenvalues between those found were missed is not certain, but for random vectors
    drawn by `key` of probability zero in exact arithmetic, up to multiplicity `block_size`, beyond which it is looked
    for. Where J^T J is smaller than J J^T, it is taken in its place.

    Costs about 6 to 15 products with a block of `block_size` vectors (default: a quarter more than `num_modes`, 16 to
    128), at most `max_products`, but for the two that begin it; the subspace and its products take some 20
    `block_size` numbers a row, within half a GiB where that suffices. A progress bar shows how many modes have
    converged, and the largest residual.

    `checkpoint` names a file, `.npz`, that is renewed every half minute and at Ctrl-C, whole or not at all. The same
    call goes on from it, to the same result bit for bit on one device. Several processes, which all have to make the
    call, need it on a disk that they share. A problem so small that its matrix is decomposed writes none; its `method`
    is "dense".

    Raises `InputError` for more modes than rows, products that are NaN, an operator that is not symmetric or has
    eigenvalues below zero, and a checkpoint of another problem. Warns where modes did not converge: `max_products` did
    not suffice, or rounding is the limit.
    """
    op = as_operator(operator)
    require_positive("num_modes", num_modes)
    num_modes = checked_num_modes(num_modes, op.shape[0])
    key = require_key(key)
    if not isinstance(tolerance, float | int) or not 0 < tolerance < 1:
        raise InputError(f"Expected a tolerance between 0 and 1, relative to each eigenvalue; got {tolerance!r}.")
    require_positive("max_products", max_products)
    block_size = min(MOST_BLOCK, max(LEAST_BLOCK, -(-5 * num_modes // 4))) if block_size is None else block_size
    require_positive("block_size", block_size)
    path = None if checkpoint is None else _checked_path(checkpoint)

    measure = np.full(op.num_examples, 1 / op.num_examples, op.dtype)
    if weights is not None:
        measure = np.asarray(require_weights(weights, op.num_examples), op.dtype)
    scaled = op.conjugated(np.sqrt(measure))
    inner = scaled
    if isinstance(scaled, JacobianOperator) and num_modes <= scaled.num_parameters < scaled.shape[0]:
        inner = scaled.on_parameters()
    problem = Problem(inner, num_modes, block_size, float(tolerance), max_products, key)
    if scaled.shape[0] <= DENSE * problem.width:
        inner = scaled
    if inner.shape[0] <= DENSE * problem.width:
        found, method = _dense(inner, num_modes), "dense"
    else:
        found, method = _search(problem, path), "matrix-free"
    if isinstance(inner, ParameterOperator):
        found = _lifted(inner, found)
    return _spectrum(scaled, found, measure, float(tolerance), op.source, method)


class Found(NamedTuple):
    """Ritz pairs, descending: vectors, and K v - value v, as the operator packs them, `(..., k)`."""

    values: np.ndarray
    vectors: Array
    residuals: Array


class Problem(NamedTuple):
    """What is sought, and how."""

    operator: KernelOperator
    num_modes: int
    block_size: int
    tolerance: float
    max_products: int
    key: PRNGKeyArray

    @property
    def width(self) -> int:
        """How many vectors the subspace has at most."""
        rows, size = self.operator.shape[0], self.block_size
        fitting = SUBSPACE_BYTES // (2 * rows * self.operator.dtype.itemsize)
        least, most = self.num_modes + MIN_BLOCKS * size, self.num_modes + BLOCKS * size
        return max(least, min(most, fitting))


@dataclasses.dataclass
class Subspace:
    """Orthonormal vectors V, their products W = K V, and V^T K V; columns from `filled` on are zero.

    Arrays keep their shapes, so that each step is compiled once.
    """

    vectors: Array  # V, (..., width)
    products: Array  # W
    projected: np.ndarray  # V^T K V, (width, width)
    norms: np.ndarray  # of the columns of W
    filled: int = 0
    num_products: int = 0
    num_starts: int = 0  # random vectors that chains began with
    scale: float = 0.0  # the power of two that products are divided by, so that squares neither vanish nor overflow

    @classmethod
    def empty(cls, problem: Problem) -> "Subspace":
        """The subspace of no vector."""
        rows, width, dtype = problem.operator.shape[0], problem.width, problem.operator.dtype
        vectors, products = (problem.operator.pack(np.zeros((rows, width), dtype)) for _ in range(2))
        return cls(vectors, products, np.zeros((width, width)), np.zeros(width))


def _search(problem: Problem, path: Path | None) -> Found:
    """Expand the subspace until the wanted pairs have converged, and no more copies of them are found."""
    state = Subspace.empty(problem) if path is None or not path.exists() else _loaded(problem, path)
    saved_at = time.monotonic()
    best, improved_at = (0, math.inf), 0
    patience = PATIENCE + 2 * problem.num_modes // problem.block_size
    with _saved_when_interrupted(problem, state, path), progress(None, "modes", total=problem.num_modes) as bar:
        while True:
            values, rotation, errors = _ritz_pairs(state)
            noise = _noise(values, problem.operator.dtype)
            allowed = np.where(values > noise, MARGIN * problem.tolerance * values, noise)
            converged = (errors <= allowed)[: problem.num_modes]
            bar.n = int(np.sum(converged))
            worst = _worst(values, errors, problem)
            bar.set_postfix_str(f"residuals within {worst:.1e} of the eigenvalue, {state.num_products} products")
            if len(converged) == problem.num_modes and converged.all():
                if _all_copies_found(problem, state, values, errors):
                    break
                if state.num_starts <= _most_copies(values[: problem.num_modes]):
                    state = _with_fresh_vectors(problem, _restarted(state, values, rotation, problem.num_modes))
                    continue
            now = (int(np.sum(converged)), worst)
            if now[0] > best[0] or now[1] < 0.9 * best[1] or converged.all():
                best, improved_at = (max(now[0], best[0]), min(now[1], best[1])), state.num_products
            stalled = state.num_products > improved_at + patience
            if stalled or state.num_products >= problem.max_products:
                advice = "Raise max_products, tolerance or block_size; with a checkpoint the same call goes on."
                if stalled:
                    advice = f"It has not improved in {patience} products: raise tolerance, or use float64."
                warnings.warn(
                    f"Expected {problem.num_modes} modes to converge; got {now[0]} after {state.num_products} "
                    f"products, with a residual of up to {now[1]:.1e} of the eigenvalue. {advice}",
                    stacklevel=3,
                )
                break
            if state.filled:
                candidates = _worst_residuals(problem, state, values, rotation, converged)
                state = _expanded(problem, state, candidates, values, rotation)
            else:
                state = _with_fresh_vectors(problem, state)
            if path is not None and time.monotonic() - saved_at > SAVE_SECONDS:
                _save(problem, state, path)
                saved_at = time.monotonic()
    if path is not None:
        _save(problem, state, path)
    chosen, values = rotation[:, : problem.num_modes], values[: problem.num_modes]
    vectors = _rotated_in_float64(state.vectors, chosen)
    products = _rotated_in_float64(state.products, chosen)
    with jax.enable_x64(True):
        residuals = _residuals(vectors, products, jnp.asarray(values)).astype(problem.operator.dtype)
        return Found(state.scale * values, vectors.astype(problem.operator.dtype), state.scale * residuals)


def _all_copies_found(problem: Problem, state: Subspace, values: np.ndarray, errors: np.ndarray) -> bool:
    """Whether no eigenvalue was found as often as random vectors allow, once what the last ones found is known."""
    if state.num_starts > problem.block_size:  # vectors beyond the wanted ones are of the last chain alone
        beyond = problem.num_modes
        noise = _noise(values, problem.operator.dtype)
        if len(values) > beyond and errors[beyond] > max(LOOSE * values[beyond], noise):
            return False
    return state.num_starts > _most_copies(values[: problem.num_modes])


def _most_copies(values: np.ndarray) -> int:
    """How often the eigenvalue that was found most often was."""
    together = np.cumsum(np.append(0, np.diff(-values) > COPIES * np.abs(values[:-1])))
    return int(np.max(np.bincount(together)))


def _worst(values: np.ndarray, errors: np.ndarray, problem: Problem) -> float:
    """The largest residual of the wanted pairs, relative to the eigenvalue."""
    if len(values) < problem.num_modes:
        return math.inf
    wanted = slice(problem.num_modes)
    return float(np.max(errors[wanted] / np.maximum(np.abs(values[wanted]), np.finfo(float).tiny)))


@contextlib.contextmanager
def _saved_when_interrupted(problem: Problem, state: Subspace, path: Path | None) -> Iterator[None]:
    """Write a checkpoint at Ctrl-C, where that finds the subspace whole."""
    try:
        yield
    except KeyboardInterrupt:
        if path is not None and jax.process_count() == 1:
            with contextlib.suppress(Exception):
                _save(problem, state, path)
        raise


def _ritz_pairs(state: Subspace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ritz values, descending, the rotation `(width, filled)` to their vectors, and residual norms."""
    filled, width = state.filled, len(state.projected)
    values, vectors = np.linalg.eigh(state.projected[:filled, :filled])
    rotation = np.zeros((width, filled))
    rotation[:filled] = vectors[:, ::-1]
    values = values[::-1]
    if not filled:
        return values, rotation, values
    if values[-1] < -(np.finfo(state.vectors.dtype).eps ** 0.5) * max(values[0], -values[-1]):
        raise InputError(
            f"Expected a positive semi-definite operator; got one with a negative eigenvalue, {values[-1]:.3g} beside "
            f"a largest of {values[0]:.3g}. A kernel of inner products has none below zero: check what it is made of."
        )
    padded = np.zeros((width, width))
    padded[:, :filled] = rotation
    scaled = np.zeros(width)
    scaled[:filled] = values
    dtype = state.vectors.dtype
    errors = _residual_norms(state.vectors, state.products, jnp.asarray(padded, dtype), jnp.asarray(scaled, dtype))
    return values, rotation, np.asarray(errors, np.float64)[:filled]


def _noise(values: np.ndarray, dtype: Any) -> float:
    """What rounding does to eigenvalues: eps ||K||_F, of what is known of it."""
    return float(np.finfo(dtype).eps) * float(np.linalg.norm(values))


def _with_fresh_vectors(problem: Problem, state: Subspace) -> Subspace:
    """The subspace with the products of random vectors: those themselves lie along all eigenvectors alike."""
    candidates = problem.operator.product(_outside(state.vectors, _random(problem, state.num_products, Purpose.START)))
    if not state.scale:
        largest = float(jnp.max(jnp.abs(candidates)))
        _require_finite(np.array(largest))
        state.scale = 2.0 ** round(math.log2(largest)) if largest else 1.0
    candidates = candidates / state.scale
    state.num_starts, state.num_products = state.num_starts + problem.block_size, state.num_products + 1
    return _expanded(problem, state, candidates, *_ritz_pairs(state)[:2])


def _worst_residuals(
    problem: Problem, state: Subspace, values: np.ndarray, rotation: np.ndarray, converged: np.ndarray
) -> Array:
    """The residuals of the first pairs that have not converged: in exact arithmetic they span the next Krylov block.

    In rounded arithmetic they also hold what rounding has done, which the next block then mends.
    """
    settled = np.append(converged, np.zeros(len(values) - len(converged), bool))
    order = np.argsort(settled, kind="stable")[: problem.block_size]
    chosen = jnp.asarray(rotation[:, order], problem.operator.dtype)
    theirs = jnp.asarray(values[order], problem.operator.dtype)
    return _residuals(_rotated(state.vectors, chosen), _rotated(state.products, chosen), theirs)


def _expanded(
    problem: Problem, state: Subspace, candidates: Array, values: np.ndarray, rotation: np.ndarray
) -> Subspace:
    """The subspace with one more block: what the candidates add to it."""
    operator, size = problem.operator, problem.block_size
    block = _orthonormal(problem, state, candidates)
    if state.filled + size > problem.width:
        state = _restarted(state, values, rotation, problem.width - 2 * size)
    product = operator.product(block) / state.scale
    start = state.filled
    state.vectors, state.products = _placed(state.vectors, block, start), _placed(state.products, product, start)
    new_norms: np.ndarray = np.sqrt(_gram(product).diagonal())
    by_new, by_old = _inner(state.vectors, product, start + size), _inner(state.products, block, start + size)
    _require_finite(new_norms)
    place, filled = slice(start, start + size), start + size
    state.norms[place] = new_norms
    _require_symmetric(by_new - by_old, state.norms[:filled], operator.dtype)
    entries: np.ndarray = np.where(new_norms <= state.norms[:filled, None], by_new, by_old)
    entries[place] = (entries[place] + entries[place].T) / 2
    state.projected[:filled, place] = entries
    state.projected[place, :filled] = entries.T
    state.filled, state.num_products = filled, state.num_products + 1
    return state


def _require_finite(numbers: np.ndarray) -> None:
    if not np.isfinite(numbers).all():
        raise InputError(
            "Expected an operator with finite products; got NaN or infinity. Check the scale of inputs and parameters."
        )


def _require_symmetric(difference: np.ndarray, norms: np.ndarray, dtype: Any) -> None:
    if np.max(np.abs(difference)) > np.finfo(dtype).eps ** 0.5 * np.max(norms):
        raise InputError(
            "Expected a symmetric operator; got products with x^T (K y) and y^T (K x) that differ by "
            f"{np.max(np.abs(difference)):.2g}, beside a largest ||K x|| of {np.max(norms):.2g}. Make it of one set of "
            "inputs."
        )


def _restarted(state: Subspace, values: np.ndarray, rotation: np.ndarray, keep: int) -> Subspace:
    """The subspace of the best Ritz vectors alone."""
    keep, width = min(keep, state.filled), len(state.projected)
    padded = np.zeros((width, width))
    padded[:, :keep] = rotation[:, :keep]
    turned = jnp.asarray(padded, state.vectors.dtype)
    projected, norms = np.zeros((width, width)), np.zeros(width)
    projected[range(keep), range(keep)] = values[:keep]
    norms[:keep] = np.abs(values[:keep])
    state.vectors, state.products = _rotated(state.vectors, turned), _rotated(state.products, turned)
    state.projected, state.norms, state.filled = projected, norms, keep
    return state


class Purpose(enum.IntEnum):
    """What random vectors are for: each purpose draws its own, also after the same number of products."""

    START = 0
    DIRECTIONS = 1


def random_key(key: PRNGKeyArray, number: int, purpose: Purpose, attempt: int = 0) -> PRNGKeyArray:
    """The key of the random vectors that are drawn after `number` products, at this attempt."""
    for part in (number, purpose, attempt):
        key = jax.random.fold_in(key, part)
    return key


def _random(problem: Problem, number: int, purpose: Purpose, attempt: int = 0) -> Array:
    """Standard normal vectors, the same on all devices and processes."""
    key = random_key(problem.key, number, purpose, attempt)
    shape = (problem.operator.shape[0], problem.block_size)
    return problem.operator.pack(np.asarray(jax.random.normal(key, shape, problem.operator.dtype)))


def _orthonormal(problem: Problem, state: Subspace, candidates: Array) -> Array:
    """An orthonormal block, orthogonal to the subspace; random directions in the place of those that are in it.

    Columns come by their share of the candidates: the first is the direction along which most of them lie. Their Gram
    matrix is taken in float64, so that directions down to eps of the first are told apart.
    """
    epsilon, size = float(np.finfo(candidates.dtype).eps), problem.block_size
    before = _gram(candidates).diagonal()
    _require_finite(before)
    for attempt in range(4):
        candidates = _outside(state.vectors, candidates)
        gram = _gram(candidates)
        norms = np.sqrt(gram.diagonal())
        inside = ~(norms > 10 * epsilon * np.sqrt(before))  # what is left of these is rounding
        scale = np.where(inside, 0.0, 1 / np.where(inside, 1.0, norms))
        values, vectors = np.linalg.eigh(scale[:, None] * gram * scale)
        values, vectors = values[::-1], vectors[:, ::-1]
        kept = values > (10 * epsilon) ** 2 * values[0]
        roots = np.where(kept, 1 / np.sqrt(np.where(kept, values, 1.0)), 0.0)
        turn = scale[:, None] * vectors * roots
        if attempt:  # the nearest orthonormal block: another rotation would mix columns of large and small products
            turn = turn @ vectors.T
        candidates = _rotated(candidates, jnp.asarray(turn, candidates.dtype))
        before = np.ones(size)
        if not kept.all():
            fresh = _random(problem, state.num_products, Purpose.DIRECTIONS, attempt)
            candidates = _filled_up(candidates, fresh / problem.operator.shape[0] ** 0.5, jnp.asarray(~kept))
        elif values[-1] > 0.5:  # nearly orthonormal before this round
            break
    return candidates


def _dense(operator: KernelOperator, num_modes: int) -> Found:
    """All pairs, where there are so few rows that the whole matrix is less work."""
    matrix = operator.matrix().astype(np.float64)
    _require_finite(matrix)
    _require_symmetric(matrix - matrix.T, np.linalg.norm(matrix, axis=0), operator.dtype)
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    require_positive_definite(jnp.asarray(values[::-1]), float(np.finfo(operator.dtype).eps))
    # Rounded as they are returned, so that residuals hold that too.
    values = values[::-1][:num_modes].astype(operator.dtype).astype(np.float64)
    vectors = vectors[:, ::-1][:, :num_modes].astype(operator.dtype).astype(np.float64)
    residuals = matrix @ vectors - vectors * values
    return Found(values, *(operator.pack(array.astype(operator.dtype)) for array in (vectors, residuals)))


def _lifted(operator: ParameterOperator, found: Found) -> Found:
    """The pairs of J J^T: v = J u / sqrt(value), and K v - value v = J (J^T J u - value u) / sqrt(value)."""
    k = len(found.values)
    both = operator.lift(jnp.concatenate([found.vectors, found.residuals], -1))
    positive = np.maximum(found.values, np.finfo(operator.dtype).tiny)
    both = both / jnp.asarray(np.sqrt(np.tile(positive, 2)), both.dtype)
    return Found(found.values, both[..., :k], both[..., k:])


def _spectrum(
    operator: KernelOperator, found: Found, measure: np.ndarray, tolerance: float, source: Any, method: str
) -> Spectrum:
    kernel, x = (None, None) if source is None else source
    n, o = operator.num_examples, operator.num_outputs
    vectors = operator.unpack(found.vectors).astype(np.float64)
    norms = np.maximum(np.linalg.norm(vectors, axis=0), np.finfo(operator.dtype).tiny)
    errors = np.linalg.norm(operator.unpack(found.residuals).astype(np.float64), axis=0)
    roots = np.repeat(np.sqrt(measure.astype(np.float64)), o)[:, None]
    functions = signed(jnp.asarray(vectors / norms / roots, operator.dtype), jnp.asarray(roots, operator.dtype))
    trace = operator.trace()
    known = float(np.sum(found.values))
    rest = max(0.0, found.values[-1] * (trace - known))  # of the squares of the eigenvalues that are not known
    epsilon = float(np.finfo(operator.dtype).eps)
    noise_floor = epsilon * float(np.sqrt(np.sum(found.values**2) + rest))
    dtype = functions.dtype
    values = jnp.asarray(found.values, dtype)
    return Spectrum(
        eigenvalues=values,
        eigenfunctions=functions.reshape(n, o, -1) if o > 1 else functions,
        eigenspace=eigenspaces(values, jnp.asarray(noise_floor, dtype), epsilon**0.5),
        trace=jnp.asarray(trace, dtype),
        residuals=jnp.asarray(errors / norms + epsilon * found.values, dtype),  # with the rounding of the eigenvalue
        noise_floor=jnp.asarray(noise_floor, dtype),
        weights=jnp.asarray(measure),
        x=None if x is None else jnp.asarray(x),
        kernel=kernel,
        tolerance=tolerance,
        method=method,
    )


def _flat(vectors: Array) -> Array:
    """Packed vectors as a matrix `(rows, k)`."""
    return vectors.reshape(-1, vectors.shape[-1])


_matmul = partial(jnp.matmul, precision="highest")


def _inner(vectors: Array, block: Array, filled: int) -> np.ndarray:
    """The inner products of the first vectors `(..., filled)` with those of a block, summed in float64.

    In float32 their error, eps of the largest eigenvalue, would be more than the small ones have. As many at a time as
    the block has: all of them in float64 would take twice their memory.
    """
    size = block.shape[-1]
    starts = [min(start, vectors.shape[-1] - size) for start in range(0, filled, size)]
    found = np.zeros((vectors.shape[-1], size))
    with jax.enable_x64(True):
        for start in starts:
            found[start : start + size] = _inner_in_float64(_columns(vectors, start, size), block)
    return found[:filled]


def _gram(vectors: Array) -> np.ndarray:
    """The inner products of packed vectors, summed in float64."""
    return _inner(vectors, vectors, vectors.shape[-1])


@jax.jit
def _inner_in_float64(vectors: Array, block: Array) -> Array:
    return _matmul(_flat(vectors).astype(jnp.float64).T, _flat(block).astype(jnp.float64))


@jax.jit
def _outside(vectors: Array, candidates: Array) -> Array:
    """The part of the candidates that is orthogonal to the vectors: twice is enough."""
    basis, flat = _flat(vectors), _flat(candidates)
    for _ in range(2):
        flat = flat - _matmul(basis, _matmul(basis.T, flat))
    return flat.reshape(candidates.shape)


@jax.jit
def _rotated(vectors: Array, rotation: Array) -> Array:
    return _matmul(vectors, rotation)


def _rotated_in_float64(vectors: Array, rotation: np.ndarray) -> Array:
    """As `_rotated`, for results: block by block, so that no more than a block and the result are in float64.

    Rounding of the sums would lie along the first eigenvectors, whose eigenvalues are the largest.
    """
    size = rotation.shape[1]
    total: Any = 0.0
    with jax.enable_x64(True):
        for start in range(0, vectors.shape[-1], size):
            begin = min(start, vectors.shape[-1] - size)
            part = np.where(np.arange(begin, begin + size)[:, None] >= start, rotation[begin : begin + size], 0.0)
            total += _rotated(_columns(vectors, begin, size).astype(jnp.float64), jnp.asarray(part))
    return total


@jax.jit
def _filled_up(block: Array, fresh: Array, lost: Array) -> Array:
    return jnp.where(lost, fresh, block)


@partial(jax.jit, static_argnums=2)
def _columns(vectors: Array, start: Any, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(vectors, start, size, vectors.ndim - 1)


@partial(jax.jit, donate_argnums=0)
def _placed(vectors: Array, block: Array, start: Any) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(vectors, block, start, vectors.ndim - 1)


@jax.jit
def _residual_norms(vectors: Array, products: Array, rotation: Array, values: Array) -> Array:
    difference = _matmul(_flat(products), rotation) - _matmul(_flat(vectors), rotation * values)
    return jnp.linalg.norm(difference, axis=0)


@jax.jit
def _residuals(vectors: Array, products: Array, values: Array) -> Array:
    return products - vectors * values


def _checked_path(checkpoint: Any) -> Path:
    if not isinstance(checkpoint, str | Path) or not Path(checkpoint).name:
        raise InputTypeError(f"Expected checkpoint to be the path of a file; got {checkpoint!r}.")
    path = Path(checkpoint)
    if path.is_dir():
        raise InputError(f"Expected checkpoint to be the path of a file; got the folder {path}.")
    path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    if path.is_dir():
        raise InputError(f"Expected checkpoint to be the path of a file; got the folder {path}.")
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not os.access(nearest, os.W_OK):
        raise InputError(f"Expected to write {path}; {nearest} cannot be written. Choose a folder that can be.")
    return path


def _description(problem: Problem) -> dict[str, Any]:
    """What has to be the same for a search to go on."""
    return {
        "rows": problem.operator.shape[0],
        "dtype": problem.operator.dtype.name,
        "num_modes": problem.num_modes,
        "block_size": problem.block_size,
        "key": np.asarray(jax.random.key_data(problem.key)).ravel().tolist(),
    }


COUNTS = ("filled", "num_products", "num_starts")


def _save(problem: Problem, state: Subspace, path: Path) -> None:
    """Write the subspace, whole or not at all; of several processes the first does."""
    filled = state.filled
    vectors, products = (
        problem.operator.unpack(array)[:, :filled] for array in (state.vectors, state.products)
    )  # all processes: they bring the parts together
    if jax.process_index():
        return
    counts = np.array([getattr(state, name) for name in COUNTS])
    arrays = {"vectors": vectors, "products": products, "counts": counts, "norms": state.norms}
    arrays |= {
        "scale": np.array(state.scale),
        "projected": state.projected,
        "problem": np.array(json.dumps(_description(problem))),
    }
    write(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def _loaded(problem: Problem, path: Path) -> Subspace:
    """The subspace that a search of the same problem left; one product with a vector makes sure of the operator."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        there = json.loads(str(arrays["problem"]))
        counts = dict(zip(COUNTS, map(int, arrays["counts"]), strict=True))
        stored = [arrays[name] for name in ("vectors", "products", "projected", "norms")]
        scale = float(arrays["scale"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"Expected {path} to be a checkpoint of top_modes; it cannot be read: {reason}. Choose another path, or "
            "delete it to begin again."
        ) from error
    here = _description(problem)
    different = [
        f"{name} ({there.get(name)} there, {here[name]} here)" for name in here if there.get(name) != here[name]
    ]
    if different:
        raise InputError(
            f"Expected the search that {path} is of, to go on with it; got one that differs in {', '.join(different)}. "
            "Choose another path, or delete that file to begin again."
        )
    operator, filled = problem.operator, counts["filled"]
    vectors, products = (operator.pack(np.pad(array, ((0, 0), (0, problem.width - filled)))) for array in stored[:2])
    if filled:
        probe = operator.unpack(operator.product(operator.pack(stored[0][:, :1]))) / scale
        difference, size = np.linalg.norm(probe - stored[1][:, :1]), np.linalg.norm(probe)
        if not difference <= np.finfo(operator.dtype).eps ** 0.5 * max(size, stored[3][0]):
            raise InputError(
                f"Expected the operator that {path} is of, to go on with it; got one whose product with a vector "
                f"differs by {difference:.2g}, of {size:.2g}. Choose another path, or delete that file to begin again."
            )
    return Subspace(vectors, products, stored[2], stored[3], **counts, scale=scale)

"""The top of a spectrum from products alone: block Krylov subspaces with thick restarts.

A block of b orthonormal vectors X grows into the subspace spanned by X, K X, K^2 X, ... The Ritz pairs of the projected
matrix V^T K V tend to the largest eigenpairs. Each new block consists of residuals K v - value v. They span the same
space as the next power, and they also correct rounding errors. When the subspace is full, the best Ritz vectors start
the next one (thick restart, Wu and Simon 2000; block Davidson, Stathopoulos and McCombs 2010). Every new block is
orthogonalized twice against all others. Within the block, the eigenvectors of its Gram matrix orthogonalize it
(Stathopoulos and Wu 2002), which is stable in float32.

A block finds at most b copies of an eigenvalue; a single vector finds only one. If the search finds b copies of an
eigenvalue, it adds a block of fresh random vectors, orthogonal to all vectors found, until no more copies appear.

The entries of V^T K V are summed in float64. The entry v_i^T (K v_j) carries the rounding of K v_j, and v_j^T (K v_i)
that of K v_i. The code uses whichever entry has the smaller product. Small eigenvalues then keep their digits next to
large ones.

>>> import jax.numpy as jnp, ntkbias as nb
>>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))
>>> x, _ = nb.domains.Circle().quadrature(1000)
>>> modes = nb.top_modes(kernel, x, 5)
>>> modes.eigenspace.tolist(), bool(modes.converged.all())               # a constant, then pairs of one frequency
([0, 1, 1, 2, 2], True)
"""

import contextlib
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from ntkbias.checks import key_or_default, require_positive, require_weights
from ntkbias.eigen.checkpoint import ROUNDING, checked_path, claimed_file, loaded, save
from ntkbias.eigen.dense import checked_num_modes, eigenspaces, require_positive_definite, signed
from ntkbias.eigen.subspace import (
    Problem,
    Subspace,
    expanded,
    fresh_products,
    norm_of,
    restarted,
    ritz_pairs,
    rounding_of,
    with_fresh_vectors,
    worst_residuals,
)
from ntkbias.eigen.vectors import (
    gram_of,
    require_finite_products,
    require_symmetric_products,
    residuals_of,
    rotated_in_float64,
)
from ntkbias.errors import InputError
from ntkbias.files import StorageError
from ntkbias.kernels import KernelOperator
from ntkbias.kernels.on_inputs import on_inputs, operator_on
from ntkbias.kernels.operators import JacobianOperator, ParameterOperator
from ntkbias.progress import progress
from ntkbias.spectra import Spectrum
from ntkbias.types import Inputs

__all__ = ["top_modes"]

MIN_BLOCK, MAX_BLOCK = 16, 128  # vectors: wide enough for matrix products, narrow enough for a deep subspace
DENSE = 2  # up to DENSE rows per vector of the subspace, decomposing the whole matrix is less work
COPIES = 1e-4  # relative gap below which eigenvalues count as copies of one
PATIENCE = 30  # products without a better residual (more for narrow blocks) after which rounding is the limit
LOOSE = 0.1  # relative residual at which the pairs from fresh vectors are accurate enough to compare
MARGIN = 0.5  # share of the tolerance that the search must reach, because results are rounded once more
SAVE_SECONDS = 30.0  # between checkpoints


@on_inputs
def top_modes(
    kernel: Any,
    x: Inputs,
    num_modes: int,
    *,
    tolerance: float = 1e-4,
    weights: ArrayLike | None = None,
    block_size: int | None = None,
    max_products: int = 200,
    checkpoint: str | Path | None = None,
    key: PRNGKeyArray | None = None,
) -> Spectrum:
    """The `num_modes` largest eigenvalues and eigenfunctions, with multiplicities, from products with the operator.

    `kernel` comes with its inputs `x`. An operator, or any value that `as_operator` takes, replaces both. Conventions
    are those of `spectrum`: eigenvalues of K / n, or with `weights` of W^1/2 K W^1/2, and eigenfunctions `(n, k)`, or
    `(n, o, k)`, of mean square one. `residuals` are ||K phi - eigenvalue phi|| / ||phi|| for K / n. They are computed,
    not estimated, so each eigenvalue is within its residual of a true one. A mode has `converged` if its residual is
    below `tolerance` times its eigenvalue, or below the noise floor.

    Eigenvalues may be negative if the operator is not `definite`: a Hessian, or `as_operator(matrix, definite=False)`.
    The largest are those by value; `-operator` has the other end. The `trace` is then NaN, as both signs cancel in it.

    Whether eigenvalues between those found were missed is not certain. In exact arithmetic, the probability is zero for
    eigenvalues of multiplicity up to `block_size`, because `key` (default: a fixed one) draws random start vectors. The
    search looks for higher multiplicities explicitly. If J^T J is smaller than J J^T, the search uses J^T J instead.

    Costs about 6 to 15 products with a block of `block_size` vectors (default: 1.25 * `num_modes`, from 16 to 128). The
    number of products is at most `max_products`, but at least the two that start the search. The subspace and its
    products take about 20 `block_size` numbers per row, limited to half a GiB if that suffices. A progress bar shows
    the number of converged modes and the largest residual.

    `checkpoint` is the path of an `.npz` file, which the search rewrites every half minute and at Ctrl-C, completely or
    not at all. The same call resumes from it, with the same result bit for bit on one device. If there are several
    processes, all must make the call and share the disk; another program cannot use the same file meanwhile. A resumed
    search repeats the first product to detect a changed operator. At the end it multiplies the `num_modes` eigenvectors
    once more to confirm the residuals. A problem that is small enough for a decomposition writes no checkpoint, and its
    `method` is "dense".

    Raises `InputError` on more modes than rows, NaN products, an operator that is not symmetric or has negative
    eigenvalues, and a checkpoint that belongs to another problem or is in use. Warns if modes did not converge, because
    `max_products` is too small or rounding is the limit, and if the checkpoint cannot be written.

    >>> import jax, ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> net = nb.nets.mlp(width=16, depth=1, b_std=0.1)
    >>> kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (2,)))
    >>> modes = nb.top_modes(kernel, x, 3)
    >>> modes.eigenfunctions.shape, bool(modes.converged.all())
    ((16, 3), True)
    """
    op = operator_on(kernel, x)
    require_positive("num_modes", num_modes)
    num_modes = checked_num_modes(num_modes, op.shape[0])
    key = key_or_default(key)
    if not isinstance(tolerance, float | int) or not 0 < tolerance < 1:
        raise InputError(f"Expected a tolerance between 0 and 1, relative to each eigenvalue; got {tolerance!r}.")
    require_positive("max_products", max_products)
    block_size = min(MAX_BLOCK, max(MIN_BLOCK, -(-5 * num_modes // 4))) if block_size is None else block_size
    require_positive("block_size", block_size)
    path = None if checkpoint is None else checked_path(checkpoint)

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
        with contextlib.nullcontext() if path is None or jax.process_index() else claimed_file(path):
            found, method = _search(problem, path), "matrix-free"
    if isinstance(inner, ParameterOperator):
        found = _lifted(inner, found)
    return _spectrum(scaled, found, measure, float(tolerance), op.source, method)


class RitzPairs(NamedTuple):
    """Ritz pairs in descending order: values, vectors v, and residuals K v - value v, packed as `(..., k)`."""

    values: np.ndarray
    vectors: Array
    residuals: Array


def _search(problem: Problem, path: Path | None) -> RitzPairs:
    """Expand the subspace until the wanted pairs have converged and no more copies of them appear."""
    resumed = path is not None and path.exists()
    state = loaded(problem, path) if path is not None and resumed else Subspace.empty(problem)
    saved_at = time.monotonic()
    best, improved_at = (0, math.inf), 0
    patience = PATIENCE + 2 * problem.num_modes // problem.block_size
    with _saved_when_interrupted(problem, state, path), progress(None, "modes", total=problem.num_modes) as bar:
        while True:
            values, rotation, errors = ritz_pairs(state)
            noise = rounding_of(values, problem.operator.dtype)
            relative = MARGIN * problem.tolerance * values
            allowed = np.where(values > noise, relative, np.maximum(noise, -relative))
            converged = (errors <= allowed)[: problem.num_modes]
            bar.n = int(np.sum(converged))
            worst = _worst(values, errors, problem)
            bar.set_postfix_str(f"residuals within {worst:.1e} of the eigenvalue, {state.num_products} products")
            if len(converged) == problem.num_modes and converged.all():
                if _all_copies_found(problem, state, values, errors):
                    break
                if state.num_starts <= _most_copies(values[: problem.num_modes]):
                    state = with_fresh_vectors(problem, restarted(state, values, rotation, problem.num_modes))
                    continue
            now = (int(np.sum(converged)), worst)
            if now[0] > best[0] or now[1] < 0.9 * best[1] or converged.all():
                best, improved_at = (max(now[0], best[0]), min(now[1], best[1])), state.num_products
            stalled = state.num_products > improved_at + patience
            if stalled or state.num_products >= problem.max_products:
                advice = "Raise max_products, tolerance or block_size; with a checkpoint, the same call resumes."
                if stalled:
                    advice = f"The search has not improved in {patience} products: raise tolerance, or use float64."
                warnings.warn(
                    f"Expected {problem.num_modes} modes to converge; got {now[0]} after {state.num_products} "
                    f"products, with a residual of up to {now[1]:.1e} of the eigenvalue. {advice}",
                    stacklevel=4,
                )
                break
            if state.filled:
                candidates = worst_residuals(problem, state, values, rotation, converged)
                state = expanded(problem, state, candidates, values, rotation)
            else:
                state = with_fresh_vectors(problem, state)
            if path is not None and time.monotonic() - saved_at > SAVE_SECONDS:
                _save_or_warn(problem, state, path)
                saved_at = time.monotonic()
    if path is not None:
        _save_or_warn(problem, state, path)
    chosen, values = rotation[:, : problem.num_modes], values[: problem.num_modes]
    vectors = rotated_in_float64(state.vectors, chosen)
    products = rotated_in_float64(state.products, chosen)
    if resumed:
        products = _confirmed(problem, state, vectors, products, float(values[0]))
    with jax.enable_x64(True):
        residuals = residuals_of(vectors, products, jnp.asarray(values)).astype(problem.operator.dtype)
        return RitzPairs(state.scale * values, vectors.astype(problem.operator.dtype), state.scale * residuals)


def _all_copies_found(problem: Problem, state: Subspace, values: np.ndarray, errors: np.ndarray) -> bool:
    """Whether every eigenvalue has fewer copies than random start vectors, and the next pair is known well enough."""
    if state.num_starts > problem.block_size:  # vectors beyond the wanted ones come from the last chain alone
        unwanted = problem.num_modes  # the first pair beyond the wanted ones
        noise = rounding_of(values, problem.operator.dtype)
        if len(values) > unwanted and errors[unwanted] > max(LOOSE * abs(values[unwanted]), noise):
            return False
    return state.num_starts > _most_copies(values[: problem.num_modes])


def _most_copies(values: np.ndarray) -> int:
    """The largest number of copies of one eigenvalue."""
    together = np.cumsum(np.append(0, np.diff(-values) > COPIES * np.abs(values[:-1])))
    return int(np.max(np.bincount(together)))


def _worst(values: np.ndarray, errors: np.ndarray, problem: Problem) -> float:
    """The largest residual of the wanted pairs, relative to the eigenvalue; infinity if there are fewer pairs."""
    if len(values) < problem.num_modes:
        return math.inf
    wanted = slice(problem.num_modes)
    return float(np.max(errors[wanted] / np.maximum(np.abs(values[wanted]), np.finfo(float).tiny)))


def _confirmed(problem: Problem, state: Subspace, vectors: Array, products: Array, largest: float) -> Array:
    """K v for the residuals of a resumed search: the stored products if fresh ones confirm them, else the fresh ones.

    If the operator is equal bit for bit, stored and fresh products differ only by rounding. The function then keeps the
    stored ones, whose rounding the search has corrected. If the subspace no longer fits the operator, the comparison
    shows it, and the function warns.
    """
    fresh = fresh_products(problem, vectors.astype(problem.operator.dtype)) / state.scale
    with jax.enable_x64(True):
        difference = np.sqrt(gram_of(fresh.astype(jnp.float64) - products).diagonal())
    rounding = ROUNDING * problem.operator.epsilon * largest
    if np.all(difference <= rounding) and state.is_of_operator:
        return products
    worst = float(np.max(difference)) * state.scale
    warnings.warn(
        f"Expected products of the checkpoint's operator; fresh ones differ by up to {worst:.2g}, as on another device "
        "or for a slightly different operator. The residuals use the fresh products.",
        stacklevel=5,
    )
    return fresh


def _save_or_warn(problem: Problem, state: Subspace, path: Path) -> None:
    """Write a checkpoint; if that fails, warn, and let the search continue."""
    try:
        save(problem, state, path)
    except StorageError as error:
        warnings.warn(f"{error} The search continues without that checkpoint, to the same result.", stacklevel=5)


@contextlib.contextmanager
def _saved_when_interrupted(problem: Problem, state: Subspace, path: Path | None) -> Iterator[None]:
    """Write a checkpoint at Ctrl-C; skip it if the subspace cannot be written."""
    try:
        yield
    except KeyboardInterrupt:
        if path is not None and jax.process_count() == 1:
            with contextlib.suppress(Exception):
                save(problem, state, path)
        raise


def _dense(operator: KernelOperator, num_modes: int) -> RitzPairs:
    """The first pairs by a decomposition of the whole matrix, for operators with few rows."""
    matrix = operator.matrix().astype(np.float64)
    require_finite_products(matrix)
    require_symmetric_products(matrix - matrix.T, np.linalg.norm(matrix, axis=0), operator.dtype)
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if operator.definite:
        require_positive_definite(jnp.asarray(values[::-1]), operator.epsilon)
    # Round first, as the returned values are, so that the residuals include this rounding.
    values = values[::-1][:num_modes].astype(operator.dtype).astype(np.float64)
    vectors = vectors[:, ::-1][:, :num_modes].astype(operator.dtype).astype(np.float64)
    residuals = matrix @ vectors - vectors * values
    return RitzPairs(values, *(operator.pack(array.astype(operator.dtype)) for array in (vectors, residuals)))


def _lifted(operator: ParameterOperator, found: RitzPairs) -> RitzPairs:
    """The pairs of J J^T from those of J^T J.

    v = J u / sqrt(value), and K v - value v = J (J^T J u - value u) / sqrt(value).
    """
    k = len(found.values)
    both = operator.lift(jnp.concatenate([found.vectors, found.residuals], -1))
    positive = np.maximum(found.values, np.finfo(operator.dtype).tiny)
    both = both / jnp.asarray(np.sqrt(np.tile(positive, 2)), both.dtype)
    return RitzPairs(found.values, both[..., :k], both[..., k:])


def _spectrum(
    operator: KernelOperator, found: RitzPairs, measure: np.ndarray, tolerance: float, source: Any, method: str
) -> Spectrum:
    kernel, x = (None, None) if source is None else source
    n, o = operator.num_examples, operator.num_outputs
    vectors = operator.unpack(found.vectors).astype(np.float64)
    norms = np.maximum(np.linalg.norm(vectors, axis=0), np.finfo(operator.dtype).tiny)
    errors = np.linalg.norm(operator.unpack(found.residuals).astype(np.float64), axis=0)
    roots = np.repeat(np.sqrt(measure.astype(np.float64)), o)[:, None]
    functions = signed(*(jnp.asarray(each.astype(operator.dtype)) for each in (vectors / norms / roots, roots)))
    trace = operator.trace() if operator.definite else math.nan
    epsilon = operator.epsilon
    noise_floor = epsilon * norm_of(operator, found.values, trace)
    dtype = functions.dtype
    values = jnp.asarray(found.values, dtype)
    return Spectrum(
        eigenvalues=values,
        eigenfunctions=functions.reshape(n, o, -1) if o > 1 else functions,
        eigenspace=eigenspaces(values, jnp.asarray(noise_floor, dtype), epsilon**0.5),
        trace=jnp.asarray(trace, dtype),
        residuals=jnp.asarray(errors / norms + epsilon * found.values, dtype),  # plus the rounding of the eigenvalue
        noise_floor=jnp.asarray(noise_floor, dtype),
        weights=jnp.asarray(measure),
        x=None if x is None else jnp.asarray(x),
        kernel=kernel,
        tolerance=tolerance,
        method=method,
    )

"""Lanczos iterations of many probes at once, each with its own subspace, and the quadrature rules that follow.

After s steps from a probe v, the tridiagonal matrix T satisfies v^T f(K) v = |v|^2 (f(T))_11 for polynomials f of
degree below 2 s. This is the Gauss rule, whose nodes are the eigenvalues of T (Golub and Welsch 1969).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.eigen.vectors import require_finite_products
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import KernelOperator
from ntkbias.memory import default_memory_budget
from ntkbias.spectra import Spectrum

__all__ = [
    "GROUP",
    "gauss_rule",
    "known_modes",
    "probes_at_once",
    "probes_of",
    "require_nonnegative",
    "tridiagonal",
    "with_node",
]

GROUP = 8  # Lanczos vectors that one compiled program projects out; more save calls but compile longer
WELL_KNOWN = 0.01  # relative residual up to which a given mode counts as exact


def probes_of(operator: KernelOperator, key: PRNGKeyArray, share: range) -> Array:
    """Packed normal vectors, one per number in `share`. Their directions are uniform on the sphere."""

    def probe(number: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, number), (operator.shape[0],), operator.dtype)

    return operator.pack(np.asarray(jax.vmap(probe, out_axes=-1)(jnp.arange(share.start, share.stop))))


def tridiagonal(
    operator: KernelOperator, probes: Array, num_steps: int, locked: list[Array], largest: float, bar: Any
) -> tuple[Float[np.ndarray, "p s"], Float[np.ndarray, "p s"]]:
    """The diagonal and off-diagonal of each probe's tridiagonal matrix, orthogonal to the locked vectors.

    The last off-diagonal entry is the norm of the remainder of the last product. If a remainder is only rounding,
    including that of the locked eigenvalues, the probe has found all eigenvalues that it can see, and the later entries
    are zero.
    """
    count, epsilon = probes.shape[-1], operator.epsilon
    diagonals, off_diagonals = np.zeros((count, num_steps)), np.zeros((count, num_steps))
    scale, beta = np.full(count, largest), np.zeros(count)
    current = _unit(_outside(probes, locked), jnp.zeros(count, operator.dtype))[0]
    basis: list[Array] = []
    for step in range(num_steps):
        basis.append(current)
        product = operator.product(current)
        alpha, back = (np.asarray(part, np.float64) for part in _inner([current, basis[step - 1]], product))
        require_finite_products(alpha)
        scale = np.maximum(scale, np.abs(alpha) + beta)
        if step:
            _require_symmetric(back, beta, scale, epsilon)
        left, norms = _unit(_outside(product, basis, locked), jnp.asarray(10 * epsilon * scale, operator.dtype))
        current, beta = left, np.asarray(norms, np.float64)
        diagonals[:, step], off_diagonals[:, step] = alpha, beta
        bar.update()
    return diagonals, off_diagonals


def _outside(vectors: Array, *bases: list[Array]) -> Array:
    """The part of each probe's vector that is orthogonal to that probe's vectors in the bases, by two passes."""
    for _ in range(2):
        for basis in bases:
            for start in range(0, len(basis), GROUP):
                group = basis[start : start + GROUP]
                zeros = [jnp.zeros_like(group[0])] * (GROUP - len(group))
                vectors = _without(vectors, [*group, *zeros])
    return vectors


@jax.jit
def _without(vectors: Array, group: list[Array]) -> Array:
    axes = tuple(range(vectors.ndim - 1))
    for other in group:
        vectors = vectors - other * jnp.sum(other * vectors, axes)
    return vectors


@jax.jit
def _inner(others: list[Array], vectors: Array) -> list[Array]:
    return [jnp.sum(other * vectors, tuple(range(vectors.ndim - 1))) for other in others]


@jax.jit
def _unit(vectors: Array, least: Float[Array, " p"]) -> tuple[Array, Float[Array, " p"]]:
    """The vectors scaled to norm one, and their norms; both are zero if a norm is at most `least`."""
    axes = tuple(range(vectors.ndim - 1))
    largest = jnp.max(jnp.abs(vectors), axes)
    scale = jnp.where(largest > 0, largest, 1)  # without it, squares overflow or underflow in float32
    norms = scale * jnp.sqrt(jnp.sum((vectors / scale) ** 2, axes))
    kept = norms > least
    return jnp.where(kept, vectors / jnp.where(kept, norms, 1), 0), jnp.where(kept, norms, 0)


def gauss_rule(
    diagonals: Float[np.ndarray, "p s"], off_diagonals: Float[np.ndarray, "p r"]
) -> tuple[Float[np.ndarray, "p s"], Float[np.ndarray, "p s"]]:
    """The nodes (ascending) and the weights (which sum to one) of the Gauss rules of tridiagonal matrices.

    (Golub and Welsch 1969.)
    """
    size = diagonals.shape[1]
    places = np.arange(size)
    matrices = np.zeros((len(diagonals), size, size))
    matrices[:, places, places] = diagonals
    matrices[:, places[1:], places[:-1]] = matrices[:, places[:-1], places[1:]] = off_diagonals
    values, vectors = np.linalg.eigh(matrices)
    return values, vectors[:, 0] ** 2


def with_node(
    diagonals: Float[np.ndarray, "p s"], off_diagonals: Float[np.ndarray, "p s"], point: float
) -> tuple[Float[np.ndarray, "p r"], Float[np.ndarray, "p s"]]:
    """Tridiagonal matrices with one more row that have an eigenvalue at the given point (Golub 1973).

    The last diagonal entry makes the last pivot of the elimination zero. If that entry would be large, the matrix
    without the new row nearly has this eigenvalue already. The code then adjusts the entry before it instead, and
    decouples the last row, with an eigenvalue beyond all others and a weight of zero.
    """
    scale = np.max(np.abs(diagonals) + off_diagonals, -1)
    pivot = _not_zero(diagonals[:, 0] - point)
    for step in range(1, diagonals.shape[1]):
        pivot = _not_zero(diagonals[:, step] - point - off_diagonals[:, step - 1] ** 2 / pivot)
    last = off_diagonals[:, -1] ** 2 / pivot
    large = np.abs(last) > scale
    body = diagonals.copy()
    body[:, -1] -= np.where(large, pivot, 0)
    border = np.where(large, 0, off_diagonals[:, -1])
    return (
        np.concatenate([body, np.where(large, 2 * scale + abs(point), point + last)[:, None]], 1),
        np.concatenate([off_diagonals[:, :-1], border[:, None]], 1),
    )


def _not_zero(pivot: np.ndarray) -> np.ndarray:
    least = np.finfo(float).tiny ** 0.5
    return np.where(np.abs(pivot) < least, least, pivot)


def known_modes(operator: KernelOperator, modes: Spectrum | None) -> tuple[list[Array], Float[np.ndarray, " k"]]:
    """Orthonormal vectors of the modes that are accurate enough, shared by all probes, and their eigenvalues."""
    if modes is None:
        return [], np.zeros(0)
    if not isinstance(modes, Spectrum):
        raise InputTypeError(f"Expected modes= to be a Spectrum, by top_modes or eigh; got {type(modes).__name__}.")
    functions = np.asarray(modes.eigenfunctions)
    rows = int(np.prod(functions.shape[:-1]))
    if rows != operator.shape[0] or len(functions) != operator.num_examples:
        raise InputError(
            f"Expected modes on the {operator.num_examples} examples and {operator.num_outputs} outputs of the "
            f"operator; got eigenfunctions of shape {functions.shape}. Make them by top_modes(operator, ...)."
        )
    roots = np.repeat(np.sqrt(np.asarray(modes.weights)), rows // len(functions))
    vectors = (roots[:, None] * functions.reshape(rows, -1)).astype(operator.dtype)
    products = operator.unpack(operator.product(operator.pack(vectors))).astype(np.float64)
    values = np.sum(vectors * products, 0)
    residuals = np.linalg.norm(products - vectors * values, axis=0)
    poor = residuals > WELL_KNOWN * np.abs(values)
    count = int(np.argmax(poor)) if poor.any() else len(poor)
    if len(poor) and not count:
        raise InputError(
            f"Expected modes of this operator; got a first mode with residual {residuals[0]:.2g} and eigenvalue "
            f"{values[0]:.2g}. Make them by top_modes(operator, ...), with the same weights."
        )
    return [operator.pack(vectors[:, i : i + 1]) for i in range(count)], values[:count]


def probes_at_once(num_probes: int, bytes_per_probe: int, memory_budget: int | None) -> int:
    """The number of probes per round that fits the budget, with rounds of about equal size."""
    budget = default_memory_budget() if memory_budget is None else memory_budget
    most = max(1, min(num_probes, budget // bytes_per_probe))
    return -(-num_probes // -(-num_probes // most))


def _require_symmetric(back: np.ndarray, beta: np.ndarray, scale: np.ndarray, epsilon: float) -> None:
    """Raise an `InputError` if x^T K y differs from y^T K x, which the previous step computed."""
    if np.any(np.abs(back - beta) > epsilon**0.5 * scale):
        raise InputError(
            "Expected a symmetric operator; got products with x^T (K y) and y^T (K x) that differ by "
            f"{np.max(np.abs(back - beta)):.2g}, compared with {np.max(scale):.2g}. Make it from one set of inputs."
        )


def require_nonnegative(nodes: np.ndarray, largest: float, dtype: Any) -> None:
    """Raise an `InputError` if a node is more negative than rounding can make it."""
    least, largest = float(nodes.min()), max(largest, float(np.abs(nodes).max()))
    if least < -(float(np.finfo(dtype).eps) ** 0.5) * largest:
        raise InputError(
            f"Expected an operator without negative eigenvalues; got one of about {least:.3g} of K / n, with a largest "
            f"of {largest:.3g}. A kernel of inner products has none: check how it was made. For another matrix write "
            "as_operator(matrix, definite=False)."
        )

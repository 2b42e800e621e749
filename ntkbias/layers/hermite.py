r"""Duals by Hermite expansion: exact for polynomials, by quadrature for other functions.

Let h_k be the orthonormal Hermite polynomials and z standard normal. For Gaussians with standard deviations s, s' and
correlation rho, Mehler's formula gives

    E[f(u) f(v)] = sum_k a_k(s) a_k(s') rho^k,      a_k(s) = E[f(s z) h_k(z)]

The integrals are one-dimensional, one per input, and each pair of inputs costs one polynomial in rho. A two-dimensional
Gauss-Hermite rule with as many nodes has the same error at rho = 1, and costs the square of their number per pair.

>>> import jax.numpy as jnp
>>> one, half = jnp.array(1.0), jnp.array(0.5)
>>> print(polynomial_dual((0.0, 0.0, 1.0), half, one, one))  # E[u^2 v^2] = 1 + 2 rho^2
1.5
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

__all__ = ["expansion_dual", "polynomial_dual", "polynomial_slope"]

TERMS_PER_PASS = 16  # terms that one pass over the pairs in memory adds; fewer or more are slower on a CPU
# JAX 0.8.0 cannot transpose a scan over tangents, and raises an AssertionError; 0.10.2 can.
TANGENTS_SCAN = jax.__version_info__ >= (0, 10)
NODES_PER_TERM = 4  # enough that truncation dominates the error of an expansion, not quadrature


def polynomial_dual(coefficients: Sequence[float | Array], covariance: Array, spread1: Array, spread2: Array) -> Array:
    """E[p(u) p(v)] for p = sum of coefficients[n] x^n, given the variances of u and v as spreads. It is exact.

    For p = sum of coefficients[n] He_n, with the probabilists' Hermite polynomials He_n, the spreads are the variances
    minus one. The same code serves both families: both have p_n' = n p_(n-1), and both expand in He_k of a scaled
    variable in the same way.
    """
    total = jnp.zeros(jnp.broadcast_shapes(*map(jnp.shape, (covariance, spread1, spread2))), covariance.dtype)
    for order in reversed(range(len(coefficients))):
        factors = [_expected_derivative(coefficients, order, spread) for spread in (spread1, spread2)]
        total = total * covariance + factors[0] * factors[1] / math.factorial(order)
    return total


def polynomial_slope(coefficients: Sequence[float | Array]) -> list[float | Array]:
    """The coefficients of p', in powers or in He_n; one zero for a constant."""
    return [n * value for n, value in enumerate(coefficients)][1:] or [0.0]


def _expected_derivative(coefficients: Sequence[float | Array], order: int, spread: Array) -> Array:
    """E of the derivative of p of this order: sum over n = order + 2 i of coefficients[n] n! / (2^i i!) spread^i."""
    total = jnp.zeros_like(spread)
    for i in reversed(range((len(coefficients) - order + 1) // 2)):
        n = order + 2 * i
        total = total * spread + coefficients[n] * (math.factorial(n) / (2**i * math.factorial(i)))
    return total


def expansion_dual(
    f: Callable[[Array], Array], num_terms: int, covariance: Array, variance1: Array, variance2: Array
) -> Array:
    """E[f(u) f(v)] from the first `num_terms` terms of Mehler's formula.

    f is evaluated 4 `num_terms` times per variance, so pass variances that broadcast rather than broadcast arrays. The
    truncation error is at most rho^num_terms times the sum of a_k^2 from `num_terms` on. It falls as
    exp(-2 d sqrt(2 num_terms) / s) if f is analytic up to a distance d from the real axis, and as a power of num_terms
    if f has a kink.
    """
    deviation1, deviation2 = (jnp.where(v > 0, jnp.sqrt(jnp.where(v > 0, v, 1.0)), 0.0) for v in (variance1, variance2))
    live = (variance1 > 0) & (variance2 > 0)
    cosine = jnp.where(live, covariance / jnp.where(live, deviation1 * deviation2, 1.0), 0.0)
    return _mehler(*(_coefficients(f, num_terms, deviation) for deviation in (deviation1, deviation2)), cosine)


def _coefficients(f: Callable[[Array], Array], num_terms: int, deviation: Array) -> Array:
    """The a_k(deviation), with k on the first axis."""
    nodes, weights = (jnp.asarray(z, deviation.dtype) for z in _rule(num_terms))
    values = f(deviation[..., None] * nodes)
    return jnp.einsum("...q,qk->k...", values, weights, precision=jax.lax.Precision.HIGHEST)


@functools.cache
def _rule(num_terms: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Hermite nodes `(4 k,)`, and their weights times each h_k at the nodes, `(4 k, k)`, for k = num_terms."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES_PER_TERM * num_terms)
    rows = [weights / weights.sum()]
    for k in range(num_terms - 1):
        before = rows[k - 1] if k else 0.0
        rows.append((nodes * rows[k] - k**0.5 * before) / (k + 1) ** 0.5)
    return nodes, np.stack(rows, 1)


def _sum(first: Array, second: Array, cosine: Array) -> Array:
    """The sum over k of first[k] second[k] cosine^k, by Horner's rule."""

    def step(total: Array, terms: tuple[Array, Array]) -> tuple[Array, None]:
        for k in reversed(range(TERMS_PER_PASS)):
            total = total * cosine + terms[0][k] * terms[1][k]
        return total, None

    def in_passes(coefficients: Array) -> Array:
        padding = [(0, -len(first) % TERMS_PER_PASS), *[(0, 0)] * (coefficients.ndim - 1)]
        return jnp.pad(coefficients, padding).reshape(-1, TERMS_PER_PASS, *coefficients.shape[1:])

    return jax.lax.scan(step, jnp.zeros_like(cosine), (in_passes(first), in_passes(second)), reverse=True)[0]


@jax.custom_jvp
def _mehler(first: Array, second: Array, cosine: Array) -> Array:
    """`_sum` with a custom derivative. By the cosine it is another such sum, so no partial sums are stored."""
    return _sum(first, second, cosine)


@_mehler.defjvp
def _mehler_jvp(primals, tangents):
    first, second, cosine = primals
    order = jnp.arange(1, len(first), dtype=first.dtype).reshape(-1, *[1] * (first.ndim - 1))
    slope = _mehler(order * first[1:], second[1:], cosine) if len(first) > 1 else jnp.zeros_like(cosine)
    sum_of = _sum if TANGENTS_SCAN else _sum_by_powers
    change = sum_of(tangents[0], second, cosine) + sum_of(first, tangents[1], cosine)
    return _mehler(*primals), change + slope * tangents[2]


def _sum_by_powers(first: Array, second: Array, cosine: Array) -> Array:
    """The same sum, which holds all powers of the cosine at once."""
    powers = jnp.cumprod(jnp.broadcast_to(cosine, (len(first) - 1, *cosine.shape)), 0)
    return first[0] * second[0] + jnp.sum(first[1:] * second[1:] * powers, 0)

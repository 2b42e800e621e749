r"""Expectations over two correlated Gaussians that depend on the angle between them.

Let u and v be centered Gaussians with variances a and b and covariance c. The cosine of the angle t between them is
rho = c / sqrt(a b). Then

    P(u > 0, v > 0)         = 1/4 + arcsin(rho) / (2 pi) = (pi - t) / (2 pi)
    E[relu(u) relu(v)]      = c P(u > 0, v > 0) + sqrt(a b - c^2) / (2 pi)            (Cho and Saul 2009)
    E[relu^n(u) relu^n(v)]  follows from these by Stein's lemma

These formulas are the inner loop of every infinitely wide ReLU network, so the code is written for speed. Each pair
costs one square root, one polynomial for the angle and no division. XLA vectorizes all of these on a CPU. It does not
vectorize jax.numpy.arccos and arctan2, and either of them alone takes several times as long.

Near rho = 1 the angle is proportional to the square root of 1 - rho, so rounding rho would lose half of its digits.
`cosine_defect` therefore computes 1 - |rho| from differences of the three arguments.

>>> import jax.numpy as jnp
>>> one, half = jnp.array(1.0), jnp.array(0.5)
>>> print(arc_cosine(0, half, one, one), arc_cosine(1, one, one, one))
0.333333 0.5
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["arc_cosine", "cosine_defect", "smoothed_angle"]

MARGIN = 4  # a computed cosine of 1 may be off by this many eps

# Coefficients of arcsin(x) / x as a polynomial in x^2 <= 1/2, interpolated at Chebyshev nodes. The relative errors are
# 2.7e-9 (single) and 2.0e-17 (double), so rounding dominates the error of the function.
ARCSINE_SINGLE = (
    1.0000000016226234,
    0.16666614237824284,
    0.07502757316352404,
    0.04409161673371687,
    0.03581423928401177,
    -0.0070205791522944755,
    0.10740002130174647,
    -0.13591627123984387,
    0.12391349490512975,
)
ARCSINE_DOUBLE = (
    1.0,
    0.16666666666664987,
    0.07500000000401816,
    0.044642856762615,
    0.030381963396751827,
    0.022371584779320355,
    0.017364281439103527,
    0.01380344589589198,
    0.013191002571753903,
    -0.002601537848299688,
    0.07871611357002127,
    -0.2968705430689824,
    1.0082016650534187,
    -2.4908808126226116,
    4.6420689099888435,
    -6.229299875397985,
    5.7579408313146985,
    -3.278933156739812,
    0.8892904367638688,
)


def cosine_defect(covariance: Array, variance1: Array, variance2: Array) -> Array:
    """1 - |rho|, set to exactly zero where it is within the rounding error of equal or opposite inputs.

    If the standard deviations s and s' are within a factor of two, the formula is
    (a - |c| + b - |c| - (s - s')^2) / (2 s s'). Differences of nearby numbers are exact, so its error is at most eps,
    and at most eps / 50 at equal norms. Otherwise the formula is 1 - |c| / (s s'), with an error of at most 2 eps.
    Where a variance is zero, the result is zero or one.
    """
    deviation1, deviation2 = _root(variance1), _root(variance2)
    reciprocal = _reciprocal(deviation1) * _reciprocal(deviation2)
    size = jnp.abs(covariance)
    gap = (deviation1 - deviation2) ** 2
    near = ((variance1 - size) + (variance2 - size) - gap) * (0.5 * reciprocal)
    far = 1 - size * reciprocal
    defect = jnp.where(gap <= 0.5 * (deviation1 * deviation2), near, far)
    # Set an angle within rounding error to zero, so that the kernel's diagonal is exact. Keep its derivative:
    # `smoothed_angle` needs it, because the added noise keeps its sine away from zero.
    return defect - jax.lax.stop_gradient(jnp.where(defect < MARGIN * jnp.finfo(defect.dtype).eps, defect, 0.0))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def arc_cosine(degree: int, covariance: Array, variance1: Array, variance2: Array) -> Array:
    """E[u^n v^n; u > 0, v > 0] for n = degree. The arc-cosine kernel of Cho and Saul is twice this value.

    At equal inputs the value is exactly half the moment E[u^2n]. At opposite inputs it is exactly 0. Where a variance
    is zero it is 0, for n = 0 too, because 0 is not positive. The probability (n = 0) has a cusp at u = +-v. Its
    derivative there is defined as 0, because the slopes on the two sides cancel.
    """
    live = (variance1 > 0) & (variance2 > 0)
    turns, root = _turns_and_area(covariance, variance1, variance2)
    probability = jnp.where(live, 0.25 + turns, 0.0)
    if degree == 0:
        return probability
    density = root * (0.5 / math.pi)
    moment = covariance * probability + density
    product = variance1 * variance2
    before, mixed = probability, product * probability + covariance * density
    for n in range(2, degree + 1):  # Stein's lemma; mixed is the variance of u times E[u^(n-2) v^n]
        if n > 2:
            mixed = (n - 1) * product * before + (n - 2) * covariance * mixed
        before, moment = moment, (n - 1) * mixed + n * covariance * moment
    return moment


@arc_cosine.defjvp
def _arc_cosine_jvp(degree, primals, tangents):
    """By the covariance: n^2 times degree n - 1 (Price's theorem). By the variances: from homogeneity (Euler)."""
    covariance, variance1, variance2 = primals
    change, *changes = tangents
    scale = changes[0] / _positive(variance1) + changes[1] / _positive(variance2)
    turn = change - 0.5 * covariance * scale  # the part that does not come from the lengths of u and v
    value = arc_cosine(degree, *primals)
    if degree > 0:
        return value, degree**2 * arc_cosine(degree - 1, *primals) * turn + 0.5 * degree * value * scale
    root = _root_of_determinant(*primals)
    inside = root > 0
    return value, jnp.where(inside, turn / (2 * math.pi * jnp.where(inside, root, 1.0)), 0.0)


@jax.custom_jvp
def smoothed_angle(covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array, Array]:
    """The cosine, the sine and (pi / 2 - angle) / (2 pi) of the angle between u + e and v + e'.

    Here e and e' are independent standard normals. An error function is a step smoothed by a Gaussian, so the duals of
    erf and GELU depend on this angle. The cosine is c / sqrt((1 + a)(1 + b)). The sine is never zero, and is computed
    without cancellation however large the variances are.
    """
    noise1, noise2 = 1 / (1 + variance1), 1 / (1 + variance2)  # the share of e in the variance of u + e
    cosine = covariance * (jnp.sqrt(noise1) * jnp.sqrt(noise2))
    defect = cosine_defect(covariance, variance1, variance2)
    signal = (variance1 * noise1) * (variance2 * noise2)
    square = noise1 + noise2 - noise1 * noise2 + signal * (defect * (2 - defect))
    sine = jnp.sqrt(square)
    turns = _turns(jnp.abs(cosine), sine, square)
    return cosine, sine, jnp.where(covariance < 0, -turns, turns)


@smoothed_angle.defjvp
def _smoothed_angle_jvp(primals, tangents):
    _, variance1, variance2 = primals
    cosine, sine, turns = smoothed_angle(*primals)
    noise1, noise2 = 1 / (1 + variance1), 1 / (1 + variance2)
    scale = tangents[1] * noise1 + tangents[2] * noise2
    change = tangents[0] * jnp.sqrt(noise1) * jnp.sqrt(noise2) - 0.5 * cosine * scale
    return (cosine, sine, turns), (change, -change * cosine / sine, change / (2 * math.pi * sine))


def _turns_and_area(covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
    """arcsin(rho) / (2 pi), and sqrt(a b - c^2), the area of the parallelogram that u and v span."""
    deviation1, deviation2 = _root(variance1), _root(variance2)
    cosine = jnp.abs(covariance) * (_reciprocal(deviation1) * _reciprocal(deviation2))
    defect = cosine_defect(covariance, variance1, variance2)
    square = defect * (2 - defect)
    sine = _root(square)
    turns = _turns(cosine, sine, square)
    return jnp.where(covariance < 0, -turns, turns), (deviation1 * deviation2) * sine


def _turns(cosine: Array, sine: Array, square: Array) -> Array:
    """arcsin(cosine) / (2 pi) for an angle in the first quadrant, from the smaller of its cosine and sine.

    The relative error is 2 eps. XLA's arccos and arctan2 call a scalar function per entry; this is a polynomial.
    """
    steep = cosine < math.sqrt(0.5)  # compare the cosine: to compare the sine, XLA would store it in memory
    leg = jnp.where(steep, cosine, sine)
    coefficients = ARCSINE_DOUBLE if leg.dtype == jnp.float64 else ARCSINE_SINGLE
    turns = leg * _polynomial([value / (2 * math.pi) for value in coefficients], jnp.where(steep, cosine**2, square))
    return jnp.where(steep, turns, 0.25 - turns)


@jax.custom_jvp
def _root_of_determinant(covariance: Array, variance1: Array, variance2: Array) -> Array:
    """sqrt(a b - c^2), with its derivative defined as 0 where the value is 0."""
    return _turns_and_area(covariance, variance1, variance2)[1]


@_root_of_determinant.defjvp
def _root_of_determinant_jvp(primals, tangents):
    covariance, variance1, variance2 = primals
    root = _root_of_determinant(*primals)
    change = 0.5 * (variance1 * tangents[2] + variance2 * tangents[1]) - covariance * tangents[0]
    return root, jnp.where(root > 0, change / jnp.where(root > 0, root, 1.0), 0.0)


def _polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """The sum of coefficients[k] x^k, by Horner's rule."""
    total = jnp.full_like(x, coefficients[-1])
    for value in coefficients[-2::-1]:
        total = total * x + value
    return total


def _root(square: Array) -> Array:
    """The square root, with its derivative defined as 0 where the value is 0.

    The functions here have custom derivatives (custom_jvp). JAX 0.8 to 0.11 drop these inside the body of a scan that
    is differentiated twice, first in reverse mode. JAX then differentiates the code itself, which has to be right too.
    """
    live = square > 0
    return jnp.where(live, jnp.sqrt(jnp.where(live, square, 1.0)), 0.0)


def _positive(variance: Array) -> Array:
    """The variance, or one where it is zero."""
    return jnp.where(variance > 0, variance, 1.0)


def _reciprocal(deviation: Array) -> Array:
    """1 / deviation, or zero where that is zero."""
    return jnp.where(deviation > 0, 1 / _positive(deviation), 0.0)

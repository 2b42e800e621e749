r"""Expectations of two correlated Gaussians that come down to the angle between them.

For centered Gaussians (u, v) of variances a, b and covariance c, rho = c / sqrt(a b) the cosine of their angle t:

    P(u > 0, v > 0)         = 1/4 + arcsin(rho) / (2 pi) = (pi - t) / (2 pi)
    E[relu(u) relu(v)]      = c P(u > 0, v > 0) + sqrt(a b - c^2) / (2 pi)            (Cho and Saul 2009)
    E[relu^n(u) relu^n(v)]  from these by Stein's lemma

They are the inner loop of every infinitely wide ReLU network, and written for speed: one square root, one polynomial
for the angle and no division a pair, all of which XLA vectorizes on a CPU. It does not vectorize jax.numpy.arccos and
arctan2, which alone take several times as long.

Where rho is near 1 the angle is the square root of 1 - rho, and rounding rho would lose half of its digits: 1 - |rho|
comes from differences of the three arguments (`cosine_defect`).

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

MARGIN = 4  # roundings by which a cosine of 1 may be off

# arcsin(x) / x as a polynomial in x^2 <= 1/2, interpolated at Chebyshev nodes: relative error 2.7e-9 and 2.0e-17. The
# error of the function is then that of its arithmetic.
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
    """1 - |rho|, and exactly zero where it is no more than the rounding of equal or opposite inputs.

    For deviations s, s' within a factor of two it is (a - |c| + b - |c| - (s - s')^2) / (2 s s'): differences of near
    numbers are exact, so that it is within eps, and within eps / 50 at equal norms. Beyond, it is 1 - |c| / (s s'),
    within 2 eps. Zero or one where a variance is zero.
    """
    deviation1, deviation2 = _root(variance1), _root(variance2)
    reciprocal = _reciprocal(deviation1) * _reciprocal(deviation2)
    size = jnp.abs(covariance)
    gap = (deviation1 - deviation2) ** 2
    near = ((variance1 - size) + (variance2 - size) - gap) * (0.5 * reciprocal)
    far = 1 - size * reciprocal
    defect = jnp.where(gap <= 0.5 * (deviation1 * deviation2), near, far)
    # An angle that is only rounding is taken as zero: the kernel's diagonal is exact then.
    # Its derivative stays: the sine is no root of it where noise adds to the variances.
    return defect - jax.lax.stop_gradient(jnp.where(defect < MARGIN * jnp.finfo(defect.dtype).eps, defect, 0.0))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def arc_cosine(degree: int, covariance: Array, variance1: Array, variance2: Array) -> Array:
    """E[u^n v^n; u > 0, v > 0] for n = degree; the arc-cosine kernel of Cho and Saul is twice it.

    Exactly half the moment E[u^2n] at equal inputs, and 0 at opposite ones. It is 0 where a variance is zero, for n = 0
    as well: 0 is not positive. Where u = +-v the probability (n = 0) has a cusp, and its derivative is taken as 0: the
    slopes on both sides cancel.
    """
    live = (variance1 > 0) & (variance2 > 0)
    turns, root = _quadrant(covariance, variance1, variance2)
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
    """By the covariance n^2 times degree n - 1 (Price's theorem); by the variances as Euler has it for such powers."""
    covariance, variance1, variance2 = primals
    change, *changes = tangents
    scale = changes[0] / _positive(variance1) + changes[1] / _positive(variance2)
    turn = change - 0.5 * covariance * scale  # what changes beside the lengths of u and v
    value = arc_cosine(degree, *primals)
    if degree > 0:
        return value, degree**2 * arc_cosine(degree - 1, *primals) * turn + 0.5 * degree * value * scale
    root = _root_of_determinant(*primals)
    inside = root > 0
    return value, jnp.where(inside, turn / (2 * math.pi * jnp.where(inside, root, 1.0)), 0.0)


@jax.custom_jvp
def smoothed_angle(covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array, Array]:
    """The cosine, sine and (pi / 2 - angle) / (2 pi) of u + e and v + e', with e, e' independent standard normals.

    An error function is a step smoothed by a Gaussian, so the angle between such sums is what the duals of erf and GELU
    hold. The cosine is c / sqrt((1 + a)(1 + b)); the sine is never zero, and has no cancellation however large the
    variances are.
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


def _quadrant(covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
    """arcsin(rho) / (2 pi), and the root of a b - c^2: the area that u and v span."""
    deviation1, deviation2 = _root(variance1), _root(variance2)
    cosine = jnp.abs(covariance) * (_reciprocal(deviation1) * _reciprocal(deviation2))
    defect = cosine_defect(covariance, variance1, variance2)
    square = defect * (2 - defect)
    sine = _root(square)
    turns = _turns(cosine, sine, square)
    return jnp.where(covariance < 0, -turns, turns), (deviation1 * deviation2) * sine


def _turns(cosine: Array, sine: Array, square: Array) -> Array:
    """arcsin(cosine) / (2 pi) for an angle of the first quadrant, from the smaller of its two legs.

    Relative error 2 eps. XLA's arccos and arctan2 call a scalar function for each entry; this is a polynomial.
    """
    steep = cosine < math.sqrt(0.5)  # judged by the cosine: XLA would hold the sine in memory for a comparison
    leg = jnp.where(steep, cosine, sine)
    coefficients = ARCSINE_DOUBLE if leg.dtype == jnp.float64 else ARCSINE_SINGLE
    turns = leg * _polynomial([value / (2 * math.pi) for value in coefficients], jnp.where(steep, cosine**2, square))
    return jnp.where(steep, turns, 0.25 - turns)


@jax.custom_jvp
def _root_of_determinant(covariance: Array, variance1: Array, variance2: Array) -> Array:
    """The root of a b - c^2, whose derivative is taken as 0 where it is 0."""
    return _quadrant(covariance, variance1, variance2)[1]


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
    """The square root, whose derivative is taken as 0 where it is 0.

    Functions here have derivatives of their own (custom_jvp). JAX 0.8 to 0.11 drop those within the body of a scan that
    is differentiated twice, in reverse mode first: what is left has to be right, too.
    """
    live = square > 0
    return jnp.where(live, jnp.sqrt(jnp.where(live, square, 1.0)), 0.0)


def _positive(variance: Array) -> Array:
    """The variance, or one where it is zero."""
    return jnp.where(variance > 0, variance, 1.0)


def _reciprocal(deviation: Array) -> Array:
    """1 / deviation, or zero where that is zero."""
    return jnp.where(deviation > 0, 1 / _positive(deviation), 0.0)

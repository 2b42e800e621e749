r"""The dual of a piecewise linear function with several kinks, from the bivariate normal distribution.

For phi(x) = sum_i w_i relu(x - t_i) and standardized thresholds h = t_i / s, k = t_j / s', everything reduces to

    L(h, k) = P(x > h, y > k) = (Q(h) + Q(k)) / 2 - T(h, (k - rho h) / (h r)) - T(k, (h - rho k) / (k r))    (Owen 1956)

Here Q is the upper tail of the normal distribution, r = sqrt(1 - rho^2), and T is Owen's function. T is an integral
over at most a unit interval, computed to full precision by a Gauss-Legendre rule. Derivatives have closed forms
(Price's theorem).

>>> import jax.numpy as jnp
>>> nngp, derivative = linear_spline_dual((0.0,), (1.0,), *(jnp.array(z) for z in (0.5, 1.0, 1.0)))  # ReLU
>>> print(derivative)
0.333333
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkbias.layers.arc_cosine import arc_cosine, cosine_defect

__all__ = ["linear_spline_dual"]

NUM_NODES_DOUBLE = 12  # nodes of the Gauss-Legendre rule in float64: errors of 1e-16
NUM_NODES_SINGLE = 6  # in any narrower type: errors of 2e-9
FAR = 40.0  # standard deviations beyond which a normal tail is zero in float64


class Side(NamedTuple):
    """One of the two Gaussians u and v. The thresholds of u lie along the first axis, those of v along the second.

    Given that this Gaussian is at its threshold, the other one is normal too: `below` and `far` describe it.
    """

    deviation: Array
    change: float | Array  # the tangent of its variance, relative to the variance
    height: Array  # the thresholds in units of the standard deviation
    below: Array  # the other's threshold minus its conditional mean, in units of its standard deviation
    far: Array  # the same in units of its conditional standard deviation


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def linear_spline_dual(
    thresholds: tuple[float, ...],
    weights: tuple[float, ...],
    covariance: Array,
    variance1: Array,
    variance2: Array,
) -> tuple[Array, Array]:
    """E[phi(u) phi(v)] and E[phi'(u) phi'(v)] for phi = sum of weights[i] relu(x - thresholds[i]).

    The thresholds must not be negative. The absolute error is about 5 eps (1 + s s'): for a bounded phi the result is a
    second difference of numbers of order s s'. Both values are 0 where a variance is 0. Each pair of inputs costs about
    thirty exponentials, and memory for ten numbers, per pair of thresholds.
    """
    moments = covariance, variance1, variance2
    first, second, sine, area, alive = _sides(thresholds, *moments, changes=(0.0, 0.0))
    start, end, weight = _on_axes(thresholds, weights, area)
    probability = 0.5 * (_tail(first.height) + _tail(second.height)) - _owen(first, sine) - _owen(second, sine)
    probability = jnp.where((start == 0) & (end == 0), arc_cosine(0, *moments), probability)
    nngp = (
        (covariance + start * end) * probability
        - end * first.deviation * _density(first.height) * _tail(first.far)
        - start * second.deviation * _density(second.height) * _tail(second.far)
        + area * _density(first.height) * _density(first.far)
    )
    total, derivative = (jnp.where(alive, jnp.sum(weight * part, (0, 1)), 0.0) for part in (nngp, probability))
    return total, derivative


@linear_spline_dual.defjvp
def _linear_spline_dual_jvp(thresholds, weights, primals, tangents):
    """By Price's theorem d/dc takes one more derivative of each factor, and d/da half of two more of one factor."""
    nngp, derivative = linear_spline_dual(thresholds, weights, *primals)
    first, second, sine, area, alive = _sides(thresholds, *primals, changes=tangents[1:])
    start, end, weight = _on_axes(thresholds, weights, area)
    # At u = +-v the density of two equal kinks is infinite, with opposite signs on the two sides: take it as 0.
    kinks = jnp.sum(weight * _density(first.height) * _density(first.far), (0, 1))
    kinks = jnp.where(area > 0, kinks / _or_one(area), 0.0)  # E[phi''(u) phi''(v)]
    nngp_change = derivative * tangents[0]
    derivative_change = kinks * (tangents[0] - 0.5 * primals[0] * (first.change + second.change))
    for side, other, threshold in ((first, second, start), (second, first, end)):
        # the weights times this side's density at its kink, then times conditional E[phi(other)] and E[phi'(other)]
        at_kink = weight * _density(side.height) * (0.5 * side.change * side.deviation)
        value = other.deviation * (sine * _density(side.far) - side.below * _tail(side.far))
        nngp_change += jnp.sum(at_kink * value, (0, 1))
        derivative_change += jnp.sum(at_kink * threshold / side.deviation**2 * _tail(side.far), (0, 1))
    changes = tuple(jnp.where(alive, change, 0.0) for change in (nngp_change, derivative_change))
    return (nngp, derivative), changes


def _on_axes(thresholds: tuple[float, ...], weights: tuple[float, ...], pairs: Array) -> tuple[Array, Array, Array]:
    """The thresholds of u on a first axis, those of v on a second, and the products of weights; pairs come after."""
    t, w = (np.asarray(values).reshape(-1, 1, *[1] * pairs.ndim) for values in (thresholds, weights))
    start, end, weight = (jnp.asarray(z, pairs.dtype) for z in (t, t.swapaxes(0, 1), w * w.swapaxes(0, 1)))
    return start, end, weight


def _sides(
    thresholds: tuple[float, ...],
    covariance: Array,
    variance1: Array,
    variance2: Array,
    *,
    changes: Sequence[float | Array],
) -> tuple[Side, Side, Array, Array, Array]:
    """The two Gaussians, the sine of their angle, the area that they span, and a mask of positive variances."""
    variances = _or_one(variance1), _or_one(variance2)
    deviations = [jnp.sqrt(variance) for variance in variances]
    defect = cosine_defect(covariance, variance1, variance2)
    square = defect * (2 - defect)
    sine = jnp.where(square > 0, jnp.sqrt(_or_one(square)), 0.0)
    area = deviations[0] * deviations[1] * sine
    *ends, _ = _on_axes(thresholds, thresholds, area)
    heights = [jnp.minimum(end / deviation, FAR) for end, deviation in zip(ends, deviations, strict=True)]

    def side(k: int) -> Side:
        own, other = heights[k], heights[1 - k]
        near = (other - own) + own * defect  # without cancellation near rho = 1
        below = jnp.where(covariance < 0, other + own * (1 - defect), near)
        ratio = jnp.clip(below / _or_one(sine), -FAR, FAR)
        far = jnp.where(sine > 0, ratio, FAR * jnp.sign(below))
        return Side(deviations[k], changes[k] / variances[k], own, below, far)

    return side(0), side(1), sine, area, (variance1 > 0) & (variance2 > 0)


def _owen(side: Side, sine: Array) -> Array:
    """Owen's T(h, below / (h sine)) for the heights h of one side.

    T(h, a) is (2 pi)^-1 times the integral of exp(-h^2 (1 + x^2) / 2) / (1 + x^2) from 0 to a. For a > 1 it equals
    (Q(h) + Q(a h)) / 2 - Q(h) Q(a h) - T(a h, 1 / a).
    """
    size, limit, far = jnp.abs(side.below), side.height * sine, jnp.abs(side.far)
    steep = size > limit
    ratio = jnp.where(steep, limit, size) / _or_one(jnp.where(steep, size, limit))
    half_square = 0.5 * jnp.where(steep, far, side.height) ** 2
    num_nodes = NUM_NODES_DOUBLE if ratio.dtype == jnp.float64 else NUM_NODES_SINGLE
    nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
    total = jnp.zeros_like(ratio)
    for node, weight in zip(0.5 + 0.5 * nodes, weights / (4 * math.pi), strict=True):
        slope = 1 + (ratio * node) ** 2
        total += weight * jnp.exp(-half_square * slope) / slope
    inner, tail, far_tail = ratio * total, _tail(side.height), _tail(far)
    outer = 0.5 * (tail + far_tail) - tail * far_tail - inner
    return jnp.sign(side.below) * jnp.where(steep, outer, inner)


def _tail(x: Array) -> Array:
    """P(z > x) for a standard normal z."""
    return 0.5 * jax.scipy.special.erfc(x * math.sqrt(0.5))


def _density(x: Array) -> Array:
    return jnp.exp(-0.5 * x**2) * math.sqrt(0.5 / math.pi)


def _or_one(x: Array) -> Array:
    """x where it is positive, else one."""
    return jnp.where(x > 0, x, 1.0)

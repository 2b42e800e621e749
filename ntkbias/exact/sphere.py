"""Exact spectra on the circle and the sphere, by quadrature over the angle between inputs.

The eigenfunctions of a zonal kernel f(t) on S^{d-1} are the harmonics. Those of degree k have the eigenvalue (Funk and
Hecke)

    mu_k = E[f(t) P_k(cos t)],  t with density proportional to sin^{d-2} t

where P_k is the Gegenbauer polynomial with P_k(1) = 1. With float64 values of the kernel, the absolute error is about
eps mu_0 / sqrt(N_k), where N_k is the multiplicity. On S^7, for example, the eigenvalue of degree 80 of an NTK is 1e-13
and is known to eight digits. Nodes and weights have the longest float type: in float64 their rounding would dominate
the error, equally at all degrees.

>>> import ntkbias as nb
>>> exact = zonal_spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), nb.domains.Sphere(3), max_degree=5)
>>> exact.eigenvalues[[3, 5]].round(12).tolist()             # without bias, one hidden ReLU layer learns no odd degree
[0.0, 0.0]
"""

import numpy as np
from jaxtyping import Float

from ntkbias.domains import Circle, Sphere
from ntkbias.exact.profile import (
    AngleRule,
    angle_rule,
    checked_invariance,
    gegenbauer,
    kernel_values,
    on_plane,
    rotation,
    rounding_of,
)
from ntkbias.exact.value import ExactSpectrum
from ntkbias.kernels import Kernel

__all__ = ["angular_means", "zonal_spectrum"]

STEP = 0.01  # largest step of the rule, in u
STEP_PER_DEGREE = 0.25  # step times degree: a wave has at least ten nodes per period, and five of the coarse rule
MAX_RULES = 3  # each rule has half the step of the one before
PRECISE = 1e-11  # relative truncation error below which a finer rule is not worth its cost


def zonal_spectrum(kernel: Kernel, domain: Circle | Sphere, max_degree: int) -> ExactSpectrum:
    """The eigenvalues of degrees 0 .. `max_degree` of a rotation-invariant kernel on the circle or a sphere.

    Evaluates the kernel twice on about a thousand pairs, and on more for degrees in the hundreds.
    """
    dimension = 2 if isinstance(domain, Circle) else domain.dimension
    step = min(STEP, STEP_PER_DEGREE / max(1, max_degree))
    for _ in range(MAX_RULES):
        rule = angle_rule(step)
        values, noise = _profile(kernel, dimension, domain.radius, rule)
        eigenvalues, rounding, truncation = angular_means(values, noise, rule, dimension, max_degree)
        if np.all(truncation <= np.maximum(2 * rounding, PRECISE * np.abs(eigenvalues))):
            break
        step /= 2
    pole = on_plane(np.zeros(1), np.zeros(1, bool), dimension, domain.radius)
    degrees = np.arange(max_degree + 1)
    return ExactSpectrum(
        eigenvalues=eigenvalues,
        degrees=degrees,
        multiplicities=np.array([domain.multiplicity(k) for k in range(max_degree + 1)], float),
        errors=rounding + truncation,
        frequencies=np.sqrt(degrees * (degrees + dimension - 2.0)) / domain.radius,
        trace=np.asarray(kernel_values(kernel, pole, pole)[0, 0]),
    )


def angular_means(
    values: Float[np.ndarray, "*r q"],
    noise: Float[np.ndarray, "*r q"],
    rule: AngleRule,
    dimension: int,
    max_degree: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E[f P_k] for each degree, `(*r, k)`, its rounding error and its truncation error, both of the same shape."""
    fine, coarse = rule.density(dimension)
    means, rounding, halves = [], [], []
    for polynomial in gegenbauer(rule.cosine(), dimension, max_degree):
        means.append(np.asarray(values @ (fine * polynomial), float))
        halves.append(np.asarray(values @ (coarse * polynomial), float))
        rounding.append(rounding_of(values, noise, fine * polynomial, dimension))
    eigenvalues = np.stack(means, -1)
    return eigenvalues, np.stack(rounding, -1), np.abs(eigenvalues - np.stack(halves, -1))


def _profile(kernel: Kernel, dimension: int, radius: float, rule: AngleRule) -> tuple[np.ndarray, np.ndarray]:
    """The kernel's values at the nodes, and their rounding errors."""
    pole = on_plane(np.zeros(1), np.zeros(1, bool), dimension, radius)
    points = on_plane(rule.near, rule.at_pi, dimension, radius)
    turn = rotation(dimension)
    values, turned = kernel_values(kernel, pole, points)[0], kernel_values(kernel, pole @ turn, points @ turn)[0]
    weights, _ = rule.density(dimension)
    return values, checked_invariance(values, turned, weights, "rotated")

"""Exact spectra on the torus, by quadrature adapted to the kernel's singularities.

The eigenfunctions of a stationary kernel f(t_1, ..., t_d) of the differences of angles are the waves with indices
k_1, ..., k_d. If the kernel is even in each angle, all 2^(number of nonzero indices) waves with the same |k_1|, ...,
|k_d| share the eigenvalue

    mu_k = E[f(t) cos(k_1 t_1) ... cos(k_d t_d)],  t uniform on [0, pi]^d

Networks' kernels have cones at t = 0 and at the antipode (pi, ..., pi), which limit a Fourier transform on a grid to a
few digits. Here the box is cut into simplices that each have one of these corners. Let u be the distance to the corner.
In the variable u^(1/4) every singularity u^p with integer 4 p becomes smooth (Duffy 1982), and Gauss's rule converges
fast.

>>> import ntkbias as nb
>>> exact = torus_spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), nb.domains.Torus(2), max_degree=2)
>>> exact.degrees.tolist(), exact.multiplicities.tolist()
([[0, 0], [0, 1], [1, 0], [1, 1]], [1.0, 2.0, 2.0, 4.0])
"""

import itertools
import math

import numpy as np
from jaxtyping import Float

from ntkbias.domains import Torus
from ntkbias.errors import InputError
from ntkbias.exact.profile import PI, checked_invariance, gauss_legendre, kernel_values, rounding_of
from ntkbias.exact.value import ExactSpectrum
from ntkbias.kernels import Kernel

__all__ = ["torus_spectrum"]

MAX_ANGLES = 3
GRADING = 4  # the rule's variable s has u = s^4


def torus_spectrum(kernel: Kernel, domain: Torus, max_degree: int) -> ExactSpectrum:
    """The eigenvalues of all indices with k_1^2 + ... + k_d^2 <= `max_degree`, ordered by that sum.

    The torus has at most three angles, and the kernel has to be stationary and even in each angle. Evaluates the kernel
    on about 4 d! (24 + 2 sqrt(max_degree))^d pairs.
    """
    d = domain.dimension
    if d > MAX_ANGLES:
        raise InputError(
            f"Expected a torus of at most {MAX_ANGLES} angles, whose box can be filled with nodes; got {d}. "
            "Use spectrum(kernel, x) on a sample."
        )
    highest = math.isqrt(max_degree)
    eigenvalues, rounding = _coefficients(kernel, domain, highest, 24 + 2 * highest)
    coarse, _ = _coefficients(kernel, domain, highest, 18 + (3 * highest) // 2)
    indices = np.array(list(itertools.product(range(highest + 1), repeat=d)))
    squares = np.sum(indices**2, 1)
    order = np.argsort(squares, kind="stable")[: np.sum(squares <= max_degree)]
    pole = _points(np.zeros((1, d)), domain.radius)
    return ExactSpectrum(
        eigenvalues=eigenvalues[order],
        degrees=indices[order],
        multiplicities=2.0 ** np.sum(indices[order] > 0, 1),
        errors=(np.abs(eigenvalues - coarse) + rounding)[order],
        frequencies=np.sqrt(squares[order]) / domain.radius,
        trace=np.asarray(kernel_values(kernel, pole, pole)[0, 0]),
        labels=tuple(f"k{axis + 1}" for axis in range(d)),
    )


def _coefficients(kernel: Kernel, domain: Torus, highest: int, num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """mu_k for all k, flattened, and a bound on its rounding error, by a rule with this many nodes per angle."""
    distances, weights = _simplices(domain.dimension, num_nodes)
    total, rounding = np.zeros(0), 0.0
    for far in (False, True):
        values, noise = _profile(kernel, domain, distances, far, weights)
        waves = [np.cos(np.outer(angle, np.arange(highest + 1))) for angle in distances.T]
        if far:  # cos(k (pi - t)) = (-1)^k cos(k t)
            waves = [wave * (-1.0) ** np.arange(highest + 1) for wave in waves]
        product = waves[0] * (weights * values)[:, None]  # in the type of the rule
        for wave in waves[1:-1]:
            product = (product[:, :, None] * wave[:, None, :]).reshape(len(product), -1)
        part = (product.T @ waves[-1]).ravel() if len(waves) > 1 else product.sum(0)
        total = part if not far else total + part
        rounding += float(rounding_of(values, noise, weights, domain.dimension))
    return total.astype(float), np.full(len(total), rounding)


def _profile(
    kernel: Kernel, domain: Torus, distances: np.ndarray, far: bool, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The kernel at these distances from the pole, or from its antipode if `far`, and its rounding error.

    The error is the difference from the values after a shift of all angles and a reflection of some.
    """
    rng = np.random.default_rng(0)
    d, radius = domain.dimension, domain.radius
    pole = _points(np.full((1, d), np.pi if far else 0.0), radius)
    values = kernel_values(kernel, pole, _points(distances, radius))[0]
    turn, signs = rng.uniform(0, 2 * np.pi, d), np.array([*[-1.0] * (d // 2), *[1.0] * (d - d // 2)])
    start = _points(turn[None] + (np.pi if far else 0.0), radius)
    moved = kernel_values(kernel, start, _points(turn + signs * distances, radius))[0]
    return values, checked_invariance(values, moved, weights, "shifted in each angle, or reflected in one")


def _points(angles: Float[np.ndarray, "n d"], radius: float) -> Float[np.ndarray, "n 2*d"]:
    return radius * np.stack([np.cos(angles), np.sin(angles)], -1).reshape(len(angles), -1)


def _simplices(d: int, num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in the half of the box at the corner 0, and weights that sum to 1/2.

    There is one simplex per order of the angles. That of descending angles has the corners 0, (pi, 0, ...),
    (pi, pi, 0, ...), ..., and the box's center.
    """
    nodes, gauss = gauss_legendre(num_nodes)
    corners = np.array([[PI] * j + [0.0] * (d - j) for j in range(1, d)] + [[PI / 2] * d])
    s = np.stack(np.meshgrid(*[nodes] * d, indexing="ij"), -1).reshape(-1, d)
    weights = np.prod(np.stack(np.meshgrid(*[gauss] * d, indexing="ij"), -1).reshape(-1, d), 1)
    weights = weights * GRADING * s[:, 0] ** (GRADING - 1)
    s[:, 0] **= GRADING
    points = corners[-1] * np.ones((len(s), 1))
    for axis in range(d - 1, 0, -1):  # s_axis moves from one corner towards those after it
        points = (1 - s[:, axis : axis + 1]) * corners[axis - 1] + s[:, axis : axis + 1] * points
    points *= s[:, :1]
    weights = weights * np.prod(s ** np.arange(d - 1, -1, -1), 1)
    weights /= 2 * weights.sum() * math.factorial(d)
    orders = list(itertools.permutations(range(d)))
    return np.concatenate([points[:, list(order)] for order in orders]), np.tile(weights, len(orders))

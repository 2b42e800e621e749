"""Exact spectra on the hypercube {-1, 1}^d (Yang and Salman 2019, arXiv 1907.10599).

The eigenfunctions of a kernel f(s) of s = <x, x'> / d are the products of k coordinates, the monomials of degree k.
Their eigenvalue is E[f(s) x_1 ... x_k]. Averaging over these k coordinates first, and then over the number r of other
coordinates that are -1, gives

    mu_k = sum_r Binomial(d - k, 1/2)(r) (D^k f)(r),   D^k f(r) = 2^-k sum_a (-1)^a C(k, a) f(1 - 2 (r + a) / d)

This is a mean, with positive weights, of differences that are tiny: 1e-38 at d = 128. They are computed with as many
digits as they need (`digits`). A kernel without a closed form is evaluated in float64, and the stated errors are then
larger.

>>> import ntkbias as nb
>>> exact = hypercube_spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2)), nb.domains.Hypercube(4), max_degree=4)
>>> print(exact.multiplicities, exact.remainder < 1e-12)
[1. 4. 6. 4. 1.] True
"""

import math

import mpmath
import numpy as np

from ntkbias.domains import Hypercube
from ntkbias.errors import InputError
from ntkbias.exact.digits import UnknownFormula, kernel_digits
from ntkbias.exact.profile import checked_invariance, kernel_values, rounding_of
from ntkbias.exact.value import ExactSpectrum
from ntkbias.kernels import Kernel

__all__ = ["hypercube_spectrum"]

GUARD_DIGITS = 40  # in addition to d digits, which is more than the d bits that the differences lose
HYPERPARAMETER_ERROR = 1e-14  # relative: each layer adds a few roundings of float64 hyperparameters
SYMMETRY = "permuted and flipped in the same way"


def hypercube_spectrum(kernel: Kernel, domain: Hypercube, max_degree: int) -> ExactSpectrum:
    """The eigenvalues of degrees 0 .. `max_degree` of a kernel of the inner product on the cube; `max_degree` <= d.

    Evaluates the kernel twice on d + 1 pairs in extended precision, which takes seconds at d = 128, and takes d^2
    differences.
    """
    d = domain.dimension
    if max_degree > d:
        raise InputError(f"Expected max_degree of at most {d}, the cube's dimension; got {max_degree}.")
    corner, others = np.ones((1, d)), 1.0 - 2 * np.tri(d + 1, d, -1)  # row j has j coordinates of -1
    sides = (corner, others), _moved(corner, others)
    try:
        values, moved = (kernel_digits(kernel, x0, x, GUARD_DIGITS + d)[0] for x0, x in sides)
        checked_invariance(values.astype(float), moved.astype(float), _binomial(d), SYMMETRY)
        eigenvalues = _eigenvalues(values, d, max_degree)
        errors = HYPERPARAMETER_ERROR * np.abs(eigenvalues)
        errors = errors + 10.0 ** (3 - GUARD_DIGITS - d) * abs(float(values[0]))
    except UnknownFormula:
        values, moved = (kernel_values(kernel, x0, x)[0] for x0, x in sides)
        noise = checked_invariance(values, moved, _binomial(d), SYMMETRY)
        eigenvalues = _eigenvalues(np.array([mpmath.mpf(float(value)) for value in values]), d, max_degree)
        errors = _rounding(values, noise, d, max_degree)
    degrees = np.arange(max_degree + 1)
    return ExactSpectrum(
        eigenvalues=eigenvalues,
        degrees=degrees,
        multiplicities=np.array([float(math.comb(d, k)) for k in range(max_degree + 1)]),
        errors=errors,
        frequencies=np.sqrt(degrees.astype(float)),
        trace=np.asarray(float(values[0])),
    )


def _moved(corner: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same pairs, with the coordinates of both inputs permuted and some of them flipped."""
    rng = np.random.default_rng(0)
    order, signs = rng.permutation(others.shape[1]), rng.choice([-1.0, 1.0], others.shape[1])
    return (corner * signs)[:, order], (others * signs)[:, order]


def _binomial(n: int) -> np.ndarray:
    return np.array([math.comb(n, r) / 2**n for r in range(n + 1)])


def _eigenvalues(values: np.ndarray, d: int, max_degree: int) -> np.ndarray:
    """The weighted means of the differences of order 0, 1, ..., computed in mpmath numbers."""
    eigenvalues = []
    with mpmath.workdps(GUARD_DIGITS + d):
        for k in range(max_degree + 1):
            total = mpmath.fsum(math.comb(d - k, r) * values[r] for r in range(d - k + 1))
            eigenvalues.append(float(mpmath.ldexp(total, k - d)))
            values = (values[:-1] - values[1:]) / 2
    return np.array(eigenvalues)


def _rounding(values: np.ndarray, noise: np.ndarray, d: int, max_degree: int) -> np.ndarray:
    """A bound on the error of mu_k = sum_j Binomial(d, 1/2)(j) chi_k(j) f_j due to the errors of the f_j.

    chi_k(j) is the mean of x_1 ... x_k over inputs with j coordinates of -1: a Krawtchouk polynomial, chi_k(0) = 1.
    """
    j = np.arange(d + 1)
    before, now = np.ones(d + 1), 1 - 2 * j / d
    bounds = []
    for k in range(max_degree + 1):
        bounds.append(rounding_of(values, noise, _binomial(d) * before, 1))
        if k < d:
            before, now = now, ((d - 2 * j) * now - (k + 1) * before) / max(d - k - 1, 1)
    return np.array(bounds)

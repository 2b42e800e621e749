"""Exact spectra under a Gaussian, with one radial problem per angular degree.

For x ~ N(0, scale^2 I), length and direction are independent. A rotation-invariant kernel K(r, r', t) depends on two
lengths and the angle t between the inputs. Its eigenfunctions are harmonics of degree l times functions of the length.
These functions are the eigenfunctions of

    K_l(r, r') = E_t[K(r, r', t) P_l(cos t)]

where t is distributed as on S^{d-1}, and r / scale has the chi distribution with d degrees of freedom. Each eigenvalue
has the multiplicity of the harmonics. Radial integrals use Gauss-Legendre quadrature in r, because networks' kernels
are analytic in r. Gauss-Laguerre quadrature in r^2 / 2 would need kernels that are analytic in r^2. A kernel without
bias, K = r r' f(t), is not.

Kernels of Mehler's type, such as exp(-|x - x'|^2 / (2 l^2)), have one eigenvalue per degree k = l + 2 j of Hermite
polynomials. `by_hermite_degree` merges those rows.

>>> import ntkbias as nb
>>> exact = gaussian_spectrum(nb.infinite_nngp(nb.nets.mlp(depth=1)), nb.domains.Gaussian(3), max_degree=2)
>>> exact.degrees.tolist()                                              # (angular degree, radial index)
[[0, 0], [1, 0], [2, 0], [0, 1]]
"""

import math

import numpy as np
import scipy

from ntkbias.domains import Gaussian, Sphere
from ntkbias.errors import InputError
from ntkbias.exact.profile import AngleRule, angle_rule, checked_invariance, kernel_values, on_plane, rotation
from ntkbias.exact.sphere import angular_means
from ntkbias.exact.value import ExactSpectrum
from ntkbias.kernels import Kernel

__all__ = ["by_hermite_degree", "gaussian_spectrum"]

NUM_LENGTHS = 36  # nodes of the coarse radial rule; the fine one has twice as many
TAIL = 1e-17  # probability that the radial rule leaves out at each end
STEP = 0.08  # largest step of the rule for the angle
STEP_PER_DEGREE = 0.25  # the step times the largest degree is at most this
DEVIATIONS = 10  # standard deviations of rounding that the errors allow for


def gaussian_spectrum(kernel: Kernel, domain: Gaussian, max_degree: int) -> ExactSpectrum:
    """The eigenvalues of angular degree l and radial index j with l + 2 j up to `max_degree`.

    j numbers the radial functions of one l in descending order of eigenvalue. The `frequencies` are
    sqrt(l + 2 j) / scale, those of the Hermite polynomials with these indices. Evaluates the kernel on 2 million pairs
    or more, which takes a few seconds.
    """
    fine, noise = _radial_values(kernel, domain, max_degree, 2 * NUM_LENGTHS)
    coarse, _ = _radial_values(kernel, domain, max_degree, NUM_LENGTHS)
    last = 1 if domain.dimension == 1 else max_degree
    rows = [
        (angular, index)
        for angular in range(min(last, max_degree) + 1)
        for index in range((max_degree - angular) // 2 + 1)
    ]
    rows.sort(key=lambda row: (row[0] + 2 * row[1], -row[0]))
    degrees = np.array(rows)
    eigenvalues = np.array([fine[angular][index] for angular, index in rows])
    return ExactSpectrum(
        eigenvalues=eigenvalues,
        degrees=degrees,
        multiplicities=np.array([_multiplicity(domain, angular) for angular, _ in rows]),
        errors=np.abs(eigenvalues - [coarse[angular][index] for angular, index in rows]) + noise,
        frequencies=np.sqrt(degrees @ [1.0, 2.0]) / domain.scale,
        trace=np.asarray(_trace(kernel, domain)),
        labels=("angular degree", "radial index"),
    )


def by_hermite_degree(exact: ExactSpectrum, domain: Gaussian) -> ExactSpectrum:
    """The spectrum of a Mehler-type kernel on a Gaussian, with one row per degree of Hermite polynomials.

    Row k stands for the C(k + d - 1, k) polynomials of total degree k = l + 2 j. Raises `InputError` if the eigenvalues
    of one k differ by more than their errors, as they do for other rotation-invariant kernels.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> line = nb.domains.Gaussian(1)
    >>> kernel = nb.infinite_nngp(nb.layers.Sequential(nb.layers.Dense(8), nb.layers.Rbf(0.5), nb.layers.Dense(1)))
    >>> exact = nb.exact_spectrum(kernel, line, max_degree=6)
    >>> nb.exact.by_hermite_degree(exact, line).degrees[:3].tolist()
    [0, 1, 2]
    """
    if exact.labels != ("angular degree", "radial index"):
        raise InputError(
            f"Expected the exact spectrum of a kernel on a Gaussian; got rows of {', '.join(exact.labels)}."
        )
    totals = np.asarray(exact.degrees) @ np.array([1, 2])
    values, errors = np.asarray(exact.eigenvalues), np.asarray(exact.errors)
    found = []
    for k in range(int(totals.max()) + 1):
        rows = np.flatnonzero(totals == k)
        value, error = values[rows[0]], errors[rows].max()
        spread = np.ptp(values[rows])
        if spread > 2 * error + 1e-6 * abs(value):
            raise InputError(
                f"Expected one eigenvalue for Hermite degree {k}, as kernels of Mehler's type have; got several near "
                f"{value:.2g} that differ by {spread:.2g}. Keep the rows by angular degree and radial index."
            )
        found.append((value, error + spread, math.comb(k + domain.dimension - 1, k)))
    eigenvalues, spreads, multiplicities = (np.array(column, float) for column in zip(*found, strict=True))
    degrees = np.arange(len(found))
    frequencies = np.sqrt(degrees) / domain.scale
    return ExactSpectrum(eigenvalues, degrees, multiplicities, spreads, frequencies, exact.trace)


def _radial_rule(domain: Gaussian, num_lengths: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes for the length, and their weights for means over the Gaussian."""
    chi = scipy.stats.chi(domain.dimension)
    low, high = chi.ppf(TAIL), chi.isf(TAIL)
    nodes, gauss = np.polynomial.legendre.leggauss(num_lengths)
    lengths = low + (high - low) * (nodes + 1) / 2
    weights = gauss * chi.pdf(lengths)
    return domain.scale * lengths, weights / weights.sum()


def _radial_values(
    kernel: Kernel, domain: Gaussian, max_degree: int, num_lengths: int
) -> tuple[list[np.ndarray], float]:
    """The eigenvalues of the radial problem of each angular degree, descending, and a bound on their rounding error."""
    lengths, weights = _radial_rule(domain, num_lengths)
    d = domain.dimension
    rule = angle_rule(min(STEP, STEP_PER_DEGREE / max(1, max_degree)))
    if d == 1:  # the sphere is two points
        rule = AngleRule(np.zeros(2), np.array([False, True]), np.full(2, 0.5), np.ones(2, bool))
        max_degree = min(max_degree, 1)
    directions = on_plane(rule.near, rule.at_pi, d, 1.0)
    x0 = lengths[:, None] * on_plane(np.zeros(1), np.zeros(1, bool), d, 1.0)
    x = (lengths[:, None, None] * directions).reshape(-1, d)
    shape = (num_lengths, num_lengths, len(rule.near))
    values = kernel_values(kernel, x0, x).reshape(shape)
    turn, rng = rotation(d), np.random.default_rng(0)
    density = rule.weights / 2 if d == 1 else rule.density(d)[0]
    angles = rng.choice(len(density), 200, p=(density / density.sum()).astype(float))
    few = rng.integers(num_lengths, size=200) * len(density) + angles
    turned = kernel_values(kernel, x0 @ turn, x[few] @ turn)
    straight = values.reshape(num_lengths, -1)[:, few]
    noise = checked_invariance(straight, turned, np.full(straight.shape, 1 / straight.size), "rotated")
    if d == 1:
        means = np.stack([values.mean(-1), (values[..., 0] - values[..., 1]) / 2], -1)
    else:
        means, _, _ = angular_means(values, np.zeros_like(values), rule, d, max_degree)
    roots = np.sqrt(weights)
    radial = [roots[:, None] * (matrix + matrix.T) / 2 * roots for matrix in np.moveaxis(means, -1, 0)]
    # By Weyl's inequality no eigenvalue moves by more than the norm of the noise. This estimates that norm.
    rounding = DEVIATIONS * float(np.sqrt(np.mean(noise**2) * np.max(weights)))
    return [np.linalg.eigvalsh(matrix)[::-1] for matrix in radial], rounding


def _multiplicity(domain: Gaussian, angular: int) -> float:
    return 1.0 if domain.dimension == 1 else float(Sphere(domain.dimension).multiplicity(angular))


def _trace(kernel: Kernel, domain: Gaussian) -> float:
    lengths, weights = _radial_rule(domain, 2 * NUM_LENGTHS)
    x = lengths[:, None] * np.eye(1, domain.dimension)
    return float(weights @ np.diag(kernel_values(kernel, x, x)))

"""Spectra that the covariance of data predicts: the limit in which they are exact, and the polynomials."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.errors import InputError
from ntkbias.exact import by_hermite_degree, exact_spectrum, predicted_spectrum
from ntkbias.exact.from_covariance import _largest

NTK = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))
VARIANCES = np.array([2.0, 1.0, 0.5, 0.1])


def rbf(gamma, dimension):
    """exp(-gamma |x - x'|^2 / d), from the layer of that name."""
    return nb.infinite_nngp(nb.layers.Sequential(nb.layers.Dense(8), nb.layers.Rbf(gamma), nb.layers.Dense(1)))


def test_wide_gaussian_kernels_reach_the_exact_spectrum_of_gaussian_data():
    """The ratio of predicted and exact eigenvalues tends to one as the kernel gets wider: 1e-3 at the end."""
    domain, errors = nb.domains.Gaussian(3), []
    for gamma in (0.03, 0.003, 0.0003):
        kernel = rbf(gamma, 3)
        exact = by_hermite_degree(exact_spectrum(kernel, domain, 2), domain)
        found = predicted_spectrum(kernel, jnp.eye(3), num_modes=10, max_degree=2)
        ratios = [
            np.asarray(found.eigenvalues)[found.degrees == degree].mean() / exact.eigenvalues[degree]
            for degree in range(3)
        ]
        errors.append(np.max(np.abs(np.log(ratios))))
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 1e-3


def test_where_it_fails_without_a_wide_kernel():
    """At N(0, I) in ten dimensions, |x|^2 - d has about twice the Rayleigh quotient of x1 x2 under a ReLU kernel.

    The prediction has one eigenvalue for both. Without bias K = |x| |x'| f(cos), so that every radial function is |x|.
    """
    d = 10
    exact = exact_spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), nb.domains.Gaussian(d), 2)
    values = dict(zip(map(tuple, exact.degrees.tolist()), exact.eigenvalues.tolist(), strict=True))
    length = math.sqrt(2) * math.gamma((d + 1) / 2) / math.gamma(d / 2)  # E|x|; E|x|^3 is d + 1 times it
    squared_length = values[0, 0] * (length / (math.sqrt(2) * d)) ** 2
    product = values[2, 0] * ((d + 1) * length) ** 2 / (d * d * (d + 2))
    assert 1.5 < squared_length / product < 2.5
    found = predicted_spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), jnp.eye(d), 60)
    assert len(np.unique(np.asarray(found.eigenvalues)[found.degrees == 2].round(9))) == 1


def test_the_largest_products_are_those_of_a_full_list():
    levels, shares = np.array([0.3, 1.0, 0.8, 0.0, 0.5]), VARIANCES / VARIANCES.sum()
    every = [
        (levels[degree] * np.prod(shares[list(factors)]), factors)
        for degree in range(5)
        for factors in itertools.combinations_with_replacement(range(4), degree)
        if levels[degree]
    ]
    wanted = sorted((value for value, _ in every), reverse=True)
    found = _largest(levels, shares, 30)
    np.testing.assert_allclose([value for value, _ in found], wanted[:30], rtol=1e-12)
    assert len({factors for _, factors in found}) == 30


def test_a_polynomial_kernel_has_its_own_coefficients():
    """(c + <x, x'>)^2 / 4 in the cosine: a_0 = c^2 / 4, a_1 = c r^2 / 2, a_2 = r^4 / 4, with l! prod of shares."""
    kernel = nb.exact.DotProductKernel(lambda u: (1 + u) ** 2 / 4)
    found = predicted_spectrum(kernel, jnp.diag(jnp.asarray(VARIANCES)), num_modes=15, max_degree=2)
    shares = VARIANCES / VARIANCES.sum()
    by_name = {found.name(mode): float(found.eigenvalues[mode]) for mode in range(15)}
    assert by_name["1"] == pytest.approx(1 / 4, rel=1e-6)
    assert by_name["x2"] == pytest.approx(shares[1] / 2, rel=1e-6)
    assert by_name["x1 x3"] == pytest.approx(2 * shares[0] * shares[2] / 4, rel=1e-6)
    assert by_name["x1^2"] == pytest.approx(2 * shares[0] ** 2 / 4, rel=1e-6)
    assert str(found).splitlines()[2].split()[-1] == "x1"  # with 2.0 of a trace of 3.6


def test_functions_are_orthonormal_on_gaussian_data(x64):
    """By Gauss-Hermite quadrature along rotated principal directions."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    covariance = turn @ np.diag([3.0, 2.5]) @ turn.T
    found = predicted_spectrum(NTK, jnp.asarray(covariance), num_modes=6, max_degree=2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    z = np.array(list(itertools.product(nodes, nodes)))
    weight = np.array([a * b for a, b in itertools.product(weights, weights)]) / (2 * math.pi)
    x = z * np.sqrt(np.asarray(found.variances)) @ np.asarray(found.directions).T
    functions = np.asarray(found.functions(jnp.asarray(x)))
    np.testing.assert_allclose((functions * weight[:, None]).T @ functions, np.eye(6), atol=1e-10)


def test_power_curves_and_degrees_on_data(tmp_path):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(400, 12)) * np.geomspace(2, 0.5, 12), jnp.float32)
    found = predicted_spectrum(NTK, jnp.cov(x.T), num_modes=20)
    target = found.functions(x)[:, 2]
    power = np.asarray(found.power(x, target))
    assert power.argmax() == 2
    curve = nb.learning_curve(found.exact(), power, [5, 10, 15], ridge=0.1)
    assert np.all(np.diff(np.asarray(curve.errors)) < 0)
    spectrum = nb.spectrum(NTK, x - x.mean(0))
    ranking = nb.rank_by_frequency(spectrum, found.domain())
    assert np.asarray(ranking.frequencies)[:3].tolist() == [0.0, 1.0, 1.0]
    nb.save(tmp_path / "predicted", found)
    assert str(nb.load(tmp_path / "predicted")) == str(found)


def test_bad_input_is_named(unchecked):
    for call, message in (
        (lambda: predicted_spectrum(NTK, jnp.ones((2, 3))), "Expected a symmetric covariance"),
        (lambda: predicted_spectrum(NTK, -jnp.eye(2)), "Expected a positive semi-definite covariance that is not zero"),
        (
            lambda: predicted_spectrum(NTK, jnp.diag(jnp.array([9.0, 1.0])), max_degree=9),
            "Expected max_degree of at most . for data with 90% of their variance in one direction; got 9",
        ),
        (lambda: predicted_spectrum(NTK, jnp.eye(2), 50, max_degree=1), "Expected num_modes of at most 3, the number"),
        (lambda: predicted_spectrum(NTK, jnp.eye(2), 3).name(3), "Expected a mode from 0 to 2; got 3"),
        (lambda: predicted_spectrum(NTK, jnp.eye(2), 3).functions(jnp.ones((4, 3))), "Expected inputs with 2 numbers"),
        (lambda: predicted_spectrum(NTK, jnp.eye(2), 3).power(jnp.ones((4, 2)), jnp.ones(3)), "Expected targets"),
        (
            lambda: predicted_spectrum(FINITE, jnp.eye(2)),
            "Expected a kernel that depends on lengths and inner products",
        ),
    ):
        with pytest.raises(InputError, match=message):
            call()


NET = nb.nets.mlp(width=8, depth=1)
FINITE = nb.empirical_ntk(NET.apply, NET.init(jax.random.key(0), (2,)))

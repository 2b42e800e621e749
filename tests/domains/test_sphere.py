"""The sphere: scipy's harmonics and polynomials, many dimensions, and its three frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import ntkbias as nb
from ntkbias.domains import Circle, Sphere
from ntkbias.errors import InputError, InputTypeError


def test_harmonics_span_those_of_scipy(x64):
    """The projections on each degree agree with those of sph_harm_y, normalized under the uniform measure."""
    x, weights = Sphere(3).quadrature(242)
    longitude, latitude = Sphere(3).chart(x).T
    basis, degrees = np.asarray(Sphere(3).harmonics(x, 10)), Sphere(3).degrees(10)
    for k in (1, 2, 5, 10):
        order = np.arange(-k, k + 1)
        scipys = scipy.special.sph_harm_y(k, order, np.pi / 2 - latitude[:, None], longitude[:, None])
        overlap = scipys.conj().T @ (np.asarray(weights)[:, None] * basis[:, degrees == k]) * np.sqrt(4 * np.pi)
        np.testing.assert_allclose(overlap @ overlap.conj().T, np.eye(2 * k + 1), atol=1e-12)


@pytest.mark.parametrize("dimension", [2, 3, 8, 50])
def test_zonal_functions_are_gegenbauer_polynomials(x64, dimension):
    cosine = np.linspace(-1, 1, 41)
    got = Sphere(dimension).zonal(jnp.asarray(cosine), 20)
    for k in (0, 1, 7, 20):
        if dimension == 2:
            expected = np.cos(k * np.arccos(cosine))
        else:
            values = scipy.special.eval_gegenbauer(k, dimension / 2 - 1, np.append(cosine, 1))
            expected = values[:-1] / values[-1]
        np.testing.assert_allclose(got[k], expected, atol=1e-12)


@pytest.mark.parametrize("dimension", [2, 3, 4, 10, 50])
def test_multiplicities_are_those_of_the_literature(dimension):
    """(2 k + d - 2) / k C(k + d - 3, k - 1). Lower degrees of equal parity add up to the polynomials of degree k."""
    sphere = Sphere(dimension)
    for k in range(1, 8):
        expected = (2 * k + dimension - 2) * scipy.special.comb(k + dimension - 3, k - 1, exact=True) // k
        assert sphere.multiplicity(k) == expected
        monomials = scipy.special.comb(k + dimension - 1, k, exact=True)
        assert sum(sphere.multiplicity(j) for j in range(k, -1, -2)) == monomials


def test_the_sphere_of_two_dimensions_is_the_circle(x64):
    circle, sphere = Circle(1.5), Sphere(2, 1.5)
    x = circle.sample(7, key=jax.random.key(0))
    np.testing.assert_allclose(sphere.harmonics(x, 4), circle.harmonics(x, 4), atol=1e-13)
    np.testing.assert_allclose(sphere.frequency(jnp.arange(5)), circle.frequency(jnp.arange(5)))
    np.testing.assert_allclose(sphere.grid(6), circle.grid(6), atol=1e-15)
    assert sphere.max_degree(10) == circle.max_degree(10)


@pytest.mark.slow
def test_energy_in_fifty_dimensions_needs_no_basis(x64):
    """On exact nodes for degree 2: 1 + 50 + 1,274 harmonics, on 600 nodes."""
    sphere = Sphere(50)
    x, weights = sphere.quadrature(600)
    directions = np.random.default_rng(0).normal(size=(2, 50))
    functions = np.stack([0 * x[:, 0] + 2.0, x @ directions[0], 1.0 + x @ directions[1]], 1)
    energy = np.asarray(sphere.energy(jnp.asarray(functions), x, weights, 1))
    squares = (directions**2).sum(1) / 50
    np.testing.assert_allclose(energy, [[4, 0], [0, squares[0]], [1, squares[1]]], atol=1e-12)
    assert sphere._num_harmonics(2) > len(x)
    energy = np.asarray(sphere.energy(jnp.asarray(functions), x, weights, 2))
    np.testing.assert_allclose(energy, [[4, 0, 0], [0, squares[0], 0], [1, squares[1], 0]], atol=1e-12)
    # Degree 2 is not orthonormal on so few nodes: each of its 1,274 harmonics adds about 1 / n of the mean square. Here
    # n = 300, because an even function takes the same value at opposite nodes.
    quadratic = sphere.harmonic(2, x, key=jax.random.key(0))
    energy = np.asarray(sphere.energy(quadratic[:, None], x, weights, 2))[0]
    assert energy[2] == pytest.approx(float(jnp.mean(quadratic**2)) * (1 + 1_274 / 300), rel=0.1)
    np.testing.assert_allclose(energy[:2], 0, atol=1e-12)


def test_quadrature_has_its_exactness(x64):
    """E x_1^2 = 1/d, E x_1^4 = 3/(d (d + 2)) and odd moments. Frames are exact to degree 3, products to 2 m - 1."""
    for dimension, num_inputs, exact_fourth in ((3, 50, True), (5, 512, True), (6, 120, False), (20, 400, False)):
        x, weights = Sphere(dimension).quadrature(num_inputs)
        first, second = np.asarray(x[:, 0]), np.asarray(x[:, 1])
        for function, expected in (
            (first**2, 1 / dimension),
            (first**3, 0),
            (first**2 * second, 0),
            (first * second, 0),
        ):
            assert weights @ function == pytest.approx(expected, abs=1e-14)
        fourth = 3 / (dimension * (dimension + 2))
        assert weights @ first**4 == pytest.approx(fourth, rel=1e-12 if exact_fourth else 0.3)
        assert len(x) <= num_inputs


def test_the_spiral_covers_the_sphere_evenly(x64):
    x = Sphere(3, 2.0).grid(500)
    area = 4 * np.pi * 2.0**2 / 500
    nearest = Sphere(3, 2.0).spacing(x)
    assert 0.8 < nearest / np.sqrt(area) < 1.1  # 1.07 sqrt(area) on a hexagonal lattice
    basis = Sphere(3, 2.0).harmonics(x, 4)
    np.testing.assert_allclose(basis.T @ basis / 500, np.eye(25), atol=0.02)


@pytest.mark.slow
def test_three_frequencies_agree():
    """Harmonic and graph frequencies agree per mode; Dirichlet ones per degree, as 300 steps have an error of 4 %."""
    sphere = Sphere(3)
    x = sphere.grid(300)
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x)
    degrees = sphere.degrees(sphere.max_degree(300) // 3)
    energy = nb.frequency.harmonic_energy(spectrum, sphere)
    assert np.all(np.argmax(energy[: len(degrees)], 1) == degrees)
    exact = sphere.frequency(degrees)
    graph = nb.frequency.graph_frequency(spectrum, sphere)[: len(degrees)]
    np.testing.assert_allclose(graph[1:], exact[1:], rtol=0.05)
    dirichlet = nb.frequency.dirichlet_frequency(spectrum, sphere, num_modes=len(degrees))
    members = degrees == np.arange(1, degrees.max() + 1)[:, None]
    means = members @ np.asarray(dirichlet) / members.sum(1)
    np.testing.assert_allclose(means, np.unique(exact)[1:], rtol=0.05)
    assert max(graph[0], dirichlet[0]) < 0.05  # a constant


@pytest.mark.slow
def test_random_inputs_are_ranked_like_the_nodes():
    sphere = Sphere(3)
    x = sphere.sample(500, key=jax.random.key(0))
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x)
    ranking = nb.rank_by_frequency(spectrum, sphere, num_modes=9)
    np.testing.assert_allclose(ranking.frequencies, sphere.frequency(sphere.degrees(2)), rtol=1e-6)


def test_bad_input_is_named(unchecked):
    with pytest.raises(InputError, match="Expected a sphere in at least 2 dimensions; got 1"):
        Sphere(1)
    with pytest.raises(InputError, match="dimension to be a whole number; got 2.5"):
        Sphere(2.5)
    with pytest.raises(InputError, match="Expected a radius above zero; got 0"):
        Sphere(3, 0)
    with pytest.raises(InputTypeError, match="Expected radius to be a number above zero; got 'one'"):
        Sphere(3, "one")
    with pytest.raises(InputError, match="at distance 1 from the origin; got some off by 1.*Give Sphere\\(radius"):
        Sphere(3).check(2 * Sphere(3).grid(4))
    with pytest.raises(InputError, match="at least 20 nodes for a sphere in 10 dimensions; got 19"):
        Sphere(10).quadrature(19)
    with pytest.raises(InputError, match="Expected at least 2 nodes for a sphere; got 1"):
        Sphere(3).quadrature(1)
    with pytest.raises(InputError, match="Expected at least two inputs for a neighborhood graph; got 1"):
        Sphere(3).neighbors(Sphere(3).grid(1))
    with pytest.raises(InputTypeError, match="Expected max_degree to be a whole number; got 1.5"):
        Sphere(3).harmonics(Sphere(3).grid(4), 1.5)
    with pytest.raises(InputError, match="Expected max_degree to be zero or more; got -1"):
        Sphere(3).projectors(Sphere(3).grid(4), Sphere(3).grid(4), -1)

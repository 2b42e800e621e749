"""Torus, cube and Gaussian: properties that the common laws do not cover."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import ntkbias as nb
from ntkbias.domains import Gaussian, Hypercube, SphereProduct, Torus
from ntkbias.errors import InputError


def test_torus_modes_are_all_multi_indices_of_a_ball(x64):
    torus = Torus(3, 2.0)
    expected = {k for k in itertools.product(range(-2, 3), repeat=3) if sum(i * i for i in k) <= 5}
    modes = torus.modes(5)
    assert {tuple(k) for k in modes.tolist()} == expected
    np.testing.assert_array_equal(torus.degrees(5), (modes**2).sum(1))
    assert torus.levels(8).tolist() == [0, 1, 2, 3, 4, 5, 6, 8]  # no three squares sum to 7
    assert [torus.multiplicity(k) for k in range(6)] == [1, 6, 12, 8, 6, 24]  # r_3(n), OEIS A005875
    np.testing.assert_allclose(torus.frequency(torus.degrees(5)), np.linalg.norm(modes, axis=1) / 2)
    x = torus.sample(5, key=jax.random.key(0))
    angle = torus.angle(x)
    np.testing.assert_allclose(torus.point(angle), x, atol=1e-14)
    product = torus.mode_functions(x, np.array([[2, -1, 0]]))[:, 0]
    np.testing.assert_allclose(product, 2 * jnp.cos(2 * angle[:, 0]) * jnp.sin(angle[:, 1]), atol=1e-14)


def test_the_torus_is_a_product_of_circles(x64):
    torus, spheres = Torus(2, 1.5), SphereProduct((0, 1), 2, 1.5)
    x = torus.sample(6, key=jax.random.key(0))
    y = torus.sample(6, key=jax.random.key(1))
    np.testing.assert_allclose(
        torus.distance(x, y), spheres.distance(x.reshape(6, 2, 2), y.reshape(6, 2, 2)), rtol=1e-12
    )
    turn = np.abs(np.asarray(torus.angle(x) - torus.angle(y)))
    expected = 1.5 * np.linalg.norm(np.minimum(turn, 2 * np.pi - turn), axis=1)
    np.testing.assert_allclose(torus.distance(x, y), expected, rtol=1e-12)
    squared = np.sort(np.asarray(spheres.frequency(jnp.asarray(spheres.degrees(2), float))) ** 2 * 1.5**2)
    np.testing.assert_allclose(squared, [0, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4], rtol=1e-12)


def test_the_sequence_in_many_dimensions_has_its_error(x64):
    """|mean of exp(i k.angle)| <= 1 / (n |sin(pi k.a)|), where a is the second point in turns."""
    torus = Torus(6)
    x, weights = torus.quadrature(500)
    angle = np.asarray(torus.angle(x))
    turns = angle[1] / (2 * np.pi)
    for k in torus.modes(2)[1:]:
        mean = abs(np.exp(1j * angle @ k) @ np.asarray(weights))
        assert mean <= 1 / (500 * abs(np.sin(np.pi * k @ turns))) * (1 + 1e-6)
    assert torus.max_degree(500) == 3  # 1 + 12 + 60 + 160 modes, and 252 more of degree 4
    assert Torus(6).levels(3).tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_torus_graph_frequencies(x64):
    torus = Torus(2)
    x, weights = torus.quadrature(256)
    kernel = np.tensordot(1 / (1.0 + torus.levels(5)), torus.projectors(x, x, 5), 1)
    modes = nb.eigen.eigh((kernel + kernel.T) / 2, weights=weights, num_modes=21)
    graph = nb.frequency.graph_frequency(nb.Spectrum(**{**vars(modes), "x": x}), torus)
    np.testing.assert_allclose(graph, np.sqrt(torus.degrees(5)), rtol=0.02, atol=1e-6)


def test_walsh_functions_are_products_of_coordinates(x64):
    cube = Hypercube(4)
    x, _ = cube.quadrature(16)
    subsets = cube.modes(4)
    assert len(subsets) == 16
    for column, subset in zip(cube.harmonics(x, 4).T, subsets, strict=True):
        np.testing.assert_array_equal(column, np.prod(np.asarray(x)[:, subset == 1], axis=1))
    assert [cube.multiplicity(k) for k in range(6)] == [1, 4, 6, 4, 1, 0]


def test_all_corners_once():
    x, weights = Hypercube(5).quadrature(40)
    assert len(np.unique(np.asarray(x), axis=0)) == len(x) == 32
    assert weights.tolist() == [1 / 32] * 32
    assert Hypercube(5).max_degree(32) == 5


def test_a_fraction_of_the_cube_is_exact_on_degrees_one_two_and_odd():
    cube = Hypercube(9)
    x, _ = cube.quadrature(100)
    assert len(np.unique(np.asarray(x), axis=0)) == len(x) == 64
    means = np.asarray(cube.harmonics(x, 9)).mean(0)
    degrees = cube.degrees(9)
    np.testing.assert_array_equal(means[(degrees % 2 == 1) | (degrees == 2)], 0)
    assert set(np.abs(means).tolist()) <= {0.0, 1.0}
    assert np.abs(means).sum() == 2**9 / 64  # the dual code
    assert cube.max_degree(100) == 2  # 1 + 9 + 36 of half of 100


def test_cube_neighbors_are_single_flips():
    cube = Hypercube(5)
    x, _ = cube.quadrature(32)
    first, second, distance = cube.neighbors(x)
    assert len(first) == 32 * 5 // 2
    np.testing.assert_array_equal((np.asarray(x)[first] != np.asarray(x)[second]).sum(1), 1)
    np.testing.assert_array_equal(distance, 2)
    sparse = jnp.asarray([[1, 1, 1, 1, 1], [-1, -1, 1, 1, 1], [-1, -1, -1, -1, -1.0]])
    first, second, distance = cube.neighbors(sparse)
    assert sorted(zip(first.tolist(), second.tolist(), (distance**2 / 4).round().tolist(), strict=True)) == [
        (0, 1, 2),
        (1, 2, 3),
    ]


@pytest.mark.slow
def test_cube_frequencies_agree(x64):
    """All three measures give sqrt k for the modes of degree k."""
    cube = Hypercube(6)
    x, weights = cube.quadrature(64)
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=3, b_std=0.5)), x, weights=weights)
    harmonic = cube.frequency(np.argmax(nb.frequency.harmonic_energy(spectrum, cube), 1))
    np.testing.assert_allclose(np.sort(harmonic), np.sqrt(cube.degrees(6)), rtol=1e-12)
    np.testing.assert_allclose(nb.frequency.graph_frequency(spectrum, cube), harmonic, rtol=0.01, atol=1e-6)
    every = nb.frequency.dirichlet_frequency(spectrum, cube, num_steps=64)
    np.testing.assert_allclose(every[1:], harmonic[1:], rtol=0.15)  # a flip from each corner


def test_hermite_functions_are_those_of_scipy(x64):
    gaussian = Gaussian(2, 1.5)
    x = gaussian.sample(9, key=jax.random.key(0))
    t = np.asarray(x) / 1.5
    for column, (a, b) in zip(np.asarray(gaussian.harmonics(x, 6)).T, gaussian.modes(6), strict=True):
        value = scipy.special.eval_hermitenorm(a, t[:, 0]) * scipy.special.eval_hermitenorm(b, t[:, 1])
        norm = np.sqrt(scipy.special.factorial(a) * scipy.special.factorial(b))
        np.testing.assert_allclose(column, value / norm, rtol=1e-10, atol=1e-10)


def test_projectors_sum_to_the_mehler_kernel(x64):
    """sum_k r^k P_k(x, y) = (1 - r^2)^{-d/2} exp((2 r x.y - r^2 (x^2 + y^2)) / (2 (1 - r^2)))."""
    gaussian = Gaussian(3)
    x, r = gaussian.sample(8, key=jax.random.key(0)), 0.1
    squares = jnp.sum(x**2, 1)
    exponent = (2 * r * x @ x.T - r**2 * (squares[:, None] + squares)) / (2 * (1 - r**2))
    kernel = (1 - r**2) ** -1.5 * jnp.exp(exponent)
    summed = jnp.tensordot(r ** jnp.arange(13), gaussian.projectors(x, x, 12), 1)
    np.testing.assert_allclose(summed, kernel, rtol=1e-9)  # r^13 times some thousand


def test_the_radial_rule_has_the_moments_of_a_gaussian(x64):
    gaussian = Gaussian(8, 2.0)
    x, weights = gaussian.quadrature(500)
    x, weights = np.asarray(x), np.asarray(weights)
    assert len(x) <= 500
    np.testing.assert_allclose((weights[:, None] * x).T @ x, 4 * np.eye(8), atol=1e-12)
    squares = (x**2).sum(
        1
    ) / 4  # chi-squared with 8 degrees of freedom: moments 8, 80, 960, ... of the length are exact
    for power, moment in ((1, 8), (2, 80), (3, 960), (4, 13_440), (5, 215_040)):
        assert weights @ squares**power == pytest.approx(moment, rel=1e-12)


def test_gaussian_graph_frequency_on_a_sample():
    """With a thousand normal inputs distances are long in the tails, so frequencies are accurate to 15 %."""
    gaussian = Gaussian(2, 0.5)
    x = gaussian.sample(1_000, key=jax.random.key(0))
    basis = gaussian.harmonics(x, 2)
    modes = nb.Spectrum(
        jnp.ones(6), basis, jnp.asarray([0, 1, 1, 2, 2, 2]), jnp.ones(()), jnp.zeros(6), jnp.zeros(()),
        jnp.full(1_000, 1e-3), x,
    )  # fmt: skip
    np.testing.assert_allclose(
        nb.frequency.graph_frequency(modes, gaussian)[1:], 2 * np.sqrt([1, 1, 2, 2, 2]), rtol=0.15
    )


def test_bad_input_is_named(unchecked):
    with pytest.raises(InputError, match="dimension to be at least 1; got 0"):
        Torus(0)
    with pytest.raises(InputError, match="at distance 1 from the origin.*Give Torus\\(radius=...\\)"):
        Torus(1).check(jnp.ones((3, 2)))
    with pytest.raises(InputError, match="Expected a degree that has harmonics on Torus\\(dimension=3.*; got 7"):
        Torus(3).harmonic(7, Torus(3).grid(8), key=jax.random.key(0))
    with pytest.raises(InputError, match="Expected entries \\+1 and -1; got 0. Turn bits b into 2 b - 1"):
        Hypercube(2).check(jnp.asarray([[1.0, 0.0]]))
    with pytest.raises(InputError, match="at least 32 nodes for a cube of dimension 9; got 16"):
        Hypercube(9).quadrature(31)
    with pytest.raises(InputError, match="Expected a scale of 2 sqrt\\(h\\) for h flips, h = 1 .. 3; got 3"):
        Hypercube(3).steps(Hypercube(3).quadrature(8)[0], 3, 4, key=jax.random.key(0))
    with pytest.raises(InputError, match="two different inputs for a neighborhood graph; got only one corner"):
        Hypercube(3).neighbors(jnp.ones((4, 3)))
    with pytest.raises(InputError, match="Expected a degree that has harmonics on Hypercube\\(dimension=3\\); got 4"):
        Hypercube(3).harmonic(4, jnp.ones((4, 3)), key=jax.random.key(0))
    with pytest.raises(InputError, match="Expected a scale above zero; got -1"):
        Gaussian(2, -1)
    with pytest.raises(InputError, match="Expected at least 48 nodes in 8 dimensions; got 47"):
        Gaussian(8).quadrature(47)

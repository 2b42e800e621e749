"""Domains with harmonics: one table, and the laws that make a basis of known frequency.

The tests of one domain use inputs of the same two shapes, so that they share compiled programs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DOMAINS, standard_errors

import ntkbias as nb
from ntkbias.domains import Circle, Gaussian, HarmonicDomain, Hypercube
from ntkbias.domains.plane_wave import plane_wave_frequency
from ntkbias.errors import InputError, InputTypeError

CASES = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if case.slow else ()) for name, case in DOMAINS.items()]
)
COSTLY_CASES = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "torus, 2" else pytest.mark.slow) for name in DOMAINS]
)
NUM_SAMPLES = 600


def names(degrees):
    """Degrees, or rows of degrees, as values that can be compared and hashed."""
    return [tuple(row) if isinstance(row, list) else row for row in degrees.tolist()]


def totals(domain, max_degree):
    """The degree of each harmonic, or the sum of its several degrees."""
    degrees = domain.degrees(max_degree)
    return degrees.reshape(len(degrees), -1).sum(1)


def exact_frequencies(domain, degrees):
    return np.asarray(domain.frequency(jnp.asarray(degrees, float)))


@CASES
def test_harmonics_are_orthonormal_under_quadrature(x64, name):
    domain, max_degree, num_inputs, *_ = DOMAINS[name]
    x, weights = domain.quadrature(num_inputs)
    domain.check(x)
    assert len(x) == len(weights) <= num_inputs
    assert float(weights.min()) > 0
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-12)
    basis = np.asarray(domain.harmonics(x, max_degree))
    assert basis.shape[1] == len(domain.degrees(max_degree))
    np.testing.assert_allclose(basis.T @ (weights[:, None] * basis), np.eye(basis.shape[1]), atol=1e-12)
    assert domain.max_degree(num_inputs) >= max_degree
    grid = domain.grid(num_inputs)
    domain.check(grid)
    assert 1 <= len(grid) <= num_inputs


@CASES
def test_degrees_multiplicities_and_levels_agree(name):
    domain, max_degree, *_ = DOMAINS[name]
    degrees, levels = names(domain.degrees(max_degree)), names(domain.levels(max_degree))
    assert len(set(levels)) == len(levels)
    assert {level: degrees.count(level) for level in levels} == {level: domain.multiplicity(level) for level in levels}
    assert set(degrees) == set(levels)
    assert np.all(np.diff(totals(domain, max_degree)) >= 0)  # ordered by degree


@CASES
def test_addition_theorem(x64, name):
    """The closed form of a level's projector is the sum over its harmonics."""
    domain, max_degree, num_inputs, leaf_dimension, _ = DOMAINS[name]
    x, _ = domain.quadrature(num_inputs)
    projectors = np.asarray(domain.projectors(x, x, max_degree))
    basis, degrees = np.asarray(domain.harmonics(x, max_degree)), names(domain.degrees(max_degree))
    for level, projector in zip(names(domain.levels(max_degree)), projectors, strict=True):
        members = basis[:, [degree == level for degree in degrees]]
        summed = members @ members.T
        np.testing.assert_allclose(projector, summed, atol=1e-12 * np.abs(summed).max())
        if leaf_dimension is not None or isinstance(domain, Hypercube):  # all points are equivalent
            np.testing.assert_allclose(np.diag(projector), domain.multiplicity(level), rtol=1e-12)


@CASES
def test_laplacian_eigenvalue_is_the_frequency_squared(x64, name):
    """E |grad phi|^2 = frequency^2, and gradients of different harmonics are orthogonal."""
    case = DOMAINS[name]
    domain, max_degree = case.domain, case.max_degree
    x, weights = domain.quadrature(case.num_inputs)
    one_input = jax.jacfwd(lambda one: domain.harmonics(one[None], max_degree)[0])
    gradients = case.tangent(np.asarray(x), np.asarray(jax.jit(jax.vmap(one_input))(x)))
    gradients = np.asarray(gradients).reshape(len(x), len(domain.degrees(max_degree)), -1)
    dirichlet = np.einsum("n,nhi,ngi->hg", weights, gradients, gradients, optimize=True)
    expected = exact_frequencies(domain, domain.degrees(max_degree)) ** 2
    np.testing.assert_allclose(dirichlet, np.diag(expected), atol=1e-11 * max(1, expected.max()))


@CASES
def test_energies_sum_to_the_mean_square_in_both_ways(x64, name):
    domain, max_degree, num_inputs, *_ = DOMAINS[name]
    x, weights = domain.quadrature(num_inputs)
    basis = np.asarray(domain.harmonics(x, max_degree))
    coefficients = np.random.default_rng(0).normal(size=(basis.shape[1], 2, 3))
    functions = jnp.asarray(np.tensordot(basis, coefficients, 1))  # two outputs, three functions
    energy = domain.energy(functions, x, weights, max_degree)
    assert energy.shape == (3, len(domain.levels(max_degree)))
    np.testing.assert_allclose(energy.sum(1), (coefficients**2).sum((0, 1)), rtol=1e-12)
    by_projectors = domain._projector_energy(functions, x, weights, max_degree)
    np.testing.assert_allclose(by_projectors, energy, atol=1e-12 * float(energy.max()))
    # On a sample the harmonics are not orthonormal: energies still sum to the mean square, and no level has more.
    sample = domain.sample(2 * basis.shape[1], key=jax.random.key(0))
    equal = jnp.full(len(sample), 1 / len(sample))
    functions = jnp.asarray(np.tensordot(np.asarray(domain.harmonics(sample, max_degree)), coefficients, 1))
    energy = domain.energy(functions, sample, equal, max_degree)
    np.testing.assert_allclose(energy.sum(1), np.mean(functions**2, 0).sum(0), rtol=1e-8)


@CASES
def test_samples_have_the_distribution_of_the_domain(x64, name):
    """Every harmonic but the constant has mean zero. Every product of two has mean zero or one."""
    domain, max_degree, *_ = DOMAINS[name]
    x = domain.sample(NUM_SAMPLES, key=jax.random.key(3))
    domain.check(x)
    low = totals(domain, max_degree) <= 2
    basis = np.asarray(domain.harmonics(x, max_degree))[:, low][:, :12]
    products = (basis[:, :, None] * basis[:, None, :]).reshape(len(x), -1)
    # There are at most 78 different products. The largest exceeds 4.5 standard errors once in 2,000 times.
    assert standard_errors(products, np.eye(basis.shape[1]).ravel()).max() < 4.5


@CASES
def test_a_harmonic_has_one_degree_and_unit_variance(x64, name):
    domain, max_degree, num_inputs, *_ = DOMAINS[name]
    x, weights = domain.quadrature(num_inputs)
    levels = names(domain.levels(max_degree))
    values = domain.harmonic(levels[-1], x, key=jax.random.key(1))
    energy = domain.energy(values[:, None], x, weights, max_degree)[0]
    np.testing.assert_allclose(energy, [0] * (len(levels) - 1) + [1], atol=1e-12)
    part = domain.harmonic(levels[-1], x[1::-1], key=jax.random.key(1))
    np.testing.assert_allclose(part, values[1::-1], atol=1e-12)


@COSTLY_CASES
def test_a_kernel_of_falling_projectors_is_ranked_by_frequency(x64, name):
    """The eigenvalue of a level is 1 / (1 + frequency^2). Only three frequencies: with more, a fit takes seconds."""
    domain, max_degree, num_inputs, *_ = DOMAINS[name]
    x, weights = domain.quadrature(num_inputs)
    levels = exact_frequencies(domain, domain.levels(max_degree))
    kernel = np.tensordot(1 / (1 + levels**2), domain.projectors(x, x, max_degree), 1)
    modes = nb.eigen.eigh((kernel + kernel.T) / 2, weights=weights, num_modes=len(domain.degrees(max_degree)))
    expected = np.sort(exact_frequencies(domain, domain.degrees(max_degree)))
    expected = expected[expected <= np.unique(expected)[:3].max()]
    spectrum = nb.Spectrum(**{**vars(modes), "x": x})
    ranking = nb.rank_by_frequency(spectrum, domain, num_modes=len(expected))
    np.testing.assert_allclose(ranking.frequencies, expected, rtol=1e-12)
    np.testing.assert_allclose(ranking.energy.sum(1), 1, rtol=1e-9)


@CASES
def test_steps_have_their_length_and_measure_the_frequency(x64, name):
    domain, max_degree, *_ = DOMAINS[name]
    x = domain.sample(NUM_SAMPLES, key=jax.random.key(3))
    scale = domain.step_length(x) if isinstance(domain, Hypercube) else 0.1 * getattr(domain, "scale", 1.0)
    nodes, start, end = domain.steps(x, scale, NUM_SAMPLES, key=jax.random.key(1))
    domain.check(start)
    domain.check(end)
    assert len(set(nodes.tolist())) == NUM_SAMPLES
    if not isinstance(domain, Circle | Hypercube):
        np.testing.assert_allclose(domain.distance(start, end), scale, rtol=1e-9)
        assert np.all(domain.distance(x[nodes], start) <= domain.spacing(x) * (1 + 1e-9))
    before, after = (np.asarray(domain.harmonics(points, max_degree)) for points in (start, end))
    ratios = 2 * np.sum((before - after) ** 2, 0) / np.sum(before**2 + after**2, 0) / scale**2
    lengths, coefficients = np.full(NUM_SAMPLES, scale), np.full(NUM_SAMPLES, 1 / scale**2)
    dimension = domain.intrinsic_dimension(x)
    measured = plane_wave_frequency(ratios, lengths, coefficients, dimension, domain.correlation)
    expected = exact_frequencies(domain, domain.degrees(max_degree))
    # Hermite functions of higher degree are large in the tails, in which a few hundred inputs do not lie.
    shown = totals(domain, max_degree) <= (3 if isinstance(domain, Gaussian) else max_degree)
    for frequency in np.unique(expected[shown]):
        # A ratio of means over 600 steps has an error of about 6 %, and its root half of that. A level shares its mean.
        assert measured[expected == frequency].mean() == pytest.approx(frequency, rel=0.1, abs=1e-6)


@CASES
def test_neighbors_are_distinct_pairs_at_their_distance(x64, name):
    domain = DOMAINS[name].domain
    x = domain.sample(NUM_SAMPLES, key=jax.random.key(3))[:60]
    x = jnp.concatenate([x, x[:1]])  # one input occurs twice
    first, second, distance = domain.neighbors(x)
    assert np.all(first != second)
    pairs = {*zip(np.minimum(first, second).tolist(), np.maximum(first, second).tolist(), strict=True)}
    assert len(pairs) == len(first)
    assert distance.min() > 0
    if not isinstance(domain, Circle | Hypercube):
        np.testing.assert_allclose(distance, domain.distance(x[first], x[second]))
    chords = np.linalg.norm(np.asarray(x[first] - x[second]).reshape(len(first), -1), axis=1)
    assert np.all(distance >= chords * (1 - 1e-9))  # no path is shorter than the straight line
    assert domain.spacing(x) > 0
    assert domain.chart(x).shape in {(61, 1), (61, 2)}


@COSTLY_CASES
def test_harmonics_in_float32_are_those_in_float64(name):
    domain, max_degree, num_inputs, *_ = DOMAINS[name]
    single = domain.harmonics(domain.quadrature(num_inputs)[0], max_degree)
    assert single.dtype == jnp.float32
    jax.config.update("jax_enable_x64", True)
    try:
        double = np.asarray(domain.harmonics(domain.quadrature(num_inputs)[0], max_degree))
    finally:
        jax.config.update("jax_enable_x64", False)
    # The derivative amplifies an input error of 1e-7 by at most the degree or frequency times the largest value.
    np.testing.assert_allclose(single, double, atol=1e-6 * max(1, max_degree) * np.abs(double).max())


@CASES
def test_bad_input_is_named(unchecked, name):
    domain, _, num_inputs, *_ = DOMAINS[name]
    x, _ = domain.quadrature(num_inputs)
    with pytest.raises(InputError, match="Expected inputs \\(n, .*; got shape"):
        domain.check(x[..., :-1])
    with pytest.raises(InputError, match="Expected inputs \\(n, .*; got shape \\(0"):
        domain.check(x[:0])
    with pytest.raises(InputError, match="Expected finite numbers in x; got 1 NaN"):
        domain.check(x.at[(0,) * x.ndim].set(jnp.nan))
    with pytest.raises(InputError, match="num_inputs to be at least 1; got 0"):
        domain.sample(0, key=jax.random.key(0))
    with pytest.raises(InputError, match="num_inputs to be at least 1; got 0"):
        domain.quadrature(0)
    with pytest.raises(InputError, match="degree"):
        domain.harmonic(-1, x, key=jax.random.key(0))
    with pytest.raises(InputTypeError, match="Expected max_degree to be a whole number; got 1.5"):
        domain.energy(x[:, :1], x, jnp.ones(len(x)), 1.5)


def test_the_default_projector_is_the_sum_over_harmonics(x64):
    """On a domain without its own closed form."""
    circle = Circle()
    x, _ = circle.quadrature(9)
    angles = circle.angle(x)
    expected = [np.ones((9, 9)), *(2 * np.cos(k * (angles[:, None] - angles)) for k in (1, 2))]
    np.testing.assert_allclose(HarmonicDomain.projectors(circle, x, x, 2), expected, atol=1e-13)


@pytest.mark.slow
def test_power_beyond_the_last_degree_is_ranked_last():
    """Nine nodes distinguish degrees up to 4. Eight nodes distinguish degrees up to 3, and one wave of degree 4."""
    x, weights = Circle().quadrature(8)
    wave = jnp.asarray(np.cos(np.pi * np.arange(8)))
    modes = nb.eigen.eigh(jnp.outer(wave, wave) + 0.5, weights=weights, num_modes=2)
    ranking = nb.rank_by_frequency(nb.Spectrum(**{**vars(modes), "x": x}), Circle())
    assert ranking.frequencies.tolist() == [3, 0]

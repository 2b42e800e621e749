"""The main claim: kernels rank modes by frequency, and three measures of frequency agree."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import spectrum_on_nodes

import ntkbias as nb
from ntkbias.errors import InputError

CIRCLE = nb.domains.Circle()
GRID = CIRCLE.quadrature(256)
IN_ORDER = (np.arange(61) + 1) // 2  # 0, 1, 1, 2, 2, ... 30, 30


@pytest.fixture(scope="module")
def infinite():
    return spectrum_on_nodes(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), CIRCLE, 256)


@pytest.fixture(scope="module")
def no_bias():
    return spectrum_on_nodes(nb.infinite_ntk(nb.nets.mlp(depth=1)), CIRCLE, 256)


def test_infinite_network_ranks_the_degrees_in_order(infinite):
    ranking = nb.rank_by_frequency(infinite, CIRCLE)
    np.testing.assert_array_equal(ranking.frequencies[:61], IN_ORDER)
    assert float(ranking.purity[:61].min()) > 0.999
    assert ranking.eigenspace[:61].tolist() == IN_ORDER.tolist()
    assert ranking.spearman < -0.99
    np.testing.assert_allclose(ranking.learning_times, 1 / ranking.eigenvalues)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.slow
def test_wide_empirical_network_ranks_the_degrees_in_order(seed):
    net = nb.nets.mlp(width=1024, depth=2, b_std=0.1)
    kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(seed), (2,)))
    ranking = nb.rank_by_frequency(spectrum_on_nodes(kernel, CIRCLE, 96), CIRCLE)
    np.testing.assert_array_equal(ranking.frequencies[:17], IN_ORDER[:17])  # to degree 8


def test_without_bias_odd_degrees_from_three_on_are_out_of_order(no_bias):
    """One hidden ReLU layer without bias has eigenvalue zero at odd degrees >= 3 (Basri et al. 2019)."""
    ranking = nb.rank_by_frequency(no_bias, CIRCLE)
    resolved = [int(f) for f in ranking.frequencies]
    assert resolved[:7] == [0, 1, 1, 2, 2, 4, 4]
    assert all(f % 2 == 0 for f in resolved if f > 1)
    odd = nb.frequency.harmonic_energy(no_bias, CIRCLE)[:, 3::2].sum(1)
    assert float(no_bias.eigenvalues[np.asarray(odd) > 0.5].max()) < float(no_bias.noise_floor)


@pytest.mark.slow
def test_without_bias_a_finite_network_learns_degree_three_late():
    """At width 1,024 the zeros of the limit become small: degree 4 and 6 come before degree 3."""
    net = nb.nets.mlp(width=1024, depth=1)
    kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (2,)))
    frequencies = nb.rank_by_frequency(spectrum_on_nodes(kernel, CIRCLE, 96), CIRCLE).frequencies.tolist()
    assert 3.0 not in frequencies or frequencies.index(3.0) > max(frequencies.index(4.0), frequencies.index(6.0))


@pytest.mark.parametrize("domain", [CIRCLE, nb.domains.PointCloud()], ids=["circle", "point cloud"])
@pytest.mark.parametrize("which", ["infinite", "no_bias"])
def test_three_measures_agree_up_to_a_fifth_of_the_sampling_limit(request, domain, which):
    spectrum = request.getfixturevalue(which)
    degrees = np.asarray(nb.rank_by_frequency(spectrum, CIRCLE).frequencies)
    compared = (degrees > 0) & (degrees <= CIRCLE.max_degree(256) / 5)
    assert compared.sum() > 20
    for measure in (nb.frequency.graph_frequency, nb.frequency.dirichlet_frequency):
        frequencies = np.asarray(measure(spectrum, domain))[: len(degrees)]
        np.testing.assert_allclose(frequencies[compared], degrees[compared], rtol=0.05)
        assert frequencies[0] < 0.05  # a constant


@pytest.mark.slow
def test_frequency_scales_with_the_radius():
    wide = nb.domains.Circle(2.0)
    x, weights = wide.quadrature(128)
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
    exact = nb.rank_by_frequency(spectrum, wide).frequencies[:9]
    np.testing.assert_allclose(exact, IN_ORDER[:9] / 2)
    np.testing.assert_allclose(nb.frequency.graph_frequency(spectrum, wide)[1:9], exact[1:9], rtol=0.01)


@pytest.mark.slow
def test_random_inputs_are_ranked_like_the_grid():
    x = CIRCLE.sample(500, key=jax.random.key(0))
    ranking = nb.rank_by_frequency(nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x), CIRCLE)
    np.testing.assert_array_equal(ranking.frequencies[:9], IN_ORDER[:9])


def test_vector_valued_modes_have_the_frequency_of_the_scalar_ones():
    net = nb.nets.mlp(depth=2, num_outputs=2, b_std=0.1)
    x, weights = CIRCLE.quadrature(32)
    ranking = nb.rank_by_frequency(nb.spectrum(nb.infinite_ntk(net, outputs="all"), x, weights=weights), CIRCLE)
    assert ranking.frequencies[:10].tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    graph = nb.rank_by_frequency(
        nb.spectrum(nb.infinite_ntk(net, outputs="all"), x, weights=weights), CIRCLE, measure="graph"
    )
    np.testing.assert_allclose(graph.frequencies[2:10], ranking.frequencies[2:10], rtol=0.01)


@pytest.mark.slow
def test_digits_have_low_frequencies_first():
    x, _ = nb.datasets.digits(400)
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.cnn(depth=2)), x)
    ranking = nb.rank_by_frequency(spectrum, nb.domains.Images())
    assert ranking.spearman < -0.8
    assert ranking.energy is None
    assert ranking.purity is None
    assert ranking.decay.exponent < -1
    dirichlet = nb.frequency.dirichlet_frequency(spectrum, nb.domains.Images(), num_modes=20)
    np.testing.assert_allclose(dirichlet[1:], ranking.frequencies[1:20], rtol=0.35)  # of single modes, 512 steps


def test_bad_input_is_named(unchecked, infinite):
    bare = nb.eigen.eigh(jnp.eye(12))
    with pytest.raises(InputError, match="knows its inputs; got one of a bare matrix"):
        nb.rank_by_frequency(bare, CIRCLE)
    with pytest.raises(TypeError, match="Expected a domain, e.g. Circle"):
        nb.rank_by_frequency(infinite, "circle")
    with pytest.raises(TypeError, match="Expected a Spectrum; got"):
        nb.rank_by_frequency(jnp.eye(3), CIRCLE)
    with pytest.raises(InputError, match="measure to be one of harmonic, graph, dirichlet; got 'fourier'"):
        nb.rank_by_frequency(infinite, CIRCLE, measure="fourier")
    with pytest.raises(TypeError, match="Expected a domain with harmonics, e.g. Circle\\(\\); got PointCloud"):
        nb.rank_by_frequency(infinite, nb.domains.PointCloud(), measure="harmonic")
    with pytest.raises(InputError, match="Expected inputs at distance 2 from the origin"):
        nb.rank_by_frequency(infinite, nb.domains.Circle(2.0))
    with pytest.raises(InputError, match="Expected a scale above zero; got -1"):
        nb.frequency.dirichlet_frequency(infinite, CIRCLE, scale=-1.0)
    for call in (nb.rank_by_frequency, nb.frequency.dirichlet_frequency, nb.frequency.gradient_frequency):
        with pytest.raises(TypeError, match="Expected a key of jax.random, as jax.random.key.*; got int"):
            call(infinite, CIRCLE, key=3)
    with pytest.raises(InputError, match="num_steps to be at least 1"):
        nb.frequency.dirichlet_frequency(infinite, CIRCLE, num_steps=0)
    zero = nb.Spectrum(**{**vars(nb.eigen.eigh(jnp.zeros((256, 256)))), "x": GRID[0]})
    with pytest.raises(InputError, match="Expected a mode above the noise floor"):
        nb.rank_by_frequency(zero, CIRCLE)


def test_a_spectrum_of_a_float64_session_ranks_in_a_float32_one(tmp_path, x64, unchecked):
    circle = nb.domains.Circle()
    x, weights = circle.quadrature(24)
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(b_std=0.1)), x, weights=weights)
    wanted = nb.rank_by_frequency(spectrum, circle)
    nb.save(tmp_path / "s", spectrum)
    jax.config.update("jax_enable_x64", False)
    loaded = nb.load(tmp_path / "s")
    assert loaded.eigenvalues.dtype == np.float64  # no digit is lost
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = nb.rank_by_frequency(loaded, circle)
        graph = nb.frequency.graph_frequency(loaded, circle)
    np.testing.assert_array_equal(found.frequencies, wanted.frequencies)
    np.testing.assert_allclose(found.eigenvalues, wanted.eigenvalues, rtol=1e-6)
    assert graph.dtype == np.float32

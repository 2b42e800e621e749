"""Rankings give the exact degrees on every domain with harmonics, also in degenerate spaces, and measures agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import spectrum_on_nodes

import ntkbias as nb
from ntkbias.domains import Circle, Hypercube, Sphere, SphereProduct, Torus
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import dirichlet_frequency, gradient_frequency

# The domain, the number of nodes, and the number of modes to compare: whole degrees with well separated eigenvalues.
EXACT = {
    "circle": (Circle(), 64, 13),
    "sphere": (Sphere(3), 242, 16),
    "sphere in four dimensions": (Sphere(4), 686, 14),
    "cube": (Hypercube(7), 128, 64),
    "torus": (Torus(2), 225, 13),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.slow
def test_the_ranking_is_that_of_the_exact_spectrum(x64, name):
    domain, num_nodes, num_modes = EXACT[name]
    kernel = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.5))
    exact = nb.exact_spectrum(kernel, domain, max_degree=6).expand(num_modes)
    spectrum = spectrum_on_nodes(kernel, domain, num_nodes)
    ranking = nb.rank_by_frequency(spectrum, domain, num_modes=num_modes, num_resamples=10)
    np.testing.assert_allclose(np.sort(ranking.frequencies), np.sort(exact.frequencies), rtol=1e-9)
    np.testing.assert_allclose(ranking.frequencies, exact.frequencies, rtol=1e-9)
    assert ranking.resolved.all()
    assert float(ranking.purity.min()) > 0.98
    np.testing.assert_allclose(ranking.interval[:, 1], ranking.frequencies, rtol=1e-9)


@pytest.mark.slow
def test_the_ranking_on_a_product_of_spheres_has_one_degree_per_leaf(x64):
    """A convolution over two patches, then a dense layer: at equal degree, modes on one leaf precede modes on both."""
    domain = SphereProduct((0, 1), 3)
    net = nb.layers.Sequential(
        (
            nb.layers.Conv(64, (1,)),
            nb.layers.Relu(),
            nb.layers.Flatten(),
            nb.layers.Dense(64),
            nb.layers.Relu(),
            nb.layers.Dense(1),
        )
    )
    kernel = nb.infinite_ntk(net)
    exact = nb.exact_spectrum(kernel, domain, max_degree=3)
    spectrum = spectrum_on_nodes(kernel, domain, 18**2)
    ranking = nb.rank_by_frequency(spectrum, domain, num_modes=16, num_resamples=5)
    levels = np.asarray(ranking.levels)[np.argmax(ranking.energy, 1)]
    np.testing.assert_allclose(ranking.frequencies, exact.expand(16).frequencies, rtol=1e-9)
    assert levels[0].tolist() == [0, 0]
    assert sorted(levels[1:7].sum(1).tolist()) == [1] * 6


@pytest.mark.slow
def test_eigenspaces_of_a_wide_relu_network_on_the_sphere(x64):
    """At infinite width, 1, 3, 5, 7, 9 with gaps between degrees. With 4,096 units, scattered but in the same order."""
    sphere = Sphere(3)
    net = nb.nets.mlp(width=4_096, depth=1, b_std=1.0)
    x, weights = sphere.quadrature(288)
    infinite = nb.spectrum(nb.infinite_ntk(net), x, weights=weights)
    ranking = nb.rank_by_frequency(infinite, sphere, num_modes=25, num_resamples=0)
    degrees = np.argmax(ranking.energy, 1)
    assert [int(np.sum(degrees == degree)) for degree in range(5)] == [1, 3, 5, 7, 9]
    values = np.asarray(ranking.eigenvalues)
    for degree in range(4):
        assert values[degrees == degree].min() > 1.2 * values[degrees == degree + 1].max()
        assert np.ptp(values[degrees == degree]) < 0.02 * values[degrees == degree].mean()
    params = net.init(jax.random.key(0), (3,))
    finite = nb.spectrum(nb.empirical_ntk(net.apply, params), x, weights=weights)
    found = nb.rank_by_frequency(finite, sphere, num_modes=16, num_resamples=0)
    np.testing.assert_array_equal(np.argmax(found.energy, 1), np.repeat(np.arange(4), [1, 3, 5, 7]))


@pytest.mark.slow
def test_derivatives_agree_with_differences_for_smooth_activations(x64):
    x, weights = Circle().quadrature(32)
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, activation="erf", b_std=1.0)), x, weights=weights)
    exact = (np.arange(9) + 1) // 2
    gradient = gradient_frequency(spectrum, Circle(), num_modes=9, num_points=32)
    np.testing.assert_allclose(gradient, exact, rtol=0.02, atol=1e-3)
    differences = dirichlet_frequency(spectrum, Circle(), num_modes=9, num_steps=32)
    np.testing.assert_allclose(differences, exact, rtol=0.02, atol=1e-3)


@pytest.mark.slow
def test_the_derivative_of_a_finite_relu_networks_modes_misses_their_jumps():
    """As the docstring warns: a mode of degree 12 by differences has a far lower frequency by derivatives."""
    net = nb.nets.mlp(width=512, depth=1, b_std=0.1)
    x, weights = Circle().quadrature(64)
    spectrum = nb.spectrum(nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (2,))), x, weights=weights)
    ranking = nb.rank_by_frequency(spectrum, Circle(), num_resamples=0)
    mode = int(np.flatnonzero(np.asarray(ranking.frequencies) == 12)[0])
    by_differences = float(dirichlet_frequency(spectrum, Circle(), num_modes=mode + 1)[mode])
    by_derivatives = float(gradient_frequency(spectrum, Circle(), num_modes=mode + 1)[mode])
    assert by_differences == pytest.approx(12, rel=0.25)
    assert by_derivatives < 0.5 * by_differences


def test_bad_input_is_named(unchecked):
    cube = Hypercube(4)
    x, weights = cube.quadrature(16)
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), x, weights=weights)
    with pytest.raises(InputError, match="a domain with derivatives; got Hypercube, which is discrete"):
        gradient_frequency(spectrum, cube)
    with pytest.raises(InputError, match="num_points to be at least 1; got 0"):
        gradient_frequency(spectrum, cube, num_points=0)
    with pytest.raises(InputTypeError, match=r"a domain with harmonics, e.g. Circle\(\); got PointCloud"):
        nb.frequency.harmonic_energy(nb.Spectrum(**{**vars(spectrum), "x": jnp.ones((16, 4))}), nb.domains.PointCloud())

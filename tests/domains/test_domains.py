"""Domains: laws of harmonics, neighborhoods and steps."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.domains import Circle, Images, PointCloud
from ntkbias.domains.plane_wave import plane_wave_frequency
from ntkbias.errors import InputError


@pytest.mark.parametrize("radius", [1.0, 2.5])
def test_circle_harmonics_are_orthonormal_and_quadrature_is_exact(x64, radius):
    circle = Circle(radius)
    x, weights = circle.quadrature(41)
    basis = circle.harmonics(x, 20)
    np.testing.assert_allclose(basis.T @ (weights[:, None] * basis), np.eye(41), atol=1e-13)
    assert len(circle.degrees(20)) == basis.shape[1]
    np.testing.assert_allclose(jnp.linalg.norm(x, axis=1), radius)


def test_circle_energy_finds_the_degree(x64):
    circle = Circle()
    x, weights = circle.quadrature(64)
    angle = circle.angle(x)
    functions = jnp.stack([jnp.ones(64), jnp.cos(3 * angle) + jnp.sin(3 * angle), jnp.sqrt(2) * jnp.sin(9 * angle)], 1)
    energy = circle.energy(functions, x, weights, circle.max_degree(64))
    np.testing.assert_allclose(jnp.argmax(energy, 1), [0, 3, 9])
    np.testing.assert_allclose(energy.sum(1), 1, rtol=1e-12)


def test_circle_samples_are_uniform():
    x = Circle().sample(20_000, key=jax.random.key(0))
    means = Circle().harmonics(x, 4)[:, 1:].mean(0)  # each has variance one, so mean 0 +- 1 / sqrt(n)
    assert float(jnp.abs(means).max()) < 4 / 20_000**0.5


@pytest.mark.parametrize("domain", [Circle(3.0), PointCloud(num_neighbors=4, dimension=1)])
def test_steps_have_their_length_and_stay_near(x64, domain):
    x, _ = Circle(3.0).quadrature(200)
    nodes, start, end = domain.steps(x, 0.01, 50, key=jax.random.key(0))
    np.testing.assert_allclose(jnp.linalg.norm(end - start, axis=1), 0.01, rtol=1e-4)
    reach = 3 * domain.spacing(x)
    assert float(jnp.linalg.norm(start - x[nodes], axis=1).max()) < reach
    assert len(np.unique(np.asarray(nodes))) > 25


def test_spacing_of_a_grid_is_its_arc(x64):
    x, _ = Circle(2.0).quadrature(100)
    assert Circle(2.0).spacing(x) == pytest.approx(2 * 2 * np.pi / 100, rel=1e-12)


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_intrinsic_dimension_is_that_of_the_subspace(dimension):
    estimates = []
    for seed in range(5):
        keys = jax.random.split(jax.random.key(seed))
        flat = jax.random.uniform(keys[0], (800, dimension)) @ jax.random.normal(keys[1], (dimension, 10))
        estimates.append(PointCloud().intrinsic_dimension(flat))
    # Near the edges of the cube neighbors lie on one side, so the estimate is too low: by a tenth at dimension 4.
    assert np.median(estimates) in ({dimension} if dimension < 4 else {3, 4})


def test_neighbors_are_symmetric_distinct_and_nearest():
    x = jax.random.normal(jax.random.key(0), (40, 3))
    first, second, distance = PointCloud(num_neighbors=3).neighbors(x)
    assert np.all(first < second)
    assert len({*zip(first.tolist(), second.tolist(), strict=True)}) == len(first)
    np.testing.assert_allclose(distance, np.linalg.norm(x[first] - x[second], axis=1), rtol=1e-5)
    every = np.linalg.norm(x[:, None] - x[None], axis=-1) + np.diag(np.full(40, np.inf))
    for node in range(40):
        nearest = set(np.argsort(every[node])[:3].tolist())
        linked = set(second[first == node].tolist()) | set(first[second == node].tolist())
        assert nearest <= linked


def test_coinciding_inputs_have_no_edge():
    x = jnp.concatenate([jnp.zeros((3, 2)), jax.random.normal(jax.random.key(0), (20, 2))])
    assert PointCloud(num_neighbors=5).neighbors(x).distance.min() > 0
    assert PointCloud(num_neighbors=5).intrinsic_dimension(x) >= 1


@pytest.mark.parametrize("dimension", [1, 2, 7])
def test_plane_waves_have_their_own_frequency(dimension):
    """A mean over 200,000 random plane waves on random edges agrees with the mean in the formula."""
    rng = np.random.default_rng(0)
    num_edges, k = 200_000, 1.7
    distance = rng.uniform(0.2, 0.9, num_edges)
    directions = rng.normal(size=(num_edges, dimension))
    along = directions[:, 0] / np.linalg.norm(directions, axis=1)
    phase = rng.uniform(0, 2 * np.pi, num_edges)
    a, b = np.cos(phase), np.cos(phase + k * distance * along)
    coefficients = 1 / distance**2
    ratio = (coefficients * (a - b) ** 2).sum() / (coefficients * distance**2 * (a**2 + b**2) / 2).sum()
    estimate = plane_wave_frequency(np.array([ratio]), distance, coefficients, dimension)
    assert estimate[0] == pytest.approx(k, rel=0.01)  # the mean's standard error is about 0.3 %


def test_chart_and_embedding():
    x, _ = Circle().quadrature(8)
    np.testing.assert_allclose(Circle().chart(x)[:, 0], 2 * np.pi * np.arange(8) / 8, atol=1e-6)
    images = jax.random.normal(jax.random.key(0), (30, 4, 4, 1))
    assert Images().chart(images).shape == (30, 2)


def test_bad_input_is_named(unchecked):
    with pytest.raises(InputError, match="Expected a radius above zero; got 0"):
        Circle(0)
    with pytest.raises(InputError, match="Expected inputs \\(n, 2\\) on the circle; got shape \\(4, 3\\)"):
        Circle().check(jnp.ones((4, 3)))
    with pytest.raises(InputError, match="Expected inputs at distance 1 from the origin; got some off by 1"):
        Circle().check(2 * Circle().grid(4))
    with pytest.raises(InputError, match="num_inputs to be at least 1"):
        Circle().grid(0)
    with pytest.raises(InputError, match="more than 11 inputs for 10 neighbors each; got shape \\(5, 2\\)"):
        PointCloud().check(jnp.ones((5, 2)))
    with pytest.raises(InputError, match="num_neighbors to be at least 1"):
        PointCloud(num_neighbors=0)
    with pytest.raises(InputError, match="dimension to be a whole number"):
        PointCloud(dimension=1.5)
    with pytest.raises(InputError, match="Expected images \\(n, height, width, channels\\); got shape \\(20, 8, 8\\)"):
        Images().check(jnp.ones((20, 8, 8)))
    with pytest.raises(InputError, match="inputs that all coincide"):
        PointCloud(num_neighbors=2).neighbors(jnp.ones((5, 2)))


def test_images_with_channels_first_are_remarked_on():
    images = jax.random.normal(jax.random.key(0), (30, 3, 8, 8))
    message = r"got shape \(30, 3, 8, 8\), which is read as images of 3 x 8 pixels in 8 channels. If .* use x.transpose"
    with pytest.warns(UserWarning, match=message):
        Images().check(images)
    with pytest.warns(UserWarning, match=message):
        nb.frequency.image_frequencies(lambda x: x.sum((1, 2, 3)), images, num_bands=2, num_steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape in ((30, 8, 8, 3), (30, 8, 8, 1), (30, 3, 3, 3), (30, 1, 8, 1)):
            Images().check(jnp.zeros(shape))

"""Image frequencies: a plane wave has its own frequency, and differences agree with derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import ImageFrequencies, image_frequencies, image_gradient_frequencies

IMAGES = jax.random.normal(jax.random.key(0), (30, 6, 8, 2))


def wave(rows, columns):
    i, j = np.mgrid[:6, :8]
    return jnp.asarray(np.cos(2 * np.pi * (rows * i / 6 + columns * j / 8)))[:, :, None]


def responses(x):
    """Functions of one wave each, with 0, 1/6, 1/4 and 5/8 cycles per pixel."""
    inner = [jnp.sum(x * wave(*k), (1, 2, 3)) for k in ((0, 0), (1, 0), (0, 2), (3, 3))]
    return jnp.stack([inner[0], jnp.sin(0.1 * inner[1]), inner[2] ** 2, jnp.tanh(0.1 * inner[3])], 1)


@pytest.mark.slow
def test_a_wave_has_its_own_frequency():
    response = image_gradient_frequencies(responses, IMAGES, num_bands=5)
    radius = np.hypot(0.5, 0.5)
    np.testing.assert_allclose(response.edges, np.linspace(0, radius, 6), rtol=1e-6)
    assert int(response.counts.sum()) == 48
    places = np.searchsorted(np.linspace(0, radius, 6), [0, 1 / 6, 1 / 4, 5 / 8], side="right") - 1
    np.testing.assert_allclose(response.share, np.eye(5)[places], atol=1e-5)
    np.testing.assert_allclose(response.mean_frequency, (places + 0.5) * radius / 5, rtol=1e-4)
    np.testing.assert_allclose(response.energy.sum(1), total_gradient(responses), rtol=1e-4)


def total_gradient(function):
    """The mean over images of the squared norm of each output's gradient, which is the sum over the bands."""
    jacobians = jax.vmap(jax.jacrev(lambda one: function(one[None])[0]))(IMAGES)
    return np.mean(np.sum(np.asarray(jacobians) ** 2, (2, 3, 4)), 0)


def test_differences_agree_with_derivatives():
    """With 30 x 24 steps per band, the error is about 4 to 8 %."""
    exact = image_gradient_frequencies(responses, IMAGES, num_bands=3)
    found = image_frequencies(responses, IMAGES, num_bands=3, scale=0.05, num_steps=24)
    np.testing.assert_allclose(found.energy, exact.energy, rtol=0.3, atol=1e-4 * float(exact.energy.max()))
    np.testing.assert_allclose(found.share, exact.share, atol=0.1)


@pytest.mark.slow
def test_white_noise_has_density_one():
    weights = jax.random.normal(jax.random.key(1), (6, 8, 2, 400))
    response = image_gradient_frequencies(lambda x: jnp.tensordot(x, weights, 3), IMAGES[:1], num_bands=4)
    np.testing.assert_allclose(response.density.mean(0), 1, atol=4 / np.sqrt(400 * 4))


@pytest.mark.slow
def test_modes_of_a_spectrum():
    """A dense network has no preference among pixels: its gradients are as white as the images."""
    x = IMAGES[:12]
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), x)
    response = image_frequencies(spectrum, x, num_bands=3, num_modes=4, num_steps=2)
    assert response.share.shape == (4, 3)
    np.testing.assert_allclose(response.share.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(response.density.mean(0), 1, atol=0.5)


def test_it_is_saved(tmp_path):
    value = image_gradient_frequencies(lambda x: jnp.sum(x, (1, 2, 3)), IMAGES, num_bands=2)
    nb.save(tmp_path / "response", value)
    loaded = nb.load(tmp_path / "response")
    assert isinstance(loaded, ImageFrequencies)
    np.testing.assert_array_equal(loaded.share, value.share)
    lines = str(value).splitlines()
    assert lines[2].split() == ["0.000", "to", "0.354", f"{value.share[0]:.3f}"]
    assert lines[-1].split() == ["mean", "frequency", f"{value.mean_frequency:.3f}"]


def test_bad_input_is_named(unchecked):
    with pytest.raises(InputError, match=r"Expected images \(n, height, width, channels\); got shape \(6, 8, 2\)"):
        image_frequencies(responses, IMAGES[0])
    with pytest.raises(InputTypeError, match="a function of images or a Spectrum; got int"):
        image_frequencies(3, IMAGES)
    with pytest.raises(InputError, match=r"maps n images to \(n,\) or \(n, k\); got \(30, 6, 8, 2\)"):
        image_gradient_frequencies(lambda x: x, IMAGES)
    with pytest.raises(InputError, match="a scale above zero; got 0"):
        image_frequencies(responses, IMAGES, scale=0)
    with pytest.raises(InputError, match="two images or more to choose the length of a step; got one. Pass scale="):
        image_frequencies(responses, IMAGES[:1])
    with pytest.raises(InputTypeError, match="a key of jax.random, as jax.random.key"):
        image_frequencies(responses, IMAGES, key=3)
    with pytest.raises(InputError, match="or changes whose squares do not fit float32"):
        image_gradient_frequencies(lambda x: jnp.sum(x**2, (1, 2, 3)), 1e20 * IMAGES)
    with pytest.raises(InputError, match="a function that changes with its images"):
        image_gradient_frequencies(lambda x: jnp.ones(len(x)), IMAGES)
    with pytest.raises(InputError, match="bands that each hold a frequency of 6 x 8 pixels; got an empty one of 60"):
        image_frequencies(responses, IMAGES, num_bands=60)
    vector = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, num_outputs=2), outputs="all"), IMAGES[:3])
    with pytest.raises(InputError, match="scalar modes; got vector-valued modes"):
        image_frequencies(vector, IMAGES)

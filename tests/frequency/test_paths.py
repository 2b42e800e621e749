"""Interpolation spectra, and labels with a frequency."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import (
    directional_wave,
    interpolation_path,
    interpolation_spectrum,
    radial_wave,
    smoothed_labels,
)
from ntkbias.frequency.paths import _path_power

X = jnp.array([[0.0, 0.0], [40.0, 0.0], [0.0, 9.0], [40.0, 9.0], [3.0, 3.0]])
LABELS = jnp.array([0, 0, 1, 1, 2])


def oscillating(frequency):
    def predict(x):
        return jnp.stack([jnp.cos(2 * jnp.pi * frequency * x[:, 0]), jnp.zeros(len(x)), 0.1 * x[:, 1]], 1)

    return predict


def test_a_path_has_both_ends_and_its_spacing():
    """The public code has this bug: its path loses the last sample."""
    path = interpolation_path(X[0], X[4])  # of length 4.24
    assert path.shape == (5, 2)
    assert path[0].tolist() == X[0].tolist()
    assert path[-1].tolist() == X[4].tolist()
    np.testing.assert_allclose(np.diff(path, axis=0), 0.75 * np.ones((4, 2)), rtol=1e-6)
    assert interpolation_path(X[0], 1e-3 * X[1]).shape == (2, 2)  # closer than the spacing: only the two ends
    assert interpolation_path(jnp.zeros((3, 3, 1)), jnp.ones((3, 3, 1)), 0.5).shape == (7, 3, 3, 1)


@pytest.mark.parametrize("frequency", [0.05, 0.2, 0.35])
def test_a_wave_along_a_path_has_its_frequency(frequency):
    found = interpolation_spectrum(oscillating(frequency), X[:4], LABELS[:4], num_frequencies=101)
    assert found.within_each.shape == (2, 101)  # all existing pairs
    assert found.between_each.shape == (4, 101)
    assert float(found.frequencies[jnp.argmax(found.within)]) == pytest.approx(frequency, abs=0.01)


def test_power_is_that_of_a_wave_of_amplitude_one():
    """d(s) = (1 - cos) / 2 has amplitude 1/2. The window removes the effect of a path that is not periodic."""

    def softmax(path):
        probability = (1 - np.cos(2 * np.pi * 0.1 * np.asarray(path)[:, 0])) / 2
        return np.stack([probability / 2**0.5, np.zeros(len(path)), 1 - probability / 2**0.5], 1)

    for length in (100.0, 103.0):  # a whole number of waves, and another length
        path = interpolation_path(jnp.zeros(1), jnp.array([length]))
        power = _path_power(softmax, path, np.array([0.1, 0.3]))
        assert power[0] == pytest.approx(1 / 4, rel=0.02)
        assert power[1] < 1e-6  # without a window, the jump at the end would give 1e-3


def test_the_softmax_is_over_classes():
    """The public code has this bug: with a softmax over examples, a constant network varies along a path."""

    def predict(x):  # the outputs of examples differ by a shift of all classes
        return x[:, :1] + jnp.array([0.0, 1.0, 2.0])

    found = interpolation_spectrum(predict, X, LABELS, num_frequencies=5)
    np.testing.assert_allclose(found.between, 0, atol=1e-12)


def test_spectra_are_saved_and_drawn_again_alike(tmp_path):
    first = interpolation_spectrum(oscillating(0.1), X, LABELS, num_pairs=3, key=jax.random.key(5))
    again = interpolation_spectrum(oscillating(0.1), X, LABELS, num_pairs=3, key=jax.random.key(5))
    np.testing.assert_array_equal(first.between_each, again.between_each)
    assert first.between_each.shape == (3, 64)
    nb.save(tmp_path / "spectrum", first)
    np.testing.assert_array_equal(nb.load(tmp_path / "spectrum").within, first.within)
    within, between = first.mean_frequency
    lines = str(first).splitlines()
    assert lines[1].split() == ["frequency", "within", "classes", "between", "classes"]
    assert len(lines) == 2 + 12 + 1
    assert lines[-1].endswith(f"{between:#.3g} between classes; 2 paths within, 3 between")
    assert 0 < within < 0.5
    assert 0 < between < 0.5


def test_waves_are_their_formula():
    x = jax.random.normal(jax.random.key(0), (6, 2, 3))
    flat = np.asarray(x).reshape(6, 6)
    radius = np.linalg.norm(flat, axis=1)
    np.testing.assert_allclose(radial_wave(x, 2.0, 0.3), 1 + np.sin(4 * np.pi * (radius - 0.3)), atol=1e-4)
    direction = jnp.arange(6.0).reshape(2, 3)
    along = flat @ np.arange(6.0) / np.sqrt(55)
    np.testing.assert_allclose(directional_wave(x, 0.5, direction), 1 + np.sin(np.pi * along), atol=1e-5)


def test_smoothed_labels_are_probabilities():
    wave = jnp.array([0.0, 1.0, 2.0])
    labels = smoothed_labels(jnp.array([1, 0, 3]), wave, 0.5, 4)
    np.testing.assert_allclose(labels[0], [0, 1, 0, 0])
    np.testing.assert_allclose(labels[1], [0.625, 0.125, 0.125, 0.125])
    np.testing.assert_allclose(labels[2], 0.25)


def test_bad_input_is_named(unchecked):
    network = oscillating(0.1)
    with pytest.raises(InputError, match="two different examples; got the same one twice"):
        interpolation_path(X[0], X[0])
    with pytest.raises(InputError, match=r"two examples of one shape; got \(2,\) and \(1,\)"):
        interpolation_path(X[0], X[0, :1])
    with pytest.raises(InputError, match="a spacing above zero; got 0"):
        interpolation_path(X[0], X[1], 0)
    with pytest.raises(InputError, match="a path of at most 134,217,728 samples; got 4"):
        interpolation_path(X[0], X[1], 1e-10)
    with pytest.raises(InputError, match=r"a path of at most .* samples; got .* and a spacing of 1e-12"):
        interpolation_spectrum(network, X, LABELS, spacing=1e-12)
    with pytest.raises(InputTypeError, match="a key of jax.random, as jax.random.key\\(1\\); got int"):
        interpolation_spectrum(network, X, LABELS, key=1)
    with pytest.raises(InputError, match=r"finite logits from predict\(x\); got NaN or infinity on a path"):
        interpolation_spectrum(lambda x: jnp.nan * network(x), X, LABELS)
    with pytest.raises(InputError, match="a whole-number label for each of 5 inputs; got float32"):
        interpolation_spectrum(network, X, jnp.ones(5))
    with pytest.raises(InputError, match="two different examples of one class; got none among 5 inputs of 5 classes"):
        interpolation_spectrum(network, X, jnp.arange(5))
    with pytest.raises(InputError, match="two different examples of two classes; got none"):
        interpolation_spectrum(network, X, jnp.zeros(5, int))
    with pytest.raises(InputError, match=r"logits \(n, classes\) of two classes or more; got \(256,\)"):
        interpolation_spectrum(lambda x: x[:, 0], X, LABELS)
    with pytest.raises(InputError, match="a direction of 2 numbers, like an input, not all zero"):
        directional_wave(X, 1.0, jnp.zeros(2))
    with pytest.raises(InputError, match="frequency to be zero or more; got -1"):
        radial_wave(X, -1.0)
    with pytest.raises(InputTypeError, match=r"whole-number labels \(n,\); got float32"):
        smoothed_labels(jnp.ones(3), jnp.ones(3), 0.1, 3)
    with pytest.raises(InputError, match="labels from 0 to 1; got 0 to 2"):
        smoothed_labels(jnp.arange(3), jnp.ones(3), 0.1, 2)
    with pytest.raises(InputError, match="a wave between 0 and 2, one value for each of 3 labels"):
        smoothed_labels(jnp.arange(3), 3 * jnp.ones(3), 0.1, 3)
    with pytest.raises(InputError, match="an amount from 0 to 0.5, so that no label is negative; got 0.7"):
        smoothed_labels(jnp.arange(3), jnp.ones(3), 0.7, 3)

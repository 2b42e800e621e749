"""Power spectra of signals along a line."""

import jax.numpy as jnp
import numpy as np
import pytest

from ntkbias.domains import Circle
from ntkbias.errors import InputError
from ntkbias.frequency import autocorrelation, derivative_along, power_spectrum, smoothed_labels, wave_correlation
from ntkbias.scaling import power_law

RNG = np.random.default_rng(0)


def test_a_wave_has_its_power_at_its_frequency():
    position = 0.01 * np.arange(200)
    frequencies, power = power_spectrum(3 * np.cos(2 * np.pi * 10 * position + 0.4) + 5, spacing=0.01)
    assert frequencies[power.argmax()] == pytest.approx(10)
    assert power.max() == pytest.approx(9, rel=1e-5)
    assert power[np.abs(frequencies - 10) > 1].max() < 1e-9  # but for its two neighbors


def test_noise_has_the_color_of_its_name():
    white = RNG.normal(size=(400, 256))
    frequencies, power = power_spectrum(np.stack([white, np.cumsum(white, 1)]))
    exponents = [power_law(frequencies[2:32], each.mean(0)[2:32]).exponent for each in power]
    np.testing.assert_allclose(exponents, [0, -2], atol=0.1)


def test_a_line_and_its_reverse_have_the_same_spectrum():
    signal = RNG.normal(size=50)
    np.testing.assert_allclose(power_spectrum(signal).power, power_spectrum(signal[::-1]).power, atol=1e-12)


def test_autocorrelations_of_known_processes():
    """White noise has none, a walk has much, and the periodic one is the transform of the power (Wiener-Khinchin)."""
    white = RNG.normal(size=(3, 200, 64))
    for lag in (0, 5, 63):
        slow = [
            np.mean([row[t] * row[(t + lag) % 64] for row in each for t in range(64)]) / np.mean(each**2)
            for each in white
        ]
        np.testing.assert_allclose(autocorrelation(white, lag, periodic=True), slow)
        power = np.abs(np.fft.fft(white)) ** 2
        other = np.fft.ifft(power.sum(1)).real[:, lag] / power.sum((1, 2)) * 64
        np.testing.assert_allclose(autocorrelation(white, lag, periodic=True), other, atol=1e-12)
    assert np.abs(autocorrelation(white, 5)).max() < 4 / (200 * 59) ** 0.5
    walk = np.cumsum(white[0], 1)
    assert autocorrelation(walk, 1) > 0.9


def test_the_derivative_along_a_curve_is_a_difference_quotient():
    s = np.linspace(0, 6, 7).astype(np.float32)
    f = lambda w, x: jnp.sin(3 * x) @ w  # noqa: E731
    w = RNG.normal(size=(2, 4)).astype(np.float32)
    found = derivative_along(f, w, Circle().point, s)
    ends = [f(w, Circle().point(jnp.asarray(s) + h)) for h in (0.01, -0.01)]
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / 0.02, atol=2e-3)


def test_the_confidence_of_smoothed_labels_follows_their_wave():
    wave, labels = RNG.uniform(0, 2, size=50), RNG.integers(0, 3, size=50)
    targets = np.asarray(smoothed_labels(labels, wave, 0.4, 3))
    assert wave_correlation(np.log(targets), labels, wave) == pytest.approx(1, abs=1e-6)
    outputs = RNG.normal(size=(50, 3))
    confidence = (np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True))[np.arange(50), labels]
    assert wave_correlation(outputs, labels, wave) == pytest.approx(np.corrcoef(confidence, -wave)[0, 1], abs=1e-6)
    assert np.isnan(wave_correlation(np.zeros((50, 3)), labels, np.ones(50)))


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    for wrong, message in (
        (lambda: power_spectrum(np.ones(3)), r"Expected a signal \(..., n\) of four samples or more; got shape \(3,\)"),
        (lambda: power_spectrum(np.array([1.0, np.nan, 0, 0])), "signal"),
        (lambda: power_spectrum(np.ones(9), spacing=0.0), "Expected a spacing above zero; got 0.0"),
        (
            lambda: autocorrelation(np.ones(4), 4),
            "Expected lag to be a whole number of samples from 0 to below 4; got 4",
        ),
        (lambda: autocorrelation(np.zeros(4), 1), "Expected signals that are not zero everywhere"),
        (lambda: derivative_along(len, 0, Circle().point, np.ones((2, 2))), r"Expected positions \(n,\) as real"),
        (lambda: derivative_along(len, 0, 3, np.ones(2)), "Expected curve to be a function of positions"),
        (lambda: wave_correlation(np.ones((2, 3)), [0, 3], np.ones(2)), "Expected labels from 0 to 2; got 0 to 3"),
        (lambda: wave_correlation(np.ones(3), [0, 3], np.ones(2)), r"Expected outputs \(n, c\), labels \(n,\) and"),
    ):
        with pytest.raises(InputError, match=message):
            wrong()

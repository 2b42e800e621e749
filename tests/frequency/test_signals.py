"""Power spectra of signals along a line."""

import numpy as np
import pytest

from ntkbias.errors import InputError
from ntkbias.frequency import power_spectrum
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


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    for wrong, message in (
        (lambda: power_spectrum(np.ones(3)), r"Expected a signal \(..., n\) of four samples or more; got shape \(3,\)"),
        (lambda: power_spectrum(np.array([1.0, np.nan, 0, 0])), "signal"),
        (lambda: power_spectrum(np.ones(9), spacing=0.0), "Expected a spacing above zero; got 0.0"),
    ):
        with pytest.raises(InputError, match=message):
            wrong()

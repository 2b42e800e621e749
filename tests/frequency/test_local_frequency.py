"""The local frequency of functions on a curve: that of waves, and messages."""

import numpy as np
import pytest

from ntkbias.errors import InputError
from ntkbias.frequency import local_frequency

S = np.linspace(0, 2 * np.pi, 4_001)
EDGES = np.linspace(0, 2 * np.pi, 5)


def test_a_wave_has_its_frequency_in_each_place():
    """To one sign change per stretch, pi / length; a chirp sin(s^2) turns at 2 s, the mean over a stretch."""
    waves = np.stack([np.sin(degree * S + 0.3) for degree in (8, 20)], 1)
    np.testing.assert_allclose(local_frequency(waves, S, EDGES), np.broadcast_to([8, 20], (4, 2)), atol=2)
    chirp = local_frequency(np.sin(5 * S**2), S, EDGES)
    np.testing.assert_allclose(chirp, 5 * (EDGES[1:] + EDGES[:-1]), atol=2)


def test_it_is_the_inverse_of_a_length_and_leaves_out_zeros():
    wave = np.sin(8 * S + 0.3)
    np.testing.assert_allclose(local_frequency(wave, 2 * S, 2 * EDGES), local_frequency(wave, S, EDGES) / 2)
    with_zeros = np.array([1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 0.0, 2.0])
    assert local_frequency(with_zeros, np.arange(8.0), [0, 3.5, 8]).tolist() == pytest.approx(
        [np.pi / 3.5, np.pi / 4.5]
    )
    assert local_frequency(np.zeros(8), np.arange(8.0), [0, 8]).tolist() == [0.0]


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    wave = np.sin(S)
    for wrong, message in (
        (
            lambda: local_frequency(wave[:-1], S, EDGES),
            "at positions (n,), two or more; got shapes (4000,) and (4001,)",
        ),
        (lambda: local_frequency(wave, S[::-1], EDGES), "Expected positions (n,) that ascend, two or more"),
        (lambda: local_frequency(wave, S, [1.0]), "Expected edges (n,) that ascend, two or more; got shape (1,)"),
        (
            lambda: local_frequency(wave * np.nan, S, EDGES),
            "Expected functions with finite values; got NaN or infinity",
        ),
        (lambda: local_frequency("wave", S, EDGES), "Expected values, positions and edges to be"),
    ):
        with pytest.raises(InputError) as error:
            wrong()
        assert message in str(error.value)

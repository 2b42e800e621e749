"""Agreement of networks on which examples they classify right."""

import itertools

import numpy as np
import pytest

from ntkbias.complexity import agreement
from ntkbias.errors import InputError

RNG = np.random.default_rng(0)


def test_is_the_mean_over_pairs():
    correct = RNG.random((5, 40)) < RNG.random(40)
    found, rates = agreement(correct), correct.mean(1)
    pairs = list(itertools.combinations(range(5), 2))
    assert found.observed == pytest.approx(np.mean([(correct[i] == correct[j]).mean() for i, j in pairs]))
    chance = [rates[i] * rates[j] + (1 - rates[i]) * (1 - rates[j]) for i, j in pairs]
    assert found.independent == pytest.approx(np.mean(chance))
    np.testing.assert_allclose(found.shares, correct.mean(0), rtol=1e-6)


def test_independent_networks_agree_by_chance_and_equal_ones_always():
    independent = RNG.random((4, 20_000)) < np.array([0.3, 0.5, 0.7, 0.9])[:, None]
    assert agreement(independent).beyond_chance == pytest.approx(0, abs=0.015)  # four standard errors: 4 / sqrt(6 n)
    assert agreement(np.tile(independent[:1], (3, 1))).beyond_chance == pytest.approx(1)
    assert np.isnan(agreement(np.ones((2, 5))).beyond_chance)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    for wrong, message in (
        (np.ones((1, 5)), r"Expected correct \(networks, examples\) of two networks or more; got shape \(1, 5\)"),
        (np.ones(5), r"got shape \(5,\)"),
        (np.full((2, 5), 0.5), "Expected correct to hold truth values, or zeros and ones; got other numbers"),
    ):
        with pytest.raises(InputError, match=message):
            agreement(wrong)

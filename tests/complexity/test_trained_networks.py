"""Claims of the papers about trained networks, on digits and synthetic data, over several seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_training import at, train

import ntkbias as nb
from ntkbias.complexity import path_complexity
from ntkbias.losses import mse

pytestmark = pytest.mark.slow

DIGITS, LABELS = (each[:100] for each in nb.datasets.digits())
DIGITS = jnp.asarray(DIGITS.reshape(100, -1))
SEEDS = range(3)
STUDIES = {  # and the claims that do not hold
    "geometric_complexity": set(),
    "low_rank": set(),
    "minimal_depth": set(),
    "simplicity_pitfalls": set(),
    "sgd_diffusion": set(),
    "increasing_complexity": set(),
    "information_plane": {"relu loss"},  # one network of three forgets 0.28 bits
}


@pytest.mark.parametrize("name", STUDIES)
def test_claims_of_a_paper_hold_at_small_scale(name):
    result = nb.studies.run_study(name)
    assert {claim.quantity for claim in result.claims if claim.holds != "yes"} == STUDIES[name], result


def test_path_complexity_grows_with_the_fraction_of_random_labels():
    """Baratin et al. 2020: 100 digits, odd against even, with gradient descent for a fixed time."""
    found = np.zeros((3, 4))
    for seed in SEEDS:
        for place, noise in enumerate((0.0, 0.25, 0.5, 1.0)):
            rng = np.random.default_rng(seed)
            x, y = DIGITS, np.where(LABELS % 2, 1.0, -1.0)
            flipped = rng.random(100) < noise
            y[flipped] = rng.choice([-1.0, 1.0], flipped.sum())
            net = nb.nets.mlp(width=64, depth=2)
            start = net.init(jax.random.key(seed), (64,))
            path = train(net.apply, start, x, y, mse, optax.sgd(0.1), 2_000, key=jax.random.key(seed), keep=50)
            found[seed, place] = path_complexity(net.apply, [at(path, i) for i in range(41)], x)[-1]
    assert np.all(np.diff(found.mean(0)) > 0)
    assert np.all(found[:, 1:] > found[:, :1])

"""One small run, and the fixtures that the tests of tracking share."""

import jax
import jax.numpy as jnp
import optax
import pytest

import ntkbias as nb
from ntkbias.tracking import Probe, measures, track

CIRCLE = nb.domains.Circle()


@pytest.fixture(scope="session")
def network():
    net = nb.nets.mlp(width=24, depth=1, b_std=0.2)
    return net.apply, net.init(jax.random.key(0), (2,))


@pytest.fixture(scope="session")
def data():
    x, _ = CIRCLE.quadrature(16)
    return x, jnp.sign(x[:, 0] + 0.1)


@pytest.fixture(scope="session")
def run_options(data):
    x, y = data
    watched = {"cos": x[:, 0], "cos 3": jnp.cos(3 * CIRCLE.angle(x))}
    return {
        "optimizer": optax.sgd(0.1),
        "num_steps": 40,
        "at": [0, 1, 5, 20, 40],
        "probe": Probe(test=(-x, -y), watched=watched, domain=CIRCLE, num_modes=6),
    }


@pytest.fixture(scope="session")
def history(network, data, run_options):
    """The history of one run with all measures."""
    return track(*network, data, **run_options, measures=measures.ALL)

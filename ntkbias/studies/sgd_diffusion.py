"""Stochastic gradient descent keeps moving after the loss has converged, by a power law in time.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("sgd_diffusion").claims]
['brownian', 'local brownian', 'confined', 'local confined', 'accuracy', 'network', 'anomalous']
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Two walks with a known law; and a network on digits, whose path after convergence is measured."""

    num_walked: int = 4_000
    num_parameters: int = 200
    pull: float = 0.2
    lags: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    long_lag: int = 32
    num_examples: int = 300
    width: int = 32
    depth: int = 2
    learning_rate: float = 1.0
    decay: float = 1e-4
    batch_size: int = 20
    num_steps: int = 8_000
    every: int = 8


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=settings.depth, num_outputs=10)


def walk(settings: Settings, pull: float, key: Any) -> Array:
    """The path of x <- (1 - pull) x + noise: Brownian motion without a pull, else from its stationary law."""
    noise = jax.random.normal(key, (settings.num_walked, settings.num_parameters))
    start = noise[0] / (1 - (1 - pull) ** 2) ** 0.5 if pull else noise[0]

    def step(x: Array, force: Array) -> tuple[Array, Array]:
        return ((1 - pull) * x + force,) * 2

    return jnp.concatenate([start[None], jax.lax.scan(step, start, noise[1:])[1]])


def run(settings: Settings, key: Any) -> Findings:
    """Global and local displacement exponents of both walks, and of a network from the middle of training on."""
    keys, lags = jax.random.split(key, 3), np.array(settings.lags)
    brownian, confined = walk(settings, 0.0, keys[0]), walk(settings, settings.pull, keys[1])
    local = [np.asarray(nb.complexity.local_displacement_exponents(path, lags)) for path in (brownian, confined)]
    long = lags[:-1] >= settings.long_lag
    data: Any = nb.datasets.digits(settings.num_examples)
    x = jnp.asarray(data.x)
    net = network(settings)
    at = range(0, settings.num_steps + 1, settings.every)
    steps = nb.train(
        net.apply,
        net.init(keys[2], x.shape[1:]),
        (x, data.y),
        optimizer=optax.chain(optax.add_decayed_weights(settings.decay), optax.sgd(settings.learning_rate)),
        loss="cross_entropy",
        num_steps=at[-1],
        at=at,
        batch_size=settings.batch_size,
        key=keys[2],
    )
    path = [params for step, params in steps if step >= settings.num_steps // 2]
    exponent = nb.complexity.displacement_exponent(path)
    near = lags[lags < len(path) // 2]
    return {
        "brownian": nb.complexity.displacement_exponent(brownian),
        "local brownian": float(np.abs(local[0] - 1).max()),
        "confined": nb.complexity.displacement_exponent(confined, first=100),
        "local confined": float(np.abs(local[1][long]).max()),
        "accuracy": nb.training.accuracy(net.apply(path[0], x), data.y),
        "network": exponent,
        "anomalous": exponent,
        "lags": near,
        "squares": {
            "Brownian motion": np.asarray(nb.complexity.mean_squared_displacement(brownian, near)),
            "confined walk": np.asarray(nb.complexity.mean_squared_displacement(confined, near)),
            "network": np.asarray(nb.complexity.mean_squared_displacement(path, near)),
        },
    }


def draw(found: Findings, ax: Axes) -> None:
    """The mean squared displacement against the lag, relative to the shortest one."""
    for name, squares in found["squares"].items():
        ax.loglog(found["lags"], squares / squares[0], "o-", ms=3, label=name)
    ax.set_xlabel("lag (states of the path)")
    ax.set_ylabel("mean squared displacement, relative to lag 1")
    ax.legend()


STUDY = Study(
    name="sgd_diffusion",
    papers=(
        Paper(
            "Kunin et al.",
            2021,
            "The Limiting Dynamics of SGD: Modified Loss, Phase Space Oscillations, and Anomalous Diffusion",
            "2107.09133",
        ),
    ),
    idea="After the loss of a network has converged, stochastic gradient descent goes on moving its parameters. The "
    "squared distance from any point of the path grows as a power of time. The exponent tells free diffusion, 1, from "
    "drift, up to 2, and from a walk that a basin confines, 0 at long lags.",
    scales={
        "smoke": Settings(num_steps=2_000),
        "small": Settings(),
        "paper": Settings(num_examples=1_797, width=256, depth=3, num_steps=100_000, every=100),
    },
    run=run,
    claims=(
        Claim(
            "Brownian motion has the global exponent 1.",
            "brownian",
            Bound.about(1, 0.1),
            "one run in 200 dimensions scatters by 0.05",
        ),
        Claim("Its local exponents are 1 at all lags.", "local brownian", Bound(high=0.1), "largest deviation", "each"),
        Claim(
            "An Ornstein-Uhlenbeck walk has the global exponent 0 at long lags,",
            "confined",
            Bound.about(0, 0.1),
            "from step 100 on",
        ),
        Claim(
            "and local exponents 0.",
            "local confined",
            Bound(high=0.02),
            "largest deviation at lags of 32 or more, over 4,000 steps",
            "each",
        ),
        Claim("The network has converged: it fits its training labels,", "accuracy", Bound(low=1.0), "", "each"),
        Claim(
            "and it keeps moving away from where it was: no basin confines it.",
            "network",
            Bound(low=0.5),
            "global exponent in the second half of training; our bound is midway between a confined walk, 0, and "
            "diffusion, 1",
            "each",
        ),
        Claim(
            "It moves as an anomalous diffusion, and not along a straight line.",
            "anomalous",
            Bound(0.5, 1.5),
            "the same exponent; our bounds are midway between a confined walk, 0, diffusion, 1, and a straight line, "
            "2. The paper's exponents belong to its networks",
            "each",
        ),
    ),
    figures={"displacement": Figure("Mean squared displacement of two known walks and of a network.", draw)},
    num_seeds=3,
)

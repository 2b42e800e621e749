"""Noise that multiplies the weights gives stochastic gradient descent heavy tails.

>>> from ntkbias.studies import study_of
>>> study_of("heavy_tails").claims[0].bound.high
0.3
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
    """Linear regression with one weight in batches of one example: learning rates, chains, and steps."""

    learning_rates: tuple[float, ...] = (0.6, 0.75, 0.9, 1.05)
    num_chains: int = 20_000
    num_steps: int = 300
    num_multipliers: int = 400_000
    tail: float = 0.01


def network(weights: Array, x: Array) -> Array:
    """The model: in each chain, one weight times one feature. The outputs of an input `(chains,)` are one per chain."""
    return weights * x


def run(settings: Settings, key: Any) -> Findings:
    """The tail index of the iterates beside the root of Kesten's equation, by learning rate."""
    keys = jax.random.split(key, 4)
    shape = settings.num_steps, settings.num_chains  # in one epoch, each step has an example of its own
    x, noise = (jax.random.normal(own, shape) for own in keys[:2])
    features = jax.random.normal(keys[2], (settings.num_multipliers,))
    measured, predicted = [], []
    for rate in settings.learning_rates:
        end = nb.training.trained(
            network,
            jnp.zeros(settings.num_chains),
            (x, noise),
            optimizer=optax.sgd(rate),
            num_steps=settings.num_steps,
            batch_size=1,
            key=keys[3],
        )
        measured.append(nb.complexity.hill_tail_index(end, tail=settings.tail).value)
        predicted.append(nb.complexity.kesten_tail_index(1 - rate * features**2).value)
    found = np.array([measured, predicted])
    at = int(np.argmin(np.abs(np.array(settings.learning_rates) - 0.9)))
    return {
        "rates": np.array(settings.learning_rates),
        "measured": found[0],
        "predicted": found[1],
        "difference": float(abs(found[0, at] - found[1, at])),
        "change": float(np.diff(found[0]).max()),
    }


def draw(found: Findings, ax: Axes) -> None:
    """Measured and predicted tail indices against the learning rate."""
    ax.plot(found["rates"], found["predicted"], "-", label="Kesten's root")
    ax.plot(found["rates"], found["measured"], "o", label="iterates (Hill)")
    ax.set_xlabel("learning rate")
    ax.set_ylabel("tail index")
    ax.legend()


STUDY = Study(
    name="heavy_tails",
    papers=(
        Paper(
            "Hodgkinson and Mahoney",
            2020,
            "Multiplicative Noise and Heavy Tails in Stochastic Optimization",
            "2006.06293",
        ),
    ),
    idea="A minibatch multiplies the current weights by a random factor and adds a random term. Iterates of such a "
    "process have a power-law tail, even if no noise has one. The larger the learning rate, the heavier the tail, and "
    "the farther the weights explore.",
    scales={
        "smoke": Settings(learning_rates=(0.75, 0.9), num_steps=150),
        "small": Settings(),
        "paper": Settings(num_chains=200_000, num_steps=2_000),
    },
    run=run,
    claims=(
        Claim(
            "The tail of the iterates has the index that Kesten's theorem gives.",
            "difference",
            Bound(high=0.3),
            "absolute difference at the learning rate nearest to 0.9; 200 iterates in the tail",
            "each",
        ),
        Claim(
            "A larger learning rate gives a heavier tail.",
            "change",
            Bound(high=0.0),
            "largest change of the index from one rate to the next",
            "each",
        ),
    ),
    figures={"tails": Figure("A smaller index is a heavier tail.", draw)},
    num_seeds=3,
)

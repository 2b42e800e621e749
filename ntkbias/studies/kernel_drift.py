"""The kernel moves fast at first and slowly later.

>>> from ntkbias.studies import study_of
>>> study_of("kernel_drift").claims[0].quantity
'transient'
"""

import dataclasses
from typing import Any

import numpy as np
import optax
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study
from ntkbias.tracking import measures

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Digits, the network and its training, and how often the kernel is looked at: at equal distances."""

    num_examples: int = 500
    num_probe: int = 100
    width: int = 256
    depth: int = 2
    learning_rate: float = 0.5
    batch_size: int = 50
    num_steps: int = 2_000
    num_epochs: int = 3  # between two looks; the paper sees a transient of two to three epochs


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=settings.depth, num_outputs=10)


def run(settings: Settings, key: Any) -> Findings:
    """Train on digits, and follow the kernel's distance from the start and its velocity."""
    data: Any = nb.datasets.digits(settings.num_examples)
    x, y = data
    net, every = network(settings), settings.num_epochs * (settings.num_examples // settings.batch_size)
    at = range(0, settings.num_steps + 1, every)
    history = nb.track(
        net.apply,
        net.init(key, x.shape[1:]),
        (x, y),
        optimizer=optax.sgd(settings.learning_rate),
        loss="cross_entropy",
        num_steps=at[-1],
        at=at,
        batch_size=settings.batch_size,
        probe=(x[: settings.num_probe], y[: settings.num_probe]),
        measures=measures.chosen("loss", "accuracy", "kernel_distance", "kernel_velocity"),
        key=key,
    )
    velocity = np.asarray(history["kernel_velocity"])[1:]  # of each stretch between two looks
    third = len(velocity) // 3
    return {
        "transient": float(velocity[0] / velocity[1:].mean()),
        "later change": float(velocity[-third:].mean() / velocity[-2 * third : -third].mean()),
        "history": history,
    }


def draw(found: Findings, ax: Axes) -> None:
    """The kernel's distance from the start, and its velocity."""
    history = found["history"]
    steps = np.asarray(history.steps)
    ax.plot(steps[1:], np.asarray(history["kernel_distance"])[1:], "o-", ms=3, label="distance from the start")
    ax.plot(steps[1:], np.asarray(history["kernel_velocity"])[1:], "s-", ms=3, label="velocity")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("distance; velocity per unit of time")
    ax.legend()


STUDY = Study(
    name="kernel_drift",
    papers=(
        Paper(
            "Fort et al.",
            2020,
            "Deep Learning Versus Kernel Learning: An Empirical Study of Loss Landscape Geometry "
            "and the Time Evolution of the Neural Tangent Kernel",
            "2010.15110",
        ),
    ),
    idea="Training of a practical network has two phases. In the first two to three epochs its kernel changes fast, "
    "and the network leaves the kernel regime of its initialization. Later the kernel moves slowly, at a constant "
    "velocity, and training looks like regression with the kernel that was found.",
    scales={
        "smoke": Settings(num_examples=200, num_probe=50, num_steps=480),
        "small": Settings(),
        "paper": Settings(num_examples=1_797, num_probe=500, width=1_024, num_steps=20_000),
    },
    run=run,
    claims=(
        Claim(
            "The kernel changes rapidly in the first three epochs.",
            "transient",
            Bound(low=3.0),
            "its velocity there over the mean of all later stretches of three epochs; three times is our bound for "
            '"rapidly", for which the paper gives no number',
        ),
        Claim(
            "After the transient it moves at a constant velocity.",
            "later change",
            Bound(0.5, 2.0),
            "mean velocity in the last third of training over that in the middle third; constant within a factor of "
            "two is our bound",
        ),
    ),
    figures={"drift": Figure("Distance and velocity of the kernel in training.", draw)},
    num_seeds=3,
)

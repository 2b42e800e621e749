"""Networks use the simplest feature alone, even if all features predict the label.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("simplicity_pitfalls").claims]
['plain', 'simple shuffled', 'others shuffled']
"""

import dataclasses
from typing import Any

import optax
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The slab data, the network and its training."""

    num_examples: int = 3_000
    num_coordinates: int = 10
    num_slabs: int = 5
    width: int = 100
    depth: int = 1
    learning_rate: float = 0.5
    num_steps: int = 2_000
    batch_size: int = 128


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=settings.depth, b_std=0.1)


def run(settings: Settings, key: Any) -> Findings:
    """Train on slabs, and measure the AUC after shuffling the simple coordinate, or all others, between examples."""
    both = nb.tasks.slabs(2 * settings.num_examples, settings.num_coordinates, num_slabs=settings.num_slabs, key=key)
    train, test = both.split(settings.num_examples)
    net = network(settings)
    params = nb.training.trained(
        net.apply,
        net.init(key, train.x.shape[1:]),
        train.data,
        optimizer=optax.sgd(settings.learning_rate),
        loss="logistic",
        num_steps=settings.num_steps,
        batch_size=settings.batch_size,
        key=key,
    )
    found = nb.complexity.shuffled_auc(net.apply, params, *test.data, [0], key=key)
    return {
        "plain": float(found.plain),
        "simple shuffled": float(found.shuffled),
        "others shuffled": float(found.others_shuffled),
    }


def draw(found: Findings, ax: Axes) -> None:
    """The AUC on plain and on shuffled data."""
    ax.bar(list(found), [found[name] for name in found])
    ax.axhline(0.5, color="0.5", lw=1, ls=":")
    ax.set_ylabel("AUC on test data")


STUDY = Study(
    name="simplicity_pitfalls",
    papers=(Paper("Shah et al.", 2020, "The Pitfalls of Simplicity Bias in Neural Networks", "2006.07710"),),
    idea="Each coordinate of the slab data predicts the label without error, but only the first does so with a single "
    "threshold. Trained networks use this coordinate alone. So they fail when it becomes uninformative, although nine "
    "others would do.",
    scales={
        "smoke": Settings(num_examples=1_000, num_steps=1_000),
        "small": Settings(),
        "paper": Settings(num_examples=50_000, num_coordinates=50, num_steps=20_000),
    },
    run=run,
    claims=(
        Claim("The network classifies test data.", "plain", Bound(low=0.99)),
        Claim(
            "It is at chance if the simple coordinate is shuffled.",
            "simple shuffled",
            Bound.about(0.5, 0.05),
            "four standard errors of chance at 3,000 examples, 0.036 each",
        ),
        Claim("It does not notice if all other coordinates are shuffled.", "others shuffled", Bound(low=0.99)),
    ),
    figures={"auc": Figure("AUC on plain data, and with the simple or the other coordinates shuffled.", draw)},
    num_seeds=3,
)

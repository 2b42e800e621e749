"""Wider networks that fit their data lie in flatter regions.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("phase_transitions").claims]
['fit', 'order', 'ratio']
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
import scipy.stats
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study
from ntkbias.tracking import measures

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Digits, the widths, the networks of each, their training, and the relative sizes of the noise in the weights."""

    num_examples: int = 500
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    depth: int = 2
    num_networks: int = 5
    learning_rate: float = 1e-2
    num_steps: int = 400
    sizes: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    judged: int = 3  # the size at which widths are compared
    num_draws: int = 20


def network(settings: Settings, width: int) -> nb.layers.Layer:
    """The architecture of a width. Change it here."""
    return nb.nets.mlp(width=width, depth=settings.depth, num_outputs=10, b_std=0.1)


def run(settings: Settings, key: Any) -> Findings:
    """Train networks of each width to the end, and measure the error under noise."""
    data: Any = nb.datasets.digits(settings.num_examples)
    x, y = data
    energies, errors = [], []
    for width in settings.widths:
        net = network(settings, width)
        history = nb.track_many(
            net.apply,
            jax.vmap(lambda own, net=net: net.init(own, x.shape[1:]))(jax.random.split(key, settings.num_networks)),
            (x, y),
            optimizer=optax.adam(settings.learning_rate),
            loss="cross_entropy",
            num_steps=settings.num_steps,
            at=[0],
            measures=measures.chosen("train_accuracy"),
        )
        errors.append(1 - np.asarray(history["train_accuracy"])[:, -1])
        each = [jax.tree.map(lambda leaf, run=run: leaf[run], history.params) for run in range(settings.num_networks)]
        options: dict[str, Any] = {"num_draws": settings.num_draws, "key": key}
        energies.append([nb.complexity.local_energy(net.apply, one, x, y, settings.sizes, **options) for one in each])
    rises = np.array(energies, float)  # (widths, networks, sizes)
    judged = rises[:, :, settings.judged]
    return {
        "widths": np.array(settings.widths),
        "sizes": np.array(settings.sizes),
        "energies": rises.mean(1),
        "fit": np.concatenate(errors),
        "order": np.array([scipy.stats.spearmanr(settings.widths, row).statistic for row in judged.T]),
        "ratio": judged[-1] / judged[0],
    }


def draw(found: Findings, ax: Axes) -> None:
    """The rise of the training error against the size of the noise."""
    for width, row in zip(found["widths"], found["energies"], strict=True):
        ax.plot(found["sizes"], row, "o-", ms=4, label=f"width {width}")
    ax.set_xlabel("relative size of the noise in the weights")
    ax.set_ylabel("rise of the training error")
    ax.legend()


STUDY = Study(
    name="phase_transitions",
    papers=(
        Paper(
            "Baldassi et al.",
            2021,
            'Learning through atypical "phase transitions" in overparameterized neural networks',
            "2110.00683",
        ),
    ),
    idea="As a network grows, solutions first appear that fit the data but are sharp, and later also wide flat regions "
    "of them. Training finds the flat ones, although they are rare. So among networks that fit their data equally "
    "well, the wider ones lose less when their weights are perturbed.",
    scales={
        "smoke": Settings(num_examples=100, widths=(16, 256), num_networks=2, num_steps=150, num_draws=3),
        "small": Settings(),
        "paper": Settings(
            num_examples=1_797, widths=(16, 32, 64, 128, 256, 512, 1_024), num_networks=10, num_steps=2_000
        ),
    },
    run=run,
    claims=(
        Claim("All networks fit the training set.", "fit", Bound(high=0.0), "share of training errors", "each"),
        Claim(
            "The wider the network, the less its error rises under noise of half of each weight.",
            "order",
            Bound(high=-0.9),
            "rank correlation of width and rise, per network",
        ),
        Claim(
            "The widest networks lose less than half of what the narrowest lose.",
            "ratio",
            Bound(high=0.5),
            "the paper gives no number",
        ),
    ),
    figures={"energy": Figure("Training error under multiplicative noise in the weights.", draw)},
)

"""The kernel of a trained network turns toward the task, and its rank falls.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("feature_alignment").claims]
['aligned', 'median growth', 'trace', 'dip', 'share of dips', 'uncentered rank', 'centered rank']
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.pytorch import pytorch_mlp
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study
from ntkbias.tracking import measures

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Points of the disk task, the networks, and their training by full-batch gradient descent."""

    num_points: int = 100
    width: int = 60
    depth: int = 3
    num_networks: int = 8
    learning_rate: float = 0.05
    num_steps: int = 3_000
    growth: float = 1.15  # of the distance between snapshots


def network(settings: Settings) -> Any:
    """The architecture: its init(key) and f(params, x). Change it here."""
    return pytorch_mlp(2, *[settings.width] * settings.depth, 1)


def run(settings: Settings, key: Any) -> Findings:
    """Train networks together, and follow the kernel on test points: alignment, trace and effective ranks."""
    keys = jax.random.split(key, settings.num_networks + 2)
    init, f = network(settings)
    last, at = settings.num_steps, {0}
    for i in range(200):
        at.add(min(int(5 * settings.growth**i), last))
    history = nb.track_many(
        f,
        jax.vmap(init)(keys[2:]),
        nb.tasks.disk(settings.num_points, key=keys[0]).data,
        optimizer=optax.sgd(settings.learning_rate),
        loss="logistic",
        num_steps=last,
        at=sorted(at),
        probe=nb.tasks.disk(settings.num_points, key=keys[1]).data,
        measures=measures.chosen("accuracy", "alignment", "trace", "effective_rank", "centered_effective_rank"),
    )
    aligned, ranks = np.asarray(history["alignment"]), np.asarray(history["centered_effective_rank"])
    change = {
        name: np.asarray(history[name])[:, -1] / np.asarray(history[name])[:, 0]
        for name in ("trace", "effective_rank", "centered_effective_rank")
    }
    steps = np.asarray(history.steps)
    passed = nb.scaling.first_passage(steps, np.asarray(history["accuracy"]).T, 0.9)
    before = ~(steps > passed[:, None])  # all of training, if the accuracy stays below
    dips = 1 - np.where(before, ranks, np.inf).min(1) / ranks[:, 0]
    growth = aligned[:, -1] / aligned[:, 0]
    return {
        "aligned": growth,
        "median growth": float(np.median(growth)),
        "trace": change["trace"],
        "dip": float(np.median(dips)),
        "share of dips": float(np.mean(dips >= 0.1)),
        "uncentered rank": change["effective_rank"],
        "centered rank": change["centered_effective_rank"],
        "steps": steps,
        "alignment": aligned,
        "ranks": ranks,
    }


def draw(found: Findings, ax: Axes) -> None:
    """The alignment with the labels and the centered rank of each network, relative to their starts."""
    for row in found["alignment"]:
        ax.plot(found["steps"] + 1, row / row[0], color=nb.plots.color(0), alpha=0.7)
    for row in found["ranks"]:
        ax.plot(found["steps"] + 1, row / row[0], color=nb.plots.color(1), alpha=0.7)
    ax.plot([], [], color=nb.plots.color(0), label="alignment with the labels")
    ax.plot([], [], color=nb.plots.color(1), label="effective rank, centered")
    ax.set_xscale("log")
    ax.set_xlabel("step + 1")
    ax.set_ylabel("relative to the start")
    ax.legend()


STUDY = Study(
    name="feature_alignment",
    papers=(Paper("Baratin et al.", 2020, "Implicit Regularization via Neural Feature Alignment", "2008.00938"),),
    idea="While a network trains, its tangent features stretch along the directions that the task needs. The kernel "
    "aligns with the labels and its effective rank falls, so that fewer functions remain easy to learn. This acts as a "
    "regularizer that no one asked for.",
    scales={
        "smoke": Settings(num_networks=3, num_steps=1_500, growth=1.4),
        "small": Settings(),
        "paper": Settings(num_networks=32),
    },
    run=run,
    claims=(
        Claim(
            "The kernel on test points aligns with the labels, in every network.",
            "aligned",
            Bound(low=1.0),
            "centered alignment, at the end over the start",
            "each",
        ),
        Claim("The alignment grows by half or more in the median network.", "median growth", Bound(low=1.5)),
        Claim("The kernel's trace grows 500-fold or more.", "trace", Bound(low=500), "", "each"),
        Claim(
            "The centered rank dips before the training accuracy passes 0.9.",
            "dip",
            Bound(low=0.15),
            "relative fall in the median network",
        ),
        Claim("It dips by a tenth or more in nine networks of ten.", "share of dips", Bound(low=0.9)),
        Claim("The uncentered rank grows,", "uncentered rank", Bound(low=2.0), "at the end over the start", "each"),
        Claim(
            "while the centered one does not: the two disagree.",
            "centered rank",
            Bound(high=1.3),
            "at the end over the start",
            "each",
        ),
    ),
    figures={"alignment": Figure("Each line is a network.", draw)},
    num_seeds=3,
)

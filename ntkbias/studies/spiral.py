"""A prior in the features, or ten times the data: two arms of a spiral, sampled unevenly.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("spiral").claims]
['prior', 'scale', 'ten times', 'far']
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The spiral, the numbers of training points, the network and its training, and the neighbors that vote."""

    sizes: tuple[int, ...] = (1_000, 10_000)
    num_test: int = 4_000
    turns: float = 2.0
    unevenness: float = 5.0
    scatter: float = 0.02
    far: float = 0.1  # the share of test points that are farthest from the training points
    width: int = 64
    depth: int = 3
    learning_rate: float = 1e-2
    batch_size: int = 128
    num_steps: int = 3_000
    num_neighbors: int = 5


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture. Change it here."""
    return nb.nets.mlp(settings.width, settings.depth, b_std=0.1)


def run(settings: Settings, key: Any) -> Findings:
    """The accuracy on evenly sampled arms, of a network on three kinds of features and of nearest neighbors."""
    from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

    keys = jax.random.split(key, 3)
    shape: dict[str, Any] = {"turns": settings.turns, "scatter": settings.scatter}
    test = nb.tasks.spiral(settings.num_test, **shape, key=keys[0])
    everything: Any = nb.tasks.spiral(max(settings.sizes), unevenness=settings.unevenness, **shape, key=keys[1])
    features: dict[str, Any] = {"xy": lambda x: x, "polar": nb.tasks.polar, "spiral": everything.truth.unrolled}
    net = network(settings)
    start = net.init(keys[2], (2,))
    found: dict[str, Any] = {"sizes": np.array(settings.sizes)}
    for n in settings.sizes:
        x, y = (each[:n] for each in everything.data)
        distances = NearestNeighbors(n_neighbors=1).fit(x).kneighbors(test.x)[0][:, 0]
        far = distances >= np.quantile(distances, 1 - settings.far)
        guesses = {"neighbors": KNeighborsClassifier(settings.num_neighbors).fit(x, y).predict(test.x)}
        for name, of in features.items():
            params = nb.training.trained(
                net.apply,
                start,
                (of(x), y),
                optimizer=optax.adam(optax.cosine_decay_schedule(settings.learning_rate, settings.num_steps)),
                loss="logistic",
                num_steps=settings.num_steps,
                batch_size=settings.batch_size,
                key=keys[2],
            )
            guesses[name] = np.sign(np.asarray(net.apply(params, of(test.x)))[:, 0])
        right = {name: guess == np.asarray(test.y) for name, guess in guesses.items()}
        found[str(n)] = {name: (float(each.mean()), float(each[far].mean())) for name, each in right.items()}
    few, many = found[str(min(settings.sizes))], found[str(max(settings.sizes))]
    return found | {
        "prior": few["polar"][0] - few["xy"][0],
        "scale": many["xy"][0] - many["polar"][0],
        "ten times": many["xy"][0] - few["polar"][0],
        "far": few["spiral"][1] - few["neighbors"][1],
    }


def draw(found: Findings, ax: Axes) -> None:
    """The accuracy of each method by the number of training points; dashed far from them."""
    sizes = found["sizes"]
    for place, name in enumerate(found[str(sizes[0])]):
        accuracies = np.array([found[str(n)][name] for n in sizes])
        ax.plot(sizes, accuracies[:, 0], "o-", color=nb.plots.color(place), label=name)
        ax.plot(sizes, accuracies[:, 1], "o--", color=nb.plots.color(place))
    ax.set_xscale("log")
    ax.set_xlabel("training points")
    ax.set_ylabel("accuracy on evenly sampled arms")
    ax.legend()


EQUAL = 0.005  # the standard error of an accuracy near 0.9 on 4,000 test points
TIE = "within half a percent is a tie"

STUDY = Study(
    name="spiral",
    papers=(),
    idea="Two spiral arms are sampled unevenly: their outer ends are rare. With few points, features that know "
    "something of the geometry win, since they carry over to places without data. With ten times the points, methods "
    "that know nothing of it come near, because data are then almost everywhere.",
    scales={
        "smoke": Settings(sizes=(200, 400), width=32, num_steps=300, num_test=1_000),
        "small": Settings(),
        "paper": Settings(num_test=20_000, width=256, num_steps=20_000),
    },
    run=run,
    claims=(
        Claim(
            "With few points the prior wins: polar coordinates beat the plain ones.",
            "prior",
            Bound(low=0.0),
            f"accuracy of the network on polar coordinates minus that on plain ones; {TIE}",
            tie=EQUAL,
        ),
        Claim(
            "With many points scale wins: plain coordinates beat polar ones.",
            "scale",
            Bound(low=0.0),
            f"accuracy on plain coordinates minus that on polar ones, both with the larger size; {TIE}",
            tie=EQUAL,
        ),
        Claim(
            "Many points make up for the prior.",
            "ten times",
            Bound(low=0.0),
            f"accuracy on plain coordinates with the larger size minus that on polar ones with the smaller one; {TIE}",
            tie=EQUAL,
        ),
        Claim(
            "Far from data the right features beat nearest neighbors.",
            "far",
            Bound(low=0.0),
            "difference of accuracies with few points, on the tenth of test points farthest from them",
        ),
    ),
    figures={"accuracy": Figure("Dashed: on the tenth of test points that are farthest from training points.", draw)},
    num_seeds=3,
)

"""The depth at which classes become separable grows with the difficulty of the labels.

>>> from ntkbias.studies import study_of
>>> study_of("minimal_depth").num_seeds
3
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Digits, the shares of random labels, the network, its training, and the error that counts as separated."""

    num_examples: int = 300
    noise: tuple[float, ...] = (0.0, 0.25, 0.5)
    width: int = 64
    depth: int = 6
    num_steps: int = 1_500
    learning_rate: float = 1e-2
    batch_size: int = 100
    max_error: float = 0.2


def network(settings: Settings) -> Any:
    """The architecture. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=settings.depth, num_outputs=10)


def run(settings: Settings, key: Any) -> Findings:
    """Train on labels with noise, and find the first layer whose nearest class centers classify the training set."""
    data: Any = nb.datasets.digits(settings.num_examples)
    x, clean = jnp.asarray(data.x), data.y
    net = network(settings)
    depths, fits, collapse, separation = [], [], [], []
    for share in settings.noise:
        y = nb.tasks.with_random_labels(clean, share, key=key).y
        params = nb.training.trained(
            net.apply,
            net.init(key, x.shape[1:]),
            (x, y),
            optimizer=optax.adam(settings.learning_rate),
            loss="cross_entropy",
            num_steps=settings.num_steps,
            batch_size=settings.batch_size,
            key=key,
        )
        hidden = list(nb.complexity.hidden_activations(net, params, x).values())
        depths.append(nb.complexity.effective_depth(hidden, y, max_error=settings.max_error))
        separation.append(np.asarray(nb.complexity.layer_separation(hidden, y)))
        variances = np.array([nb.complexity.class_distance_variance(layer, y) for layer in hidden])
        collapse.append(float(np.diff(variances).max()))
        fits.append(nb.training.accuracy(net.apply(params, x), y))
    return {
        "noise": np.array(settings.noise),
        "separation": np.array(separation),
        "fit": min(fits),
        "clean depth": depths[0],
        "growth": depths[-1] - depths[0],
        "order": int(np.diff(depths).min()),
        "collapse": max(collapse),
    }


def draw(found: Findings, ax: Axes) -> None:
    """The accuracy of nearest class centers in each hidden layer."""
    for share, accuracies in zip(found["noise"], found["separation"], strict=True):
        ax.plot(np.arange(1, len(accuracies) + 1), accuracies, "o-", label=f"{share:.0%} random labels")
    ax.set_xlabel("hidden layer")
    ax.set_ylabel("accuracy of nearest class centers")
    ax.legend()


STUDY = Study(
    name="minimal_depth",
    papers=(
        Paper(
            "Galanti, Galanti and Ben-Shaul",
            2022,
            "On the Implicit Bias Towards Minimal Depth of Deep Neural Networks",
            "2202.09028",
        ),
    ),
    idea="In a trained classifier the features of each class gather around a center, and from some layer on the "
    "nearest center classifies the training set. Training prefers to do this in few layers. Random labels need more of "
    "them, so this effective depth tells easy labels from hard ones.",
    scales={
        "smoke": Settings(num_examples=150, noise=(0.0, 0.5), num_steps=800),
        "small": Settings(),
        "paper": Settings(num_examples=1_500, width=256, depth=10, num_steps=10_000),
    },
    run=run,
    claims=(
        Claim("The network fits all training labels.", "fit", Bound(low=1.0), "share of training labels", "each"),
        Claim("Clean labels are separated in the first hidden layer.", "clean depth", Bound(high=1), "", "each"),
        Claim("The effective depth never falls as labels become more random.", "order", Bound(low=0), "", "each"),
        Claim("Half of the labels random need three layers more.", "growth", Bound(low=3), "", "each"),
        Claim(
            "Every layer collapses the classes further.",
            "collapse",
            Bound(high=0.0),
            "largest change of the class-distance variance from one layer to the next",
            "each",
        ),
    ),
    figures={"depth": Figure("Accuracy of nearest class centers, layer by layer.", draw)},
    num_seeds=3,
)

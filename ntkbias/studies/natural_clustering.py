"""Networks that learn coarse labels also learn the classes within them.

>>> from ntkbias.studies import study_of
>>> study_of("natural_clustering").claims[1].quantity
'growth'
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Digits, the network, and its training on two groups of five digits each."""

    num_examples: int = 500
    width: int = 256
    depth: int = 3
    learning_rate: float = 1e-2
    num_steps: int = 400
    batch_size: int = 50
    num_random: int = 5  # random subclasses that are drawn


def network(settings: Settings) -> Any:
    """The architecture. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=settings.depth, num_outputs=2)


def run(settings: Settings, key: Any) -> Findings:
    """Train on random groups of digits; compare the kernel and the hidden layers with the digits themselves."""
    data: Any = nb.datasets.digits(settings.num_examples)
    x, digits = jnp.asarray(data.x), data.y
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    coarse = np.isin(digits, rng.permutation(10)[:5]).astype(int)
    others = [within(coarse, digits, rng) for _ in range(settings.num_random)]
    net = network(settings)
    steps, fine, random, separation = [], [], [], []
    path = nb.train(
        net.apply,
        net.init(key, x.shape[1:]),
        (x, coarse),
        optimizer=optax.adam(settings.learning_rate),
        loss="cross_entropy",
        num_steps=settings.num_steps,
        batch_size=settings.batch_size,
        at=nb.training.log_steps(settings.num_steps, 10),
        key=key,
    )
    for step, params in path:
        gram = nb.empirical_ntk(net.apply, params)(x)
        aligned = [float(nb.alignment(gram, nb.datasets.one_hot(labels))) for labels in (digits, *others)]
        hidden = list(nb.complexity.hidden_activations(net, params, x).values())
        separation.append([nb.complexity.layer_separation(hidden, labels) for labels in (digits, others[0])])
        steps.append(step)
        fine.append(aligned[0])
        random.append(np.mean(aligned[1:]))
    ends = np.asarray(separation, float)[[0, -1]]  # (start and end, digits and random, layers)
    return {
        "steps": np.array(steps),
        "fine": np.array(fine),
        "random": np.array(random),
        "fit": nb.training.accuracy(net.apply(params, x), coarse),
        "growth": fine[-1] / fine[0],
        "lead": fine[-1] - random[-1],
        "gain": (fine[-1] - random[-1]) - (fine[0] - random[0]),
        "separation": float((ends[1, 0] - ends[1, 1]).min()),
        "layers": ends,
    }


def within(coarse: np.ndarray, digits: np.ndarray, rng: Any) -> np.ndarray:
    """Random subclasses of the sizes of the digits, within the same groups."""
    found = digits.copy()
    for group in (0, 1):
        found[coarse == group] = rng.permutation(digits[coarse == group])
    return found


def draw(found: Findings, ax: Axes) -> None:
    """The alignment of the kernel with the digits and with random subclasses."""
    ax.plot(found["steps"] + 1, found["fine"], "o-", label="digits, which were hidden")
    ax.plot(found["steps"] + 1, found["random"], "s-", label="random subclasses of the two groups")
    ax.set_xscale("log")
    ax.set_xlabel("step + 1")
    ax.set_ylabel("alignment of the kernel")
    ax.legend()


def draw_layers(found: Findings, ax: Axes) -> None:
    """The accuracy of nearest class centers, layer by layer."""
    names = ("digits", "random subclasses")
    for when, marker, row in zip(("start", "end"), ("o--", "o-"), found["layers"], strict=True):
        for color, (name, values) in enumerate(zip(names, row, strict=True)):
            ax.plot(range(1, len(values) + 1), values, marker, color=nb.plots.color(color), label=f"{name}, {when}")
    ax.set_xticks(range(1, len(values) + 1))
    ax.set_xlabel("hidden layer")
    ax.set_ylabel("accuracy of nearest class centers")
    ax.legend()


STUDY = Study(
    name="natural_clustering",
    papers=(
        Paper(
            "Carbonnelle", 2022, "Towards understanding deep learning with the natural clustering prior", "2203.08174"
        ),
    ),
    idea="Natural classes consist of several clusters, and each cluster belongs to one class. Networks seem to use "
    "this as a prior: trained on coarse labels alone, they also find the clusters within each class. Here the "
    "labels are two groups of digits, and the clusters are the digits, which the network is never told.",
    scales={
        "smoke": Settings(num_examples=200, width=64, num_steps=150),
        "small": Settings(),
        "paper": Settings(num_examples=1_797, width=1_024, num_steps=10_000),
    },
    run=run,
    claims=(
        Claim("The network fits its coarse labels.", "fit", Bound(low=0.99), "share of training labels", "each"),
        Claim(
            "The kernel's alignment with the hidden digits rises,",
            "growth",
            Bound(low=1.0),
            "at the end over the start",
            "each",
        ),
        Claim(
            "above that with random subclasses.",
            "lead",
            Bound(low=0.0),
            "difference of the alignments at the end",
            "each",
        ),
        Claim(
            "The lead over random subclasses grows in training.",
            "gain",
            Bound(low=0.0),
            "change of that difference; stronger than the claim before",
            "each",
        ),
        Claim(
            "Every hidden layer separates the digits better than random subclasses.",
            "separation",
            Bound(low=0.0),
            "least difference of the accuracies of nearest centers at the end",
            "each",
        ),
    ),
    figures={
        "alignment": Figure("The kernel and the classes that were not trained.", draw),
        "layers": Figure("Separation of the hidden classes, layer by layer.", draw_layers),
    },
    num_seeds=5,
)

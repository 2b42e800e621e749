"""The kernel of a network that groks modular addition has the Fourier features of its solution.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("modular_addition").claims][:2]
['overlap', 'steepest rise']
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Float
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study
from ntkbias.tracking import Probe, Snapshot, measures

__all__ = ["STUDY", "Settings"]

LEARNED = 0.95  # accuracy on the training pairs from which on they are learned by heart
GROKKED = 0.5  # accuracy on the other pairs that grokking crosses


@dataclasses.dataclass(frozen=True)
class Settings:
    """The modulus, the share of pairs to train on, the width of the quadratic layer, and the training."""

    modulus: int = 23
    share: float = 0.7
    width: int = 128
    learning_rate: float = 0.01
    weight_decay: float = 1.0
    num_steps: int = 600
    num_snapshots: int = 31


def network(settings: Settings) -> nb.layers.Layer:
    """One layer of quadratic units, without biases: x -> W (V x)^2."""
    return nb.nets.mlp(settings.width, 1, settings.modulus, activation=nb.layers.Monomial(2), w_std=1.0)


def run(settings: Settings, key: Any) -> Findings:
    """Train with weight decay on a share of all pairs, and follow the kernel's first modes on all of them."""
    p, (split_key, init_key) = settings.modulus, jax.random.split(key)
    task: Any = nb.tasks.modular_addition(p)
    task = task._replace(y=nb.datasets.one_hot(np.asarray(task.y)))
    train, test = task.split(round(settings.share * p**2), key=split_key)
    net = network(settings)
    families = {name: np.asarray(each, float) for name, each in task.truth.features(task.x).items()}
    families["constant"] = np.ones((p**2, 1))
    steps = np.linspace(0, settings.num_steps, settings.num_snapshots).round().astype(int)
    history = nb.track(
        net.apply,
        net.init(init_key, task.x.shape[1:]),
        train.data,
        optimizer=optax.adamw(settings.learning_rate, weight_decay=settings.weight_decay),
        num_steps=settings.num_steps,
        at=steps.tolist(),
        probe=Probe(task.x, task.y, test=test.data, num_modes=4 * p),
        measures=measures.chosen("train_accuracy", "test_accuracy", "eigenvalues") | {"in modes": in_modes(families)},
    )
    within = np.asarray(history["in modes"], float)  # (snapshots, families)
    accuracy = {name: np.asarray(history[f"{name}_accuracy"]) for name in ("train", "test")}
    overlap = np.average(within, 1, [each.shape[1] for each in families.values()])
    steepest = steps[:-1] + np.diff(steps) / 2
    grokking = passage(steps, accuracy["test"], GROKKED)
    return {
        "steps": steps,
        "families": list(families)[:-1],
        "within": within,
        "accuracy": accuracy,
        "eigenvalues": np.asarray(history["eigenvalues"]),
        "lines": ("after the constant, two families, four families", [1, 1 + 2 * (p - 1), 1 + 4 * (p - 1)]),
        "history": history,
        "overlap": float(overlap[-1]),
        "steepest rise": float(steepest[np.argmax(np.diff(overlap))] / grokking),
        "delay": grokking / passage(steps, accuracy["train"], LEARNED),
        "numbers at start": float(within[0, :2].min()),
        "sum at start": float(within[0, 2]),
        "sum at end": float(within[-1, 2]),
    }


def passage(steps: np.ndarray, values: np.ndarray, level: float) -> float:
    """The step at which values pass a level, between snapshots by a line."""
    return float(nb.scaling.first_passage(steps, values, level, interpolated=True))


def in_modes(families: dict[str, Float[np.ndarray, "n k"]]) -> Callable[[Snapshot], Float[np.ndarray, " f"]]:
    """A measure: the share of each family of orthonormal functions in the first modes, as many as there are functions.

    Its mean over all functions is the mean squared cosine of the principal angles between both spaces.
    """

    def within(at: Snapshot) -> Float[np.ndarray, " f"]:
        return shares(np.asarray(at.spectrum.eigenfunctions, float), families)

    return within


def shares(modes: Float[np.ndarray, "n m"], families: dict[str, Float[np.ndarray, "n k"]]) -> Float[np.ndarray, " f"]:
    """The share of each family of orthonormal functions in the first modes, as many as there are functions."""
    first = modes[:, : sum(columns.shape[1] for columns in families.values())]
    return np.array([np.sum((first.T @ each / len(each)) ** 2) / each.shape[1] for each in families.values()])


def draw_overlap(found: Findings, ax: Axes) -> None:
    """The share of each family in the first modes, and accuracies, by step."""
    for place, family in enumerate(found["families"]):
        ax.plot(found["steps"], found["within"][:, place], "o-", ms=3, color=nb.plots.color(place), label=family)
    for name, style in (("train", ":"), ("test", "--")):
        ax.plot(found["steps"], found["accuracy"][name], style, color="0.4", label=f"{name} accuracy")
    ax.set_ylim(0, 1.03)
    ax.set_xlabel("step")
    ax.set_ylabel("share in the first modes; accuracy")
    ax.legend()


def draw_spectrum(found: Findings, ax: Axes) -> None:
    """The eigenvalues before and after training, relative to the first one."""
    for row, label in ((0, "before training"), (-1, "after training")):
        values = found["eigenvalues"][row]
        ax.semilogy(np.arange(1, len(values) + 1), values / values[0], ".", ms=4, label=label)
    meaning, places = found["lines"]
    for place in places:
        ax.axvline(place + 0.5, color="0.7", lw=0.8)
    ax.set_xlabel(f"mode ({'lines' if len(places) > 1 else 'line'}: {meaning})")
    ax.set_ylabel("eigenvalue / largest")
    ax.legend()


# What both studies of modular addition claim about the time of grokking.
OF_GROKKING = (
    Claim(
        "Their overlap rises most quickly at grokking.",
        "steepest rise",
        Bound(0.8, 1.25),
        "step of the steepest rise, over that at which the accuracy on other pairs passes 1/2; the bound is ours",
        "each",
    ),
    Claim(
        "The training pairs are learned before the others.",
        "delay",
        Bound(low=1.0),
        "step at which the accuracy on other pairs passes 1/2, over that at which 95 % of the training pairs are right",
        "each",
    ),
)

STUDY = Study(
    name="modular_addition",
    papers=(
        Paper("Lin", 2025, "Feature Identification via the Empirical NTK", "2510.00468"),
        Paper("Gromov", 2023, "Grokking modular arithmetic", "2301.02679"),
    ),
    idea="A network with weight decay learns some sums modulo p by heart, and later all others: it groks. Its "
    "solution is made of waves: Fourier features of both numbers, of their sum and of their difference. The first "
    "modes of its kernel should become these features, and most quickly when it groks.",
    scales={
        "smoke": Settings(modulus=13, share=0.8, width=64, num_snapshots=21),
        "small": Settings(),
        "paper": Settings(modulus=37, share=0.6, width=512, num_steps=1_000, num_snapshots=41),
    },
    run=run,
    claims=(
        Claim(
            "After grokking, the first modes of the kernel are Fourier features.",
            "overlap",
            Bound(low=0.9),
            "mean squared cosine of the principal angles to the span of the four families and the constant",
            "each",
        ),
        *OF_GROKKING,
        Claim(
            "The features of each number alone are there before training.",
            "numbers at start",
            Bound(low=0.9),
            "share of a family in the first modes; our own: a random layer treats all numbers alike",
            "each",
        ),
        Claim(
            "Those of the sum are not.",
            "sum at start",
            Bound(high=1 / 3),
            "share of the family in the first modes; our own",
            "each",
        ),
        Claim(
            "After grokking they are.",
            "sum at end",
            Bound(low=0.9),
            "share of the family in the first modes",
            "each",
        ),
    ),
    figures={
        "overlap": Figure("The share of each family of Fourier features in the kernel's first modes.", draw_overlap),
        "spectrum": Figure("Eigenvalues of the kernel before and after training.", draw_spectrum),
    },
    num_seeds=3,
)

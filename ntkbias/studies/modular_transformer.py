"""The kernel of a transformer that groks modular addition has the Fourier features at the frequencies that it uses.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("modular_transformer").claims][:2]
['overlap', 'steepest rise']
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

import ntkbias as nb
from ntkbias.studies.modular_addition import (
    GROKKED,
    LEARNED,
    OF_GROKKING,
    draw_overlap,
    draw_spectrum,
    passage,
    shares,
)
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study
from ntkbias.tracking import Probe, measures
from ntkbias.types import Params

__all__ = ["STUDY", "OneLayer", "Settings"]

MOMENTS = (0.9, 0.98)  # of Adam, as in Nanda et al. 2023


@dataclasses.dataclass(frozen=True)
class Settings:
    """The modulus, the share of pairs to train on, the transformer, and its training."""

    modulus: int = 23
    share: float = 0.8
    width: int = 64
    num_heads: int = 4
    learning_rate: float = 0.001
    weight_decay: float = 1.0
    num_steps: int = 6_000
    num_snapshots: int = 13


@dataclasses.dataclass(frozen=True)
class OneLayer:
    """A transformer of one layer without norms, which reads two numbers and "=" (Nanda et al. 2023).

    Inputs `(n, 2 p)` are the numbers, one-hot; outputs `(n, p)` are logits of the sum, read at "=".
    """

    width: int
    num_heads: int

    def init(self, key: Any, modulus: int) -> Params:
        """Gaussian weights of standard deviation 1 / sqrt(inputs); the table's rows have a norm of about 1."""
        d = self.width
        shapes = dict.fromkeys(("query", "key", "value", "mix"), (d, d))
        shapes |= {"up": (d, 4 * d), "down": (4 * d, d), "read": (d, modulus)}
        *keys, table, places = jax.random.split(key, len(shapes) + 2)
        weights = {
            name: jax.random.normal(one, shape) / shape[0] ** 0.5
            for one, (name, shape) in zip(keys, shapes.items(), strict=True)
        }
        weights["table"] = jax.random.normal(table, (modulus, d)) / d**0.5
        weights["places"] = jax.random.normal(places, (3, d)) / d**0.5  # that of "=" is its embedding too
        return weights | {"up bias": jnp.zeros(4 * d), "down bias": jnp.zeros(d)}

    def apply(self, params: Params, x: Float[Array, "n q"]) -> Float[Array, "n p"]:
        """The logits of the sum."""
        n, heads = len(x), self.num_heads
        numbers = x.reshape(n, 2, -1) @ params["table"]
        h = jnp.concatenate([numbers, jnp.zeros((n, 1, self.width), numbers.dtype)], 1) + params["places"]
        query = (h[:, -1] @ params["query"]).reshape(n, heads, -1)
        keys, values = ((h @ params[name]).reshape(n, 3, heads, -1) for name in ("key", "value"))
        scores = jnp.einsum("nhc,nthc->nht", query, keys) / (self.width // heads) ** 0.5
        mixed = jnp.einsum("nht,nthc->nhc", jax.nn.softmax(scores), values).reshape(n, -1)
        h = h[:, -1] + mixed @ params["mix"]
        h = h + jax.nn.relu(h @ params["up"] + params["up bias"]) @ params["down"] + params["down bias"]
        return h @ params["read"]


def network(settings: Settings) -> OneLayer:
    """The architecture."""
    return OneLayer(settings.width, settings.num_heads)


def run(settings: Settings, key: Any) -> Findings:
    """Train with weight decay on a share of the pairs, and follow the kernel's first modes on all of them."""
    p, (split_key, init_key) = settings.modulus, jax.random.split(key)
    task: Any = nb.tasks.modular_addition(p)
    net = network(settings)
    inside = in_both_orders(task, settings.share, split_key)
    y = nb.datasets.one_hot(np.asarray(task.y))
    train, test = ((np.asarray(task.x)[rows], y[rows]) for rows in (inside, ~inside))
    steps = np.linspace(0, settings.num_steps, settings.num_snapshots).round().astype(int)
    history = nb.track(
        net.apply,
        net.init(init_key, p),
        train,
        optimizer=optax.adamw(settings.learning_rate, *MOMENTS, weight_decay=settings.weight_decay),
        loss="cross_entropy",
        num_steps=settings.num_steps,
        at=steps.tolist(),
        probe=Probe(task.x, y, test=test, num_modes=2 * p - 1),
        measures=measures.chosen("train_accuracy", "test_accuracy", "eigenvalues", "eigenfunctions"),
    )
    waves = np.asarray(task.truth.features(task.x)["first"][::p])
    keys = key_frequencies(np.asarray(history.params["table"]), waves)
    families = features(task, keys)
    within = np.array([shares(modes, families) for modes in np.asarray(history["eigenfunctions"], float)])
    overlap = np.average(within, 1, [each.shape[1] for each in families.values()])
    accuracy = {name: np.asarray(history[f"{name}_accuracy"]) for name in ("train", "test")}
    grokking = passage(steps, accuracy["test"], GROKKED)
    steepest = steps[:-1] + np.diff(steps) / 2
    return {
        "steps": steps,
        "families": [name for name in families if name != "constant"],
        "within": within,
        "accuracy": accuracy,
        "eigenvalues": np.asarray(history["eigenvalues"]),
        "lines": (f"after the features at frequencies {', '.join(map(str, keys))}", [1 + 4 * len(keys)]),
        "history": history,
        "overlap": float(overlap[-1]),
        "steepest rise": float(steepest[np.argmax(np.diff(overlap))] / grokking),
        "delay": grokking / passage(steps, accuracy["train"], LEARNED),
        "test accuracy": float(accuracy["test"][-1]),
        "sum at start": float(within[0, 1]),
        "sum at end": float(within[-1, 1]),
    }


def in_both_orders(task: Any, share: float, key: Any) -> Bool[np.ndarray, " n"]:
    """Which pairs to train on: a share of them, (a, b) always with (b, a). A test pair is then new in both orders."""
    a, b = (np.asarray(each) for each in task.truth.numbers(task.x))
    _, place = np.unique(np.minimum(a, b) * len(a) + np.maximum(a, b), return_inverse=True)
    order = np.asarray(jax.random.permutation(key, place.max() + 1))
    return np.asarray((order < share * len(order))[place])


def key_frequencies(table: Float[np.ndarray, "p d"], waves: Float[np.ndarray, "p k"]) -> np.ndarray:
    """The frequencies that have more than an average share of the embeddings' power, counted from 1."""
    power = np.sum((waves.T @ table) ** 2, 1).reshape(2, -1).sum(0)  # cosines and sines
    return np.flatnonzero(power > power.mean()) + 1


def features(task: Any, frequencies: np.ndarray) -> dict[str, Float[np.ndarray, "n k"]]:
    """The orthonormal features at these frequencies: of both numbers alike, of their sum, and the constant."""
    n = len(task.x)
    waves = {
        name: np.asarray(each, float).reshape(n, 2, -1)[:, :, frequencies - 1].reshape(n, -1)
        for name, each in task.truth.features(task.x).items()
    }
    return {"numbers": (waves["first"] + waves["second"]) / 2**0.5, "sum": waves["sum"], "constant": np.ones((n, 1))}


STUDY = Study(
    name="modular_transformer",
    papers=(
        Paper("Lin", 2025, "Feature Identification via the Empirical NTK", "2510.00468"),
        Paper("Nanda et al.", 2023, "Progress measures for grokking via mechanistic interpretability", "2301.05217"),
    ),
    idea="A transformer of one layer that groks addition modulo p uses waves of a few frequencies, which differ from "
    "seed to seed. The first modes of its kernel should become the Fourier features at these frequencies, of the two "
    "numbers and of their sum, and most quickly when it groks. A frequency counts as used if it has more than an "
    "average share of the embeddings' power after training. Training pairs come in both orders, so the network treats "
    "both numbers alike, and a test pair is new in both orders.",
    scales={
        "smoke": Settings(modulus=11, share=0.9, learning_rate=0.003, num_steps=3_000),
        "small": Settings(),
        "paper": Settings(modulus=31, share=0.7, width=128, num_steps=10_000, num_snapshots=41),
    },
    run=run,
    claims=(
        Claim(
            "After grokking, the first modes of the kernel are the Fourier features at the frequencies that it uses.",
            "overlap",
            Bound(low=0.9),
            "mean squared cosine of the principal angles to the span of both families and the constant",
            "each",
        ),
        *OF_GROKKING,
        Claim(
            "It has grokked.",
            "test accuracy",
            Bound(low=0.9),
            "share of pairs outside of training that are right at the end",
            "each",
        ),
        Claim(
            "The features of the sum are not there before training.",
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
        "overlap": Figure("The share of both families of Fourier features in the kernel's first modes.", draw_overlap),
        "spectrum": Figure("Eigenvalues of the kernel before and after training.", draw_spectrum),
    },
    num_seeds=3,
)

"""Stochastic gradient descent first learns what a linear model can, and then goes beyond it.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("increasing_complexity").claims]
['delay', 'early', 'kept']
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

LEARNED = 0.9  # of a part's information at the end


@dataclasses.dataclass(frozen=True)
class Settings:
    """Digits below 5 against the others, the network and its training."""

    num_train: int = 1_000
    width: int = 128
    depth: int = 2
    learning_rate: float = 0.3
    batch_size: int = 32
    num_steps: int = 6_000
    every: int = 200
    penalty: float = 10.0  # of the linear model, on half its squared parameters; the loss adds up over examples


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=settings.depth)


def network_of_one_layer() -> nb.layers.Layer:
    """The linear model that it is compared with."""
    return nb.layers.Dense(1, b_std=1.0, parameterization="standard")


def run(settings: Settings, key: Any) -> Findings:
    """The information about test labels that a network has, along training: what a linear model explains, and more."""
    keys = jax.random.split(key)
    digits: Any = nb.datasets.digits()
    order = np.asarray(jax.random.permutation(keys[0], len(digits.x)))
    x, y = jnp.asarray(digits.x[order].reshape(len(order), -1)), np.where(digits.y[order] >= 5, 1.0, -1.0)
    seen, held = slice(settings.num_train), slice(settings.num_train, None)
    linear = predictions_of_linear(settings, x[seen], y[seen], x[held])
    net = network(settings)
    at = range(0, settings.num_steps + 1, settings.every)
    steps = nb.train(
        net.apply,
        net.init(keys[1], x.shape[1:]),
        (x[seen], y[seen]),
        optimizer=optax.sgd(settings.learning_rate),
        loss="logistic",
        num_steps=at[-1],
        at=at,
        batch_size=settings.batch_size,
        key=keys[1],
    )
    predicted = [np.sign(net.apply(params, x[held]))[:, 0] for _, params in steps]
    explained = np.array([nb.complexity.explained_information(p, linear, y[held]) for p in predicted])
    beyond = np.array([nb.complexity.mutual_information(p, y[held]) for p in predicted]) - explained
    parts = np.stack([explained, beyond], 1)
    first, later = nb.scaling.first_passage(at, parts, LEARNED * parts[-1])
    return {
        "steps": np.array(at),
        "explained": explained,
        "beyond": beyond,
        "early": first / settings.num_steps,
        "delay": later / max(first, settings.every),
        "kept": float(explained[-1] - nb.complexity.mutual_information(linear, y[held])),
    }


def predictions_of_linear(settings: Settings, x: Any, y: Any, x_test: Any) -> np.ndarray:
    """The classes of the test inputs by the linear model at the minimum of its penalized logistic loss."""
    model = network_of_one_layer()
    start = model.init(jax.random.key(0), x.shape[1:])
    rate = float(nb.critical_learning_rate(nb.empirical_ntk(model.apply, start), x))
    penalty = optax.add_decayed_weights(settings.penalty / len(x))
    end = nb.training.trained(
        model.apply,
        start,
        (x, y),
        optimizer=optax.chain(penalty, optax.sgd(rate, 0.9, nesterov=True)),
        loss="logistic",
        num_steps=2_000,
    )
    return np.sign(model.apply(end, x_test))[:, 0]


def draw(found: Findings, ax: Axes) -> None:
    """Both parts of the information along training."""
    ax.plot(found["steps"], found["explained"], "o-", ms=3, label="explained by the linear model")
    ax.plot(found["steps"], found["beyond"], "s-", ms=3, label="beyond it")
    ax.set_xlabel("step")
    ax.set_ylabel("information about the label (bits)")
    ax.legend()


STUDY = Study(
    name="increasing_complexity",
    papers=(
        Paper(
            "Kalimeris et al.", 2019, "SGD on Neural Networks Learns Functions of Increasing Complexity", "1905.11604"
        ),
    ),
    idea="At first, what a network knows about the labels is what a linear classifier knows. Later it goes beyond the "
    "linear classifier, and keeps what it had. The information that both share about the labels shows this, measured "
    "along training on test data.",
    scales={
        "smoke": Settings(num_steps=3_000),
        "small": Settings(),
        "paper": Settings(width=1_024, depth=4, learning_rate=0.05, num_steps=40_000),
    },
    run=run,
    claims=(
        Claim(
            "The part that a linear model explains saturates first.",
            "delay",
            Bound(low=1.0),
            "the step at which the rest has 90 % of its end, over the step at which this part does",
            "each",
        ),
        Claim(
            "It saturates in the first fifth of training.",
            "early",
            Bound(high=0.2),
            "share of all steps; the paper gives no number",
            "each",
        ),
        Claim(
            "The network keeps what the linear model knows.",
            "kept",
            Bound.about(0, 0.03),
            "the explained part at the end minus the linear model's information, in bits",
        ),
    ),
    figures={"information": Figure("What the network knows about the labels, in two parts.", draw)},
    num_seeds=3,
)

"""Sharp minima generalize worse because the test loss has its minimum elsewhere.

>>> from ntkbias.studies import study_of
>>> study_of("shift_curvature").claims[0].quantity
'error'
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Linear regression: training and test examples, dimensions, and the number of random problems."""

    num_train: int = 12
    num_test: int = 15
    dimension: int = 4
    num_problems: int = 20
    learning_rate: float = 0.2
    num_steps: int = 2_000


def network(weights: Array, x: Array) -> Array:
    """The model, linear regression. Change it here: then the formula is no longer exact."""
    return x @ weights


def run(settings: Settings, key: Any) -> Findings:
    """The excess test loss of the training minimum, and half of the shift's square in the test Hessian."""
    predicted, measured = [], []
    descent = optax.sgd(settings.learning_rate, 0.9)

    def minimum(x: Array, y: Array) -> Array:
        start = jnp.zeros(settings.dimension)
        return nb.training.trained(network, start, (x, y), optimizer=descent, num_steps=settings.num_steps)

    for own in jax.random.split(key, settings.num_problems):
        keys = jax.random.split(own, 4)
        x, x_test = (
            jax.random.normal(k, (n, settings.dimension))
            for k, n in zip(keys[:2], (settings.num_train, settings.num_test), strict=True)
        )
        y, y_test = (jax.random.normal(k, (len(each),)) for k, each in zip(keys[2:], (x, x_test), strict=True))
        here, best = minimum(x, y), minimum(x_test, y_test)
        predicted.append(float(nb.complexity.shift_curvature(network, best, here - best, x_test, y_test)))
        there, least = (nb.losses.mse(network(weights, x_test), y_test) for weights in (here, best))
        measured.append(float(there - least))
    losses = np.array([predicted, measured])
    return {
        "error": float(np.abs(losses[0] / losses[1] - 1).max()),
        "predicted": losses[0],
        "measured": losses[1],
    }


def draw(found: Findings, ax: Axes) -> None:
    """Measured against predicted excess loss."""
    ax.loglog(found["predicted"], found["measured"], "o")
    ax.axline((1, 1), (2, 2), color="0.5", lw=1)
    ax.set_xlabel("predicted from shift and curvature")
    ax.set_ylabel("measured excess test loss")


STUDY = Study(
    name="shift_curvature",
    papers=(Paper("Bradley, Gomez-Uribe and Vuyyuru", 2021, "Shift-Curvature, SGD, and Generalization", "2108.09507"),),
    idea="The minimum of the training loss is not the minimum of the test loss. The shift between the two costs half "
    "of its square in the Hessian of the test loss. A sharper minimum thus generalizes worse at an equal shift. This "
    "study tests the formula, on linear regression.",
    scales={"smoke": Settings(num_problems=3), "small": Settings(), "paper": Settings(num_problems=200)},
    run=run,
    claims=(
        Claim(
            "Shift and curvature give the excess test loss, exactly for linear regression.",
            "error",
            Bound(high=1e-3),
            "largest relative difference, in float32",
        ),
    ),
    figures={"excess": Figure("Each point is a random regression problem.", draw)},
)

"""Gradient descent follows the flow of a modified loss, which penalizes the squared norm of the gradient.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("gradient_regularization").claims]
['order', 'modified order', 'ratio']
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
    """Random regression data, the network, the time of training, and into how many steps it is divided."""

    num_examples: int = 20
    num_coordinates: int = 3
    width: int = 16
    depth: int = 1
    activation: str = "tanh"
    time: float = 1.0
    num_steps: tuple[int, ...] = (5, 10, 20, 40)


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=settings.depth, activation=settings.activation)


def run(settings: Settings, key: Any) -> Findings:
    """The distances in float64: at small steps they are below the rounding of float32."""
    with jax.enable_x64(True):
        return distances(settings, key)


def distances(settings: Settings, key: Any) -> Findings:
    """The distance of gradient descent from the flow of the loss and of the modified loss, at the same time."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (settings.num_examples, settings.num_coordinates))
    y = jax.random.normal(keys[1], (settings.num_examples,))
    net = network(settings)
    start = net.init(keys[2], x.shape[1:])

    def flow(rate: float) -> Any:
        objective = lambda params: nb.complexity.modified_loss(net.apply, params, x, y, rate)  # noqa: E731
        end = nb.training.parameter_flow(objective, start, [settings.time], tolerance=1e-9)
        return jax.tree.map(lambda leaf: leaf[0], end)

    def distance(first: Any, second: Any) -> float:
        return float(nb.complexity.weight_norm(jax.tree.map(jnp.subtract, first, second)))

    rates = settings.time / np.array(settings.num_steps)
    ends = [
        nb.training.trained(net.apply, start, (x, y), optimizer=optax.sgd(settings.time / steps), num_steps=steps)
        for steps in settings.num_steps
    ]
    unmodified = flow(0.0)
    plain = np.array([distance(end, unmodified) for end in ends])
    mended = np.array([distance(end, flow(rate)) for end, rate in zip(ends, rates.tolist(), strict=True)])
    return {
        "rates": rates,
        "plain": plain,
        "mended": mended,
        "order": nb.scaling.power_law(rates[-2:], plain[-2:]).exponent,
        "modified order": nb.scaling.power_law(rates[-2:], mended[-2:]).exponent,
        "ratio": float(plain[-1] / mended[-1]),
    }


def draw(found: Findings, ax: Axes) -> None:
    """The distances against the learning rate."""
    ax.loglog(found["rates"], found["plain"], "o-", label="from the flow of the loss")
    ax.loglog(found["rates"], found["mended"], "s-", label="from the flow of the modified loss")
    ax.set_xlabel("learning rate")
    ax.set_ylabel("distance of gradient descent")
    ax.legend()


STUDY = Study(
    name="gradient_regularization",
    papers=(Paper("Barrett and Dherin", 2020, "Implicit Gradient Regularization", "2009.11162"),),
    idea="Gradient descent takes steps of finite size h, so it leaves the gradient flow of the loss E. It stays much "
    "closer to the flow of the modified loss E + (h / 4) ||grad E||^2. The second term favors flat regions, although "
    "no one added it.",
    scales={
        "smoke": Settings(num_steps=(10, 20)),
        "small": Settings(),
        "paper": Settings(num_examples=200, num_coordinates=10, width=256, depth=3, num_steps=(10, 20, 40, 80)),
    },
    run=run,
    claims=(
        Claim(
            "Gradient descent follows the flow of the loss to first order in h.",
            "order",
            Bound.about(1, 0.1),
            "slope of the distance at a fixed time over the last halving of h; the next order bends it",
        ),
        Claim(
            "It follows the flow of the modified loss to second order.",
            "modified order",
            Bound.about(2, 0.1),
            "the same slope",
        ),
        Claim(
            "So it is closer to the flow of the modified loss.",
            "ratio",
            Bound(low=1.0),
            "ratio of both distances at the smallest h",
        ),
    ),
    figures={"distances": Figure("Distance of gradient descent from both flows, by learning rate.", draw)},
    num_seeds=3,
)

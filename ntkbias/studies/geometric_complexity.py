"""Training keeps a network's geometric complexity low: more so with larger steps and with weight decay.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("geometric_complexity").claims]
['linear', 'rate change', 'rate ratio', 'decay change', 'decay ratio']
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
    """Digits, the network, the learning rates with the loss at which they are compared, and the weight decays."""

    num_examples: int = 200
    width: int = 64
    depth: int = 2
    rates: tuple[float, ...] = (0.5, 2.0, 5.0)
    loss: float = 0.02
    time: float = 4_000
    small_batch: int = 10
    decays: tuple[float, ...] = (0.0, 1e-4, 1e-3)
    decay_rate: float = 0.5
    num_steps: int = 4_000
    batch_size: int = 20


def network(settings: Settings, num_outputs: int) -> nb.layers.Layer:
    """The architecture. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=settings.depth, num_outputs=num_outputs)


def run(settings: Settings, key: Any) -> Findings:
    """The complexity of a linear model, of networks at equal training loss, and of networks with weight decay."""
    data: Any = nb.datasets.digits(settings.num_examples)
    x, y = jnp.asarray(data.x.reshape(len(data.x), -1)), jnp.asarray(nb.datasets.one_hot(data.y))
    net = network(settings, y.shape[1])
    start, loss = net.init(key, x.shape[1:]), jax.jit(lambda params: nb.losses.mse(net.apply(params, x), y))

    def complexity(params: Any) -> float:
        return float(nb.complexity.geometric_complexity(net.apply, params, x))

    def at_loss(rate: float) -> Any:
        options: dict[str, Any] = {"optimizer": optax.sgd(rate), "batch_size": settings.small_batch, "key": key}
        options |= {"num_steps": int(settings.time / rate), "every": int(20 / rate)}
        end = nb.training.trained(net.apply, start, (x, y), until=lambda p: bool(loss(p) < settings.loss), **options)
        return end if loss(end) < settings.loss else None

    def with_decay(decay: float) -> Any:
        optimizer = optax.chain(optax.add_decayed_weights(decay), optax.sgd(settings.decay_rate))
        options: dict[str, Any] = {"num_steps": settings.num_steps, "batch_size": settings.batch_size, "key": key}
        return nb.training.trained(net.apply, start, (x, y), optimizer=optimizer, **options)

    W = jax.random.normal(key, (x.shape[1], 10))
    linear = nb.complexity.geometric_complexity(lambda W, x: x @ W, W, x)
    reached = [at_loss(rate) for rate in settings.rates]
    by_rate = np.array([np.nan if params is None else complexity(params) for params in reached])
    by_decay = np.array([complexity(with_decay(decay)) for decay in settings.decays])
    return {
        "linear": float(jnp.abs(linear / jnp.sum(W**2) - 1)),
        "rates": np.array(settings.rates),
        "by rate": by_rate,
        "rate change": float(np.diff(by_rate).max()),
        "rate ratio": float(by_rate[-1] / by_rate[0]),
        "by decay": by_decay,
        "decay change": float(np.diff(by_decay).max()),
        "decay ratio": float(by_decay[-1] / by_decay[0]),
    }


def draw(found: Findings, ax: Axes) -> None:
    """The complexity against the learning rate."""
    ax.plot(found["rates"], found["by rate"], "o-")
    ax.set_xscale("log")
    ax.set_xlabel("learning rate")
    ax.set_ylabel("geometric complexity at equal loss")


STUDY = Study(
    name="geometric_complexity",
    papers=(
        Paper(
            "Dherin et al.",
            2022,
            "Why Neural Networks Find Simple Solutions: The Many Regularizers of Geometric Complexity",
            "2209.13083",
        ),
    ),
    idea="The geometric complexity of a network is the mean squared norm of its derivative in the inputs, over the "
    "data. It measures how much the learned function varies. Many regularizers keep it low, even those that no one "
    "chose: large learning rates as well as weight decay.",
    scales={
        "smoke": Settings(rates=(1.0, 5.0), loss=0.05, decays=(0.0, 1e-3), num_steps=1_000),
        "small": Settings(),
        "paper": Settings(num_examples=1_500, width=256, depth=3, num_steps=20_000, time=10_000),
    },
    run=run,
    claims=(
        Claim(
            "For a linear model it is the squared norm of its matrix.",
            "linear",
            Bound(high=1e-5),
            "relative difference; float32",
        ),
        Claim(
            "At equal training loss, larger learning rates give lower complexity.",
            "rate change",
            Bound(high=0.0),
            "largest change from one rate to the next",
            "each",
        ),
        Claim(
            "From the least to the largest rate it falls by 15 % or more.",
            "rate ratio",
            Bound(high=0.85),
            "largest rate over least; the paper gives no number",
            "each",
        ),
        Claim(
            "Weight decay lowers it.",
            "decay change",
            Bound(high=0.0),
            "largest change from one decay to the next",
            "each",
        ),
        Claim(
            "The largest weight decay halves it.",
            "decay ratio",
            Bound(high=0.5),
            "largest decay over none; the paper gives no number",
            "each",
        ),
    ),
    figures={"rates": Figure("Geometric complexity when the training loss first reaches its level.", draw)},
    num_seeds=3,
)

"""Deep networks have functions and features of low rank.

>>> from ntkbias.studies import study_of
>>> [claim.of for claim in study_of("low_rank").claims]
['each', 'each', 'each']
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Depths, the size of the linear networks' square matrices, the features' inputs, and the training."""

    depths: tuple[int, ...] = (1, 2, 4, 8)
    trained_depths: tuple[int, ...] = (1, 2, 4)
    size: int = 16
    num_inputs: int = 200
    width: int = 128
    num_steps: int = 3_000


def network(settings: Settings, depth: int) -> Any:
    """The architecture of a depth whose features are measured. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=depth, num_outputs=10)


def linear_network(factors: list[Array], x: Array) -> Array:
    """The deep linear network."""
    for factor in factors:
        x = x @ factor
    return x


def run(settings: Settings, key: Any) -> Findings:
    """Effective ranks by depth: of random and trained products of matrices, and of a ReLU network's last features."""
    size, shape = settings.size, (settings.size, settings.size)
    digits = nb.datasets.digits(settings.num_inputs).x
    keys = jax.random.split(key, 4)

    def factors(depth: int, scale: float) -> list[Array]:
        return [scale * jax.random.normal(k, shape) for k in jax.random.split(keys[0], depth)]

    linear, embedded, after = [], [], []
    for depth in settings.depths:
        matrix = nb.complexity.end_to_end_matrix(linear_network, factors(depth, size**-0.5), (size,))
        linear.append(float(nb.complexity.effective_rank(matrix)))
        net = network(settings, depth)
        hidden = nb.complexity.hidden_activations(net, net.init(keys[1], digits.shape[1:]), digits)
        embedded.append(float(nb.complexity.embedding_effective_rank(list(hidden.values())[-1])))
    x = jax.random.normal(keys[2], (10, size))
    left, right = jax.random.normal(keys[3], (2, size, 2))
    y = x @ (left @ right.T) / 4
    for depth in settings.trained_depths:
        options: dict[str, Any] = {"optimizer": optax.adam(3e-3), "num_steps": settings.num_steps}
        end = nb.training.trained(linear_network, factors(depth, 1 / 8), (x, y), **options)
        matrix = nb.complexity.end_to_end_matrix(linear_network, end, (size,))
        after.append(float(nb.complexity.effective_rank(matrix)))
    return {
        "depths": np.array(settings.depths),
        "linear": np.array(linear),
        "embedded": np.array(embedded),
        "linear change": float(np.diff(linear).max()),
        "embedded change": float(np.diff(embedded).max()),
        "trained change": float(np.diff(after).max()),
    }


def draw(found: Findings, ax: Axes) -> None:
    """Effective rank against depth at random weights."""
    ax.plot(found["depths"], found["linear"], "o-", label="product of Gaussian matrices")
    ax.plot(found["depths"], found["embedded"], "s-", label="Gram matrix of the last features")
    ax.set_xscale("log")
    ax.set_xlabel("depth")
    ax.set_ylabel("effective rank")
    ax.legend()


STUDY = Study(
    name="low_rank",
    papers=(Paper("Huh et al.", 2021, "The Low-Rank Simplicity Bias in Deep Networks", "2103.10427"),),
    idea="A deep network can represent matrices of any rank, but most of its parameters represent matrices of low "
    "effective rank. The deeper the network, the stronger is this bias, before and after training. It holds for "
    "linear networks and for the features of nonlinear ones.",
    scales={
        "smoke": Settings(depths=(1, 4), trained_depths=(1, 4), num_inputs=100, num_steps=1_500),
        "small": Settings(),
        "paper": Settings(depths=(1, 2, 4, 8, 16, 32), trained_depths=(1, 2, 4, 8), num_steps=20_000),
    },
    run=run,
    claims=(
        Claim(
            "The effective rank of a random linear network falls with depth.",
            "linear change",
            Bound(high=0.0),
            "largest change from one depth to the next",
            "each",
        ),
        Claim(
            "That of the last features' Gram matrix falls with depth.",
            "embedded change",
            Bound(high=0.0),
            "largest change from one depth to the next",
            "each",
        ),
        Claim(
            "Trained linear networks that fit the same data have lower rank the deeper they are.",
            "trained change",
            Bound(high=0.0),
            "largest change from one depth to the next",
            "each",
        ),
    ),
    figures={"ranks": Figure("Effective rank by depth, at random weights.", draw)},
    num_seeds=5,
)

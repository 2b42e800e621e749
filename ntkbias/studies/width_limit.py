"""How the kernel of a finite network approaches its infinite-width limit, at random weights and in training.

>>> from ntkbias.studies import study_of
>>> print(study_of("width_limit").claims[0].bound)
-0.600 to -0.400
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
from ntkbias.tracking import measures

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The widths, the number of networks of each, the inputs on the circle, and the training."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    num_networks: int = 6
    num_inputs: int = 16
    depth: int = 2
    activation: str = "relu"
    learning_rate: float = 0.2
    num_steps: int = 300


def network(settings: Settings, width: int) -> nb.layers.Layer:
    """The architecture of a width. Change it here."""
    return nb.nets.mlp(width=width, depth=settings.depth, activation=settings.activation, b_std=0.1)


def run(settings: Settings, key: Any) -> Findings:
    """The distance of each kernel to the limit, its drift, and how far the network leaves its linearization."""
    x, _ = nb.domains.Circle().quadrature(settings.num_inputs)
    y = jnp.sign(x[:, 0] + 0.1)
    distances, drifts, errors = [], [], []
    for width, own in zip(settings.widths, jax.random.split(key, len(settings.widths)), strict=True):
        net = network(settings, width)
        params = jax.vmap(lambda k, net=net: net.init(k, (2,)))(jax.random.split(own, settings.num_networks))
        kernels = [
            nb.empirical_ntk(net.apply, jax.tree.map(lambda leaf, run=run: leaf[run], params))
            for run in range(settings.num_networks)
        ]
        limit = nb.infinite_ntk(net)
        distances.append(np.mean([nb.kernels.relative_distance(kernel, x, limit) for kernel in kernels]))
        history = nb.track_many(
            net.apply,
            params,
            (x, y),
            optimizer=optax.sgd(settings.learning_rate),
            num_steps=settings.num_steps,
            at=[0, settings.num_steps],
            measures=measures.chosen("kernel_drift", "frozen_error"),
        )
        drifts.append(float(history["kernel_drift"][:, -1].mean()))
        errors.append(float(history["frozen_error"][:, -1].mean()))
    widths = np.array(settings.widths, float)
    slopes = {
        name: nb.scaling.power_law(widths, np.array(values)).exponent
        for name, values in (("distance", distances), ("drift", drifts), ("error", errors))
    }
    return {f"{name} exponent": slope for name, slope in slopes.items()} | {
        "widths": widths,
        "distances": np.array(distances),
        "drifts": np.array(drifts),
        "errors": np.array(errors),
        "last error": errors[-1],
    }


def draw(found: Findings, ax: Axes) -> None:
    """Distance, drift and linearization error against width."""
    for name, label in (
        ("distances", "distance to the limit"),
        ("drifts", "drift in training"),
        ("errors", "distance to the linearized network"),
    ):
        ax.loglog(found["widths"], found[name], "o-", label=label)
    ax.set_xlabel("width")
    ax.set_ylabel("relative size")
    ax.legend()


STUDY = Study(
    name="width_limit",
    papers=(
        Paper(
            "Jacot, Gabriel and Hongler",
            2018,
            "Neural Tangent Kernel: Convergence and Generalization in Neural Networks",
            "1806.07572",
        ),
        Paper(
            "Lee et al.",
            2019,
            "Wide Neural Networks of Any Depth Evolve as Linear Models Under Gradient Descent",
            "1902.06720",
        ),
    ),
    idea="The tangent kernel of a random network approaches a fixed kernel as the network gets wider. The wider the "
    "network, the less its kernel moves in training. A wide network therefore follows gradient descent of its own "
    "linearization, and the kernel at the start predicts what it learns.",
    scales={
        "smoke": Settings(widths=(32, 64, 128), num_networks=4, num_steps=100),
        "small": Settings(),
        "paper": Settings(widths=(64, 128, 256, 512, 1024, 2048, 4096), num_networks=20),
    },
    run=run,
    claims=(
        Claim("The distance to the limit falls as width^-1/2.", "distance exponent", Bound.about(-0.5, 0.1)),
        Claim(
            "The drift in training falls as width^-1/2 to width^-1.",
            "drift exponent",
            Bound(-1.1, -0.4),
            "the upper bounds of the two papers, and 0.1 for the fit",
        ),
        Claim("The distance to the linearized network falls with width.", "error exponent", Bound(high=-0.4)),
    ),
    figures={"width": Figure("Each quantity against width. Parallel lines are equal powers.", draw)},
    num_seeds=3,
)

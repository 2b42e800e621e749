"""Networks learn low frequencies first.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("frequency_order").claims]
['equal', 'growing']
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from jaxtyping import Array
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.pytorch import pytorch_mlp
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study
from ntkbias.tracking import measures

__all__ = ["STUDY", "Settings"]

PASSED = 0.8  # of its amplitude: a frequency is learned


@dataclasses.dataclass(frozen=True)
class Settings:
    """The points of [0, 1), the frequencies of the sum of sines, the networks and their training."""

    num_points: int = 64
    frequencies: tuple[int, ...] = (1, 2, 3, 4, 5)
    width: int = 128
    depth: int = 3
    num_networks: int = 5
    learning_rate: float = 1e-3
    num_steps: int = 1_200
    every: int = 10
    activation: str = "relu"


def network(settings: Settings) -> Any:
    """The architecture: its init(key) and f(params, z). Change it here."""
    return pytorch_mlp(1, *[settings.width] * settings.depth, 1, activation=settings.activation)


def run(settings: Settings, key: Any) -> Findings:
    """Train networks on sines of equal and of growing amplitude, and note when each frequency passes 0.8."""
    circle, frequencies = nb.domains.Circle(), np.array(settings.frequencies)
    x, _ = circle.quadrature(settings.num_points)
    init, on_line = network(settings)

    def f(params: Any, x: Array) -> Array:  # a function of z in [0, 1), which is the circle cut open
        return on_line(params, circle.angle(x)[:, None] / (2 * jnp.pi))

    keys = jax.random.split(key, settings.num_networks + 1)
    params = jax.vmap(init)(keys[1:])
    phases = jax.random.uniform(keys[0], (len(frequencies),), maxval=2 * jnp.pi)
    sines = jnp.sin(circle.angle(x)[:, None] * frequencies + phases)
    found: dict[str, Any] = {"frequencies": frequencies}
    amplitudes = {"equal": np.ones(len(frequencies)), "growing": np.linspace(0.1, 1, len(frequencies))}
    for name, heights in amplitudes.items():
        history = nb.track_many(
            f,
            params,
            (x, sines @ heights),
            optimizer=optax.adam(settings.learning_rate),
            num_steps=settings.num_steps,
            at=range(0, settings.num_steps + 1, settings.every),
            probe=nb.tracking.Probe(domain=circle),
            measures=measures.chosen("output_spectrum", "residual_spectrum"),
        )
        learned = np.sqrt(2 * np.asarray(history["output_spectrum"])[:, :, frequencies]) / heights
        first = np.array([nb.scaling.first_passage(history.steps, each, PASSED) for each in learned])
        first = np.nan_to_num(first, nan=settings.num_steps + 1)  # what is never learned comes last
        found[name] = np.array([scipy.stats.spearmanr(frequencies, row).statistic for row in first])
        found[f"{name} steps"] = first
    return found


def draw(found: Findings, ax: Axes) -> None:
    """The step at which each network has learned each frequency, with equal amplitudes."""
    for row in found["equal steps"]:
        ax.plot(found["frequencies"], row, "o-", color=nb.plots.color(0), alpha=0.6)
    ax.set_xlabel("frequency")
    ax.set_ylabel("step at which it is learned")


STUDY = Study(
    name="frequency_order",
    papers=(Paper("Rahaman et al.", 2019, "On the Spectral Bias of Neural Networks", "1806.08734"),),
    idea="A network is trained on a sum of sines. It learns the slow ones first and the fast ones last, even if the "
    "fast ones have larger amplitudes. Early in training it is therefore a smooth version of the target.",
    scales={
        "smoke": Settings(frequencies=(1, 3, 5), num_networks=3, num_steps=800, every=20),
        "small": Settings(),
        "paper": Settings(
            num_points=200,
            frequencies=tuple(range(5, 51, 5)),
            width=256,
            depth=6,
            learning_rate=3e-4,
            num_steps=40_000,
            every=250,
        ),
    },
    run=run,
    claims=(
        Claim(
            "Frequencies of equal amplitude are learned in ascending order.",
            "equal",
            Bound(low=0.9),
            "rank correlation of frequency and step",
            "each",
        ),
        Claim(
            "So are frequencies whose amplitude grows with them.",
            "growing",
            Bound(low=0.999),
            "rank correlation of frequency and step",
            "each",
        ),
    ),
    figures={"order": Figure("Each line is a network. A rising line learns low frequencies first.", draw)},
    cost="40 minutes on two cores",
)

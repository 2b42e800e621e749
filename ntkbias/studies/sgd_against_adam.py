"""The tail index of gradient noise, which decides how stochastic gradient descent and Adam leave a minimum.

>>> from ntkbias.studies import study_of
>>> study_of("sgd_against_adam").claims[0].quantity
'stable'
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stable samples with known indices; and a network on digits, whose gradient noise is measured."""

    indices: tuple[float, ...] = (1.2, 1.5, 1.8, 2.0)
    num_samples: int = 100_000
    width: int = 64
    batch_sizes: tuple[int, ...] = (1, 64)
    num_draws: int = 300


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=2, num_outputs=10)


def run(settings: Settings, key: Any) -> Findings:
    """Estimates on samples with a known index, and on minibatch gradients at random weights."""
    seed = int(jax.random.randint(key, (), 0, 2**30))
    found = [
        nb.complexity.stable_tail_index(
            scipy.stats.levy_stable.rvs(alpha, 0, size=settings.num_samples, random_state=seed + place), block=10
        ).value
        for place, alpha in enumerate(settings.indices)
    ]
    data: Any = nb.datasets.digits(500)
    x, y = data
    net = network(settings)
    params = net.init(key, x.shape[1:])
    options: dict[str, Any] = {"num_draws": settings.num_draws, "key": key, "loss": "cross_entropy"}
    noise = [
        nb.complexity.stable_tail_index(
            nb.complexity.gradient_noise(net.apply, params, jnp.asarray(x), y, batch_size=size, **options), block=10
        ).value
        for size in settings.batch_sizes
    ]
    return {
        "known": np.array(settings.indices),
        "found": np.array(found),
        "stable": float(np.abs(np.array(found) - settings.indices).max()),
        "single": noise[0],
        "batch": noise[-1] - noise[0],
    }


def draw(found: Findings, ax: Axes) -> None:
    """Estimated against known indices."""
    ax.plot(found["known"], found["found"], "o")
    ax.axline((1.5, 1.5), slope=1, color="0.5", lw=1)
    ax.set_xlabel("index of the samples")
    ax.set_ylabel("estimate")


STUDY = Study(
    name="sgd_against_adam",
    papers=(
        Paper(
            "Zhou et al.",
            2020,
            "Towards Theoretically Understanding Why SGD Generalizes Better Than ADAM in Deep Learning",
            "2010.05627",
        ),
    ),
    idea="If gradient noise has a heavy tail, rare large steps take stochastic gradient descent out of narrow minima. "
    "Adam divides each coordinate by its own scale, which makes the tail lighter, so it stays longer. The tail index "
    "of the noise is therefore the quantity to measure. This study tests the measure; it trains nothing.",
    scales={
        "smoke": Settings(num_samples=40_000, num_draws=60),
        "small": Settings(),
        "paper": Settings(num_samples=1_000_000, num_draws=2_000, width=512),
    },
    run=run,
    claims=(
        Claim(
            "The estimator recovers the indices 1.2, 1.5, 1.8 and 2 of stable noise.",
            "stable",
            Bound(high=0.08),
            "largest difference; one standard error is 0.01 to 0.03",
        ),
        Claim("The noise of single gradients has an index below 2.", "single", Bound(high=2.0)),
        Claim(
            "Averages over a batch are closer to Gaussian.",
            "batch",
            Bound(low=0.0),
            "index of the larger batch minus that of the smaller one",
        ),
    ),
    figures={"indices": Figure("The estimator on samples with a known index.", draw)},
    num_seeds=3,
)

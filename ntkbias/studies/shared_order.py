"""Networks learn the same examples first.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("shared_order").claims][:2]
['agreement', 'seeds']
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
import scipy.stats
from jaxtyping import Float
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study
from ntkbias.tracking import Probe

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Digits, the networks of each kind, their training, and the number of looks at them."""

    num_examples: int = 400
    num_networks: int = 6
    width: int = 128
    depth: int = 2
    channels: int = 8
    learning_rate: float = 1e-3
    num_steps: int = 300
    num_random_steps: int = 600
    batch_size: int = 50
    num_looks: int = 40


def networks(settings: Settings) -> tuple[nb.layers.Layer, nb.layers.Layer]:
    """The two architectures. Change them here."""
    options: dict[str, Any] = {"depth": settings.depth, "num_outputs": 10, "parameterization": "standard"}
    return nb.nets.mlp(width=settings.width, **options), nb.nets.cnn(width=settings.channels, **options)


def learned(net: Any, settings: Settings, x: Any, y: Any, num_steps: int, key: Any) -> Float[np.ndarray, "m t n"]:
    """Whether each of m networks classifies each of n examples right, at t steps of training."""
    keys = jax.random.split(key, settings.num_networks)
    history = nb.track_many(
        net.apply,
        jax.vmap(lambda own: net.init(own, x.shape[1:]))(keys),
        (x, y),
        optimizer=optax.adam(settings.learning_rate),
        loss="cross_entropy",
        num_steps=num_steps,
        batch_size=settings.batch_size,
        at=nb.training.log_steps(num_steps, settings.num_looks),
        probe=Probe(x, y),
        measures={"right": lambda at: (at.outputs.argmax(1) == y).astype(float)},
        key=key,
    )
    return np.asarray(history["right"])


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """The rank correlation of two groups' orders: for each example, the share of time and networks that it is right."""
    return float(scipy.stats.spearmanr(first.mean((0, 1)), second.mean((0, 1))).statistic)


def run(settings: Settings, key: Any) -> Findings:
    """Train MLPs and CNNs on digits, and MLPs on random labels; compare orders, also with that of the kernel."""
    data: Any = nb.datasets.digits(settings.num_examples)
    x, y = data
    keys = jax.random.split(key, 4)
    mlp, cnn = networks(settings)
    shuffled = np.asarray(jax.random.permutation(keys[3], y))
    steps, half = settings.num_steps, settings.num_networks // 2
    mlps, cnns = (learned(net, settings, x, y, steps, own) for net, own in ((mlp, keys[0]), (cnn, keys[1])))
    random = learned(mlp, settings, x, shuffled, settings.num_random_steps, keys[2])
    found = [nb.complexity.agreement(mlps[:, time]) for time in range(mlps.shape[1])]
    accuracies = mlps.mean((0, 2))
    middle = (accuracies > 0.5) & (accuracies < 0.9)
    seeds = [correlation(each[:half], each[half:]) for each in (mlps, cnns)]
    kernel, targets = nb.infinite_ntk(mlp), nb.datasets.one_hot(y)
    times = float(nb.critical_learning_rate(kernel, x)) * np.geomspace(0.1, 1e4, 60)
    flow = np.asarray(nb.gradient_flow(kernel, x, targets - targets.mean(0), times).outputs)
    predicted = (flow.argmax(2) == y).astype(float)[None]
    return {
        "agreement": float(np.mean([each.beyond_chance for each, now in zip(found, middle, strict=True) if now])),
        "seeds": float(np.mean(seeds)),
        "architectures": correlation(mlps[:half], cnns[:half]),
        "difference": float(np.mean(seeds)) - correlation(mlps[:half], cnns[:half]),
        "random": correlation(random[:half], random[half:]),
        "random fit": float(random[:, -1].mean()),
        "kernel": correlation(mlps, predicted),
        "accuracies": accuracies,
        "observed": np.array([each.observed for each in found]),
        "independent": np.array([each.independent for each in found]),
        "orders": np.stack([mlps[:half].mean((0, 1)), mlps[half:].mean((0, 1))]),
    }


def draw(found: Findings, ax: Axes) -> None:
    """Agreement along training."""
    ax.plot(found["accuracies"], found["observed"], "o-", ms=3, label="two networks")
    ax.plot(found["accuracies"], found["independent"], ":", color="0.5", label="independent networks")
    ax.set_xlabel("mean training accuracy")
    ax.set_ylabel("share of examples on which two networks agree")
    ax.legend()


def draw_order(found: Findings, ax: Axes) -> None:
    """The order of one half of the networks against that of the other."""
    ax.plot(*found["orders"], "o", ms=3, alpha=0.5)
    ax.set_xlabel("share of training that an example is right, one half of the networks")
    ax.set_ylabel("the other half")


STUDY = Study(
    name="shared_order",
    papers=(
        Paper(
            "Hacohen, Choshen and Weinshall",
            2020,
            "Let's Agree to Agree: Neural Networks Share Classification Order on Real Datasets",
            "1905.10854",
        ),
    ),
    idea="Networks of one architecture, from different seeds, classify the same examples right at the same stage of "
    "training. Networks of different architectures share this order in part. It is a property of networks and natural "
    "data together: on random labels it disappears.",
    scales={
        "smoke": Settings(num_examples=100, num_networks=4, num_steps=60, num_random_steps=60, num_looks=10),
        "small": Settings(),
        "paper": Settings(
            num_examples=1_797, num_networks=100, width=256, channels=64, num_steps=5_000, num_random_steps=20_000
        ),
    },
    run=run,
    claims=(
        Claim(
            "Networks agree far more than independent ones of equal accuracy.",
            "agreement",
            Bound(low=0.5),
            "from accuracy 0.5 to 0.9; 0 for independent and 1 for equal networks; the paper gives no number",
        ),
        Claim(
            "The order of learning correlates between seeds.",
            "seeds",
            Bound(low=0.5),
            "rank correlation of two halves of the networks of one architecture; the paper gives no number",
        ),
        Claim("It also correlates between MLPs and CNNs,", "architectures", Bound(low=0.3), "rank correlation"),
        Claim("but less.", "difference", Bound(low=0.0), "rank correlation between seeds minus between architectures"),
        Claim(
            "On random labels it does not correlate between seeds.",
            "random",
            Bound.about(0, 0.15),
            "rank correlation; three standard errors of independent orders of 400 examples. All networks learn the "
            "same random labels",
        ),
        Claim(
            "The kernel of the infinitely wide network predicts part of the order.",
            "kernel",
            Bound(low=0.15),
            "rank correlation; beyond three standard errors of independent orders",
        ),
    ),
    figures={
        "agreement": Figure("Agreement along training, beside that of independent networks.", draw),
        "order": Figure("Each point is an example.", draw_order),
    },
    num_seeds=3,
)

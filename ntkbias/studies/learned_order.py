"""Functions that a user writes down are learned in the order that the kernel predicts.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("learned_order").claims]
['order', 'at start', 'random last']
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]

LEARNED = 0.5  # of a function's power, as for the learning time of `learnability`


@dataclasses.dataclass(frozen=True)
class Settings:
    """Digits, the network with one output per function, and its training by full-batch gradient descent."""

    num_inputs: int = 300
    width: int = 256
    depth: int = 2
    share_of_critical: float = 0.5
    num_steps: int = 20_000
    num_looks: int = 80


def network(settings: Settings, num_outputs: int) -> nb.layers.Layer:
    """The architecture. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=settings.depth, num_outputs=num_outputs)


def run(settings: Settings, key: Any) -> Findings:
    """Train one network on all named functions at once, and see when each is half learned."""
    keys = jax.random.split(key)
    digits: Any = nb.datasets.digits(settings.num_inputs)
    x = jnp.asarray(digits.x)
    named = nb.learning.named_targets(x, labels=digits.y, key=keys[0])
    named = {name: values for name, values in named.items() if name != "labels"}  # which are all classes together
    columns = np.stack([np.asarray(values, float).reshape(len(x), -1)[:, 0] for values in named.values()], 1)
    columns = (columns - columns.mean(0)) / columns.std(0)
    net: Any = network(settings, columns.shape[1])
    params = net.init(keys[1], x.shape[1:])
    limit = nb.infinite_ntk(net)
    rate = settings.share_of_critical * nb.critical_learning_rate(limit, x)
    start = net.apply(params, x)
    left = []
    looks = nb.training.log_steps(settings.num_steps, settings.num_looks)
    options: dict[str, Any] = {"optimizer": optax.sgd(rate), "num_steps": settings.num_steps, "at": looks}
    for _, now in nb.train(lambda p, x: net.apply(p, x) - start, params, (x, columns), **options):
        left.append(np.mean((np.asarray(net.apply(now, x) - start) - columns) ** 2, 0))
    steps, curves = np.maximum(np.array(looks, float), 0.5), np.array(left)
    measured = nb.scaling.crossing(steps, curves, 1 - LEARNED)
    measured = np.where(np.isnan(measured), np.inf, measured)
    predicted = {
        "order": nb.learnability(limit, x, dict(zip(named, columns.T, strict=True))),
        "at start": nb.learnability(nb.empirical_ntk(net.apply, params), x, dict(zip(named, columns.T, strict=True))),
    }
    times = {name: np.asarray(found.learning_time)[0] / rate for name, found in predicted.items()}
    rho = {name: float(scipy.stats.spearmanr(each, measured).statistic) for name, each in times.items()}
    return {
        **rho,
        "random last": float(measured[list(named).index("random-labels")] == measured.max()),
        "names": list(named),
        "predicted": times["order"],
        "measured": measured,
    }


def draw(found: Findings, ax: Axes) -> None:
    """The step at which half of each function is learned, against the predicted one."""
    kept = np.isfinite(found["measured"])
    ax.loglog(found["predicted"][kept], found["measured"][kept], "o")
    for name, x, y in zip(
        np.array(found["names"])[kept], *(found[k][kept] for k in ("predicted", "measured")), strict=True
    ):
        ax.annotate(name, (x, y), fontsize=6)
    ax.set_xlabel("predicted steps")
    ax.set_ylabel("steps until half is learned")


STUDY = Study(
    name="learned_order",
    papers=(Paper("Jacot, Gabriel and Hongler", 2018, "Neural Tangent Kernel", "1806.07572"),),
    idea="Write down functions of the inputs: brightness, left against right, each class, random labels. The kernel at "
    "initialization ranks them by learning time. A network that is trained on all of them at once learns them in this "
    "order.",
    scales={
        "smoke": Settings(num_inputs=100, width=64, num_steps=2_000, num_looks=40),
        "small": Settings(),
        "paper": Settings(num_inputs=1_000, width=1_024, num_steps=100_000),
    },
    run=run,
    claims=(
        Claim(
            "The order of learning is the one that the infinite network's kernel predicts.",
            "order",
            Bound(low=0.9),
            "rank correlation of predicted and measured times over functions; the bound is ours",
        ),
        Claim(
            "The network's own kernel at the start predicts it too.",
            "at start",
            Bound(low=0.9),
            "rank correlation; the bound is ours",
        ),
        Claim("Random labels come last.", "random last", Bound(low=1.0), "share of networks", "each"),
    ),
    figures={"times": Figure("Each point is a function of the digits.", draw)},
    num_seeds=3,
)

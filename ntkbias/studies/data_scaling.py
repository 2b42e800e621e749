"""Networks learn faster with the number of examples than their kernels do, because the kernels change.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("data_scaling").claims][:3]
['network over limit', 'limit over kernel after t', 'kernel after t over start']
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study
from ntkbias.tracking import measures

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The cube, the numbers of examples, the networks and their training."""

    dimension: int = 20
    sizes: tuple[int, ...] = (256, 512, 1024, 2048)
    num_before: int = 256  # t: the examples that one of the kernels has seen
    num_test: int = 1_000
    num_probe: int = 200
    width: int = 128
    num_networks: int = 5
    learning_rate: float = 2e-3
    num_steps: int = 1_000
    ridge: float = 1e-5  # relative to the mean diagonal


def network(width: int, parameterization: Any) -> nb.layers.Layer:
    """The architecture. Change it here."""
    dense, relu = partial(nb.layers.Dense, parameterization=parameterization), nb.layers.Relu()
    return nb.layers.Sequential(dense(width, 2**0.5), relu, dense(width, 2**0.5), relu, dense(1))


def run(settings: Settings, key: Any) -> Findings:
    """Errors by number of examples, their exponents, and how the kernel of the largest training set moves."""
    keys = jax.random.split(key, 3)
    both = nb.tasks.staircase(max(settings.sizes) + settings.num_test, settings.dimension, key=keys[0])
    test, train = both.split(settings.num_test)
    x, y = train.data
    net: Any = network(settings.width, "standard")
    params = jax.vmap(lambda k: net.init(k, x.shape[1:]))(jax.random.split(keys[1], settings.num_networks))
    options: dict[str, Any] = {
        "optimizer": optax.adam(optax.cosine_decay_schedule(settings.learning_rate, settings.num_steps)),
        "num_steps": settings.num_steps,
    }
    scaling = nb.learning.data_scaling(
        net.apply,
        params,
        train.data,
        test.data,
        settings.sizes,
        num_before=settings.num_before,
        kernels={"infinite NTK": nb.infinite_ntk(network(settings.width, "ntk"))},
        ridges=(settings.ridge,),
        key=keys[2],
        **options,
    )
    slopes = {name: _exponents(scaling, name) for name in scaling.learners}
    steep, limit, start, before, after = slopes.values()
    ratios = scaling.of("network") / scaling.of("infinite NTK")
    first = jax.tree.map(lambda leaf: leaf[0], params)
    history = nb.track(
        net.apply,
        first,
        (x, y + net.apply(first, x)[:, 0]),
        at=np.linspace(0, settings.num_steps, 21).astype(int),
        probe=test.x[: settings.num_probe],
        measures=measures.chosen("kernel_drift"),
        **options,
    )
    drift = np.asarray(history["kernel_drift"])
    return {
        "network over limit": steep - limit,
        "limit over kernel after t": limit - before,
        "kernel after t over start": before - start,
        "network over start": steep - start,
        "kernel after n over t": after - before,
        "small": ratios[:, 0],
        "large": ratios[:, -1],
        "moving": float(nb.scaling.first_passage(history.steps, drift, 0.95 * drift[-1])) / settings.num_steps,
        "scaling": scaling,
    }


def _exponents(scaling: nb.learning.DataScaling, learner: str) -> np.ndarray:
    """The power with which each run's error falls, over the sizes at which the learner was measured."""
    errors = scaling.of(learner)
    known = np.isfinite(errors[0])
    sizes = np.asarray(scaling.sizes, float)[known]
    return np.array([-nb.scaling.power_law(sizes, row[known]).exponent for row in errors])


def draw(found: Findings, ax: Axes) -> None:
    """Test error against the number of examples, means over networks."""
    scaling = found["scaling"]
    for name in scaling.learners:
        ax.loglog(np.asarray(scaling.sizes), scaling.of(name).mean(0), "o-", label=name)
    ax.set_xlabel("examples")
    ax.set_ylabel("test error")
    ax.legend()


STUDY = Study(
    name="data_scaling",
    papers=(
        Paper(
            "Vyas, Bansal and Nakkiran",
            2022,
            "Limitations of the NTK for Understanding Generalization in Deep Learning",
            "2206.10012",
        ),
    ),
    idea="If a network were regression with its kernel, both would gain equally from more data. Here the network's "
    "error falls with a steeper power of the number of examples. Kernels of partly trained networks lie between, so "
    "the difference comes from how the kernel changes during training.",
    scales={
        "smoke": Settings(10, (32, 64), 16, num_test=200, num_probe=20, width=16, num_networks=2, num_steps=100),
        "small": Settings(),
        "paper": Settings(
            sizes=(256, 512, 1024, 2048, 4096, 8192),
            num_before=512,
            num_test=4_000,
            width=512,
            num_networks=5,
            num_steps=3_000,
        ),
    },
    run=run,
    claims=(
        Claim(
            "The error of the network falls with a steeper power than that of the infinite NTK,",
            "network over limit",
            Bound(low=0.0),
            "difference of the exponents; the paper's exponents are of other data",
        ),
        Claim(
            "which is steeper than that of a kernel after a few examples,",
            "limit over kernel after t",
            Bound(low=0.0),
            "difference of the exponents",
        ),
        Claim(
            "which is steeper than that of the kernel at the start.",
            "kernel after t over start",
            Bound(low=0.0),
            "difference of the exponents",
        ),
        Claim("The network is far steeper than its kernel at the start.", "network over start", Bound(low=0.4)),
        Claim(
            "A kernel that has seen all examples is steeper than one that has seen a few.",
            "kernel after n over t",
            Bound(low=0.0),
            "difference of the exponents",
        ),
        Claim(
            "With few examples the network is worse than the infinite NTK.",
            "small",
            Bound(low=1.0),
            "its error over that of the kernel, at the smallest size",
        ),
        Claim("With many it is better.", "large", Bound(high=1.0), "the same at the largest size"),
        Claim(
            "The kernel goes on moving through most of training.",
            "moving",
            Bound(low=0.5),
            "share of the steps until it is 95 % of its final distance from the start; the paper gives no number, and "
            "these data are fitted early",
        ),
    ),
    figures={"errors": Figure("Test error by number of examples. Straight lines are power laws.", draw)},
    cost="three hours on two cores",
)

"""What linearized networks say about networks: which tasks are easy, but not how well they are learned.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("linearized_networks").claims]
['network order', 'linearized order', 'gap at 50', 'gap at 100', 'growth']
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from jaxtyping import Array
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The digits or MNIST, the eigenfunctions that become tasks, the network, and its training.

    The tasks must include 50 and 100. `folder` holds the files of MNIST; without it the inputs are the digits.
    """

    num_train: int = 1_500
    num_test: int = 297
    tasks: tuple[int, ...] = (1, 3, 10, 20, 50, 100)
    width: int = 100
    depth: int = 2
    learning_rate: float = 0.05
    momentum: float = 0.9
    batch_size: int = 128
    num_epochs: int = 100
    folder: str | None = None


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture. Change it here."""
    return nb.nets.mlp(settings.width, settings.depth, w_std=1.0, parameterization="standard")


def run(settings: Settings, key: Any) -> Findings:
    """Train the network and its linearizations on signs of eigenfunctions, and align its end kernel with the task."""
    count = settings.num_train + settings.num_test
    data: Any = nb.datasets.mnist(settings.folder, "train", count) if settings.folder else nb.datasets.digits(count)
    x = jnp.asarray(data.x)
    net: Any = network(settings)
    start = net.init(key, x.shape[1:])
    spectrum = nb.spectrum(nb.empirical_ntk(net.apply, start), x, num_modes=max(settings.tasks))
    models = {
        "network": net.apply,
        "linearized": nb.linearize(net.apply, start),
        "linearized from zero": nb.linearize(net.apply, start, centered=True),
    }
    num_steps = settings.num_epochs * (settings.num_train // settings.batch_size)
    rate = optax.linear_schedule(settings.learning_rate, 0.0, num_steps)
    options: dict[str, Any] = {
        "optimizer": optax.sgd(rate, settings.momentum),
        "num_steps": num_steps,
        "loss": "logistic",
        "batch_size": settings.batch_size,
        "key": key,
    }

    def accuracy(model: Any, params: Any, y: Array) -> float:
        """On the test inputs, after training from these parameters."""
        return nb.training.accuracy(model(params, x)[settings.num_train :], y[settings.num_train :])

    found: dict[str, list[float]] = {name: [] for name in (*models, "linearized at the end", "growth")}
    for task in settings.tasks:
        function = spectrum.eigenfunctions[:, task - 1]
        y = jnp.sign(function)
        train = x[: settings.num_train], y[: settings.num_train]
        ends = {name: nb.training.trained(model, start, train, **options) for name, model in models.items()}
        for name, model in models.items():
            found[name].append(accuracy(model, ends[name], y))
        again = nb.linearize(net.apply, ends["network"], centered=True)
        end = nb.training.trained(again, ends["network"], train, **options)
        found["linearized at the end"].append(accuracy(again, end, y))
        shares = [
            float(nb.rayleigh_quotient(nb.empirical_ntk(net.apply, params), x, function, relative=True))
            for params in (start, ends["network"])
        ]
        found["growth"].append(shares[1] / shares[0])
    values = {name: np.array(numbers) for name, numbers in found.items()}
    tasks = np.array(settings.tasks)
    gaps = values["linearized"] - values["network"]
    return values | {
        "tasks": tasks,
        "network order": float(scipy.stats.spearmanr(tasks, values["network"]).statistic),
        "linearized order": float(scipy.stats.spearmanr(tasks, values["linearized"]).statistic),
        "gap at 50": float(gaps[settings.tasks.index(50)]),
        "gap at 100": float(gaps[settings.tasks.index(100)]),
        "growth": float(np.median(values["growth"][tasks >= 10])),
        "growths": values["growth"],
    }


def draw(found: Findings, ax: Axes) -> None:
    """Test accuracy by the index of the eigenfunction that gives the labels."""
    for name in ("network", "linearized", "linearized from zero", "linearized at the end"):
        ax.semilogx(found["tasks"], found[name], "o-", label=name)
    ax.set_xlabel("index of the eigenfunction")
    ax.set_ylabel("test accuracy")
    ax.legend()


def draw_growth(found: Findings, ax: Axes) -> None:
    """How much the share of the end kernel along its task has grown."""
    ax.loglog(found["tasks"], found["growths"], "o-")
    ax.set_xlabel("index of the eigenfunction")
    ax.set_ylabel("alignment at the end over the start")


STUDY = Study(
    name="linearized_networks",
    papers=(
        Paper(
            "Ortiz-Jimenez, Moosavi-Dezfooli and Frossard",
            2021,
            "What Can Linearized Neural Networks Actually Say About Generalization?",
            "2106.06770",
        ),
    ),
    idea="The eigenfunctions of a network's initial kernel, turned into labels, are tasks of known difficulty. The "
    "linearized network and the network find the same tasks easy. But the linearized network is often better on the "
    "hard ones, so the kernel ranks tasks without telling how well the network learns them.",
    scales={
        "smoke": Settings(num_train=300, num_test=100, tasks=(1, 50, 100), width=50, num_epochs=20),
        "small": Settings(),
        "paper": Settings(tasks=(1, 2, 3, 5, 10, 20, 30, 50, 70, 100, 150, 200)),
    },
    run=run,
    claims=(
        Claim(
            "The accuracy of the network falls with the index of the eigenfunction.",
            "network order",
            Bound(high=-0.8),
            "rank correlation of index and accuracy, on 297 test inputs",
        ),
        Claim(
            "So does that of its linearization.",
            "linearized order",
            Bound(high=-0.8),
            "rank correlation of index and accuracy",
        ),
        Claim(
            "The linearized network beats the network on eigenfunction 50,",
            "gap at 50",
            Bound(low=0.08),
            "difference of the accuracies",
        ),
        Claim("and on eigenfunction 100.", "gap at 100", Bound(low=0.08), "difference of the accuracies"),
        Claim(
            "The kernel aligns with the task while the network trains.",
            "growth",
            Bound(low=3.0),
            "share of the kernel's trace along the eigenfunction, at the end over the start; median over tasks from 10",
        ),
    ),
    figures={
        "accuracy": Figure("Test accuracy on signs of eigenfunctions of the initial kernel.", draw),
        "growth": Figure("How much the kernel has turned toward each task.", draw_growth),
    },
    num_seeds=3,
)

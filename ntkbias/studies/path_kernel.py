"""The kernel averaged over the path of training, and what it says beside those at the start and at the end.

>>> from ntkbias.studies import study_of
>>> study_of("path_kernel").claims[0].quantity
'error'
"""

import dataclasses
from typing import Any

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
    """The points of the circle, the network and its training, and the steps between snapshots, coarse and fine."""

    num_train: int = 32
    frequencies: tuple[int, ...] = (1, 2, 4)
    width: int = 64
    depth: int = 2
    activation: str = "tanh"
    learning_rate: float = 0.0025
    num_steps: int = 12_800
    every: tuple[int, int] = (1_280, 640)
    num_modes: int = 9


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=settings.depth, activation=settings.activation, b_std=0.3)


def run(settings: Settings, key: Any) -> Findings:
    """Integrate the kernel along training; compare the integral, the spectra and the predictions with the network."""
    circle = nb.domains.Circle()
    x, _ = circle.quadrature(2 * settings.num_train)  # every second point is a training input
    y = jnp.sum(jnp.cos(circle.angle(x)[:, None] * np.array(settings.frequencies)), 1)
    net = network(settings)
    histories = [
        nb.track(
            net.apply,
            net.init(key, (2,)),
            (x[::2], y[::2]),
            optimizer=optax.sgd(settings.learning_rate),
            num_steps=settings.num_steps,
            at=range(0, settings.num_steps + 1, every),
            probe=nb.tracking.Probe(x, y, domain=circle),
            measures=measures.chosen("loss", "path_kernel", "path_error", "outputs", "kernel_drift"),
        )
        for every in settings.every
    ]
    history = histories[-1]
    errors = [float(each["path_error"][-1]) for each in histories]
    outputs, time = np.asarray(history["outputs"])[[0, -1], :, 0], float(history.times[-1])
    start, end = (nb.empirical_ntk(net.apply, params) for params in (net.init(key, (2,)), history.params))
    kernels = {
        "start": (start(x), nb.spectrum(start, x)),
        "path": (history["path_kernel"][-1], nb.tracking.path_spectrum(history)),
        "end": (end(x), nb.spectrum(end, x)),
    }
    found: dict[str, Any] = {
        "error": errors[-1],
        "order": np.log2(errors[0] / errors[1]) / np.log2(settings.every[0] / settings.every[1]),
        "drift": float(history["kernel_drift"][-1]),
        "angle": np.asarray(circle.angle(x)),
        "network": outputs[1],
    }
    for name, (K, spectrum) in kernels.items():
        ranking = nb.rank_by_frequency(spectrum, circle)
        found[f"{name} frequencies"] = np.asarray(ranking.frequencies)[: settings.num_modes]
        found[f"{name} eigenvalues"] = np.asarray(ranking.eigenvalues)[: settings.num_modes]
        found[f"{name} rank"] = ranking.spearman
        flow = nb.gradient_flow(
            K[::2, ::2], y[::2], [time], K_test=K[1::2, ::2], f0=outputs[0, ::2], f0_test=outputs[0, 1::2]
        )
        predicted = np.asarray(flow.test_outputs)[0]
        change = outputs[1, 1::2] - outputs[0, 1::2]
        squares = np.mean((predicted - outputs[1, 1::2]) ** 2) / np.mean(change**2)
        found[f"{name} prediction"] = float(np.sqrt(squares))
    found["beside start"] = found["path prediction"] / found["start prediction"]
    found["beside end"] = found["path prediction"] / found["end prediction"]
    return found


def draw(found: Findings, ax: Axes) -> None:
    """The spectra of the three kernels."""
    for name in ("start", "path", "end"):
        values = found[f"{name} eigenvalues"]
        ax.semilogy(range(1, len(values) + 1), values, "o-", label=f"kernel of the {name}")
    ax.set_xlabel("mode")
    ax.set_ylabel("eigenvalue")
    ax.legend()


STUDY = Study(
    name="path_kernel",
    papers=(
        Paper(
            "Domingos", 2020, "Every Model Learned by Gradient Descent Is Approximately a Kernel Machine", "2012.00152"
        ),
    ),
    idea="Under gradient flow the change of a network's outputs is exactly the integral of its kernel times the "
    "residual along training. The mean of the kernel over this path, the path kernel, therefore sums up how the bias "
    "changed. An open question is whether it predicts the trained network better than the kernels at the start and "
    "at the end.",
    scales={
        "smoke": Settings(num_train=16, width=32, num_steps=6_400),
        "small": Settings(),
        "paper": Settings(num_train=64, width=512, num_steps=51_200, every=(1_280, 640)),
    },
    run=run,
    claims=(
        Claim(
            "The integral over the path reproduces the change of the outputs.",
            "error",
            Bound(high=0.02),
            "error of the integral, relative to the change; the bound is ours",
        ),
        Claim(
            "Its error falls with the square of the distance of snapshots.",
            "order",
            Bound.about(2, 0.3),
            "exponent between two distances",
        ),
        Claim(
            "The path kernel, too, ranks low frequencies first.",
            "path rank",
            Bound(high=-0.8),
            "rank correlation of eigenvalue and frequency; the bound is ours",
        ),
        Claim(
            "It predicts the network between training points better than the kernel of the start,",
            "beside start",
            Bound(high=1.0),
            "ratio of the errors; an open question, which no paper answers",
        ),
        Claim(
            "and better than the kernel of the end.",
            "beside end",
            Bound(high=1.0),
            "ratio of the errors; an open question, which no paper answers",
        ),
    ),
    figures={"spectra": Figure("Eigenvalues of the kernels at the start, along the path and at the end.", draw)},
    num_seeds=5,
)

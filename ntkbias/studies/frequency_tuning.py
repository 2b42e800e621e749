"""A loss that weighs frequencies turns the preference for low frequencies around.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("frequency_tuning").claims]
['residual', 'order -1.0', 'order 0.0', 'order 2.5', 'flat', 'plain']
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.stats
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The Sobolev orders, the steps of each, and the degrees of the target and of the loss."""

    orders: tuple[float, ...] = (-1.0, 0.0, 1.0, 2.5)
    num_steps: tuple[int, ...] = (100, 30, 10, 30)
    num_degrees: int = 9
    max_degree: int = 20
    num_dense: int = 1_000


def two_layers(cosine: Any) -> Any:
    """The kernel of a ReLU layer with biases from zero and fixed outer weights."""
    cosine = jnp.clip(cosine, -1, 1)
    return (cosine + 1) * (jnp.pi - jnp.arccos(cosine)) / (4 * jnp.pi)


def run(settings: Settings, key: Any) -> Findings:
    """Gradient descent of the kernel under each loss, and the error at each degree on evenly spaced points."""
    circle, turn = nb.domains.Circle(), 2 * np.pi
    kernel = nb.kernels.DotProductKernel(two_layers)
    degrees = np.arange(1, settings.num_degrees + 1)
    arcs = [(0, turn, 101), (0, 0.15 * turn, 40), (0.7 * turn, 0.9 * turn, settings.num_dense)]
    x, y = nb.tasks.uneven_circle(arcs, degrees.tolist()).data
    grid = circle.grid(100)
    weights = nb.domains.quadrature_weights(circle, x, 2 * settings.max_degree)
    waves = np.exp(1j * np.outer(np.arange(1, 2 * settings.max_degree + 1), np.asarray(circle.angle(x), float)))
    losses = {
        f"order {order}": np.asarray(
            nb.losses.sobolev(circle, x, order, max_degree=settings.max_degree, weights=weights).matrix
        )
        for order in settings.orders
    }
    losses["plain"] = np.eye(len(x)) / len(x)
    found: dict[str, Any] = {
        "degrees": degrees,
        "residual": float(np.abs(waves @ np.asarray(weights, float)).max()),
    }
    for name, steps in zip(losses, (*settings.num_steps, 30), strict=True):
        rate = float(nb.critical_learning_rate(kernel, x, P=losses[name])) / 2
        end = nb.gradient_descent(kernel, x, y, [steps], rate, x_test=grid, P=losses[name])
        outputs = np.asarray(end.test_outputs)[0].ravel()
        error = np.abs(2 * np.fft.fft(outputs)[degrees] / 100 + 1j)
        found[name] = float(scipy.stats.spearmanr(degrees, error).statistic)
        found[f"{name} errors"] = error
    found["flat"] = float(np.ptp(found["order 1.0 errors"][2:]))
    return found


def draw(found: Findings, ax: Axes) -> None:
    """The error at each degree after training under each loss."""
    for name in found:
        if name.endswith(" errors"):
            ax.plot(found["degrees"], found[name], "o-", label=name.removesuffix(" errors"))
    ax.set_xlabel("degree")
    ax.set_ylabel("error that is left")
    ax.legend()


STUDY = Study(
    name="frequency_tuning",
    papers=(
        Paper(
            "Yu, Yang and Townsend",
            2022,
            "Tuning Frequency Bias in Neural Network Training with Nonuniform Data",
            "2205.14300",
        ),
    ),
    idea="On data that are not uniform, the mean squared error mixes frequencies, and the order in which they are "
    "learned is lost. Quadrature weights restore it. A Sobolev loss of order s multiplies the rate of degree l by "
    "(1 + l)^(2 s): it strengthens, flattens or reverses the preference for low frequencies.",
    scales={
        "smoke": Settings(num_dense=300),
        "small": Settings(),
        "paper": Settings(),
    },
    run=run,
    claims=(
        Claim(
            "Quadrature weights integrate all harmonics up to twice the loss's degree.",
            "residual",
            Bound(high=1e-6),
            "largest moment; float32 inputs, in float64 it is below 1e-11",
        ),
        Claim(
            "At order -1 low frequencies are learned first.",
            "order -1.0",
            Bound(low=0.95),
            "rank correlation of degree and error",
        ),
        Claim("So they are at order 0.", "order 0.0", Bound(low=0.95), "rank correlation of degree and error"),
        Claim(
            "From order 2.5 on high frequencies are learned first.",
            "order 2.5",
            Bound(high=-0.9),
            "rank correlation of degree and error",
        ),
        Claim(
            "At order 1 all are learned at nearly the same rate.",
            "flat",
            Bound(high=0.15),
            "range of errors from degree 3 on",
        ),
        Claim(
            "With equal weights the order is lost.", "plain", Bound(high=0.8), "rank correlation of degree and error"
        ),
    ),
    figures={"errors": Figure("A rising line learns low frequencies first, a falling one high frequencies.", draw)},
)

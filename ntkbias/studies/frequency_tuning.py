"""A loss that weighs frequencies turns the preference for low frequencies around.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("frequency_tuning").claims][:5]
['residual', 'order -1.0', 'order 0.0', 'growth', 'order 2.5']
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
from ntkbias.studies.two_layers import two_layers

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The Sobolev orders, the steps of each, and the degrees of the target and of the loss."""

    orders: tuple[float, ...] = (-1.0, 0.0, 1.0, 2.5)
    num_steps: tuple[int, ...] = (100, 30, 10, 30)
    num_degrees: int = 9
    max_degree: int = 20
    num_dense: int = 1_000
    width: int = 4_096


def network_of_kernel() -> nb.layers.Layer:
    """The architecture whose infinitely wide kernel is trained. Change it here."""
    return two_layers()


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture of finite width. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=1, b_std=1.0)


def nodes(settings: Settings, degrees: np.ndarray) -> tuple[Any, Any]:
    """Points that cover the circle and crowd in two arcs, and the sum of sines of these degrees there."""
    turn = 2 * np.pi
    arcs = [(0, turn, 101), (0, 0.15 * turn, 40), (0.7 * turn, 0.9 * turn, settings.num_dense)]
    return nb.tasks.uneven_circle(arcs, degrees.tolist()).data


def residual(settings: Settings) -> float:
    """The largest integral of a harmonic by the quadrature weights, in float64."""
    with jax.enable_x64(True):
        x, _ = nodes(settings, np.arange(1, 2))
        weights = nb.domains.quadrature_weights(nb.domains.Circle(), x, 2 * settings.max_degree)
        harmonics = np.asarray(nb.domains.Circle().harmonics(x, 2 * settings.max_degree))[:, 1:]
        return float(np.abs(np.asarray(weights) @ harmonics).max())


def run(settings: Settings, key: Any) -> Findings:
    """Gradient descent of the kernel under each loss, and the error at each degree on evenly spaced points."""
    circle = nb.domains.Circle()
    kernel = nb.infinite_ntk(network_of_kernel())
    degrees = np.arange(1, settings.num_degrees + 1)
    x, y = nodes(settings, degrees)
    grid = circle.grid(100)
    target = jnp.sin(circle.angle(grid)[:, None] * degrees).sum(1)
    even = jnp.full(len(grid), 1 / len(grid))
    weights = nb.domains.quadrature_weights(circle, x, 2 * settings.max_degree)
    sobolev = {
        f"order {order}": nb.losses.sobolev(circle, x, order, max_degree=settings.max_degree, weights=weights)
        for order in settings.orders
    }
    losses = {name: np.asarray(loss.matrix) for name, loss in sobolev.items()} | {"plain": np.eye(len(x)) / len(x)}
    num_steps = dict(zip(losses, (*settings.num_steps, 30), strict=True))
    found: dict[str, Any] = {"degrees": degrees, "residual": residual(settings)}

    def record(name: str, outputs: Any) -> None:
        left = (jnp.ravel(outputs) - target)[:, None]
        power = circle.energy(left, grid, even, settings.num_degrees)[0]  # of a wave of amplitude 1: a half
        error = np.sqrt(2 * np.asarray(power))[degrees]
        found[name] = float(scipy.stats.spearmanr(degrees, error).statistic)
        found[f"{name} errors"] = error

    for name, steps in num_steps.items():
        rate = float(nb.critical_learning_rate(kernel, x, P=losses[name])) / 2
        end = nb.gradient_descent(kernel, x, y, [steps], rate, x_test=grid, P=losses[name])
        record(name, np.asarray(end.test_outputs)[0])
    net = network(settings)
    start = net.init(key, (2,))

    def centered(params: Any, x: Any) -> Any:
        return (net.apply(params, x) - net.apply(start, x))[:, 0]

    for name in ("order -1.0", "order 2.5"):
        rate = float(nb.critical_learning_rate(nb.infinite_ntk(net), x, P=losses[name])) / 2
        options: dict[str, Any] = {"optimizer": optax.sgd(rate), "num_steps": num_steps[name]}
        end = nb.training.trained(centered, start, (x, y), loss=sobolev[name], **options)
        record(f"network, {name}", centered(end, grid))
    found["flat"] = float(np.ptp(found["order 1.0 errors"][2:]))
    higher = np.arange(3.0, settings.num_degrees + 2)
    waves = jnp.sin(circle.angle(x)[:, None] * higher)
    P = losses["order 0.0"]
    rate = float(nb.critical_learning_rate(kernel, x, P=P)) / 2
    needed = nb.learning.steps_to_learn(kernel, x, waves, 1e-3, rate, P=P)
    found["growth"] = float(nb.scaling.power_law(higher, needed).exponent)
    return found


def draw(found: Findings, ax: Axes) -> None:
    """The error at each degree after training under each loss."""
    for name in found:
        if name.endswith(" errors"):
            line = "s--" if name.startswith("network") else "o-"
            ax.plot(found["degrees"], found[name], line, label=name.removesuffix(" errors"))
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
        "smoke": Settings(num_dense=300, width=512),
        "small": Settings(),
        "paper": Settings(),
    },
    run=run,
    claims=(
        Claim(
            "Quadrature weights integrate all harmonics up to twice the loss's degree.",
            "residual",
            Bound(high=1e-11),
            "largest moment, in float64",
        ),
        Claim(
            "At order -1 low frequencies are learned first.",
            "order -1.0",
            Bound(low=0.95),
            "rank correlation of degree and error",
        ),
        Claim("So they are at order 0.", "order 0.0", Bound(low=0.95), "rank correlation of degree and error"),
        Claim(
            "Under the L2 loss, the steps until sin(l theta) is learned grow as l^2.",
            "growth",
            Bound.about(2.0, 0.1),
            "slope over l = 3 to 10, until an error of 1e-3",
        ),
        Claim(
            "From order 2.5 on high frequencies are learned first.",
            "order 2.5",
            Bound(high=-0.9),
            "rank correlation of degree and error",
        ),
        Claim(
            "A wide network that is trained at order -1 learns low frequencies first too.",
            "network, order -1.0",
            Bound(low=0.9),
            "rank correlation of degree and error",
        ),
        Claim(
            "At order 2.5 it learns high frequencies first.",
            "network, order 2.5",
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
    num_seeds=3,
)

"""A network with another activation has no preference for low frequencies.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("hat_activation").claims]
['growth', 'hat condition', 'exponent difference', 'speedup']
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.pytorch import pytorch_mlp
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study
from ntkbias.tracking import measures

__all__ = ["STUDY", "Settings"]

ACTIVATIONS = ("relu", "hat")
LEARNED = 0.2  # of its amplitude is the error at most: the wave is learned


@dataclasses.dataclass(frozen=True)
class Settings:
    """The grids of the shallow networks, the degrees of the spectra, and the training of the deep networks."""

    grids: tuple[int, ...] = (16, 32, 64, 128)
    max_degree: int = 15
    waves: tuple[int, ...] = (1, 3, 5, 9, 15)
    num_points: int = 256
    width: int = 256
    depth: int = 3
    num_networks: int = 3
    learning_rate: float = 1e-3
    num_steps: tuple[int, int] = (3_000, 750)  # with ReLU and with the hat
    every: int = 10


def network(settings: Settings, activation: str) -> Any:
    """The deep architecture: its init(key) and f(params, z). Change it here."""
    return pytorch_mlp(1, *[settings.width] * settings.depth, 1, activation=activation)


def network_of_kernel(activation: str) -> nb.layers.Layer:
    """The architecture whose infinitely wide kernel has the exact spectrum. Change it here."""
    return nb.nets.mlp(depth=1, activation=activation, b_std=1.0)


def network_on_grid(activation: str, n: int) -> Any:
    """The shallow network sum_i a_i activation(n x - i) on [0, 1], as f(a, x) of its n outer weights a."""
    phi = nb.layers.activation(activation)
    shifts = np.arange(n) - (activation == "hat")

    def f(outer: Array, x: Array) -> Array:
        return phi.apply((), n * x - shifts) @ outer

    return f


def condition(activation: str, n: int) -> float:
    """The condition number of a shallow network on a grid of n units.

    The nonzero eigenvalues of its kernel are those of the matrix of inner products of these n functions. Simpson's rule
    on each interval of the grid integrates the products exactly. ReLU needs float64.
    """
    with jax.enable_x64(True):
        x = jnp.linspace(0, 1, 2 * n + 1)[:, None]
        simpson = np.full(2 * n + 1, 2.0)
        simpson[1::2], simpson[[0, -1]] = 4, 1
        kernel = nb.empirical_ntk(network_on_grid(activation, n), jnp.ones(n))
        eigenvalues = np.asarray(nb.spectrum(kernel, x, weights=simpson / simpson.sum()).eigenvalues)
    return float(eigenvalues[0] / eigenvalues[n - 1])


def run(settings: Settings, key: Any) -> Findings:
    """Condition numbers on grids, exact spectra on the circle, and the steps until a wave of the target is learned."""
    found: dict[str, Any] = {"grids": np.array(settings.grids)}
    circle, degrees = nb.domains.Circle(), np.arange(1, settings.max_degree + 1)
    x, _ = circle.quadrature(settings.num_points)
    y = jnp.sin(circle.angle(x)[:, None] * np.array(settings.waves)).sum(1)
    exponents, steps = {}, {}
    for name, num_steps in zip(ACTIVATIONS, settings.num_steps, strict=True):
        found[f"{name} conditions"] = np.array([condition(name, n) for n in settings.grids])
        limit = nb.infinite_ntk(network_of_kernel(name))
        exact = nb.exact_spectrum(limit, circle, settings.max_degree)
        exponents[name] = nb.scaling.power_law(degrees, np.asarray(exact.eigenvalues)[degrees]).exponent
        init, on_line = network(settings, name)

        def f(params: Any, x: Array, on_line: Any = on_line) -> Array:  # of the angle from -pi to pi
            return on_line(params, circle.angle(x)[:, None] - jnp.pi)

        history = nb.track_many(
            f,
            jax.vmap(init)(jax.random.split(key, settings.num_networks)),
            (x, y),
            optimizer=optax.adam(settings.learning_rate),
            num_steps=num_steps,
            at=range(0, num_steps + 1, settings.every),
            probe=nb.tracking.Probe(domain=circle),
            measures=measures.chosen("residual_spectrum"),
        )
        never = num_steps if name == "relu" else np.inf
        errors = np.sqrt(2 * np.asarray(history["residual_spectrum"])[:, :, max(settings.waves)])
        first = nb.scaling.first_passage(history.steps, errors.T, LEARNED, falling=True)
        steps[name] = np.where(np.isnan(first), never, first)
        found |= {f"{name} steps": np.asarray(history.steps), f"{name} errors": errors}
    return found | {
        "growth": found["relu conditions"][1:] / found["relu conditions"][:-1],
        "hat condition": found["hat conditions"],
        "exponent difference": exponents["hat"] - exponents["relu"],
        "speedup": steps["relu"] / steps["hat"],
    }


def draw(found: Findings, ax: Axes) -> None:
    """The error at the highest wave of the target while each network trains."""
    for place, name in enumerate(ACTIVATIONS):
        for row in found[f"{name} errors"]:
            ax.plot(found[f"{name} steps"] + 1, row, color=nb.plots.color(place), alpha=0.7)
        ax.plot([], [], color=nb.plots.color(place), label=name)
    ax.axhline(LEARNED, color="0.7", lw=1)
    ax.set_xscale("log")
    ax.set_xlabel("step + 1")
    ax.set_ylabel("error at the highest frequency")
    ax.legend()


def draw_conditions(found: Findings, ax: Axes) -> None:
    """The condition number of each shallow network by the size of its grid."""
    for place, name in enumerate(ACTIVATIONS):
        ax.loglog(found["grids"], found[f"{name} conditions"], "o-", color=nb.plots.color(place), label=name)
    ax.set_xlabel("units on a grid of [0, 1]")
    ax.set_ylabel("condition number of the kernel")
    ax.legend()


STUDY = Study(
    name="hat_activation",
    papers=(Paper("Hong et al.", 2022, "On the Activation Function Dependence of the Spectral Bias", "2208.04924"),),
    idea="A shallow ReLU network whose units sit on a grid is a finite-element basis, but a badly conditioned one: its "
    "eigenvalues fall as the fourth power of the frequency. The hat function spans the same functions, and its matrix "
    "is well conditioned. A network with the hat as its activation therefore learns high frequencies almost as soon as "
    "low ones.",
    scales={
        "smoke": Settings((16, 32), 5, (1, 3), num_points=32, width=32, num_networks=2, num_steps=(200, 200), every=20),
        "small": Settings(),
        "paper": Settings(grids=(16, 32, 64, 128, 256), max_degree=31, num_networks=8, num_steps=(20_000, 4_000)),
    },
    run=run,
    claims=(
        Claim(
            "The condition number of a shallow ReLU network grows sixteenfold if its grid doubles.",
            "growth",
            Bound.about(16, 1.6),
            "at every doubling; within 10 %, since the power is that of large grids",
            "each",
        ),
        Claim("With the hat it stays below 4.", "hat condition", Bound(high=4.0), "", "each"),
        Claim(
            "The spectrum of the infinite network on the circle falls slower with the hat.",
            "exponent difference",
            Bound(low=0.0),
            "the hat's exponent against frequency minus that of ReLU; the paper gives no number",
        ),
        Claim(
            "A deep network with the hat learns the highest frequency at least six times sooner.",
            "speedup",
            Bound(low=6.0),
            "steps with ReLU over steps with the hat, until the error falls below a fifth; a ReLU network that never "
            "gets there counts with the length of its training",
            "each",
        ),
    ),
    figures={
        "training": Figure("Each line is a network; the gray line is a fifth of the amplitude.", draw),
        "conditions": Figure(
            "Condition number by the number of units. ReLU's grows as its fourth power.", draw_conditions
        ),
    },
)

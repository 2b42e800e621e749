"""On the circle every number is known: the eigenvalues, and how the density of the inputs changes them.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("circle_densities").claims]
['formula', 'ratio', 'power', 'limit']
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study
from ntkbias.studies.two_layers import two_layers

__all__ = ["STUDY", "Settings"]

TURN = 2 * np.pi


@dataclasses.dataclass(frozen=True)
class Settings:
    """The degrees of the exact eigenvalues; the inputs, the modes and the densities of the numerical ones."""

    max_degree: int = 60
    num_inputs: int = 1_600
    modes: tuple[int, int] = (40, 80)
    steep: float = 0.8  # the smooth density is (1 + steep cos) / (2 pi)
    dense: float = 0.9  # share of the inputs in the first half of the circle, for the other density
    num_stretches: int = 8


def network() -> nb.layers.Layer:
    """The architecture. Change it here; `formula` is about this one."""
    return two_layers()


def formula(max_degree: int) -> np.ndarray:
    """The eigenvalues of its kernel under d theta, by degree, as the paper gives them."""
    k = np.arange(2, max_degree + 1)
    others = np.where(k % 2 == 0, (k**2 + 1) / (np.pi * (k**2 - 1.0) ** 2), 1 / (np.pi * k**2))
    return np.concatenate([[1 / np.pi + np.pi / 4, 1 / np.pi + np.pi / 8], others])


def run(settings: Settings, key: Any) -> Findings:
    """Exact eigenvalues beside their formula; eigenvalues and local frequencies under two uneven densities."""
    circle, kernel = nb.domains.Circle(), nb.infinite_ntk(network())
    exact = nb.exact_spectrum(kernel, circle, settings.max_degree)
    expected = formula(settings.max_degree)
    angles = TURN * (np.arange(settings.num_inputs) + 0.5) / settings.num_inputs
    densities = {
        "halves": np.where(angles < np.pi, settings.dense, 1 - settings.dense) / np.pi,
        "smooth": (1 + settings.steep * np.cos(angles)) / TURN,
    }
    edges = {"halves": np.array([0, np.pi, TURN]), "smooth": np.linspace(0, TURN, settings.num_stretches + 1)}
    found: dict[str, Any] = {"angles": angles, "expected": expected, "eigenvalues": TURN * exact.eigenvalues}
    first, last = settings.modes
    for name, density in densities.items():
        with jax.enable_x64(True):
            x, weights = circle.point(jnp.asarray(angles)), density / density.sum()
            spectrum = nb.spectrum(kernel, x, weights=weights, num_modes=last)
            eigenvalues, functions = (np.asarray(part) for part in (spectrum.eigenvalues, spectrum.eigenfunctions))
        local = nb.frequency.local_frequency(functions[:, first:last], angles, edges[name]).mean(1)
        stretch = np.digitize(angles, edges[name]) - 1
        roots = np.array([np.sqrt(density[stretch == place]).mean() for place in range(len(local))])
        index = np.arange(first, last)
        limit = (TURN * np.sqrt(density).mean()) ** 2 / np.pi**3
        found |= {
            f"{name} mode": functions[:, first],
            f"{name} local": local,
            f"{name} roots": roots,
            f"{name} limit": float(np.mean(eigenvalues[index - 1] * index**2) / limit - 1),
        }
    return found | {
        "formula": float(np.abs(found["eigenvalues"] / expected - 1).max()),
        "ratio": float(np.divide(*found["halves local"]) / np.divide(*found["halves roots"])),
        "power": nb.scaling.power_law(found["smooth roots"] ** 2, found["smooth local"]).exponent,
        "limit": max(abs(found["smooth limit"]), abs(found["halves limit"])),
    }


def draw(found: Findings, ax: Axes) -> None:
    """One eigenfunction under each density."""
    for name in ("halves", "smooth"):
        ax.plot(found["angles"], found[f"{name} mode"], lw=1, label=f"{name} density")
    ax.set_xlabel("angle")
    ax.set_ylabel("eigenfunction")
    ax.legend()


def draw_local(found: Findings, ax: Axes) -> None:
    """The local frequency on each stretch against the root of the density there."""
    for name in ("halves", "smooth"):
        ax.plot(found[f"{name} roots"], found[f"{name} local"], "o", label=f"{name} density")
    ax.set_xlabel("root of the density")
    ax.set_ylabel("local frequency, mean over modes")
    ax.legend()


STUDY = Study(
    name="circle_densities",
    papers=(
        Paper("Basri et al.", 2020, "Frequency Bias in Neural Networks for Input of Non-Uniform Density", "2003.04560"),
        Paper(
            "Basri et al.",
            2019,
            "The Convergence Rate of Neural Networks for Learned Functions of Different Frequencies",
            "1906.00425",
        ),
    ),
    idea="For inputs spread evenly on the circle, eigenfunctions of a ReLU kernel are sines and cosines, and their "
    "eigenvalues fall as the frequency squared. If the inputs are uneven, eigenfunctions turn faster where there are "
    "more of them: their local frequency follows the root of the density. So a network learns a given frequency sooner "
    "where data are plentiful.",
    scales={
        "smoke": Settings(max_degree=20, num_inputs=400, modes=(20, 40)),
        "small": Settings(),
        "paper": Settings(max_degree=200, num_inputs=4_000, modes=(80, 160)),
    },
    run=run,
    claims=(
        Claim(
            "The eigenvalues are those of the paper's formula.",
            "formula",
            Bound(high=1e-8),
            "largest relative difference, over all degrees",
        ),
        Claim(
            "Where the density is nine times higher, eigenfunctions turn three times as fast.",
            "ratio",
            Bound.about(1, 0.1),
            "ratio of the local frequencies over that of the roots of the density",
        ),
        Claim(
            "Under a smooth density, the local frequency is a power 1/2 of the density.",
            "power",
            Bound.about(0.5, 0.05),
            "exponent over eight stretches of the circle",
        ),
        Claim(
            "The k-th eigenvalue times k^2 tends to (integral of the root of the density)^2 / pi^3.",
            "limit",
            Bound(high=0.03),
            "largest relative distance from the limit, for modes 40 to 80",
        ),
    ),
    figures={
        "modes": Figure("An eigenfunction under each density. It turns faster where inputs are dense.", draw),
        "local": Figure(
            "Local frequency against the root of the density: a straight line through the origin.", draw_local
        ),
    },
)

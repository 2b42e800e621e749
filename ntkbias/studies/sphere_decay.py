"""How fast eigenvalues fall on spheres: the same for all depths of ReLU networks, but not for other activations.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("sphere_decay").claims][:2]
['ntk', 'nngp']
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Spheres S^{d-1}, depths of the networks, and the degrees between which slopes are measured."""

    dimensions: tuple[int, ...] = (2, 3, 4, 5, 8)
    depths: tuple[int, ...] = (2, 3, 5)
    first: int = 20
    last: int = 80


def laplace(cosine: Array) -> Array:
    """The Laplace kernel exp(-|x - x'|) on the unit sphere."""
    return jnp.exp(-jnp.sqrt(2 - 2 * cosine))


def networks(settings: Settings) -> list[nb.layers.Layer]:
    """The architectures: one per depth. Change them here."""
    return [nb.nets.mlp(depth=depth) for depth in settings.depths]


def network_of_steps() -> nb.layers.Layer:
    """Three layers, the first two of which have step functions."""
    return nb.nets.mlp(depth=2, activation="step")


def kernels(settings: Settings) -> dict[str, tuple[list[nb.Kernel], Any]]:
    """The kernels of each claim, and the exponent that the paper gives as a function of d."""
    nets = networks(settings)
    return {
        "ntk": ([nb.infinite_ntk(net) for net in nets], lambda d: -d),
        "nngp": ([nb.infinite_nngp(net) for net in nets], lambda d: -d - 2),
        "laplace": ([nb.kernels.DotProductKernel(laplace)], lambda d: -d),
        "steps": ([nb.infinite_nngp(network_of_steps())], lambda d: -(d - 1 + 2.0**-1)),
    }


def run(settings: Settings, key: Any) -> Findings:
    """Exact spectra, their slopes for even and odd degrees, and the largest distance of a slope from the paper's."""
    found: dict[str, Any] = {}
    gaps = []
    for name, (group, exponent) in kernels(settings).items():
        worst = 0.0
        for dimension in settings.dimensions:
            sphere = nb.domains.Sphere(dimension)
            for kernel in group:
                exact = nb.exact_spectrum(kernel, sphere, settings.last)
                measured, predicted = exact.decay(settings.first, settings.last), nb.predicted_decay(kernel, sphere)
                slopes = np.array([measured.even, measured.odd])
                worst = max(worst, float(np.abs(slopes - exponent(dimension)).max()))
                if name != "steps":
                    gaps.append(float(np.abs(slopes - [predicted.even, predicted.odd]).max()))
                found[f"{name} on S^{dimension - 1}"] = exact
        found[name] = worst
    return found | {"predicted": max(gaps)}


def draw(found: Findings, ax: Axes) -> None:
    """Eigenvalue against frequency on the sphere in three dimensions (or the first one), for each kind of kernel."""
    shown: dict[str, Any] = {}
    for name, value in found.items():
        if " on S" in name:
            shown.setdefault(name.partition(" ")[0], (name, value))
    for name, exact in shown.values():
        known = np.asarray(exact.above_error) & (np.asarray(exact.frequencies) > 0)
        ax.loglog(np.asarray(exact.frequencies)[known], np.asarray(exact.eigenvalues)[known], "o-", ms=3, label=name)
    ax.set_xlabel("frequency (radians per unit of length)")
    ax.set_ylabel("eigenvalue")
    ax.legend()


STUDY = Study(
    name="sphere_decay",
    papers=(
        Paper("Bietti and Bach", 2021, "Deep Equals Shallow for ReLU Networks in Kernel Regimes", "2009.14397"),
        Paper("Bietti and Mairal", 2019, "On the Inductive Bias of Neural Tangent Kernels", "1905.12173"),
    ),
    idea="Eigenvalues of a kernel on a sphere fall as a power of the frequency, and the power says how strongly the "
    "kernel prefers low frequencies. The kernel's behavior for nearly equal and nearly opposite inputs decides the "
    "power. A deep ReLU network therefore has the power of a shallow one, so depth alone does not enlarge the class "
    "of functions that it learns.",
    scales={
        "smoke": Settings(dimensions=(3,), depths=(2,)),
        "small": Settings(),
        "paper": Settings(depths=(2, 3, 4, 5, 6, 7, 8)),
    },
    run=run,
    claims=(
        Claim(
            "The NTK's eigenvalues fall as frequency^-d, at any depth.",
            "ntk",
            Bound(high=0.03),
            "largest distance of a slope from -d; degrees 20 to 80 fix it to 0.03",
        ),
        Claim(
            "The NNGP's fall as frequency^-(d + 2), at any depth.",
            "nngp",
            Bound(high=0.03),
            "largest distance of a slope from -(d + 2)",
        ),
        Claim(
            "Those of the Laplace kernel fall as the NTK's.",
            "laplace",
            Bound(high=0.03),
            "largest distance of a slope from -d",
        ),
        Claim(
            "Those of networks with step functions fall slower, as frequency^-(d - 1 + 2^(2 - L)) for L layers.",
            "steps",
            Bound(high=0.12),
            "largest distance of a slope; the limit is reached slowly, and at d = 8 degrees up to 80 give -7.39",
        ),
        Claim(
            "The kernel's expansion at equal and opposite inputs predicts the slopes.",
            "predicted",
            Bound(high=0.03),
            "largest distance of a measured slope from `predicted_decay`",
        ),
    ),
    figures={"decay": Figure("Exact eigenvalues by frequency. Straight lines are power laws.", draw)},
)

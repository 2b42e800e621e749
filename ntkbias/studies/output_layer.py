"""Training the output layer alone gives the kernel of random features, which prefers low frequencies more strongly.

>>> from ntkbias.studies import study_of
>>> study_of("output_layer").claims[0].quantity
'difference'
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The sphere S^{d-1}, the network, its inputs, and the degrees between which slopes are measured."""

    dimension: int = 3
    width: int = 512
    depth: int = 2
    num_inputs: int = 64
    first: int = 20
    last: int = 80


def network(settings: Settings) -> Any:
    """The architecture. Change it here."""
    return nb.nets.mlp(width=settings.width, depth=settings.depth)


def run(settings: Settings, key: Any) -> Findings:
    """The tangent kernel of the last layer beside the Gram matrix of its features, and the slopes of both limits."""
    d, keys = settings.dimension, jax.random.split(key)
    sphere = nb.domains.Sphere(d)
    net = network(settings)
    features = nb.layers.Sequential(net.layers[:-1])
    x, params = sphere.sample(settings.num_inputs, key=keys[0]), net.init(keys[1], (d,))
    last = nb.empirical_ntk(net.apply, params, wrt=f"[{len(net.layers) - 1}]")(x)
    gram = nb.empirical_nngp(features.apply, params[:-1])(x)
    exact = {
        "output layer (NNGP)": nb.exact_spectrum(nb.infinite_nngp(net), sphere, settings.last),
        "all layers (NTK)": nb.exact_spectrum(nb.infinite_ntk(net), sphere, settings.last),
    }
    slopes = [spectrum.decay(settings.first, settings.last) for spectrum in exact.values()]
    return {
        "difference": nb.kernels.relative_distance(last, gram),
        "output layer": max(abs(end + d + 2) for end in (slopes[0].even, slopes[0].odd)),
        "all layers": max(abs(end + d) for end in (slopes[1].even, slopes[1].odd)),
        "exact": exact,
    }


def draw(found: Findings, ax: Axes) -> None:
    """Eigenvalue against frequency for both kernels."""
    for name, exact in found["exact"].items():
        known = np.asarray(exact.above_error) & (np.asarray(exact.frequencies) > 0)
        ax.loglog(np.asarray(exact.frequencies)[known], np.asarray(exact.eigenvalues)[known], "o-", ms=3, label=name)
    ax.set_xlabel("frequency (radians per unit of length)")
    ax.set_ylabel("eigenvalue")
    ax.legend()


STUDY = Study(
    name="output_layer",
    papers=(
        Paper("Lee et al.", 2018, "Deep Neural Networks as Gaussian Processes", "1711.00165"),
        Paper("Bietti and Bach", 2021, "Deep Equals Shallow for ReLU Networks in Kernel Regimes", "2009.14397"),
    ),
    idea="If only the output layer is trained, the network is linear regression on random features, and its tangent "
    "kernel is the NNGP. If all layers are trained, the kernel is the NTK. The NNGP's eigenvalues fall faster by two "
    "powers of the frequency, so training all layers learns high frequencies sooner.",
    scales={"smoke": Settings(width=64, num_inputs=16), "small": Settings(), "paper": Settings(width=8_192, depth=5)},
    run=run,
    claims=(
        Claim(
            "The last layer's tangent kernel is the Gram matrix of its features.",
            "difference",
            Bound(high=1e-5),
            "relative distance of both matrices, in float32",
        ),
        Claim(
            "With the output layer alone, eigenvalues fall as frequency^-(d + 2).",
            "output layer",
            Bound(high=0.03),
            "largest distance of a slope",
        ),
        Claim(
            "With all layers, they fall as frequency^-d.", "all layers", Bound(high=0.03), "largest distance of a slope"
        ),
    ),
    figures={"decay": Figure("Exact eigenvalues of both limits on the sphere.", draw)},
)

"""Which degrees of Boolean functions a network prefers, by depth.

>>> from ntkbias.studies import run_study
>>> run_study("hypercube", "smoke").holds
'yes'
"""

import dataclasses
from typing import Any

import numpy as np
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The cube {-1, 1}^d, the depths of the networks, and the degrees whose best depth is compared."""

    dimension: int = 32
    depths: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24)
    degrees: tuple[int, ...] = (2, 4, 6, 8)
    activation: str = "relu"
    b_std: float | None = None


def network(settings: Settings, depth: int) -> nb.layers.Layer:
    """The architecture of a depth. Change it here."""
    return nb.nets.mlp(depth=depth, activation=settings.activation, b_std=settings.b_std)


def run(settings: Settings, key: Any) -> Findings:
    """Exact spectra by depth, for the NTK and the NNGP, and the share of the trace at each degree."""
    cube = nb.domains.Hypercube(settings.dimension)
    shares, neighbors = {}, []
    for name, kind in (("NTK", nb.infinite_ntk), ("NNGP", nb.infinite_nngp)):
        rows = []
        for depth in settings.depths:
            exact = nb.exact_spectrum(kind(network(settings, depth)), cube, settings.dimension)
            rows.append(exact.shares)
            values, known = np.asarray(exact.eigenvalues), np.asarray(exact.above_error)
            lower = np.maximum(values, exact.errors)[:-2]  # of what is below its error, the error counts
            neighbors.append(np.max(values[2:][known[2:]] / lower[known[2:]]))
        shares[name] = np.array(rows)
    best = shares["NTK"].argmax(0)[list(settings.degrees)]
    ntk, nngp = shares["NTK"].max(0), shares["NNGP"].max(0)
    last = max(settings.degrees) + 1
    return {
        "shares": shares["NTK"],
        "depths": np.array(settings.depths),
        "neighbors": float(max(neighbors)),
        "growth": int(np.diff(best).min()),
        "constant": float(nngp[0] / ntk[0]),
        "others": float((nngp[2:last] / ntk[2:last]).max()),
    }


def draw(found: Findings, ax: Axes) -> None:
    """The share of the trace at each degree, against depth."""
    for degree in range(9):
        ax.plot(found["depths"], found["shares"][:, degree], "o-", ms=3, label=f"degree {degree}")
    ax.set_xscale("log")
    ax.set_xlabel("depth (hidden layers)")
    ax.set_ylabel("share of the trace")
    ax.legend(fontsize="small", ncols=3)


STUDY = Study(
    name="hypercube",
    papers=(Paper("Yang and Salman", 2019, "A Fine-Grained Spectral Perspective on Neural Networks", "1907.10599"),),
    idea="On the Boolean cube, a kernel's eigenfunctions are products of coordinates, and their degree is the "
    "frequency. Kernels of all depths prefer low degrees to high ones of the same parity. Each degree has a depth at "
    "which it takes the largest share of the kernel, and this depth grows with the degree.",
    scales={
        "smoke": Settings(dimension=16, depths=(1, 2, 4, 8, 16), degrees=(2, 6)),
        "small": Settings(),
        "paper": Settings(dimension=128, depths=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32)),
    },
    run=run,
    claims=(
        Claim(
            "Eigenvalues fall with the degree within each parity.",
            "neighbors",
            Bound(high=1.0),
            "largest ratio of an eigenvalue to that two degrees below, where it exceeds its numerical error",
        ),
        Claim(
            "The depth that prefers a degree grows with the degree.",
            "growth",
            Bound(low=1),
            "least step in the list of depths from one degree to the next",
        ),
        Claim(
            "At degree 0 the NNGP has the larger share.",
            "constant",
            Bound(low=1),
            "ratio of the largest shares over depths, NNGP to NTK",
        ),
        Claim(
            "At degrees from 2 on the NTK has the larger share.",
            "others",
            Bound(high=1),
            "largest ratio of the shares, NNGP to NTK; at degree 1 both are one half",
        ),
    ),
    figures={"shares": Figure("The share of the NTK's trace at each degree, by depth.", draw)},
)

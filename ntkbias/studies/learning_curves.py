"""What the kernel's eigenvalues predict about the error of regression with n examples.

>>> from ntkbias.studies import study_of
>>> len(study_of("learning_curves").claims)
3
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
    """The cube, the network, the numbers of examples, and the number of random draws of each."""

    dimension: int = 8
    depth: int = 4
    sizes: tuple[int, ...] = (32, 64, 128, 200)
    num_draws: int = 200
    activation: str = "relu"


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture. Change it here."""
    return nb.nets.mlp(depth=settings.depth, activation=settings.activation)


def monomials(x: Array) -> Array:
    """The products of the first one, two and three coordinates."""
    return jnp.stack([x[:, :degree].prod(1) for degree in (1, 2, 3)], 1)


def run(settings: Settings, key: Any) -> Findings:
    """Predicted and measured errors of monomials on the cube, and the sum of the learnabilities."""
    cube = nb.domains.Hypercube(settings.dimension)
    corners, _ = cube.quadrature(2**settings.dimension)
    kernel = nb.infinite_ntk(network(settings))
    y, sizes = monomials(corners), list(settings.sizes)
    predicted = nb.learning_curve(kernel, corners, y, sizes)
    measured = nb.measured_learning_curve(kernel, corners, y, sizes, num_draws=settings.num_draws, key=key)
    ratios = np.asarray(predicted.errors / measured.errors)
    chance = 2 * np.asarray(measured.standard_errors / measured.errors)
    sums = predicted.learnabilities @ predicted.multiplicities
    return {
        "excess": float((np.abs(ratios - 1) - chance).max()),
        "learned": float(np.abs(np.asarray(predicted.learned - measured.learned)).max()),
        "conserved": float(np.abs(np.asarray(sums) / np.array(sizes) - 1).max()),
        "predicted": predicted,
        "measured": measured,
    }


def draw(found: Findings, ax: Axes) -> None:
    """The predicted curves, and the errors of regressions on random draws."""
    nb.plots.learning_curve(found["predicted"], found["measured"], ax)


STUDY = Study(
    name="learning_curves",
    papers=(
        Paper(
            "Bordelon, Canatar and Pehlevan",
            2020,
            "Spectrum Dependent Learning Curves in Kernel Regression and Wide Neural Networks",
            "2002.02561",
        ),
        Paper(
            "Simon et al.",
            2021,
            "The Eigenlearning Framework: A Conservation Law Perspective on Kernel Regression and Wide Neural Networks",
            "2110.03922",
        ),
    ),
    idea="Kernel regression learns each eigenfunction to a share between zero and one, its learnability. The n "
    "examples are a budget: the learnabilities of all eigenfunctions sum to n, and functions of large eigenvalue take "
    "theirs first. So eigenvalues alone predict the error for every target and every number of examples.",
    scales={
        "smoke": Settings(dimension=6, sizes=(16, 32), num_draws=40),
        "small": Settings(),
        "paper": Settings(num_draws=1_000),
    },
    run=run,
    claims=(
        Claim(
            "Predicted errors agree with measured ones.",
            "excess",
            Bound(high=0.05),
            "largest relative difference, beyond two standard errors of the draws",
        ),
        Claim("Predicted learnabilities agree with measured ones.", "learned", Bound(high=0.02)),
        Claim("The learnabilities sum to n.", "conserved", Bound(high=1e-4), "in float32"),
    ),
    figures={"curves": Figure("Predicted (lines) and measured (points) test error by number of examples.", draw)},
    num_seeds=3,
)

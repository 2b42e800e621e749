"""The tree of a convolutional network decides which functions of its patches are easy.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("eigenspace_restructuring").claims][:3]
['mlp exponents', 'shallow exponents', 'deep exponents']
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
import scipy.stats
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]

TARGETS = {  # (patch, place in the patch): the degree in this leaf
    "one leaf, linear": {(0, 0): 1},
    "one leaf, quadratic": {(0, 0): 2},
    "one leaf, cubic": {(0, 0): 3},
    "two leaves in a patch": {(0, 0): 1, (0, 1): 1},
    "two leaves in two patches": {(0, 0): 1, (1, 0): 1},
    "three leaves in a patch": {(0, 0): 1, (0, 1): 1, (0, 2): 1},
}
ACROSS = [len(active) > 1 for active in TARGETS.values()]
SAME, DIFFERENT = 3, 4  # the two targets of two leaves


@dataclasses.dataclass(frozen=True)
class Settings:
    """The branchings p between which eigenvalues are compared, the regressions on inputs of p = 4, and the networks."""

    branchings: tuple[int, int] = (32, 64)
    num_draws: int = 4
    p: int = 4
    sizes: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024, 2048)
    num_test: int = 500
    num_trained: int = 1_024
    width: int = 32
    learning_rate: float = 3e-3
    num_steps: int = 400


def networks(p: int, width: int = 64, num_outputs: int = 1) -> dict[str, nb.layers.Layer]:
    """The architectures, for p patches of p leaves of p coordinates: their trees, and a sum of functions of leaves."""
    options: dict[str, Any] = {"num_outputs": num_outputs, "activation": "sin_plus_cos"}
    return {
        "mlp": nb.nets.mlp(width, 3, **options),
        "shallow": nb.nets.patch_network(width, (p * p,), **options),
        "deep": nb.nets.patch_network(width, (p, p), **options),
        "additive": nb.nets.patch_network(width, (p * p,), additive=True, **options),
    }


def inputs_and_targets(p: int) -> tuple[nb.domains.SphereProduct, list[dict[int, int]]]:
    """p patches of p leaves of p coordinates, and the degrees of each target in its active leaves."""
    degrees = [{patch * p + place: degree for (patch, place), degree in active.items()} for active in TARGETS.values()]
    return nb.domains.SphereProduct.regular((p, p), p), degrees


def learning_indices(p: int, name: str) -> np.ndarray:
    """The learning index of each target: the tree of the network's own domain decides it."""
    _, degrees = inputs_and_targets(p)
    trees = {"mlp": (), "shallow": (p * p,), "deep": (p, p)}
    own = nb.domains.SphereProduct.regular(trees[name], p**3 if name == "mlp" else p)
    return np.array([own.learning_index([sum(row.values())] if name == "mlp" else row) for row in degrees])


def run(settings: Settings, key: Any) -> Findings:
    """Eigenvalues of growing trees, errors of regression by number of examples, and errors of trained networks."""
    found: dict[str, Any] = {"sizes": np.array(settings.sizes)}
    keys = jax.random.split(key, 5)
    growth = 3 * np.log(settings.branchings[1] / settings.branchings[0])  # of log d, d = p^3
    domain, degrees = inputs_and_targets(settings.p)
    x = domain.sample(max(settings.sizes) + settings.num_test, key=keys[0])
    y = np.stack([domain.harmonic(row, x, key=keys[1]) for row in degrees], 1)
    x_test, y_test = x[settings.num_trained :], y[settings.num_trained :]
    for name, net in networks(settings.p, settings.width, len(TARGETS)).items():
        curve = nb.measured_learning_curve(
            nb.infinite_ntk(net), x, y, settings.sizes, ridge=1e-8, num_draws=2, held_out=True, key=keys[2]
        )
        errors = found[f"{name} errors"] = np.asarray(curve.errors)
        if name == "additive":
            found["additive error"] = float(errors[:, ACROSS].min())
            continue
        indices = learning_indices(settings.p, name)
        examples = nb.scaling.crossing(settings.sizes, errors, 0.5)
        found[f"{name} examples"] = float(
            np.nanmax(np.abs(np.log(examples) / np.log(domain.total_dimension) - indices))
        )
        eigenvalues = []
        for p in settings.branchings:
            exact = nb.exact.spectrum_of_degrees(
                nb.infinite_ntk(networks(p)[name]), *inputs_and_targets(p), num_draws=settings.num_draws, key=keys[3]
            )
            eigenvalues.append(exact.eigenvalues)
        exponents = -np.log(eigenvalues[1] / eigenvalues[0]) / growth
        found[f"{name} exponents"] = float(np.abs(exponents - indices).max())
        found[f"{name} separation"] = float(exponents[DIFFERENT] - exponents[SAME])
        trained: Any = nb.training.trained(
            net.apply,
            net.init(keys[4], x.shape[1:]),
            (x[: settings.num_trained], y[: settings.num_trained]),
            optimizer=optax.adam(settings.learning_rate),
            num_steps=settings.num_steps,
        )
        own = np.mean((np.asarray(net.apply(trained, x_test)) - y_test) ** 2, 0)
        found[f"{name} network errors"] = own
        found[f"{name} order"] = float(scipy.stats.somersd(indices.round(6), own).statistic)
    return found


def draw(found: Findings, ax: Axes) -> None:
    """The test error of each target by number of examples, for the two convolutional trees."""
    for place, target in enumerate(TARGETS):
        for name, style in (("deep", "o-"), ("shallow", "--")):
            label = target if name == "deep" else None
            ax.semilogx(
                found["sizes"], found[f"{name} errors"][:, place], style, color=nb.plots.color(place), label=label
            )
    ax.set_ylim(0, 1.5)
    ax.set_xlabel("examples")
    ax.set_ylabel("test error")
    ax.legend()


def _exponents(name: str, title: str, indices: str) -> Claim:
    return Claim(
        f"Eigenvalues of the {title} fall as d^-L, with L = {indices} for the six targets.",
        f"{name} exponents",
        Bound(high=0.06),
        "largest distance of an exponent from L",
    )


def _examples(name: str, title: str) -> Claim:
    return Claim(
        f"Regression with the kernel of the {title} learns a target from d^L examples on.",
        f"{name} examples",
        Bound(high=0.2),
        "largest distance from L of log_d of the examples at which the test error falls through 1/2, where it does",
    )


def _order(name: str, title: str) -> Claim:
    return Claim(
        f"A trained {title} of finite width has learned the targets in the order of L.",
        f"{name} order",
        Bound(low=0.8),
        "Somers' D of L and test error, over targets of different L; the paper gives no number",
    )


TITLES = {"mlp": "MLP", "shallow": "network with one convolution", "deep": "network with two convolutions"}

STUDY = Study(
    name="eigenspace_restructuring",
    papers=(
        Paper(
            "Xiao",
            2021,
            "Eigenspace Restructuring: A Principle of Space and Frequency in Neural Networks",
            "2112.05611",
        ),
    ),
    idea="On inputs made of patches, an eigenfunction has a degree in each patch. Its eigenvalue falls as d^-L: the "
    "learning index L adds up the degrees and the length of the tree that joins the patches. An architecture is such a "
    "tree, so it decides which functions are learned from few examples.",
    scales={
        "smoke": Settings((3, 4), 2, sizes=(16, 64, 256), num_test=100, num_trained=100, width=16, num_steps=30),
        "small": Settings(),
        "paper": Settings(
            num_draws=16,
            sizes=(16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
            num_test=3_000,
            num_trained=4_096,
            width=256,
            num_steps=2_000,
        ),
    },
    run=run,
    claims=(
        _exponents("mlp", TITLES["mlp"], "1, 2, 3, 2, 2, 3"),
        _exponents("shallow", TITLES["shallow"], "1, 4/3, 5/3, 2, 2, 3"),
        _exponents("deep", TITLES["deep"], "1, 4/3, 5/3, 5/3, 2, 7/3"),
        *(_examples(name, title) for name, title in TITLES.items()),
        Claim(
            "Two convolutions separate pairs of leaves in one patch from pairs in two patches,",
            "deep separation",
            Bound.about(1 / 3, 0.12),
            "difference of the exponents; each is known to 0.06",
        ),
        Claim("and the MLP does not.", "mlp separation", Bound.about(0, 0.12), "difference of the exponents"),
        Claim(
            "A sum of functions of one leaf each never learns a function of several.",
            "additive error",
            Bound(low=0.95),
            "smallest test error of those targets, whose variance is 1, at any number of examples",
        ),
        *(_order(name, title) for name, title in TITLES.items()),
    ),
    figures={
        "errors": Figure("Two convolutions (solid) against one (dashed). The axis is the number of examples.", draw)
    },
    num_seeds=3,
    cost="six hours and 10 GB on two cores",
)
